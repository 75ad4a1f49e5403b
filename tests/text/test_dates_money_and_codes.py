"""Readings of years, ranges of dates, money, lengths, postal codes, entities and formulas, written by hand."""

# ruff: noqa: RUF001 - characters that look alike are part of what is tested.

import pytest

from jaxvoice.text import normalize, text_to_phonemes

YEARS = {
    "1999/2000": "nineteen ninety-nine to two thousand",
    "2019/2020 season": "twenty nineteen to twenty twenty season",
    "in 2019/20 and 2005/06": "in twenty nineteen to twenty and two thousand five to two thousand six",
    "1998/99 and 1999/00": "nineteen ninety-eight to ninety-nine and nineteen ninety-nine to two thousand",
    "the 98/99 season": "the ninety-eight to ninety-nine season",
    "the 1999/2000/2001 classes": "the nineteen ninety-nine two thousand two thousand one classes",
    "2001-05": "two thousand one to two thousand five",
    "05/2019, 2019/05, 2019-05": "may twenty nineteen, may twenty nineteen, may twenty nineteen",
    "5/2020, in 1/2007": "may twenty twenty, in january two thousand seven",
    "1/2000 and 3/4 of 1/8": "one two thousandth and three quarters of one eighth",
    "1/1000, 98/99": "one one thousandth, ninety-eight ninety-ninths",
}
DATES = {
    "January 5-7": "january fifth to seventh",
    "January 5–7, 2020.": "january fifth to seventh, twenty twenty.",
    "June 5 - 7 and July 9-11, 2021": "june fifth to seventh and july ninth to eleventh, twenty twenty-one",
    "May 1st-3rd": "may first to third",
    "5-7 March": "the fifth to the seventh of march",
    "the 5th-7th of Mar. 2020": "the fifth to the seventh of march, twenty twenty",
    "the night of 5/6 March 1943": "the night of the fifth to the sixth of march, nineteen forty-three",
    "from March 5 to 7": "from march fifth to seventh",
    "from 3 to 9 May": "from the third to the ninth of may",
    "Open January 5 and 6, 2021.": "open january fifth and sixth, twenty twenty-one.",
    "on March 3, 4 and 5, we": "on march third, fourth and fifth, we",
    "the 14th, 15th and 16th of June.": "the fourteenth, fifteenth and sixteenth of june.",
    "On January 5, 6 people died.": "on january fifth, six people died.",
    "5-7 may be enough": "five to seven may be enough",
    "Jan 5-Feb 10": "january fifth to february tenth",
    "from Jan 5 to 7 Feb": "from january fifth to the seventh of february",
    "Aug. 28-Sept. 3, 2019": "august twenty-eighth to september third, twenty nineteen",
    "Dec 30, 2019–Jan 2, 2020": "december thirtieth, twenty nineteen to january second, twenty twenty",
    "Fri, Nov 27-Mon, Nov 30": "friday, november twenty-seventh to monday, november thirtieth",
    "23 December – 6 January": "the twenty-third of december to the sixth of january",
    "1/5/2020-1/7/2020": "january fifth, twenty twenty to january seventh, twenty twenty",
    "2020-01-05 - 2020-01-07": "january fifth, twenty twenty to january seventh, twenty twenty",
    "Jan-Mar, Oct.-Dec. 2020": "january to march, october to december twenty twenty",
    "July/August": "july august",
    "jan-michael, a mar-may": "jan-michael, a mar-may",
    "closes on 10/11 June.": "closes on the tenth to the eleventh of june.",
}
AMOUNTS_OF_MONEY = {
    "5€": "five euros",
    "20$": "twenty dollars",
    "1 £": "one pound",
    "10$/month": "ten dollars per month",
    "45€/couple": "forty-five euros per couple",
    "$5/user/month": "five dollars per user per month",
    "5,50 €, €5,50": "five euros and fifty cents, five euros and fifty cents",
    "1.234,50 €": "one thousand two hundred thirty-four euros and fifty cents",
    "5€-10€, 5-10€": "five to ten euros, five to ten euros",
    "20k€, 5 million €, €5m": "twenty thousand euros, five million euros, five million euros",
    "10 US$, 80 HK$": "ten U S dollars, H K eighty dollars",
    "$-5": "minus five dollars",
    "-$5 and $−3.50": "minus five dollars and minus three dollars and fifty cents",
    "A$10, C$3, NZ$1.5bn": "A ten dollars, C three dollars, N Z one point five billion dollars",
    "C$3–C$5": "C three dollars to C five dollars",
    "US$5 million": "five million U S dollars",
    "Rs. 500, Rs.1,000, Re. 1": "five hundred rupees, one thousand rupees, one rupee",
    "Rs 500/- only": "five hundred rupees only",
    "₹5 lakh, Rs. 5 crore": "five lakh rupees, five crore rupees",
    "a $20 bill, 2 £5 notes": "a twenty dollar bill, two five pound notes",
    "the $ sign": "the dollar sign",
}
LENGTHS = {
    "5 ft 10 in": "five feet ten inches",
    "5 ft 10 in tall": "five feet ten inches tall",
    "He stands 5 ft 10 in his socks": "he stands five feet ten in his socks",
    "3 ft 6 in. long": "three feet six inches long",
    "3/4 in. pipe": "three quarters inch pipe",
    "10 in. long": "ten inches long",
    "It is 10 in. The other is 1 in. thick.": "it is ten inches. the other is one inch thick.",
    "5 in the morning": "five in the morning",
    "in 10 in all": "in ten in all",
    "ranked 3 in the world, 1 in 5": "ranked three in the world, one in five",
    "10 in. in May, 5 in of snow": "ten inches in may, five inches of snow",
    "15.6 in, 27-in. monitor": "fifteen point six inches, twenty-seven inch monitor",
    "a 4-in-1 printer": "a four in one printer",
    "3 in x 4 in, 8 in by 10 in.": "three inches by four inches, eight inches by ten inches.",
    '3 m x 4 m, 5" x 7"': "three meters by four meters, five inches by seven inches",
    "a 2 x 4 in. board": "a two by four inches board",
    "32 lb. per sq. in.": "thirty-two pounds per square inch.",
    "6'2\", 5'10, 5'11½\"": "six feet two inches, five feet ten, five feet eleven and a half inches",
    "5' tall, a 6' fence, 10' x 13'": "five feet tall, a six foot fence, ten feet by thirteen feet",
    "a 3' x 5' flag": "a three foot by five foot flag",
    "he said 'it is 5'.": "he said 'it is five '.",
    "40°26'46\"N": "forty degrees twenty-six minutes forty-six seconds north",
    "2 c. flour, 1 qt. milk": "two cups flour, one quart milk",
    "8 fl. oz. milk, 2 Tbsp oil": "eight fluid ounces milk, two tablespoons oil",
    "2-2 1/2 hrs, 1/2-3/4 cup": "two to two and a half hours, one half to three quarters cup",
    "150 hp, 5 ha, 500 kJ": "one hundred fifty horsepower, five hectares, five hundred kilojoules",
    "5 mg/kg/day": "five milligrams per kilogram per day",
}
CODES = {
    "M5V 3L9": "M five V three L nine",
    "Ottawa, ON K1A 0B1": "ottawa, O N K one A zero B one",
    "SW1A 1AA": "S W one A one A A",
    "Manchester M1 1AE, OX1 3DW": "manchester M one one A E, O X one three D W",
    "an M3 8GB laptop": "an M three eight gigabytes laptop",
    "12345-6789": "one two three four five, six seven eight nine",
    "Dallas TX 75201": "dallas T X seven five two zero one",
    "100000-200000": "one hundred thousand to two hundred thousand",
    "It&#x27;s &#39;fine&#39; &amp; good": "it's 'fine' and good",
    "&amp;#39;a&amp;#39; &frac12; &euro;5": "'a' one half five euros",
    "CO2, CO₂": "C O two, C O two",
    "H2SO4 and H2O": "H two S O four and H two O",
    "CaCO3, Fe2O3, C6H12O6": "C A C O three, F E two O three, C six H twelve O six",
    "NaCl, HCl and Ca2+": "N A C L, H C L and C A two plus",
    "Ca(OH)2 has a pH of 12": "C A O H two has a P H of twelve",
    "2H2O": "two H two O",
    "NO2 and No5": "N O two and no five",
    "COP26, PS5, HIV1, B12": "cop twenty-six, P S five, hiv one, B twelve",
    "O Canada, I think": "o canada, i think",
}
READINGS = YEARS | DATES | AMOUNTS_OF_MONEY | LENGTHS | CODES


@pytest.mark.parametrize("text", READINGS)
def test_texts_are_read(text):
    assert normalize(text) == READINGS[text]


@pytest.mark.parametrize("text", ["OX1 3DW", "CaCO3", "M5V 3L9", "January 5-7", "5,50 €", "5 ft 10 in"])
def test_normalisation_keeps_the_pronunciation(text):
    assert text_to_phonemes(normalize(text)) == text_to_phonemes(text)
