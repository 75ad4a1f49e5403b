"""Two phases of training a few channels on made-up utterances."""

from dataclasses import replace
from itertools import pairwise

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.data.aligned import AlignedBatch
from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts import (
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTSConfig,
    Statistics,
)
from jaxvoice.models.gaussian_tts.training import GaussianTTSTask, TrainingConfig, acoustic_optimizer
from jaxvoice.models.gaussian_tts.weights import load_model
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh, replicate, shard_batch

CODES = ("pau", "AH0", "S", "T")
# A large rate and decay of weights, so that what should not change would be seen to; and an epsilon that keeps
# gradients of rounding errors (those of the keys' biases are zero) from moving anything.
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, eps=1e-3, weight_decay=0.1, schedule="constant", clip_norm=1.0)
CONFIG = TrainingConfig(
    model=GaussianTTSConfig(
        CODES,
        dim=8,
        encoder=EncoderConfig(layers=1, heads=2, feed_forward=16, dropout=0.1, max_phones=8),
        decoder=DecoderConfig(layers=1, heads=2, feed_forward=16, dropout=0.1, max_frames=40, postnet_layers=1),
        durations=DurationConfig(layers=1, hidden=8),
        statistics=Statistics(mel_mean=-5.0, mel_std=2.0),
    ),
    acoustic_steps=2,
    acoustic_optimizer=OPTIMIZER,
    duration_optimizer=OPTIMIZER,
    ema_decay=0.9,
)


def make_batch(rows=8, phones=6, frames=24, seed=0):
    """Each phoneme sounds like itself: a mel that can be learnt."""
    rng = np.random.default_rng(seed)
    sounds = np.random.default_rng(7).normal(-5, 2, (len(CODES) + 1, 80)).astype(np.float32)
    ids, durations = np.zeros((rows, phones), np.int32), np.zeros((rows, phones), np.float32)
    mel, counts, lengths = np.zeros((rows, 80, frames), np.float32), [], []
    for row in range(rows):
        count = int(rng.integers(2, phones + 1))
        ids[row, :count] = rng.integers(1, len(CODES) + 1, count)
        durations[row, :count] = ids[row, :count] % 4 + 1
        spoken = np.repeat(sounds[ids[row, :count]], durations[row, :count].astype(int), axis=0)
        mel[row, :, : len(spoken)] = spoken.T
        counts.append(count)
        lengths.append(len(spoken))
    return AlignedBatch(ids, np.array(counts, np.int32), durations, mel, np.array(lengths, np.int32))


@pytest.fixture(scope="module")
def task():
    return GaussianTTSTask(CONFIG, steps_per_epoch=1)


@pytest.fixture(scope="module")
def step(task):
    return eqx.filter_jit(task.step)  # the phase, no array, is part of the program


@pytest.fixture(scope="module")
def states(task, step):
    """The state before the first of four steps, and after each."""
    found = [eqx.filter_jit(task.init)(key=jax.random.key(0))]
    for seed in range(4):
        found.append(step(found[-1], make_batch(seed=seed), task.phase_of(seed))[0])
    return found


def same(left, right):
    """Whether all arrays are equal bit for bit."""
    arrays = [jax.tree.leaves(eqx.filter(side, eqx.is_array)) for side in (left, right)]
    return all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


PARTS = ("acoustic", "average", "acoustic_optimizer", "durations", "duration_optimizer")


def test_each_phase_changes_its_own_part_and_nothing_else(states):
    first, second = PARTS[:3], PARTS[3:]
    for (before, after), learning in zip(pairwise(states), (first, first, second, second), strict=True):
        for part in PARTS:
            kept = same(getattr(before, part), getattr(after, part))
            assert kept == (part not in learning), part


def test_padding_changes_neither_losses_nor_weights():
    config = replace(
        CONFIG,
        model=replace(
            CONFIG.model,
            encoder=replace(CONFIG.model.encoder, dropout=0.0),
            decoder=replace(CONFIG.model.decoder, dropout=0.0),
            durations=replace(CONFIG.model.durations, dropout=0.0),
        ),
    )
    task = GaussianTTSTask(config, steps_per_epoch=1)
    step = eqx.filter_jit(task.step)
    short, long = make_batch(), make_batch(phones=6, frames=40)
    long = AlignedBatch(
        np.pad(short.phonemes, ((0, 0), (0, 2))),
        short.phone_count,
        np.pad(short.durations, ((0, 0), (0, 2))),
        long.mel,
        short.frame_count,
    )
    noisy = long.mel.copy()
    for row, frames in enumerate(long.frame_count):
        noisy[row, :, frames:] = 50.0
    start = eqx.filter_jit(task.init)(key=jax.random.key(0))
    results = [step(start, batch, 0) for batch in (short, long, long._replace(mel=noisy))]
    for state, metrics in results[1:]:
        for name in ("first", "second", "gradient_norm"):
            assert float(metrics[name]) == pytest.approx(float(results[0][1][name]), rel=1e-5), name
        pairs = zip(
            jax.tree.leaves(eqx.filter(state.acoustic.norms, eqx.is_array)),
            jax.tree.leaves(eqx.filter(results[0][0].acoustic.norms, eqx.is_array)),
            strict=True,
        )
        assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_it_learns(step, states):
    state, losses = states[0], []
    batch = make_batch()
    for _ in range(60):
        state, metrics = step(state, batch, 0)
        losses.append(float(metrics["second"]))
    assert losses[-1] < 0.7 * losses[0]
    durations = []
    for _ in range(60):
        state, metrics = step(state, batch, 1)
        durations.append(float(metrics["duration"]))
    assert durations[-1] < 0.5 * durations[0]


def test_eight_devices_learn_as_one_does(task, step, states):
    mesh, batch = data_mesh(), make_batch()
    start = states[0]
    one, metrics = step(start, batch, 0)
    arrays, static = eqx.partition(start, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    @jax.jit
    def many_step(leaves, batch):
        state, metrics = task.step(eqx.combine(jax.tree.unflatten(structure, leaves), static), batch, 0)
        return jax.tree.leaves(eqx.filter(state, eqx.is_array)), metrics

    many, found = many_step(replicate(leaves, mesh), shard_batch(batch, mesh))
    for name in ("first", "second", "gradient_norm"):
        assert float(found[name]) == pytest.approx(float(metrics[name]), rel=1e-5), name
    for ours, theirs in zip(many, jax.tree.leaves(eqx.filter(one, eqx.is_array)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("phase", "field"), [(0, "mel"), (1, "durations")])
def test_batches_that_are_not_finite_change_only_the_counters(step, states, phase, field):
    batch = make_batch()
    getattr(batch, field)[0, 0] = np.nan
    after, _ = step(states[2], batch, phase)
    assert all(same(getattr(after, part), getattr(states[2], part)) for part in PARTS)
    assert (int(after.counters.step), int(after.counters.skipped)) == (3, 1)


def test_a_saved_model_is_the_average(task, states, tmp_path):
    task.save_model(states[4], tmp_path)
    model, norms, config = load_model(tmp_path)
    assert same(model.acoustic, states[4].average.model) and same(norms, states[4].average.norms)
    assert same(model.durations, states[4].durations) and config == CONFIG.model


def test_settings_are_checked():
    assert acoustic_optimizer(256, 4000).learning_rate == pytest.approx(9.88e-4, rel=1e-3)
    with pytest.raises(ConfigError, match="ema_decay"):
        TrainingConfig(ema_decay=1.0)
    with pytest.raises(ConfigError, match="acoustic_steps"):
        TrainingConfig(acoustic_steps=-1)
