"""Recurrent speaker encoders: those of coqui, and that of Resemblyzer, each with the names of its checkpoints."""

import math
from typing import TypeVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.speaker_encoder.config import GE2EConfig, LSTMConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.front_end import (
    FrontEnd,
    front_end,
    instance_norm,
    read_mels,
    unit_length,
    valid_frames,
)
from jaxvoice.nn import LSTM, Linear, Module, length_mask, operation
from jaxvoice.nn._random import scaled_normal

_Layers = TypeVar("_Layers")


class ProjectedLSTM(Module):
    """An LSTM of one layer and a linear map without bias."""

    lstm: LSTM
    linear: Linear

    def __init__(self, inputs: int, hidden: int, outputs: int, *, key: PRNGKeyArray):
        lstm_key, linear_key = jax.random.split(key)
        self.lstm = LSTM(inputs, hidden, key=lstm_key)
        self.linear = Linear(hidden, outputs, use_bias=False, key=linear_key)

    def __call__(
        self, x: Float[Array, "*batch time in"], *, mask: Bool[Array, "*batch time"] | None = None
    ) -> Float[Array, "*batch time out"]:
        """The output at every time; `mask` is true at valid times."""
        return self.linear(self.lstm(x, mask=mask))


class StackedLSTM(Module):
    """An LSTM of several layers; a linear map and a ReLU of its last output."""

    lstm: LSTM
    linear: Linear

    def __init__(self, inputs: int, hidden: int, outputs: int, *, layers: int, key: PRNGKeyArray):
        lstm_key, linear_key = jax.random.split(key)
        self.lstm = LSTM(inputs, hidden, num_layers=layers, key=lstm_key)
        self.linear = Linear(hidden, outputs, key=linear_key)

    def __call__(
        self, x: Float[Array, "*batch time in"], *, count: Int[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch out"]:
        """The vector of the sequence, of which the first `count` times are valid, by default all."""
        return jax.nn.relu(self.linear(_last(self.lstm(x), count)))


class LSTMEncoder(Module):
    """coqui's recurrent encoder: waveforms or mels to embeddings of their speakers.

    The gradient reaches the waveform. Attribute paths are the names of weights in coqui's checkpoints.

    Source: coqui-ai/TTS `TTS/encoder/models/lstm.py`.
    """

    layers: tuple[ProjectedLSTM, ...] | StackedLSTM
    torch_spec: FrontEnd | None
    config: SpeakerEncoderConfig = eqx.field(static=True)

    def __init__(self, config: SpeakerEncoderConfig, *, key: PRNGKeyArray):
        """Draw weights from Xavier's normal distribution; biases are 0.

        **Raises:** `ConfigError` for the configuration of another network.
        """
        sizes, bands = config.network, config.mel.num_mels
        if not isinstance(sizes, LSTMConfig):
            raise ConfigError(f"network is a {type(sizes).__name__}; it should be an LSTMConfig for an LSTMEncoder.")
        *keys, key = jax.random.split(key, 1 + sizes.layers)
        if sizes.projection:
            inputs = [bands, *([sizes.dim] * (sizes.layers - 1))]
            layers = tuple(
                ProjectedLSTM(size, sizes.hidden, sizes.dim, key=k) for size, k in zip(inputs, keys, strict=True)
            )
        else:
            layers = StackedLSTM(bands, sizes.hidden, sizes.dim, layers=sizes.layers, key=keys[0])
        self.layers = _with_xavier_weights(layers, key)
        self.torch_spec = front_end(config)
        self.config = config

    def init_state(self) -> None:
        """The encoder has no running statistics."""

    def __call__(
        self,
        audio: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
        normalize: bool = True,
    ) -> Float[Array, "*batch dim"]:
        """The embedding of audio `(*batch, samples)`; of mels `(*batch, frames, mels)` without a front end.

        **Arguments:** `length`, the valid samples or frames of each row, by default all; `normalize`, whether the
        embedding is divided by its norm.

        **Raises:** `ShapeError` for audio that is too short, or mels of another shape.
        """
        mels = read_mels(audio, self.config, self.torch_spec, length=length)
        count = valid_frames(length, mels.shape[:-2], self.config)
        embedding = self.embed_mels(mels, count=count)
        return unit_length(embedding) if normalize else embedding

    @operation
    def embed_mels(
        self, mels: Float[Array, "*batch frames mels"], *, count: Int[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch dim"]:
        """The embedding of mels before it is normalised; `count` is the number of valid frames, by default all."""
        x = instance_norm(mels, count)
        if isinstance(self.layers, StackedLSTM):
            return self.layers(x, count=count)
        mask = None if count is None else length_mask(count, x.shape[-2], batch=x.shape[:-2])
        for layer in self.layers:
            x = layer(x, mask=mask)
        return _last(x, count)


class GE2EEncoder(Module):
    """Resemblyzer's encoder: waveforms to embeddings of their speakers.

    The gradient reaches the waveform. Attribute paths are the names of weights in Resemblyzer's `pretrained.pt`.

    arXiv 1710.10467; resemble-ai/Resemblyzer `resemblyzer/voice_encoder.py`.
    """

    lstm: LSTM
    linear: Linear
    config: SpeakerEncoderConfig = eqx.field(static=True)

    def __init__(self, config: SpeakerEncoderConfig, *, key: PRNGKeyArray):
        """Draw weights from torch's default distribution.

        **Raises:** `ConfigError` for the configuration of another network.
        """
        sizes = config.network
        if not isinstance(sizes, GE2EConfig):
            raise ConfigError(f"network is a {type(sizes).__name__}; it should be a GE2EConfig for a GE2EEncoder.")
        lstm_key, linear_key = jax.random.split(key)
        self.lstm = LSTM(config.mel.num_mels, sizes.units, num_layers=sizes.depth, key=lstm_key)
        self.linear = Linear(sizes.units, sizes.dim, key=linear_key)
        self.config = config

    def init_state(self) -> None:
        """The encoder has no running statistics."""

    def __call__(
        self,
        audio: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
        normalize: bool = True,
    ) -> Float[Array, "*batch dim"]:
        """The embedding. Arguments and errors are those of `LSTMEncoder`."""
        mels = read_mels(audio, self.config, length=length)
        count = valid_frames(length, mels.shape[:-2], self.config)
        embedding = self.embed_mels(mels, count=count)
        return unit_length(embedding) if normalize else embedding

    @operation
    def embed_mels(
        self, mels: Float[Array, "*batch frames mels"], *, count: Int[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch dim"]:
        """The embedding of mels before it is normalised; `count` is the number of valid frames, by default all."""
        return jax.nn.relu(self.linear(_last(self.lstm(mels), count)))


def _last(
    x: Float[Array, "*batch time channels"], count: Int[Array, "*batch"] | None
) -> Float[Array, "*batch channels"]:
    """The last of `count` times, by default of all."""
    if count is None:
        return x[..., -1, :]
    return jnp.take_along_axis(x, count[..., None, None] - 1, axis=-2)[..., 0, :]


def _with_xavier_weights(layers: _Layers, key: PRNGKeyArray) -> _Layers:
    """`layers` with weights of Xavier's normal distribution, and biases of 0."""
    leaves, structure = jax.tree.flatten(layers)
    arrays = [
        scaled_normal(leaf.shape, math.sqrt(2 / sum(leaf.shape)), key=k) if leaf.ndim == 2 else jnp.zeros_like(leaf)
        for leaf, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)
