"""Normalise English text: expand numbers, abbreviations and symbols to words."""

import re

from jaxvoice.errors import TextError
from jaxvoice.text.abbreviations import (
    ABBREVIATIONS,
    DAYS,
    MONTHS,
    expand_abbreviations,
    expand_days,
    expand_numbered,
)
from jaxvoice.text.chemical_formulas import expand_formulas
from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.folding import fold_to_ascii, symbol_words
from jaxvoice.text.money import MONEY
from jaxvoice.text.number_expansion import drop_unit_stops, expand_numbers
from jaxvoice.text.places import STREET_TYPES, expand_places
from jaxvoice.text.roman_numerals import expand_numerals
from jaxvoice.text.sentence_ends import mark_sentence_ends, write_sentence_stops
from jaxvoice.text.symbols import expand_symbols
from jaxvoice.text.web_addresses import expand_web_addresses

PLACEHOLDER = "\ue000"
"""The character that replaces parts of a text that normalisation must not change. `fold_to_ascii` rejects it."""

_STREETS = frozenset(word.capitalize() for word in STREET_TYPES)
ENDING_ABBREVIATIONS = frozenset({*ABBREVIATIONS, *DAYS, *MONTHS} | _STREETS) - {
    "Dr",
    "vs",
    "approx",
    "viz",
    "May",
    "Sun",
    "Sat",
}
"""Abbreviations that can be the last word of a sentence."""

BRACES = re.compile(r"\{[^{}]*\}")
DOT = re.compile(r"(?<=[A-Za-z0-9][A-Za-z0-9])\.(?=[a-z]{2})")
BLANKS = re.compile(r"\s+")
BEFORE_MARK = re.compile(r" (?=[,.;:!?)])")
SINGLE_LETTER_WORD = re.compile(
    r"(?<![A-Za-z'.&])(?:(?<!\d)[IO](?![A-Za-z0-9.'&])|(?<!\d)A(?= +(?![A-HJ-NP-Z]\b)[A-Za-z0-9$]))"
)
"""The words "a", "I" and "O", but not the letter in "Plan A."."""

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
SLASH = re.compile(r"(?<![A-Za-z])([A-Za-z]+) ?/ ?(?=([A-Za-z]+))")
UNREAD_SLASHES = frozenset([("and", "or"), ("he", "she"), ("his", "her"), ("him", "her"), ("his", "hers"), ("s", "he")])
SYMBOL_WORDS = {sign: f" {names[0]} " for sign, names in MONEY.items()}
SYMBOL_WORDS |= {
    "¢": " cent ",
    "%": " percent ",
    "°": " degrees ",
    "#": " hash ",
    "/": " ",
    "_": " ",
    "[": "(",
    "]": ")",
    "{": " ",
    "}": " ",
}


def normalize(text: str) -> str:
    """Expand English text to words in lower case and the punctuation `'"-.,;:!?()`.

    Numbers, ordinals, money, years, dates, times, fractions, measures, common abbreviations and acronyms are expanded:
    `Dr. Smith paid the FBI $5.50 in 1984.` becomes `doctor smith paid the F B I five dollars and fifty cents in
    nineteen eighty-four.` A single capital is the name of a letter. Text in braces is not changed.

    **Raises:** `TextError` if a character has no English reading, or a brace has no counterpart.
    """
    extracted, text = extract_braces(fold_to_ascii(text))
    text = expand_text(text)
    return fill_placeholders(text, extracted)


def extract_braces(text: str) -> tuple[list[str], str]:
    """The parts of folded `text` in braces, and the text with each part replaced by `PLACEHOLDER`.

    **Raises:** `TextError` if a brace has no counterpart.
    """
    extracted = BRACES.findall(text)
    text = BRACES.sub(f" {PLACEHOLDER} ", text)
    for brace in "{}":
        if brace in text:
            position = text.index(brace)
            near = text[max(0, position - 12) : position + 13].replace(PLACEHOLDER, "{...}")
            raise TextError(f"{brace!r} in {near!r} has no counterpart; write phonemes as in {{HH AH0 L OW1}}.")
    return extracted, text


def fill_placeholders(text: str, extracted: list[str]) -> str:
    """`text` with each `PLACEHOLDER` replaced by the extracted text."""
    first, *rest = text.split(PLACEHOLDER)
    return "".join([first, *(part for pair in zip(extracted, rest, strict=True) for part in pair)])


def expand_text(text: str) -> str:
    """Expand folded `text` to words. `PLACEHOLDER` is not changed."""
    # In a text of capitals only, capitals do not mark acronyms. Checked before "WWII" and "3 a.m." become words.
    all_capitals = not re.search("[a-z]", text) and len(WORD.findall(text)) > 1
    text = mark_sentence_ends(text, ENDING_ABBREVIATIONS)
    text = drop_unit_stops(expand_numerals(expand_numbered(text)))
    text = SINGLE_LETTER_WORD.sub(lambda match: match[0].lower(), text)
    text = expand_formulas(text)
    text = DOT.sub(" dot ", expand_web_addresses(text))
    text = expand_symbols(expand_places(expand_days(text)))
    text = symbol_words(expand_numbers(text))
    text = expand_abbreviations(text, lambda word: word in cmudict(), all_capitals=all_capitals)
    text = write_sentence_stops(SLASH.sub(_slash, text))
    for symbol, words in SYMBOL_WORDS.items():
        text = text.replace(symbol, words)
    text = WORD.sub(lambda match: match[0] if _is_letter(match[0]) else match[0].lower(), text)
    return BEFORE_MARK.sub("", BLANKS.sub(" ", text)).strip()


def _slash(match: re.Match[str]) -> str:
    words = (match[1].lower(), match[2].lower())
    return match[1] + (" " if words in UNREAD_SLASHES or words[::-1] in UNREAD_SLASHES else " slash ")


def _is_letter(word: str) -> bool:
    return len(word.removesuffix("'s")) == 1
