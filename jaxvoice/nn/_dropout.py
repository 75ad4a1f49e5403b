"""Dropout from as few random bits as it takes."""

import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError

_STEPS = 2**16


def dropout(
    x: Float[Array, "*shape"], rate: float, *, inference: bool, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """`x` with each number set to zero with probability `rate` and the rest divided by `1 - rate`.

    With `inference`, or a rate of 0, it is `x`. Rates are rounded to 1/65536.

    **Raises:** `ConfigError` if numbers are to be dropped and `key` is `None`.
    """
    dropped = round(rate * _STEPS)
    if inference or not dropped:
        return x
    if key is None:
        raise ConfigError(f"dropout of {rate} draws random numbers; give key=, or inference=True to drop nothing.")
    scaled = x * jnp.asarray(_STEPS / (_STEPS - dropped), x.dtype)
    return jnp.where(_bits(x.shape, key) >= jnp.uint16(dropped), scaled, jnp.zeros((), x.dtype))


def _bits(shape: tuple[int, ...], key: PRNGKeyArray) -> Array:
    """Sixteen random bits for every position: two from each number, since making those is what dropout costs."""
    *front, last = shape
    pairs = lax.bitcast_convert_type(jax.random.bits(key, (*front, math.ceil(last / 2))), jnp.uint16)
    return pairs.reshape(*front, -1)[..., :last]


def subkeys(key: PRNGKeyArray | None, number: int) -> list[PRNGKeyArray | None]:
    """`number` keys made from `key`, or as many times `None`."""
    return [None] * number if key is None else list(jax.random.split(key, number))
