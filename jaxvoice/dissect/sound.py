"""Activations as sound."""

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped

from jaxvoice.dsp.resampling import whole_rate
from jaxvoice.errors import AudioError, ConfigError, ShapeError


def activation_rate(frames: int, samples: int, sample_rate: int) -> Fraction:
    """The rate of an activation in Hz: `frames` positions for `samples` of audio at `sample_rate`.

    **Raises:** `ShapeError` for lengths below 1; `AudioError` for a rate that is not a positive whole number.
    """
    if frames < 1 or samples < 1:
        raise ShapeError(f"There are {frames} positions for {samples} samples; both should be at least 1.")
    return Fraction(frames * whole_rate("sample_rate", sample_rate), samples)


def sonify(
    activation: Shaped[np.ndarray, "*batch time channels"],
    samples: int,
    sample_rate: int,
    out_rate: int | None = None,
    *,
    reduce: Literal["sum", "mean"] | int = "sum",
    normalize: Literal["max", "absmax"] | None = "max",
) -> Float32[np.ndarray, "*batch new_samples"]:
    """Audio of an activation: its channels are added, scaled to full scale, and resampled.

    The rate of the activation is `time / samples * sample_rate`. It is used as an exact ratio, so that the result is in
    tune and as long as the audio: `ceil(samples * out_rate / sample_rate)` samples.

    **Arguments:**

    - `activation`: `(*batch, time, channels)`.
    - `samples`: length of the audio from which the activation was computed, or which is computed from it.
    - `sample_rate`: sample rate of that audio in Hz.
    - `out_rate`: sample rate of the result, by default `sample_rate`.
    - `reduce`: `"sum"` or `"mean"` of all channels, or the index of one channel.
    - `normalize`: what becomes 1 before resampling, of each example: `"max"`, the largest value, or the largest
        magnitude if no value is positive; `"absmax"`, the largest magnitude; `None` keeps the values. The result may
        exceed 1 slightly between positions.

    **Raises:** `ShapeError` for fewer than two axes, no elements, or a channel that does not exist; `AudioError` for
    NaN and infinity, and a rate that is not a positive whole number; `ConfigError` for other values of `reduce` and
    `normalize`.
    """
    import soxr

    array = np.asarray(activation, np.float32)
    if array.ndim < 2 or not array.size:
        raise ShapeError(f"The shape of the activation is {array.shape}; it should be (*batch, time, channels).")
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise AudioError(
            f"The activation is NaN or infinite in {bad} of {array.size} elements; it should be finite. Check the "
            "input and the rules of bending."
        )
    rate = activation_rate(array.shape[-2], samples, sample_rate)
    new_rate = whole_rate("out_rate", sample_rate if out_rate is None else out_rate)
    mixed = _scaled(_mixed(array, reduce), normalize)
    length = math.ceil(Fraction(samples * new_rate, whole_rate("sample_rate", sample_rate)))
    if rate == new_rate:
        return mixed
    # soxr accepts rates of any size, of which only the ratio matters.
    low, high = (rate.numerator, rate.denominator * new_rate)
    rows = mixed.reshape(-1, mixed.shape[-1])
    done = [np.asarray(soxr.resample(row, low, high, quality="HQ"))[:length] for row in rows]
    padded = [np.pad(row, (0, length - len(row))) for row in done]
    return np.stack(padded).reshape(*mixed.shape[:-1], length).astype(np.float32)


def _mixed(array: Float32[np.ndarray, "*batch time channels"], reduce: str | int) -> Float32[np.ndarray, "*batch time"]:
    if isinstance(reduce, int | np.integer) and not isinstance(reduce, bool):
        if not 0 <= reduce < array.shape[-1]:
            raise ShapeError(f"The channel is {reduce}; it should be in 0..{array.shape[-1] - 1}.")
        return array[..., int(reduce)]
    if reduce not in ("sum", "mean"):
        raise ConfigError(f"reduce is {reduce!r}; it should be 'sum', 'mean' or the index of a channel.")
    return array.sum(-1) if reduce == "sum" else array.mean(-1)


def _scaled(audio: Float32[np.ndarray, "*batch time"], normalize: str | None) -> Float32[np.ndarray, "*batch time"]:
    if normalize not in ("max", "absmax", None):
        raise ConfigError(f"normalize is {normalize!r}; it should be 'max', 'absmax' or None.")
    if normalize is None:
        return audio
    magnitude = np.abs(audio).max(-1, keepdims=True)
    largest = audio.max(-1, keepdims=True)
    peak = np.where(largest > 0, largest, magnitude) if normalize == "max" else magnitude
    return audio / np.where(peak > 0, peak, 1)
