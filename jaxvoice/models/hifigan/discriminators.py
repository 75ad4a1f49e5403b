"""HiFi-GAN's discriminators: of waveforms folded at several periods, and of waveforms at several sample rates."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.nn import ColumnConv, Conv1d, Module, SpectralConv1d, SpectralNormState, average_pool1d
from jaxvoice.nn._inputs import check_input
from jaxvoice.nn._ops import check_time

_SLOPE = 0.1


class DiscriminatorOutput(NamedTuple):
    """The output of one discriminator: logits at several positions of each example, and the feature maps."""

    logits: Float[Array, "*batch positions"]
    """Near 1 for real audio and near 0 for generated audio."""
    features: list[Float[Array, "..."]]
    """The outputs of all layers, including the last.

    Their shape is `(*batch, time, channels)`, or `(*batch, period, frames, channels)` for folded waveforms.
    """


def _leaky_relu(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.asarray(_SLOPE, x.dtype) * x)


class PeriodDiscriminator(Module):
    """Discriminates waveforms folded into columns that are `period` samples apart (arXiv 2010.05646, section 2.3).

    jik876/hifi-gan `models.py:DiscriminatorP`.
    """

    convs: list[ColumnConv]
    conv_post: ColumnConv
    period: int = eqx.field(static=True)

    def __init__(self, period: int, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 6)
        channels = [config.channels(c) for c in (1, 32, 128, 512, 1024, 1024)]
        strides = (3, 3, 3, 3, 1)
        self.period = period
        self.convs = [
            ColumnConv(channels[i], channels[i + 1], 5, stride=s, padding=2, weight_norm=True, key=keys[i])
            for i, s in enumerate(strides)
        ]
        self.conv_post = ColumnConv(channels[-1], 1, 3, padding=1, weight_norm=True, key=keys[5])

    def __call__(self, audio: Float[Array, "*batch samples 1"]) -> DiscriminatorOutput:
        """**Arguments:** `audio` of shape `(*batch, samples, 1)`.

        **Raises:** `ShapeError` if `audio` has a different number of channels, or no samples.
        """
        check_input(audio, 1, "samples")
        *batch, samples, channels = audio.shape
        check_time(samples, 1, "a discriminator")
        missing = -samples % self.period
        if missing:
            audio = jnp.pad(audio, (*[(0, 0)] * len(batch), (0, missing), (0, 0)), mode="reflect")
        frames = (samples + missing) // self.period
        x = audio.reshape(*batch, frames, self.period, channels).swapaxes(-3, -2)
        features = []
        for conv in self.convs:
            x = _leaky_relu(conv(x))
            features.append(x)
        x = self.conv_post(x)
        logits = x[..., 0].swapaxes(-1, -2)
        return DiscriminatorOutput(logits.reshape(*batch, math.prod(logits.shape[-2:])), [*features, x])


class ScaleState(eqx.Module):
    """Spectral-norm state of one scale discriminator, with the names of the released buffers."""

    convs: list[SpectralNormState]
    conv_post: SpectralNormState

    @property
    def layers(self) -> list[SpectralNormState]:
        """The states of all layers in order."""
        return [*self.convs, self.conv_post]


class MultiScaleState(eqx.Module):
    """Spectral-norm state of the multi-scale discriminator, of which only the first discriminator has spectral norm."""

    discriminators: list[ScaleState]


class ScaleDiscriminator(Module):
    """Discriminates waveforms with strided grouped convolutions (arXiv 2010.05646, 2.3; MelGAN, arXiv 1910.06711).

    The convolutions have weight norm, or spectral norm with `spectral=True`. Spectral norm has state; see
    `MultiScaleDiscriminator`. jik876/hifi-gan `models.py:DiscriminatorS`.
    """

    convs: list[Conv1d | SpectralConv1d]
    conv_post: Conv1d | SpectralConv1d

    def __init__(self, config: DiscriminatorConfig, *, spectral: bool, key: PRNGKeyArray):
        keys = jax.random.split(key, 8)
        channels = [config.channels(c) for c in (1, 128, 128, 256, 512, 1024, 1024, 1024)]
        shapes = [(15, 1, 1, 7), (41, 2, 4, 20), (41, 2, 16, 20), (41, 4, 16, 20), (41, 4, 16, 20), (41, 1, 16, 20)]

        def conv(i: int, o: int, taps: int, stride: int, groups: int, padding: int, key: PRNGKeyArray):
            options = {"stride": stride, "groups": groups, "padding": padding, "key": key}
            if spectral:
                return SpectralConv1d(i, o, taps, **options)
            return Conv1d(i, o, taps, weight_norm=True, **options)

        self.convs = [
            conv(channels[i], channels[i + 1], *shape, keys[i]) for i, shape in enumerate([*shapes, (5, 1, 1, 2)])
        ]
        self.conv_post = conv(channels[-1], 1, 3, 1, 1, 1, keys[7])

    @property
    def layers(self) -> list[Conv1d | SpectralConv1d]:
        """All convolutions in order."""
        return [*self.convs, self.conv_post]

    def init_state(self, *, key: PRNGKeyArray) -> ScaleState | None:
        """Random vectors of spectral norm; `None` for a discriminator with weight norm."""
        layers = [layer for layer in self.layers if isinstance(layer, SpectralConv1d)]
        if not layers:
            return None
        keys = jax.random.split(key, len(layers))
        *convs, post = [layer.init_state(key=k) for layer, k in zip(layers, keys, strict=True)]
        return ScaleState(convs, post)

    def power_iteration(self, state: ScaleState) -> ScaleState:
        """The vectors of all layers after one power iteration."""
        layers = [layer for layer in self.layers if isinstance(layer, SpectralConv1d)]
        *convs, post = [layer.power_iteration(s) for layer, s in zip(layers, state.layers, strict=True)]
        return ScaleState(convs, post)

    def __call__(
        self, audio: Float[Array, "*batch samples 1"], state: ScaleState | None = None, *, inference: bool = False
    ) -> tuple[DiscriminatorOutput, ScaleState | None]:
        """**Arguments:**

        - `audio`: `(*batch, samples, 1)`.
        - `state`: state of spectral norm, as for `jaxvoice.nn.SpectralConv1d`; `None` with weight norm.

        **Raises:** `ConfigError` if `state` is missing with spectral norm, or given with weight norm.
        """
        if isinstance(self.conv_post, SpectralConv1d) == (state is None):
            raise ConfigError(
                "state is None; it should be the state of spectral norm. Pass the result of init_state."
                if state is None
                else f"state is a {type(state).__name__}; it should be None, as this discriminator has weight norm."
            )
        x, features, states = audio, [], []
        for i, conv in enumerate(self.layers):
            if isinstance(conv, SpectralConv1d):
                assert state is not None
                x, layer_state = conv(x, state.layers[i], inference=inference)
                states.append(layer_state)
            else:
                x = conv(x)
            x = _leaky_relu(x) if i < len(self.convs) else x
            features.append(x)
        state = ScaleState(states[:-1], states[-1]) if states else None
        return DiscriminatorOutput(x[..., 0], features), state


class MultiPeriodDiscriminator(Module):
    """One `PeriodDiscriminator` per period."""

    discriminators: list[PeriodDiscriminator]

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.periods))
        self.discriminators = [PeriodDiscriminator(p, config, key=k) for p, k in zip(config.periods, keys, strict=True)]

    def __call__(self, audio: Float[Array, "*batch samples 1"]) -> list[DiscriminatorOutput]:
        """The output of each period's discriminator for `audio` of shape `(*batch, samples, 1)`."""
        return [discriminator(audio) for discriminator in self.discriminators]


class MultiScaleDiscriminator(Module):
    """`ScaleDiscriminator`s on the waveform and on successively average-pooled versions of it (window 4, stride 2).

    The first one has spectral norm, whose vectors are state.
    """

    discriminators: list[ScaleDiscriminator]

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, config.scales)
        self.discriminators = [ScaleDiscriminator(config, spectral=i == 0, key=k) for i, k in enumerate(keys)]

    def init_state(self, *, key: PRNGKeyArray) -> MultiScaleState:
        """Random vectors of spectral norm."""
        state = self.discriminators[0].init_state(key=key)
        assert state is not None
        return MultiScaleState([state])

    def power_iteration(self, state: MultiScaleState) -> MultiScaleState:
        """The vectors after one power iteration."""
        return MultiScaleState([self.discriminators[0].power_iteration(state.discriminators[0])])

    def __call__(
        self, audio: Float[Array, "*batch samples 1"], state: MultiScaleState, *, inference: bool = False
    ) -> tuple[list[DiscriminatorOutput], MultiScaleState]:
        """**Arguments:**

        - `audio`: `(*batch, samples, 1)`.
        - `state`: state of spectral norm. It is advanced by one power iteration before it is used, as in every forward
            pass of training in the release; with `inference` it is used and returned unchanged. Batch axes of its
            vectors are the last batch axes of `audio`, so that real and generated audio can be stacked.

        **Returns:** the output at each scale, and the state.
        """
        x, outputs, states = audio, [], [*state.discriminators, *[None] * (len(self.discriminators) - 1)]
        for i, (discriminator, scale_state) in enumerate(zip(self.discriminators, states, strict=True)):
            x = average_pool1d(x, window=4, stride=2, padding=2) if i else x
            output, states[i] = discriminator(x, scale_state, inference=inference)
            outputs.append(output)
        return outputs, MultiScaleState([scale_state for scale_state in states if scale_state is not None])


class Discriminators(Module):
    """The multi-period and the multi-scale discriminator.

    Attribute paths under `mpd` and `msd` are the names in released `do_` files.
    """

    mpd: MultiPeriodDiscriminator
    msd: MultiScaleDiscriminator

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        mpd_key, msd_key = jax.random.split(key)
        self.mpd = MultiPeriodDiscriminator(config, key=mpd_key)
        self.msd = MultiScaleDiscriminator(config, key=msd_key)

    def __call__(
        self, audio: Float[Array, "*batch samples 1"], state: MultiScaleState, *, inference: bool = False
    ) -> tuple[tuple[list[DiscriminatorOutput], list[DiscriminatorOutput]], MultiScaleState]:
        """The outputs of `mpd` and of `msd`, and the state of `msd`. Arguments as for `MultiScaleDiscriminator`."""
        scale, state = self.msd(audio, state, inference=inference)
        return (self.mpd(audio), scale), state
