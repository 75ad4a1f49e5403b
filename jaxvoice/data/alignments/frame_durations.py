"""Conversion of boundaries in seconds to durations in frames, whose sum is the length of the mel spectrogram."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError
from jaxvoice.errors import ShapeError
from jaxvoice.text.phonemes import PAUSE

MAX_LENGTH_DIFFERENCE = 8  # frames


class PhoneDurations(NamedTuple):
    """The phones of an utterance and the number of frames of each, at least 1."""

    phones: tuple[str, ...]
    frames: Int64[np.ndarray, " phones"]


def durations_in_frames(alignment: Alignment, frames: int, *, sample_rate: int, hop_length: int) -> PhoneDurations:
    """Durations of `alignment` in frames of `hop_length` samples at `sample_rate` (Hz), whose sum is `frames`.

    Boundaries, not durations, are rounded to the nearest frame, so errors do not accumulate. A pause of no frames is
    removed. Any other phone of no frames takes one from the nearest phone of more than one frame, and from the longer
    of two equally near phones. Then the sum is adjusted to `frames`, the length of the mel: missing frames are added to
    the last phone, and surplus frames are removed from the last phones, each of which keeps one.

    **Raises:** `AlignmentError` (a `DataError`) if the alignment is more than 8 frames shorter or longer than the mel,
    or there are more phones than frames.
    """
    edges = np.rint(alignment.boundaries * (sample_rate / hop_length)).astype(np.int64)
    missing = frames - int(edges[-1])
    if abs(missing) > MAX_LENGTH_DIFFERENCE:
        raise AlignmentError(
            "length",
            f"{alignment.id} is aligned up to {alignment.seconds:.3f} s ({edges[-1]} frames), and its audio has "
            f"{frames} frames, {frames * hop_length / sample_rate:.3f} s; they should differ by at most "
            f"{MAX_LENGTH_DIFFERENCE} frames.",
        )
    pairs = zip(alignment.phones, np.diff(edges), strict=True)
    kept = [(phone, int(length)) for phone, length in pairs if length or phone != PAUSE]
    phones, lengths = tuple(phone for phone, _ in kept), np.array([length for _, length in kept], np.int64)
    if not phones or len(phones) > min(frames, int(lengths.sum())):
        raise AlignmentError(
            "too fast",
            f"{alignment.id} has {len(phones)} phones in {frames} frames; it should have at most one phone a frame. "
            "Use a shorter hop.",
        )
    for index in np.flatnonzero(lengths == 0):
        lengths[_nearest_long_phone(lengths, int(index))] -= 1
        lengths[index] = 1
    if missing > 0:
        lengths[-1] += missing
    for index in range(len(lengths) - 1, -1, -1):
        surplus = int(lengths.sum()) - frames
        if surplus <= 0:
            break
        lengths[index] -= min(surplus, int(lengths[index]) - 1)
    return PhoneDurations(phones, lengths)


def validate_durations(durations: Any, phones: int) -> Int64[np.ndarray, " phones"]:
    """`durations` as an array; raises `ShapeError` unless they are `phones` whole numbers of at least 1."""
    try:
        frames = np.asarray(durations)
    except ValueError:  # sequences of different lengths
        frames = np.asarray(durations, object)
    if frames.shape != (phones,):
        raise ShapeError(
            f"durations has shape {frames.shape}; it should have shape ({phones},), one duration per phoneme."
        )
    if frames.dtype.kind not in "iu":
        raise ShapeError(f"durations has type {frames.dtype}; it should be whole numbers of frames. Round them first.")
    if frames.min() < 1:
        place = int(frames.argmin())
        raise ShapeError(f"The duration of phoneme {place + 1} is {frames[place]}; it should be at least 1 frame.")
    return frames.astype(np.int64)


def _nearest_long_phone(lengths: Int64[np.ndarray, " phones"], index: int) -> int:
    """The phone of more than one frame that is nearest to phone `index`; the longer of two equally near phones."""
    able = np.flatnonzero(lengths > 1)
    distance = np.abs(able - index)
    nearest = able[distance == distance.min()]
    return int(nearest[np.argmax(lengths[nearest])])
