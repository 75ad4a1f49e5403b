"""F0 for networks: its features, its statistics over a speaker, and changes of it; without jax.

F0 is an array of Hz per frame, 0 where the frame is unvoiced, as `track_pitch` returns it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64

from jaxvoice.config import check_not_negative, check_types, format_value
from jaxvoice.dsp.pitch_tracking import PitchConfig as PitchConfig, track_pitch as track_pitch
from jaxvoice.errors import AudioError, ShapeError

_FRAMES_PER_SECOND = 100
_LARGEST_RATIO = 2.0
_MAD_TO_DEVIATION = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


def pitch_features(
    f0: Float[np.ndarray, " frames"], frames: int | None = None, *, phase: bool = False
) -> Float32[np.ndarray, "rows frames"]:
    """F0 as two rows for a network: its natural logarithm without gaps, and 1 where the frame is voiced, otherwise 0.

    With `phase`, a third row is the phase of an oscillation with this F0 at the start of each frame of 10 ms, in
    cycles from 0 to 1.

    Between voiced frames, F0 is interpolated linearly in Hz. Before the first and after the last, it is that of the
    nearest voiced frame. Without any voiced frame, both rows are 0.

    **Arguments:** `frames`: the number of frames of the result, to which the rows are cut, or extended by their last
    column; `phase`: whether to add the row of the phase.

    **Raises:** `ShapeError` unless `f0` is `(frames,)` of finite numbers that are at least 0, and `frames` positive.

    Source: the features of PPG-VC and HiFi-VC.
    """
    f0 = check_f0("f0", f0)
    if not len(f0):
        raise ShapeError("f0 has shape (0,); it should have at least one frame.")
    voiced = np.flatnonzero(f0)
    rows = np.zeros((2, len(f0)), np.float32)
    if voiced.size:
        rows[0] = np.log(np.interp(np.arange(len(f0)), voiced, f0[voiced]))
        rows[1, voiced] = 1
    if frames is not None:
        if not isinstance(frames, int | np.integer) or frames < 1:
            raise ShapeError(f"frames is {format_value(frames)}; it should be a positive whole number, or None.")
        rows = np.pad(rows[:, :frames], ((0, 0), (0, max(0, frames - len(f0)))), mode="edge")
    if not phase:
        return rows
    cycles = np.cumsum(np.exp(rows[0].astype(np.float64)) / _FRAMES_PER_SECOND)
    return np.concatenate([rows, np.pad(cycles[:-1], (1, 0))[None] % 1], dtype=np.float32)


@dataclass(frozen=True)
class PitchStatistics:
    """Centre and width of the distribution of a speaker's log F0, over voiced frames.

    **Raises:** `ConfigError` for values that are not finite, or a negative spread.
    """

    median: float
    """Median of the natural logarithm of F0 in Hz."""
    spread: float
    """Median absolute deviation from `median`, times 1.4826: the standard deviation, if log F0 is normal."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "spread")


def pitch_statistics(f0s: Iterable[Float[np.ndarray, " _"]]) -> PitchStatistics:
    """Statistics of the voiced frames of several recordings, each F0 `(frames,)`; octave errors hardly change them.

    **Raises:** `ShapeError` unless every F0 is one axis of finite numbers that are at least 0; `AudioError` if no frame
    is voiced.
    """
    tracks = [check_f0(f"f0s[{number}]", f0) for number, f0 in enumerate(f0s)]
    values = np.concatenate([np.zeros(0), *tracks])
    values = np.log(values[values > 0])
    if not values.size:
        raise AudioError(
            f"None of the {sum(map(len, tracks))} frames of {len(tracks)} recordings is voiced, so the F0 has no "
            "median. Use recordings with speech, or another range or tracker of F0."
        )
    median = np.median(values)
    return PitchStatistics(float(median), float(_MAD_TO_DEVIATION * np.median(np.abs(values - median))))


def shift_pitch(f0: Float[np.ndarray, " frames"], semitones: float) -> Float32[np.ndarray, " frames"]:
    """F0 raised by `semitones`, or lowered if they are negative. Unvoiced frames stay 0.

    **Raises:** `ShapeError` unless `f0` is `(frames,)` of finite numbers that are at least 0, and `semitones` is from
    -48 to 48.
    """
    f0 = check_f0("f0", f0)
    if not -48 <= semitones <= 48:
        raise ShapeError(f"semitones is {format_value(semitones)}; it should be from -48 to 48.")
    return (f0 * 2 ** (semitones / 12)).astype(np.float32)


def match_pitch(
    f0: Float[np.ndarray, " frames"],
    source: PitchStatistics,
    target: PitchStatistics,
    config: PitchConfig | None = None,
) -> Float32[np.ndarray, " frames"]:
    """F0 of the speaker `source`, mapped to the median and spread of the speaker `target`. Unvoiced frames stay 0.

    Log F0 becomes `(log F0 - source.median) * target.spread / source.spread + target.median`. The ratio of the spreads
    is limited to 1/2 to 2, and is 1 if that of `source` is 0. The result is limited to `config.floor` to
    `config.ceiling`, by default 75 to 600 Hz.

    **Raises:** `ShapeError` unless `f0` is `(frames,)` of finite numbers that are at least 0.
    """
    config = PitchConfig() if config is None else config
    f0 = check_f0("f0", f0)
    ratio = target.spread / source.spread if source.spread > 0 else 1
    ratio = min(max(ratio, 1 / _LARGEST_RATIO), _LARGEST_RATIO)
    log = (np.log(np.where(f0 > 0, f0, 1)) - source.median) * ratio + target.median
    mapped = np.exp(np.clip(log, math.log(config.floor), math.log(config.ceiling)))
    return np.where(f0 > 0, mapped, 0).astype(np.float32)


def check_f0(name: str, f0: Any) -> Float64[np.ndarray, " frames"]:
    """`f0` in float64; raises `ShapeError`, with the argument's `name`, unless it is one axis of Hz, 0 if unvoiced."""
    f0 = np.asarray(f0)
    if f0.ndim != 1 or not (np.issubdtype(f0.dtype, np.floating) or np.issubdtype(f0.dtype, np.integer)):
        raise ShapeError(f"{name} has shape {f0.shape} and dtype {f0.dtype}; it should be numbers of shape (frames,).")
    values = f0.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise ShapeError(
            f"{name} is {values[bad[0]]} in frame {bad[0]}; it should be finite, positive in voiced frames and 0 in "
            "unvoiced ones. numpy.nan_to_num replaces NaN by 0."
        )
    return values
