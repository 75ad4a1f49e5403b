"""The decoder of XTTS: latents of the language model to audio in the voice of a speaker."""

from fractions import Fraction
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float64, Int32, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.speaker_encoder.resnet import ResNetSE, with_state
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.nn import Module, operation


def interpolated_length(length: int, scale: Fraction) -> int:
    """The number of positions of `interpolate` for `length` positions."""
    return length * scale.numerator // scale.denominator


def interpolate(x: Float[Array, "*batch time channels"], scale: Fraction) -> Float[Array, "*batch new_time channels"]:
    """Linear interpolation over time by the factor `scale`, as `torch.nn.functional.interpolate`.

    The output position i is at `(i + 0.5) / scale - 0.5` of the input, between its first and its last position. The
    factor is used as given, although `floor(time * scale) / time` may differ from it.

    **Raises:** `ShapeError` for an input whose output would be empty.
    """
    count = interpolated_length(x.shape[-2], scale)
    if not count:
        raise ShapeError(f"The input has {x.shape[-2]} positions; it should have at least {-(-1 // scale)}.")
    places = neighbours(x.shape[-2], scale, 0, count)
    share = jnp.asarray(places.share, x.dtype).reshape((1,) * (x.ndim - 2) + (-1, 1))
    return jnp.take(x, places.before, axis=-2) * (1 - share) + jnp.take(x, places.after, axis=-2) * share


class Neighbours(NamedTuple):
    """The positions of the input of `interpolate` between which output positions are."""

    before: Int32[np.ndarray, " positions"]
    """The input position before each output position."""
    after: Int32[np.ndarray, " positions"]
    """The one after it."""
    share: Float64[np.ndarray, " positions"]
    """The weight of `after`; that of `before` is the rest."""


def neighbours(length: int, scale: Fraction, start: int, stop: int) -> Neighbours:
    """The neighbours of the output positions `start` to `stop`, exclusive, for an input of `length` positions."""
    places = np.maximum((np.arange(start, stop) + 0.5) / float(scale) - 0.5, 0.0)
    before = np.minimum(places.astype(np.int32), length - 1)
    return Neighbours(before, np.minimum(before + 1, length - 1), places - before)


class HiFiDecoder(Module):
    """Vectors of the language model, one for each code, to audio; and the encoder of speakers.

    Attribute paths are the names of weights in `model.pth` below `hifigan_decoder.`.

    coqui-ai/TTS `TTS/tts/layers/xtts/hifigan_decoder.py:HifiDecoder`.
    """

    waveform_decoder: Generator
    speaker_encoder: ResNetSE
    config: XTTSConfig = eqx.field(static=True)

    def __init__(self, config: XTTSConfig, *, key: PRNGKeyArray):
        decoder_key, encoder_key = jax.random.split(key)
        self.waveform_decoder = Generator(config.decoder, key=decoder_key)
        encoder = ResNetSE(config.speaker_encoder, key=encoder_key)
        self.speaker_encoder = with_state(encoder, encoder.init_state())
        self.config = config

    def __call__(
        self, latents: Float[Array, "*batch codes channels"], speaker: Float[Array, "*batch dim"]
    ) -> Float[Array, "*batch samples 1"]:
        """The audio in [-1, 1] at `config.output_rate`.

        **Arguments:** `latents`, the vectors of `GPT.latents` or `Step.latent`; `speaker`, the vector of the speaker,
        of norm 1.

        **Raises:** `ShapeError` without latents, or for arrays of another size.
        """
        return self.waveform_decoder(self.features(latents), speaker)

    @operation
    def features(self, latents: Float[Array, "*batch codes channels"]) -> Float[Array, "*batch frames channels"]:
        """The input of the generator: `latents`, interpolated to its frames in two steps, as in the release."""
        for scale in self.scales:
            latents = interpolate(latents, scale)
        return latents

    def samples(self, codes: int) -> int:
        """The number of samples of the audio of `codes` codes."""
        for scale in self.scales:
            codes = interpolated_length(codes, scale)
        return codes * self.hop_length

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame of the generator."""
        return int(np.prod(self.config.decoder.upsample_rates))

    @property
    def scales(self) -> tuple[Fraction, Fraction]:
        """The factors of the interpolation of latents: to frames of the recordings, and to frames of the generator."""
        config = self.config
        frames_per_code = Fraction(config.dvae.samples_per_code, self.hop_length)
        return frames_per_code, Fraction(config.output_rate, config.input_rate)
