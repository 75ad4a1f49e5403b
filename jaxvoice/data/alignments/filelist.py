"""Lists of aligned utterances with lines `text|starts|durations|codes|wav`, times in spectrogram frames."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvoice.data.alignments.alignment import AlignmentError, Interval
from jaxvoice.data.alignments.text_files import read_text_file
from jaxvoice.data.listed_audio import AUDIO_FOLDERS, audio_path, shared_folders
from jaxvoice.text.custom_words import split_lines

_LONGEST_LINE = 2**16  # characters of a line that are read to recognise a list
HOP_SECONDS = 256 / 22050


class ListedUtterance(NamedTuple):
    """A line of a list: its number from 1 on, the text, the name of the audio file, and all fields."""

    row: int
    text: str
    audio: str
    fields: tuple[str, ...]


def read_filelist(path: str | Path) -> list[ListedUtterance]:
    """Read the lines of the list at `path`, in order. Empty lines are skipped.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, is empty, or has no line of five fields.
    """
    path = Path(path)
    rows = enumerate(split_lines(read_text_file(path)), 1)
    lines = [_listed(row, line.split("|")) for row, line in rows if line.strip()]
    if not any(len(line.fields) == 5 for line in lines):
        raise AlignmentError(
            "broken",
            f"{path} has no line of the form 'text|starts|durations|codes|wav'; pass a list of aligned utterances. "
            "`jaxvoice align` aligns recordings with their texts (docs/aligning.md).",
        )
    return lines


def is_filelist(path: Path) -> bool:
    """Whether the file at `path` starts with a line of the form `text|starts|durations|codes|wav`."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            line = next((line for line in iter(lambda: file.readline(_LONGEST_LINE), "") if line.strip()), "")
    except OSError:
        return False
    fields = line.strip().split("|")
    counts = [len(field.split()) for field in fields[1:4]]
    return len(fields) == 5 and counts[0] == counts[1] == counts[2] and not set(fields[1]) - set("0123456789 ")


def utterance_ids(lines: Iterable[ListedUtterance]) -> list[str]:
    """The id of each of `lines`: the path of its audio without suffix and `..`, with `/` between folders.

    A first folder `wavs`, `wav` or `audio` is removed: `wavs/p225/001.wav` becomes `p225/001`. If all relative paths
    share the folders up to such a folder, these are removed too, and so are the folders that all absolute paths share.
    The id of a line without audio is its number.
    """
    lines = list(lines)
    found = [audio_path(line.audio) for line in lines]
    whole = [(absolute, parts) for line, (absolute, parts) in zip(lines, found, strict=True) if len(line.fields) == 5]
    far = shared_folders([parts for absolute, parts in whole if absolute])
    near = shared_folders([parts for absolute, parts in whole if not absolute])
    near = near[: max((place for place, name in enumerate(near, 1) if name in AUDIO_FOLDERS), default=0)]
    ids: list[str] = []
    for line, (absolute, parts) in zip(lines, found, strict=True):
        shared = far if absolute else near
        inside = parts[len(shared) :] if parts[: len(shared)] == shared and len(parts) > len(shared) else parts
        if len(inside) > 1 and inside[0] in AUDIO_FOLDERS:
            inside = inside[1:]
        ids.append("/".join(inside) or f"line {line.row}")
    return ids


def parse_line(line: ListedUtterance, path: Path, frame_seconds: float = HOP_SECONDS) -> list[Interval]:
    """Parse the intervals of `line`. A frame lasts `frame_seconds`, by default 256 samples at 22,050 Hz.

    **Raises:** `AlignmentError` (a `DataError`) if the line does not have five fields, or the numbers of starts,
    durations and codes differ, or a start or duration is not a whole number.

    Source: ivanvovk/durian-pytorch `data.py`.
    """
    where = f"{path}, line {line.row}"
    if len(line.fields) != 5:
        raise AlignmentError(
            "broken",
            f"{where} has {len(line.fields)} field(s); it should have 5, text|starts|durations|codes|wav. Correct it.",
        )
    try:
        starts, lengths = (np.array(field.split(), np.int64).tolist() for field in line.fields[1:3])
    except (ValueError, OverflowError) as failure:
        raise AlignmentError(
            "broken", f"{where} has starts or durations that are not whole numbers ({failure}); correct the line."
        ) from failure
    codes = line.fields[3].split()
    if not len(starts) == len(lengths) == len(codes):
        raise AlignmentError(
            "broken",
            f"{where} has {len(starts)} start(s), {len(lengths)} duration(s) and {len(codes)} "
            "code(s), which should be equal numbers; correct the line.",
        )
    return [
        Interval(code, start * frame_seconds, (start + length) * frame_seconds)
        for code, start, length in zip(codes, starts, lengths, strict=True)
    ]


def _listed(row: int, fields: list[str]) -> ListedUtterance:
    return ListedUtterance(row, fields[0].strip(), fields[-1].strip(), tuple(fields))
