from jax import lax, numpy as jnp
from jaxtyping import Array, Float


def average_pool1d(
    x: Float[Array, "*batch time channels"], *, window: int, stride: int, padding: int
) -> Float[Array, "*batch new_time channels"]:
    """Mean over `window` samples every `stride`, padding included in the count, as torch's `AvgPool1d` does by default.

    **Arguments:** `x` of shape `(..., time, channels)`.

    **Returns:** shape `(..., (time + 2 * padding - window) // stride + 1, channels)`.
    """
    zero = jnp.zeros((), x.dtype)
    lead = x.ndim - 2
    padding_of_axes = ((0, 0),) * lead + ((padding, padding), (0, 0))
    total = lax.reduce_window(x, zero, lax.add, (1,) * lead + (window, 1), (1,) * lead + (stride, 1), padding_of_axes)
    return total / jnp.asarray(window, x.dtype)
