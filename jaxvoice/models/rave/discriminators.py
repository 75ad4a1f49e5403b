"""The discriminators of RAVE: of waveforms at several rates, of folded waveforms, and of complex spectrograms."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxvoice.dsp.framing import hann_window
from jaxvoice.dsp.transforms import overlapping_frames
from jaxvoice.errors import ShapeError
from jaxvoice.models.rave.config import DiscriminatorConfig
from jaxvoice.models.rave.layers import LeakyReLU
from jaxvoice.nn import ColumnConv, Conv1d, Conv2d, Module, average_pool1d

_STRIDE = 4
_DESCRIPT_SLOPE = 0.1
_BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


class DiscriminatorOutput(NamedTuple):
    """The output of one discriminator.

    Shapes are `(*batch, time, channels)` for waveforms, `(*batch, period, frames, channels)` for folded waveforms, and
    `(*batch, height, width, channels)` for spectrograms: `bins` and `frames` of `spectral`, `frames` and `bins` of
    `descript`.
    """

    logits: Float[Array, "*batch positions"]
    """Large for real audio and small for generated audio; one for each position."""
    features: list[Float[Array, "..."]]
    """The feature maps, of which the last contains the logits."""


def _output(features: list[Array], batch: tuple[int, ...]) -> DiscriminatorOutput:
    return DiscriminatorOutput(features[-1].reshape(*batch, -1), features)


class ConvNet(Module):
    """Four strided convolutions, each of which divides the rate by 4 and doubles the channels, and a last one.

    Feature maps are the outputs of convolutions, before activation. acids-ircam/RAVE `rave/discriminator.py:ConvNet`.
    """

    net: list[Conv1d | ColumnConv | LeakyReLU]

    def __init__(self, capacity: int, in_channels: int, kernel_size: int, *, columns: bool, key: PRNGKeyArray):
        """**Arguments:** `columns`, whether the input is a folded waveform, `(*batch, period, frames, channels)`."""
        keys = jax.random.split(key, 5)
        layer = ColumnConv if columns else Conv1d
        widths = [in_channels, *(capacity * 2**i for i in range(4))]
        net: list[Conv1d | ColumnConv | LeakyReLU] = []
        for i, k in enumerate(keys[:4]):
            options = {"stride": _STRIDE, "padding": kernel_size // 2, "weight_norm": True, "key": k}
            net += [layer(widths[i], widths[i + 1], kernel_size, **options), LeakyReLU()]
        self.net = [*net, layer(widths[-1], 1, 1, key=keys[4])]

    def __call__(self, x: Float[Array, "*batch time in"]) -> list[Float[Array, "..."]]:
        """The outputs of all convolutions."""
        features = []
        for layer in self.net:
            x = layer(x)
            features += [] if isinstance(layer, LeakyReLU) else [x]
        return features


class MultiScaleDiscriminator(Module):
    """`ConvNet`s on the waveform, and on the waveform after average pooling by 2, 4, ..."""

    layers: list[ConvNet]

    def __init__(self, config: DiscriminatorConfig, in_channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, config.scales)
        self.layers = [ConvNet(config.capacity, in_channels, 15, columns=False, key=k) for k in keys]

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> list[DiscriminatorOutput]:
        """The output for each rate, the highest first."""
        outputs = []
        for i, layer in enumerate(self.layers):
            audio = average_pool1d(audio, window=2, stride=2, padding=0) if i else audio
            outputs.append(_output(layer(audio), audio.shape[:-2]))
        return outputs


class MultiPeriodDiscriminator(Module):
    """`ConvNet`s on the waveform folded at each period, padded with zeros at its end."""

    layers: list[ConvNet]
    periods: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, config: DiscriminatorConfig, in_channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.periods))
        self.layers = [ConvNet(config.capacity, in_channels, 5, columns=True, key=k) for k in keys]
        self.periods = config.periods

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> list[DiscriminatorOutput]:
        """The output for each period."""
        outputs = []
        for layer, period in zip(self.layers, self.periods, strict=True):
            folded = fold(audio, period, -audio.shape[-2] % period, mode="constant")
            outputs.append(_output(layer(folded), audio.shape[:-2]))
        return outputs


def fold(audio: Float[Array, "*batch samples channels"], period: int, missing: int, *, mode: str) -> Array:
    """`audio`, padded by `missing` samples at its end, as columns `(*batch, period, frames, channels)`."""
    edges = [(0, 0)] * (audio.ndim - 2) + [(0, missing), (0, 0)]
    padded = jnp.pad(audio, edges, mode=mode)
    return padded.reshape(*audio.shape[:-2], -1, period, audio.shape[-1]).swapaxes(-3, -2)


class SpectralNet(Module):
    """Convolutions of a complex spectrogram, of which the first four halve the bins, except the first.

    Feature maps are activations, except the last. acids-ircam/RAVE `rave/discriminator.py:EncodecConvNet`.
    """

    net: list[Any]

    def __init__(self, channels: int, in_channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 6)
        net: list[Any] = [[_image_conv(in_channels, channels, (9, 3), key=keys[0]), LeakyReLU()]]
        for dilation, k in zip((1, 2, 4), keys[1:4], strict=True):
            layer = _image_conv(channels, channels, (9, 3), stride=(2, 1), dilation=(1, dilation), key=k)
            net.append([layer, LeakyReLU()])
        net.append([_image_conv(channels, channels, (3, 3), key=keys[4]), LeakyReLU()])
        self.net = [*net, _image_conv(channels, 1, (3, 3), key=keys[5])]

    def __call__(self, x: Float[Array, "*batch bins frames in"]) -> list[Float[Array, "..."]]:
        """The feature maps of a spectrogram whose channels are real and imaginary parts."""
        features = []
        for layer, slope in self.net[:-1]:
            x = slope(layer(x))
            features.append(x)
        return [*features, self.net[-1](x)]


class MultiScaleSpectralDiscriminator(Module):
    """`SpectralNet`s on complex spectrograms of several sizes."""

    nets: list[SpectralNet]
    fft_sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, config: DiscriminatorConfig, in_channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.fft_sizes))
        self.nets = [SpectralNet(config.spectral_channels, 2 * in_channels, key=k) for k in keys]
        self.fft_sizes = config.fft_sizes

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> list[DiscriminatorOutput]:
        """The output for each size.

        **Raises:** `ShapeError` for fewer samples than the largest size.
        """
        outputs = []
        for net, size in zip(self.nets, self.fft_sizes, strict=True):
            spectra = complex_spectrogram(audio, size) / window_norm(size)
            # All real parts, then all imaginary parts.
            image = jnp.concatenate([spectra.real, spectra.imag], axis=-3)
            outputs.append(_output(net(jnp.moveaxis(image, -3, -1).swapaxes(-3, -2)), audio.shape[:-2]))
        return outputs


class DescriptPeriodDiscriminator(Module):
    """A discriminator of the waveform folded at a period, padded by reflection by at least one sample.

    Feature maps are activations, except the last. acids-ircam/RAVE `rave/descript_discriminator.py:MPD`.
    """

    convs: list[list[ColumnConv]]
    conv_post: ColumnConv
    period: int = eqx.field(static=True)

    def __init__(self, period: int, widths: Sequence[int], in_channels: int, *, key: PRNGKeyArray):
        *keys, last = jax.random.split(key, len(widths) + 1)
        channels, strides = [in_channels, *widths], [3] * (len(widths) - 1) + [1]
        self.period = period
        self.convs = [
            [ColumnConv(channels[i], channels[i + 1], 5, stride=strides[i], padding=2, weight_norm=True, key=k)]
            for i, k in enumerate(keys)
        ]
        self.conv_post = ColumnConv(channels[-1], 1, 3, padding=1, weight_norm=True, key=last)

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> DiscriminatorOutput:
        """The output for `audio`, which `preprocessed` has normalised."""
        x = fold(audio, self.period, self.period - audio.shape[-2] % self.period, mode="reflect")
        features = []
        for (layer,) in self.convs:
            x = jax.nn.leaky_relu(layer(x), _DESCRIPT_SLOPE)
            features.append(x)
        return _output([*features, self.conv_post(x)], audio.shape[:-2])


class DescriptSpectralDiscriminator(Module):
    """A discriminator of bands of a complex spectrogram, with convolutions of their own for each band.

    Feature maps are activations, except the last. acids-ircam/RAVE `rave/descript_discriminator.py:MRD`.
    """

    band_convs: list[list[list[Conv2d]]]
    conv_post: Conv2d
    fft_size: int = eqx.field(static=True)

    def __init__(self, fft_size: int, channels: int, in_channels: int, *, key: PRNGKeyArray):
        *keys, last = jax.random.split(key, len(_BANDS) + 1)
        self.fft_size = fft_size
        self.band_convs = [_band_convs(channels, 2 * in_channels, key=k) for k in keys]
        self.conv_post = _image_conv(channels, 1, (3, 3), key=last)

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> DiscriminatorOutput:
        """The output for `audio`, which `preprocessed` has normalised."""
        spectra = complex_spectrogram(audio, self.fft_size, pad=True)
        image = jnp.moveaxis(jnp.concatenate([spectra.real, spectra.imag], axis=-3), -3, -1)
        bins = image.shape[-2]
        features, outputs = [], []
        for (low, high), convs in zip(_BANDS, self.band_convs, strict=True):
            x = image[..., int(low * bins) : int(high * bins), :]
            for (layer,) in convs:
                x = jax.nn.leaky_relu(layer(x), _DESCRIPT_SLOPE)
                features.append(x)
            outputs.append(x)
        return _output([*features, self.conv_post(jnp.concatenate(outputs, axis=-2))], audio.shape[:-2])


def _band_convs(channels: int, in_channels: int, *, key: PRNGKeyArray) -> list[list[Conv2d]]:
    keys = jax.random.split(key, 5)
    strides = ((1, 1), (1, 2), (1, 2), (1, 2))
    convs = [
        [_image_conv(channels if i else in_channels, channels, (3, 9), stride=stride, key=k)]
        for i, (stride, k) in enumerate(zip(strides, keys, strict=False))
    ]
    return [*convs, [_image_conv(channels, channels, (3, 3), key=keys[4])]]


def _image_conv(
    in_channels: int,
    out_channels: int,
    taps: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    key: PRNGKeyArray,
) -> Conv2d:
    padding = (taps[0] // 2 * dilation[0], taps[1] // 2 * dilation[1])
    return Conv2d(
        in_channels,
        out_channels,
        taps,
        stride=stride,
        padding=padding,
        dilation=dilation,
        weight_norm=True,
        key=key,
    )


class DescriptDiscriminator(Module):
    """Discriminators of the Descript Audio Codec (arXiv 2306.06546): of folded waveforms, and of bands of spectrograms.

    acids-ircam/RAVE `rave/descript_discriminator.py`.
    """

    discriminators: list[DescriptPeriodDiscriminator | DescriptSpectralDiscriminator]

    def __init__(self, config: DiscriminatorConfig, in_channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.periods) + len(config.fft_sizes))
        periods = [
            DescriptPeriodDiscriminator(period, config.period_channels, in_channels, key=k)
            for period, k in zip(config.periods, keys, strict=False)
        ]
        spectral = [
            DescriptSpectralDiscriminator(size, config.spectral_channels, in_channels, key=k)
            for size, k in zip(config.fft_sizes, keys[len(periods) :], strict=True)
        ]
        self.discriminators = [*periods, *spectral]

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> list[DiscriminatorOutput]:
        """The outputs for all periods, then for all sizes of spectrograms."""
        audio = preprocessed(audio)
        return [discriminator(audio) for discriminator in self.discriminators]


class Discriminators(Module):
    """Two kinds of discriminators on the same audio."""

    discriminators: list[Module]

    def __init__(self, discriminators: list[Module]):
        self.discriminators = discriminators

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> list[DiscriminatorOutput]:
        """The outputs of the first kind, then those of the second."""
        return [output for discriminator in self.discriminators for output in discriminator(audio)]  # type: ignore


def build_discriminators(
    config: DiscriminatorConfig, in_channels: int = 1, *, key: PRNGKeyArray
) -> MultiScaleDiscriminator | DescriptDiscriminator | Discriminators:
    """The discriminators of the configuration, for audio with `in_channels` channels.

    They are called with audio `(*batch, samples, channels)` and return a list of `DiscriminatorOutput`. Attribute paths
    are names in released checkpoints, below `discriminator`.
    """
    first, second = jax.random.split(key)
    if config.kind == "descript":
        return DescriptDiscriminator(config, in_channels, key=first)
    scales = MultiScaleDiscriminator(config, in_channels, key=first)
    if config.kind == "scale":
        return scales
    if config.kind == "spectral":
        return Discriminators([scales, MultiScaleSpectralDiscriminator(config, in_channels, key=second)])
    return Discriminators([MultiPeriodDiscriminator(config, in_channels, key=second), scales])


def preprocessed(audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch samples channels"]:
    """`audio` without its mean, scaled to a peak of 0.8, for each channel."""
    audio = audio - jnp.mean(audio, axis=-2, keepdims=True)
    return 0.8 * audio / (jnp.max(jnp.abs(audio), axis=-2, keepdims=True) + 1e-9)


def complex_spectrogram(
    audio: Float[Array, "*batch samples channels"], fft_size: int, *, pad: bool = False
) -> Complex[Array, "*batch channels frames bins"]:
    """Spectra of frames with a periodic Hann window, a quarter of a frame apart.

    **Arguments:** `pad`: half a frame is reflected at both ends.

    **Raises:** `ShapeError` for audio shorter than a frame, or with `pad` shorter than half a frame.
    """
    samples = audio.shape[-2]
    least = fft_size // 2 + 1 if pad else fft_size
    if samples < least:
        raise ShapeError(
            f"The audio has {samples} samples; it should have at least {least} for the discriminator of spectrograms "
            f"with {fft_size} samples per frame. Train with longer crops."
        )
    rows = audio.swapaxes(-1, -2).reshape(-1, samples)
    if pad:
        rows = jnp.pad(rows, ((0, 0), (fft_size // 2, fft_size // 2)), mode="reflect")
    window = hann_window(fft_size, fft_size)
    frames = jax.vmap(lambda row: overlapping_frames(row, fft_size, fft_size // 4))(rows)
    spectra = jnp.fft.rfft(frames * window[None, None])
    return spectra.reshape(*audio.shape[:-2], audio.shape[-1], *spectra.shape[1:])


def window_norm(fft_size: int) -> float:
    """The Euclidean norm of the window of `complex_spectrogram`; the spectra of `spectral` are divided by it."""
    return math.sqrt(3 / 8 * fft_size)
