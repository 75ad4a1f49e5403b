"""RAVE block by block: streams of audio to latents, of latents to audio, and of both."""

from typing import Any

import equinox as eqx
from jax import numpy as jnp
from jaxtyping import Array, Float, Int32

from jaxvoice.models.rave.generators import GeneratorState
from jaxvoice.models.rave.layers import PQMF
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.models.rave.trained import TrainedRave
from jaxvoice.nn import IndexForm, Module, PointwiseForm, SequenceForm, Stream, StreamingForm, streaming_form


def encoder_stream(network: Rave, state: RaveState, *, input_delay: int | None = None, quantize: bool = True) -> Stream:
    """Audio to latents and noise channels, as `Rave.encode` in inference: `hop_length` samples to one frame.

    By default, the audio is delayed by as many samples as in the release, such as 14,208 for `v2`. This is no multiple
    of the hop length, so that the latents are those of frames which begin at other samples than offline.

    **Arguments:** `network` and its `state`; `input_delay`, another delay of the audio. With a multiple of the hop
    length, the latents are those of offline frames, and the rest of the delay is rounded up to frames of the output.
    `quantize`, as for `Rave.encode`.

    Latents are the means of their distributions, unless `init_state` of the stream has a `key`; see
    `Bottleneck.frame_noise`.
    """

    def build(start: int) -> StreamingForm:
        return encoder_form(network, state, start, quantize=quantize)

    return Stream(build, network.config.n_channels, input_delay=input_delay)


def decoder_stream(network: Rave, state: RaveState, *, noise: bool = True) -> Stream:
    """Latents and noise channels to audio, as `Rave.decode` in inference: one frame to `hop_length` samples.

    **Arguments:** `network` and its `state`; `noise`, whether the noise branch is computed, if there is one. It needs a
    `key` in `init_state`, and is silent without one; see `NoiseGenerator.frame_noise`. In v1, it increases the delay.
    """

    def build(start: int) -> StreamingForm:
        return decoder_form(network, state, start, noise=noise)

    return Stream(build, network.config.bottleneck.decoder_channels, input_delay=0)


def autoencoder_stream(network: Rave, state: RaveState, *, noise: bool = True, quantize: bool = True) -> Stream:
    """Audio to audio: the stream of the encoder with its default delay, followed by that of the decoder."""

    def build(start: int) -> StreamingForm:
        encoder = encoder_form(network, state, start, quantize=quantize)
        return SequenceForm([encoder, decoder_form(network, state, encoder.next_start, noise=noise)])

    delay = encoder_stream(network, state).input_delay
    return Stream(build, network.config.n_channels, input_delay=delay)


def trained_stream(model: TrainedRave) -> Stream:
    """Audio to audio with a model of a model folder: latents are means, and quantised if they were in training.

    Noise is added if there is a noise branch, except in v1 in the first phase of training.
    """
    network, state = model.network, model.state
    first_phase = isinstance(state.decoder, GeneratorState) and not bool(state.decoder.warmed_up)
    quantize = state.encoder.enabled is not None and bool(state.encoder.enabled)

    def build(start: int) -> StreamingForm:
        encoder = encoder_form(network, state, start, draws=False, quantize=quantize)
        return SequenceForm([encoder, decoder_form(network, state, encoder.next_start, noise=not first_phase)])

    return Stream(build, network.config.n_channels, input_delay=encoder_stream(network, state).input_delay)


def audio_latency(network: Rave, *streams: Stream) -> int:
    """Samples by which the audio of `autoencoder_stream`, or of both its halves, is late.

    The delay of the filter bank, which audio also has offline, is included.
    """
    added = sum(stream.input_delay + (stream.output_delay if stream.ratio >= 1 else 0) for stream in streams)
    return added + (network.pqmf.delay if network.config.generator.output == "pqmf" else 0)


def encoder_form(network: Rave, state: RaveState, start: int, **options: bool) -> StreamingForm:
    """The streaming form of `Rave.encode`; `options` are those of `Bottleneck.streaming_form`."""
    forms: list[StreamingForm] = []
    if network.spectrogram is not None:
        forms.append(network.spectrogram.streaming_form(start))
    elif network.config.encoder.input == "pqmf":
        forms.append(analysis_form(network.pqmf, start))
    start = forms[-1].next_start if forms else start
    return SequenceForm([*forms, network.encoder.streaming_form(start, state.encoder, **options)])


def decoder_form(network: Rave, state: RaveState, start: int, *, noise: bool = True) -> StreamingForm:
    """The streaming form of `Rave.decode`."""
    decoder = network.decoder.streaming_form(start, state.decoder, noise=noise)
    if network.config.generator.output == "raw":
        return decoder
    return SequenceForm([decoder, synthesis_form(network.pqmf, decoder.next_start)])


def analysis_form(pqmf: PQMF, start: int) -> StreamingForm:
    """The streaming form of `PQMF.analysis`."""
    split = PointwiseForm(_SplitChannels(), start, keeps_zeros=True)
    convolution = streaming_form(pqmf.forward_conv, start)
    invert = IndexForm(_InvertOddBands(), convolution.next_start, keeps_zeros=True)
    merge = PointwiseForm(_MergeBands(), convolution.next_start, keeps_zeros=True)
    return SequenceForm([split, convolution, invert, merge], path=_named(pqmf, "analysis"))


def synthesis_form(pqmf: PQMF, start: int) -> StreamingForm:
    """The streaming form of `PQMF.synthesis`."""
    bands = pqmf.hk.shape[0]
    split = PointwiseForm(_SplitBands(bands), start, keeps_zeros=True)
    invert = IndexForm(_InvertOddBands(), start, keeps_zeros=True)
    convolution = streaming_form(pqmf.inverse_conv, start)
    merge = PointwiseForm(_MergeSamples(bands), convolution.next_start, keeps_zeros=True, rate=bands)
    return SequenceForm([split, invert, convolution, merge], path=_named(pqmf, "synthesis"))


def _named(pqmf: PQMF, method: str) -> str | None:
    return None if pqmf.path is None else f"{pqmf.path}.{method}"


class _SplitChannels(Module):
    """`(*batch, samples, channels)` to `(*batch, channels, samples, 1)`."""

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch channels samples 1"]:
        return audio.swapaxes(-1, -2)[..., None]


class _MergeBands(Module):
    """`(*batch, channels, frames, bands)` to `(*batch, frames, channels * bands)`."""

    def __call__(self, x: Float[Array, "*batch channels frames bands"]) -> Float[Array, "*batch frames all_bands"]:
        x = x.swapaxes(-3, -2)
        return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


class _SplitBands(Module):
    """`(*batch, frames, channels * bands)` to `(*batch, channels, frames, bands)`."""

    bands: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch frames all_bands"]) -> Float[Array, "*batch channels frames bands"]:
        return x.reshape(*x.shape[:-1], x.shape[-1] // self.bands, self.bands).swapaxes(-3, -2)


class _MergeSamples(Module):
    """The samples of each frame, which are channels in reversed order, to audio `(*batch, samples, channels)`."""

    bands: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch channels frames bands"]) -> Float[Array, "*batch samples channels"]:
        x = jnp.flip(x * jnp.asarray(self.bands, x.dtype), -1)
        return x.reshape(*x.shape[:-2], x.shape[-2] * self.bands).swapaxes(-1, -2)


class _InvertOddBands(Module):
    """`invert_odd_bands` for frames with numbers, and for any first frame."""

    def __call__(self, x: Float[Array, "*batch frames bands"], numbers: Int32[Array, " frames"], key: Any) -> Array:
        inverted = (numbers % 2 == 0)[:, None] & (jnp.arange(x.shape[-1]) % 2 == 1)[None]
        return jnp.where(inverted.reshape((1,) * (x.ndim - 2) + inverted.shape), -x, x)
