"""Lists with one aligned utterance per line: `text|starts|durations|codes|wav`, times in spectrogram frames."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvoice.data.aligned.alignment import Interval, Misfit
from jaxvoice.data.aligned.files import read_text

HOP_SECONDS = 256 / 22050


class Line(NamedTuple):
    """A line of a list: its number from 1 on, the text, the name of the audio file, and the line itself."""

    row: int
    text: str
    audio: str
    fields: tuple[str, ...]


def read_filelist(path: str | Path) -> list[Line]:
    """The lines of the list at `path`, in order; empty ones are skipped.

    **Raises:** `Misfit` (a `DataError`) if the file cannot be read, is empty, or has no line of five fields.
    """
    path = Path(path)
    rows = enumerate(read_text(path).splitlines(), 1)
    lines = [Line(row, *_outer(line.split("|")), tuple(line.split("|"))) for row, line in rows if line.strip()]
    if not any(len(line.fields) == 5 for line in lines):
        raise Misfit("broken", f"{path} has no line of the form 'text|starts|durations|codes|wav'; give such a list.")
    return lines


def parse_line(line: Line, path: Path, frame_seconds: float = HOP_SECONDS) -> list[Interval]:
    """The intervals of `line`; a frame lasts `frame_seconds` (256 samples at 22,050 Hz).

    **Raises:** `Misfit` (a `DataError`) if it does not have five fields, or as many starts as durations and codes, or
    if a start or duration is no whole number.

    Source: ivanvovk/durian-pytorch `data.py`.
    """
    where = f"{path}, line {line.row}"
    if len(line.fields) != 5:
        raise Misfit("broken", f"{where} has {len(line.fields)} fields instead of 5; mend the line.")
    try:
        starts, lengths = (np.array(field.split(), np.int64).tolist() for field in line.fields[1:3])
    except (ValueError, OverflowError) as failure:
        raise Misfit("broken", f"{where}: starts and durations should be whole frames ({failure}).") from failure
    codes = line.fields[3].split()
    if not len(starts) == len(lengths) == len(codes):
        raise Misfit(
            "broken",
            f"{where} has {len(starts)} starts, {len(lengths)} durations and {len(codes)} codes; mend the line.",
        )
    return [
        Interval(code, start * frame_seconds, (start + length) * frame_seconds)
        for code, start, length in zip(codes, starts, lengths, strict=True)
    ]


def _outer(fields: list[str]) -> tuple[str, str]:
    return fields[0].strip(), fields[-1].strip()
