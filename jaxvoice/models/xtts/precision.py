"""The precision of the weights of XTTS's language model, and the bytes that a code reads."""

from typing import Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
from jax import numpy as jnp

from jaxvoice.config import format_value
from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.transformer import FrozenProjection, Projection

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
"""The precisions of weights."""
_Network = TypeVar("_Network", XTTS, GPT)


class BytesPerCode(NamedTuple):
    """The bytes that a step of the generation reads from memory."""

    weights: int
    """Bytes of the weights, which are read once for all rows of a batch."""
    cache: int
    """Bytes of the keys and values of one row of a batch."""


def with_precision(network: _Network, precision: Precision) -> _Network:
    """`network` with the matrices of its transformer in another precision. Its other arrays do not change.

    Inputs, sums, norms, and keys and values remain in float32. The arrays may be shapes (`jax.ShapeDtypeStruct`), so
    that a network can be loaded in this precision.

    **Raises:** `ConfigError` for an unknown precision, or for a network of `freeze_projections`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {format_value(precision)}; it should be {' or '.join(PRECISIONS)}.")
    dtype = jnp.dtype(precision)

    def converted(node):
        if isinstance(node, FrozenProjection):
            raise ConfigError(
                "The projections of the network are frozen; call with_precision before freeze_projections."
            )
        if not isinstance(node, Projection):
            return node
        weight = node.weight
        is_shape = isinstance(weight, jax.ShapeDtypeStruct)
        new = jax.ShapeDtypeStruct(weight.shape, dtype) if is_shape else weight.astype(dtype)
        return eqx.tree_at(lambda one: one.weight, node, new)

    return jax.tree.map(converted, network, is_leaf=lambda node: isinstance(node, Projection | FrozenProjection))


def bytes_per_code(network: XTTS | GPT, positions: int) -> BytesPerCode:
    """The bytes that a step reads, if it attends to a cache of `positions` positions.

    A step reads the matrices and norms of the transformer and the head of codes, and writes little. Where memory bounds
    the speed, as at batch 1, its time is at least this number divided by the bandwidth.
    """
    gpt = network.gpt if isinstance(network, XTTS) else network
    read = jax.tree.leaves((gpt.gpt, gpt.final_norm, gpt.mel_head))
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in read if hasattr(leaf, "dtype"))
    per_position = 2 * gpt.config.layers * gpt.config.channels * jnp.dtype(jnp.float32).itemsize
    return BytesPerCode(weights, positions * per_position)
