"""Compute precision: parameters and losses stay float32, the networks may compute in bfloat16."""

from typing import Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Precision = Literal["float32", "bfloat16"]
Tree = TypeVar("Tree")


def to_compute(tree: Tree, precision: Precision) -> Tree:
    """`tree` (a network, its inputs) with float32 arrays cast to `precision`; other leaves, keys included, as they are.

    Gradients taken through this cast come back in float32. On CPU bfloat16 brings no speed: XLA computes it in float32.
    """
    return _cast(tree, jnp.float32, jnp.bfloat16) if precision == "bfloat16" else tree


def to_float32(tree: Tree) -> Tree:
    """`tree` (a network's outputs) with bfloat16 arrays cast to float32; call it before losses, mels and norms."""
    return _cast(tree, jnp.bfloat16, jnp.float32)


def _cast(tree: Tree, source: DTypeLike, target: DTypeLike) -> Tree:
    def cast(leaf):
        return leaf.astype(target) if eqx.is_array(leaf) and leaf.dtype == source else leaf

    return jax.tree.map(cast, tree)
