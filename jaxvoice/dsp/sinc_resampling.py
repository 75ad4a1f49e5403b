"""Resampling with a windowed sinc kernel in JAX, for losses whose gradient passes through it."""

import functools
import math

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.dsp.resampling import whole_rate
from jaxvoice.dsp.transforms import overlapping_frames

_WIDTH, _ROLLOFF = 6, 0.99  # zero crossings on each side, and the cut-off relative to the lower Nyquist frequency


@functools.partial(jax.jit, static_argnames=("from_rate", "to_rate"))
def sinc_resample(
    audio: Float[Array, "*batch samples"], from_rate: int, to_rate: int
) -> Float[Array, "*batch resampled_samples"]:
    """Resample from `from_rate` to `to_rate` (Hz) with a sinc kernel under a Hann window; differentiable.

    The kernel is that of torchaudio's `Resample` with its defaults. For files, `jaxvoice.data.resample` has the better
    filter. The result has `ceil(samples * to_rate / from_rate)` samples, computed in float32 except for float64.

    **Raises:** `AudioError` for a rate that is not a positive whole number.
    """
    from_rate, to_rate = whole_rate("from_rate", from_rate), whole_rate("to_rate", to_rate)
    if from_rate == to_rate:
        return audio
    divisor = math.gcd(from_rate, to_rate)
    stride, phases = from_rate // divisor, to_rate // divisor
    kernels = _kernels(stride, phases)
    length, width = audio.shape[-1], (kernels.shape[1] - stride) // 2
    dtype = jnp.float64 if audio.dtype == jnp.float64 else jnp.float32
    flat = jnp.pad(audio.reshape(-1, length).astype(dtype), ((0, 0), (width, width + stride)))
    frames = jax.vmap(lambda row: overlapping_frames(row, kernels.shape[1], stride))(flat)
    weights = jnp.asarray(kernels, dtype)
    out = jnp.einsum("nfk,pk->nfp", frames, weights, precision=jax.lax.Precision.HIGHEST)
    samples = -(-length * phases // stride)
    return out.reshape(len(flat), -1)[:, :samples].reshape(*audio.shape[:-1], samples)


def _kernels(stride: int, phases: int) -> Float[np.ndarray, "phases taps"]:
    """The kernel of each output sample within `stride` input samples, in units of the input."""
    cutoff = _ROLLOFF * min(stride, phases)
    width = math.ceil(_WIDTH * stride / cutoff)
    times = np.arange(-width, width + stride)[None] / stride - np.arange(phases)[:, None] / phases
    times = np.clip(times * cutoff, -_WIDTH, _WIDTH)
    return np.sinc(times) * np.cos(np.pi * times / _WIDTH / 2) ** 2 * cutoff / stride
