"""Training of a frame-wise phoneme recogniser on tones, one for each phoneme."""

import functools
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

import jaxvoice
from jaxvoice.data import Alignment, ColumnBatch, Corpus, LengthBuckets, Loader, Store, Utterance, label_column
from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer import (
    FAMILY,
    ConformerTask,
    MaskingConfig,
    TrainingConfig,
    Validation,
    conformer_optimizer,
    mask_features,
    with_phonemes,
)
from jaxvoice.models.conformer.training import COLUMNS, FIXED
from jaxvoice.models.conformer.validation import batch_labels, edit_distance, frame_losses
from jaxvoice.text.phonemes import PhoneSet
from jaxvoice.training import parallel
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.weights import named_arrays
from tests.models.conformer.small import SMALL

PHONES = PhoneSet("tones", ("low", "mid", "high"))
# One layer, and dropout where it costs few random numbers: most of the time goes into compiling steps.
MODEL = with_phonemes(replace(SMALL, layers=1, dropout=0.0), PHONES)
CONFIG = TrainingConfig(
    MODEL,
    OptimizerConfig(0.02, 0.9, 0.98, weight_decay=0.01, schedule="constant", clip_norm=1.0),
    MaskingConfig(time_masks=1, frequency_masks=1, frequency_width=3),
)
STATISTICS = "encoder.layers.0.conv.batch_norm.running_mean"


def tones(count, seed=0):
    """Recordings of 0.6 to 1 s with a tone of 200, 1,000 or 4,000 Hz for each phoneme, and their labels."""
    random, audio, utterances = np.random.default_rng(seed), [], []
    for number in range(count):
        phones = random.integers(0, 3, 5)
        ends = np.cumsum(random.integers(1920, 3200, 5))
        samples = np.repeat(np.array([200.0, 1000.0, 4000.0])[phones], np.diff(ends, prepend=0))
        wave = np.sin(2 * np.pi * np.cumsum(samples) / 16_000) + 0.01 * random.normal(size=len(samples))
        audio.append((8000 * wave).astype(np.int16))
        codes = tuple(PHONES.codes[phone] for phone in phones)
        utterances.append(Utterance(str(number), alignment=Alignment(str(number), codes, np.r_[0, ends] / 16_000)))
    corpus = Corpus("aligned", Path(), tuple(utterances), phone_set=PHONES)
    store = Store(corpus, {"audio": audio, "gain": np.full(count, 1 / 32768, np.float32)}, 16_000)
    return store.with_columns(labels=label_column(store, MODEL.hop_length))


SAMPLER = LengthBuckets(8, buckets=[(16_384, 32)], columns=COLUMNS, fixed=FIXED)


@pytest.fixture(scope="module")
def store():
    return tones(24)


@pytest.fixture(scope="module")
def batches(store):
    with Loader(store, SAMPLER) as loader:
        return [next(loader) for _ in range(6)]


@functools.cache
def compiled(config):
    """The task, its first state, and its compiled step."""
    task = ConformerTask(config, steps_per_epoch=3)
    step = eqx.filter_jit(lambda state, batch, key: task.step(state, batch, key=key, phase=0))
    return task.init(key=jax.random.key(0)), step


def train(config, batches):
    """The states before and after steps on `batches`."""
    first, step = compiled(config)
    state = first
    for number, batch in enumerate(batches):
        state, _ = step(state, batch, jax.random.key(number))
    return first, state


@pytest.mark.slow
def test_training_lowers_the_loss_and_is_saved(store, tmp_path):
    task = ConformerTask(CONFIG, steps_per_epoch=3, validation=Validation(tones(5, 1), MODEL, batch_size=4))
    loop = LoopConfig(steps=50, validate_every=0, log_every=10, tensorboard=False, best_metric="frame_error")
    with Loader(store, SAMPLER) as loader:
        before = task.validate(task.init(key=jax.random.key(0))).metrics
        result = fit(task, loader, loop, tmp_path / "run", mesh=parallel.data_mesh(jax.devices()[:1]))
    assert result.step == 50
    assert before["cross_entropy"] > 1 > 2 * result.metrics["cross_entropy"]
    assert result.metrics["frame_accuracy"] > 0.8 and result.metrics["phoneme_error_rate"] < 0.5
    # The saved model recognises the tones with its running statistics.
    encoder = jaxvoice.load(tmp_path / "run")
    audio, alignment = tones(3, 2).waveform(0), tones(3, 2).corpus.utterances[0].alignment
    merged = [code for code, last in zip(alignment.phones, ("", *alignment.phones), strict=False) if code != last]
    found = encoder.recognise(audio)
    assert abs(len(found) - len(merged)) <= 2 and set(found) <= set(PHONES.codes)


def test_loss_equals_torch():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(2, 6, 3)).astype(np.float32), random.integers(0, 4, (2, 6))
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).mT, torch.from_numpy(labels) - 1, ignore_index=-1, reduction="none"
    )
    np.testing.assert_allclose(frame_losses(logits, labels.astype(np.int32)), expected, atol=1e-6)


def test_labels_follow_the_frames_of_the_encoder():
    labels = np.array([[1, 2, 3, 1], [2, 2, 9, 9]], np.int32)
    batch = ColumnBatch({"labels": labels}, {"labels": np.array([4, 2], np.int32)})
    np.testing.assert_array_equal(batch_labels(batch, 3), [[1, 2, 3], [2, 2, 0]])
    np.testing.assert_array_equal(batch_labels(batch, 5), [[1, 2, 3, 1, 0], [2, 2, 0, 0, 0]])


@pytest.mark.slow
def test_padding_and_frames_without_labels_do_not_change_the_update(batches):
    still = replace(MODEL, attention_dropout=0.0)
    # The epsilon suppresses updates by rounding errors: the true gradients of biases before batch norm are zero.
    optimizer = replace(CONFIG.optimizer, eps=1e-3)
    config = replace(CONFIG, model=still, masking=MaskingConfig(0, 0.0, 0, 0), optimizer=optimizer)
    batch = batches[0]
    longer = {
        "audio": np.pad(batch.columns["audio"], ((0, 0), (0, 6400)), constant_values=99),
        "labels": np.pad(batch.columns["labels"], ((0, 0), (0, 9)), constant_values=1),
    }
    changed = ColumnBatch({**batch.columns, **longer}, batch.lengths)
    _, first = train(config, [batch])
    _, second = train(config, [changed])
    ours, others = (named_arrays((s.network.model, s.network.model_state)) for s in (first, second))
    for name, array in ours.items():
        np.testing.assert_allclose(array, others[name], atol=2e-4, err_msg=name)


@pytest.mark.parametrize("frozen", [("encoder",), ("encoder.pre_encode", "encoder.layers.0.conv")])
def test_frozen_parts_do_not_change(batches, frozen):
    first, last = train(replace(CONFIG, frozen=frozen), batches[:2])
    before, after = (
        {**named_arrays(state.network.model), **named_arrays(state.network.model_state)} for state in (first, last)
    )
    for name, array in before.items():
        same = np.array_equal(array, after[name])
        assert same == name.startswith(frozen), name


@pytest.mark.slow
def test_statistics_drift_without_frozen_parts(batches):
    first, last = train(CONFIG, batches[:1])
    assert not np.array_equal(
        named_arrays(first.network.model_state)[STATISTICS], named_arrays(last.network.model_state)[STATISTICS]
    )


def test_a_batch_that_is_not_finite_is_skipped(batches):
    broken = {**batches[0].columns, "gain": np.full(8, np.nan, np.float32)}
    first, last = train(CONFIG, [ColumnBatch(broken, batches[0].lengths)])
    assert int(last.counters.skipped) == 1 and eqx.tree_equal(first.network, last.network)


def test_training_continues_from_a_stored_network(batches):
    network = FAMILY.build(MODEL, key=jax.random.key(3))
    task = ConformerTask(CONFIG, steps_per_epoch=3)
    state = task.state_of(network)
    assert eqx.tree_equal(state.network.model.encoder.pre_encode, network.encoder.pre_encode)
    assert task.audio_seconds(batches[0]) == batches[0].lengths["audio"].sum() / 16_000
    with pytest.raises(ConfigError, match="another configuration"):
        task.state_of(FAMILY.build(replace(MODEL, xscaling=False), key=jax.random.key(0)))
    assert set(task.describe()["parameters"]) == {"encoder", "recogniser"}


def test_masks_have_the_given_number_and_width():
    features, length = jnp.ones((64, 100, 20)), jnp.full((64,), 80)
    config = MaskingConfig(time_masks=2, time_width=0.1, frequency_masks=1, frequency_width=4)
    masked = np.asarray(eqx.filter_jit(mask_features)(features, length, config, key=jax.random.key(0)))
    frames, bands = (masked == 0).all(2), (masked == 0).all(1)
    assert frames.sum(1).max() <= 16 and bands.sum(1).max() == 4
    assert not frames[:, 80:].any()
    # On average, a mask is half as wide as the widest.
    assert 5 < frames.sum(1).mean() < 9 and 1.5 < bands.sum(1).mean() < 2.5
    np.testing.assert_array_equal(
        mask_features(features, length, MaskingConfig(0, 0.0, 0, 0), key=jax.random.key(0)), features
    )


def test_edit_distance_equals_a_table():
    def table(left, right):
        rows = [list(range(len(right) + 1))]
        for i, a in enumerate(left, 1):
            rows.append([i])
            for j, b in enumerate(right, 1):
                rows[i].append(min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a != b)))
        return rows[-1][-1]

    random = np.random.default_rng(0)
    for _ in range(50):
        left, right = (random.integers(0, 3, random.integers(0, 9)).tolist() for _ in range(2))
        assert edit_distance(left, right) == table(left, right)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingConfig(replace(MODEL, classes=4)), "model.classes is 4 and model.symbols has 3"),
        (lambda: TrainingConfig(replace(MODEL, classes=None, symbols=())), "model.classes is None"),
        (lambda: MaskingConfig(time_width=2.0), "time_width is 2.0; it should be in"),
        (lambda: MaskingConfig(time_masks=-1), "time_masks is -1; it should be at least 0"),
        (
            lambda: ConformerTask(replace(CONFIG, frozen=("encodr",)), steps_per_epoch=1).init(key=jax.random.key(0)),
            "frozen contains 'encodr'.*did you mean 'encoder'",
        ),
    ],
)
def test_impossible_settings_raise_an_error(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_default_optimizer_has_the_peak_of_nemo():
    optimizer = conformer_optimizer(512, 10_000)
    assert optimizer.learning_rate == pytest.approx(2.0 / (512 * 10_000) ** 0.5)
