"""The transformer of XTTS: GPT-2 without tables of tokens and positions, with a cache of keys and values."""

import math
from typing import Any, ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.models.xtts.conditioning import attend, join_heads, split_heads
from jaxvoice.models.xtts.config import GPTConfig
from jaxvoice.nn import LayerNorm, Module, dropout, operation, subkeys
from jaxvoice.nn._conv import add_bias
from jaxvoice.nn._inputs import check_input
from jaxvoice.nn._kernels import computes_on_cpu


class KeyValues(NamedTuple):
    """The keys and values of all layers, for positions that were already computed and for later ones.

    The axis `rows` contains the heads of all elements of the batch. With separate axes for batch and heads, XLA
    on CPUs reshapes, and so copies, the arrays for the products of every code.
    """

    keys: tuple[Float[Array, "rows positions size"], ...]
    """The keys of each layer; those of later positions are arbitrary."""
    values: tuple[Float[Array, "rows positions size"], ...]
    """The values of each layer; those of later positions are arbitrary."""
    valid: Bool[Array, "*batch positions"]
    """True at positions that are attended to: those that were computed, without padding."""


class Projection(Module):
    """A linear map of the last axis, whose weight has the layout `(in, out)`, as `transformers.Conv1D`.

    With a weight in bfloat16 and an input in float32, the products are those of bfloat16, and sums are in float32.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, in_features: int, out_features: int, *, scale: float = 1.0, key: PRNGKeyArray):
        """Draw the weight from a normal distribution of standard deviation 0.02, multiplied by `scale`."""
        self.weight = scale * 0.02 * jax.random.normal(key, (in_features, out_features))
        self.bias = jnp.zeros(out_features)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Apply the map; the output has the dtype of `x`. Raises `ShapeError` for a wrong number of channels."""
        check_input(x, self.weight.shape[0])
        stored = self.weight.dtype
        dtype = stored if jnp.finfo(stored).bits < jnp.finfo(x.dtype).bits else x.dtype
        weight = self.weight.astype(dtype)
        y = jnp.einsum("...i,io->...o", x.astype(dtype), weight, preferred_element_type=x.dtype)
        return add_bias(y, self.bias)


class FrozenProjection(Module):
    """The inference form of `Projection`, with the layout of `Linear`.

    With few positions, XLA on CPUs computes the product in three quarters of the time in this layout.
    """

    kernel: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Compute the output of the `Projection`."""
        check_input(x, self.kernel.shape[1])
        return add_bias(jnp.einsum("...i,oi->...o", x, self.kernel.astype(x.dtype)), self.bias)


class CausalAttention(Module):
    """Self-attention to earlier positions (`transformers` `modeling_gpt2.py:GPT2Attention`)."""

    no_streaming_form: ClassVar[str] = "each output depends on all earlier positions. Use extend with a cache."

    c_attn: Projection | FrozenProjection
    c_proj: Projection | FrozenProjection
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        in_key, out_key = jax.random.split(key)
        channels = config.channels
        self.c_attn = Projection(channels, 3 * channels, key=in_key)
        self.c_proj = Projection(channels, channels, scale=(2 * config.layers) ** -0.5, key=out_key)
        self.heads, self.dropout = config.heads, config.dropout

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch #time time"],
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """**Arguments:** `mask`, true at the keys (last axis) of each query."""
        query, keys, values = self.split(x)
        return self._output(query, keys, values, mask[..., None, :, :], inference=inference, key=key)

    @operation
    def split(
        self, x: Float[Array, "*batch time channels"]
    ) -> tuple[
        Float[Array, "*batch heads time size"],
        Float[Array, "*batch heads time size"],
        Float[Array, "*batch heads time size"],
    ]:
        """The queries, keys and values of `x`."""
        query, keys, values = (split_heads(part, self.heads) for part in jnp.split(self.c_attn(x), 3, axis=-1))
        return query, keys, values

    def extend(
        self,
        x: Float[Array, "*batch time channels"],
        keys: Float[Array, "rows positions size"],
        values: Float[Array, "rows positions size"],
        start: Int[Array, ""] | int,
        mask: Bool[Array, "rows time seen"],
    ) -> tuple[
        Float[Array, "*batch time channels"], Float[Array, "rows positions size"], Float[Array, "rows positions size"]
    ]:
        """The output for the positions from `start` on, and the keys and values with theirs.

        **Arguments:** `mask`, true at the keys of each query, for the first `seen` positions.
        """
        parts = self.split(x)
        heads_and_time = parts[0].shape[-3:-1]
        query, new_keys, new_values = (part.reshape(-1, *part.shape[-2:]) for part in parts)
        keys = lax.dynamic_update_slice(keys, new_keys.astype(keys.dtype), (0, start, 0))
        values = lax.dynamic_update_slice(values, new_values.astype(values.dtype), (0, start, 0))
        seen_keys, seen_values = (array[:, : mask.shape[-1]].astype(x.dtype) for array in (keys, values))
        attended = attend(query, seen_keys, seen_values, mask).reshape(*x.shape[:-2], *heads_and_time, -1)
        return self.c_proj(join_heads(attended)), keys, values

    def _output(self, query, keys, values, mask, *, inference: bool, key: PRNGKeyArray | None) -> Array:
        first, second = subkeys(key, 2)
        rate = 0.0 if inference else self.dropout
        attended = attend(query, keys, values, mask, dropout_rate=rate, key=first)
        return dropout(self.c_proj(join_heads(attended)), self.dropout, inference=inference, key=second)


class FeedForward(Module):
    """Two linear maps with GELU between them, computed with tanh (`transformers` `modeling_gpt2.py:GPT2MLP`)."""

    c_fc: Projection | FrozenProjection
    c_proj: Projection | FrozenProjection
    dropout: float = eqx.field(static=True)

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        in_key, out_key = jax.random.split(key)
        channels = config.channels
        self.c_fc = Projection(channels, 4 * channels, key=in_key)
        self.c_proj = Projection(4 * channels, channels, scale=(2 * config.layers) ** -0.5, key=out_key)
        self.dropout = config.dropout

    def __call__(
        self, x: Float[Array, "*batch channels"], *, inference: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*batch channels"]:
        y = self.c_proj(jax.nn.gelu(self.c_fc(x), approximate=True))
        return dropout(y, self.dropout, inference=inference, key=key)


class Block(Module):
    """Attention and feed-forward network, each with a norm before it and a residual connection."""

    ln_1: LayerNorm
    attn: CausalAttention
    ln_2: LayerNorm
    mlp: FeedForward

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        attention_key, mlp_key = jax.random.split(key)
        self.ln_1, self.attn = LayerNorm(config.channels), CausalAttention(config, key=attention_key)
        self.ln_2, self.mlp = LayerNorm(config.channels), FeedForward(config, key=mlp_key)

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch #time time"],
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """**Arguments:** `mask`, true at the keys (last axis) of each query."""
        first, second = subkeys(key, 2)
        x = x + self.attn(self.ln_1(x), mask=mask, inference=inference, key=first)
        return x + self.mlp(self.ln_2(x), inference=inference, key=second)


class Transformer(Module):
    """The layers of GPT-2 and the norm after them, on vectors instead of tokens.

    The attribute paths are those of `transformers` `GPT2Model`.
    """

    h: list[Block]
    ln_f: LayerNorm
    dropout: float = eqx.field(static=True)

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        self.h = [Block(config, key=k) for k in jax.random.split(key, config.layers)]
        self.ln_f, self.dropout = LayerNorm(config.channels), config.dropout

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """**Arguments:** `mask`, true at positions that later ones attend to, by default all."""
        time = x.shape[-2]
        causal = jnp.tril(jnp.ones((time, time), bool))
        allowed = causal if mask is None else jnp.logical_and(*jnp.broadcast_arrays(causal, mask[..., None, :]))
        allowed = jnp.broadcast_to(allowed, (*x.shape[:-2], time, time))
        first, *keys = subkeys(key, 1 + len(self.h))
        x = dropout(x, self.dropout, inference=inference, key=first)
        for block, block_key in zip(self.h, keys, strict=True):
            x = block(x, mask=allowed, inference=inference, key=block_key)
        return self.ln_f(x)

    def init_cache(self, batch: tuple[int, ...], positions: int, *, dtype: DTypeLike = jnp.float32) -> KeyValues:
        """A cache for the batch axes `batch` and `positions` positions, none of which is valid."""
        heads = self.h[0].attn.heads
        size, rows = self.ln_f.weight.shape[0] // heads, math.prod(batch) * heads
        # Arrays of their own, so that a loop updates each of them in place.
        keys, values = (tuple(jnp.zeros((rows, positions, size), dtype) for _ in self.h) for _ in range(2))
        return KeyValues(keys, values, jnp.zeros((*batch, positions), bool))

    @operation
    def extend(
        self,
        x: Float[Array, "*batch time channels"],
        cache: KeyValues,
        start: Int[Array, ""] | int,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> tuple[Float[Array, "*batch time channels"], KeyValues]:
        """The outputs for the positions from `start` on, and the cache with them.

        **Arguments:** `x`, the vectors of these positions; `cache`, in which positions before `start` are valid or
        padding; `mask`, true at positions that are no padding, by default all.
        """
        time, heads = x.shape[-2], self.h[0].attn.heads
        given = jnp.ones(x.shape[:-1], bool) if mask is None else mask
        valid = lax.dynamic_update_slice(cache.valid, given, (*(0 for _ in x.shape[:-2]), start))
        # Later positions need not be computed if their number is known, as at the beginning.
        seen = start + time if isinstance(start, int) else valid.shape[-1]
        here = jnp.arange(time, dtype=jnp.int32) + jnp.asarray(start, jnp.int32)
        causal = jnp.arange(seen, dtype=jnp.int32)[None, :] <= here[:, None]
        allowed = jnp.logical_and(*jnp.broadcast_arrays(causal, valid[..., None, :seen]))
        allowed = jnp.broadcast_to(allowed[..., None, :, :], (*x.shape[:-2], heads, time, seen))
        allowed = allowed.reshape(-1, time, seen)
        keys, values = [], []
        for block, old_keys, old_values in zip(self.h, cache.keys, cache.values, strict=True):
            y, new_keys, new_values = block.attn.extend(block.ln_1(x), old_keys, old_values, start, allowed)
            x = x + y
            x = x + block.mlp(block.ln_2(x), inference=True)
            keys.append(new_keys)
            values.append(new_values)
        return self.ln_f(x), KeyValues(tuple(keys), tuple(values), valid)


_Model = TypeVar("_Model")


def freeze_projections(model: _Model) -> _Model:
    """`model` for inference on a CPU: `Projection` layers with weights in float32 become `FrozenProjection` layers.

    The outputs are the same, except for rounding. On other platforms, and with products of bfloat16, this layout is not
    faster, so `model` itself is returned. Weights have another name and layout than in the release, so keep the
    original model for training and saving.
    """

    def frozen(node: Any) -> Any:
        if not isinstance(node, Projection) or node.weight.dtype != jnp.float32:
            return node
        return FrozenProjection(node.weight.T, node.bias, path=node.path)

    if not computes_on_cpu():
        return model
    return jax.tree.map(frozen, model, is_leaf=lambda node: isinstance(node, Projection))
