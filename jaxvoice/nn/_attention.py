"""Self-attention and the transformer layer on `(*batch, time, channels)`, with torch's names and layouts."""

import math
from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.nn._inputs import check_input, check_mask, check_rate
from jaxvoice.nn._linear import LayerNorm, Linear, linear
from jaxvoice.nn._module import Module
from jaxvoice.nn._random import dropout, subkeys, torch_uniform

NormPosition = Literal["post", "pre", "none"]


class MultiHeadAttention(Module):
    """Multi-head self-attention, as `torch.nn.MultiheadAttention` with `batch_first` (arXiv 1706.03762, 3.2)."""

    no_streaming_form: ClassVar[str] = (
        "its attention is global, so that each output position depends on all later input positions. Pass the whole "
        "signal, or windows of it."
    )

    in_proj_weight: Float[Array, "3*dim dim"]
    in_proj_bias: Float[Array, " 3*dim"]
    out_proj: Linear
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0, key: PRNGKeyArray):
        """Initialise as torch does: packed projections are Xavier-uniform, biases are zero.

        **Arguments:** channels `dim`, number of `heads`, and the rate of `dropout` on the attention probabilities.

        **Raises:** `ConfigError` if `dim` is not a multiple of `heads`, or for `dropout` outside [0, 1).
        """
        check_rate(dropout)
        if heads < 1 or dim % heads:
            raise ConfigError(f"dim is {dim}; it should be a multiple of heads, which is {heads}.")
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
        attention_mask: Bool[Array, "*batch time time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """**Arguments:**

        - `x`: `(*batch, time, dim)`; products are computed in its dtype, the softmax in float32.
        - `mask`: true at valid positions, false at padding. Padding is not attended to.
        - `attention_mask`: true where the query position (second to last axis) may attend to the key position (last
            axis), for example for causal attention.

        If the masks leave a position nothing to attend to, its output is finite but arbitrary.

        **Raises:** `ShapeError` for a wrong number of channels, or masks whose shape does not match `x`; `ConfigError`
        for dropout without `key` unless `inference`.
        """
        dim = self.in_proj_weight.shape[1]
        check_input(x, dim, "time")
        check_mask(mask, x.shape[:-1])
        check_mask(attention_mask, (*x.shape[:-1], x.shape[-2]), "attention_mask")
        packed = linear(x, self.in_proj_weight, self.in_proj_bias)
        # Heads before time, so that each head is contiguous in memory, which is faster on CPUs.
        packed = jnp.moveaxis(packed.reshape(*x.shape[:-1], 3 * self.heads, dim // self.heads), -2, -3)
        query, keys, values = jnp.split(packed, 3, axis=-3)
        logits = jnp.einsum("...qd,...kd->...qk", query, keys, preferred_element_type=jnp.float32)
        logits = logits * (1 / math.sqrt(query.shape[-1]))
        if mask is not None:
            attention_mask = mask[..., None, :] if attention_mask is None else mask[..., None, :] & attention_mask
        if attention_mask is not None:
            logits = jnp.where(attention_mask[..., None, :, :], logits, jnp.finfo(jnp.float32).min)
        probabilities = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
        probabilities = dropout(probabilities, self.dropout, inference=inference, key=key)
        attended = jnp.moveaxis(jnp.einsum("...qk,...kd->...qd", probabilities, values), -3, -2)
        return self.out_proj(attended.reshape(x.shape))


class TransformerLayer(Module):
    """Self-attention and a feed-forward network, each with a residual connection, as `torch.nn.TransformerEncoderLayer`
    with ReLU.

    Layer norm follows each residual sum (`norm="post"`, arXiv 1706.03762), precedes each branch (`"pre"`, arXiv
    2002.04745, without a norm after the last sum), or is left out (`"none"`).
    """

    no_streaming_form: ClassVar[str] = MultiHeadAttention.no_streaming_form

    self_attn: MultiHeadAttention
    linear1: Linear
    linear2: Linear
    norm1: LayerNorm | None
    norm2: LayerNorm | None
    norm: NormPosition = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        heads: int,
        feed_forward: int,
        *,
        dropout: float = 0.0,
        norm: NormPosition = "post",
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: number of channels.
        - `heads`: number of attention heads.
        - `feed_forward`: number of channels between the two linear maps.
        - `dropout`: rate on attention probabilities, inside the feed-forward network and on both branches.
        - `norm`: position of the layer norms.

        **Raises:** `ConfigError` if `dim` is not a multiple of `heads`, for `dropout` outside [0, 1), sizes below 1, or
        an unknown `norm`.
        """
        if norm not in get_args(NormPosition):
            raise ConfigError(f"norm is {norm!r}; it should be one of {', '.join(map(repr, get_args(NormPosition)))}.")
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
        attention_mask: Bool[Array, "*batch time time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """The output has the shape of `x`. Arguments and errors are those of `MultiHeadAttention`."""
        keys = subkeys(key, 4)

        def drop(y, i):
            return dropout(y, self.dropout, inference=inference, key=keys[i])

        def attend(y):
            return drop(
                self.self_attn(y, mask=mask, attention_mask=attention_mask, inference=inference, key=keys[0]), 1
            )

        def feed_forward(y):
            return drop(self.linear2(drop(jax.nn.relu(self.linear1(y)), 2)), 3)

        for branch, norm in ((attend, self.norm1), (feed_forward, self.norm2)):
            x = x + branch(norm(x) if norm is not None and self.norm == "pre" else x)
            x = norm(x) if norm is not None and self.norm == "post" else x
        return x
