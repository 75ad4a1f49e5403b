"""Silence in a recording, and which pauses of a line of phonemes it speaks for."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.pipelines.warping import natural_logarithms, whole_frames
from jaxvoice.text.phonemes import PAUSE

# Seconds. Below, silence is the closure of a stop, or none at all.
_SHORTEST, _SHORTEST_NEW, _SHORTEST_AT_STOPS = 0.035, 0.06, 0.13
# Seconds by which a boundary may lie beside the silence that it belongs to.
_SLACK = 0.05
_STOPS = frozenset(["B", "CH", "D", "G", "JH", "K", "P", "T"])


class Row(NamedTuple):
    """Phonemes, and with which of them a word begins."""

    codes: tuple[str, ...]
    word_starts: Bool[np.ndarray, " phones"]


def quiet_frames(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> Bool[np.ndarray, " frames"]:
    """Which frames of a recording are silent: nearer to its quietest frames than to its loudest.

    The threshold is a quarter of the way up in decibels, from 25 to 60 dB below the loudest.
    """
    level = 20 * np.log10(np.exp(natural_logarithms(mel, config)).mean(axis=0))
    low, high = np.percentile(level, [2, 95])
    return level < np.clip(low + 0.25 * (high - low), high - 60, high - 25)


def runs(flags: Bool[np.ndarray, " frames"]) -> Int64[np.ndarray, "runs 2"]:
    """Where `flags` are true: first frame and the one behind the last, for each run."""
    steps = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1).astype(np.int64)


def silence_around(quiet: Bool[np.ndarray, " frames"]) -> tuple[int, int]:
    """How many frames are silent before the first that is not, and after the last; none where all are."""
    loud = np.flatnonzero(~quiet)
    return (int(loud[0]), len(quiet) - 1 - int(loud[-1])) if loud.size else (0, 0)


def with_outer_pauses(row: Row, quiet: Bool[np.ndarray, " frames"], rate: float) -> Row:
    """`row` with one pause at each end where the recording is silent there, and none where it is not.

    `rate` is the number of frames in a second.
    """
    codes, starts = list(row.codes), list(row.word_starts)
    least = max(1, math.ceil(_SHORTEST * rate))
    for place, silence in zip((0, -1), silence_around(quiet), strict=True):
        if (codes[place] == PAUSE) == (silence >= least):
            continue
        if silence < least and len(codes) > 1:
            del codes[place], starts[place]
        elif silence >= least:
            where = 0 if place == 0 else len(codes)
            codes.insert(where, PAUSE)
            starts.insert(where, np.False_)
    return Row(tuple(codes), np.array(starts))


def with_inner_pauses(
    row: Row, durations: Int64[np.ndarray, " phones"], quiet: Bool[np.ndarray, " frames"], rate: float
) -> tuple[Row, Int64[np.ndarray, " phones"]]:
    """`row` without pauses at which the recording is not silent, and with those between words at which it is.

    **Arguments:** `durations`, what was found so far, in frames, of which there are `rate` in a second.

    **Returns:** the row, and its durations, which add up to the same.
    """
    slack, spans = round(_SLACK * rate), runs(quiet)
    edges = np.concatenate([[0], np.cumsum(durations)])
    last = len(row.codes) - 1
    found = {
        place: _longest(spans, edges[place] - slack, edges[place + 1] + slack)
        for place, code in enumerate(row.codes)
        if code == PAUSE and 0 < place < last
    }
    dropped = {place for place, (_, length) in found.items() if length < _SHORTEST * rate}
    taken = {begin for place, (begin, _) in found.items() if place not in dropped}
    new = _new_pauses(row, edges, spans, taken, rate)
    codes: list[str] = []
    starts: list[bool] = []
    times: list[float] = []
    moved: float | None = None
    for place, code in enumerate(row.codes):
        if place in dropped:
            moved = (edges[place] + edges[place + 1]) / 2  # where the next phoneme begins
            continue
        if place in new:
            begin, length = new[place]
            codes.append(PAUSE)
            starts.append(False)
            times.append(begin)
            moved = begin + length
        codes.append(code)
        starts.append(bool(row.word_starts[place]))
        times.append(edges[place] if moved is None else moved)
        moved = None
    frames = int(edges[-1])
    return Row(tuple(codes), np.array(starts)), whole_frames(np.array([*times, frames], np.float64), frames)


def _new_pauses(
    row: Row, edges: Int64[np.ndarray, " edges"], spans: Int64[np.ndarray, "runs 2"], taken: set[int], rate: float
) -> dict[int, tuple[int, int]]:
    """First frame and length of the silence before each word that should get a pause.

    Silence at the ends and that of the pauses that there are (which begins with the frames `taken`) gives none. Any
    other gives one before every word that begins near it: of these, warping shows which is silent.
    """
    slack, found = round(_SLACK * rate), dict[int, tuple[int, int]]()
    for place in range(1, len(row.codes)):
        around = {row.codes[place - 1], row.codes[place]}
        if not row.word_starts[place] or PAUSE in around:
            continue
        begin, length = _longest(spans, edges[place] - slack, edges[place] + slack)
        least = _SHORTEST_AT_STOPS if around & _STOPS else _SHORTEST_NEW
        if length < least * rate or begin in taken or begin == 0 or begin + length == edges[-1]:
            continue
        found[place] = begin, length
    return found


def _longest(spans: Int64[np.ndarray, "runs 2"], start: int, stop: int) -> tuple[int, int]:
    """First frame and length of the longest of `spans` that touches the frames from `start` to `stop`."""
    near = spans[(spans[:, 0] <= stop) & (spans[:, 1] >= start)]
    if not len(near):
        return 0, 0
    begin, end = near[np.argmax(near[:, 1] - near[:, 0])]
    return int(begin), int(end - begin)
