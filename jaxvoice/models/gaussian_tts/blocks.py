"""The blocks of the encoder, the decoder and the post-net, for arrays `(*batch, time, channels)`."""

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.models.gaussian_tts.config import DecoderConfig, EncoderConfig
from jaxvoice.nn import (
    BatchNormState,
    Conv1d,
    Linear,
    MaskedBatchNorm,
    Module,
    TransformerLayer,
    dropout,
    masked,
    subkeys,
)


class ConvRes(Module):
    """Convolution, ReLU, batch norm and dropout, with a convolution of kernel size 1 as the shortcut."""

    conv: Conv1d
    norm: MaskedBatchNorm
    shortcut: Conv1d
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        dropout: float = 0.0,
        batch_norm_mask: bool = True,
        key: PRNGKeyArray,
    ):
        conv_key, shortcut_key = jax.random.split(key)
        self.conv = Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, key=conv_key)
        self.norm = MaskedBatchNorm(out_channels, use_mask=batch_norm_mask)
        self.shortcut = Conv1d(in_channels, out_channels, 1, key=shortcut_key)
        self.dropout = dropout

    def __call__(
        self,
        x: Float[Array, "*batch time in"],
        state: BatchNormState,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch time out"], BatchNormState]:
        """The output, zero where `mask` is false, and the running statistics after this batch.

        **Raises:** `ConfigError` for dropout without `key` unless `inference`.
        """
        x = masked(x, mask)
        y, state = self.norm(jax.nn.relu(self.conv(x)), state, mask=mask, inference=inference)
        y = dropout(y, self.dropout, inference=inference, key=key)
        return masked(y + self.shortcut(x), mask), state


class Block(Module):
    """A transformer layer followed by `ConvRes`, which replaces the convolution of arXiv 1910.10352.

    With `attn_dim` in the configuration, a linear map changes the width to `attn_dim` before the transformer layer, and
    `ConvRes` changes it back to `dim`.
    """

    widen: Linear | None
    attention: TransformerLayer
    conv: ConvRes

    def __init__(
        self, dim: int, config: EncoderConfig | DecoderConfig, *, batch_norm_mask: bool = True, key: PRNGKeyArray
    ):
        widen_key, attention_key, conv_key = jax.random.split(key, 3)
        width = dim if config.attn_dim is None else config.attn_dim
        self.widen = None if config.attn_dim is None else Linear(dim, width, key=widen_key)
        self.attention = TransformerLayer(
            width, config.heads, config.feed_forward, dropout=config.dropout, norm=config.norm, key=attention_key
        )
        self.conv = ConvRes(
            width, dim, config.kernel_size, dropout=config.dropout, batch_norm_mask=batch_norm_mask, key=conv_key
        )

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        state: BatchNormState,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        attention_mask: Bool[Array, "*batch time time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch time dim"], BatchNormState]:
        """The output and the running statistics, as for `ConvRes`.

        `attention_mask` limits attention as in `jaxvoice.nn.MultiHeadAttention`.
        """
        attention_key, conv_key = subkeys(key, 2)
        x = x if self.widen is None else self.widen(x)
        x = self.attention(x, mask=mask, attention_mask=attention_mask, inference=inference, key=attention_key)
        return self.conv(x, state, mask=mask, inference=inference, key=conv_key)
