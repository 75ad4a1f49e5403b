"""Validation of a vocoder on whole held-out utterances."""

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.data import Store
from jaxvoice.dsp.mel import bucketed_log_mel, log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.training.task import Sample, ValidationResult

_BUCKET = 256  # frames: utterances are padded to a multiple, so that few lengths are compiled


class Validation:
    """Mean over held-out utterances of mel L1: mean |log-mel of the recording - log-mel of its copy| up to Nyquist.

    The copy is synthesised from the mel spectrogram of the whole utterance, or the one stored with it. The number is
    that of the release's validation curve (jik876/hifi-gan `train.py`, `validation_loss.png`).
    """

    def __init__(self, store: Store, mel: MelConfig, *, samples: int = 4):
        self.mel, self._samples = mel, samples
        self._utterances = []
        for i in range(len(store)):
            given = store["mel"][i] if "mel" in store else None
            audio, frames = store.waveform(i), len(store["audio"][i]) // mel.hop_length
            frames = frames if given is None else min(frames, given.shape[1])
            audio = audio[: frames * mel.hop_length]
            inputs = bucketed_log_mel(audio, mel) if given is None else given
            target = bucketed_log_mel(audio, mel.full_band())
            self._utterances.append((store.corpus.utterances[i].id, inputs[:, :frames], target[:, :frames]))

    def __call__(self, generator: Generator) -> ValidationResult:
        """Metrics `mel_l1`, and samples of the first utterances with their mel spectrograms."""
        errors, samples = [], []
        for name, inputs, target in self._utterances:
            frames = inputs.shape[1]
            padded = jnp.asarray(np.pad(inputs, ((0, 0), (0, -frames % _BUCKET))))
            audio, mel = _copy(generator, padded, jnp.asarray(frames), self.mel)
            mel = np.asarray(mel)[:, :frames]
            errors.append(float(np.abs(mel - target).mean(dtype=np.float64)))
            if len(samples) < self._samples:
                audio = np.asarray(audio)[: frames * self.mel.hop_length]
                samples.append(Sample(name, audio, self.mel.sample_rate, {"target": target, "generated": mel}))
        return ValidationResult({"mel_l1": float(np.mean(errors))}, samples)


@eqx.filter_jit
def _copy(
    generator: Generator, mel: Float[Array, "mels frames"], frames: Int[Array, ""], config: MelConfig
) -> tuple[Float[Array, " samples"], Float[Array, "mels _"]]:
    """The generated audio and its full-band log-mel; both are exact up to `frames` frames."""
    audio = generator(mel.T, length=frames)[:, 0]
    samples, pad = frames * config.hop_length, -(-config.pad // config.hop_length) * config.hop_length
    # Reflected at its true end, as the log-mel of the unpadded signal is.
    place = jnp.arange(audio.shape[0] + pad)
    place = jnp.where(place < samples, place, jnp.maximum(2 * (samples - 1) - place, 0))
    return audio, log_mel(audio[place], config.full_band())
