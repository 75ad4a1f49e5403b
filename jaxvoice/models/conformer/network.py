"""The Conformer encoder and the recogniser on its output, with the names of NVIDIA NeMo."""

import copy
import math
from typing import NamedTuple, TypeVar, overload

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.models.conformer.layers import ConformerLayer, ConvolutionState, ConvSubsampling, LayerState, subsampled
from jaxvoice.nn import (
    Conv1d,
    FixedBatchNorm,
    MaskedBatchNorm,
    Module,
    dropout,
    length_mask,
    relative_positions,
    subkeys,
)
from jaxvoice.nn._inputs import check_input

_Model = TypeVar("_Model", bound="ConformerEncoder | Conformer")


class EncoderState(eqx.Module):
    """The running statistics of a `ConformerEncoder`, under the names of its batch norms."""

    layers: tuple[LayerState, ...]


class ConformerState(eqx.Module):
    """The running statistics of a `Conformer`, under the names of its batch norms."""

    encoder: EncoderState


class ConformerEncoder(Module):
    """The Conformer encoder (arXiv 2005.08100): log-mel features at 100 Hz to hidden states at 25 Hz.

    An encoder that is trained takes its running statistics as an argument and returns them. `with_state` puts them into
    the encoder, and `fold_batch_norm` into its convolutions; such encoders take and return no state.
    """

    pre_encode: ConvSubsampling
    layers: tuple[ConformerLayer, ...]
    config: ConformerConfig = eqx.field(static=True)

    def __init__(self, config: ConformerConfig, *, key: PRNGKeyArray):
        subsampling_key, key = jax.random.split(key)
        self.pre_encode = ConvSubsampling(config, key=subsampling_key)
        self.layers = tuple(ConformerLayer(config, key=k) for k in jax.random.split(key, config.layers))
        self.config = config

    def init_state(self) -> EncoderState:
        """The initial running statistics; raises `ConfigError` if the encoder takes no state."""
        states = []
        for layer in self.layers:
            norm = layer.conv.batch_norm
            if not isinstance(norm, MaskedBatchNorm):
                raise ConfigError(
                    "The batch norms of the encoder are fixed or folded; they should be those of training."
                )
            states.append(LayerState(ConvolutionState(norm.init_state())))
        return EncoderState(tuple(states))

    @overload
    def __call__(
        self,
        features: Float[Array, "*batch frames mels"],
        state: None = None,
        *,
        length: Int[Array, "*batch"] | int | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]: ...

    @overload
    def __call__(
        self,
        features: Float[Array, "*batch frames mels"],
        state: EncoderState,
        *,
        length: Int[Array, "*batch"] | int | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch time dim"], EncoderState]: ...

    def __call__(self, features, state=None, *, length=None, inference=False, key=None):
        """**Arguments:**

        - `features`: normalised log-mels, as `jaxvoice.dsp.nemo_log_mel` computes them, with time first.
        - `state`: running statistics of the batch norms; `None` for an encoder that takes no state.
        - `length`: valid frames of each example; `None` if all frames are valid.
        - `inference`: use running statistics and no dropout. Encoders that take no state always do.

        **Returns:** hidden states, one for four frames; with `state`, also the running statistics after this batch.
        `output_length(length)` of them are valid, and later ones are arbitrary.

        **Raises:** `ShapeError` for a wrong number of mel bands or no frames; `ConfigError` if the encoder needs a
        state or takes none, or for dropout without `key` unless `inference`.
        """
        check_input(features, self.config.mel.num_mels, "frames")
        if not features.shape[-2]:
            raise ShapeError(f"The shape of the features is {features.shape}; they should have at least one frame.")
        batch, inference = features.shape[:-2], inference or state is None
        count = None if length is None else jnp.broadcast_to(jnp.asarray(length, jnp.int32), batch)
        input_key, *keys = subkeys(key, 1 + len(self.layers))
        x = self.pre_encode(features, length=count)
        mask = None if count is None else length_mask(self.output_length(count), x.shape[-2], batch=batch)
        if self.config.xscaling:
            x = x * math.sqrt(self.config.dim)
        x = dropout(x, self.config.dropout, inference=inference, key=input_key)
        positions = relative_positions(x.shape[-2], self.config.dim, x.dtype)
        if state is None:
            for layer, layer_key in zip(self.layers, keys, strict=True):
                x = layer(x, positions, mask=mask, inference=inference, key=layer_key)
            return x
        states = []
        for layer, layer_state, layer_key in zip(self.layers, state.layers, keys, strict=True):
            x, new = layer(x, positions, layer_state, mask=mask, inference=inference, key=layer_key)
            states.append(new)
        return x, EncoderState(tuple(states))

    @overload
    def output_length(self, length: int) -> int: ...

    @overload
    def output_length(self, length: Int[Array, "*batch"]) -> Int[Array, "*batch"]: ...

    def output_length(self, length):
        """The number of hidden states of `length` frames: a quarter, rounded up."""
        return subsampled(subsampled(length))


class ConvClassifier(Module):
    """Logits of every frame, by a convolution of kernel size 1."""

    decoder_layers: tuple[Conv1d]

    def __init__(self, dim: int, classes: int, *, key: PRNGKeyArray):
        self.decoder_layers = (Conv1d(dim, classes, 1, key=key),)

    def __call__(self, hidden: Float[Array, "*batch time dim"]) -> Float[Array, "*batch time classes"]:
        """The logits."""
        return self.decoder_layers[0](hidden)


class ConformerOutput(NamedTuple):
    """The output of a `Conformer`."""

    hidden: Float[Array, "*batch time dim"]
    """Hidden states of the encoder, the content features."""
    logits: Float[Array, "*batch time classes"] | None
    """Logits of the classes; `None` without a recogniser."""
    state: ConformerState | None
    """The running statistics after this batch; `None` if none were given."""


class Conformer(Module):
    """A Conformer encoder and, if the configuration has `classes`, a recogniser on its output."""

    encoder: ConformerEncoder
    decoder: ConvClassifier | None

    def __init__(self, config: ConformerConfig, *, key: PRNGKeyArray):
        encoder_key, decoder_key = jax.random.split(key)
        self.encoder = ConformerEncoder(config, key=encoder_key)
        self.decoder = None
        if config.classes is not None:
            self.decoder = ConvClassifier(config.dim, config.classes, key=decoder_key)

    @property
    def config(self) -> ConformerConfig:
        """The configuration of the network."""
        return self.encoder.config

    def init_state(self) -> ConformerState:
        """The initial running statistics."""
        return ConformerState(self.encoder.init_state())

    def __call__(
        self,
        features: Float[Array, "*batch frames mels"],
        state: ConformerState | None = None,
        *,
        length: Int[Array, "*batch"] | int | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> ConformerOutput:
        """Hidden states and logits. Arguments and errors are those of `ConformerEncoder`."""
        options = {"length": length, "inference": inference, "key": key}
        if state is None:
            hidden = self.encoder(features, **options)
        else:
            hidden, encoder_state = self.encoder(features, state.encoder, **options)
            state = ConformerState(encoder_state)
        return ConformerOutput(hidden, None if self.decoder is None else self.decoder(hidden), state)


def _replace_layers(model: _Model, replace) -> _Model:
    """`model` with `replace(i, conv)` in place of the convolution module of each layer i."""
    encoder = model.encoder if isinstance(model, Conformer) else model
    layers = tuple(
        eqx.tree_at(lambda one: one.conv, layer, replace(i, layer.conv)) for i, layer in enumerate(encoder.layers)
    )
    new = eqx.tree_at(lambda one: one.layers, encoder, layers)
    return eqx.tree_at(lambda one: one.encoder, model, new) if isinstance(model, Conformer) else new


def with_state(model: _Model, state: ConformerState | EncoderState) -> _Model:
    """A `Conformer` or `ConformerEncoder` that contains its running statistics, as stored in a model folder.

    The copy takes no state. Its arrays have the names of NeMo's checkpoints.
    """
    states = state.encoder.layers if isinstance(state, ConformerState) else state.layers

    def fixed(i, conv):
        norm = conv.batch_norm
        if not isinstance(norm, MaskedBatchNorm):
            raise ConfigError("The batch norms of the model are fixed or folded; they should be those of training.")
        return eqx.tree_at(lambda one: one.batch_norm, conv, FixedBatchNorm(norm, states[i].conv.batch_norm))

    return _replace_layers(model, fixed)


def without_state(model: Conformer) -> tuple[Conformer, ConformerState]:
    """The inverse of `with_state`: the network for training, and its running statistics.

    **Raises:** `ConfigError` if the batch norms are not `FixedBatchNorm`.
    """
    states = []

    def separate(i, conv):
        if not isinstance(conv.batch_norm, FixedBatchNorm):
            raise ConfigError("The batch norms of the model contain no statistics; they should be FixedBatchNorm.")
        norm, state = conv.batch_norm.separate()
        states.append(LayerState(ConvolutionState(state)))
        return eqx.tree_at(lambda one: one.batch_norm, conv, norm)

    trained = _replace_layers(model, separate)
    return trained, ConformerState(EncoderState(tuple(states)))


def fold_batch_norm(model: _Model, state: ConformerState | EncoderState | None = None) -> _Model:
    """A `Conformer` or `ConformerEncoder` whose batch norms are part of the depthwise convolutions, for frozen use.

    **Arguments:** `state`, the running statistics; `None` if `model` contains them.

    **Raises:** `ConfigError` if there are no running statistics, or they are given twice.
    """
    model = model if state is None else with_state(model, state)

    def folded(i, conv):
        norm, depthwise = conv.batch_norm, conv.depthwise_conv
        if norm is None:
            return conv
        if not isinstance(norm, FixedBatchNorm):
            raise ConfigError("state is None; it should be the running statistics, which the model does not contain.")
        scale, shift = norm.factors()
        kernel, bias = depthwise.weight * scale[:, None, None], depthwise.bias * scale + shift
        new = eqx.tree_at(lambda one: (one.weight, one.bias), depthwise, (kernel, bias))
        return eqx.tree_at(lambda one: (one.depthwise_conv, one.batch_norm), conv, (new, None))

    return _replace_layers(model, folded)


def mask_padding(model: _Model) -> _Model:
    """`model` with the padding rule of NeMo since 2.5 in the subsampling, so that padding does not change results.

    For inputs without padding, the results of both rules are the same.
    """
    encoder = model.encoder if isinstance(model, Conformer) else model
    subsampling = copy.copy(encoder.pre_encode)
    object.__setattr__(subsampling, "masks_padding", True)
    new = eqx.tree_at(lambda one: one.pre_encode, encoder, subsampling)
    return eqx.tree_at(lambda one: one.encoder, model, new) if isinstance(model, Conformer) else new
