"""The generators of RAVE: latents to sub-bands, or to the waveform."""

from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from jaxvoice.models.rave.config import GeneratorConfig
from jaxvoice.models.rave.encoder import residual_layers
from jaxvoice.models.rave.layers import (
    Branches,
    LeakyReLU,
    NetState,
    Residual,
    activation,
    apply_all,
    apply_net,
    conv,
    init_net_state,
    net_form,
    upsampling_conv,
)
from jaxvoice.models.rave.noise import NoiseGenerator, scaled_sigmoid
from jaxvoice.nn import (
    GRU,
    Conv1d,
    ConvTranspose1d,
    DelayForm,
    Module,
    ParallelForm,
    SequenceForm,
    StreamingForm,
    add_all,
    streaming_form,
)

_V1_KERNEL_SIZES = (3,)
_V1_DILATIONS = (1, 3, 5)


class UpsampleLayer(Module):
    """A leaky ReLU and a transposed convolution; without upsampling, a convolution with three taps."""

    net: list[LeakyReLU | Conv1d | ConvTranspose1d]

    def __init__(self, in_channels: int, out_channels: int, ratio: int, *, causal: bool = False, key: PRNGKeyArray):
        if ratio > 1:
            layer = upsampling_conv(in_channels, out_channels, ratio, key=key)
        else:
            layer = conv(in_channels, out_channels, 3, causal=causal, key=key)
        self.net = [LeakyReLU(), layer]

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """The result has `ratio` times as many positions as `x`."""
        return apply_all(self.net, x)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the layers."""
        return streaming_form(self.net, start, path=self.path)


class ResidualLayer(Module):
    """A dilated and a plain convolution with a leaky ReLU before each, and a residual sum."""

    net: Residual

    def __init__(self, channels: int, kernel_size: int, dilation: int, *, causal: bool = False, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        dilated = conv(channels, channels, kernel_size, dilation=dilation, causal=causal, key=first)
        plain = conv(channels, channels, kernel_size, causal=causal, key=second)
        self.net = Residual([LeakyReLU(), dilated, LeakyReLU(), plain])

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        return self.net(x)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the layers."""
        return streaming_form([self.net], start, path=self.path)


class ResidualBlock(Module):
    """`ResidualLayer`s with one kernel size and several dilations."""

    net: list[ResidualLayer]

    def __init__(self, channels: int, kernel_size: int, *, causal: bool = False, key: PRNGKeyArray):
        keys = jax.random.split(key, len(_V1_DILATIONS))
        self.net = [
            ResidualLayer(channels, kernel_size, dilation, causal=causal, key=k)
            for dilation, k in zip(_V1_DILATIONS, keys, strict=True)
        ]

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        return apply_all(self.net, x)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the layers."""
        return streaming_form(self.net, start, path=self.path)


class ResidualStack(Module):
    """The sum of `ResidualBlock`s with different kernel sizes; the release has one, with three taps."""

    net: Branches

    def __init__(self, channels: int, *, causal: bool = False, key: PRNGKeyArray):
        keys = jax.random.split(key, len(_V1_KERNEL_SIZES))
        self.net = Branches(
            [
                ResidualBlock(channels, size, causal=causal, key=k)
                for size, k in zip(_V1_KERNEL_SIZES, keys, strict=True)
            ]
        )

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        outputs: list[Array] = [block(x) for block in self.net.branches]
        return sum(outputs[1:], outputs[0])

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the blocks."""
        branches = [streaming_form(block, start) for block in self.net.branches]
        return ParallelForm(branches, add_all, keeps_zeros=True, path=self.path)


class GeneratorState(eqx.Module):
    """The state of `GeneratorV1`, with the name of the released buffer."""

    warmed_up: Int32[Array, ""]
    """1 in the second phase of training and after it, in which noise is added; otherwise 0."""


class GeneratorV1(Module):
    """The generator of v1: waveform, loudness and noise in separate branches.

    The result is `tanh(waveform) * loudness + noise`. Attribute paths are names in the release.
    acids-ircam/RAVE `rave/blocks.py:Generator`.
    """

    net: list[Module]
    synth: Branches

    def __init__(
        self, config: GeneratorConfig, in_channels: int, out_channels: int, *, causal: bool = False, key: PRNGKeyArray
    ):
        """**Arguments:** `in_channels`, the number of latents; `out_channels`, the number of sub-bands of all audio
        channels.
        """
        keys = jax.random.split(key, len(config.ratios) + 4)
        channels = config.capacity * 2 ** len(config.ratios)
        net: list[Module] = [conv(in_channels, channels, 7, causal=causal, key=keys[0])]
        for ratio, stage in zip(config.ratios, keys[4:], strict=True):
            up, stack = jax.random.split(stage)
            net.append(UpsampleLayer(channels, channels // 2, ratio, causal=causal, key=up))
            channels //= 2
            net.append(ResidualStack(channels, causal=causal, key=stack))
        self.net = net
        branches: list[Module] = [
            conv(channels, out_channels, 7, causal=causal, key=keys[1]),
            conv(channels, 1, 3, causal=causal, key=keys[2]),
        ]
        if config.noise is not None:
            options = {"version": "v1", "causal": causal, "key": keys[3]}
            branches.append(NoiseGenerator(config.noise, channels, out_channels, **options))
        self.synth = Branches(branches)

    def init_state(self) -> GeneratorState:
        """The initial state, that of the first phase."""
        return GeneratorState(jnp.zeros((), jnp.int32))

    def __call__(
        self,
        z: Float[Array, "*batch frames latents"],
        state: GeneratorState | None = None,
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "*batch noise_frames out frame_length"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch time out"], GeneratorState | None]:
        """**Arguments:**

        - `z`: latents `(*batch, frames, latents)`.
        - `key`: draws the noise. Without `key` and `noise`, no noise is added, as in the first phase of training.
        - `noise`: noise in [-1, 1), instead of noise drawn with `key`; see `NoiseGenerator`.
        - `state` and `inference` have no effect: pass `key` if `state.warmed_up` is 1.

        **Returns:** sub-bands `(*batch, time, out)`, and `state`.
        """
        features = apply_all(self.net, z)
        wave, loudness, *noise_branch = self.synth.branches
        outputs = [wave(features), loudness(features)]
        if noise_branch and not (key is None and noise is None):
            outputs.append(noise_branch[0](features, key=key, noise=noise))
        return _sum_v1(outputs), state

    def streaming_form(self, start: int, state: Any = None, *, noise: bool = False) -> StreamingForm:
        """The form with the states of the layers; `noise`, whether noise is added. `state` has no effect."""
        net = streaming_form(self.net, start)
        branches = self.synth.branches if noise else self.synth.branches[:2]
        forms = [streaming_form(branch, net.next_start) for branch in branches]
        return SequenceForm([net, ParallelForm(forms, _sum_v1)], path=_first(self.path))


class RecurrentLayer(Module):
    """A GRU with as many outputs as inputs. acids-ircam/RAVE `rave/blocks.py:GRU`."""

    gru: GRU

    def __init__(self, channels: int, num_layers: int, *, key: PRNGKeyArray):
        self.gru = GRU(channels, channels, num_layers=num_layers, key=key)

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The result has the shape of `x`."""
        return self.gru(x)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the GRU."""
        return streaming_form([self.gru], start, path=self.path)


class GeneratorV2(Module):
    """The generator of v2: the result is `tanh(waveform * sigmoid(amplitude) + noise)`.

    Indices of `net` are those of the release: the waveform is computed by the last layer of `net`, or by
    `waveform_module` if there is a `noise_module`. acids-ircam/RAVE `rave/blocks.py:GeneratorV2`.
    """

    net: list[Module]
    waveform_module: Conv1d | None
    noise_module: NoiseGenerator | None
    amplitude_modulation: bool = eqx.field(static=True)

    def __init__(
        self, config: GeneratorConfig, in_channels: int, out_channels: int, *, causal: bool = False, key: PRNGKeyArray
    ):
        """**Arguments:** `in_channels`, the number of latents and noise channels; `out_channels`, the number of audio
        channels, or of sub-bands of all audio channels.
        """
        first, last, noise, *keys = jax.random.split(key, len(config.ratios) + 3)
        channels = config.capacity * 2 ** len(config.ratios)
        net: list[Module] = []
        if config.recurrent_layers:
            net.append(RecurrentLayer(in_channels, config.recurrent_layers, key=jax.random.fold_in(first, 1)))
        net.append(conv(in_channels, channels, 3, causal=causal, key=first))
        for ratio, dilations, stage in zip(config.ratios[::-1], config.dilations[::-1], keys, strict=True):
            up, *units = jax.random.split(stage, len(dilations) + 1)
            net.append(activation(channels, snake=config.snake))
            if ratio > 1:
                net.append(upsampling_conv(channels, channels // 2, ratio, key=up))
            else:
                net.append(conv(channels, channels // 2, 3, causal=causal, key=up))
            channels //= 2
            net += residual_layers(channels, dilations, units, adain=config.adain, causal=causal)
        net.append(activation(channels, snake=config.snake))
        self.amplitude_modulation = config.amplitude_modulation
        waveform = conv(channels, out_channels * (1 + config.amplitude_modulation), 7, causal=causal, key=last)
        self.waveform_module = self.noise_module = None
        if config.noise is None:
            net.append(waveform)
        else:
            self.waveform_module = waveform
            self.noise_module = NoiseGenerator(config.noise, channels, out_channels, key=noise)
        self.net = net

    def init_state(self) -> NetState | None:
        """The initial state of adaptive instance norms; `None` if there are none."""
        return init_net_state(self.net)

    def __call__(
        self,
        z: Float[Array, "*batch frames latents"],
        state: NetState | None = None,
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "*batch noise_frames out frame_length"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch time out"], NetState | None]:
        """**Arguments:**

        - `z`: latents `(*batch, frames, latents)`.
        - `state`: statistics of adaptive instance norms, which act with `inference`.
        - `key`: draws the noise of `noise_module`. Without `key` and `noise`, no noise is added.
        - `noise`: noise in [-1, 1), instead of noise drawn with `key`; see `NoiseGenerator`.

        **Returns:** sub-bands or audio `(*batch, time, out)`, and the state.

        **Raises:** `ConfigError` if `state` is missing.
        """
        x, state = apply_net(self.net, z, state, inference=inference)
        outputs = [x if self.waveform_module is None else self.waveform_module(x)]
        if self.noise_module is not None and not (key is None and noise is None):
            outputs.append(self.noise_module(x, key=key, noise=noise))
        return (_modulated_sum_v2 if self.amplitude_modulation else _sum_v2)(outputs), state

    def streaming_form(self, start: int, state: Any = None, *, noise: bool = False) -> StreamingForm:
        """The form with the states of the layers.

        **Arguments:** `state`, the statistics of adaptive instance norms; `noise`, whether noise is added.

        **Raises:** `ConfigError` if `state` is missing.
        """
        net = net_form(self.net, start, state)
        branches: list[StreamingForm] = [
            DelayForm(0, net.next_start)
            if self.waveform_module is None
            else streaming_form(self.waveform_module, net.next_start)
        ]
        if noise and self.noise_module is not None:
            branches.append(streaming_form(self.noise_module, net.next_start))
        combine = _modulated_sum_v2 if self.amplitude_modulation else _sum_v2
        return SequenceForm([net, ParallelForm(branches, combine, keeps_zeros=True)], path=_first(self.path))


def _first(path: str | None) -> str | None:
    """The name of the first of several results."""
    return None if path is None else f"{path}[0]"


def _sum_v1(outputs: list[Array]) -> Array:
    """The output of v1 from the waveform, the loudness, and the noise if there is any."""
    wave, loudness, *noise = outputs
    return add_all([jnp.tanh(wave) * scaled_sigmoid(loudness), *noise])


def _sum_v2(outputs: list[Array]) -> Array:
    """The output of v2 from the waveform, and the noise if there is any."""
    return jnp.tanh(add_all(outputs))


def _modulated_sum_v2(outputs: list[Array]) -> Array:
    """The output of v2 from the waveform beside its amplitude, and the noise if there is any."""
    wave, amplitude = jnp.split(outputs[0], 2, axis=-1)
    return _sum_v2([wave * jax.nn.sigmoid(amplitude), *outputs[1:]])
