"""Normalise English text: expand numbers, abbreviations and symbols to words."""

import re

from jaxvoice.errors import TextError
from jaxvoice.text.abbreviations import expand_abbreviations, expand_before_numbers, expand_numbered
from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.folding import fold_to_ascii
from jaxvoice.text.number_expansion import drop_unit_stops, expand_numbers
from jaxvoice.text.roman_numerals import expand_numerals

PLACEHOLDER = "\ue000"
"""The character that replaces parts of a text that normalisation must not change. `fold_to_ascii` rejects it."""

BRACES = re.compile(r"\{[^{}]*\}")
ADDRESS = re.compile(r"https?://(?:www\.)?", re.IGNORECASE)
DOT = re.compile(r"(?<=[A-Za-z0-9][A-Za-z0-9])\.(?=[a-z]{2})")
BLANKS = re.compile(r"\s+")
BEFORE_MARK = re.compile(r" (?=[,.;:!?)])")
SINGLE_LETTER_WORD = re.compile(r"(?<![A-Za-z'.])(?:[IO](?![A-Za-z.'])|A(?= +[A-Za-z0-9$]))")  # not "Plan A."
WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
SYMBOL_WORDS = {"$": " dollars ", "£": " pounds ", "€": " euros ", "¥": " yen ", "¢": " cents ", "%": " percent "}
SYMBOL_WORDS |= {"°": " degrees ", "#": " number ", "/": " ", "_": " ", "[": "(", "]": ")", "{": " ", "}": " "}


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
    text = DOT.sub(" dot ", ADDRESS.sub("", text))
    # In a text of capitals only, capitals do not mark acronyms. Checked before "WWII" and "3 a.m." become words.
    all_capitals = not re.search("[a-z]", text) and len(WORD.findall(text)) > 1
    text = drop_unit_stops(expand_numerals(expand_numbered(text)))
    text = SINGLE_LETTER_WORD.sub(lambda match: match[0].lower(), text)
    text = expand_numbers(expand_before_numbers(text))
    text = expand_abbreviations(text, lambda word: word in cmudict(), all_capitals=all_capitals)
    for symbol, words in SYMBOL_WORDS.items():
        text = text.replace(symbol, words)
    text = WORD.sub(lambda match: match[0] if _is_letter(match[0]) else match[0].lower(), text)
    return BEFORE_MARK.sub("", BLANKS.sub(" ", text)).strip()


def _is_letter(word: str) -> bool:
    return len(word.removesuffix("'s")) == 1
