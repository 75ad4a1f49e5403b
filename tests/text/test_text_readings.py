"""Readings of kinds of text that front ends often get wrong: ranges, arithmetic, addresses, telephone numbers."""

import re

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text import normalize, text_to_phonemes

READINGS = {
    # ranges of times and quantities
    "Meet from 5:30-6pm.": "meet from five thirty to six P M.",
    "9am-5pm": "nine A M to five P M",
    "10-11 a.m. and 3:00 pm - 6:20 pm": "ten to eleven A M and three P M to six twenty P M",
    "10%-20%": "ten percent to twenty percent",
    "$10k-$20k": "ten thousand to twenty thousand dollars",
    "$1.50-$2.25": "one dollar and fifty cents to two dollars and twenty-five cents",
    "5kg-10kg, 20°-30°": "five kilograms to ten kilograms, twenty degrees to thirty degrees",
    "the 1920s-40s": "the nineteen twenties to forties",
    "1st-3rd": "first to third",
    "10k-20k users, 5.5k": "ten thousand to twenty thousand users, five point five thousand",
    "1980-1985 kg": "one thousand nine hundred eighty to one thousand nine hundred eighty-five kilograms",
    "a 4-3-3 and b-1-5-c": "a four three three and b one five c",
    # arithmetic
    "7-3=4": "seven minus three equals four",
    "2*3=6": "two times three equals six",
    "3 * 4": "three times four",
    "5 != 7": "five is not equal to seven",
    "x-1 <= 5": "x minus one less than or equal to five",
    "6/2=3": "six divided by two equals three",
    "1/2 + 1/4 = 3/4": "one half plus one quarter equals three quarters",
    "x^2": "x squared",
    "2^10, 10^-3, x^n": "two to the tenth, ten to the minus three, x to the n",
    "-5/18": "minus five eighteenths",
    "25/4 and 2 7/3": "twenty-five quarters and two and seven thirds",
    "the 1/5th, 2/3rds": "the one fifth, two thirds",
    "y = 2x - 3": "y equals two x minus three",
    "120/80": "one hundred twenty over eighty",
    "9/11, 50/50": "nine eleven, fifty fifty",
    # currencies
    "HK$100": "H K one hundred dollars",
    "A$5": "A five dollars",
    "$5USD": "five dollars U S D",
    "US$3 million": "three million U S dollars",
    "100 EUR, CAD 20": "one hundred E U R, C A D twenty",
    "₩320 million, ₹5.50": "three hundred twenty million won, five rupees and fifty paise",
    "$15/mo, $90/yr": "fifteen dollars per month, ninety dollars per year",
    "$30.5 or $4.000": "thirty dollars and fifty cents or four dollars",
    # ampersands
    "AT&T": "A T and T",
    "Q&A with AT&T's boss": "Q and A with A T and T's boss",
    # streets, saints, places
    "St Paul's Cathedral": "saint paul's cathedral",
    "Baker St Station": "baker street station",
    "She lives at 12 Elm St. Her house is red.": "she lives at twelve elm street. her house is red.",
    "St. Patrick's St.": "saint patrick's street.",
    "On Elm St. The end.": "on elm street. the end.",
    "5th Ave": "fifth avenue",
    "609 W 3rd St, 1735 Oak Blvd": "six oh nine west third street, seventeen thirty-five oak boulevard",
    "On 12 May Dr. Smith came": "on the twelfth of may doctor smith came",
    "Apt. 4B, Ste. 200": "apartment four B, suite two hundred",
    "Beverly Hills, CA 90210": "beverly hills, C A nine zero two one zero",
    "Dallas, TX 75201-1234": "dallas, T X seven five two zero one, one two three four",
    "Portland, OR. He left.": "portland, O R. he left.",
    # abbreviations that end a sentence
    "He left at 5 p.m. The rain fell.": "he left at five P M. the rain fell.",
    "at 5 p.m. Monday, 6 p.m. EST": "at five P M monday, six P M E S T",
    "We live in the U.S. It is big.": "we live in the U S. it is big.",
    "the U.S. Army": "the U S army",
    "pens, etc. The end, e.g. The": "pens, et cetera. the end, E G the",
    "Smith Inc. said": "smith incorporated said",
    # units
    "20 secs": "twenty seconds",
    "5 yrs, 1 yr, 3 hrs": "five years, one year, three hours",
    "40 million kg": "forty million kilograms",
    "3 1/4 lbs, 1/2 lb": "three and a quarter pounds, one half pound",
    "8 m2, 5 km³, 3 in^2, 2 sq ft": "eight square meters, five cubic kilometers, three square inches, two square feet",
    "12 x 8 m": "twelve by eight meters",
    "3 GB/s, 9/kg, 100 Mbps": "three gigabytes per second, nine per kilogram, one hundred megabits per second",
    'a 27" screen, 32"': "a twenty-seven inch screen, thirty-two inches",
    'he is "12" now': 'he is " twelve " now',
    # capitals that are also words
    "AD 70": "A D seventy",
    "100 BC": "one hundred B C",
    "the UN said": "the U N said",
    "the IT department, IT was": "the I T department, it was",
    "GIVE IT TO US": "give it to us",
    # telephone numbers and codes
    "Call +44 20 7946 0958": "call plus four four, two zero, seven nine four six, zero nine five eight",
    "415.555.0132": "four one five, five five five, zero one three two",
    "+1 (212)-555-0132": "plus one, two one two, five five five, zero one three two",
    "212-555-0132-44": "two one two, five five five, zero one three two, four four",
    "020 7946 0958": "zero two zero, seven nine four six, zero nine five eight",
    "192.168.0.1": "one nine two dot one six eight dot zero dot one",
    "078-05-1120": "zero seven eight, zero five, one one two zero",
    "the code is 4071": "the code is four zero seven one",
    "a 401(k) plan, 401k": "a four oh one K plan, four oh one K",
    "London SW1A 1AA": "london S W one A one A A",
    # dates and times
    "Feb-17-2021, FEB. 17": "february seventeenth, twenty twenty-one, february seventeenth",
    "14 Sept. 2011, the 5th of Dec.": "the fourteenth of september, twenty eleven, the fifth of december",
    "2018/04/09 and 21.03.2019": "april ninth, twenty eighteen and the twenty-first of march, twenty nineteen",
    "2018-04-09T12:30:00Z": "april ninth, twenty eighteen, twelve thirty",
    "on 5/18": "on may eighteenth",
    "in Jan. The year, last Dec": "in january. the year, last december",
    "15:30h for 24h": "fifteen thirty for twenty-four hours",
    "in 3Q19": "in the third quarter of nineteen",
    "2.45 p.m., 17h30, 0800 hours": "two forty-five P M, seventeen thirty, oh eight hundred hours",
    "Mon. and Tues.": "monday and tuesday",
    "Mon-Fri, Sat, May 5": "monday to friday, saturday, may fifth",
    "He sat. The sun.": "he sat. the sun.",
    # markup and sharps
    "### Example Heading": "example heading",
    "# Title\ntext\n\n* one\n* two": "title; text; one; two",
    "**bold**, [a link](https://example.com/x)": "bold, a link",
    "<b>bold</b> &amp; a < b": "bold and a less than b",
    "C#": "C sharp",
    "D#7": "D sharp seven",
    "G#m and F# minor": "G sharp minor and F sharp minor",
    "#winning #42": "hash winning number forty-two",
    # web addresses
    "a-1.b@example.de": "A dash one dot B at example dot D E",
    "http://www.example.com/docs/a_b-6000": "example dot com slash docs slash A underscore B dash six thousand",
    "input/output and/or": "input slash output and or",
    # Roman numerals in lists
    "Chapters I, II and III": "chapters one, two and three",
    "Parts I-III": "parts one to three",
    "Henry VII and VIII": "henry the seventh and the eighth",
    "II. Methods (i) and (ii)": "two. methods (one) and (two)",
    "part I and I went": "part i and i went",
}


@pytest.mark.parametrize("text", READINGS)
def test_texts_are_read(text):
    assert normalize(text) == READINGS[text]


@pytest.mark.parametrize("text", ["AT&T", "C# and F#", "9am-5pm", "He left at 5 p.m. The rain fell."])
def test_normalisation_keeps_the_pronunciation(text):
    assert text_to_phonemes(normalize(text)) == text_to_phonemes(text)


@pytest.mark.parametrize(
    "text",
    ["He left at 5 p.m. The rain fell.", "We live in the U.S. It is big.", "12 Elm St. Her house", "pens etc. The end"],
)
def test_a_pause_follows_an_abbreviation_that_ends_a_sentence(text):
    assert text_to_phonemes(text).count("pau") > text_to_phonemes(text.replace(". ", " ", 1).replace(".", "")).count(
        "pau"
    )


AMOUNTS = (
    '5 1984 5,000 3.5 $5 $5.50 50% 5/8 1/2 5:30 10-20 #5 12" 555-1234 212-555-1234 192.168.0.1 2^3 7-3=4 2*3 £5 €5-10'
    " 5% 5¢ 2020-01-02 1/2/2020 2Q22 3x4 8m2 0800 .5"
)


@pytest.mark.parametrize("amount", AMOUNTS.split())
def test_words_of_numbers_are_not_joined_with_letters(amount):
    for before in ("zq", "ZQ", "zq-", "(zq"):
        for after in ("zq", "s", "-zq", "'s"):
            read = normalize(f"{before}{amount}{after}")
            assert not re.search(r"\d", read)
            letters = [word for word in re.findall("[a-z]+", read) if "zq" in word]
            assert set(letters) <= {"zq", "zqs"}, read


def test_symbols_are_read_in_compatibility_mode():
    assert text_to_phonemes("a & b + x²", mode="compat") == text_to_phonemes("a and b plus x squared", mode="compat")


@pytest.mark.parametrize("character", ["\ue000", "\ue001"])
def test_internal_marks_in_texts_are_errors(character):
    with pytest.raises(TextError, match=r"U\+E00"):
        normalize(f"a {character}")
