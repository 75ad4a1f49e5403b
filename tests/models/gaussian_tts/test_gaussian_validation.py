"""Validation metrics compared with numpy and scipy on known mels and durations."""

import dataclasses
import math
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
import scipy.fft
from jax import numpy as jnp

from jaxvoice.data import Corpus, Store, Utterance
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts import FAMILY, Statistics, denormalise_durations, validation
from jaxvoice.models.gaussian_tts.batch_synthesis import BatchResult
from jaxvoice.models.gaussian_tts.training import GaussianTTSTask, TrainingConfig
from jaxvoice.models.gaussian_tts.validation import Validation
from jaxvoice.text.phonemes import PhoneSet
from tests.models.gaussian_tts.small import CODES, changed, networks

BANDS, MEL = 20, MelConfig(num_mels=20)
TRUE = [np.array([2, 4]), np.array([5, 6, 1]), np.array([10, 12, 9, 8])]
PREDICTED = [np.array([1.0, 3.0]), np.array([5.0, 2.5, 0.125]), np.array([4.0, 7.5, 8.0, 2.0])]
SCALE = 57 / 33.125
# The stored duration_scale must not affect the metrics.
CONFIG = dataclasses.replace(
    changed(encoder={"max_phones": 10}, decoder={"max_frames": 40}),
    mel=MEL,
    statistics=Statistics(mel_mean=-5.0, mel_std=2.0, duration_mean=1.5, duration_std=0.5, duration_scale=3.0),
)


def store_of(durations) -> Store:
    rng = np.random.default_rng(1)
    utterances = tuple(Utterance(f"u{number}") for number in range(len(durations)))
    corpus = Corpus("table", Path("nowhere"), utterances, phone_set=PhoneSet("small", CODES))
    columns = {
        "mel": [rng.uniform(-7, -3, (BANDS, d.sum())).astype(np.float32) for d in durations],
        "phonemes": [rng.integers(1, 13, len(d)).astype(np.int32) for d in durations],
        "durations": [d.astype(np.int32) for d in durations],
    }
    return Store(corpus, columns, MEL.sample_rate, MEL)


STORE = store_of(TRUE)
WIDTHS = np.array([0.5, 0.7, 1.2])
OFFSETS = np.array([0.3, -0.2, 0.05])


def made(number: int) -> np.ndarray:
    """The target with changed variances and levels, so that the metrics of the utterances differ."""
    target = STORE["mel"][number].astype(np.float64)
    middle = target.mean(axis=1, keepdims=True)
    return middle + WIDTHS[number] * (target - middle) + OFFSETS[number] * np.cos(np.arange(BANDS))[:, None]


def numbers_of(phone_count) -> list[int]:
    """The indices of the utterances in a batch, without empty rows."""
    return [int(count) - 2 for count in phone_count if count]


def log_durations(phonemes, phone_count) -> np.ndarray:
    """The output of a duration model, with arbitrary values in padding."""
    logs = np.full(phonemes.shape, 7.0, np.float32)
    for row, number in enumerate(numbers_of(phone_count)):
        logs[row, : len(PREDICTED[number])] = (np.log(1 + PREDICTED[number]) - 1.5) / 0.5
    return logs


def spoken(acoustic, norms, batch, durations) -> BatchResult:
    """The output of the networks, with arbitrary values in padding."""
    frames = np.full((len(batch.mel), batch.mel.shape[2], BANDS), 9.0, np.float32)
    for row, number in enumerate(numbers_of(batch.phone_count)):
        mel = made(number)
        frames[row, : mel.shape[1]] = (mel.T + 5) / 2
    weights = np.full((*frames.shape[:2], batch.phonemes.shape[1]), 0.1, np.float32)
    return BatchResult(frames, weights, log_durations(batch.phonemes, batch.phone_count))  # pyright: ignore[reportArgumentType]


def hum(mel: np.ndarray) -> np.ndarray:
    return np.repeat(mel.mean(axis=0), MEL.hop_length).astype(np.float32) / 20


@pytest.fixture(scope="module", params=[1, 2, 16])
def report(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "synthesize_batch", spoken)
        judge = Validation(STORE, CONFIG, batch_size=request.param, samples=2, vocoder=hum)
        return judge(None, None, None)  # pyright: ignore[reportArgumentType]


def test_mel_l1_is_the_mean_over_all_frames(report):
    distances = [np.abs(made(number) - mel) for number, mel in enumerate(STORE["mel"])]
    every = np.concatenate(distances, axis=1).mean()
    assert report.metrics["mel_l1"] == pytest.approx(every, rel=1e-5)
    assert abs(every - np.mean([d.mean() for d in distances])) > 0.02, "the mean over utterances would differ"


def test_mel_cepstral_distortion_equals_scipy(report):
    distances = []
    for number, mel in enumerate(STORE["mel"]):
        left, right = (
            scipy.fft.dct(np.asarray(m, np.float64), axis=0)[1:14] / (2 * BANDS) for m in (mel, made(number))
        )
        distances.append(10 / np.log(10) * np.sqrt(2 * ((left - right) ** 2).sum(axis=0)))
    assert report.metrics["mcd"] == pytest.approx(np.concatenate(distances).mean(), rel=1e-4)


def test_variance_ratio_is_below_one_for_blurred_speech(report):
    assert report.metrics["variance_ratio"] == pytest.approx(np.prod(WIDTHS**2) ** (1 / 3), rel=1e-4)
    assert report.metrics["variance_ratio"] < 0.7


def test_duration_errors_use_scaled_durations(report):
    true, predicted = np.concatenate(TRUE), np.concatenate(PREDICTED)
    errors = np.abs(true - np.maximum(predicted * SCALE, 1))
    assert report.metrics["duration_scale"] == pytest.approx(SCALE, rel=1e-5)
    assert report.metrics["duration_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert report.metrics["duration_median"] == pytest.approx(np.median(errors), rel=1e-4)
    assert errors[4] == 0 and predicted[4] * SCALE < 1, "no phoneme is shorter than a frame"


def test_score_is_the_weighted_sum_of_metrics(report):
    found = report.metrics
    expected = found["mel_l1"] + 0.1 * found["mcd"] - 0.5 * math.log(found["variance_ratio"])
    assert found["score"] == pytest.approx(expected + 0.05 * found["duration_error"], rel=1e-6)
    assert all(math.isfinite(value) for value in found.values())


def test_score_penalises_high_and_low_variance_equally(monkeypatch):
    """Variance ratios of 4 and of 1/4 have the same cost."""
    shared = {}
    for factor in (0.5, 2.0):
        monkeypatch.setattr(validation, "synthesize_batch", spoken)
        monkeypatch.setitem(globals(), "WIDTHS", np.full(3, factor))
        found = Validation(STORE, CONFIG, samples=0)(None, None, None).metrics  # pyright: ignore[reportArgumentType]
        assert found["variance_ratio"] == pytest.approx(factor**2, rel=1e-4)
        shared[factor] = found["score"] - found["mel_l1"] - 0.1 * found["mcd"] - 0.05 * found["duration_error"]
    assert shared[0.5] == pytest.approx(math.log(2), rel=1e-4) and shared[2.0] == pytest.approx(math.log(2), rel=1e-4)


def test_samples_are_the_first_utterances(report):
    assert [sample.name for sample in report.samples] == ["u0", "u1"]
    for number, sample in enumerate(report.samples):
        np.testing.assert_allclose(sample.pictures["generated"], made(number), atol=1e-5)
        np.testing.assert_array_equal(sample.pictures["target"], STORE["mel"][number])
        np.testing.assert_array_equal(sample.audio, hum(sample.pictures["generated"]))
        assert set(sample.drawings) == {"alignment", "durations"}


def test_training_samples_do_not_change_metrics(report, monkeypatch):
    monkeypatch.setattr(validation, "synthesize_batch", spoken)
    judge = Validation(STORE, CONFIG, batch_size=2, samples=1, training=STORE, vocoder=hum)
    with_training = judge(None, None, None)  # pyright: ignore[reportArgumentType]
    assert [sample.name for sample in with_training.samples] == ["u0", "train-u0", "train-u1"]
    assert with_training.metrics == pytest.approx(report.metrics)
    for number, sample in enumerate(with_training.samples[1:]):
        np.testing.assert_allclose(sample.pictures["generated"], made(number), atol=1e-5)
        np.testing.assert_array_equal(sample.pictures["target"], STORE["mel"][number])


def test_saved_duration_scale_preserves_the_sum(monkeypatch, tmp_path):
    """Saving a model does not run the decoder."""

    def encode(acoustic, norms, durations, phonemes, *, phone_count):
        return None, log_durations(phonemes, phone_count)

    monkeypatch.setattr(validation, "encode", encode)
    monkeypatch.setattr(validation, "synthesize_batch", None)
    judge = Validation(STORE, CONFIG, batch_size=2)
    task = GaussianTTSTask(TrainingConfig(CONFIG), steps_per_epoch=1, validation=judge)
    model = networks(CONFIG)
    task.save_model(task.state_of(model, model.init_state()), tmp_path)
    saved = FAMILY.load_network(tmp_path)[1].statistics
    assert saved.duration_scale == pytest.approx(SCALE, rel=1e-5)
    said = [denormalise_durations((np.log(1 + frames) - 1.5) / 0.5, saved).sum() for frames in PREDICTED]
    assert sum(said) == pytest.approx(np.concatenate(TRUE).sum(), rel=1e-5)
    assert dataclasses.replace(saved, duration_scale=3.0) == CONFIG.statistics


@eqx.filter_jit
def alone(model, norms, ids, durations, frames: int):
    phone_count, frame_count = jnp.full((1,), ids.shape[1], jnp.int32), jnp.full((1,), frames, jnp.int32)
    decoded, logs = model(ids, durations, norms, phone_count=phone_count, frame_count=frame_count, frames=frames)
    return decoded.mel[0], logs[0]


def test_validation_accepts_utterances_of_maximum_length():
    """Utterances just below the 10 and 40 learned positions are not padded beyond them."""
    durations = [np.array([3, 4]), np.array([4, 5, 4, 5, 4, 5, 4, 5, 3])]
    store, model = store_of(durations), networks(CONFIG)
    norms = model.init_state()
    judge = Validation(store, CONFIG, batch_size=2, samples=0)
    found = judge(model.acoustic, norms, model.durations).metrics
    distances, predicted = [], 0.0
    for mel, ids, frames in zip(store["mel"], store["phonemes"], durations, strict=True):
        given = jnp.asarray(ids[None]), jnp.asarray(frames[None], jnp.float32)
        normalised, logs = map(np.asarray, alone(model, norms, *given, int(frames.sum())))
        distances.append(np.abs(np.clip(normalised.T * 2.0 - 5.0, MEL.floor, 3.08) - mel))
        predicted += (np.exp(logs.astype(np.float64) * 0.5 + 1.5) - 1).sum()
    assert found["mel_l1"] == pytest.approx(np.concatenate(distances, axis=1).mean(), rel=1e-4)
    assert found["duration_scale"] == pytest.approx(46 / predicted, rel=1e-4)
    assert judge.duration_scale(model.acoustic, norms, model.durations) == found["duration_scale"]


@pytest.mark.parametrize(
    ("frames", "told"),
    [([2] * 11, "u0 has 11 phones .* max_phones=10"), ([20, 21], "u0 has 41 frames .* max_frames=40")],
)
def test_validation_rejects_utterances_beyond_the_positions(frames, told):
    with pytest.raises(ConfigError, match=told):
        Validation(store_of([np.array(frames)]), CONFIG)
