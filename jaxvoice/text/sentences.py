"""Split text of any language at sentence ends, and long sentences at commas, spaces and characters."""

# ruff: noqa: RUF001 - the marks are those of several scripts.

import re
import unicodedata
from collections.abc import Callable, Iterator

from jaxvoice.text.abbreviations import ABBREVIATIONS, DAYS, MONTHS, TITLES
from jaxvoice.text.multilingual_normalization import abbreviations_of

# Possessive, and not within a run of marks, so that long runs take linear time.
_CLOSING = r"[\"'”’»›)\]}」』）】〉》]*+"
_END = re.compile(rf"(?<![.!?…؟۔])[.!?…؟۔]++{_CLOSING}(?=\s)|[。！？｡।॥]++{_CLOSING}|\n\s*\n")
_CLAUSE = re.compile(r"[,;:،؛](?=\s)|[，、；：]|\s[-–—](?=\s)|—")
_WORD = re.compile(r"\s+")
_LAST = re.compile(r"[^\s\"'“„«(\[]+$")
_SPACE_AFTER_STOP = re.compile(r"(?<=\.)\s+")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_MOST_MARKS = 8
"""The largest number of combining marks that stay with their character."""
_ENGLISH = frozenset(word.lower() for word in (*ABBREVIATIONS, *DAYS, *MONTHS, *TITLES)) - {"may", "sun", "sat", "hon"}
_ENGLISH |= {"e.g", "i.e", "cf", "vol", "fig", "nos"}
# In these languages, a number with a full stop is an ordinal.
_ORDINAL_STOP = {"cs", "de", "hu", "pl", "tr"}


def split_sentences(text: str, language: str) -> list[str]:
    """The sentences of `text`, whose concatenation is `text`: each ends with its mark and the spaces after it.

    A full stop ends no sentence before a word in lower case, and after abbreviations of `language` (a code of two
    letters), initials and, in languages that write ordinals so, numbers of one or two digits. Marks of Chinese,
    Japanese, Arabic, Urdu and Hindi end sentences, and so do blank lines.
    """
    return _cut(text, _END, lambda match: _ends_sentence(match, language))


def split_clauses(text: str) -> list[str]:
    """The parts of `text` between commas, semicolons, colons and dashes, whose concatenation is `text`."""
    return _cut(text, _CLAUSE, lambda match: True)


def split_words(text: str) -> list[str]:
    """The words of `text` with the spaces after them, whose concatenation is `text`."""
    return _cut(text, _WORD, lambda match: True)


def split_characters(text: str) -> list[str]:
    """The characters of `text`, each with the combining marks after it."""
    found: list[str] = []
    for character in text:
        marks = found and unicodedata.category(character).startswith("M") and len(found[-1]) <= _MOST_MARKS
        if marks:
            found[-1] += character
        else:
            found.append(character)
    return found


def pack(text: str, language: str, limit: int, fits: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Divide `text` into pieces of at most `limit` characters.

    A piece has as many sentences as fit. A sentence that does not fit is divided at commas, then between words, then
    between characters, and its parts are joined to no other sentence. Only a single character that does not fit
    remains. The concatenation of the pieces is `text` without the spaces between them.

    **Arguments:** `fits`, a further condition of pieces. It should be true for parts of a piece for which it is true.
    """
    splits = (lambda part: split_sentences(part, language), split_clauses, split_words, split_characters)
    return _pack(text.strip(), splits, limit, fits or (lambda piece: True))


def _pack(
    text: str, splits: tuple[Callable[[str], list[str]], ...], limit: int, fits: Callable[[str], bool]
) -> Iterator[str]:
    parts, start = splits[0](text), 0
    while start < len(parts):
        count = _most_parts(parts, start, limit, fits)
        piece = "".join(parts[start : start + max(1, count)]).strip()
        if count or len(splits) == 1:
            yield from [piece] if piece else []
        else:
            yield from _pack(piece, splits[1:], limit, fits)
        start += max(1, count)


def _most_parts(parts: list[str], start: int, limit: int, fits: Callable[[str], bool]) -> int:
    """The largest number of `parts` from `start` on that fit together, by bisection."""
    count = length = 0
    while start + count < len(parts) and length + len(parts[start + count].rstrip()) <= limit:
        length, count = length + len(parts[start + count]), count + 1
    low, high = 0, count + 1
    middle = count
    while high - low > 1:
        fitting = fits("".join(parts[start : start + middle]).strip())
        low, high = (middle, high) if fitting else (low, middle)
        middle = (low + high) // 2
    return low


def _cut(text: str, pattern: re.Pattern[str], ends: Callable[[re.Match[str]], bool]) -> list[str]:
    """`text` cut after the matches for which `ends` is true and the spaces after them."""
    parts, start = [], 0
    for match in pattern.finditer(text):
        if ends(match):
            end = match.end()
            while end < len(text) and text[end].isspace():
                end += 1
            if end > start:
                parts.append(text[start:end])
                start = end
    return [*parts, text[start:]] if start < len(text) else parts


def _ends_sentence(match: re.Match[str], language: str) -> bool:
    if match[0][0] != "." or match[0].startswith(".."):
        return not (match[0][0] in ".…" and _starts_lower(match))
    if _starts_lower(match):
        return False
    before = match.string[max(0, match.start() - 30) : match.start()]
    word = last[0] if (last := _LAST.search(before)) else ""
    # "z. B." is "z.B."
    with_stops = last[0] if (last := _LAST.search(_SPACE_AFTER_STOP.sub("", before))) else ""
    if language in _ORDINAL_STOP and re.fullmatch(r"\d{1,2}", word):
        return False
    abbreviations = _ENGLISH if language == "en" else abbreviations_of(language)
    return not (word.lower() in abbreviations or with_stops.lower() in abbreviations or _is_initial(word))


def _is_initial(word: str) -> bool:
    """Whether `word` is a capital, such as "J", or letters with full stops, such as "U.S", but not the pronoun "I"."""
    return bool(_INITIALS.fullmatch(word)) and word != "I" and not word.islower()


def _starts_lower(match: re.Match[str]) -> bool:
    following = match.string[match.end() : match.end() + 40].lstrip(" \n\t\"'“„«([¿¡")
    return following[:1].islower()
