"""Adversarial losses, summed over discriminators, and feature matching, as in HiFi-GAN and RAVE."""

from collections.abc import Sequence

import jax
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


def hinge_discriminator_loss(
    real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]
) -> Float[Array, ""]:
    """Sum over discriminators of mean(max(0, 1 - real) + max(0, 1 + fake)), in float32.

    **Arguments:** logits of real and of generated audio, one array for each discriminator.

    Geometric GAN, arXiv 1705.02894; acids-ircam/RAVE `rave/core.py:hinge_gan`.
    """
    terms = [jnp.mean(jax.nn.relu(1 - _f32(r)) + jax.nn.relu(1 + _f32(f))) for r, f in zip(real, fake, strict=True)]
    return sum(terms[1:], terms[0])


def hinge_generator_loss(fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over discriminators of -mean(fake), in float32.

    Geometric GAN, arXiv 1705.02894; acids-ircam/RAVE `rave/core.py:hinge_gan`.
    """
    terms = [-jnp.mean(_f32(f)) for f in fake]
    return sum(terms[1:], terms[0])


def nonsaturating_discriminator_loss(
    real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]
) -> Float[Array, ""]:
    """Sum over discriminators of mean(-log sigmoid(real) - log(1 - sigmoid(fake))), in float32.

    GAN, arXiv 1406.2661; acids-ircam/RAVE `rave/core.py:nonsaturating_gan`.
    """
    terms = [jnp.mean(jax.nn.softplus(-_f32(r)) + jax.nn.softplus(_f32(f))) for r, f in zip(real, fake, strict=True)]
    return sum(terms[1:], terms[0])


def nonsaturating_generator_loss(fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over discriminators of mean(-log sigmoid(fake)), in float32.

    GAN, arXiv 1406.2661; acids-ircam/RAVE `rave/core.py:nonsaturating_gan`.
    """
    terms = [jnp.mean(jax.nn.softplus(-_f32(f))) for f in fake]
    return sum(terms[1:], terms[0])


def feature_distance(
    real: Sequence[Sequence[Float[Array, "..."]]],
    fake: Sequence[Sequence[Float[Array, "..."]]],
    *,
    relative: bool = True,
    skip: int = 0,
) -> Float[Array, ""]:
    """Mean over discriminators of the mean distance of their feature maps, in float32.

    The distance of two maps is mean |real - fake|, divided by mean |real| if `relative`.

    **Arguments:** feature maps of each discriminator; `skip`, the number of first maps of each discriminator that are
    left out.

    acids-ircam/RAVE `rave/model.py` (`feature_matching`) and `rave/core.py:mean_difference`.
    """
    distances = []
    for real_maps, fake_maps in zip(real, fake, strict=True):
        maps = list(zip(real_maps, fake_maps, strict=True))[skip:]
        terms = [_distance(_f32(r), _f32(f), relative) for r, f in maps]
        distances.append(sum(terms[1:], terms[0]) / len(terms))
    return sum(distances[1:], distances[0]) / len(distances)


def _distance(real: Array, fake: Array, relative: bool) -> Array:
    distance = jnp.mean(jnp.abs(real - fake))
    return distance / jnp.mean(jnp.abs(real)) if relative else distance


def _f32(x: Array) -> Array:
    return x.astype(jnp.float32)


def _mean_square(x: Array) -> Array:
    return jnp.mean(jnp.square(x))
