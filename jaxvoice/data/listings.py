"""Lists of recordings: lines `audio|text`, `audio|speaker|text` and others, tables with a header, and JSON lines."""

import csv
import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvoice.data.list_columns import Role, assign_roles
from jaxvoice.data.listed_audio import AUDIO_SUFFIXES, SAMPLED, count_found
from jaxvoice.errors import DataError
from jaxvoice.text.custom_words import split_lines

_AUDIO_FIELDS = (
    *("audio_filepath", "audio_file", "audio_path", "audio", "wav_path", "wav"),
    *("file_name", "filename", "file", "path", "id"),
)
_TEXT_FIELDS = ("text", "transcript", "transcription", "sentence", "raw_text")
_NORMALIZED_FIELDS = ("normalized_text", "normalised_text", "text_normalized", "normalized_transcription")
_SPEAKER_FIELDS = ("speaker_name", "speaker", "speaker_id", "client_id")
_LANGUAGE_FIELDS = ("language", "lang", "locale")
_QUOTE = re.compile(r'(?:^|,)\s*"')  # the start of a quoted field


class Line(NamedTuple):
    """A line of a list: the name of the audio file as it is written, text, speaker, the line's place, and language.

    The place is the name of the list with the number of the line, for messages. Lists with a header and JSON lines may
    name the language.
    """

    name: str
    text: str = ""
    speaker: str = ""
    place: str = ""
    language: str = ""


class Listing(NamedTuple):
    """The lines of a list, and the roles of their fields, such as `audio|speaker|text`."""

    lines: list[Line]
    fields: str


class _Row(NamedTuple):
    number: int
    fields: list[str]


class _Table(NamedTuple):
    """The rows of a list, not all of the same width, with the header in lower case, empty if there is none."""

    path: Path
    separator: str
    rows: list[_Row]
    header: tuple[str, ...] = ()
    quoted: bool = False


def read_lists(listings: Sequence[Path], folders: Sequence[Path], *, normalized: bool = False) -> list[Listing]:
    """Read the lists of recordings at `listings`, parts of a corpus whose audio is in one of `folders`.

    The first line is a header if it contains names of audio and text, such as `path` and `text`, separated by tabs,
    commas or `|`. Otherwise, fields are separated by `|`. If not all lines have one, the separator is that with which
    the most first fields are names of audio. Commas separate fields if the texts are quoted; else the text begins at
    the first comma, unless all lines have a column of speakers and no comma is followed by a space. Without a header,
    the roles of the columns follow from all lines of all lists (see `assign_roles`). JSON lines are those of NeMo,
    with `audio_filepath` and `text`.

    The number of fields is that of most lines. More `|` or tabs are kept if they can only be in the text: in a list
    with one column of texts, which is the last one or is followed by the name of a known speaker. A line may be the
    name of an audio file alone.

    With `normalized`, the field after the text, or `normalized_text`, replaces the text if it is not empty, and the
    field after it is the speaker.

    **Raises:** `DataError` if a list is not UTF-8 text or empty, or a line has another form than the others.
    """
    found = [_read(listing, folders, normalized) for listing in listings]
    plain = [table for table in found if isinstance(table, _Table) and not table.header]
    read = {}
    for separator in {table.separator for table in plain}:
        tables = [table for table in plain if table.separator == separator]
        written = [_stripped(row.fields) for table in tables for row in table.rows]
        width = _common_width(written)
        rows = [row[:width] for row in written if len(row) >= width and not any(row[width:])]
        roles = assign_roles(rows, normalized)
        text = None if normalized or 2 * len(rows) <= len(written) else _text_with_separators(roles)
        ends = {row[-1] for row in rows} - {""}
        read |= {table.path: _unnamed_lines(table, roles, text, ends, folders) for table in tables}
    results = []
    for listing, table in zip(listings, found, strict=True):
        if isinstance(table, Listing):
            results.append(table)
        else:
            results.append(_named_lines(table, normalized) if table.header else read[listing])
    return results


def _read(listing: Path, folders: Sequence[Path], normalized: bool) -> Listing | _Table:
    try:
        written = split_lines(listing.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"{listing} cannot be read as UTF-8 text ({failure}); check the file.") from failure
    lines = [(number, line) for number, line in enumerate(written, 1) if line.strip()]
    if lines and lines[0][1].lstrip().startswith("{"):
        return _json_lines(listing, lines, normalized)
    table = _table(listing, lines, folders)
    rows = [row for row in table.rows if any(map(str.strip, row.fields))]
    for row in rows:
        if not row.fields[0].strip() and not table.header:
            raise DataError(
                f"{listing}, line {row.number} has no audio: its first field is empty. Write the name of the audio "
                "file, or remove the line."
            )
    if not rows:
        raise DataError(f"{listing} lists nothing; it should contain one utterance per line, as 'stem|text'.")
    return table._replace(rows=rows)


def _is_header(fields: Sequence[str]) -> bool:
    names = {field.strip().lower() for field in fields}
    return bool(names.intersection(_AUDIO_FIELDS) and names.intersection(_TEXT_FIELDS + _NORMALIZED_FIELDS))


def _table(listing: Path, lines: Sequence[tuple[int, str]], folders: Sequence[Path]) -> _Table:
    for separator in "\t,|":
        if lines and _is_header(_split_first(lines[0][1], separator)):
            rows, quoted = _quoted_rows(listing, lines) if separator == "," else (_split(lines, separator), False)
            header = tuple(field.strip().lower() for field in rows[0].fields)
            return _Table(listing, separator, rows[1:], header, quoted)
    bars = sum("|" in line for _, line in lines)
    if bars == len(lines):
        return _Table(listing, "|", _split(lines, "|"))
    whole = _Table(listing, "", [_Row(number, [line]) for number, line in lines])
    options = [_Table(listing, "|", _split(lines, "|")), whole] if bars else [whole]
    if 2 * bars <= len(lines):
        options.reverse()
    if all("\t" in line for _, line in lines):
        options.append(_Table(listing, "\t", _split(lines, "\t")))
    if all("," in line for _, line in lines):
        options.append(_comma_table(listing, lines))
    return max(options, key=lambda table: _known(table.rows, folders))  # the first one if several are equal


def _split(lines: Iterable[tuple[int, str]], separator: str) -> list[_Row]:
    return [_Row(number, line.split(separator)) for number, line in lines]


def _split_first(line: str, separator: str) -> list[str]:
    return (_parse_quoted(line) if separator == "," else None) or line.split(separator)


def _parse_quoted(line: str) -> list[str] | None:
    """The fields of a line of a CSV file; `None` if its quotation marks are not those of quoted fields."""
    try:
        return next(csv.reader([line], skipinitialspace=True, strict=True), None)
    except csv.Error:
        return None


def _quoted_rows(listing: Path, lines: Sequence[tuple[int, str]]) -> tuple[list[_Row], bool]:
    """The rows of a CSV file, and whether fields are quoted. Quoted fields may contain newlines.

    If quotation marks are parts of most texts that begin with one, no fields are quoted.
    """
    quoting = [(number, line) for number, line in lines if _QUOTE.search(line)]
    if not quoting:
        return _split(lines, ","), False
    reader = csv.reader([f"{line}\n" for _, line in lines], skipinitialspace=True, strict=True)
    rows, place = [], 0
    try:
        for fields in reader:
            rows.append(_Row(lines[place][0], [" ".join(field.split()) for field in fields]))
            place = reader.line_num
    except csv.Error as failure:
        closed = sum(_parse_quoted(line) is not None for _, line in quoting)
        if 2 * closed > len(quoting):
            raise DataError(
                f"{listing}, line {lines[place][0]} is not a line of a CSV file ({failure}). Double the quotation "
                "marks inside a quoted text, and close it with one."
            ) from failure
        return _split(lines, ","), False
    return rows, True


def _comma_table(listing: Path, lines: Sequence[tuple[int, str]]) -> _Table:
    """The table of `lines` without a header, all of which have a comma."""
    try:
        rows, quoted = _quoted_rows(listing, lines)
    except DataError:
        rows, quoted = _split(lines, ","), False
    if len(rows) == len(lines) and len({len(row.fields) for row in rows}) == 1:
        spaced = any(", " in line for _, line in lines)
        if quoted or (not spaced and "speaker" in assign_roles([_stripped(row.fields) for row in rows])):
            return _Table(listing, ",", rows, quoted=True)
    rows = []
    for number, line in lines:
        name, _, text = line.partition(",")
        inner = _parse_quoted(text) if _QUOTE.match(text) else None
        rows.append(_Row(number, [name, inner[0] if inner is not None and len(inner) == 1 else text]))
    return _Table(listing, ",", rows, quoted=True)


def _known(rows: Sequence[_Row], folders: Sequence[Path]) -> tuple[int, int]:
    """The numbers of first fields that are names of audio in `folders`, and that have the suffix of an audio file."""
    names = [row.fields[0].strip() for row in rows[:SAMPLED]]
    found = max((count_found(names, folder, dropped) for folder in folders for dropped in range(2)), default=0)
    return found, sum(name.lower().endswith(AUDIO_SUFFIXES) for name in names)


def _stripped(fields: Sequence[str]) -> list[str]:
    return [field.strip() for field in fields]


def _common_width(rows: Sequence[Sequence[str]]) -> int:
    """The number of fields of most of `rows`, the largest one if several are equally common.

    Fields at the end of a row may be empty. Rows of one field are left out, if there are others, and so are columns at
    the end without a value.
    """
    widths: Counter[int] = Counter()
    for row in rows:
        used = max((place for place, field in enumerate(row, 1) if field), default=1)
        widths.update(range(max(used, min(2, len(row))), len(row) + 1))
    if len(widths) > 1:
        del widths[1]
    width = max(widths, key=lambda width: (widths[width], width))
    while width > 2 and not any(row[width - 1] for row in rows if len(row) >= width):
        width -= 1
    return width


def _text_with_separators(roles: Sequence[Role]) -> int | None:
    """The column of the texts, if further separators in a line can only be in its text."""
    if roles[-1] == "text":
        return len(roles) - 1
    return len(roles) - 2 if roles[-2:] == ("text", "speaker") else None


def _unnamed_lines(
    table: _Table, roles: Sequence[Role], text: int | None, ends: Container[str], folders: Sequence[Path]
) -> Listing:
    """The lines of `table`, whose columns have `roles`.

    `text` is the column whose fields may contain separators, and `ends` are the known values of the last column.
    """
    width = len(roles)
    places = {role: place for place, role in enumerate(roles)}
    fields = _described(table.separator, roles)
    lines, kept = [], []
    for row in table.rows:
        if len(row.fields) == 1 < width and _is_audio_name(row.fields[0].strip(), folders):
            row = _Row(row.number, [row.fields[0], *[""] * (width - 1)])
        found, joined = _fitted(table, row, width, None if table.quoted else text, ends, fields)
        if joined:
            kept.append(row.number)
        values = {role: found[place] for role, place in places.items()}
        written = values.get("normalized text") or values.get("text", "")
        lines.append(Line(found[0], written, values.get("speaker", ""), f"{table.path.name}, line {row.number}"))
    return Listing(lines, fields + _remark(table, kept))


def _is_audio_name(name: str, folders: Sequence[Path]) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES) or any(count_found([name], folder, 0) for folder in folders)


def _fitted(
    table: _Table, row: _Row, width: int, text: int | None, ends: Container[str], fields: str
) -> tuple[list[str], bool]:
    """The `width` fields of `row`, without surrounding spaces, and whether the column `text` contains separators.

    `ends` are the values that the last field may have, if it is not the text.
    """
    found = row.fields
    while len(found) > width and not found[-1].strip():
        found = found[:-1]
    if len(found) == width:
        return _stripped(found), False
    if len(found) > width and text is not None and (text == width - 1 or found[-1].strip() in ends):
        end = len(found) - (width - text - 1)
        joined = (" " if table.separator == "\t" else table.separator).join(found[text:end])
        return _stripped([*found[:text], joined, *found[end:]]), True
    others = "the header has" if table.header else "most lines have"
    separator = {"\t": "a tab", ",": "a comma"}.get(table.separator, repr(table.separator))
    line = table.separator.join(found).strip()
    raise DataError(
        f"{table.path}, line {row.number} has {len(found)} field(s), {line[:60]!r}; it should have {width}, since "
        f"{others} {width} ({fields}), separated by {separator}. Correct the line."
    )


def _described(separator: str, names: Iterable[str]) -> str:
    return "|".join(names) if separator in ("|", "") else ", ".join(names)


def _remark(table: _Table, kept: Sequence[int]) -> str:
    if not kept:
        return ""
    separator = {"\t": "tabs", ",": "commas"}.get(table.separator, repr(table.separator))
    return f"; {separator} kept in {len(kept)} text(s), the first in {table.path.name}, line {kept[0]}"


def _named_lines(table: _Table, normalized: bool) -> Listing:
    header, width = table.header, len(table.header)
    texts = [place for place, name in enumerate(header) if name in _TEXT_FIELDS + _NORMALIZED_FIELDS]
    text = width - 1 if texts == [width - 1] and not table.quoted else None
    lines, kept = [], []
    for row in table.rows:
        found, joined = _fitted(table, row, width, text, (), _described(table.separator, header))
        if joined:
            kept.append(row.number)
        place = f"{table.path.name}, line {row.number}"
        line = _named_line(dict(zip(header, found, strict=True)), normalized, place)
        if not line.name:
            raise DataError(
                f"{table.path}, line {row.number} has no audio. Write the name of the audio file, or remove the line."
            )
        lines.append(line)
    if not lines:
        raise DataError(f"{table.path} lists nothing; it should contain one utterance per line after the header.")
    plain = (*_NORMALIZED_FIELDS, *_TEXT_FIELDS) if normalized else (*_TEXT_FIELDS, *_NORMALIZED_FIELDS)
    used = {"audio": _AUDIO_FIELDS, "text": plain, "speaker": _SPEAKER_FIELDS, "language": _LANGUAGE_FIELDS}
    first = ((role, next((name for name in names if name in header), "")) for role, names in used.items())
    fields = ", ".join(role if name == role else f"{role} ({name})" for role, name in first if name)
    return Listing(lines, fields + _remark(table, kept))


def _json_lines(listing: Path, lines: Sequence[tuple[int, str]], normalized: bool) -> Listing:
    found = []
    for number, line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not _named(row, _AUDIO_FIELDS):
            raise DataError(
                f"{listing}, line {number} is {line[:40]!r}; it should be a JSON object with 'audio_filepath' and "
                "'text'. Correct the list."
            )
        if row.get("offset"):
            raise DataError(
                f"{listing}, line {number} has the offset {row['offset']!r} s; it should be 0, since each line is read "
                "as a whole recording. Cut the recordings into one file for each line."
            )
        found.append(_named_line(row, normalized, f"{listing.name}, line {number}"))
    return Listing(found, "JSON lines")


def _named_line(row: Mapping[str, object], normalized: bool, place: str) -> Line:
    plain, written = _named(row, _TEXT_FIELDS), _named(row, _NORMALIZED_FIELDS)
    text = (written or plain) if normalized else (plain or written)
    speaker, language = _named(row, _SPEAKER_FIELDS), _named(row, _LANGUAGE_FIELDS)
    return Line(_named(row, _AUDIO_FIELDS), text, speaker, place, language)


def _named(row: Mapping[str, object], names: Sequence[str]) -> str:
    """The first value of `row` under one of `names` that is not empty, as text on one line."""
    values = (row.get(name) for name in names)
    return next((" ".join(str(value).split()) for value in values if value is not None and str(value).strip()), "")
