"""Validation of a text-to-speech model on held-out utterances with known durations."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Float, Float32, Float64

from jaxvoice.data.batches import UtteranceBatch
from jaxvoice.data.buckets import batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.measures import mel_cepstrum
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.batch_synthesis import synthesize_batch
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.inference import encode
from jaxvoice.models.gaussian_tts.networks import DurationModel
from jaxvoice.models.gaussian_tts.statistics import denormalise_durations, denormalise_mel
from jaxvoice.training.pictures import draw_alignment, draw_durations
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

_TRAINING_SAMPLES = 2  # training utterances that become samples
_BUCKET = 256  # frames; samples are padded to a multiple of it, so that few lengths are compiled
METRICS = MappingProxyType(
    {
        "score": "mel_l1 + 0.1 mcd + 0.5 |ln variance_ratio| + 0.05 duration_error",
        "mel_l1": "mean absolute difference of log-mels, with the true durations",
        "mcd": "mel-cepstral distortion in dB",
        "duration_error": "mean absolute difference of durations in frames",
        "duration_median": "median absolute difference of durations in frames",
    }
)
"""Metrics that can select the best model; lower is better."""
_WEIGHTS = {"mel_l1": 1.0, "mcd": 0.1, "variance": 0.5, "duration_error": 0.05}

VocoderFunction = Callable[[Float[np.ndarray, "mels frames"]], Float32[np.ndarray, " samples"]]
"""A function from a log-mel spectrogram to audio with full scale 1."""


class Validation:
    """Computes metrics over held-out utterances, which are synthesised with their own durations:

    - `mel_l1`: mean |log-mel - target| over all frames of all utterances and all bands, in the units of the mel
        contract, as `jaxvoice.pipelines.teacher_force` reports it;
    - `mcd`: mel-cepstral distortion in decibels of the mels, with 13 coefficients, averaged over the same frames;
    - `variance_ratio`: variance over time of each band divided by that of the target, as the geometric mean over bands
        and utterances; a value below 1 indicates blurred spectrograms;
    - `duration_error`: mean |predicted - true| duration in frames; `duration_median` is the median;
    - `duration_scale`: sum of true durations divided by the sum of predicted durations, the factor for predictions in
        `duration_error` and in saved models;
    - `score`: `mel_l1` + 0.1 `mcd` + 0.5 |ln `variance_ratio`| + 0.05 `duration_error`, which selects the best model.

    **Arguments:**

    - `store`: the held-out utterances.
    - `config`: the configuration of the networks, whose `statistics` normalise mels and durations.
    - `batch_size`: maximum number of utterances in a batch.
    - `samples`: number of utterances that become samples.
    - `training`: the training utterances. The first two become samples too, with names that start with `train-`. They
        do not affect the metrics.
    - `vocoder`: a function from mel `(mels, frames)` to audio, by default Griffin-Lim.

    **Raises:** `ConfigError` for utterances longer than the positions of the networks.
    """

    def __init__(
        self,
        store: Store,
        config: GaussianTTSConfig,
        *,
        batch_size: int = 16,
        samples: int = 3,
        training: Store | None = None,
        vocoder: VocoderFunction | None = None,
    ):
        self._store, self._config, self._samples = store, config, samples
        self._vocoder = vocoder or _GriffinLim(config)
        self.held_out = describe_held_out(store)
        self._targets: dict[str, np.ndarray] = {}
        self._unscaled = replace(config.statistics, duration_scale=1.0)
        self._batches = self._in_order(store, batch_size)
        self._training = None if training is None else training.subset(range(min(_TRAINING_SAMPLES, len(training))))
        self._training_batches = [] if self._training is None else self._in_order(self._training, batch_size)

    def _in_order(self, store: Store, batch_size: int) -> list[tuple[np.ndarray, UtteranceBatch]]:
        most, config = min(batch_size, len(store)), self._config
        return list(
            batches_in_order(store, most, max_frames=config.decoder.max_frames, max_phones=config.encoder.max_phones)
        )

    def __call__(self, acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel) -> ValidationResult:
        """The metrics and samples of the given networks."""
        config, rows = self._config, []
        made: dict[int, tuple[Float[np.ndarray, "mels frames"], np.ndarray, np.ndarray]] = {}
        true_frames, predicted_frames = [], []
        for numbers, batch in self._batches:
            normalised, weights, logs = map(np.asarray, synthesize_batch(acoustic, norms, batch, durations))
            unscaled = denormalise_durations(logs, self._unscaled)
            for row, number in enumerate(numbers):
                number = int(number)
                target, ids = self._store["mel"][number], self._store["phonemes"][number]
                mel = denormalise_mel(normalised[row, : target.shape[1]], config.statistics, config.mel)
                rows.append(_measures(mel, target, config))
                true_frames.append(self._store["durations"][number].astype(np.float64))
                predicted_frames.append(unscaled[row, : len(ids)])
                if number < self._samples:
                    shown = np.asarray(weights[row, : target.shape[1], : len(ids)])
                    made[number] = mel, shown, unscaled[row, : len(ids)]
        true, predicted = np.concatenate(true_frames), np.concatenate(predicted_frames)
        scale = _scale(true, predicted)
        errors = np.abs(true - np.maximum(predicted * scale, 1.0))
        frames = [batch.frame_count[row] for numbers, batch in self._batches for row in range(len(numbers))]
        distances, distortions, log_ratios = zip(*rows, strict=True)
        mel_l1, mcd = (float(np.average(column, weights=frames)) for column in (distances, distortions))
        log_ratio = float(np.mean(log_ratios))
        ratio = math.exp(log_ratio)
        metrics = {"mel_l1": mel_l1, "mcd": mcd, "variance_ratio": ratio, "duration_error": float(errors.mean())}
        parts = {**metrics, "variance": abs(log_ratio)}
        metrics |= {"duration_median": float(np.median(errors)), "duration_scale": scale}
        metrics["score"] = sum(weight * parts[name] for name, weight in _WEIGHTS.items())
        samples = [self._sample(self._store, number, *made[number], scale) for number in sorted(made)]
        return ValidationResult(metrics, samples + self._training_samples(acoustic, norms, durations, scale))

    def _training_samples(
        self, acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel, scale: float
    ) -> list[Sample]:
        """Samples of training utterances, for comparison with held-out ones."""
        samples = []
        for numbers, batch in self._training_batches:
            assert self._training is not None
            normalised, weights, logs = map(np.asarray, synthesize_batch(acoustic, norms, batch, durations))
            unscaled = denormalise_durations(logs, self._unscaled)
            for row, number in enumerate(map(int, numbers)):
                frames, phones = self._training["mel"][number].shape[1], len(self._training["phonemes"][number])
                mel = denormalise_mel(normalised[row, :frames], self._config.statistics, self._config.mel)
                shown = weights[row, :frames, :phones]
                samples.append(
                    self._sample(self._training, number, mel, shown, unscaled[row, :phones], scale, "train-")
                )
        return samples

    def duration_scale(self, acoustic: AcousticModel, norms: BatchNormStates, durations: DurationModel) -> float:
        """The factor for predicted durations: the sum of true durations divided by the sum of predicted durations.

        Only the encoder and the duration model are evaluated.
        """
        true, predicted = [], []
        for _, batch in self._batches:
            phonemes, phone_count = jnp.asarray(batch.phonemes), jnp.asarray(batch.phone_count)
            unscaled = denormalise_durations(
                np.asarray(encode(acoustic, norms, durations, phonemes, phone_count=phone_count)[1]), self._unscaled
            )
            valid = np.arange(unscaled.shape[1]) < batch.phone_count[:, None]
            predicted.append(unscaled[valid])
            true.append(batch.durations[valid].astype(np.float64))
        return _scale(np.concatenate(true), np.concatenate(predicted))

    def _sample(
        self,
        store: Store,
        number: int,
        mel: Float[np.ndarray, "mels frames"],
        weights: np.ndarray,
        unscaled: np.ndarray,
        scale: float,
        prefix: str = "",
    ) -> Sample:
        name = prefix + store.corpus.utterances[number].id
        phones, true = store.phones(number), store["durations"][number].astype(np.float64)
        drawings = {
            "alignment": draw_alignment(name, weights, phones),
            "durations": draw_durations(name, {"target": true, "predicted": np.maximum(unscaled * scale, 1.0)}, phones),
        }
        pictures = {"target": store["mel"][number], "generated": mel}
        # The target mel as audio, so that the comparison is of mels and not of vocoders.
        if name not in self._targets:
            self._targets[name] = self._vocoder(store["mel"][number])
        target = self._targets[name]
        return Sample(name, self._vocoder(mel), self._config.mel.sample_rate, pictures, drawings, target)


def _scale(true: Float64[np.ndarray, " phones"], predicted: Float64[np.ndarray, " phones"]) -> float:
    """The factor that makes the sum of predicted durations equal to that of the true ones."""
    return float(true.sum() / max(predicted.sum(), 1e-9))


def _measures(
    mel: Float[np.ndarray, "mels frames"], target: Float[np.ndarray, "mels frames"], config: GaussianTTSConfig
) -> tuple[float, float, float]:
    """Mel L1, mel-cepstral distortion, and the mean over bands of the log variance ratio."""
    frames = -(-target.shape[1] // _BUCKET) * _BUCKET
    padded = np.pad(mel - target, ((0, 0), (0, frames - mel.shape[1])))
    cepstra = np.asarray(_cepstrum(padded, config.mel))[1:, : mel.shape[1]]  # the cepstrum is linear in the mel
    distance = 10 / math.log(10) * np.sqrt(2 * np.square(cepstra).sum(0))
    spread = [m.astype(np.float64).var(axis=1) + 1e-8 for m in (mel, target)]
    return float(np.abs(mel - target).mean()), float(distance.mean()), float(np.log(spread[0] / spread[1]).mean())


_cepstrum = eqx.filter_jit(mel_cepstrum)


class _GriffinLim:
    """Griffin-Lim as a vocoder function, with mels padded to few lengths."""

    def __init__(self, config: GaussianTTSConfig):
        self._mel = config.mel
        self._invert = jax.jit(lambda mel: mel_to_audio(mel, self._mel))

    def __call__(self, mel: Float[np.ndarray, "mels frames"]) -> Float32[np.ndarray, " samples"]:
        frames = -(-mel.shape[1] // _BUCKET) * _BUCKET
        padded = np.pad(mel, ((0, 0), (0, frames - mel.shape[1])), constant_values=self._mel.floor)
        return np.asarray(self._invert(padded.astype(np.float32)))[: mel.shape[1] * self._mel.hop_length]
