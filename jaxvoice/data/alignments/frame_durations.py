"""From boundaries in seconds to whole frames that add up to the length of the mel spectrogram."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError
from jaxvoice.text.phonemes import PAUSE

MOST_FRAMES_OFF = 8


class PhoneDurations(NamedTuple):
    """The phones of an utterance and the number of frames of each, at least 1."""

    phones: tuple[str, ...]
    frames: Int64[np.ndarray, " phones"]


def durations_in_frames(alignment: Alignment, frames: int, *, sample_rate: int, hop_length: int) -> PhoneDurations:
    """Durations of `alignment` in frames of `hop_length` samples at `sample_rate` (Hz) that add up to `frames`.

    Boundaries are rounded to the nearest frame, not durations, so errors do not add up. A pause of no frames is
    removed. Any other phone of no frames takes one from the nearest phone that has more than one, of two as near from
    the longer. Then the sum is made `frames`, the length of the mel: missing frames are added to the last phone, and
    surplus frames are taken from the last phones, each of which keeps one.

    **Raises:** `AlignmentError` (a `DataError`) if the alignment is more than 8 frames shorter or longer than the mel,
    or there are more phones than frames.
    """
    edges = np.rint(alignment.boundaries * (sample_rate / hop_length)).astype(np.int64)
    missing = frames - int(edges[-1])
    if abs(missing) > MOST_FRAMES_OFF:
        raise AlignmentError(
            "length",
            f"{alignment.id} is aligned up to {alignment.seconds:.3f} s ({edges[-1]} frames), and its audio has "
            f"{frames} frames, {frames * hop_length / sample_rate:.3f} s; they may differ by {MOST_FRAMES_OFF} frames.",
        )
    pairs = zip(alignment.phones, np.diff(edges), strict=True)
    kept = [(phone, int(length)) for phone, length in pairs if length or phone != PAUSE]
    phones, lengths = tuple(phone for phone, _ in kept), np.array([length for _, length in kept], np.int64)
    if not phones or len(phones) > min(frames, int(lengths.sum())):
        raise AlignmentError(
            "too fast", f"{alignment.id} has {len(phones)} phones in {frames} frames; use a shorter hop."
        )
    for index in np.flatnonzero(lengths == 0):
        lengths[_lender(lengths, int(index))] -= 1
        lengths[index] = 1
    if missing > 0:
        lengths[-1] += missing
    for index in range(len(lengths) - 1, -1, -1):
        surplus = int(lengths.sum()) - frames
        if surplus <= 0:
            break
        lengths[index] -= min(surplus, int(lengths[index]) - 1)
    return PhoneDurations(phones, lengths)


def _lender(lengths: Int64[np.ndarray, " phones"], index: int) -> int:
    """The nearest phone of more than one frame, of two as near the longer; one exists where frames suffice."""
    able = np.flatnonzero(lengths > 1)
    distance = np.abs(able - index)
    nearest = able[distance == distance.min()]
    return int(nearest[np.argmax(lengths[nearest])])
