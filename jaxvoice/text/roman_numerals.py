"""Read Roman numerals, and expand them to words after names of rulers, wars, sequels and parts of books."""

import re
from itertools import pairwise

from jaxvoice.text.numbers import cardinal, ordinal

_RULERS = (
    "Henry Edward George William James Charles Richard Louis Philip Philippe Francis Frederick Napoleon Elizabeth Mary"
    " Catherine Peter Paul John Alexander Nicholas Ivan Pius Leo Gregory Benedict Clement Innocent Urban Boniface"
    " Ferdinand Joseph Leopold Maximilian Otto Rudolf Albert Alfonso Christian Gustav Victor Umberto Robert David"
    " Malcolm Edmund Harold Constantine Theodosius Ramses Ptolemy Julius Sixtus Felipe Juan Carlos"
)
_OTHER_RULERS = (
    "Adrian Amenhotep Anastasius Antiochus Artaxerxes Baldwin Basil Callixtus Carl Casimir Celestine Cyrus Darius Erik"
    " Eric Eugene Franz Frederik Friedrich Haakon Hadrian Harald Henri Honorius Isabella Josef Justinian Karl"
    " Ladislaus Ludwig Magnus Manuel Martin Mehmed Michael Mithridates Murad Nebuchadnezzar Olaf Pedro Rameses Romanos"
    " Sancho Seleucus Selim Seti Sigismund Stephen Suleiman Theodore Thutmose Wilhelm Willem Xerxes"
)
RULERS, OTHER_RULERS = frozenset(_RULERS.split()), frozenset(_OTHER_RULERS.split())
"""Names of rulers. After `OTHER_RULERS`, only numerals of two or more letters are expanded."""

_RULERS_WITH_A_TENTH = "Charles Louis Leo Pius John Gregory Benedict Clement Innocent Alfonso Christian Ramses"
RULERS_WITH_A_TENTH = frozenset(_RULERS_WITH_A_TENTH.split())
"""Rulers after whose name X means "the tenth". After other names, as in `Malcolm X`, it is a letter."""

_RANKS = "King Queen Pope Emperor Empress Tsar Czar Prince Sultan Pharaoh Kaiser Shah"
RANKS = frozenset(_RANKS.split())
PARTS = "Chapter Part Volume Vol Book Act Scene Section Article War Appendix Title Class Phase Type Mark Level Bowl"
NUMERAL_ONE = r"I(?= *(?:$|[,.;:!?)]|'s|of\b))"  # I as a numeral, not as the pronoun
WORLD_WAR = re.compile(r"\bWW(?: ?(I{1,3})\b|-?([123])(?![\d.,]*\d))")
AFTER_NAME = re.compile(rf"\b(?:([A-Z][a-z]+) )?\b([A-Z][a-z]+) ([IVX]{{2,}}\b|[VX]\b|{NUMERAL_ONE})")
AFTER_PART = re.compile(rf"\b((?i:{'|'.join(PARTS.split())})) ({NUMERAL_ONE}|[IVXLC]+\b(?!'[A-Za-z]))")

LIST_SIGN = r"(?:, (?:and |or )?| and | or | to | ?- ?| & )"
PART_LIST = re.compile(
    rf"\b((?i:{'|'.join(PARTS.split())})s?) ([IVXLC]+\b(?:{LIST_SIGN}(?!C\b|L\b)[IVXLC]+\b(?!'[A-Za-z]|\.[A-Z]))+)"
)
RULER_LIST = re.compile(rf"\b({'|'.join(_RULERS.split())}) ([IVX]+\b(?:{LIST_SIGN}[IVX]+\b(?!'[A-Za-z]))+)")
NUMERAL = re.compile(r"[IVXLC]+")
LIST_ITEM = re.compile(r"(?:^|(?<=[.:;,!?] ))([IVX]{2,8}|I(?=\..{1,400}\bII\.)|V(?=\.))\.(?= +[A-Z])")
ITEM_IN_BRACKETS = re.compile(r"\(([ivx]{2,8})\)")
ITEMS_IN_BRACKETS = re.compile(r"\(([ivx]{1,8})\)")  # "(i)" is a numeral beside "(ii)"

ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def expand_numerals(text: str) -> str:
    """Expand Roman numerals in `text`: `Henry VIII`, `Chapter IV`, `WWII`, `Apollo XI`."""
    text = PART_LIST.sub(_expand_part_list, text)
    text = RULER_LIST.sub(_expand_ruler_list, text)
    text = LIST_ITEM.sub(_expand_list_item, text)
    text = (ITEMS_IN_BRACKETS if "(ii)" in text else ITEM_IN_BRACKETS).sub(_expand_item_in_brackets, text)
    text = WORLD_WAR.sub(lambda match: f"world war {cardinal(roman(match[1]) if match[1] else int(match[2]))}", text)
    return AFTER_NAME.sub(_expand_after_name, AFTER_PART.sub(_expand_after_part, text))


def roman(numeral: str) -> int:
    """The value of a Roman numeral below 400 in capitals; 0 if `numeral` is not one."""
    total = 0
    values = [ROMAN.get(letter, 0) for letter in numeral] + [0]
    for value, after in pairwise(values):
        total += -value if value < after else value
    return total if total and to_roman(total) == numeral else 0


def to_roman(value: int) -> str:
    """The Roman numeral of a value between 1 and 399."""
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    shapes = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
    steps = [(hundreds, "CDM"), (tens, "XLC"), (ones, "IVX")]
    return "".join(shapes[n].translate(str.maketrans("ivx", letters)) for n, letters in steps)


def _expand_part_list(match: re.Match[str]) -> str:
    """`Chapters I, II and III` becomes `Chapters one, two and three`."""
    numerals = NUMERAL.findall(match[2])
    # "part I and I" has a pronoun.
    if not all(map(roman, numerals)) or numerals[-1] == "I":
        return match[0]
    listed = re.sub(" ?- ?", " to ", match[2])
    return f"{match[1]} {NUMERAL.sub(lambda numeral: cardinal(roman(numeral[0])), listed)}"


def _expand_ruler_list(match: re.Match[str]) -> str:
    """`Henry VII and VIII` becomes `Henry the seventh and the eighth`."""
    numerals = NUMERAL.findall(match[2])
    if not all(map(roman, numerals)) or "I" in numerals[1:]:
        return match[0]
    return f"{match[1]} {NUMERAL.sub(lambda numeral: f'the {ordinal(roman(numeral[0]))}', match[2])}"


def _expand_list_item(match: re.Match[str]) -> str:
    value = roman(match[1])
    return f"{cardinal(value)}." if value else match[0]


def _expand_item_in_brackets(match: re.Match[str]) -> str:
    value = roman(match[1].upper())
    return f"({cardinal(value)})" if value else match[0]


def _expand_after_part(match: re.Match[str]) -> str:
    part, numeral = match[1], match[2]
    value = roman(numeral)
    # In "Class C", C is a letter; in "in part I agree", I is the pronoun.
    pronoun = numeral == "I" and part[0].islower() and match.string[match.end() : match.end() + 2].lstrip().isalpha()
    return match[0] if not value or numeral in ("C", "L") or pronoun else f"{part} {cardinal(value)}"


def _expand_after_name(match: re.Match[str]) -> str:
    before, name, numeral = match[1] or "", match[2], match[3]
    value = roman(numeral)
    ruler = name in RULERS or (len(numeral) > 1 and (name in OTHER_RULERS or before in RANKS))
    if not value or (len(numeral) == 1 and not ruler) or (numeral == "X" and name not in RULERS_WITH_A_TENTH):
        return match[0]
    # "Thurston Howell III" is read "the third", "Rocky III" is read "three".
    personal_name = value < 5 and before not in ("", "The", "A", "An", "In", "On", "Of", "And")
    words = f"the {ordinal(value)}" if ruler or personal_name else cardinal(value)
    return " ".join(filter(None, (before, name, words)))
