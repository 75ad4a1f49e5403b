"""Pseudo-quadrature mirror filters: banks that divide audio into sub-bands at a fraction of its sample rate.

The filters are designed in float64 (Lin and Vaidyanathan 1998, "A Kaiser window approach for the design of prototype
filters of cosine modulated filterbanks"). Analysis followed by synthesis gives the audio up to a small error: -59.8 dB
for the bank of RAVE, with 16 bands and an attenuation of 100 dB.
"""

import functools
from typing import Any, Literal

import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Float64

from jaxvoice.errors import ConfigError, ShapeError

PQMFMethod = Literal["polyphase", "direct"]


@functools.lru_cache(maxsize=16)
def _prototype(attenuation: float, num_bands: int) -> Float64[np.ndarray, " taps"]:
    from scipy import optimize, signal

    def lowpass(cutoff: float) -> np.ndarray:
        taps, beta = signal.kaiserord(attenuation, cutoff / np.pi)
        taps = 2 * (taps // 2) + 1
        window: Any = ("kaiser", beta)
        return np.asarray(signal.firwin(taps, cutoff, window=window, scale=False, fs=2 * np.pi))

    def ripple(cutoff: np.ndarray) -> float:
        h = lowpass(cutoff[0])
        correlation = np.convolve(h, h[::-1], mode="full")
        return float(np.abs(correlation[correlation.size // 2 :: 2 * num_bands][1:]).max())

    cutoff = optimize.fmin(ripple, 1 / num_bands, disp=False)[0]
    h = lowpass(cutoff)
    h.setflags(write=False)
    return h


def pqmf_prototype(attenuation: float, num_bands: int) -> Float64[np.ndarray, " taps"]:
    """The low-pass filter from which all filters of a bank are modulated; its number of taps is odd.

    The filter is windowed with a Kaiser window. Its cutoff minimises the largest absolute value of the filter's
    autocorrelation at the multiples of `2 * num_bands`, which are zero in a bank with perfect reconstruction.

    **Arguments:** `attenuation` of the stop band in dB, from 30 to 300; `num_bands`, the number of bands.

    **Raises:** `ConfigError` for fewer than two bands, or another attenuation.

    acids-ircam/RAVE `rave/pqmf.py`.
    """
    if num_bands < 2:
        raise ConfigError(f"num_bands is {num_bands}; it should be at least 2.")
    # With less, the prototype becomes shorter than the distance at which the autocorrelation is measured.
    if not 30 <= attenuation <= 300:
        raise ConfigError(f"attenuation is {attenuation}; it should be from 30 to 300 dB, such as 100.")
    return _prototype(float(attenuation), int(num_bands))


def pqmf_filters(prototype: Float64[np.ndarray, " taps"], num_bands: int) -> Float64[np.ndarray, "bands padded_taps"]:
    """The filters of all bands, from low to high frequencies, with zeros on both sides up to a power of two.

    **Arguments:** `prototype` from `pqmf_prototype`; `num_bands`, the number of bands.

    **Raises:** `ShapeError` unless `prototype` has one axis and an odd number of taps.

    acids-ircam/RAVE `rave/pqmf.py`.
    """
    if prototype.ndim != 1 or prototype.size % 2 == 0:
        raise ShapeError(
            f"The shape of prototype is {prototype.shape}; it should be (taps,) with an odd number of taps. Use the "
            "result of pqmf_prototype."
        )
    half = prototype.size // 2
    time = np.arange(-half, half + 1)
    band = np.arange(num_bands)[:, None]
    phase = (2 * band + 1) * np.pi / (2 * num_bands) * time + (-1.0) ** band * np.pi / 4
    filters = 2 * prototype * np.cos(phase)
    missing = 2 ** int(np.ceil(np.log2(prototype.size))) - prototype.size
    return np.pad(filters, ((0, 0), (missing // 2, missing // 2 + missing % 2)))


def pqmf_kernels(
    filters: Float64[np.ndarray, "bands taps"],
) -> tuple[Float64[np.ndarray, "bands 1 forward_taps"], Float64[np.ndarray, "bands bands inverse_taps"]]:
    """The kernels of the two convolutions with which RAVE computes analysis and synthesis, in torch's layout.

    The first is a convolution with a stride of `bands`, padded with `taps / 2` zeros on each side. The second computes
    all samples of a frame as channels, in reversed order and divided by `bands`. It is padded with `taps / (2 * bands)`
    zeros on each side, and delays the audio by `bands` samples.

    acids-ircam/RAVE `rave/pqmf.py`.
    """
    bands = filters.shape[0]
    _check_taps(filters.shape)
    forward = np.pad(filters[:, None], ((0, 0), (0, 0), (0, 1)))
    inverse = filters[:, ::-1].reshape(bands, -1, bands).transpose(2, 0, 1)
    return forward, np.pad(inverse, ((0, 0), (0, 0), (0, 1)))


def invert_odd_bands(subbands: Float[Array, "*batch frames bands"]) -> Float[Array, "*batch frames bands"]:
    """`subbands` with the sign of odd bands changed in even frames, which inverts their frequency axis.

    In all bands, low frequencies of the sub-band are then low frequencies of the audio. The function is its own
    inverse.
    """
    frames, bands = np.ogrid[: subbands.shape[-2], : subbands.shape[-1]]
    signs = np.where((frames % 2 == 0) & (bands % 2 == 1), -1, 1)
    return subbands * jnp.asarray(signs.reshape((1,) * (subbands.ndim - 2) + signs.shape), subbands.dtype)


def pqmf_analysis(
    audio: Float[Array, "*batch samples"], filters: Float[Array, "bands taps"], *, method: PQMFMethod = "polyphase"
) -> Float[Array, "*batch frames bands"]:
    """Divide `audio` into sub-bands at `1 / bands` of its sample rate.

    **Arguments:**

    - `audio`: `(*batch, samples)`; `samples` is a multiple of the number of bands.
    - `filters`: the result of `pqmf_filters`, or `pqmf.hk` of a RAVE checkpoint.
    - `method`: "polyphase" convolves frames of `bands` samples; "direct" applies the filters to the samples with a
        stride. The results are equal up to rounding.

    **Raises:** `ShapeError` for another number of samples.

    acids-ircam/RAVE `rave/pqmf.py`.
    """
    bands, taps = filters.shape
    _check_taps(filters.shape)
    if audio.ndim < 1 or audio.shape[-1] % bands or audio.shape[-1] == 0:
        raise ShapeError(
            f"The shape of the audio is {audio.shape}; it should be (*batch, samples) with a multiple of {bands} "
            "samples. Append zeros."
        )
    filters = jnp.asarray(filters, audio.dtype)
    if method == "direct":
        x, kernel, stride, padding = audio.reshape(-1, audio.shape[-1], 1), filters[:, None], bands, taps // 2
    else:
        x = audio.reshape(-1, audio.shape[-1] // bands, bands)
        kernel = filters.reshape(bands, taps // bands, bands).swapaxes(1, 2)
        stride, padding = 1, taps // bands // 2
    y = _convolve(x, kernel, stride, (padding, padding))[:, :-1]
    return invert_odd_bands(y.reshape(*audio.shape[:-1], *y.shape[1:]))


def pqmf_synthesis(
    subbands: Float[Array, "*batch frames bands"],
    filters: Float[Array, "bands taps"],
    *,
    method: PQMFMethod = "polyphase",
) -> Float[Array, "*batch samples"]:
    """The audio of the sub-bands of `pqmf_analysis`, `bands` samples for each frame, without a delay.

    **Arguments:** as for `pqmf_analysis`. "polyphase" computes all samples of a frame in one convolution; "direct"
    inserts zeros between the frames.

    **Raises:** `ShapeError` unless `subbands` is `(*batch, frames, bands)` with at least one frame.

    acids-ircam/RAVE `rave/pqmf.py`.
    """
    bands, taps = filters.shape
    _check_taps(filters.shape)
    if subbands.ndim < 2 or subbands.shape[-1] != bands or subbands.shape[-2] == 0:
        raise ShapeError(f"The shape of the sub-bands is {subbands.shape}; it should be (*batch, frames, {bands}).")
    x = invert_odd_bands(subbands)
    x = x.reshape(-1, *x.shape[-2:])
    filters = jnp.asarray(filters, subbands.dtype)
    if method == "direct":
        # Each frame adds its scaled filters to the samples from taps / 2 before it.
        kernel = jnp.flip(filters, 1)[None]
        edge = (taps - 1 - taps // 2, taps // 2 - 1 + bands)
        y = _convolve(x, kernel, 1, edge, dilation=bands)[:, : x.shape[1] * bands]
    else:
        kernel = jnp.flip(filters, 1).reshape(bands, taps // bands, bands).transpose(2, 0, 1)
        padding = taps // bands // 2
        y = jnp.flip(_convolve(x, kernel, 1, (padding, padding))[:, 1:], 2)
    return y.reshape(*subbands.shape[:-2], -1) * jnp.asarray(bands, subbands.dtype)


def _convolve(x: Array, kernel: Array, stride: int, padding: tuple[int, int], dilation: int = 1) -> Array:
    """`x` `(batch, time, channels)`, with `dilation - 1` zeros between positions, convolved with torch's kernel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [padding],
        lhs_dilation=(dilation,),
        dimension_numbers=("NHC", "OIH", "NHC"),
        precision=jax.lax.Precision.HIGHEST,
    )


def _check_taps(shape: tuple[int, ...]) -> None:
    bands, taps = shape
    if taps % (2 * bands):
        raise ShapeError(
            f"The shape of the filters is {shape}; the number of taps should be a multiple of twice the {bands} bands. "
            "Use the result of pqmf_filters with a number of bands that is a power of two."
        )
