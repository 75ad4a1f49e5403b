"""The residual network H/ASP: squeeze and excitation, and attentive pooling; with coqui's names."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.speaker_encoder.config import ResNetConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.front_end import (
    FrontEnd,
    front_end,
    instance_norm,
    read_mels,
    unit_length,
    valid_frames,
)
from jaxvoice.nn import (
    BatchNormState,
    Conv1d,
    Conv2d,
    FixedBatchNorm,
    Linear,
    MaskedBatchNorm,
    Module,
    length_mask,
    operation,
)
from jaxvoice.nn._random import scaled_normal

_LOG_GUARD, _VARIANCE_FLOOR = 1e-6, 1e-5
_GROUPS = ("layer1", "layer2", "layer3", "layer4")

Norm = MaskedBatchNorm | FixedBatchNorm


class BlockState(eqx.Module):
    """The running statistics of a `SEBasicBlock`."""

    bn1: BatchNormState
    bn2: BatchNormState
    downsample: BatchNormState | None


class ResNetState(eqx.Module):
    """The running statistics of a `ResNetSE`."""

    bn1: BatchNormState
    layer1: tuple[BlockState, ...]
    layer2: tuple[BlockState, ...]
    layer3: tuple[BlockState, ...]
    layer4: tuple[BlockState, ...]
    attention: BatchNormState


def _masked(x: Float[Array, "*batch mels frames channels"], count: Int[Array, "*batch"] | None) -> Array:
    """`x` with zeros after the first `count` frames."""
    if count is None:
        return x
    mask = length_mask(count, x.shape[-2], batch=x.shape[:-3])
    return jnp.where(mask[..., None, :, None], x, jnp.zeros((), x.dtype))


def _normalise(norm: Norm, x: Array, state: Any, inference: bool) -> tuple[Array, Any]:
    """The output of `norm`, and its new state; the state is `None` for a norm that contains its statistics."""
    if isinstance(norm, FixedBatchNorm):
        return norm(x), None
    return norm(x, state, inference=inference)


def _convolution(inputs: int, outputs: int, taps: int, stride: int, use_bias: bool, key: PRNGKeyArray) -> Conv2d:
    """A convolution with weights of He's normal distribution, whose variance depends on the outputs."""
    conv_key, key = jax.random.split(key)
    conv = Conv2d(inputs, outputs, taps, stride=stride, padding=taps // 2, use_bias=use_bias, key=conv_key)
    deviation = math.sqrt(2 / (outputs * taps * taps))
    weight = scaled_normal((outputs, inputs, taps, taps), deviation, key=key)
    return eqx.tree_at(lambda one: one.weight, conv, weight)


class SELayer(Module):
    """Squeeze and excitation (arXiv 1709.01507): scales channels by a function of their means."""

    fc: tuple[Linear, None, Linear]

    def __init__(self, channels: int, reduction: int, *, key: PRNGKeyArray):
        down_key, up_key = jax.random.split(key)
        down, up = channels // reduction, channels
        self.fc = (Linear(channels, down, key=down_key), None, Linear(down, up, key=up_key))

    def __call__(
        self, x: Float[Array, "*batch mels frames channels"], *, count: Int[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch mels frames channels"]:
        """`x` with scaled channels; frames after the first `count` are zero and have no part in the means."""
        mean = jnp.mean(x, axis=(-3, -2))
        if count is not None:
            mean = mean * (x.shape[-2] / count.astype(x.dtype))[..., None]
        scale = self.fc[2](jax.nn.relu(self.fc[0](mean)))
        return x * jax.nn.sigmoid(scale)[..., None, None, :]


class SEBasicBlock(Module):
    """Two convolutions with squeeze and excitation, around which a shortcut leads.

    The first batch norm follows the ReLU. A block whose shape changes has a convolution in the shortcut.
    """

    conv1: Conv2d
    bn1: Norm
    conv2: Conv2d
    bn2: Norm
    se: SELayer
    downsample: tuple[Conv2d, Norm] | None

    def __init__(self, inputs: int, channels: int, stride: int, reduction: int, *, key: PRNGKeyArray):
        first_key, second_key, se_key, shortcut_key = jax.random.split(key, 4)
        self.conv1 = _convolution(inputs, channels, 3, stride, False, first_key)
        self.bn1, self.bn2 = MaskedBatchNorm(channels), MaskedBatchNorm(channels)
        self.conv2 = _convolution(channels, channels, 3, 1, False, second_key)
        self.se = SELayer(channels, reduction, key=se_key)
        self.downsample = None
        if stride != 1 or inputs != channels:
            shortcut = _convolution(inputs, channels, 1, stride, False, shortcut_key)
            self.downsample = (shortcut, MaskedBatchNorm(channels))

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch mels frames in"],
        state: None = None,
        *,
        inference: bool = False,
        count: Int[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch new_mels new_frames out"]: ...

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch mels frames in"],
        state: BlockState,
        *,
        inference: bool = False,
        count: Int[Array, "*batch"] | None = None,
    ) -> tuple[Float[Array, "*batch new_mels new_frames out"], BlockState]: ...

    def __call__(self, x, state=None, *, inference=False, count=None):
        """The output; with `state`, also the running statistics after this batch.

        **Arguments:** `count`, the valid frames of the output, by default all; frames of `x` that are not valid are
        zero.
        """
        of_first, of_second, of_shortcut = (None,) * 3 if state is None else (state.bn1, state.bn2, state.downsample)
        y, of_first = _normalise(self.bn1, jax.nn.relu(self.conv1(x)), of_first, inference)
        y, of_second = _normalise(self.bn2, self.conv2(_masked(y, count)), of_second, inference)
        y = self.se(_masked(y, count), count=count)
        if self.downsample is not None:
            conv, norm = self.downsample
            x, of_shortcut = _normalise(norm, conv(x), of_shortcut, inference)
        y = _masked(jax.nn.relu(y + x), count)
        return y if state is None else (y, BlockState(of_first, of_second, of_shortcut))


class ResNetSE(Module):
    """H/ASP: waveforms or mels to embeddings of their speakers.

    An encoder that is trained takes its running statistics as an argument and returns them. `with_state` puts them into
    the encoder, which then takes and returns no state, and whose embeddings do not depend on the rest of the batch. The
    gradient reaches the waveform. Attribute paths are the names of weights in coqui's checkpoints.

    arXiv 2009.14153; coqui-ai/TTS `TTS/encoder/models/resnet.py`.
    """

    conv1: Conv2d
    bn1: Norm
    layer1: tuple[SEBasicBlock, ...]
    layer2: tuple[SEBasicBlock, ...]
    layer3: tuple[SEBasicBlock, ...]
    layer4: tuple[SEBasicBlock, ...]
    torch_spec: FrontEnd | None
    attention: tuple[Conv1d, None, Norm, Conv1d]
    fc: Linear
    config: SpeakerEncoderConfig = eqx.field(static=True)

    def __init__(self, config: SpeakerEncoderConfig, *, key: PRNGKeyArray):
        """**Raises:** `ConfigError` for the configuration of another network."""
        sizes = config.network
        if not isinstance(sizes, ResNetConfig):
            raise ConfigError(f"network is a {type(sizes).__name__}; it should be a ResNetConfig for a ResNetSE.")
        first_key, in_key, out_key, fc_key, *keys = jax.random.split(key, 4 + sum(sizes.blocks))
        self.conv1 = _convolution(1, sizes.channels[0], 3, 1, True, first_key)
        self.bn1 = MaskedBatchNorm(sizes.channels[0])
        groups, inputs = [], sizes.channels[0]
        for group, (count, channels) in enumerate(zip(sizes.blocks, sizes.channels, strict=True)):
            blocks = []
            for number in range(count):
                stride = 2 if group and not number else 1
                blocks.append(SEBasicBlock(inputs, channels, stride, sizes.reduction, key=keys.pop(0)))
                inputs = channels
            groups.append(tuple(blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.torch_spec = front_end(config)
        features = sizes.channels[-1] * -(-config.mel.num_mels // 8)
        self.attention = (
            Conv1d(features, sizes.attention, 1, key=in_key),
            None,
            MaskedBatchNorm(sizes.attention),
            Conv1d(sizes.attention, features, 1, key=out_key),
        )
        self.fc = Linear(features * (2 if sizes.pooling == "ASP" else 1), sizes.dim, key=fc_key)
        self.config = config

    def init_state(self) -> ResNetState:
        """The initial running statistics; raises `ConfigError` if the encoder contains its statistics."""
        states = iter([_trained(norm).init_state() for norm in _norms(self)])
        return _collect(self, states)

    @overload
    def __call__(
        self,
        audio: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
        state: None = None,
        *,
        length: Int[Array, "*batch"] | int | None = None,
        normalize: bool = True,
        inference: bool = False,
    ) -> Float[Array, "*batch dim"]: ...

    @overload
    def __call__(
        self,
        audio: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
        state: ResNetState,
        *,
        length: Int[Array, "*batch"] | int | None = None,
        normalize: bool = True,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch dim"], ResNetState]: ...

    def __call__(self, audio, state=None, *, length=None, normalize=True, inference=False):
        """**Arguments:**

        - `audio`: `(*batch, samples)` at the sample rate of the configuration; mels `(*batch, frames, mels)` for an
            encoder without a front end.
        - `state`: running statistics of the batch norms; `None` for an encoder that contains them.
        - `length`: valid samples or frames of each row, by default all; only for an encoder that contains its
            statistics. The rest has no influence.
        - `normalize`: whether the embedding is divided by its norm.
        - `inference`: normalise with the running statistics, not with those of the batch. Encoders that contain their
            statistics always do.

        **Returns:** the embedding; with `state`, also the running statistics after this batch.

        **Raises:** `ShapeError` for audio that is too short, or mels of another shape; `ConfigError` if the encoder
        needs a state or takes none.
        """
        mels = read_mels(audio, self.config, self.torch_spec, length=length)
        count = valid_frames(length, mels.shape[:-2], self.config)
        if state is None:
            embedding = self.embed_mels(mels, inference=inference, count=count)
        else:
            if count is not None:
                raise ConfigError("length is given; it should be None for an encoder that is trained. Cut the batch.")
            embedding, state = self.embed_mels(mels, state, inference=inference)
        embedding = unit_length(embedding) if normalize else embedding
        return embedding if state is None else (embedding, state)

    @operation
    def embed_mels(
        self,
        mels: Float[Array, "*batch frames mels"],
        state: Any = None,
        *,
        inference: bool = False,
        count: Int[Array, "*batch"] | None = None,
    ) -> Any:
        """The embedding of mels before it is normalised; with `state`, also the running statistics after this batch.

        **Arguments:** `count`, the number of valid frames, by default all.

        **Raises:** `ConfigError` if the encoder needs a state or takes none.
        """
        if isinstance(self.bn1, FixedBatchNorm) == (state is not None):
            if state is None:
                raise ConfigError("state is None; it should be a state for training. Use with_state for inference.")
            raise ConfigError("state is given; it should be None, because the encoder contains its statistics.")
        sizes = self.config.network
        assert isinstance(sizes, ResNetConfig)
        if sizes.log_input:
            mels = jnp.log(mels + _LOG_GUARD)
        x = instance_norm(mels, count).swapaxes(-1, -2)[..., None]
        x, first = _normalise(self.bn1, jax.nn.relu(self.conv1(x)), None if state is None else state.bn1, inference)
        x = _masked(x, count)
        groups: dict[str, Any] = {}
        for number, name in enumerate(_GROUPS):
            # The first convolution of each group but the first halves the frames.
            count = count if count is None or not number else (count + 1) // 2
            blocks: Sequence[SEBasicBlock] = getattr(self, name)
            if state is None:
                for block in blocks:
                    x = block(x, count=count)
                continue
            new_states = []
            for block, block_state in zip(blocks, getattr(state, name), strict=True):
                x, new = block(x, block_state, inference=inference)
                new_states.append(new)
            groups[name] = tuple(new_states)
        # The features of a frame are ordered by channel, then by band.
        x = jnp.moveaxis(x, (-3, -2, -1), (-1, -3, -2))
        x = x.reshape(*x.shape[:-2], -1)
        hidden = jax.nn.relu(self.attention[0](x))
        hidden, last = _normalise(self.attention[2], hidden, None if state is None else state.attention, inference)
        weights = self.attention[3](hidden)
        if count is not None:
            mask = length_mask(count, x.shape[-2], batch=x.shape[:-2])[..., None]
            weights = jnp.where(mask, weights, jnp.finfo(weights.dtype).min)
        weights = jax.nn.softmax(weights, axis=-2)
        mean = pooled = jnp.sum(x * weights, axis=-2)
        if sizes.pooling == "ASP":
            variance = jnp.sum(jnp.square(x) * weights, axis=-2) - jnp.square(mean)
            pooled = jnp.concatenate([mean, jnp.sqrt(jnp.maximum(variance, _VARIANCE_FLOOR))], axis=-1)
        embedding = self.fc(pooled)
        return embedding if state is None else (embedding, ResNetState(bn1=first, attention=last, **groups))


def _norms(model: ResNetSE) -> list[Norm]:
    """The batch norms of `model`, in the order of `_collect`."""
    norms = [model.bn1]
    for block in (*model.layer1, *model.layer2, *model.layer3, *model.layer4):
        norms += [block.bn1, block.bn2] + ([] if block.downsample is None else [block.downsample[1]])
    return [*norms, model.attention[2]]


def _collect(model: ResNetSE, states: Iterator[BatchNormState]) -> ResNetState:
    """The state of `model` from those of its batch norms."""

    def of_block(block: SEBasicBlock) -> BlockState:
        return BlockState(next(states), next(states), None if block.downsample is None else next(states))

    first = next(states)
    groups = {name: tuple(of_block(block) for block in getattr(model, name)) for name in _GROUPS}
    return ResNetState(bn1=first, attention=next(states), **groups)


def _trained(norm: Norm) -> MaskedBatchNorm:
    if not isinstance(norm, MaskedBatchNorm):
        raise ConfigError("The batch norms of the encoder contain their statistics; they should be those of training.")
    return norm


def with_state(model: ResNetSE, state: ResNetState) -> ResNetSE:
    """An encoder that contains its running statistics, as stored in a model folder; it takes no state.

    **Raises:** `ConfigError` if `model` contains statistics.
    """
    states = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, BatchNormState))
    fixed = [FixedBatchNorm(_trained(norm), one) for norm, one in zip(_norms(model), states, strict=True)]
    return eqx.tree_at(_norms, model, fixed)


def without_state(model: ResNetSE) -> tuple[ResNetSE, ResNetState]:
    """The inverse of `with_state`: the encoder for training, and its running statistics.

    **Raises:** `ConfigError` if `model` contains no statistics.
    """
    norms = _norms(model)
    if not all(isinstance(norm, FixedBatchNorm) for norm in norms):
        raise ConfigError("The batch norms of the encoder contain no statistics; they should be FixedBatchNorm.")
    separate = [norm.separate() for norm in norms if isinstance(norm, FixedBatchNorm)]
    trained = eqx.tree_at(_norms, model, [norm for norm, _ in separate])
    return trained, _collect(trained, iter([state for _, state in separate]))
