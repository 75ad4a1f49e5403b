"""Judging a text-to-speech model on held-out utterances whose durations are known."""

import math
from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Float, Float32

from jaxvoice.data.aligned import AlignedBatch, AlignedStore, batches_in_order
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.measures import mel_cepstrum
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics
from jaxvoice.models.gaussian_tts.durations import DurationModel
from jaxvoice.models.gaussian_tts.scaling import to_mel
from jaxvoice.training.pictures import draw_alignment, draw_durations
from jaxvoice.training.task import Report, Sample

_BUCKET = 256  # frames: what is heard is padded to a multiple, so that few lengths are compiled
_WEIGHTS = {"mel_l1": 1.0, "mcd": 0.1, "variance": 0.5, "duration_error": 0.05}

Mel = Float[np.ndarray, "mels frames"]
VocoderFunction = Callable[[Mel], Float32[np.ndarray, " samples"]]


class Validation:
    """Measures over held-out utterances, spoken with their own durations:

    - `mel_l1`: mean |log-mel - target| over frames and bands, in the units of the mel contract;
    - `mcd`: mel-cepstral distortion in decibels between the mels, 13 coefficients;
    - `variance_ratio`: variance over time of each band against the target's, geometric mean over bands and utterances;
        below 1 the speech is blurred;
    - `duration_error`: mean |predicted - true| duration in frames, and `duration_median`, its median;
    - `duration_scale`: sum of true durations over that of predicted ones, `duration_error` and what is saved use it;
    - `score`: `mel_l1` + 0.1 `mcd` + 0.5 |ln `variance_ratio`| + 0.05 `duration_error`, which decides the best model.

    **Arguments:** `store`; `config`; `samples`, how many utterances are kept to hear and see; `vocoder`, a function
    from mel (mels, frames) to audio, by default Griffin-Lim.
    """

    def __init__(
        self,
        store: AlignedStore,
        config: GaussianTTSConfig,
        *,
        batch_size: int = 16,
        samples: int = 3,
        vocoder: VocoderFunction | None = None,
    ):
        self._store, self._config, self._samples = store, config, samples
        self._vocoder = vocoder or _GriffinLim(config)
        self._batches = list(batches_in_order(store, min(batch_size, len(store))))

    def __call__(self, acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel) -> Report:
        """Judge these networks."""
        config, rows = self._config, []
        statistics = replace(config.statistics, duration_scale=1.0)
        made: dict[int, tuple[Mel, np.ndarray, np.ndarray]] = {}
        true_frames, predicted_frames = [], []
        for numbers, batch in self._batches:
            second, weights, logs = map(np.asarray, _spoken(acoustic, norms, durations, batch))
            free = _unrounded(logs, statistics)
            for row, number in enumerate(numbers):
                number = int(number)
                target, ids = self._store.mels[number], self._store.ids[number]
                mel = to_mel(second[row, : target.shape[1]], statistics, config.mel)
                rows.append(_measures(mel, target, config))
                true_frames.append(self._store.durations[number].astype(np.float64))
                predicted_frames.append(free[row, : len(ids)])
                if number < self._samples:
                    shown = np.asarray(weights[row, : target.shape[1], : len(ids)])
                    made[number] = mel, shown, free[row, : len(ids)]
        scale = sum(map(np.sum, true_frames)) / max(sum(map(np.sum, predicted_frames)), 1e-9)
        errors = np.abs(np.concatenate(true_frames) - np.maximum(np.concatenate(predicted_frames) * scale, 1.0))
        mel_l1, mcd, log_ratio = (float(np.mean(column)) for column in zip(*rows, strict=True))
        ratio = math.exp(log_ratio)
        metrics = {"mel_l1": mel_l1, "mcd": mcd, "variance_ratio": ratio, "duration_error": float(errors.mean())}
        parts = {**metrics, "variance": abs(log_ratio)}
        metrics |= {"duration_median": float(np.median(errors)), "duration_scale": float(scale)}
        metrics["score"] = sum(weight * parts[name] for name, weight in _WEIGHTS.items())
        return Report(metrics, [self._sample(number, *made[number], float(scale)) for number in sorted(made)])

    def duration_scale(self, acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel) -> float:
        """Sum of true durations over that of predicted ones; what predictions are to be multiplied by."""
        true = predicted = 0.0
        for numbers, batch in self._batches:
            free = _unrounded(_spoken(acoustic, norms, durations, batch)[2], self._config.statistics)
            mask = np.arange(free.shape[1]) < batch.phone_count[: len(numbers), None]
            predicted += float(np.where(mask, free[: len(numbers)], 0).sum())
            true += float(batch.durations[: len(numbers)].sum())
        return true / max(predicted, 1e-9)

    def _sample(self, number: int, mel: Mel, weights: np.ndarray, free: np.ndarray, scale: float) -> Sample:
        store, name = self._store, self._store.corpus.utterances[number].id
        phones, true = store.phones[number], store.durations[number].astype(np.float64)
        drawings = {
            "alignment": draw_alignment(name, weights, phones),
            "durations": draw_durations(name, {"target": true, "predicted": np.maximum(free * scale, 1.0)}, phones),
        }
        pictures = {"target": store.mels[number], "generated": mel}
        return Sample(name, self._vocoder(mel), self._config.mel.sample_rate, pictures, drawings)


@eqx.filter_jit
def _spoken(acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel, batch: AlignedBatch):
    arrays = [jnp.asarray(array) for array in batch]
    phonemes, phone_count, frames, mel, frame_count = arrays
    hidden, _ = acoustic.encode(phonemes, phone_count, norms, inference=True)
    decoded = acoustic.decode(hidden, frames, phone_count, frame_count, norms, frames=mel.shape[2], inference=True)
    return decoded.second, decoded.weights, durations(hidden, phone_count, inference=True)


def _unrounded(logs, statistics: Statistics) -> np.ndarray:
    """Durations in frames from normalised logarithms, before scaling and rounding."""
    return np.expm1(np.asarray(logs, np.float64) * statistics.duration_std + statistics.duration_mean)


def _measures(mel: Mel, target: Mel, config: GaussianTTSConfig) -> tuple[float, float, float]:
    """Mel L1, mel-cepstral distortion, and the mean over bands of the logarithm of the ratio of variances."""
    frames = -(-target.shape[1] // _BUCKET) * _BUCKET
    padded = np.pad(mel - target, ((0, 0), (0, frames - mel.shape[1])))
    cepstra = np.asarray(_cepstrum(padded, config.mel))[1:, : mel.shape[1]]  # linear: those of the difference
    distance = 10 / math.log(10) * np.sqrt(2 * np.square(cepstra).sum(0))
    spread = [m.astype(np.float64).var(axis=1) + 1e-8 for m in (mel, target)]
    return float(np.abs(mel - target).mean()), float(distance.mean()), float(np.log(spread[0] / spread[1]).mean())


_cepstrum = eqx.filter_jit(mel_cepstrum)


class _GriffinLim:
    """Audio without a vocoder model, padded to few lengths."""

    def __init__(self, config: GaussianTTSConfig):
        self._mel = config.mel
        self._invert = jax.jit(lambda mel: mel_to_audio(mel, self._mel))

    def __call__(self, mel: Mel) -> Float32[np.ndarray, " samples"]:
        frames = -(-mel.shape[1] // _BUCKET) * _BUCKET
        padded = np.pad(mel, ((0, 0), (0, frames - mel.shape[1])), constant_values=self._mel.floor)
        return np.asarray(self._invert(padded.astype(np.float32)))[: mel.shape[1] * self._mel.hop_length]
