"""The network of HiFi-VC: three encoders and a decoder."""

import dataclasses

import jax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer import ConformerEncoder, fold_batch_norm, mask_padding
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.decoder import Decoder
from jaxvoice.models.hifivc.pitch_encoder import PitchEncoder
from jaxvoice.models.hifivc.speaker_encoder import SpeakerEncoder, SpeakerPosterior
from jaxvoice.nn import Module, operation


class HiFiVC(Module):
    """Speech to the same speech in the voice of a reference (arXiv 2203.16937).

    The content encoder is that of a speech recogniser. It is not trained: its output passes no gradient. Its batch
    norms are folded, and padding does not change its results.
    """

    content_encoder: ConformerEncoder
    speaker_encoder: SpeakerEncoder
    pitch_encoder: PitchEncoder | None
    decoder: Decoder

    def __init__(self, config: HiFiVCConfig, *, content_encoder: ConformerEncoder | None = None, key: PRNGKeyArray):
        """**Arguments:** `content_encoder`, a trained encoder with its running statistics, or with folded batch norms;
        `None` for random weights.

        **Raises:** `ConfigError` if the sizes of `content_encoder` are not those of `config.content`.
        """
        content_key, speaker_key, pitch_key, decoder_key = jax.random.split(key, 4)
        if content_encoder is None:
            content_encoder = ConformerEncoder(config.content, key=content_key)
            content_encoder = fold_batch_norm(content_encoder, content_encoder.init_state())
        elif _sizes(content_encoder.config) != _sizes(config.content):
            raise ConfigError(
                f"The configuration of content_encoder is {content_encoder.config}; it should be that of the model, "
                f"{config.content}."
            )
        self.content_encoder = mask_padding(fold_batch_norm(content_encoder))
        self.speaker_encoder = SpeakerEncoder(config.speaker, key=speaker_key)
        self.pitch_encoder = None
        if config.pitch_encoder is not None:
            keeps_input = config.decoder.harmonic_source
            self.pitch_encoder = PitchEncoder(config.pitch_encoder, keeps_input=keeps_input, key=pitch_key)
        self.decoder = Decoder(
            config.decoder,
            content_channels=config.content.dim,
            pitch_channels=config.pitch_channels,
            speaker_size=config.speaker.size,
            subframes=0 if config.pitch_encoder is None else config.pitch_encoder.downsampling,
            sample_rate=config.mel.sample_rate,
            key=decoder_key,
        )

    def __call__(
        self,
        features: Float[Array, "*batch frames mels"],
        pitch: Float[Array, "*batch subframes 2"] | None,
        reference: Float[Array, "*batch reference_frames reference_mels"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
        reference_length: Int[Array, "*batch"] | int | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch samples 1"]:
        """**Arguments:**

        - `features`: log-mel features of the source `(*batch, frames, mels)`, as `jaxvoice.dsp.nemo_log_mel` computes
            them, with time first.
        - `pitch`: log F0 and voicing flag of the source `(*batch, subframes, 2)`, four for each content frame; `None`
            for a model without pitch encoder.
        - `reference`: log-mel spectrogram of the reference `(*batch, reference_frames, mels)`.
        - `length` and `reference_length`: numbers of valid frames of `features` and `reference`.
        - `key`: draws the speaker vector from its distribution; `None` uses the mean.

        **Returns:** the waveform `(*batch, samples, 1)`, with a number of samples for each content frame.

        **Raises:** `ShapeError` if shapes do not match the configuration.
        """
        content = self.encode_content(features, length=length)
        posterior = self.encode_speaker(reference, length=reference_length)
        speaker = posterior.mean if key is None else posterior.sample(key)
        count = None if length is None else self.content_encoder.output_length(length)
        return self.decode(content, pitch, speaker, length=count)

    @operation
    def encode_content(
        self, features: Float[Array, "*batch frames mels"], *, length: Int[Array, "*batch"] | int | None = None
    ) -> Float[Array, "*batch time channels"]:
        """The content features, a quarter of the number of `frames`, rounded up; they pass no gradient.

        `length` is the number of valid frames of `features`.
        """
        return lax.stop_gradient(self.content_encoder(features, length=length, inference=True))

    @operation
    def encode_speaker(
        self,
        reference: Float[Array, "*batch frames mels"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> SpeakerPosterior:
        """The distribution of the speaker vector of a reference with `length` valid frames."""
        return self.speaker_encoder(reference, length=length)

    @operation
    def decode(
        self,
        content: Float[Array, "*batch time channels"],
        pitch: Float[Array, "*batch subframes 2"] | None,
        speaker: Float[Array, "*batch size"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch samples 1"]:
        """The waveform of content features, F0 and speaker vectors.

        `length` is the number of valid frames of `content`.

        **Raises:** `ShapeError` if shapes do not match; `ConfigError` if `pitch` is given to a model without pitch
        encoder, or missing.
        """
        if (pitch is None) != (self.pitch_encoder is None):
            given, wanted = ("None", "given") if pitch is None else ("given", "None")
            has = "no" if self.pitch_encoder is None else "a"
            raise ConfigError(f"pitch is {given}; it should be {wanted}, because this model has {has} pitch encoder.")
        code = None
        if self.pitch_encoder is not None and pitch is not None:
            code = self.pitch_encoder(pitch, length=length)
        return self.decoder(content, code, speaker, length=length)


def _sizes(config: ConformerConfig) -> ConformerConfig:
    """`config` without the recogniser, and without what is used in training only."""
    return dataclasses.replace(config, classes=None, symbols=(), dropout=0.0, attention_dropout=0.0)
