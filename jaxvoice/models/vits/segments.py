"""Random segments of utterances, which the decoder reads in training."""

import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def segment_starts(
    length: Int[Array, "*batch"], segment: int, *, uniform: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """The first position of a segment of each example, from a number in [0, 1) for each.

    **Arguments:** `length`, the number of valid positions of each example; `segment`, the number of positions of a
    segment. A shorter example starts at 0.

    Source: coqui-ai/TTS `utils/helpers.py`, `rand_segments`.
    """
    last = jnp.maximum(length - segment, 0)
    starts = jnp.floor(uniform * (last + 1).astype(uniform.dtype)).astype(length.dtype)
    return jnp.minimum(starts, last)


def random_starts(length: Int[Array, "*batch"], segment: int, *, key: PRNGKeyArray) -> Int[Array, "*batch"]:
    """As `segment_starts`, with starts drawn from all segments inside each example with equal probability."""
    last = jnp.maximum(length - segment, 0)
    return jax.random.randint(key, length.shape, 0, last + 1, dtype=length.dtype)


def take_segments(
    x: Float[Array, "*batch time channels"], starts: Int[Array, "*batch"], segment: int
) -> Float[Array, "*batch {segment} channels"]:
    """`segment` positions of each example, from its start; positions after the end of `x` are zero."""
    *batch, time, channels = x.shape
    padded = jnp.pad(x, (*[(0, 0)] * len(batch), (0, segment), (0, 0)))
    flat = padded.reshape(math.prod(batch), time + segment, channels)
    cut = jax.vmap(lambda row, start: lax.dynamic_slice_in_dim(row, start, segment))(flat, starts.reshape(-1))
    return cut.reshape(*batch, segment, channels)
