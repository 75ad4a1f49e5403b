"""The acoustic model, which maps phonemes and their durations to a mel spectrogram."""

from typing import NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.gaussian_tts.config import DecoderConfig, EncoderConfig, GaussianTTSConfig
from jaxvoice.models.gaussian_tts.upsampling import GaussianUpsampling, block_causal
from jaxvoice.nn import (
    BatchNormState,
    Conv1d,
    Linear,
    MaskedBatchNorm,
    Module,
    TransformerLayer,
    dropout,
    length_mask,
    masked,
    operation,
    subkeys,
)

_POSITION_DEVIATION = 0.02


class BatchNormStates(eqx.Module):
    """Running statistics of all batch norms of the acoustic model, in the order of the blocks."""

    encoder: list[BatchNormState]
    decoder: list[BatchNormState]
    postnet: list[BatchNormState]


class Decoded(NamedTuple):
    """The output of the acoustic model."""

    hidden: Float[Array, "*batch phones dim"]
    """Hidden states of the phonemes, zero in padding."""
    decoder_mel: Float[Array, "*batch frames mels"]
    """The normalised mel spectrogram of the decoder, zero in padding."""
    mel: Float[Array, "*batch frames mels"]
    """The normalised mel spectrogram corrected by the post-net: the result of the model, zero in padding."""
    weights: Float32[Array, "*batch frames phones"]
    """The weight of each phoneme in each frame."""
    state: BatchNormStates
    """The running statistics after this batch."""


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
        """The output, zero where `mask` is false, and the running statistics after this batch.

        `attention_mask` limits attention as in `jaxvoice.nn.MultiHeadAttention`.
        """
        attention_key, conv_key = subkeys(key, 2)
        x = x if self.widen is None else self.widen(x)
        x = self.attention(x, mask=mask, attention_mask=attention_mask, inference=inference, key=attention_key)
        return self.conv(x, state, mask=mask, inference=inference, key=conv_key)


def _take_positions(
    table: Float[Array, "most dim"], x: Array, unit: str, option: str
) -> Float[Array, "*ones time dim"]:
    time = x.shape[-2]
    if time > table.shape[0]:
        raise ShapeError(
            f"The number of {unit} is {time}, padding included; it should be at most {table.shape[0]}, the number of "
            f"learned positions. Split the text at a pause, or train a model with a larger {option}."
        )
    return table[(*(None,) * (x.ndim - 2), slice(time))].astype(x.dtype)


class Encoder(Module):
    """Maps phoneme ids to hidden states: an embedding, learned positions, and blocks."""

    embedding: Float[Array, "ids dim"]
    positions: Float[Array, "max_phones dim"]
    blocks: list[Block]

    def __init__(self, config: GaussianTTSConfig, *, key: PRNGKeyArray):
        """Draw embeddings from N(0, 1), as torch does, and positions from N(0, 0.02^2). The embedding of 0 is zero."""
        embedding_key, positions_key, key = jax.random.split(key, 3)
        embedding = jax.random.normal(embedding_key, (len(config.codes) + 1, config.dim))
        self.embedding = embedding.at[0].set(0.0)
        self.positions = _POSITION_DEVIATION * jax.random.normal(positions_key, (config.encoder.max_phones, config.dim))
        self.blocks = [
            Block(config.dim, config.encoder, batch_norm_mask=config.batch_norm_mask, key=k)
            for k in jax.random.split(key, config.encoder.layers)
        ]

    def __call__(
        self,
        phonemes: Int[Array, "*batch phones"],
        states: list[BatchNormState],
        *,
        mask: Bool[Array, "*batch phones"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch phones dim"], list[BatchNormState]]:
        """Hidden states, zero where `mask` is false, in the precision of the weights.

        Ids outside the embedding table give NaN.

        **Raises:** `ShapeError` for more phonemes than positions; `ConfigError` for dropout without `key`.
        """
        x = self.embedding.at[phonemes].get(mode="fill", fill_value=jnp.nan)
        x = masked(x + _take_positions(self.positions, x, "phonemes", "encoder.max_phones"), mask)
        return _apply_blocks(self.blocks, x, states, mask=mask, inference=inference, key=key)


class Decoder(Module):
    """Maps hidden states of frames to hidden states of frames: learned positions, and blocks."""

    positions: Float[Array, "max_frames dim"]
    blocks: list[Block]

    def __init__(self, config: GaussianTTSConfig, *, key: PRNGKeyArray):
        positions_key, key = jax.random.split(key)
        self.positions = _POSITION_DEVIATION * jax.random.normal(positions_key, (config.decoder.max_frames, config.dim))
        self.blocks = [
            Block(config.dim, config.decoder, batch_norm_mask=config.batch_norm_mask, key=k)
            for k in jax.random.split(key, config.decoder.layers)
        ]

    def __call__(
        self,
        x: Float[Array, "*batch frames dim"],
        states: list[BatchNormState],
        *,
        mask: Bool[Array, "*batch frames"] | None = None,
        attention_mask: Bool[Array, "*batch frames frames"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch frames dim"], list[BatchNormState]]:
        """Hidden states in the shape of `x`, zero where `mask` is false.

        `attention_mask` limits attention as in `jaxvoice.nn.MultiHeadAttention`.

        **Raises:** `ShapeError` for more frames than positions; `ConfigError` for dropout without `key` unless
        `inference`.
        """
        x = masked(x + _take_positions(self.positions, x, "frames", "decoder.max_frames"), mask)
        return _apply_blocks(
            self.blocks, x, states, mask=mask, attention_mask=attention_mask, inference=inference, key=key
        )


class PostNet(Module):
    """Maps hidden states of the decoder to a correction of its mel spectrogram: convolutions without dropout."""

    blocks: list[ConvRes]
    linear: Linear

    def __init__(self, config: GaussianTTSConfig, *, key: PRNGKeyArray):
        """The last layer is initialised to zero, so the initial correction is zero."""
        linear_key, key = jax.random.split(key)
        self.blocks = [
            ConvRes(config.dim, config.dim, config.decoder.kernel_size, batch_norm_mask=config.batch_norm_mask, key=k)
            for k in jax.random.split(key, config.decoder.postnet_layers)
        ]
        linear = Linear(config.dim, config.mel.num_mels, key=linear_key)
        self.linear = jax.tree.map(jnp.zeros_like, linear)

    def __call__(
        self,
        x: Float[Array, "*batch frames dim"],
        states: list[BatchNormState],
        *,
        mask: Bool[Array, "*batch frames"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch frames mels"], list[BatchNormState]]:
        """The correction to add to the decoder's mel spectrogram."""
        x, states = _apply_blocks(self.blocks, x, states, mask=mask, inference=inference)
        return self.linear(x), states


def _apply_blocks(blocks, x, states, *, key: PRNGKeyArray | None = None, **options):
    new_states = []
    for block, state, block_key in zip(blocks, states, subkeys(key, len(blocks)), strict=True):
        x, state = block(x, state, key=block_key, **options)
        new_states.append(state)
    return x, new_states


class AcousticModel(Module):
    """Maps phonemes to a mel spectrogram: encoder, Gaussian upsampling, decoder and post-net."""

    encoder: Encoder
    upsampling: GaussianUpsampling
    decoder: Decoder
    linear: Linear
    postnet: PostNet
    config: GaussianTTSConfig = eqx.field(static=True)

    def __init__(self, config: GaussianTTSConfig, *, key: PRNGKeyArray):
        encoder_key, upsampling_key, decoder_key, linear_key, postnet_key = jax.random.split(key, 5)
        self.encoder = Encoder(config, key=encoder_key)
        self.upsampling = GaussianUpsampling(config.dim, config.upsampling, key=upsampling_key)
        self.decoder = Decoder(config, key=decoder_key)
        self.linear = Linear(config.dim, config.mel.num_mels, key=linear_key)
        self.postnet = PostNet(config, key=postnet_key)
        self.config = config

    def init_state(self) -> BatchNormStates:
        """The initial running statistics."""
        return BatchNormStates(
            [block.conv.norm.init_state() for block in self.encoder.blocks],
            [block.conv.norm.init_state() for block in self.decoder.blocks],
            [block.norm.init_state() for block in self.postnet.blocks],
        )

    @operation
    def encode(
        self,
        phonemes: Int[Array, "*batch phones"],
        state: BatchNormStates,
        *,
        phone_count: Int[Array, "*batch"] | int,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch phones dim"], BatchNormStates]:
        """Compute hidden states of phonemes.

        **Arguments:**

        - `phonemes`: ids `(*batch, phones)`, at least 1; 0 in padding.
        - `state`: running statistics; with `inference` they are applied and returned unchanged.
        - `phone_count`: number of valid phonemes of each example, or one number for all.

        **Returns:** hidden states `(*batch, phones, dim)`, zero in padding, and the new state.

        **Raises:** `ShapeError` for more phonemes than positions; `ConfigError` for dropout without `key` unless
        `inference`.
        """
        mask = length_mask(phone_count, phonemes.shape[-1], batch=phonemes.shape[:-1])
        hidden, new = self.encoder(phonemes, state.encoder, mask=mask, inference=inference, key=key)
        return hidden, BatchNormStates(new, state.decoder, state.postnet)

    @operation
    def decode(
        self,
        hidden: Float[Array, "*batch phones dim"],
        durations: Float[Array, "*batch phones"],
        state: BatchNormStates,
        *,
        phone_count: Int[Array, "*batch"] | int,
        frame_count: Int[Array, "*batch"] | int,
        frames: int,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Decoded:
        """Compute mel spectrograms from hidden states and durations of phonemes.

        **Arguments:**

        - `hidden`: hidden states that `encode` returned.
        - `durations`: in frames, `(*batch, phones)`, float32 for every precision of the network.
        - `state`: running statistics; with `inference` they are applied and returned unchanged.
        - `phone_count`, `frame_count`: number of valid phonemes and frames of each example, or one number for all;
            the durations of an example must add up to its number of frames.
        - `frames`: number of frames of the result, padding included; static under `jax.jit`.

        **Returns:** normalised mel spectrograms `(*batch, frames, mels)`, zero in padding; weights; the new state.

        **Raises:** `ShapeError` for more frames than positions; `ConfigError` for dropout without `key` unless
        `inference`.
        """
        mask = length_mask(frame_count, frames, batch=durations.shape[:-1])
        x, weights = self.upsampling(hidden, durations, phone_count=phone_count, frame_count=frame_count, frames=frames)
        attention_mask = block_causal(durations, frames) if self.config.decoder.mask == "block_causal" else None
        x, decoder = self.decoder(
            x, state.decoder, mask=mask, attention_mask=attention_mask, inference=inference, key=key
        )
        correction, postnet = self.postnet(x, state.postnet, mask=mask, inference=inference)
        decoder_mel = masked(self.linear(x), mask)
        mel = decoder_mel + masked(correction, mask)
        return Decoded(hidden, decoder_mel, mel, weights, BatchNormStates(state.encoder, decoder, postnet))

    def __call__(
        self,
        phonemes: Int[Array, "*batch phones"],
        durations: Float[Array, "*batch phones"],
        state: BatchNormStates,
        *,
        phone_count: Int[Array, "*batch"] | int,
        frame_count: Int[Array, "*batch"] | int,
        frames: int,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Decoded:
        """Apply `encode` and `decode`; arguments and errors are theirs."""
        encoder_key, decoder_key = subkeys(key, 2)
        hidden, state = self.encode(phonemes, state, phone_count=phone_count, inference=inference, key=encoder_key)
        counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
        return self.decode(hidden, durations, state, **counts, inference=inference, key=decoder_key)
