"""Readers of the CSV and JSON files of the Montreal Forced Aligner, which leave out silence."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from jaxvoice.data.alignments.alignment import LARGEST_GAP, AlignmentError, Interval
from jaxvoice.data.alignments.text_files import parse_number, read_text_file

_COLUMNS = ("begin", "end", "label", "type")
_HEAD = 2000  # characters in which a JSON file names its tiers


def is_mfa_table(path: Path) -> bool:
    """Whether the first line of the CSV file at `path` contains the columns `Begin`, `End`, `Label` and `Type`."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(_HEAD)
    except OSError:
        return False
    return set(_COLUMNS) <= {name.strip().lower() for name in header.split(",")}


def is_mfa_json(path: Path) -> bool:
    """Whether the JSON file at `path` starts as an object with `tiers`."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.lstrip().startswith("{") and '"tiers"' in head


def read_mfa_table(path: str | Path, seconds: float | None = None) -> list[Interval]:
    """Read the phones of a CSV file with the columns `Begin`, `End`, `Label` and `Type` (`mfa align` with `csv`).

    Gaps are silence, and so is the end of a recording of `seconds`, if given.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, contains no phones, or a time is not a
    number.
    """
    path = Path(path)
    rows = csv.reader(io.StringIO(read_text_file(path), newline=""), skipinitialspace=True)
    found: list[Interval] = []
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        places = [header.index(name) for name in _COLUMNS]
        for row in filter(None, rows):
            start, end, label, kind = (row[place] for place in places)
            if kind.strip().lower() in ("phones", "phone"):
                times = (parse_number(text, path, f"a time in line {rows.line_num}") for text in (start, end))
                found.append(Interval(label, *times))
    except (csv.Error, ValueError, IndexError) as failure:
        raise AlignmentError(
            "broken", f"{path} is not a table of the Montreal Forced Aligner ({failure}); export it again."
        ) from failure
    return _with_silence(path, found, seconds)


def read_mfa_json(path: str | Path) -> list[Interval]:
    """Read the tier `phones`, or `<speaker> - phones`, of a JSON file (`mfa align` with `json`, or praatio).

    Gaps are silence, and so is the end of the recording.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, has another structure, or does not have
    exactly one such tier.
    """
    path = Path(path)
    try:
        content = json.loads(read_text_file(path))
        tiers = content["tiers"]
        named = tiers.items() if isinstance(tiers, dict) else [(tier["name"], tier) for tier in tiers]
        entries = {str(name): tier["entries"] for name, tier in named}
        chosen = phone_tier(path, list(entries))
        intervals = [Interval(str(label), float(start), float(end)) for start, end, label in entries[chosen]]
        end = content.get("end", content.get("xmax"))
        return _with_silence(path, intervals, None if end is None else float(end))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as failure:
        raise AlignmentError(
            "broken",
            f"{path} does not have the structure of the Montreal Forced Aligner ({failure!r}); export it again.",
        ) from failure


def phone_tier(path: Path, names: Sequence[str], tier: str = "phones", others: Iterable[str] = ()) -> str:
    """The name of the tier of phones among `names`, interval tiers of the file at `path`.

    It is `tier` or `<speaker> - <tier>`; for the tier `phones`, also `phone` in place of `phones`, or else the only
    tier. `others` are the names of other tiers, for the message.

    **Raises:** `AlignmentError` if there is no such tier, or there are several.
    """
    wanted = ("phones", "phone") if tier == "phones" else (tier,)
    found = [
        name for name in names if any(name.lower() == item or name.lower().endswith(f" - {item}") for item in wanted)
    ]
    if not found and tier == "phones" and len(names) == 1:
        return names[0]
    if len(found) != 1:
        listed = ", ".join(map(repr, (*names, *others))) or "none"
        raise AlignmentError(
            "broken", f"{path} has {len(found)} interval tiers {tier!r} (its tiers: {listed}); it should have one."
        )
    return found[0]


def _with_silence(path: Path, intervals: list[Interval], end: float | None) -> list[Interval]:
    """`intervals` in order of time, with silence in the gaps and up to `end` (seconds)."""
    if not intervals:
        raise AlignmentError("broken", f"{path} contains no phones; align it again.")
    ordered = sorted(intervals, key=lambda interval: interval.start)
    last = Interval("", ordered[-1].end if end is None else end, 0.0)
    filled: list[Interval] = []
    for before, after in pairwise([Interval("", 0.0, 0.0), *ordered, last]):
        if after.start - before.end > LARGEST_GAP:
            filled.append(Interval("", before.end, after.start))
        filled.append(after)
    return filled[:-1]
