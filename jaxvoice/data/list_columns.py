"""The roles of the columns of a list of recordings without a header, from the statistics of its columns."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Role = Literal["audio", "text", "normalized text", "speaker", "unused"]
_IDENTIFIER = re.compile(r"(?=\S*\d)\S+")
_DECIMAL = re.compile(r"[+-]?\d*[.,]\d+")
_LANGUAGE = re.compile(r"[A-Za-z]{2}([-_][A-Za-z]{2})?")
_SENTENCE_ENDS = (*".?!,;:\"')", *"\u2026\u201d\u00bb\u3002\uff1f\uff01\u0964")
_WIDE_SCRIPTS = 0x2E80  # from here on, a character stands for about three letters


class _Column(NamedTuple):
    """Statistics of a column.

    They are the share of fields that are not empty, of identifiers such as `p225` and of fields that end as sentences
    do; the mean length; whether a value occurs in two lines on average; and whether all values are decimal numbers, or
    codes of languages.
    """

    filled: float
    identifiers: float
    sentences: float
    length: float
    repeated: bool
    decimal: bool
    language: bool


def assign_roles(rows: Sequence[Sequence[str]], normalized: bool = False) -> tuple[Role, ...]:
    """The role of each column of `rows`, which have the same number of fields and the audio in the first one.

    A column of texts has long fields that are mostly distinct. A column of speakers has identifiers or few values that
    repeat, or fields that are short beside the texts. A column like that of the texts, after it, repeats or transcribes
    it. With `normalized`, it is the normalized text, and the field after it the speaker, unless there is another one.
    """
    width = len(rows[0])
    if width == 1:
        return ("audio",)
    columns = [_statistics([row[place] for row in rows]) for place in range(width)]
    roles: list[Role] = ["unused"] * width
    roles[0] = "audio"
    text = _text_column(columns)
    roles[text] = "text"
    written = text + 1
    speakers = [
        place
        for place in range(1, width)
        if place != text and _is_speaker(rows, columns, text, place, short=not normalized or place != written)
    ]
    if normalized and written < width and written not in speakers and not columns[written].decimal:
        roles[written] = "normalized text"
        if not speakers and written + 1 < width:
            speakers = [written + 1]
    if speakers:
        roles[next((place for place in speakers if not columns[place].language), speakers[0])] = "speaker"
    return tuple(roles)


def _statistics(fields: Sequence[str]) -> _Column:
    filled = [field for field in fields if field]
    count = max(1, len(filled))
    return _Column(
        filled=len(filled) / len(fields),
        identifiers=sum(bool(_IDENTIFIER.fullmatch(field)) for field in filled) / count,
        sentences=sum(field.endswith(_SENTENCE_ENDS) for field in filled) / count,
        length=sum(map(_letters, filled)) / count,
        repeated=len(set(filled)) <= len(filled) / 2,
        decimal=bool(filled) and all(_DECIMAL.fullmatch(field) for field in filled),
        language=bool(filled) and all(_LANGUAGE.fullmatch(field) for field in filled),
    )


def _letters(field: str) -> int:
    return len(field) if field.isascii() else sum(3 if ord(letter) >= _WIDE_SCRIPTS else 1 for letter in field)


def _text_column(columns: Sequence[_Column]) -> int:
    """The first of the columns whose fields are long, mostly distinct, and end as sentences do."""
    places = list(range(1, len(columns)))
    for condition in (
        lambda column: column.filled >= 0.5,
        lambda column: column.identifiers < 0.9,
        lambda column: not column.repeated,
    ):
        places = [place for place in places if condition(columns[place])] or places
    longest = max(columns[place].length for place in places)
    places = [place for place in places if columns[place].length >= longest / 3]
    most = max(columns[place].sentences for place in places)
    return next(place for place in places if columns[place].sentences >= most - 0.5)


def _is_speaker(rows: Sequence[Sequence[str]], columns: Sequence[_Column], text: int, place: int, short: bool) -> bool:
    """Whether the column `place` may name speakers. It may not if it can be another form of the text.

    With `short`, fields that are short beside the texts are sufficient.
    """
    column = columns[place]
    if column.filled < 0.5 or column.decimal:
        return False
    if 2 * sum(row[place] == row[text] for row in rows) >= len(rows):
        return False
    if place < text or column.identifiers >= 0.9 or (short and 2 * column.length < columns[text].length):
        return True
    pairs, texts = {(row[text], row[place]) for row in rows}, {row[text] for row in rows}
    return column.repeated and len(pairs) > len(texts) if columns[text].repeated else column.repeated
