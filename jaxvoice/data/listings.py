"""Lists of recordings: lines `audio|text`, `audio|speaker|text` and others, tables with a header, and JSON lines."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from jaxvoice.errors import DataError
from jaxvoice.text.custom_words import split_lines

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
AUDIO_FOLDERS = ("wavs", "wav", "audio")
_AUDIO_FIELDS = (
    *("audio_filepath", "audio_file", "audio_path", "audio", "wav_path", "wav"),
    *("file_name", "filename", "file", "path", "id"),
)
_TEXT_FIELDS = ("text", "transcript", "transcription", "sentence", "raw_text")
_NORMALIZED_FIELDS = ("normalized_text", "normalised_text", "text_normalized", "normalized_transcription")
_SPEAKER_FIELDS = ("speaker_name", "speaker", "speaker_id", "client_id")
_SAMPLED = 100  # lines from which the folder of the audio is determined
_MOST_FOLDERS = 8  # folders of a listed path that are left out


class Line(NamedTuple):
    """A line of a list: the name of the audio file as it is written, the text and the speaker."""

    name: str
    text: str = ""
    speaker: str = ""


class AudioPath(NamedTuple):
    """The names of a path of POSIX or Windows without `..`, and whether the path is absolute."""

    absolute: bool
    parts: tuple[str, ...]


def read_list(listing: Path, folders: Sequence[Path], *, normalized: bool = False) -> list[Line]:
    """Read the list of recordings at `listing`.

    Fields are separated by `|`. If no line has one, they are separated by tabs or commas, provided that the first line
    is a header, or that audio with the name of the first field exists in one of `folders`. A header contains names of
    audio and text, such as `path` and `text`. Without a header, the text is the first field that looks like text, and a
    field without spaces beside it is the speaker. JSON lines are those of NeMo, with `audio_filepath` and `text`.

    With `normalized`, the field after the text, or `normalized_text`, replaces the text if it is not empty, and the
    field after it is the speaker.

    **Raises:** `DataError` if the list is not UTF-8 text or empty, or a line of JSON has another form.
    """
    try:
        lines = [line for line in split_lines(listing.read_bytes().decode("utf-8-sig")) if line.strip()]
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"{listing} cannot be read as UTF-8 text ({failure}); check the file.") from failure
    if lines and lines[0].lstrip().startswith("{"):
        return _json_lines(listing, lines, normalized)
    rows = [row for row in _rows(lines, folders) if row[0]]
    if not rows:
        raise DataError(f"{listing} lists nothing; it should contain one utterance per line, as 'stem|text'.")
    if not _is_header(rows[0]):
        return _unnamed_lines(rows, normalized)
    header = [field.lower() for field in rows[0]]
    named = (dict(zip(header, row, strict=False)) for row in rows[1:])
    return [line for line in (_named_line(row, normalized) for row in named) if line.name]


def _is_header(fields: Sequence[str]) -> bool:
    names = {field.lower() for field in fields}
    return bool(names.intersection(_AUDIO_FIELDS) and names.intersection(_TEXT_FIELDS + _NORMALIZED_FIELDS))


def _rows(lines: Sequence[str], folders: Sequence[Path]) -> list[list[str]]:
    """The fields of `lines`, without surrounding spaces."""
    if any("|" in line for line in lines):
        return [[field.strip() for field in line.split("|")] for line in lines]
    whole = [[line.strip()] for line in lines]
    for separator in "\t,":
        if not all(separator in line for line in lines):
            continue
        if separator == "\t":
            found = [line.split("\t") for line in lines]
        else:
            try:
                found = [row for row in csv.reader(io.StringIO("\n".join(lines)), skipinitialspace=True) if row]
            except csv.Error:
                continue
        found = [[field.strip() for field in row] for row in found]
        if _is_header(found[0]) or _known(found, folders) > _known(whole, folders):
            return found
    return whole


def _known(rows: Sequence[Sequence[str]], folders: Sequence[Path]) -> int:
    names = [row[0] for row in rows[:_SAMPLED]]
    return max((_count_found(names, folder, dropped) for folder in folders for dropped in range(2)), default=0)


def _unnamed_lines(rows: Sequence[Sequence[str]], normalized: bool) -> list[Line]:
    wide = [row for row in rows if len(row) > 2]
    text, speaker = 1, None
    if wide:
        columns = list(zip(*(row[: min(map(len, wide))] for row in wide), strict=True))
        shares = [sum(map(_looks_like_text, column)) / len(wide) for column in columns]
        text = max(range(1, len(columns)), key=lambda place: (shares[place], -place))
        others = (
            place
            for place in range(1, len(columns))
            if place != text and all(columns[place]) and not any(" " in field for field in columns[place])
        )
        speaker = next(others, None) if shares[text] > 0.5 else None
    lines = []
    for row in rows:
        fields = [*row, *[""] * (text + 3 - len(row))]
        name = fields[text + 2] if normalized and speaker is None else ""
        if speaker is not None and speaker < len(row):
            name = fields[speaker]
        written = fields[text + 1] if normalized and speaker != text + 1 else ""
        lines.append(Line(row[0], written or fields[text], name))
    return lines


def _looks_like_text(field: str) -> bool:
    return " " in field or not field.isascii() or field.endswith((".", "?", "!", ","))


def _json_lines(listing: Path, lines: Sequence[str], normalized: bool) -> list[Line]:
    found = []
    for number, line in enumerate(lines, 1):
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
                f"{listing}, line {number} is a part of a recording (its offset is {row['offset']!r} s); each line "
                "should be a whole file. Cut the recordings."
            )
        found.append(_named_line(row, normalized))
    return found


def _named_line(row: Mapping[str, object], normalized: bool) -> Line:
    plain, written = _named(row, _TEXT_FIELDS), _named(row, _NORMALIZED_FIELDS)
    text = (written or plain) if normalized else (plain or written)
    return Line(_named(row, _AUDIO_FIELDS), text, _named(row, _SPEAKER_FIELDS))


def _named(row: Mapping[str, object], names: Sequence[str]) -> str:
    """The first value of `row` under one of `names` that is not empty, as text on one line."""
    values = (row.get(name) for name in names)
    return next((" ".join(str(value).split()) for value in values if value is not None and str(value).strip()), "")


def locate(names: Sequence[str], folders: Sequence[Path]) -> dict[str, Path] | None:
    """The audio file of each of `names`, paths in a list; `None` if none of the first ones is found.

    Files are searched in each of `folders`, with the folders in the names, and then without the first ones of them, if
    the names stay different. The same folder, and the same number of folders left out, are used for all names.
    """
    sample = list(dict.fromkeys(names))[:_SAMPLED]
    deepest = max((len(audio_path(name).parts) for name in sample), default=0)
    best, most = None, 0
    for dropped in range(min(deepest, _MOST_FOLDERS) + 1):  # the last one leaves out a path with `..`
        if dropped and len({_inside(name, dropped) for name in names}) < len(set(names)):
            break
        for folder in folders:
            if (count := _count_found(sample, folder, dropped)) > most:
                best, most = (folder, dropped), count
        if most == len(sample):
            break
    if best is None:
        return None
    folder, dropped = best
    return {name: with_stem(folder, _inside(name, dropped)) for name in names}


def _count_found(names: Sequence[str], folder: Path, dropped: int) -> int:
    return sum(has_stem(folder, _inside(name, dropped)) for name in names)


def _inside(name: str, dropped: int) -> str:
    """The path `name` without its first `dropped` folders, with `/` between names."""
    if not dropped:
        return name.replace("\\", "/")
    parts = audio_path(name).parts
    return "/".join(parts[min(dropped, len(parts) - 1) :])


def list_ids(names: Sequence[str]) -> list[str]:
    """The ids of listed paths: without suffix, and without the folders that all absolute paths share."""
    paths = [audio_path(name) for name in names]
    shared = shared_folders([path.parts for path in paths if path.absolute])
    return ["/".join(path.parts[len(shared) if path.absolute else 0 :]) for path in paths]


def audio_path(name: str) -> AudioPath:
    """The names in the path `name`, of POSIX or Windows, without `..` and the suffix of the audio file."""
    path = PureWindowsPath(name)  # parses drives and both kinds of slashes
    names: list[str] = []
    for part in path.parts[bool(path.anchor) :]:
        if part != "..":
            names.append(part)
        elif names:
            names.pop()
    if names and PurePosixPath(names[-1]).suffix.lower() in AUDIO_SUFFIXES:
        names[-1] = PurePosixPath(names[-1]).stem
    return AudioPath(bool(path.anchor), tuple(names))


def shared_folders(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders with which all `paths` start."""
    if not paths:
        return ()
    first, last = min(path[:-1] for path in paths), max(path[:-1] for path in paths)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:same] if same is not None else min(first, last, key=len)


def with_stem(folder: Path, name: str) -> Path:
    """The audio file `name` in `folder`, with or without suffix, whose case may differ; else the path of a WAV file."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in AUDIO_SUFFIXES:
        stem, suffix = name, ""
    options = [folder / f"{stem}{option}" for option in _spellings(suffix)]
    return next((path for path in options if is_file(path)), options[0])


def _spellings(suffix: str) -> Iterator[str]:
    yield from (suffix,) if suffix else ()
    for option in (suffix.lower(),) if suffix else AUDIO_SUFFIXES:
        yield from (option, option.upper(), f".{option[1:].capitalize()}")


def has_stem(folder: Path, name: str) -> bool:
    """Whether the audio file `name` is in `folder`, with or without suffix."""
    return is_file(with_stem(folder, name))


def is_file(path: Path) -> bool:
    """Whether `path` is a file. `Path.is_file` raises for names that the system refuses, such as too long ones."""
    try:
        return os.path.isfile(path)
    except ValueError:
        return False
