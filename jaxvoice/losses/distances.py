"""Distances between spectrograms of several resolutions, and between sets of latents."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.dsp.transforms import frame_spectra
from jaxvoice.errors import ShapeError

SCALES = (2048, 1024, 512, 256, 128)


def spectral_distance(
    target: Float[Array, "*batch samples channels"],
    estimate: Float[Array, "*batch samples channels"],
    *,
    scales: tuple[int, ...] = SCALES,
    log_epsilon: float = 1e-7,
) -> Float[Array, ""]:
    """The multi-scale spectral distance of RAVE: sum over scales of a relative squared and a logarithmic distance.

    At each scale, with magnitudes `X` of `target` and `Y` of `estimate`, the distance is
    `mean((X - Y)^2) / mean(X^2) + mean |log(X + log_epsilon) - log(Y + log_epsilon)|`.

    **Arguments:** audio, or sub-bands, of which each channel has a spectrogram of its own; `scales`, the lengths of
    frames in samples, each a quarter of its length apart.

    **Raises:** `ShapeError` if the shapes differ, or for too few samples to reflect half of the longest frame.

    arXiv 2111.05011, equation 5; acids-ircam/RAVE `rave/core.py:AudioDistanceV1`.
    """
    if target.shape != estimate.shape or target.ndim < 2:
        raise ShapeError(
            f"The shapes of target and estimate are {target.shape} and {estimate.shape}; they should be equal, "
            "(*batch, samples, channels)."
        )
    distance = jnp.zeros(())
    for scale in scales:
        x, y = magnitudes(target, scale), magnitudes(estimate, scale)
        logarithms = jnp.log(x + log_epsilon) - jnp.log(y + log_epsilon)
        distance = distance + jnp.mean(jnp.square(x - y)) / jnp.mean(jnp.square(x)) + jnp.mean(jnp.abs(logarithms))
    return distance


def magnitudes(
    audio: Float[Array, "*batch samples channels"], fft_size: int
) -> Float[Array, "*batch channels frames bins"]:
    """Magnitudes of a spectrogram with a periodic Hann window and reflect padding, a quarter of a frame apart.

    The gradient is 0 where the magnitude is 0.
    """
    rows = audio.swapaxes(-1, -2)
    spectra = jax.vmap(lambda row: frame_spectra(row, n_fft=fft_size, hop_length=fft_size // 4))(
        rows.reshape(-1, audio.shape[-2])
    )
    # Where the energy is 0, the root would have an infinite gradient.
    energy = jnp.square(spectra.real) + jnp.square(spectra.imag)
    positive = energy > 0
    magnitude = jnp.where(positive, jnp.sqrt(jnp.where(positive, energy, 1)), 0)
    return magnitude.reshape(*rows.shape[:-1], *spectra.shape[1:])


def maximum_mean_discrepancy(x: Float[Array, "n dim"], y: Float[Array, "m dim"]) -> Float[Array, ""]:
    """The squared maximum mean discrepancy of two sets of vectors (arXiv 1711.01558, WAE-MMD), in float32.

    The kernel is Gaussian, `exp(-||a - b||^2 / dim^2)`, as in acids-ircam/RAVE `rave/blocks.py:WasserteinEncoder`.

    **Raises:** `ShapeError` if the vectors do not have the same number of dimensions.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ShapeError(f"The shapes are {x.shape} and {y.shape}; they should be (n, dim) and (m, dim).")
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    return _mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y)


def _mean_kernel(x: Array, y: Array) -> Array:
    squares = jnp.sum(jnp.square(x[:, None] - y[None]), -1)
    return jnp.mean(jnp.exp(-squares / x.shape[1] ** 2))
