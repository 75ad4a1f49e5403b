"""Abbreviations, acronyms and units in words."""

import re
from collections.abc import Callable, Iterable

from jaxvoice.text.numbers import cardinal, roman

TITLES = {
    "Mr": "mister",
    "Mrs": "missus",
    "Ms": "miz",
    "Dr": "doctor",
    "Drs": "doctors",
    "Prof": "professor",
    "Rev": "reverend",
    "Hon": "honorable",
    "Gen": "general",
    "Maj": "major",
    "Col": "colonel",
    "Lt": "lieutenant",
    "Capt": "captain",
    "Sgt": "sergeant",
    "Gov": "governor",
    "Sen": "senator",
    "Rep": "representative",
    "Pres": "president",
    "St": "saint",
    "Ft": "fort",
    "Mt": "mount",
}
OTHERS = {
    "Jr": "junior",
    "Sr": "senior",
    "Esq": "esquire",
    "Co": "company",
    "Ltd": "limited",
    "Inc": "incorporated",
    "Corp": "corporation",
    "Bros": "brothers",
    "Dept": "department",
    "Ave": "avenue",
    "Blvd": "boulevard",
    "Rd": "road",
    "etc": "et cetera",
    "vs": "versus",
    "dept": "department",
    "inc": "incorporated",
    "approx": "approximately",
    "viz": "namely",
    "ibid": "ibidem",
}
MONTHS = {
    "Jan": "january",
    "Feb": "february",
    "Mar": "march",
    "Apr": "april",
    "May": "may",
    "Jun": "june",
    "Jul": "july",
    "Aug": "august",
    "Sep": "september",
    "Sept": "september",
    "Oct": "october",
    "Nov": "november",
    "Dec": "december",
}
ALWAYS_SPELLED = frozenset({"US", "UK", "EU", "PM", "ID", "TV", "PC", "OK", "AI", "IQ", "PR", "HR"})
"""Acronyms that are spelled out although the dictionary has a word of the same letters for some of them."""

LONGEST_SPELLED = 5  # letters of an acronym; a longer one that has a vowel is read as a word

STREET = re.compile(r"\b([A-Z][a-z]+|\d+(?:st|nd|rd|th)) (St|Dr)\b\.?(?= *$| *[,;:!?)]| [a-z])")
NUMBERED_WORDS = {"no": "number", "nos": "numbers", "vol": "volume", "vols": "volumes", "ch": "chapter"}
NUMBERED_WORDS |= {"fig": "figure", "figs": "figures", "pp": "pages", "p": "page"}
NUMBERED = re.compile(
    rf"(?<!\b[Ss]ay )(?<!\bsaid )(?<!\bsays )\b((?i:{'|'.join(NUMBERED_WORDS)}))\."
    r"(?: ?(?=\d)| ((?:[VX]|[IVXLC]{2,}|I(?= *(?:$|[,;:!?)]|\. *$|of\b)))\b(?!'[A-Za-z]|\.[A-Z])))"
)
DOTTED = re.compile(r"(?<![A-Za-z.])((?:[A-Za-z]\.){1,8}[A-Za-z])(\.?)(?![A-Za-z])")
INITIAL = re.compile(r"\b([A-HJ-Z])\.(?= [A-Z][a-z.])")
TITLE = re.compile(rf"\b({'|'.join(sorted(TITLES, key=len, reverse=True))})\.(?! *$)")
BARE_TITLE = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof)\b(?=\.? +[A-Z])")
OTHER = re.compile(rf"\b({'|'.join(sorted(OTHERS, key=len, reverse=True))})\.( *$)?")
MONTH = re.compile(rf"\b({'|'.join(sorted(MONTHS, key=len, reverse=True))})\.?(?= \d)")
CAPITALS = re.compile(r"(?<![A-Za-z'])([A-Z]{2,})('?s)?(?![A-Za-z])")

UNITS = {
    "km": "kilometer",
    "cm": "centimeter",
    "mm": "millimeter",
    "m": "meter",
    "mi": "mile",
    "ft": "foot",
    "yd": "yard",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "mph": "mile per hour",
    "kph": "kilometer per hour",
    "km/h": "kilometer per hour",
    "m/s": "meter per second",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "ms": "millisecond",
    "sec": "second",
    "min": "minute",
    "hr": "hour",
    "hrs": "hour",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "V": "volt",
    "dB": "decibel",
    "ml": "milliliter",
    "L": "liter",
    "°C": "degree celsius",
    "°F": "degree fahrenheit",
    "°": "degree",
}
UNCOUNTED = {"hertz": "hertz", "foot": "feet"}


def unit_words(unit: str, one: bool) -> str:
    """The unit in words, in the plural unless `one`: `km/h` as `kilometers per hour`."""
    words = UNITS[unit]
    if one:
        return words
    first, space, rest = words.partition(" ")
    if first.endswith("hertz"):
        return words
    return UNCOUNTED.get(first, f"{first}s") + space + rest


def spelled(letters: Iterable[str]) -> str:
    """Letters to be named one by one: `fbi` as `F B I`."""
    return " ".join(letter.upper() for letter in letters)


def expand_numbered(text: str) -> str:
    """`No.`, `Vol.`, `Ch.`, `Fig.` and `p.` of folded `text` in words before a figure or a Roman numeral, with it."""
    return NUMBERED.sub(_numbered, text)


def expand_before_numbers(text: str) -> str:
    """The abbreviations of folded `text` that are recognised by the number beside them: `Nov. 22`, `5th St.`."""
    text = STREET.sub(lambda match: f"{match[1]} {'street' if match[2] == 'St' else 'drive'}", text)
    return MONTH.sub(lambda match: MONTHS[match[1]].capitalize(), text)


def expand_abbreviations(text: str, is_word: Callable[[str], bool], *, shouted: bool) -> str:
    """Titles, other abbreviations and acronyms of folded `text` in words.

    `is_word` tells whether the dictionary holds a word: `NASA` is said as one, `FBI` is not. Where a text is `shouted`,
    all in capitals, a word in capitals is no acronym.
    """
    text = TITLE.sub(lambda match: TITLES[match[1]], text)
    text = BARE_TITLE.sub(lambda match: TITLES[match[1]], text)
    text = OTHER.sub(_other, text)
    text = DOTTED.sub(_dotted, text.replace("Ph.D", "P.H.D"))
    text = INITIAL.sub(r"\1", text)

    def acronym(match: re.Match[str]) -> str:
        word, ending = match[1], match[2] or ""
        lower = word.lower()
        if re.search("[AEIOUY]", word) and (shouted or len(word) > LONGEST_SPELLED):
            return lower + ending
        if word not in ALWAYS_SPELLED and is_word(lower):
            return lower + ending
        return spelled(word) + ("'s" if ending else "")

    return CAPITALS.sub(acronym, text)


def _numbered(match: re.Match[str]) -> str:
    word, numeral = NUMBERED_WORDS[match[1].lower()], match[2]
    if not numeral:
        return f"{word} "
    # Small letters are an abbreviation before a number alone: "she said no. Victor left".
    value = roman(numeral) if match[1][0].isupper() or match[1] in ("p", "pp") else 0
    return f"{word} {cardinal(value)}" if value else match[0]


def _other(match: re.Match[str]) -> str:
    # The full stop of an abbreviation also ends the text.
    return OTHERS[match[1]] + ("" if match[2] is None else ".")


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub("[^A-Za-z]", "", match[1])
    ends = match[2] and match.end() == len(match.string.rstrip())
    return spelled(letters) + ("." if ends else "")
