"""Roman numerals in words: after rulers, parts of books, and in the names of wars and sequels."""

import re

from jaxvoice.text.numbers import cardinal, ordinal, roman

_KINGS = (
    "Henry Edward George William James Charles Richard Louis Philip Philippe Francis Frederick Napoleon Elizabeth Mary"
    " Catherine Peter Paul John Alexander Nicholas Ivan Pius Leo Gregory Benedict Clement Innocent Urban Boniface"
    " Ferdinand Joseph Leopold Maximilian Otto Rudolf Albert Alfonso Christian Gustav Victor Umberto Robert David"
    " Malcolm Edmund Harold Constantine Theodosius Ramses Ptolemy Julius Sixtus Felipe Juan Carlos"
)
_MORE_KINGS = (
    "Adrian Amenhotep Anastasius Antiochus Artaxerxes Baldwin Basil Callixtus Carl Casimir Celestine Cyrus Darius Erik"
    " Eric Eugene Franz Frederik Friedrich Haakon Hadrian Harald Henri Honorius Isabella Josef Justinian Karl"
    " Ladislaus Ludwig Magnus Manuel Martin Mehmed Michael Mithridates Murad Nebuchadnezzar Olaf Pedro Rameses Romanos"
    " Sancho Seleucus Selim Seti Sigismund Stephen Suleiman Theodore Thutmose Wilhelm Willem Xerxes"
)
KINGS, MORE_KINGS = frozenset(_KINGS.split()), frozenset(_MORE_KINGS.split())
"""Names of rulers; after those of the second only a numeral of two letters or more is one."""

_TENTHS = "Charles Louis Leo Pius John Gregory Benedict Clement Innocent Alfonso Christian Ramses"
TENTHS = frozenset(_TENTHS.split())
"""Those of whom there was a tenth: of any other, as in `Malcolm X`, the letter is a name."""

_RANKS = "King Queen Pope Emperor Empress Tsar Czar Prince Sultan Pharaoh Kaiser Shah"
RANKS = frozenset(_RANKS.split())
PARTS = "Chapter Part Volume Vol Book Act Scene Section Article War Appendix Title Class Phase Type Mark Level Bowl"
AT_END = r"I(?= *(?:$|[,.;:!?)]|'s|of\b))"  # not the pronoun
WORLD_WAR = re.compile(r"\bWW(?: ?(I{1,3})\b|-?([123])(?![\d.,]*\d))")
OF_KING = re.compile(rf"\b(?:([A-Z][a-z]+) )?\b([A-Z][a-z]+) ([IVX]{{2,}}\b|[VX]\b|{AT_END})")
OF_PART = re.compile(rf"\b((?i:{'|'.join(PARTS.split())})) ({AT_END}|[IVXLC]+\b(?!'[A-Za-z]))")


def expand_numerals(text: str) -> str:
    """Roman numerals of rulers, parts of books, wars and sequels: `Henry VIII`, `Chapter IV`, `WWII`, `Apollo XI`."""
    text = WORLD_WAR.sub(lambda match: f"world war {cardinal(roman(match[1]) if match[1] else int(match[2]))}", text)
    return OF_KING.sub(_of_name, OF_PART.sub(_of_part, text))


def _of_part(match: re.Match[str]) -> str:
    part, numeral = match[1], match[2]
    value = roman(numeral)
    # "Class C" is a letter, and "in part I agree" the pronoun.
    pronoun = numeral == "I" and part[0].islower() and match.string[match.end() : match.end() + 2].lstrip().isalpha()
    return match[0] if not value or numeral in ("C", "L") or pronoun else f"{part} {cardinal(value)}"


def _of_name(match: re.Match[str]) -> str:
    before, name, numeral = match[1] or "", match[2], match[3]
    value = roman(numeral)
    ruler = name in KINGS or (len(numeral) > 1 and (name in MORE_KINGS or before in RANKS))
    if not value or (len(numeral) == 1 and not ruler) or (numeral == "X" and name not in TENTHS):
        return match[0]
    # "Thurston Howell III" is the third of his name, "Rocky III" the third of its kind.
    heir = value < 5 and before not in ("", "The", "A", "An", "In", "On", "Of", "And")
    said = f"the {ordinal(value)}" if ruler or heir else cardinal(value)
    return " ".join(filter(None, (before, name, said)))
