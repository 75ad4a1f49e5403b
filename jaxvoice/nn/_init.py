"""Random numbers that torch's layers begin with."""

import functools as ft
import math

import jax
from jaxtyping import Array, Float, PRNGKeyArray


def torch_uniform(shape: tuple[int, ...], fan_in: int, *, key: PRNGKeyArray) -> Float[Array, "..."]:
    """Uniform in +-1/sqrt(fan_in): what torch's convolutions draw for weights and biases by default."""
    size = math.prod(shape)
    # Drawn in a few sizes only, since each one is a program that takes a quarter of a second to compile.
    numbers = _draw(key, max(1024, 2 ** math.ceil(math.log2(size))))
    return (numbers[:size] * (1 / math.sqrt(fan_in))).reshape(shape)


@ft.partial(jax.jit, static_argnums=1)
def _draw(key: PRNGKeyArray, size: int) -> Float[Array, " size"]:
    return jax.random.uniform(key, (size,), minval=-1, maxval=1)
