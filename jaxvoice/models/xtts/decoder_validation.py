"""The validation of the decoder of XTTS: latents of held-out recordings as speech."""

from types import MappingProxyType

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.data.store import Store
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.sinc_resampling import sinc_resample
from jaxvoice.errors import DataError
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.speaker_encoder.resnet import ResNetSE
from jaxvoice.nn import length_mask
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "mel_l1": "mean absolute difference of log-mels of held-out recordings and of audio decoded from their latents",
        "speaker_distance": "1 minus the cosine of the speaker encoder for the same two, averaged over recordings",
    }
)
"""Metrics that can select the best model; lower is better."""
_BUCKET = 256  # frames; utterances are padded to a multiple of it, so that few lengths are compiled


class DecoderValidation:
    """The metrics `METRICS` on whole held-out utterances, and the speech of the first ones.

    **Arguments:** `store`, held-out utterances of `training_store`; `mel`, the mel spectrograms of the metric, with the
    sample rate of the recordings; `hop_length` of the decoder; `encoder`, the speaker encoder, which contains its
    running statistics; `samples`, the number of utterances whose speech is returned.

    **Raises:** `DataError` for an empty store.
    """

    def __init__(self, store: Store, mel: MelConfig, hop_length: int, encoder: ResNetSE, *, samples: int = 4):
        if not len(store):
            raise DataError("The store has no utterances; it should have at least one.")
        self._store, self._mel, self._hop, self._encoder, self._samples = store, mel, hop_length, encoder, samples
        self.held_out = describe_held_out(store)
        self._targets, self._speakers = [], []
        for row in range(len(store)):
            audio, frames = self._recording(row)
            self._targets.append(bucketed_log_mel(audio, mel))
            padded = np.pad(audio, (0, self._padded(frames) * hop_length - len(audio)))
            self._speakers.append(
                np.asarray(_embed(encoder, jnp.asarray(padded), jnp.asarray(len(audio)), mel.sample_rate))
            )

    def __call__(self, generator: Generator) -> ValidationResult:
        """The metrics, and the speech of the first utterances with its mel spectrograms."""
        errors, distances, samples = [], [], []
        for row, (target, speaker) in enumerate(zip(self._targets, self._speakers, strict=True)):
            recording, frames = self._recording(row)
            features = self._store["features"][row][..., :frames]
            padded = np.pad(features, ((0, 0), (0, self._padded(frames) - frames)))
            given = map(jnp.asarray, (padded.T, self._store["speaker"][row], frames))
            generated, embedding = _speech(generator, self._encoder, *given, sample_rate=self._mel.sample_rate)
            audio = np.asarray(generated)[: len(recording)]
            finite = bool(np.isfinite(audio).all())
            mel = bucketed_log_mel(audio, self._mel) if finite else np.full_like(target, np.nan)
            errors.append(float(np.abs(mel - target).mean(dtype=np.float64)))
            distances.append(1 - float(np.sum(speaker * np.asarray(embedding))))
            if row < self._samples:
                name, pictures = self._store.corpus.utterances[row].id, {"target": target, "generated": mel}
                samples.append(Sample(name, audio, self._mel.sample_rate, pictures, target=recording))
        values = float(np.mean(errors)), float(np.mean(distances))
        return ValidationResult(dict(zip(METRICS, values, strict=True)), samples)

    def _recording(self, row: int) -> tuple[Float32[np.ndarray, " samples"], int]:
        """The part of a recording for which there are latents, and its number of frames."""
        audio = self._store.waveform(row)
        frames = min(len(audio) // self._hop, self._store["features"][row].shape[-1])
        return audio[: frames * self._hop], frames

    @staticmethod
    def _padded(frames: int) -> int:
        return -(-frames // _BUCKET) * _BUCKET


@eqx.filter_jit
def _speech(
    generator: Generator,
    encoder: ResNetSE,
    features: Float[Array, "frames channels"],
    speaker: Float[Array, " dim"],
    frames: Int[Array, ""],
    sample_rate: int,
) -> tuple[Float[Array, " samples"], Float[Array, " dim"]]:
    """The audio of features, of which the first `frames` are valid, and the vector of its speaker."""
    audio = generator(features, speaker, length=frames)[:, 0]
    return audio, _embed(encoder, audio, frames * generator.config.hop_length, sample_rate)


@eqx.filter_jit
def _embed(
    encoder: ResNetSE, audio: Float[Array, " samples"], samples: Int[Array, ""], sample_rate: int
) -> Float[Array, " dim"]:
    """The vector of the first `samples` samples of `audio`."""
    rate = encoder.config.sample_rate
    valid = jnp.where(length_mask(samples, audio.shape[0]), audio, jnp.zeros((), audio.dtype))
    resampled = sinc_resample(valid, sample_rate, rate)
    length = jnp.ceil(samples * (rate / sample_rate)).astype(jnp.int32)
    return jax.lax.stop_gradient(encoder(resampled, length=jnp.minimum(length, resampled.shape[0])))
