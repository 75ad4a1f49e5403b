"""Layers of RAVE: convolutions, activations, residual blocks, adaptive instance norm and the filter bank."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from jaxvoice.dsp.pqmf import invert_odd_bands, pqmf_filters, pqmf_kernels, pqmf_prototype
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.rave.config import PQMFConfig
from jaxvoice.nn import (
    BatchNormState,
    Conv1d,
    ConvTranspose1d,
    MaskedBatchNorm,
    Module,
    PointwiseForm,
    StatefulForm,
    StreamingForm,
    operation,
    residual_form,
    streaming_form,
)
from jaxvoice.nn._inputs import check_input

_SLOPE = 0.2


def conv_padding(kernel_size: int, dilation: int = 1, *, causal: bool = False) -> tuple[int, int]:
    """Zeros on the left and on the right of a convolution; their number does not depend on the stride.

    acids-ircam/cached_conv `cached_conv/convs.py:get_padding`.
    """
    span = (kernel_size - 1) * dilation + 1
    left, right = (span - 1) // 2, span // 2
    if kernel_size == 1:
        return 0, 0
    return (left + right, 0) if causal else (left, right)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    weight_norm: bool = True,
    causal: bool = False,
    key: PRNGKeyArray,
) -> Conv1d:
    """A convolution without bias, padded as in the release."""
    return Conv1d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=conv_padding(kernel_size, dilation, causal=causal),
        dilation=dilation,
        groups=groups,
        use_bias=False,
        weight_norm=weight_norm,
        key=key,
    )


def upsampling_conv(in_channels: int, out_channels: int, ratio: int, *, key: PRNGKeyArray) -> ConvTranspose1d:
    """A transposed convolution without bias, whose output has `ratio` times as many positions as its input."""
    return ConvTranspose1d(
        in_channels,
        out_channels,
        2 * ratio,
        stride=ratio,
        padding=ratio // 2,
        use_bias=False,
        weight_norm=True,
        key=key,
    )


class LeakyReLU(Module):
    """Leaky ReLU with a slope of 0.2 below zero."""

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """The result has the shape of `x`."""
        return jax.nn.leaky_relu(x, _SLOPE)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form without state."""
        return PointwiseForm(self, start, keeps_zeros=True)


class Snake(Module):
    """The activation `x + sin(alpha x)^2 / alpha` with a trained `alpha` for each channel (arXiv 2006.08195)."""

    alpha: Float[Array, "channels 1"]

    def __init__(self, channels: int):
        self.alpha = jnp.ones((channels, 1))

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """The result has the shape of `x`, which is `(*batch, channels)`.

        **Raises:** `ShapeError` for a wrong number of channels.
        """
        check_input(x, self.alpha.shape[0])
        alpha = self.alpha.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return x + jnp.square(jnp.sin(alpha * x)) / (alpha + jnp.asarray(1e-9, x.dtype))

    def streaming_form(self, start: int) -> StreamingForm:
        """The form without state."""
        return PointwiseForm(self, start, keeps_zeros=True)


def activation(channels: int, *, snake: bool) -> LeakyReLU | Snake:
    """The activation between the stages of a network."""
    return Snake(channels) if snake else LeakyReLU()


class Branches(eqx.Module):
    """Parallel branches of a network, with the name that they have in the release."""

    branches: list[Any]


class Residual(Module):
    """The sum of the input and of `body` applied to it."""

    aligned: Branches

    def __init__(self, body: Module | list[Module]):
        """**Arguments:** `body`, a module or the modules of a sequence; its output has the shape of its input."""
        self.aligned = Branches([body])

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        body = self.aligned.branches[0]
        return apply_all(body if isinstance(body, list) else [body], x) + x

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the body, and a delay of the input."""
        return residual_form(self.aligned.branches[0], start, path=self.path)


class DilatedUnit(Module):
    """A dilated and a pointwise convolution, with a leaky ReLU before each. acids-ircam/RAVE `rave/blocks.py`."""

    net: list[LeakyReLU | Conv1d]

    def __init__(self, channels: int, dilation: int, *, causal: bool = False, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        dilated = conv(channels, channels, 3, dilation=dilation, causal=causal, key=first)
        self.net = [LeakyReLU(), dilated, LeakyReLU(), conv(channels, channels, 1, key=second)]

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        return apply_all(self.net, x)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the layers."""
        return streaming_form(self.net, start, path=self.path)


class AdaINState(eqx.Module):
    """Statistics of an `AdaIN`, with the names and shapes of the released buffers.

    Each of `slots` examples of a batch has its own statistics. `x` is the source and `y` is the target.
    """

    mean_x: Float32[Array, "slots channels 1"]
    std_x: Float32[Array, "slots channels 1"]
    learn_x: Float32[Array, "1"]
    """1 while the statistics of the source are measured, otherwise 0."""
    num_update_x: Float32[Array, "1"]
    mean_y: Float32[Array, "slots channels 1"]
    std_y: Float32[Array, "slots channels 1"]
    learn_y: Float32[Array, "1"]
    """1 while the statistics of the target are measured, otherwise 0."""
    num_update_y: Float32[Array, "1"]


class AdaIN(Module):
    """Adaptive instance norm (arXiv 1703.06868): gives the channels of the source the statistics of a target.

    The layer has no weights. In training, it is the identity. acids-ircam/RAVE `rave/blocks.py`.
    """

    channels: int = eqx.field(static=True)

    def init_state(self, *, slots: int = 64) -> AdaINState:
        """Mean 0 and deviation 1 of source and target, with which the layer is the identity."""
        zeros, ones = jnp.zeros((slots, self.channels, 1)), jnp.ones((slots, self.channels, 1))
        flag = jnp.zeros(1)
        return AdaINState(zeros, ones, flag, flag, zeros, ones, flag, flag)

    def __call__(
        self, x: Float[Array, "*batch time channels"], state: AdaINState, *, inference: bool = False
    ) -> tuple[Float[Array, "*batch time channels"], AdaINState]:
        """**Arguments:**

        - `x`: `(*batch, time, channels)`.
        - `state`: statistics. With `inference`, those of the target are updated by `x` if `learn_y` is 1, and those of
            the source if `learn_x` is 1; each is the mean of the statistics of all updates. Then `x` is normalised with
            those of the source, and scaled with those of the target, if both were updated before. Without `inference`,
            `x` and `state` are returned unchanged.

        **Raises:** `ShapeError` for a wrong number of channels, or more examples than `state` has slots.
        """
        check_input(x, self.channels, "time")
        if not inference:
            return x, state
        rows = x.reshape(-1, *x.shape[-2:]).astype(jnp.float32)
        if rows.shape[0] > state.mean_x.shape[0]:
            raise ShapeError(
                f"The batch has {rows.shape[0]} examples; there should be at most {state.mean_x.shape[0]}, the number "
                "of slots of the state of adaptive instance norm. Use init_state with more slots."
            )
        mean = jnp.mean(rows, 1)[..., None]
        std = jnp.std(rows, 1, ddof=min(1, rows.shape[1] - 1))[..., None]
        mean_x, std_x, count_x = _learned(state.mean_x, state.std_x, state.num_update_x, state.learn_x, mean, std)
        mean_y, std_y, count_y = _learned(state.mean_y, state.std_y, state.num_update_y, state.learn_y, mean, std)
        state = AdaINState(mean_x, std_x, state.learn_x, count_x, mean_y, std_y, state.learn_y, count_y)
        used = [statistic[: rows.shape[0]].swapaxes(1, 2) for statistic in (mean_x, std_x, mean_y, std_y)]
        y = (rows - used[0]) / (used[1] + 1e-5) * used[3] + used[2]
        y = jnp.where((count_x > 0) & (count_y > 0), y, rows)
        return y.reshape(x.shape).astype(x.dtype), state

    def streaming_form(self, start: int, state: AdaINState) -> StreamingForm:
        """The form with the statistics as state.

        While statistics are measured, those of each block are one update, as in the release. The result then depends on
        the division into blocks.
        """
        return StatefulForm(self, state, start)


def _learned(mean: Array, std: Array, count: Array, learn: Array, new_mean: Array, new_std: Array):
    """Mean, deviation and count after an update with those of a batch, if `learn` is 1."""
    rows, rate = new_mean.shape[0], (learn / (count + 1)).reshape(1, 1, 1)

    def moved(old: Array, new: Array) -> Array:
        return old.at[:rows].set(jnp.where(rate > 0, old[:rows] + rate * (new - old[:rows]), old[:rows]))

    return moved(mean, new_mean), moved(std, new_std), count + learn


class NetState(eqx.Module):
    """The states of the layers of a network, `None` for layers without state."""

    net: list[BatchNormState | AdaINState | None]


def init_net_state(net: Sequence[Module]) -> NetState | None:
    """The initial state of a sequence of layers; `None` if no layer has a state."""
    states = [layer.init_state() if isinstance(layer, MaskedBatchNorm | AdaIN) else None for layer in net]
    return None if all(state is None for state in states) else NetState(states)


def apply_all(layers: Sequence[Any], x: Array) -> Array:
    """`x` after all `layers`, which have no state."""
    for layer in layers:
        x = layer(x)
    return x


def apply_net(
    net: Sequence[Any], x: Array, state: NetState | None, *, inference: bool
) -> tuple[Array, NetState | None]:
    """`x` after all layers of `net`, and their new states.

    **Raises:** `ConfigError` if a layer has a state and `state` is `None`.
    """
    states: list[Any] = [None] * len(net) if state is None else list(state.net)
    for i, layer in enumerate(net):
        if isinstance(layer, MaskedBatchNorm | AdaIN):
            if state is None:
                raise _missing_state(layer)
            x, states[i] = layer(x, states[i], inference=inference)
        else:
            x = layer(x)
    return x, None if state is None else NetState(states)


def net_form(net: Sequence[Any], start: int, state: NetState | None) -> StreamingForm:
    """The streaming form of `apply_net` in inference.

    **Raises:** `ConfigError` if a layer has a state and `state` is `None`.
    """
    states = [None] * len(net) if state is None else state.net
    for layer, its_state in zip(net, states, strict=True):
        if its_state is None and isinstance(layer, MaskedBatchNorm | AdaIN):
            raise _missing_state(layer)
    return streaming_form(list(net), start, states)


def _missing_state(layer: Module) -> ConfigError:
    return ConfigError(
        f"state is None; it should be the state of the network, which has a {type(layer).__name__}. Pass the result of "
        "init_state."
    )


class PQMF(Module):
    """The filter bank with the names of the released weights: audio to sub-bands, and sub-bands to audio.

    The filters are designed in float64 when the module is made. They are not trained: no gradient reaches them.

    The result of `synthesis` is `num_bands` samples later than the audio whose sub-bands `analysis` computed, as in the
    release; with causal padding, `taps + num_bands` samples. Compare it with delayed audio.
    `jaxvoice.dsp.pqmf_synthesis` has no delay.
    """

    hk: Float[Array, "bands taps"]
    h: Float[Array, " prototype_taps"]
    forward_conv: Conv1d
    inverse_conv: Conv1d

    def __init__(self, config: PQMFConfig, *, causal: bool = False):
        prototype = pqmf_prototype(config.attenuation, config.num_bands)
        filters = pqmf_filters(prototype, config.num_bands)
        forward, inverse = pqmf_kernels(filters)
        bands = config.num_bands
        self.h, self.hk = jnp.asarray(prototype, jnp.float32), jnp.asarray(filters, jnp.float32)
        self.forward_conv = _fixed_conv(1, bands, forward, stride=bands, causal=causal)
        self.inverse_conv = _fixed_conv(bands, bands, inverse, causal=causal)

    @property
    def delay(self) -> int:
        """Samples by which audio is delayed by `analysis` and `synthesis`."""
        bands, taps = self.hk.shape
        causal = self.forward_conv.padding == conv_padding(taps + 1, causal=True)
        return bands + (taps if causal else 0)

    @operation
    def analysis(self, audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch frames bands"]:
        """The sub-bands of all channels: first all bands of the first channel.

        **Raises:** `ShapeError` unless the number of samples is a multiple of the number of bands.
        """
        bands = self.hk.shape[0]
        if audio.ndim < 2 or audio.shape[-2] % bands or audio.shape[-2] == 0:
            raise ShapeError(
                f"The shape of the audio is {audio.shape}; it should be (*batch, samples, channels) with a multiple of "
                f"{bands} samples. Append zeros."
            )
        with_channels = audio.swapaxes(-1, -2)[..., None]
        subbands = invert_odd_bands(lax.stop_gradient(self.forward_conv)(with_channels))
        return subbands.swapaxes(-3, -2).reshape(*audio.shape[:-2], subbands.shape[-2], -1)

    @operation
    def synthesis(self, subbands: Float[Array, "*batch frames bands"]) -> Float[Array, "*batch samples channels"]:
        """The audio of sub-bands of all channels, delayed by `delay` samples.

        **Raises:** `ShapeError` unless the last axis has all bands of each channel.
        """
        bands = self.hk.shape[0]
        if subbands.ndim < 2 or subbands.shape[-1] % bands:
            raise ShapeError(
                f"The shape of the sub-bands is {subbands.shape}; it should be (*batch, frames, bands), with {bands} "
                "bands for each channel."
            )
        *batch, frames, _ = subbands.shape
        x = subbands.reshape(*batch, frames, -1, bands).swapaxes(-3, -2)
        x = lax.stop_gradient(self.inverse_conv)(invert_odd_bands(x)) * jnp.asarray(bands, x.dtype)
        return jnp.flip(x, -1).reshape(*x.shape[:-2], -1).swapaxes(-1, -2)


def _fixed_conv(in_channels: int, out_channels: int, kernel: Any, *, stride: int = 1, causal: bool) -> Conv1d:
    taps = kernel.shape[-1]
    layer = Conv1d(
        in_channels,
        out_channels,
        taps,
        stride=stride,
        padding=conv_padding(taps, causal=causal),
        use_bias=False,
        key=jax.random.key(0),
    )
    return eqx.tree_at(lambda conv: conv.weight, layer, jnp.asarray(kernel, jnp.float32))
