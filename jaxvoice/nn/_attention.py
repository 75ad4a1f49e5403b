"""Self-attention and the transformer layer around it, with torch's names and layouts, on `(..., time, channels)`."""

import math
from typing import Literal

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn._dropout import dropout, subkeys
from jaxvoice.nn._init import torch_uniform
from jaxvoice.nn._linear import LayerNorm, Linear, linear
from jaxvoice.nn._module import Module

NormPlace = Literal["post", "pre", "none"]


class MultiHeadAttention(Module):
    """Self-attention of several heads, as `torch.nn.MultiheadAttention` with `batch_first` (arXiv 1706.03762, 3.2)."""

    in_proj_weight: Float[Array, "3*dim dim"]
    in_proj_bias: Float[Array, " 3*dim"]
    out_proj: Linear
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0, key: PRNGKeyArray):
        """Packed projections are Xavier-uniform, biases zero, as torch begins; `dropout` acts on the probabilities.

        **Raises:** `ConfigError` if `heads` does not divide `dim`.
        """
        if heads < 1 or dim % heads:
            raise ConfigError(f"dim ({dim}) must be a multiple of heads ({heads}).")
        in_key, out_key = jax.random.split(key)
        self.in_proj_weight = torch_uniform((3 * dim, dim), 1, key=in_key) * math.sqrt(6 / (4 * dim))
        self.in_proj_bias = jnp.zeros(3 * dim)
        out_proj = Linear(dim, dim, key=out_key)
        self.out_proj = eqx.tree_at(lambda layer: layer.bias, out_proj, jnp.zeros(dim))
        self.heads, self.dropout = heads, dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        allowed: Bool[Array, "*batch time time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """**Arguments:**

        - `x`: `(..., time, dim)`; its dtype is the precision of the products, while the softmax is float32.
        - `mask`: which positions may be attended to; the rest is padding.
        - `allowed`: which position (last axis) each position (the axis before) may attend to, for causal attention.

        A position that may attend to nothing gets some finite output.

        **Raises:** `ShapeError` for another `dim`; `ConfigError` for dropout without `key` unless `inference`.
        """
        if x.ndim < 2 or x.shape[-1] != self.in_proj_weight.shape[1]:
            raise ShapeError(f"expected an array (..., time, {self.in_proj_weight.shape[1]}), got {x.shape}.")
        packed = linear(x, self.in_proj_weight, self.in_proj_bias)
        # Heads before time: the products of a CPU then read every head in one piece.
        packed = jnp.moveaxis(packed.reshape(*x.shape[:-1], 3 * self.heads, -1), -2, -3)
        query, keys, values = jnp.split(packed, 3, axis=-3)
        logits = jnp.einsum("...qd,...kd->...qk", query, keys, preferred_element_type=jnp.float32)
        logits = logits * (1 / math.sqrt(query.shape[-1]))
        if mask is not None:
            allowed = mask[..., None, :] if allowed is None else mask[..., None, :] & allowed
        if allowed is not None:
            logits = jnp.where(allowed[..., None, :, :], logits, jnp.finfo(jnp.float32).min)
        probabilities = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
        probabilities = dropout(probabilities, self.dropout, inference=inference, key=key)
        mixed = jnp.moveaxis(jnp.einsum("...qk,...kd->...qd", probabilities, values), -3, -2)
        return self.out_proj(mixed.reshape(x.shape))


class TransformerLayer(Module):
    """Self-attention and a feed-forward network, each with a shortcut around it, as `torch.nn.TransformerEncoderLayer`
    with ReLU.

    Norms stand after each sum (`norm="post"`, arXiv 1706.03762), before each branch (`"pre"`, arXiv 2002.04745; there
    is none after the last sum), or nowhere (`"none"`).
    """

    self_attn: MultiHeadAttention
    linear1: Linear
    linear2: Linear
    norm1: LayerNorm | None
    norm2: LayerNorm | None
    norm: NormPlace = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        heads: int,
        feed_forward: int,
        *,
        dropout: float = 0.0,
        norm: NormPlace = "post",
        key: PRNGKeyArray,
    ):
        """**Arguments:** channels `dim`, `heads` that divide them, channels `feed_forward` between the two linear maps,
        and the rate of `dropout` on attention probabilities, inside the feed-forward network and on both branches.

        **Raises:** `ConfigError` if `heads` does not divide `dim`.
        """
        attention_key, key1, key2 = jax.random.split(key, 3)
        self.self_attn = MultiHeadAttention(dim, heads, dropout=dropout, key=attention_key)
        self.linear1 = Linear(dim, feed_forward, key=key1)
        self.linear2 = Linear(feed_forward, dim, key=key2)
        self.norm1 = None if norm == "none" else LayerNorm(dim)
        self.norm2 = None if norm == "none" else LayerNorm(dim)
        self.norm, self.dropout = norm, dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        allowed: Bool[Array, "*batch time time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """Keeps the shape; arguments and errors as for `MultiHeadAttention`."""
        keys = subkeys(key, 4)

        def drop(y, i):
            return dropout(y, self.dropout, inference=inference, key=keys[i])

        def attend(y):
            return drop(self.self_attn(y, mask=mask, allowed=allowed, inference=inference, key=keys[0]), 1)

        def feed(y):
            return drop(self.linear2(drop(jax.nn.relu(self.linear1(y)), 2)), 3)

        for branch, norm in ((attend, self.norm1), (feed, self.norm2)):
            x = x + branch(norm(x) if norm is not None and self.norm == "pre" else x)
            x = norm(x) if norm is not None and self.norm == "post" else x
        return x
