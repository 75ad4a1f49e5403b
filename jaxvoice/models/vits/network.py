"""VITS: text to audio, and audio to the same speech in another voice, with one network."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.vits.alignment_search import expand
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.duration_predictors import DurationPredictor, StochasticDurationPredictor
from jaxvoice.models.vits.flow import ResidualCouplings
from jaxvoice.models.vits.posterior_encoder import PosteriorEncoder
from jaxvoice.models.vits.segments import take_segments
from jaxvoice.models.vits.text_encoder import Gaussian, TextEncoder, TextEncoding
from jaxvoice.nn import Embedding, Module, length_mask, masked, operation

_LONGEST = 1e5  # frames of a token
_LEAST_NORM = 1e-12  # of the speaker vectors that are scaled to unit length


class Conditions(NamedTuple):
    """The vectors on which the parts of the network depend."""

    speaker: Float[Array, "*batch speaker"] | None
    """The speaker vector; `None` for a model of one voice."""
    language: Float[Array, "*batch language"] | None
    """The embedding of the language; `None` for a model of one language."""


class Encoded(NamedTuple):
    """An utterance and its text as training needs them."""

    text: TextEncoding
    """The result of the text encoder: the prior of each token."""
    posterior: Gaussian
    """The distribution of the latents of each frame."""
    z: Float[Array, "*batch frames channels"]
    """Latents sampled from the posterior; zero in padding."""
    z_p: Float[Array, "*batch frames channels"]
    """The same after the flow, where the prior applies; zero in padding."""
    frame_mask: Bool[Array, "*batch frames"]
    """True at valid frames."""
    conditions: Conditions
    """The vectors of speaker and language."""


class Latents(NamedTuple):
    """Latents of speech that the decoder reads."""

    z: Float[Array, "*batch frames channels"]
    """The latents; zero in padding."""
    z_p: Float[Array, "*batch frames channels"]
    """The sample of the prior, before the inverse of the flow; zero in padding."""
    frame_count: Int[Array, "*batch"]
    """Number of valid frames."""


class Conversion(NamedTuple):
    """Speech in another voice, and its latents."""

    audio: Float[Array, "*batch samples 1"]
    """The waveform in [-1, 1]."""
    z_p: Float[Array, "*batch frames channels"]
    """The latents without the voice: those of the source after the flow."""
    z: Float[Array, "*batch frames channels"]
    """The latents of the target."""


class VITS(Module):
    """Text to speech and voice conversion (VITS, arXiv 2106.06103; YourTTS, arXiv 2112.02418).

    Attribute paths are the names of weights in coqui's releases, such as `text_encoder.emb.weight`,
    `flow.flows.0.pre.bias` and `emb_l.weight`.

    The random numbers of every method are an argument `noise`. Speakers are ids `(*batch,)` of integers for a model
    with a table of speakers, vectors `(*batch, speaker_channels)` for one without, which are scaled to unit length, and
    `None` for a model of one voice. Languages are ids, or `None` for a model of one language.

    coqui-ai/TTS `models/vits.py`; jaywalnut310/vits `models.py:SynthesizerTrn`.
    """

    emb_g: Embedding | None
    emb_l: Embedding | None
    text_encoder: TextEncoder
    posterior_encoder: PosteriorEncoder
    flow: ResidualCouplings
    duration_predictor: StochasticDurationPredictor | DurationPredictor
    waveform_decoder: Generator
    config: VITSConfig = eqx.field(static=True)

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 7)
        languages, size = len(config.languages), config.language_channels
        self.config = config
        self.emb_g = (
            Embedding(config.num_speakers, config.speaker_channels, key=keys[0]) if config.num_speakers else None
        )
        # Xavier-uniform, as in the release.
        scale = (2 / (languages + size)) ** 0.5
        self.emb_l = Embedding(languages, size, scale=scale, uniform=True, key=keys[1]) if languages else None
        self.text_encoder = TextEncoder(config, key=keys[2])
        self.posterior_encoder = PosteriorEncoder(config, key=keys[3])
        self.flow = ResidualCouplings(config, key=keys[4])
        stochastic = config.durations.kind == "stochastic"
        self.duration_predictor = (StochasticDurationPredictor if stochastic else DurationPredictor)(
            config, key=keys[5]
        )
        self.waveform_decoder = Generator(config.decoder, key=keys[6])

    def __call__(
        self,
        tokens: Int[Array, "*batch tokens"],
        duration_noise: Float[Array, "*batch tokens 2"],
        noise: Float[Array, "*batch frames channels"],
        speaker: Array | None = None,
        language: Int[Array, "*batch"] | None = None,
        *,
        token_count: Int[Array, "*batch"] | int | None = None,
        length_scale: float | Array = 1.0,
    ) -> Float[Array, "*batch samples 1"]:
        """Synthesise speech.

        **Arguments:**

        - `tokens`: ids of symbols `(*batch, tokens)`, with the blanks between them.
        - `duration_noise`: normal noise of the durations.
        - `noise`: normal noise of the latents. The number of frames is that of this array: speech that is longer is cut
            off, and after shorter speech the samples are arbitrary.
        - `speaker`, `language`: see the class.
        - `token_count`: number of valid tokens; the rest is padding.
        - `length_scale`: factor of the durations.

        **Returns:** waveform `(*batch, frames * hop_length, 1)` in [-1, 1].

        **Raises:** `ShapeError` for inputs whose shapes do not match the configuration or each other.
        """
        conditions = self.conditions(speaker, language, tokens.shape[:-1])
        text = self.encode_text(tokens, conditions, token_count=token_count, inference=True)
        logs = self.log_durations(text, duration_noise, conditions)
        durations = whole_durations(logs, text.mask, length_scale=length_scale)
        latents = self.latents(text, durations, noise, conditions)
        return self.decode(latents, conditions)

    def conditions(self, speaker: Array | None, language: Array | None, batch: tuple[int, ...]) -> Conditions:
        """The vectors of the speaker and the language; arguments are those of a call.

        **Raises:** `ShapeError` if one is missing, or given to a model that has none, or has another shape.
        """
        return Conditions(self._speaker(speaker, batch), self._language(language, batch))

    def _speaker(self, speaker: Array | None, batch: tuple[int, ...]) -> Array | None:
        config = self.config
        if not config.speaker_channels or speaker is None:
            if (speaker is None) != (not config.speaker_channels):
                expected = "ids" if config.num_speakers else f"vectors of {config.speaker_channels} numbers"
                raise ShapeError(
                    f"speaker is None; it should be an array of {expected} with the batch shape {batch}."
                    if speaker is None
                    else "speaker is an array; it should be None, because the model has one voice."
                )
            return None
        speaker = jnp.asarray(speaker)
        if self.emb_g is not None:
            if not jnp.issubdtype(speaker.dtype, jnp.integer) or speaker.shape != batch:
                raise ShapeError(
                    f"speaker has shape {speaker.shape} and dtype {speaker.dtype}; it should be ids of integers of the "
                    f"batch shape {batch}."
                )
            return self.emb_g(speaker)
        expected = (*batch, config.speaker_channels)
        if not jnp.issubdtype(speaker.dtype, jnp.floating) or speaker.shape != expected:
            raise ShapeError(
                f"speaker has shape {speaker.shape} and dtype {speaker.dtype}; it should be vectors of floats of shape "
                f"{expected}."
            )
        norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(speaker), -1, keepdims=True), _LEAST_NORM**2))
        return speaker / norm

    def _language(self, language: Array | None, batch: tuple[int, ...]) -> Array | None:
        if self.emb_l is None or language is None:
            if (language is None) != (self.emb_l is None):
                raise ShapeError(
                    f"language is None; it should be ids of integers of the batch shape {batch}."
                    if language is None
                    else "language is an array; it should be None, because the model has no language embeddings."
                )
            return None
        language = jnp.asarray(language)
        if not jnp.issubdtype(language.dtype, jnp.integer) or language.shape != batch:
            raise ShapeError(
                f"language has shape {language.shape} and dtype {language.dtype}; it should be ids of integers of the "
                f"batch shape {batch}."
            )
        return self.emb_l(language)

    @operation
    def encode_text(
        self,
        tokens: Int[Array, "*batch tokens"],
        conditions: Conditions,
        *,
        token_count: Int[Array, "*batch"] | int | None = None,
        dtype: Any = jnp.float32,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> TextEncoding:
        """The text encoder for `tokens`, of which the first `token_count` of each example are valid.

        `key` is for dropout, which `inference` disables.
        """
        mask = _mask(token_count, tokens.shape[-1], tokens.shape[:-1])
        return self.text_encoder(tokens, conditions.language, mask=mask, dtype=dtype, inference=inference, key=key)

    @operation
    def log_durations(
        self, text: TextEncoding, noise: Float[Array, "*batch tokens 2"], conditions: Conditions
    ) -> Float[Array, "*batch tokens"]:
        """The logarithms of the durations of the tokens in frames; `noise` as for the duration predictor."""
        return self.duration_predictor(text.hidden, noise, *conditions, mask=text.mask)

    @operation
    def latents(
        self,
        text: TextEncoding,
        durations: Int[Array, "*batch tokens"],
        noise: Float[Array, "*batch frames channels"],
        conditions: Conditions,
    ) -> Latents:
        """Sample the latents of tokens with `durations` in frames, zero in padding.

        The number of frames is that of `noise`, which is normal noise. Speech has at least one frame.
        """
        frames = noise.shape[-2]
        total = jnp.sum(durations, -1, dtype=durations.dtype)
        frame_count = jnp.clip(total, 1, frames)
        mask, spoken = length_mask(frame_count, frames), length_mask(total, frames)
        prior = Gaussian(*(masked(expand(x, durations, frames, inference=True), spoken) for x in text.prior))
        z_p = masked(prior.sample(noise), mask)
        return Latents(self.flow.reverse(z_p, conditions.speaker, mask=mask), z_p, frame_count)

    @operation
    def decode(self, latents: Latents, conditions: Conditions) -> Float[Array, "*batch samples 1"]:
        """The waveform of latents; samples of padding are arbitrary."""
        return self.waveform_decoder(latents.z, conditions.speaker, length=latents.frame_count)

    @operation
    def encode(
        self,
        tokens: Int[Array, "*batch tokens"],
        spectrogram: Float[Array, "*batch frames bins"],
        noise: Float[Array, "*batch frames channels"],
        speaker: Array | None = None,
        language: Int[Array, "*batch"] | None = None,
        *,
        token_count: Int[Array, "*batch"] | int | None = None,
        frame_count: Int[Array, "*batch"] | int | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Encoded:
        """The first half of a training step: the prior of the text, and the latents of the recording.

        **Arguments:**

        - `tokens`, `speaker`, `language`, `token_count`: as for a call.
        - `spectrogram`: magnitudes `(*batch, frames, bins)`; its dtype is the precision of the computation.
        - `noise`: standard normal noise of the posterior.
        - `frame_count`: number of valid frames; the rest is padding.
        - `key`: for dropout, which `inference` disables.

        **Raises:** `ShapeError` for inputs whose shapes do not match the configuration or each other.
        """
        batch = tokens.shape[:-1]
        conditions = self.conditions(speaker, language, batch)
        text = self.encode_text(
            tokens, conditions, token_count=token_count, dtype=spectrogram.dtype, inference=inference, key=key
        )
        frame_mask = _mask(frame_count, spectrogram.shape[-2], batch)
        posterior, z = self._posterior(spectrogram, noise, conditions.speaker, frame_mask)
        z_p = self.flow(z.astype(spectrogram.dtype), conditions.speaker, mask=frame_mask)
        return Encoded(text, posterior, z, z_p.astype(z.dtype), frame_mask, conditions)

    def _posterior(
        self, spectrogram: Array, noise: Array, speaker: Array | None, mask: Array
    ) -> tuple[Gaussian, Float[Array, "*batch frames channels"]]:
        expected = (*mask.shape, self.config.spectrogram_bins)
        if spectrogram.shape != expected:
            raise ShapeError(f"spectrogram has shape {spectrogram.shape}; it should be {expected}.")
        if noise.shape != (*mask.shape, self.config.channels):
            raise ShapeError(f"noise has shape {noise.shape}; it should be {(*mask.shape, self.config.channels)}.")
        posterior = self.posterior_encoder(spectrogram, speaker, mask=mask)
        return posterior, masked(posterior.sample(noise), mask)

    @operation
    def duration_loss(
        self,
        encoded: Encoded,
        durations: Float[Array, "*batch tokens"],
        noise: Float[Array, "*batch tokens 2"],
        *,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch"]:
        """The loss of the duration predictor for durations of an alignment, summed over the tokens of each example.

        Its gradient reaches the duration predictor only. `noise` is standard normal noise, and `key` is for dropout.
        """
        hidden, conditions = lax.stop_gradient((encoded.text.hidden, encoded.conditions))
        return self.duration_predictor.loss(
            hidden, durations, noise, *conditions, mask=encoded.text.mask, inference=inference, key=key
        )

    @operation
    def decode_segment(
        self, encoded: Encoded, starts: Int[Array, "*batch"], *, dtype: Any = None
    ) -> Float[Array, "*batch samples 1"]:
        """The waveform of `config.segment_frames` frames of each example from the frames `starts`.

        The latents are those of the posterior. `dtype` is the precision, by default that of the latents.
        """
        z = take_segments(encoded.z, starts, self.config.segment_frames)
        return self.waveform_decoder(z if dtype is None else z.astype(dtype), encoded.conditions.speaker)

    @operation
    def convert(
        self,
        spectrogram: Float[Array, "*batch frames bins"],
        noise: Float[Array, "*batch frames channels"],
        source: Array | None,
        target: Array | None,
        *,
        frame_count: Int[Array, "*batch"] | int | None = None,
    ) -> Conversion:
        """The speech of a recording in the voice of another speaker (arXiv 2106.06103, section 4.6).

        **Arguments:** `spectrogram`, magnitudes of the recording; `noise`, normal noise of the posterior; `source` and
        `target`, the speakers of the recording and of the result, as for a call; `frame_count`, number of valid frames.

        **Raises:** `ShapeError` for inputs whose shapes do not match the configuration or each other, or a model of one
        voice.
        """
        batch, frames = spectrogram.shape[:-2], spectrogram.shape[-2]
        if not self.config.speaker_channels:
            raise ShapeError("speaker_channels is 0; conversion needs a model of several voices.")
        speakers = [self._speaker(speaker, batch) for speaker in (source, target)]
        mask = _mask(frame_count, frames, batch)
        _, z = self._posterior(spectrogram, noise, speakers[0], mask)
        z_p = self.flow(z, speakers[0], mask=mask)
        converted = self.flow.reverse(z_p, speakers[1], mask=mask)
        audio = self.waveform_decoder(converted, speakers[1], length=mask.sum(-1, dtype=jnp.int32))
        return Conversion(audio, z_p, converted)


def whole_durations(
    logs: Float[Array, "*batch tokens"], mask: Bool[Array, "*batch tokens"], *, length_scale: float | Array = 1.0
) -> Int[Array, "*batch tokens"]:
    """Durations in frames, rounded up, from their logarithms; zero where `mask` is false.

    Durations are at most 100,000 frames, so that sums of thousands do not overflow.
    """
    frames = jnp.ceil(jnp.exp(logs) * jnp.asarray(length_scale, logs.dtype))
    return jnp.where(mask, jnp.minimum(frames, _LONGEST), 0.0).astype(jnp.int32)


def _mask(count: Array | int | None, length: int, batch: tuple[int, ...]) -> Bool[Array, "*batch {length}"]:
    """A mask of the first `count` of `length` positions, or of all if `count` is `None`."""
    return length_mask(length if count is None else count, length, batch=batch)
