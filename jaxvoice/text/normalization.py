"""English text with numbers, abbreviations and symbols written out as words."""

import re

from jaxvoice.errors import TextError
from jaxvoice.text.abbreviations import expand_abbreviations, expand_before_numbers, expand_numbered
from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.folding import fold
from jaxvoice.text.number_expansion import drop_unit_stops, expand_numbers
from jaxvoice.text.numerals import expand_numerals

HELD = "\ue000"
"""Stands in a text for what must come through normalising as it is; `fold` refuses it in the caller's text."""

BRACES = re.compile(r"\{[^{}]*\}")
ADDRESS = re.compile(r"https?://(?:www\.)?", re.IGNORECASE)
DOT = re.compile(r"(?<=[A-Za-z0-9][A-Za-z0-9])\.(?=[a-z]{2})")
BLANKS = re.compile(r"\s+")
BEFORE_MARK = re.compile(r" (?=[,.;:!?)])")
LONE_WORD = re.compile(r"(?<![A-Za-z'.])(?:[IO](?![A-Za-z.'])|A(?= +[A-Za-z0-9$]))")  # not "Plan A."
WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
SYMBOLS = {"$": " dollars ", "£": " pounds ", "€": " euros ", "¥": " yen ", "¢": " cents ", "%": " percent "}
SYMBOLS |= {"°": " degrees ", "#": " number ", "/": " ", "_": " ", "[": "(", "]": ")", "{": " ", "}": " "}


def normalize(text: str) -> str:
    """`text` in lower-case words and the punctuation `'"-.,;:!?()`; a single capital is the name of that letter.

    Numbers, ordinals, money, years, dates, times, fractions, measures, common abbreviations and acronyms are written
    out: `Dr. Smith paid the FBI $5.50 in 1984.` becomes `doctor smith paid the F B I five dollars and fifty cents in
    nineteen eighty-four.` What is in braces stays as it is.

    Raises:
        TextError: a character has no English reading, or a brace is not closed.
    """
    kept, text = hold_braces(fold(text))
    text = expand(text)
    return restore(text, kept)


def hold_braces(text: str) -> tuple[list[str], str]:
    """What stands in braces, and folded `text` with `HELD` in each one's place.

    Raises:
        TextError: a brace is not closed, or not opened.
    """
    kept = BRACES.findall(text)
    text = BRACES.sub(f" {HELD} ", text)
    for brace in "{}":
        if brace in text:
            place = text.index(brace)
            near = text[max(0, place - 12) : place + 13].replace(HELD, "{...}")
            raise TextError(f"{brace!r} in {near!r} has no counterpart; write phonemes as in {{HH AH0 L OW1}}")
    return kept, text


def restore(text: str, kept: list[str]) -> str:
    """`text` with what was held back in its place."""
    first, *rest = text.split(HELD)
    return "".join([first, *(part for pair in zip(kept, rest, strict=True) for part in pair)])


def expand(text: str) -> str:
    """Folded `text` in words; `HELD` comes through."""
    text = DOT.sub(" dot ", ADDRESS.sub("", text))
    # A text all in capitals is shouted, not abbreviated: told before "WWII" and "3 a.m." become words.
    shouted = not re.search("[a-z]", text) and len(WORD.findall(text)) > 1
    text = drop_unit_stops(expand_numerals(expand_numbered(text)))
    text = LONE_WORD.sub(lambda match: match[0].lower(), text)
    text = expand_numbers(expand_before_numbers(text))
    text = expand_abbreviations(text, lambda word: word in cmudict(), shouted=shouted)
    for symbol, words in SYMBOLS.items():
        text = text.replace(symbol, words)
    text = WORD.sub(lambda match: match[0] if _is_letter(match[0]) else match[0].lower(), text)
    return BEFORE_MARK.sub("", BLANKS.sub(" ", text)).strip()


def _is_letter(word: str) -> bool:
    return len(word.removesuffix("'s")) == 1
