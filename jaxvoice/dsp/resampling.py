"""Resampling of audio; without jax."""

import numbers
import operator
from collections.abc import Iterable, Iterator
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


def resample_blocks(
    blocks: Iterable[Float[np.ndarray, "channels samples"]], from_rate: float, to_rate: float
) -> Iterator[Float32[np.ndarray, "channels resampled_samples"]]:
    """`resample` of each channel of a signal that arrives in blocks; the blocks of the result have other lengths.

    **Raises:** `AudioError` for a rate that is not a positive whole number.
    """
    import soxr

    from_rate, to_rate = whole_rate("from_rate", from_rate), whole_rate("to_rate", to_rate)
    stream, channels, read, written = None, 0, 0, 0
    for block in blocks:
        if stream is None:
            channels = len(block)
            stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")
        part = stream.resample_chunk(np.ascontiguousarray(block.T, dtype=np.float32))
        read, written = read + block.shape[1], written + len(part)
        if len(part):
            yield np.ascontiguousarray(part.reshape(-1, channels).T)
    if stream is not None:
        rest = -(-read * to_rate // from_rate) - written
        part = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)[:rest]
        yield np.pad(part, ((0, rest - len(part)), (0, 0))).T


def whole_rate(name: str, rate: Any) -> int:
    """`rate` as an integer; raises `AudioError`, with the argument's `name`, unless it is a positive whole number."""
    try:
        whole = int(float(rate)) if isinstance(rate, numbers.Real) else operator.index(rate)
    except (TypeError, ValueError, OverflowError):  # text, NaN, infinity
        whole = 0
    if whole < 1 or whole != rate or isinstance(rate, bool):
        raise AudioError(f"{name} is {rate!r}; it should be a positive whole number of Hz.")
    return whole
