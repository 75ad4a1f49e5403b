"""The networks of XTTS that encode references: attention over mel frames, and the perceiver."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.xtts.config import ConditioningConfig, GPTConfig
from jaxvoice.nn import Conv1d, GroupNorm, Linear, Module, dropout

_GLOBAL = "its attention is global, so that each output depends on the whole reference. Pass the whole reference."


def attend(
    query: Float[Array, "*batch heads queries size"],
    keys: Float[Array, "*batch heads keys size"],
    values: Float[Array, "*batch heads keys size"],
    mask: Bool[Array, "*batch #heads #queries keys"] | None = None,
    *,
    dropout_rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "*batch heads queries size"]:
    """Scaled dot-product attention, with dropout of its probabilities. The softmax is computed in float32.

    **Arguments:** `mask`, true at the keys of a query, by default all.
    """
    logits = jnp.einsum("...qd,...kd->...qk", query, keys, preferred_element_type=jnp.float32)
    logits = logits * (1 / math.sqrt(query.shape[-1]))
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    probabilities = dropout(probabilities, dropout_rate, inference=not dropout_rate, key=key)
    return jnp.einsum("...qk,...kd->...qd", probabilities, values)


def split_heads(x: Float[Array, "*batch time channels"], heads: int) -> Float[Array, "*batch heads time size"]:
    """`x` with the channels of each head."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3)


def join_heads(x: Float[Array, "*batch heads time size"]) -> Float[Array, "*batch time channels"]:
    """The inverse of `split_heads`."""
    x = jnp.moveaxis(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


class AttentionBlock(Module):
    """Group norm and self-attention, which is added to the normalised input, as in the release.

    coqui-ai/TTS `TTS/tts/layers/xtts/latent_encoder.py:AttentionBlock`.
    """

    no_streaming_form: ClassVar[str] = _GLOBAL

    norm: GroupNorm
    qkv: Conv1d
    proj_out: Conv1d
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, config: ConditioningConfig, *, key: PRNGKeyArray):
        qkv_key, out_key = jax.random.split(key)
        self.norm = GroupNorm(config.norm_groups, channels)
        self.qkv = Conv1d(channels, 3 * channels, 1, key=qkv_key)
        # Initially zero, so that a block passes the normalised input on.
        proj_out = Conv1d(channels, channels, 1, key=out_key)
        self.proj_out = eqx.tree_at(
            lambda conv: (conv.weight, conv.bias), proj_out, (jnp.zeros((channels, channels, 1)), jnp.zeros(channels))
        )
        self.heads = config.heads

    def __call__(
        self, x: Float[Array, "*batch frames channels"], *, mask: Bool[Array, "*batch frames"] | None = None
    ) -> Float[Array, "*batch frames channels"]:
        """**Arguments:** `mask`, true at valid frames; the others have no influence on these."""
        x = self.norm(x, mask=mask)
        # The channels of a head are those of its query, its keys and its values, one after the other.
        packed = split_heads(self.qkv(x), self.heads)
        query, keys, values = jnp.split(packed, 3, axis=-1)
        attended = attend(query, keys, values, None if mask is None else mask[..., None, None, :])
        return x + self.proj_out(join_heads(attended))


class ConditioningEncoder(Module):
    """Mel frames of a reference to as many vectors (coqui-ai/TTS `latent_encoder.py:ConditioningEncoder`)."""

    init: Conv1d
    attn: list[AttentionBlock]

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        sizes, channels = config.conditioning, config.channels
        init_key, *keys = jax.random.split(key, 1 + sizes.blocks)
        self.init = Conv1d(sizes.mel.num_mels, channels, 1, key=init_key)
        self.attn = [AttentionBlock(channels, sizes, key=k) for k in keys]

    def __call__(
        self, mel: Float[Array, "*batch frames mels"], *, mask: Bool[Array, "*batch frames"] | None = None
    ) -> Float[Array, "*batch frames channels"]:
        """**Arguments:** `mel`, of `normalized_log_mel`; `mask`, true at valid frames, by default all.

        **Raises:** `ShapeError` for another number of bands, or without frames.
        """
        mels = self.init.in_channels
        if mel.ndim < 2 or mel.shape[-1] != mels or not mel.shape[-2]:
            raise ShapeError(
                f"The shape of the mel spectrogram of the reference is {mel.shape}; it should be (*batch, frames, "
                f"{mels}) with at least one frame."
            )
        x = self.init(mel)
        for block in self.attn:
            x = block(x, mask=mask)
        return x


class PerceiverAttention(Module):
    """Attention of latents to a reference and to themselves (coqui-ai/TTS `perceiver_encoder.py:Attention`)."""

    no_streaming_form: ClassVar[str] = _GLOBAL

    to_q: Linear
    to_kv: Linear
    to_out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, config: ConditioningConfig, *, key: PRNGKeyArray):
        query_key, context_key, out_key = jax.random.split(key, 3)
        inner = config.perceiver_heads * config.head_channels
        self.to_q = Linear(channels, inner, use_bias=False, key=query_key)
        self.to_kv = Linear(channels, 2 * inner, use_bias=False, key=context_key)
        self.to_out = Linear(inner, channels, use_bias=False, key=out_key)
        self.heads = config.perceiver_heads

    def __call__(
        self,
        latents: Float[Array, "*batch latents channels"],
        context: Float[Array, "*batch frames channels"],
        *,
        mask: Bool[Array, "*batch frames"] | None = None,
    ) -> Float[Array, "*batch latents channels"]:
        """**Arguments:** `mask`, true at valid frames of `context`, by default all."""
        keys, values = jnp.split(self.to_kv(jnp.concatenate([latents, context], axis=-2)), 2, axis=-1)
        if mask is not None:
            own = jnp.ones((*mask.shape[:-1], latents.shape[-2]), bool)
            mask = jnp.concatenate([own, mask], axis=-1)[..., None, None, :]
        query, keys, values = (split_heads(x, self.heads) for x in (self.to_q(latents), keys, values))
        return self.to_out(join_heads(attend(query, keys, values, mask)))


class RMSNorm(Module):
    """A vector divided by its norm and multiplied by the root of its size and by `gamma` (arXiv 1910.07467)."""

    gamma: Float[Array, " channels"]

    def __init__(self, channels: int):
        self.gamma = jnp.ones(channels)

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        y = x.astype(jnp.float32)
        norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(y), -1, keepdims=True), 1e-24))
        gamma = self.gamma.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
        return (y / norm * math.sqrt(x.shape[-1]) * gamma).astype(x.dtype)


class PerceiverResampler(Module):
    """A reference of any length to a fixed number of vectors (arXiv 2204.14198, section 3.1).

    Each layer is a pair of attention and a feed-forward network, whose paths have torch's numbers.

    coqui-ai/TTS `TTS/tts/layers/xtts/perceiver_encoder.py:PerceiverResampler`.
    """

    latents: Float[Array, "latents channels"]
    layers: list[tuple[PerceiverAttention, tuple[Linear, None, Linear]]]
    norm: RMSNorm

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        sizes, channels = config.conditioning, config.channels
        latents_key, *keys = jax.random.split(key, 1 + sizes.depth)
        self.latents = 0.02 * jax.random.normal(latents_key, (sizes.latents, channels))
        # Two thirds of the width, because the gates are a second matrix.
        inner = channels * sizes.feed_forward * 2 // 3
        layers = []
        for layer_key in keys:
            attention_key, in_key, out_key = jax.random.split(layer_key, 3)
            feed_forward = (
                Linear(channels, 2 * inner, key=in_key),
                None,
                Linear(inner, channels, key=out_key),
            )
            layers.append((PerceiverAttention(channels, sizes, key=attention_key), feed_forward))
        self.layers, self.norm = layers, RMSNorm(channels)

    def __call__(
        self, context: Float[Array, "*batch frames channels"], *, mask: Bool[Array, "*batch frames"] | None = None
    ) -> Float[Array, "*batch latents channels"]:
        """**Arguments:** `mask`, true at valid frames of `context`, by default all."""
        x = jnp.broadcast_to(self.latents.astype(context.dtype), (*context.shape[:-2], *self.latents.shape))
        for attention, (first, _, second) in self.layers:
            x = x + attention(x, context, mask=mask)
            values, gates = jnp.split(first(x), 2, axis=-1)
            x = x + second(jax.nn.gelu(gates, approximate=False) * values)
        return self.norm(x)
