"""The text encoder of VITS: tokens to hidden states and to the prior of the latents."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.models.vits.attention import WindowedAttention
from jaxvoice.models.vits.config import TextEncoderConfig, VITSConfig
from jaxvoice.models.vits.layers import ChannelNorm
from jaxvoice.nn import Conv1d, Embedding, Module, dropout, masked, subkeys


class Gaussian(NamedTuple):
    """A normal distribution with independent channels."""

    mean: Float[Array, "*batch time channels"]
    """The means, zero in padding."""
    log_scale: Float[Array, "*batch time channels"]
    """The logarithms of the standard deviations, zero in padding."""

    def sample(self, noise: Float[Array, "*batch time channels"], *, scale: float | Array = 1.0) -> Array:
        """The value of standard normal `noise`, whose standard deviation is multiplied by `scale`."""
        return self.mean + noise * jnp.exp(self.log_scale) * jnp.asarray(scale, self.mean.dtype)


class TextEncoding(NamedTuple):
    """The result of the text encoder."""

    hidden: Float[Array, "*batch tokens text_channels"]
    """Hidden states, which the duration predictor reads; zero in padding."""
    prior: Gaussian
    """The distribution of the latents of a frame of each token, after the flow."""
    mask: Bool[Array, "*batch tokens"]
    """True at valid tokens."""


class FeedForward(Module):
    """Two convolutions with a ReLU between them. jaywalnut310/vits `attentions.py:FFN`."""

    conv_1: Conv1d
    conv_2: Conv1d
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, config: TextEncoderConfig, *, key: PRNGKeyArray):
        first_key, second_key = jax.random.split(key)
        taps = config.kernel_size
        padding = ((taps - 1) // 2, taps // 2)
        self.conv_1 = Conv1d(dim, config.feed_forward, taps, padding=padding, key=first_key)
        self.conv_2 = Conv1d(config.feed_forward, dim, taps, padding=padding, key=second_key)
        self.dropout = config.dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """The output is zero where `mask` is false, and does not depend on `x` there."""
        hidden = jax.nn.relu(self.conv_1(masked(x, mask)))
        hidden = dropout(hidden, self.dropout, inference=inference, key=key)
        return masked(self.conv_2(masked(hidden, mask)), mask)


class TransformerStack(Module):
    """Layers of windowed attention and convolutions, each followed by a norm of the residual sum.

    jaywalnut310/vits `attentions.py:Encoder`.
    """

    attn_layers: list[WindowedAttention]
    norm_layers_1: list[ChannelNorm]
    ffn_layers: list[FeedForward]
    norm_layers_2: list[ChannelNorm]
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, config: TextEncoderConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, (2, config.layers))
        self.attn_layers = [
            WindowedAttention(dim, config.heads, config.window, dropout=config.dropout, key=k) for k in keys[0]
        ]
        self.norm_layers_1 = [ChannelNorm(dim) for _ in keys[0]]
        self.ffn_layers = [FeedForward(dim, config, key=k) for k in keys[1]]
        self.norm_layers_2 = [ChannelNorm(dim) for _ in keys[1]]
        self.dropout = config.dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """The output has the shape of `x`, and is zero where `mask` is false."""
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        x = masked(x, mask)
        for layer_key, (attention, norm_1, feed_forward, norm_2) in zip(
            subkeys(key, len(self.attn_layers)), layers, strict=True
        ):
            keys = subkeys(layer_key, 4)
            y = attention(x, mask=mask, inference=inference, key=keys[0])
            x = norm_1(x + dropout(y, self.dropout, inference=inference, key=keys[1]))
            y = feed_forward(x, mask=mask, inference=inference, key=keys[2])
            x = norm_2(x + dropout(y, self.dropout, inference=inference, key=keys[3]))
        return masked(x, mask)


class TextEncoder(Module):
    """Maps tokens to hidden states and to the prior (arXiv 2106.06103, section 2.2.1).

    Attribute paths are the names of weights in coqui's releases, such as `emb.weight`,
    `encoder.attn_layers.0.conv_q.weight` and `proj.bias`.

    jaywalnut310/vits `models.py:TextEncoder`; coqui-ai/TTS `layers/vits/networks.py`.
    """

    emb: Embedding
    encoder: TransformerStack
    proj: Conv1d

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        emb_key, encoder_key, proj_key = jax.random.split(key, 3)
        self.emb = Embedding(config.symbols.size, config.channels, scale=1 / math.sqrt(config.channels), key=emb_key)
        self.encoder = TransformerStack(config.text_channels, config.text, key=encoder_key)
        self.proj = Conv1d(config.text_channels, 2 * config.channels, 1, key=proj_key)

    def __call__(
        self,
        tokens: Int[Array, "*batch tokens"],
        language: Float[Array, "*batch language"] | None = None,
        *,
        mask: Bool[Array, "*batch tokens"],
        dtype: DTypeLike = jnp.float32,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> TextEncoding:
        """**Arguments:**

        - `tokens`: ids `(*batch, tokens)`. Ids outside the table give NaN.
        - `language`: the vector of the language, which is appended to the embedding of each token; `None` without one.
        - `mask`: true at valid tokens.
        - `dtype`: the precision of the computation. The prior is at least float32.

        **Raises:** `ShapeError` for a mask of another shape, or a language vector of another size; `ConfigError` for
        dropout without `key` unless `inference`.
        """
        channels = self.emb.weight.shape[1]
        # The scale is that of the embedding alone, with and without languages.
        x = self.emb(tokens).astype(dtype) * jnp.asarray(math.sqrt(channels), dtype)
        if language is not None:
            repeated = jnp.broadcast_to(language[..., None, :].astype(dtype), (*x.shape[:-1], language.shape[-1]))
            x = jnp.concatenate([x, repeated], -1)
        hidden = self.encoder(x, mask=mask, inference=inference, key=key)
        projected = masked(self.proj(hidden), mask)
        projected = projected.astype(np.promote_types(projected.dtype, np.float32))
        return TextEncoding(hidden, Gaussian(projected[..., :channels], projected[..., channels:]), mask)
