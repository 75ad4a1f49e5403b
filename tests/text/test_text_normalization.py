"""Normalisation against expected texts written by hand."""

# ruff: noqa: RUF001 - characters that look alike are part of what is tested.

import subprocess
import sys
import time

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text import normalize

CASES = {
    # numbers
    "0": "zero",
    "7": "seven",
    "13": "thirteen",
    "21": "twenty-one",
    "100": "one hundred",
    "345": "three hundred forty-five",
    "1,000": "one thousand",
    "12,345": "twelve thousand three hundred forty-five",
    "1,500 men": "one thousand five hundred men",
    "1500 men": "fifteen hundred men",
    "1000000": "one million",
    "1,000,000,000,000,000": "one quadrillion",
    "1000000000000001": "one quadrillion one",
    "2,000,000,000,000,000,000": "two quintillion",
    "007": "zero zero seven",
    "3.14": "three point one four",
    "0.05": "zero point zero five",
    ".5": "point five",
    "1,234.5": "one thousand two hundred thirty-four point five",
    "-5 degrees": "minus five degrees",
    "version 1.2.3": "version one point two point three",
    "#1": "number one",
    "pages 5-10": "pages five to ten",
    "a ratio of 2:1": "a ratio of two to one",
    # ordinals and fractions
    "1st": "first",
    "2nd 3rd": "second third",
    "12th": "twelfth",
    "the 20th": "the twentieth",
    "21st": "twenty-first",
    "the 1,000th": "the one thousandth",
    "103rd": "one hundred third",
    "1/2": "one half",
    "3/4": "three quarters",
    "2/3 of it": "two thirds of it",
    "5/8": "five eighths",
    "2 1/2": "two and a half",
    "1½ cups": "one and a half cups",
    "24/7": "twenty-four seven",
    # money
    "$1": "one dollar",
    "$5": "five dollars",
    "$5.50": "five dollars and fifty cents",
    "$1.01": "one dollar and one cent",
    "$0.99": "ninety-nine cents",
    "$20.00": "twenty dollars",
    "$1,234": "one thousand two hundred thirty-four dollars",
    "$3.5 million": "three point five million dollars",
    "$2bn": "two billion dollars",
    "£3.20": "three pounds and twenty pence",
    "£1.01": "one pound and one penny",
    "€100": "one hundred euros",
    "50¢": "fifty cents",
    "$5-10": "five to ten dollars",
    "£5–£10": "five to ten pounds",
    "-$5": "minus five dollars",
    "a $20-billion plan": "a twenty billion dollar plan",
    "$20-billion in aid": "twenty billion dollars in aid",
    "$100 billion-dollar deal": "one hundred billion dollar deal",
    "a £3-million house": "a three million pound house",
    "a £2 million-pound house": "a two million pound house",
    "$3 million dollars": "three million dollars",
    "a $5-dollar bill": "a five dollar bill",
    "$5 pound for pound": "five dollars pound for pound",
    # years and dates
    "in 1984": "in nineteen eighty-four",
    "1905": "nineteen oh five",
    "1900": "nineteen hundred",
    "the 1900s": "the nineteen hundreds",
    "the 1980s": "the nineteen eighties",
    "the '80s": "the eighties",
    "the 1990's": "the nineteen nineties",
    "2000": "two thousand",
    "2005": "two thousand five",
    "2019": "twenty nineteen",
    "1066": "ten sixty-six",
    "1455": "fourteen fifty-five",
    "1914-18": "nineteen fourteen to eighteen",
    "1939–1945": "nineteen thirty-nine to nineteen forty-five",
    "May 5, 1990": "may fifth, nineteen ninety",
    "November 22nd, 1963": "november twenty-second, nineteen sixty-three",
    "Nov. 22": "november twenty-second",
    "5 May 1990": "the fifth of may, nineteen ninety",
    "the 22nd of November": "the twenty-second of november",
    "12/25/1999": "december twenty-fifth, nineteen ninety-nine",
    "1999-12-25": "december twenty-fifth, nineteen ninety-nine",
    # times
    "3:30": "three thirty",
    "3:05 p.m.": "three oh five P M.",
    "at 3:00": "at three o'clock",
    "at 10 a.m. sharp": "at ten A M sharp",
    "9:00 a.m.–5:00 p.m. daily": "nine A M to five P M daily",
    "3pm": "three P M",
    "15:00": "fifteen hundred",
    "12:30:15": "twelve thirty and fifteen seconds",
    # percent, units
    "50%": "fifty percent",
    "3.5 %": "three point five percent",
    "5 km": "five kilometers",
    "1 kg": "one kilogram",
    "60mph": "sixty miles per hour",
    "100 km/h": "one hundred kilometers per hour",
    "20 °C": "twenty degrees celsius",
    "44.1 kHz": "forty-four point one kilohertz",
    "6 ft": "six feet",
    "5'10\"": "five feet ten inches",
    "(212) 555-1234": "two one two, five five five, one two three four",
    "6' 2\" tall": "six feet two inches tall",
    "6′ 1″": "six feet one inch",
    "5 ft. tall": "five feet tall",
    "180 lbs. of": "one hundred eighty pounds of",
    "a 10 min. walk": "a ten minutes walk",
    "a 6-oz. can": "a six ounce can",
    "He is 5 ft. A man of 6 ft.": "he is five feet. a man of six feet.",
    "10 µg, 1 μm, a 5-µm filter": "ten micrograms, one micrometer, a five micrometer filter",
    "1-800-555-1234": "one, eight hundred, five five five, one two three four",
    "1-800-FLOWERS": "one eight hundred flowers",
    "pages 1-800": "pages one to eight hundred",
    # abbreviations, Roman numerals, acronyms
    "Mr. and Mrs. Smith": "mister and missus smith",
    "Dr. No": "doctor no",
    "Mr Smith": "mister smith",
    "St. Louis": "saint louis",
    "on Baker St. today": "on baker street today",
    "on 42nd St.": "on forty-second street.",
    "No. 5": "number five",
    "no. 3, vol. 3": "number three, volume three",
    "No. Carol left, no. Vic": "no. carol left, no. vic",
    "No. I think": "no. i think",
    "Vol. II, No. IV, Ch. I": "volume two, number four, chapter one",
    "I said no. 5 came": "i said no. five came",
    "Smith & Co. paid": "smith and company paid",
    "Capt. Kirk, Lt. Uhura": "captain kirk, lieutenant uhura",
    "pens, etc.": "pens, et cetera.",
    "i.e. this": "I E this",
    "J. Edgar Hoover": "J edgar hoover",
    "a Ph.D. student": "a P H D student",
    "J.R.R. Tolkien": "J R R tolkien",
    "the U.S. army": "the U S army",
    "the FBI and the KVQ": "the fbi and the K V Q",
    "NASA said": "nasa said",
    "the US and us": "the U S and us",
    "two MPs": "two M P's",
    "Henry VIII": "henry the eighth",
    "Nebuchadnezzar III": "nebuchadnezzar the third",
    "27th George II": "twenty-seventh george the second",
    "Part II and Part X": "part two and part ten",
    "The IIII": "the I I I I",
    "Malcolm X spoke": "malcolm X spoke",
    "Malcolm III and Leo X": "malcolm the third and leo the tenth",
    "King Zog II": "king zog the second",
    "Thurston Howell III": "thurston howell the third",
    "'Chapter IV' and 'No. IV'": "'chapter four' and 'number four'",
    "Apollo XI": "apollo eleven",
    "WWII": "world war two",
    "FROM WWI TO WW2": "from world war one to world war two",
    "the Class C and in part I agree": "the class C and in part i agree",
    "Charles I.": "charles the first.",
    "World War II": "world war two",
    "Chapter IV": "chapter four",
    "the UNESCO": "the unesco",
    "LOOK AT ME": "look at me",
    "Plan B": "plan B",
    "A man and I": "a man and i",
    "an A.": "an A.",
    "MP3": "M P three",
    # letters beside figures
    "v1.2.3": "v one point two point three",
    "2x3x4 1/2": "two x three x four and a half",
    "the x3rd, pre1980s": "the x third, pre nineteen eighties",
    "a resnet34V2, 100V": "a resnet thirty-four V two, one hundred volts",
    "1/2cup, 5%of": "one half cup, five percent of",
    # characters
    "“Don’t” — he said…": '"don\'t" - he said...',
    "5−3 is 2": "five minus three is two",
    "5–3": "five to three",
    "x − y": "x - y",
    "№ 5": "number five",
    "5 ± 2": "five plus or minus two",
    "√2 ≠ 2": "square root of two is not equal to two",
    "naïve café, Ångström": "naive cafe, angstrom",
    "Straße, Æsop, Łódź": "strasse, aesop, lodz",
    "ﬁne ｆｕｌｌ": "fine full",
    "R&B": "R and B",
    "me@example.com": "me at example dot com",
    "https://example.com": "example dot com",
    "  many\n  spaces\t": "many spaces",
    "one\n\ntwo": "one; two",
    "zero\u200bwidth soft\u00adhyphen": "zerowidth softhyphen",
    "say {HH AH0 L OW1} now": "say {HH AH0 L OW1} now",
}


@pytest.mark.parametrize("text", CASES)
def test_texts_are_normalised(text):
    assert normalize(text) == CASES[text]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("привет", "Cyrillic"),
        ("say 你好", "U+4F60"),
        ("γειά", "Greek"),
        ("a μ alone", "Greek"),
        ("שלום", "Hebrew"),
        ("fine 😀", "GRINNING FACE"),
        ("bell\x07", "U+0007"),
        ("a private \ue000", "U+E000"),
        ("an open {HH", "'{'"),
        ("a closed HH}", "'}'"),
        ("{a {b}}", "no counterpart"),
    ],
)
def test_error_for_characters_without_an_english_reading(text, named):
    with pytest.raises(TextError) as caught:
        normalize(text)
    assert named in str(caught.value)


def test_the_error_states_the_position_of_the_character():
    with pytest.raises(TextError, match="at character 6 of the text"):
        normalize("well я am")


def test_digits_of_unicode_are_read():
    assert normalize("x² and H₂O") == "x squared and H two O"


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1,",
        "1.",
        "1/",
        "1-",
        "1:",
        "$",
        "$1-",
        "1:11-",
        "A.",
        "I",
        "'",
        "a-",
        "9 ",
        "1 µm ",
        "WW",
        "No. ",
        "Ab X ",
        "1 ft. ",
        "part I ",
        "v1",
        "a@",
        "&a",
        "(i)",
        "1 - ",
        "1=",
        "1 St ",
        "<a",
        "[a",
        "II, ",
        "\n# a",
        "U.S. ",
        "+1 ",
        "1, ",
        "May 1 and ",
        "1€",
        "1 in ",
        "(OH)2",
    ],
)
def test_repetition_takes_linear_time(piece):
    """Linear time is half a second of processor time; a pattern with quadratic backtracking takes over five."""
    began = time.process_time()
    normalize(piece * 12_000)
    assert time.process_time() - began < 4


def test_text_imports_neither_jax_nor_numpy():
    code = "import sys, jaxvoice.text as t; t.normalize('x'); print({'jax', 'numpy', 'equinox'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
