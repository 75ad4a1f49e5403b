"""Which positions of a padded batch count."""

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def length_mask(count: Int[Array, "*batch"], length: int) -> Bool[Array, "*batch {length}"]:
    """True at the first `count` of `length` positions, for each example."""
    places = jnp.arange(length, dtype=count.dtype).reshape(*(1 for _ in count.shape), length)
    return places < count[..., None]


def masked(
    x: Float[Array, "*batch time channels"], mask: Bool[Array, "*batch time"] | None
) -> Float[Array, "*batch time channels"]:
    """`x`, and zero where `mask` is false; not a product, so that nothing in a pad, NaN included, gets through."""
    return x if mask is None else jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
