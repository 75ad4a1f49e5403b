"""Expand abbreviations and acronyms to words."""

import re
from collections.abc import Callable, Iterable

from jaxvoice.text.numbers import cardinal
from jaxvoice.text.roman_numerals import roman

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
ABBREVIATIONS = {
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
MONTH_NAMES = tuple(dict.fromkeys(MONTHS.values()))
MONTH_NAME = "|".join(MONTH_NAMES)
SHORT_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
DAYS = {
    "Mon": "monday",
    "Tue": "tuesday",
    "Tues": "tuesday",
    "Wed": "wednesday",
    "Weds": "wednesday",
    "Thu": "thursday",
    "Thur": "thursday",
    "Thurs": "thursday",
    "Fri": "friday",
    "Sat": "saturday",
    "Sun": "sunday",
}
_ALWAYS_SPELLED = "US UK EU UN PM ID TV PC OK AI IQ PR HR LA PA ER NE AR OS MIT LED COO POW RIP EST PST CST MST EDT PDT"
ALWAYS_SPELLED = frozenset(_ALWAYS_SPELLED.split())
"""Acronyms that are always spelled, although the dictionary contains some of them as words."""

MAX_SPELLED_LETTERS = 5  # a longer acronym that contains a vowel is read as a word

NUMBERED_WORDS = {"no": "number", "nos": "numbers", "vol": "volume", "vols": "volumes", "ch": "chapter"}
NUMBERED_WORDS |= {"fig": "figure", "figs": "figures", "pp": "pages", "p": "page"}
NUMBERED = re.compile(
    rf"(?<!\b[Ss]ay )(?<!\bsaid )(?<!\bsays )\b((?i:{'|'.join(NUMBERED_WORDS)}))\."
    r"(?: ?(?=\d)| ((?:[VX]|[IVXLC]{2,}|I(?= *(?:$|[,;:!?)]|\. *$|of\b)))\b(?!'[A-Za-z]|\.[A-Z])))"
)
DOTTED_LETTERS = re.compile(r"(?<![A-Za-z.])((?:[A-Za-z]\.){1,8}[A-Za-z])(\.?)(?![A-Za-z])")
INITIAL = re.compile(r"\b([A-HJ-Z])\.(?= [A-Z][a-z.])")
TITLE = re.compile(rf"\b({'|'.join(sorted(TITLES, key=len, reverse=True))})\.(?! *$)(?=([A-Za-z])?)")
TITLE_WITHOUT_STOP = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof)\b(?=\.? +[A-Z])")
ABBREVIATION = re.compile(rf"\b({'|'.join(sorted(ABBREVIATIONS, key=len, reverse=True))})\.( *$)?")
DAY_NAME = "Mon|Tues?|Weds?|Thu(?:rs?)?|Fri"
ANY_DAY = rf"{DAY_NAME}|Sat|Sun"
# "Sat." and "Sun." are days beside a day, a date or a time only.
DAYS_JOINED = re.compile(rf"\b({ANY_DAY})\b(\.?)( ?- ?|(?:,? (?:and|or|to) | / ?|/))(?=({ANY_DAY})\b)")
DAY = re.compile(
    rf"\b(?:({DAY_NAME})\.|({ANY_DAY})\b\.?(?=,? (?:{'|'.join(MONTHS)})\b|,? \d)"
    rf"|(?<=\bto )({ANY_DAY})\b\.?|(?<=\band )(Sat|Sun)\.)"
)
# Acronyms that are also common words are spelled in these places.
WORD_ACRONYM = re.compile(
    r"(?<=\b[Tt]he )(?:IT|WHO)\b|(?<=\b[Ii]n )IT\b(?=[.,;:!?]|$)"
    r"|\bIT(?= (?:department|support|staff|manager|team|teams|systems?|industry|services|specialist|company|consultant"
    r"|security|infrastructure|project|director)\b)|\bAM(?= radio\b)"
)
CAPITALS = re.compile(r"(?<![A-Za-z'])([A-Z]{2,})('?s)?(?![A-Za-z])")


def spell_letters(letters: Iterable[str]) -> str:
    """Letters separated by spaces, to be read one by one: `fbi` becomes `F B I`."""
    return " ".join(letter.upper() for letter in letters)


def expand_numbered(text: str) -> str:
    """Expand `No.`, `Vol.`, `Ch.`, `Fig.` and `p.` of folded `text` before digits or a Roman numeral.

    The Roman numeral is expanded too.
    """
    return NUMBERED.sub(_numbered, text)


def expand_days(text: str) -> str:
    """Expand the names of days of folded `text`: `Mon. and Tues.`, `Mon-Fri`, `Sat, May 5`."""
    text = DAYS_JOINED.sub(_joined_days, text)
    return DAY.sub(lambda match: DAYS[match[1] or match[2] or match[3] or match[4]], text)


def expand_abbreviations(text: str, is_word: Callable[[str], bool], *, all_capitals: bool) -> str:
    """Expand titles, other abbreviations and acronyms of folded `text`.

    `is_word` returns whether the dictionary contains a word. Acronyms in the dictionary (`NASA`) are read as words, and
    others (`FBI`) are spelled. With `all_capitals`, the whole text is in capitals, so capitals do not mark acronyms.
    """
    if not all_capitals:
        text = WORD_ACRONYM.sub(lambda match: " ".join(match[0]), text)
    text = TITLE.sub(lambda match: TITLES[match[1]] + (" " if match[2] else ""), text)
    text = TITLE_WITHOUT_STOP.sub(lambda match: TITLES[match[1]], text)
    text = ABBREVIATION.sub(_abbreviation, text)
    text = DOTTED_LETTERS.sub(_dotted, text.replace("Ph.D", "P.H.D"))
    text = INITIAL.sub(r"\1", text)

    def acronym(match: re.Match[str]) -> str:
        word, ending = match[1], match[2] or ""
        lower = word.lower()
        if re.search("[AEIOUY]", word) and (all_capitals or len(word) > MAX_SPELLED_LETTERS):
            return lower + ending
        if word not in ALWAYS_SPELLED and is_word(lower):
            return lower + ending
        return spell_letters(word) + ("'s" if ending else "")

    return CAPITALS.sub(acronym, text)


def _joined_days(match: re.Match[str]) -> str:
    # The second day stays written for the next match; its stop marks it as a day.
    return f"{DAYS[match[1]]}{' to ' if '-' in match[3] else match[3]}"


def _numbered(match: re.Match[str]) -> str:
    word, numeral = NUMBERED_WORDS[match[1].lower()], match[2]
    if not numeral:
        return f"{word} "
    # In lower case, these are abbreviations only before digits: "she said no. Victor left".
    value = roman(numeral) if match[1][0].isupper() or match[1] in ("p", "pp") else 0
    return f"{word} {cardinal(value)}" if value else match[0]


def _abbreviation(match: re.Match[str]) -> str:
    # The full stop of an abbreviation also ends the text.
    return ABBREVIATIONS[match[1]] + ("" if match[2] is None else ".")


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub("[^A-Za-z]", "", match[1])
    ends = match[2] and match.end() == len(match.string.rstrip())
    return spell_letters(letters) + ("." if ends else "")
