"""Readers of alignments in text files: HTK and HTS labels, CSV tables, and the JSON files of LJ-Speech-aligned."""

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

from jaxvoice.data.alignments.alignment import AlignmentError, Interval
from jaxvoice.text.custom_words import split_lines

COLUMNS = ("phone", "start_s", "end_s")
UNITS_PER_SECOND = 10_000_000
_MOST_BYTES = 64 * 2**20
_CONTEXT = re.compile(r"[^-]*-([^-+]+)\+")
_STRESS = re.compile(r"/B:([01])[-_]")
_STATE = re.compile(r"(.*)\[(\d+)\]")
_VOWELS = frozenset(("aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"))


def read_text_file(path: Path) -> str:
    """Read the text file at `path`, in UTF-16 or UTF-8, with or without a byte order mark.

    Text without a mark is UTF-16 if every other byte of its beginning is 0, as in files of Praat.

    **Raises:** `AlignmentError` if it cannot be read, is larger than 64 MiB, or is not text of this encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as failure:
        raise AlignmentError("broken", f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    if len(data) > _MOST_BYTES:
        raise AlignmentError(
            "broken", f"{path} is too large for an alignment; it should have at most {_MOST_BYTES:,} bytes."
        )
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as failure:
        kind = "UTF-16" if encoding.startswith("utf-16") else "UTF-8"
        raise AlignmentError("broken", f"{path} is not {kind} text ({failure.reason}); save it as UTF-8.") from failure


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:16]
    if len(head) > 1 and 0 not in head[::2] and not any(head[1::2]):
        return "utf-16-le"
    if len(head) > 1 and 0 not in head[1::2] and not any(head[::2]):
        return "utf-16-be"
    return "utf-8-sig"


def parse_number(text: str, path: Path, name: str) -> float:
    """Parse `text`, the value called `name` of the file at `path`, as a number.

    **Raises:** `AlignmentError` if it is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise AlignmentError(
            "broken", f"{path}: {name} is {text[:40]!r}; it should be a number. Correct the file."
        ) from None


def read_labels(path: str | Path) -> list[Interval]:
    """Read the intervals of a `.lab` file of HTK or HTS.

    The phone of a full-context label is the part between `-` and `+`. A vowel without a stress digit gets the stress of
    its syllable, the first number after `/B:`. The states of a phone (`label[2]`, `label[3]`, ...) are merged into one
    interval. Fields after the label, such as scores or words, are ignored.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, is a master label file or an xwaves file,
    has several transcriptions, or a line of another form.

    Source: the HTK Book, section 6.2.1; HTS, `lab_format.pdf`.
    """
    path = Path(path)
    intervals: list[Interval] = []
    state = 0
    for row, line in enumerate(split_lines(read_text_file(path)), 1):
        fields = line.split()
        if not fields:
            continue
        if fields[0] in ("#!MLF!#", "#", "///", "."):
            raise AlignmentError(
                "broken",
                f"{path} is not a plain label file (line {row} is {line.strip()[:40]!r}); write one per utterance.",
            )
        if len(fields) < 3 or not all(field.isdecimal() and len(field) < 20 for field in fields[:2]):
            raise AlignmentError(
                "broken",
                f"{path}, line {row} is {line.strip()[:40]!r}; it should be 'start end label', with times in whole "
                "units of 100 ns.",
            )
        start, end = (int(field) / UNITS_PER_SECOND for field in fields[:2])
        label, before = fields[2], state
        if match := _STATE.fullmatch(label):
            label, state = match.group(1), int(match.group(2))
        else:
            state = 0
        label = _phone(label)
        if state > before > 0 and intervals[-1].label == label:
            intervals[-1] = intervals[-1]._replace(end=end)
        else:
            intervals.append(Interval(label, start, end))
    if not intervals:
        raise AlignmentError("broken", f"{path} contains no labels; write it again.")
    return intervals


def read_table(path: str | Path) -> list[Interval]:
    """Read the intervals of a CSV file with the columns `phone`, `start_s` and `end_s` (seconds).

    The first line contains the names of the columns, which may be in any order. Other columns are ignored.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, a column is missing, or a time is not a
    number.
    """
    path = Path(path)
    rows = csv.DictReader(io.StringIO(read_text_file(path), newline=""), skipinitialspace=True)
    intervals = []
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise AlignmentError(
                "broken", f"{path} lacks the column {missing[0]!r}; its first line should be phone,start_s,end_s."
            )
        for row in rows:
            values = [row[name] for name in COLUMNS]
            if None in values:
                raise AlignmentError(
                    "broken", f"{path}, line {rows.line_num} has fewer values than columns; correct the file."
                )
            times = [parse_number(value, path, f"a time in line {rows.line_num}") for value in values[1:]]
            intervals.append(Interval(values[0], *times))
    except csv.Error as failure:
        raise AlignmentError("broken", f"{path} is not a table ({failure}); export it again.") from failure
    if not intervals:
        raise AlignmentError("broken", f"{path} contains no phones; write it again.")
    return intervals


class AlignedJson(NamedTuple):
    """The content of a JSON file of LJ-Speech-aligned."""

    intervals: list[Interval]
    text: str


def read_lj_aligned(path: str | Path) -> AlignedJson:
    """Read the phones of all words, and the text, from a file `<id>.json`.

    The file contains `text` and `utterance`: `words`, each with `phones`: `phone`, `onset` (ms), `duration` (ms).
    Onsets do not change, so gaps from rounding are closed in the same way as by the published reader of the corpus.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read or has another structure. 29 of the 13,100
    files have no `utterance`.
    """
    path = Path(path)
    try:
        content = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as failure:
        raise AlignmentError("broken", f"{path} is not valid JSON ({failure}); copy it again.") from failure
    if not isinstance(content, dict) or not content.get("utterance"):
        raise AlignmentError("no alignment", f"{path} has no 'utterance'; the corpus contains no alignment of it.")
    try:
        phones = [phone for word in content["utterance"]["words"] for phone in word.get("phones", ())]
        intervals = []
        for phone in phones:
            start, length = float(phone["onset"]), float(phone["duration"])
            intervals.append(Interval(str(phone["phone"]), start / 1000, (start + length) / 1000))
        return AlignedJson(intervals, str(content.get("text", "")))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as failure:
        raise AlignmentError(
            "broken", f"{path} does not have the expected structure ({failure!r}); copy it again."
        ) from failure


def _phone(label: str) -> str:
    context = _CONTEXT.match(label)
    if context is None:
        return label
    phone, stress = context.group(1), _STRESS.search(label)
    return phone + stress.group(1) if stress and phone.lower() in _VOWELS else phone
