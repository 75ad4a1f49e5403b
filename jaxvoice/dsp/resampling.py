"""Resampling of audio; without jax."""

import numbers
import operator
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.errors import AudioError


def resample(
    samples: Float[np.ndarray, " samples"], from_rate: float, to_rate: float
) -> Float32[np.ndarray, " resampled_samples"]:
    """Resample from `from_rate` to `to_rate` (Hz) with soxr's high quality filter, the default of `librosa.resample`.

    The result has `ceil(samples * to_rate / from_rate)` samples.

    **Raises:** `AudioError` for a rate that is not a positive whole number.
    """
    import soxr

    from_rate, to_rate = whole_rate("from_rate", from_rate), whole_rate("to_rate", to_rate)
    if from_rate == to_rate:
        return np.asarray(samples, dtype=np.float32)
    length = -(-len(samples) * to_rate // from_rate)
    result = soxr.resample(np.ascontiguousarray(samples, dtype=np.float32), from_rate, to_rate, quality="HQ")
    return np.pad(result[:length], (0, max(0, length - len(result))))


def whole_rate(name: str, rate: Any) -> int:
    """`rate` as an integer; raises `AudioError`, with the argument's `name`, unless it is a positive whole number."""
    try:
        whole = int(float(rate)) if isinstance(rate, numbers.Real) else operator.index(rate)
    except (TypeError, ValueError, OverflowError):  # text, NaN, infinity
        whole = 0
    if whole < 1 or whole != rate or isinstance(rate, bool):
        raise AudioError(f"{name} is {rate!r}; it should be a positive whole number of Hz.")
    return whole
