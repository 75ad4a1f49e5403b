"""Alignments, the phones of an utterance with their times, and their construction from labelled intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from jaxvoice.errors import DataError, TextError
from jaxvoice.text.phonemes import PAUSE

LARGEST_GAP = 1e-3  # seconds; rounding to milliseconds leaves gaps and overlaps of this size
_LONGEST = 1e6  # seconds; longer times are errors, and numbers of frames would overflow


class AlignmentError(DataError):
    """An utterance cannot be used because of its alignment. Reasons are counted by `kind`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Interval(NamedTuple):
    """A label, as in the file, and its start and end in seconds."""

    label: str
    start: float
    end: float


class PhoneShare(NamedTuple):
    """A phone of a label, and its share of the label's duration. The shares of a label add up to 1."""

    code: str
    share: float


@dataclass(frozen=True, eq=False)
class Alignment:
    """The phones of utterance `id` without gaps or overlaps.

    Phone i lasts from `boundaries[i]` to `boundaries[i + 1]`, in seconds. `boundaries` `(phones + 1,)` float64 starts
    at 0 and does not decrease.

    **Raises:** `AlignmentError` (a `DataError`) for other boundaries, or no phones.
    """

    id: str
    phones: tuple[str, ...]
    boundaries: Float64[np.ndarray, " boundaries"]

    def __post_init__(self):
        edges = self.boundaries
        if not self.phones or edges.shape != (len(self.phones) + 1,):
            raise AlignmentError(
                "broken",
                f"{self.id} has boundaries of shape {edges.shape} for {len(self.phones)} phones; it should have at "
                "least one phone, and one boundary more than phones.",
            )
        if not (edges[0] == 0 and edges[-1] < _LONGEST and (np.diff(edges) >= 0).all()):
            raise AlignmentError(
                "broken",
                f"{self.id} has the boundaries {edges[:5]}...; they should rise from 0. Align it again.",
            )

    @property
    def seconds(self) -> float:
        """End of the last phone, in seconds."""
        return float(self.boundaries[-1])


def align_intervals(
    name: str, intervals: Sequence[Interval], parts: Callable[[str], Sequence[PhoneShare]]
) -> Alignment:
    """Make the alignment of utterance `name` from `intervals` in order of time.

    `parts` returns the phones of a label, and raises `DataError` or `TextError` for unknown labels. A label without
    phones lengthens the phone before it. Gaps and overlaps of at most a millisecond are closed at the start of the
    later interval, and a gap before the first interval is added to it. Adjacent pauses are merged, and pauses without
    duration are removed.

    **Raises:** `AlignmentError` for no phones, times that are not finite or decrease, larger gaps and overlaps, and
    unknown labels.
    """
    if not intervals:
        raise AlignmentError("broken", f"{name} has no phones; align it again.")
    _check(name, intervals)
    edges = [0.0, *(after.start for after in intervals[1:]), intervals[-1].end]
    phones: list[str] = []
    starts: list[float] = []
    for interval, (start, end) in zip(intervals, pairwise(edges), strict=True):
        try:
            found = parts(interval.label)
        except (DataError, TextError) as failure:
            reason = str(failure).replace(" (phoneme 1)", "")
            raise AlignmentError("unknown phone", f"{name}, at {start:.3f} s: {reason}") from failure
        passed = 0.0
        for part in found:
            silent = part.code == PAUSE
            if not (silent and (end <= start or (phones and phones[-1] == PAUSE))):
                phones.append(part.code)
                starts.append(start + passed * (end - start))
            passed += part.share
    if not phones:
        raise AlignmentError("broken", f"{name} has no phones; align it again.")
    starts[0] = 0.0
    boundaries = np.maximum.accumulate(np.array([*starts, edges[-1]], np.float64))
    return Alignment(name, tuple(phones), boundaries)


def _check(name: str, intervals: Sequence[Interval]) -> None:
    again = "align it again or correct its file"
    before = Interval("", 0.0, 0.0)
    for interval in intervals:
        label, start, end = interval
        if not start <= end < _LONGEST:
            raise AlignmentError("broken", f"{name}: {label!r} lasts from {start:g} to {end:g} s; {again}.")
        between = start - before.end
        where = f"before {label!r} at {start:.3f} s"
        if between > LARGEST_GAP + 1e-9:
            raise AlignmentError(
                "gap", f"{name} has a gap of {between:.3f} s {where}; write silence as 'pau', or {again}."
            )
        if between < -LARGEST_GAP - 1e-9 or start < before.start:
            raise AlignmentError("overlap", f"{name} has phones that overlap by {-between:.3f} s {where}; {again}.")
        before = interval
