"""HiFi-GAN's critics: waveforms folded at several periods, and waveforms at several rates."""

from typing import NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.nn import Conv1d, Conv2d, SpectralConv1d, SpectralVectors, average_pool1d

_SLOPE = 0.1


class Judgement(NamedTuple):
    """What one discriminator says of each example: scores at several places, and the activations on the way.

    From `time_major` methods: `score` `(batch, places)`, `features` channels-last. From `__call__`: one example, in
    torch's order, `(places,)` and `(channels, time)` or `(channels, frames, period)`.
    """

    score: Float[Array, "*batch places"]
    features: list[Float[Array, "..."]]


def _leaky_relu(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.asarray(_SLOPE, x.dtype) * x)


class PeriodDiscriminator(eqx.Module):
    """Judges a waveform folded into columns that are `period` samples apart (arXiv 2010.05646, section 2.3).

    jik876/hifi-gan `models.py:DiscriminatorP`.
    """

    convs: list[Conv2d]
    conv_post: Conv2d
    period: int = eqx.field(static=True)

    def __init__(self, period: int, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 6)
        channels = [config.channels(c) for c in (1, 32, 128, 512, 1024, 1024)]
        strides = (3, 3, 3, 3, 1)
        self.period = period
        self.convs = [
            Conv2d(channels[i], channels[i + 1], (5, 1), stride=(s, 1), padding=(2, 0), weight_norm=True, key=keys[i])
            for i, s in enumerate(strides)
        ]
        self.conv_post = Conv2d(channels[-1], 1, (3, 1), padding=(1, 0), weight_norm=True, key=keys[5])

    @jax.named_scope("PeriodDiscriminator")
    def __call__(self, audio: Float[Array, "1 samples"]) -> Judgement:
        """Judge `(1, samples)`; features have shape `(channels, frames, period)`."""
        judgement = self.time_major(audio)
        return Judgement(judgement.score[0], [f[0].transpose(2, 1, 0) for f in judgement.features])

    def time_major(self, audio: Float[Array, "batch samples"]) -> Judgement:
        """Judge `(batch, samples)`; features have shape `(batch, period, frames, channels)`."""
        batch, samples = audio.shape
        missing = -samples % self.period
        audio = jnp.pad(audio, ((0, 0), (0, missing)), mode="reflect") if missing else audio
        x = audio.reshape(batch, -1, self.period).swapaxes(1, 2)[..., None]
        features = []
        for i, conv in enumerate(self.convs):
            with jax.named_scope(f"convs.{i}"):
                x = _leaky_relu(conv.columns_major(x))
                features.append(x)
        with jax.named_scope("conv_post"):
            x = self.conv_post.columns_major(x)
        return Judgement(x[..., 0].swapaxes(1, 2).reshape(batch, -1), [*features, x])


class ScaleDiscriminator(eqx.Module):
    """Judges a waveform with strided grouped convolutions (arXiv 2010.05646, section 2.3; MelGAN, arXiv 1910.06711).

    The convolutions are weight-normed, or, with `spectral=True`, under spectral norm, which has state: see
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

    @jax.named_scope("ScaleDiscriminator")
    def __call__(self, audio: Float[Array, "1 samples"], sigmas: list[Float[Array, ""]] | None = None) -> Judgement:
        """Judge `(1, samples)`; features have shape `(channels, time)`."""
        judgement = self.time_major(audio.T[None], sigmas)
        return Judgement(judgement.score[0], [f[0].T for f in judgement.features])

    def time_major(
        self, audio: Float[Array, "batch samples 1"], sigmas: list[Float[Array, "..."]] | None = None
    ) -> Judgement:
        """Judge `(batch, samples, 1)`; features have shape `(batch, time, channels)`."""
        x, features = audio, []
        for i, conv in enumerate(self.layers):
            with jax.named_scope(f"convs.{i}" if i < len(self.convs) else "conv_post"):
                if isinstance(conv, SpectralConv1d):
                    assert sigmas is not None
                    x = conv.time_major(x, sigmas[i])
                else:
                    x = conv.time_major(x)
                x = _leaky_relu(x) if i < len(self.convs) else x
                features.append(x)
        return Judgement(x[..., 0], features)


class ScaleVectors(eqx.Module):
    """Spectral-norm state of one scale discriminator, under the names of the release's buffers."""

    convs: list[SpectralVectors]
    conv_post: SpectralVectors


class ScalesVectors(eqx.Module):
    """Spectral-norm state of the multi-scale discriminator: only its first discriminator has any."""

    discriminators: list[ScaleVectors]


class MultiPeriodDiscriminator(eqx.Module):
    """One `PeriodDiscriminator` per period."""

    discriminators: list[PeriodDiscriminator]

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.periods))
        self.discriminators = [PeriodDiscriminator(p, config, key=k) for p, k in zip(config.periods, keys, strict=True)]

    @jax.named_scope("MultiPeriodDiscriminator")
    def __call__(self, audio: Float[Array, "1 samples"]) -> list[Judgement]:
        """Judge `(1, samples)`, once per period."""
        return [discriminator(audio) for discriminator in self.discriminators]

    def time_major(self, audio: Float[Array, "batch samples"]) -> list[Judgement]:
        """Judge `(batch, samples)`, once per period, channels last."""
        judgements = []
        for i, discriminator in enumerate(self.discriminators):
            with jax.named_scope(f"mpd.discriminators.{i}"):
                judgements.append(discriminator.time_major(audio))
        return judgements


class MultiScaleDiscriminator(eqx.Module):
    """`ScaleDiscriminator`s on the waveform and on its successive averages over 4 samples at half the rate.

    The first one is under spectral norm. Its vectors are state: `vectors` makes them, `advance` turns them by one power
    iteration (torch: every forward pass in training mode), `sigmas` gives what a call needs.
    """

    discriminators: list[ScaleDiscriminator]

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, config.scales)
        self.discriminators = [ScaleDiscriminator(config, spectral=i == 0, key=k) for i, k in enumerate(keys)]

    def _spectral(self) -> list[SpectralConv1d]:
        return [layer for layer in self.discriminators[0].layers if isinstance(layer, SpectralConv1d)]

    def vectors(self, *, key: PRNGKeyArray) -> ScalesVectors:
        """Random vectors to begin with."""
        layers = self._spectral()
        *convs, post = [
            layer.vectors(key=k) for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True)
        ]
        return ScalesVectors([ScaleVectors(convs, post)])

    def advance(self, vectors: ScalesVectors) -> ScalesVectors:
        """One power iteration of every vector."""
        first = vectors.discriminators[0]
        old = [*first.convs, first.conv_post]
        *convs, post = [layer.advance(v) for layer, v in zip(self._spectral(), old, strict=True)]
        return ScalesVectors([ScaleVectors(convs, post)])

    def sigmas(self, vectors: ScalesVectors) -> list[Float[Array, ""]]:
        """Spectral norms of the first discriminator's kernels, in order."""
        first = vectors.discriminators[0]
        return [layer.sigma(v) for layer, v in zip(self._spectral(), [*first.convs, first.conv_post], strict=True)]

    @jax.named_scope("MultiScaleDiscriminator")
    def __call__(self, audio: Float[Array, "1 samples"], sigmas: list[Float[Array, ""]]) -> list[Judgement]:
        """Judge `(1, samples)` at every scale; `sigmas` from the method of that name."""
        judgements = self.time_major(audio, sigmas)
        return [Judgement(j.score[0], [f[0].T for f in j.features]) for j in judgements]

    def time_major(self, audio: Float[Array, "batch samples"], sigmas: list[Float[Array, "..."]]) -> list[Judgement]:
        """Judge `(batch, samples)` at every scale, channels last; `sigmas` are scalars or one value an example."""
        x, judgements = audio[..., None], []
        for i, discriminator in enumerate(self.discriminators):
            with jax.named_scope(f"msd.discriminators.{i}"):
                x = x if i == 0 else average_pool1d(x, window=4, stride=2, padding=2)
                judgements.append(discriminator.time_major(x, sigmas))
        return judgements


class Discriminators(eqx.Module):
    """Both critics, as they are trained together; paths below `mpd` and `msd` are the names in released `do_` files."""

    mpd: MultiPeriodDiscriminator
    msd: MultiScaleDiscriminator

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        mpd_key, msd_key = jax.random.split(key)
        self.mpd = MultiPeriodDiscriminator(config, key=mpd_key)
        self.msd = MultiScaleDiscriminator(config, key=msd_key)
