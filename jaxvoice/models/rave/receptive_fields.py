"""The receptive fields of RAVE, computed from the layers of a configuration."""

import functools as ft
from typing import NamedTuple

from jaxvoice.dsp.pqmf import pqmf_prototype
from jaxvoice.models.rave.config import NoiseConfig, RaveConfig
from jaxvoice.models.rave.layers import conv_padding

_V1_DILATIONS = (1, 3, 5)


class ReceptiveField(NamedTuple):
    """The inputs that affect an output: `left` positions before its own, and `right` positions from its own on."""

    left: int
    right: int


class _Span(NamedTuple):
    """The first and the last position of the inputs of a layer, relative to that of an output."""

    first: int
    last: int

    def conv(self, taps: int, *, stride: int = 1, dilation: int = 1, left: int | None = None, causal: bool) -> "_Span":
        """The inputs of a convolution; `left` is its padding on the left, by default that of `conv`."""
        left = conv_padding(taps, dilation, causal=causal)[0] if left is None else left
        return _Span(self.first * stride - left, self.last * stride - left + (taps - 1) * dilation)

    def upsampling(self, ratio: int, *, causal: bool) -> "_Span":
        """The inputs of `upsampling_conv`; without upsampling, of a convolution with three taps."""
        if ratio == 1:
            return self.conv(3, causal=causal)
        padding = ratio // 2
        return _Span(-(-(self.first + padding - 2 * ratio + 1) // ratio), (self.last + padding) // ratio)

    def dilated(self, dilations: tuple[int, ...], *, causal: bool) -> "_Span":
        """The inputs of the residual blocks of a stage of v2."""
        span = self
        for dilation in reversed(dilations):
            span = span.conv(3, dilation=dilation, causal=causal)
        return span

    def __or__(self, other: "_Span") -> "_Span":
        return _Span(min(self.first, other.first), max(self.last, other.last))

    @property
    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField(-self.first, self.last + 1)


def receptive_field(config: RaveConfig) -> ReceptiveField:
    """Samples of the input on which a sample of the output depends, at the start of a frame of latents.

    The noise branch of v2 is included. That of v1, which adds noise in the second phase of training only, is not. The
    release measures the number with a gradient, and stores it in `receptive_field`.

    acids-ircam/RAVE `rave/core.py:get_rave_receptive_field`.
    """
    noise = config.generator.noise if config.generator.version == "v2" else None
    return _encoder(config, _generator(config, _Span(0, 0), noise)).receptive_field


def encoder_receptive_field(config: RaveConfig) -> ReceptiveField:
    """Samples on which a frame of latents depends.

    Frame `i` depends on the samples from `i * hop_length - left` up to, and not including, `i * hop_length + right`.
    """
    return _encoder(config, _Span(0, 0)).receptive_field


def generator_receptive_field(config: RaveConfig) -> ReceptiveField:
    """Frames of latents on which the `hop_length` samples of a frame depend, the noise branch included.

    The samples of frame `i` depend on the frames from `i - left` up to, and not including, `i + right`.
    """
    return _generator(config, _Span(0, config.hop_length - 1), config.generator.noise).receptive_field


def _encoder(config: RaveConfig, span: _Span) -> _Span:
    """The samples on which the frames `span` of the encoder's output depend."""
    encoder, causal = config.encoder, config.padding == "causal"
    v1 = encoder.version == "v1"
    span = span.conv(5 if v1 else 3, causal=causal)
    for i in reversed(range(len(encoder.ratios))):
        ratio = encoder.ratios[i]
        span = span.conv(2 * ratio + (1 if v1 else 0), stride=ratio, causal=causal)
        span = span if v1 else span.dilated(encoder.dilations[i], causal=causal)
    span = span.conv(7, causal=causal)
    if encoder.input == "mel":
        # Frames of n_fft samples are centred on multiples of the hop length.
        hop, half = encoder.mel.hop_length, encoder.mel.n_fft // 2
        return _Span(span.first * hop - half, span.last * hop + half - 1)
    return _analysis(config, span) if encoder.input == "pqmf" else span


def _generator(config: RaveConfig, span: _Span, noise: NoiseConfig | None) -> _Span:
    """The frames of latents on which the samples `span` depend, through the noise branch too if it is given."""
    generator, causal = config.generator, config.padding == "causal"
    v1 = generator.version == "v1"
    if generator.output == "pqmf":
        span = _synthesis(config, span)
    wave = span.conv(7, causal=causal)
    span = wave if noise is None else wave | _noise(noise, span, v1=v1, causal=causal)
    ratios, dilations = generator.ratios, generator.dilations
    if v1:
        for ratio in reversed(ratios):
            for dilation in reversed(_V1_DILATIONS):
                span = span.conv(3, causal=causal).conv(3, dilation=dilation, causal=causal)
            span = span.upsampling(ratio, causal=causal)
        return span.conv(7, causal=causal)
    # v2 applies the stages in reversed order.
    for ratio, of_stage in zip(ratios, dilations, strict=True):
        span = span.dilated(of_stage, causal=causal).upsampling(ratio, causal=causal)
    return span.conv(3, causal=causal)


def _noise(noise: NoiseConfig, span: _Span, *, v1: bool, causal: bool) -> _Span:
    """The features on which the noise of the positions `span` depends; frames do not overlap."""
    span = _Span(span.first // noise.frame_length, span.last // noise.frame_length)
    for ratio in reversed(noise.ratios):
        if v1:
            span = span.conv(3, stride=ratio, causal=causal)
        else:
            span = span.conv(2 * ratio, stride=ratio, left=ratio, causal=causal)
    return span


@ft.cache
def _filter_taps(attenuation: float, num_bands: int) -> tuple[int, int, int]:
    """The taps of the filters of a bank with zeros at both ends, and the first and the last that is not zero."""
    taps = pqmf_prototype(attenuation, num_bands).size
    padded = 2 ** (taps - 1).bit_length()
    first = (padded - taps) // 2
    return padded, first, first + taps - 1


def _analysis(config: RaveConfig, span: _Span) -> _Span:
    bands = config.pqmf.num_bands
    padded, first, last = _filter_taps(config.pqmf.attenuation, bands)
    left = conv_padding(padded + 1, causal=config.padding == "causal")[0]
    return _Span(span.first * bands - left + first, span.last * bands - left + last)


def _synthesis(config: RaveConfig, span: _Span) -> _Span:
    bands = config.pqmf.num_bands
    padded, first, last = _filter_taps(config.pqmf.attenuation, bands)
    left = conv_padding(padded // bands + 1, causal=config.padding == "causal")[0]
    # Tap `t` of the convolution that computes sample `m`, in reversed order, of a frame is the tap
    # `padded - 1 - t * bands - m` of the filters.
    lowest, highest = padded - 1 - last, padded - 1 - first

    def frame(sample: int, tap: int, *, up: bool) -> int:
        offset = tap - (bands - 1 - sample % bands)
        return sample // bands - left + (-(-offset // bands) if up else offset // bands)

    # An earlier sample of a frame depends on earlier frames, and a later one on later frames.
    return _Span(frame(span.first, lowest, up=True), frame(span.last, highest, up=False))
