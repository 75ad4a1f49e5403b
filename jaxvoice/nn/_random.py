"""Random numbers of layers: torch's default initialisation, dropout, and split keys."""

import functools as ft
import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.nn._inputs import check_rate

_STEPS = 2**16


def torch_uniform(shape: tuple[int, ...], fan_in: int, *, key: PRNGKeyArray) -> Float[Array, "..."]:
    """torch's default initialisation of weights and biases: uniform in [-b, b) with b = 1/sqrt(fan_in)."""
    size = math.prod(shape)
    # Sizes are rounded up to powers of two, because compiling a program for each size takes 0.25 s.
    numbers = _draw(key, max(1024, 2 ** math.ceil(math.log2(size))))
    return (numbers[:size] * (1 / math.sqrt(fan_in))).reshape(shape)


def scaled_normal(shape: tuple[int, ...], deviation: float, *, key: PRNGKeyArray) -> Float[Array, "..."]:
    """Normal random numbers with mean 0 and the given standard deviation."""
    size = math.prod(shape)
    # As in `torch_uniform`, few sizes are compiled.
    numbers = _draw_normal(key, max(1024, 2 ** math.ceil(math.log2(size))))
    return (numbers[:size] * deviation).reshape(shape)


@ft.partial(jax.jit, static_argnums=1)
def _draw_normal(key: PRNGKeyArray, size: int) -> Float[Array, " size"]:
    return jax.random.normal(key, (size,))


@ft.partial(jax.jit, static_argnums=1)
def _draw(key: PRNGKeyArray, size: int) -> Float[Array, " size"]:
    return jax.random.uniform(key, (size,), minval=-1, maxval=1)


def dropout(
    x: Float[Array, "*shape"], rate: float, *, inference: bool, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Dropout with 16 random bits per element: an element becomes zero with probability `rate`.

    The other elements are divided by `1 - rate`. `rate` is rounded to a multiple of 1/65536. With `inference` or a rate
    of 0, the result is `x`.

    **Raises:** `ConfigError` for a rate outside [0, 1), or if random numbers are needed and `key` is `None`.
    """
    check_rate(rate)
    dropped = min(round(rate * _STEPS), _STEPS - 1)
    if inference or not dropped:
        return x
    if key is None:
        raise ConfigError(
            f"key is None; it should be a random key, because the dropout rate is {rate}. Pass key=..., or "
            "inference=True for no dropout."
        )
    scaled = x * jnp.asarray(_STEPS / (_STEPS - dropped), x.dtype)
    return jnp.where(_bits(x.shape, key) >= jnp.uint16(dropped), scaled, jnp.zeros((), x.dtype))


def _bits(shape: tuple[int, ...], key: PRNGKeyArray) -> Array:
    """16 random bits per element. Each 32-bit draw serves two elements, since drawing dominates the time of dropout."""
    *front, last = shape
    half = math.ceil(last / 2)
    pairs = lax.bitcast_convert_type(jax.random.bits(key, (*front, half)), jnp.uint16)
    return pairs.reshape(*front, 2 * half)[..., :last]


def subkeys(key: PRNGKeyArray | None, number: int) -> list[PRNGKeyArray | None]:
    """`number` keys split from `key`; a list of `None` if `key` is `None`."""
    return [None] * number if key is None else list(jax.random.split(key, number))
