"""Pooling over time."""

from jax import numpy as jnp
from jaxtyping import Array, Float


def average_pool1d(
    x: Float[Array, "*batch time channels"], *, window: int, stride: int, padding: int
) -> Float[Array, "*batch new_time channels"]:
    """Mean over `window` samples every `stride`, padding counted too, as torch's `AvgPool1d` does by default.

    **Arguments:** `x` of shape `(..., time, channels)`.

    **Returns:** shape `(..., (time + 2 * padding - window) // stride + 1, channels)`.
    """
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((padding, padding), (0, 0)))
    length = (x.shape[-2] - window) // stride + 1
    taps = [x[..., i : i + (length - 1) * stride + 1 : stride, :] for i in range(window)]
    return sum(taps[1:], taps[0]) * jnp.asarray(1 / window, x.dtype)
