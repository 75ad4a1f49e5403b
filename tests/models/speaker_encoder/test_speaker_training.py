"""Training of speaker encoders: the step, what it changes, batches, and the equal error rate."""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import Corpus, Loader, Store, Utterance
from jaxvoice.errors import ConfigError, DataError, ShapeError
from jaxvoice.losses import angular_prototypical_loss, speaker_classification_loss
from jaxvoice.models.speaker_encoder import (
    FAMILY,
    SpeakerTask,
    TrainingConfig,
    Validation,
    equal_error_rate,
    error_rate_interval,
    training_sampler,
    training_store,
    verify,
)
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.released import mels
from tests.models.speaker_encoder.small import GE2E, LSTM_SMALL, SMALL, random_encoder

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, weight_decay=0.05, schedule="constant")


def make_store(speakers=4, clips=3, samples=6000, first=0):
    """Recordings of noise, whose colour is that of the speaker."""
    random, audio, utterances = np.random.default_rng(first), [], []
    for speaker in range(first, first + speakers):
        for clip in range(clips):
            noise = random.normal(size=samples)
            tone = np.sin(2 * np.pi * (300 + 400 * speaker) * np.arange(samples) / 16000)
            audio.append((3000 * (0.3 * noise + tone)).astype(np.int16))
            utterances.append(Utterance(f"s{speaker}/{clip}", speaker=f"s{speaker}"))
    corpus = Corpus("folder", Path(), tuple(utterances))
    return Store(corpus, {"audio": audio, "gain": np.full(len(audio), 2**-15, np.float32)}, 16000)


def training(model, **options):
    defaults = {"speakers": 3, "utterances": 2, "seconds": 0.25, "optimizer": OPTIMIZER}
    return TrainingConfig(model, **{**defaults, **options})


def first_batch(config, store):
    with Loader(store, training_sampler(config, store)) as loader:
        return next(loader)


@pytest.fixture(scope="module")
def store():
    return training_store(make_store(), SMALL)


def test_batches_contain_several_recordings_of_each_speaker(store):
    config = training(SMALL)
    batch = first_batch(config, store)
    assert batch.columns["audio"].shape == (6, 4000)
    numbers = batch.columns["speaker"].reshape(3, 2)
    assert (numbers[:, 0] == numbers[:, 1]).all() and len(set(numbers[:, 0].tolist())) == 3
    levels = np.sqrt(np.mean((store.waveform(0).astype(np.float64)) ** 2))
    assert 20 * np.log10(levels) == pytest.approx(-27, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        pytest.param(SMALL, "softmax_angleproto", marks=pytest.mark.slow, id="resnet"),
        pytest.param(LSTM_SMALL, "ge2e_contrast", id="lstm"),
        pytest.param(GE2E, "ge2e_softmax", id="ge2e"),
    ],
)
def test_step_updates_encoder_and_loss_but_no_buffers(model, loss, store):
    config = training(model, loss=loss, classes=4)
    task = SpeakerTask(config, steps_per_epoch=1)
    state, batch = task.state_of(random_encoder(model), key=jax.random.key(0)), first_batch(config, store)
    step = eqx.filter_jit(lambda state: task.step(state, batch, key=jax.random.key(1), phase=0))
    new, metrics = step(state)
    assert {"loss", "scale", "bias", "gradient_norm", "learning_rate"} == set(metrics)
    before, after = (named_arrays(one.network.model) for one in (state, new))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    constant = {name for name in before if "torch_spec" in name or name.endswith("num_batches_tracked")}
    # A bias of all cosines changes only the contrast loss; weight decay moves it in the others.
    assert changed == set(before) - constant
    if model is SMALL:
        assert all(
            jax.tree.leaves(
                jax.tree.map(lambda a, b: bool(jnp.any(a != b)), *(one.network.model_state for one in (state, new)))
            )
        )
    losses = [float(metrics["loss"])]
    for _ in range(15):
        new, metrics = step(new)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]


def test_loss_is_the_sum_of_its_parts(store):
    config = training(LSTM_SMALL, loss="softmax_angleproto", classes=4)
    task = SpeakerTask(config, steps_per_epoch=1)
    state, batch = task.init(key=jax.random.key(0)), first_batch(config, store)
    _, metrics = eqx.filter_jit(lambda state: task.step(state, batch, key=jax.random.key(1), phase=0))(state)
    model = state.network.model
    audio = jnp.asarray(batch.columns["audio"].astype(np.float32) * batch.columns["gain"][:, None])
    embeddings = eqx.filter_jit(lambda: model.encoder(audio, normalize=False))()
    speakers = jnp.asarray(batch.columns["speaker"])
    expected = speaker_classification_loss(model.classifier(embeddings), speakers)
    expected += angular_prototypical_loss(embeddings.reshape(3, 2, -1), jnp.asarray(10.0), jnp.asarray(-5.0))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)


def test_saved_models_and_validations_use_the_running_statistics(tmp_path):
    config = training(SMALL)
    held_out = training_store(make_store(2, 2, first=7), SMALL)
    task = SpeakerTask(config, steps_per_epoch=1, validation=Validation(held_out, SMALL, seconds=0.3))
    state = task.state_of(random_encoder(SMALL), key=jax.random.key(0))
    moved = jax.tree.map(lambda x: x + jnp.asarray(0.5, x.dtype), state.network.model_state)
    state = eqx.tree_at(lambda one: one.network.model_state, state, moved)
    result = task.validate(state)
    assert set(result.metrics) == set(task.metrics)
    task.save_model(state, tmp_path)
    network, config = FAMILY.load_network(tmp_path)
    assert config == SMALL
    np.testing.assert_array_equal(network.bn1.running_mean, state.network.model_state.bn1.running_mean)
    found = verify(task.validation.embeddings(network), ["s7", "s7", "s8", "s8"])
    assert found.equal_error_rate == result.metrics["equal_error_rate"]
    assert task.held_out()["ids"] == ["s7/0", "s7/1", "s8/0", "s8/1"]
    assert task.describe()["parameters"]["encoder"] > 5000


def rates(same, different, threshold):
    return np.mean(same < threshold), np.mean(different >= threshold)


def test_equal_error_rate_is_that_of_the_definition():
    random = np.random.default_rng(0)
    same, different = random.normal(1, 1, 4001), random.normal(-1, 1, 5003)
    rate, threshold = equal_error_rate(same, different)
    for one in rates(same, different, threshold):
        assert abs(one - rate) < 1 / 4000
    # Of two normal distributions: the probability beyond one deviation.
    assert rate == pytest.approx(0.1587, abs=0.01)
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2]))[0] == 0
    assert equal_error_rate(np.array([0.1]), np.array([0.9]))[0] == 1
    assert equal_error_rate(np.array([0.5]), np.array([0.5]))[0] == pytest.approx(0.5)
    assert equal_error_rate(np.array([0.2, 0.6, 0.7, 0.8]), np.array([0.1, 0.3, 0.4, 0.65]))[0] == 0.25
    with pytest.raises(ShapeError, match="0 pairs of one speaker"):
        equal_error_rate(np.array([]), np.array([1.0]))


def test_verification_uses_all_pairs():
    embeddings = np.array([[1, 0], [2, 0], [0, 1], [1, 1]], np.float32)
    found = verify(embeddings, ["a", "a", "b", "b"])
    np.testing.assert_allclose(np.sort(found.same), [np.sqrt(0.5), 1])
    np.testing.assert_allclose(np.sort(found.different), [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-7)
    for speakers in (["a"] * 4, ["a", "b", "c", "d"]):
        with pytest.raises(DataError, match="there should be both"):
            verify(embeddings, speakers)


def test_interval_contains_the_rate_of_the_population():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(20):
        centres = random.normal(size=(12, 1, 6))
        embeddings = (centres + 0.9 * random.normal(size=(12, 4, 6))).reshape(48, 6)
        low, high = error_rate_interval(embeddings, [f"{i // 4}" for i in range(48)], draws=100)
        assert 0 <= low <= high <= 1
        inside += low <= 0.215 <= high  # the mean rate of many such samples
    assert inside >= 14


def test_contradictory_settings_raise_errors(store):
    with pytest.raises(ConfigError, match="speakers is 1; it should be at least 2"):
        training(SMALL, speakers=1)
    with pytest.raises(ConfigError, match="utterances is 1; it should be at least 2"):
        training(SMALL, utterances=1)
    with pytest.raises(ConfigError, match="classes is None"):
        SpeakerTask(training(SMALL, loss="softmax"), steps_per_epoch=1)
    with pytest.raises(ConfigError, match=r"model\.mel is a MelConfig"):
        training(dataclasses.replace(SMALL, mel=mels(20)))
    with pytest.raises(DataError, match="speakers is 5; it should be at most 4"):
        training_sampler(training(SMALL, speakers=5), store)
    with pytest.raises(DataError, match="classes is 9; it should be 4"):
        training_sampler(training(SMALL, loss="softmax", classes=9), store)
    with pytest.raises(ConfigError, match="another configuration"):
        task = SpeakerTask(training(SMALL), steps_per_epoch=1)
        task.state_of(random_encoder(LSTM_SMALL), key=jax.random.key(0))
