"""Least-squares adversarial losses and feature matching, summed as in HiFi-GAN."""

from collections.abc import Sequence

from jax import numpy as jnp
from jaxtyping import Array, Float


def discriminator_loss(real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over discriminators of mean((1 - real)^2) + mean(fake^2), in float32.

    **Arguments:** logits of real and of generated audio, one array for each discriminator.

    arXiv 2010.05646, equation 1; jik876/hifi-gan `models.py:discriminator_loss`.
    """
    terms = [_mean_square(1 - _f32(r)) + _mean_square(_f32(f)) for r, f in zip(real, fake, strict=True)]
    return sum(terms[1:], terms[0])


def generator_loss(fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over discriminators of mean((1 - fake)^2), in float32.

    arXiv 2010.05646, equation 2; jik876/hifi-gan `models.py:generator_loss`.
    """
    terms = [_mean_square(1 - _f32(f)) for f in fake]
    return sum(terms[1:], terms[0])


def feature_loss(real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over feature maps of mean |real - fake|, in float32. The reference doubles it; here, callers weight it.

    arXiv 2010.05646, equation 4; jik876/hifi-gan `models.py:feature_loss`.
    """
    terms = [jnp.mean(jnp.abs(_f32(r) - _f32(f))) for r, f in zip(real, fake, strict=True)]
    return sum(terms[1:], terms[0])


def _f32(x: Array) -> Array:
    return x.astype(jnp.float32)


def _mean_square(x: Array) -> Array:
    return jnp.mean(jnp.square(x))
