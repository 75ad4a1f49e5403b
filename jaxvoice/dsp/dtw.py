"""Dynamic time warping of recordings: features, paths, mapped boundaries and durations; and silent frames."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from jaxvoice.dsp.mel_config import MelConfig

# Decibels below the loudest frames. Lower values are background noise, which differs between recordings.
_RANGE = 60.0
# The steps of the path, in frames of both recordings.
_STEPS = np.array([[1, 1], [1, 0], [0, 1]])


class WarpedBoundaries(NamedTuple):
    """Boundaries in the target, and the cost of matching source and target."""

    edges: Float64[np.ndarray, " edges"]
    """Boundaries in frames of the target, not rounded."""
    cost: float
    """Mean distance of the paired frames."""


def time_warping_path(cost: Float[np.ndarray, "left right"]) -> Int64[np.ndarray, "steps 2"]:
    """The path of least cost from the first to the last entry of `cost`, with steps (1, 1), (1, 0) and (0, 1)."""
    from librosa.sequence import dtw

    _, path = dtw(C=cost, step_sizes_sigma=_STEPS, backtrack=True)
    return np.asarray(path[::-1], np.int64)


def natural_log_mel(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> Float64[np.ndarray, "mels frames"]:
    """Natural logarithms of mel magnitudes, for any logarithm, power and scale of the contract `config`."""
    factor = (1.0 if config.log == "ln" else math.log(10)) / config.power
    return (mel.astype(np.float64) - config.offset) * (factor / config.gain)


def dtw_features(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> Float64[np.ndarray, "features frames"]:
    """Features by which the frames of two voices are compared: log-mels and their slopes, standardised.

    Each row has zero mean and unit variance over the utterance, which removes most of the influence of voice,
    microphone and loudness. Values more than 60 dB below the loudest frames are clipped. On recordings of five voices
    with known boundaries, the errors were smaller than with cepstra, and than with steps or weights that favour the
    diagonal.
    """
    logs = natural_log_mel(mel, config)
    logs = np.maximum(logs, np.percentile(logs.max(axis=0), 95) - _RANGE / 20 * math.log(10))
    bands = _standardize(logs)
    wide = np.pad(bands, ((0, 0), (1, 1)), mode="edge")
    slopes = _standardize(wide[:, 2:] - wide[:, :-2])
    return np.concatenate([bands, slopes]) / math.sqrt(2 * len(bands))


def warp_boundaries(
    edges: Int64[np.ndarray, " edges"],
    source: Float[np.ndarray, "features source_frames"],
    target: Float[np.ndarray, "features target_frames"],
) -> WarpedBoundaries:
    """Map `edges`, boundaries between frames of `source`, to `target` by dynamic time warping.

    **Returns:** boundaries that never decrease. They start at 0 and end with the last frame of `target` if `edges`
    start at 0 and end with the last frame of `source`.

    Source: Malfrere and Dutoit 1997, "High-quality speech synthesis for phonetic speech segmentation".
    """
    squares = (source**2).sum(0)[:, None] + (target**2).sum(0)[None] - 2 * source.T @ target
    distances = np.sqrt(np.maximum(squares, 0))
    path = time_warping_path(distances)
    cost = float(distances[path[:, 0], path[:, 1]].mean())
    return WarpedBoundaries(map_boundaries(edges, path, source.shape[1], target.shape[1]), cost)


def map_boundaries(
    edges: Int64[np.ndarray, " edges"],
    path: Int64[np.ndarray, "steps 2"],
    source_frames: int,
    target_frames: int,
) -> Float64[np.ndarray, " edges"]:
    """Map `edges` from frames of the source to frames of the target along `path`, pairs of frames.

    The source frame before a boundary has a last paired target frame, and the source frame after it has a first one.
    The boundary is mapped to the middle between these two.
    """
    rows, first = np.unique(path[:, 0], return_index=True)
    low, high = path[first, 1], path[np.append(first[1:], len(path)) - 1, 1] + 1
    at = (rows[:-1] + 1 + rows[1:]) / 2
    to = (high[:-1] + low[1:]) / 2
    return np.interp(edges, [0.0, *at, source_frames], [0.0, *to, target_frames])


def durations_between(edges: Float[np.ndarray, " edges"], frames: int) -> Int64[np.ndarray, " intervals"]:
    """Durations in whole frames of the intervals between `edges`: at least 1 each, and `frames` in total.

    The boundaries are rounded to the nearest frames that allow this. There should be at most `frames` intervals.
    """
    order = np.arange(len(edges))
    shifted = np.maximum.accumulate(np.rint(edges).astype(np.int64) - order)
    shifted = np.clip(shifted, 0, frames - order[-1])
    shifted[0], shifted[-1] = 0, frames - order[-1]
    return np.diff(shifted + order)


def silent_frames(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> Bool[np.ndarray, " frames"]:
    """Mask of the silent frames of a recording, whose mel spectrogram follows `config`.

    The threshold is a quarter of the way from the quietest to the loudest frames in decibels, limited to 25 to 60 dB
    below the loudest.
    """
    level = 20 * np.log10(np.exp(natural_log_mel(mel, config)).mean(axis=0))
    low, high = np.percentile(level, [2, 95])
    return level < np.clip(low + 0.25 * (high - low), high - 60, high - 25)


def true_runs(flags: Bool[np.ndarray, " frames"]) -> Int64[np.ndarray, "runs 2"]:
    """The runs of true `flags`: the first frame of each run, and the frame after its last."""
    steps = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1).astype(np.int64)


def outer_silence(silent: Bool[np.ndarray, " frames"]) -> tuple[int, int]:
    """Numbers of silent frames before the first and after the last frame with sound; 0 and 0 if all are silent."""
    loud = np.flatnonzero(~silent)
    return (int(loud[0]), len(silent) - 1 - int(loud[-1])) if loud.size else (0, 0)


def _standardize(rows: Float64[np.ndarray, "rows frames"]) -> Float64[np.ndarray, "rows frames"]:
    spread = rows.std(axis=1, keepdims=True)
    return (rows - rows.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-8)
