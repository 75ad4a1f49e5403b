import math

import jax
from jaxtyping import Array, Float, PRNGKeyArray


def torch_uniform(shape: tuple[int, ...], fan_in: int, *, key: PRNGKeyArray) -> Float[Array, "..."]:
    """Uniform in +-1/sqrt(fan_in): what torch's convolutions draw for weights and biases by default."""
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
