"""The torch text-to-speech network that benchmarks compare with computes what jaxvoice's does, part by part."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

from experiments.benchmarks.torch_gaussian_training import Batch, Trainer
from experiments.benchmarks.torch_gaussian_tts import GaussianTTS, Padding, arrays_of, load_arrays
from experiments.benchmarks.tts import networks_with, speech_batch
from jaxvoice.models.gaussian_tts.config import (
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTSConfig,
    Statistics,
)
from jaxvoice.models.gaussian_tts.training import GaussianTTSTask, TrainingConfig
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.weights.array_names import named_arrays

CONFIG = GaussianTTSConfig(
    codes=tuple(f"P{i}" for i in range(9)),
    dim=16,
    encoder=EncoderConfig(layers=1, heads=2, feed_forward=24, dropout=0.0, kernel_size=3, max_phones=12),
    decoder=DecoderConfig(layers=1, heads=4, feed_forward=24, dropout=0.0, max_frames=64, postnet_layers=1),
    durations=DurationConfig(layers=2, hidden=8, dropout=0.0),
    statistics=Statistics(mel_mean=-5.0, mel_std=2.0),
)
# A large epsilon keeps gradients of rounding errors (those of the keys' biases are zero) from moving anything; several
# updates with momentum, clipping and a changing rate tell the optimisers apart.
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, b1=0.9, b2=0.98, eps=1e-3, weight_decay=0.0, clip_norm=0.5)
TRAINING = TrainingConfig(
    CONFIG,
    acoustic_optimizer=replace(OPTIMIZER, schedule="noam", warmup_steps=2),
    duration_optimizer=replace(OPTIMIZER, decay=0.97, decay_steps=1),
    ema_decay=0.3,
)
OPTIONS = {"learning_rates": (3e-3, 3e-3), "eps": 1e-3, "clip_norm": 0.5, "warmup_steps": 2, "decay_steps": 1}


def torch_networks() -> GaussianTTS:
    """Weights as torch draws them and noise on top, so that none is zero or one; running statistics of some batch."""
    torch.manual_seed(1)
    networks = GaussianTTS(CONFIG)
    with torch.no_grad():
        for tensor in (*networks.parameters(), *networks.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return networks


@pytest.fixture(scope="module")
def ours():
    """The same weights in jaxvoice."""
    return networks_with(CONFIG, *arrays_of(torch_networks()))


def batch_of(*, padded: bool):
    return speech_batch(CONFIG, 3, 10, 48, shortest=0.5 if padded else 1.0)


def in_torch(batch) -> Batch:
    return Batch(*(torch.from_numpy(array) for array in batch))


def assert_close(actual, expected) -> None:
    """Equal within 1e-5 of the largest expected value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("padded", [True, False])
def test_inference_is_the_same(ours, padded) -> None:
    batch = batch_of(padded=padded)

    @eqx.filter_jit
    def infer(networks, norms, batch):
        counts = {"phone_count": batch.phone_count, "frame_count": batch.frame_count, "frames": batch.mel.shape[2]}
        decoded, durations = networks(batch.phonemes, batch.durations, norms, **counts)
        return decoded.hidden, durations, (decoded.decoder_mel, decoded.mel, decoded.weights)

    mine, norms = ours
    hidden, durations, made = infer(mine, norms, batch)
    networks, given = torch_networks().eval(), in_torch(batch)
    phones = Padding(given.phone_count, given.phonemes.shape[1])
    frames = Padding(given.frame_count, given.mel.shape[2])
    with torch.inference_mode():
        expected = networks.acoustic.encode(given.phonemes, phones)
        assert_close(hidden, expected)
        assert_close(durations, networks.durations(expected, phones))
        for found, its in zip(made, networks.acoustic.decode(expected, given.durations, phones, frames), strict=True):
            assert_close(found, its)


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0, 1])
def test_training_is_the_same(ours, phase) -> None:
    """Losses and gradients of three steps, and what they leave: weights, running statistics, moving average."""
    task, batch = GaussianTTSTask(TRAINING, steps_per_epoch=1), batch_of(padded=True)
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    acoustic, norms = ours[0].acoustic, ours[1]

    def places(state):
        learner = state.acoustic
        return (learner.model, learner.average, learner.model_state, learner.average_state, state.durations.model)

    state = eqx.tree_at(places, state, (acoustic, acoustic, norms, norms, ours[0].durations))
    step = eqx.filter_jit(lambda state, batch, phase: task.step(state, batch, key=jax.random.key(0), phase=phase))
    networks = torch_networks()
    trainer = Trainer(networks, statistics=CONFIG.statistics, ema_decay=0.3, **OPTIONS)
    for _ in range(3):
        state, metrics = step(state, batch, phase)
        expected = (trainer.duration_step if phase else trainer.acoustic_step)(in_torch(batch))
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    averaged = torch_networks()
    averaged.acoustic.load_state_dict(trainer.average, strict=False)
    assert state.acoustic.average is not None
    before = arrays_of(torch_networks())[0]
    for mine, its in (
        ({"acoustic": state.acoustic.model, "durations": state.durations.model}, networks),
        ({"acoustic": state.acoustic.average}, averaged),
    ):
        after, found = arrays_of(its)[0], named_arrays(mine)
        assert found.keys() <= after.keys()
        for name, array in found.items():
            assert np.any(after[name] != before[name]) == name.startswith("durations" if phase else "acoustic"), name
            np.testing.assert_allclose(array, after[name], rtol=0, atol=2e-6, err_msg=name)
    for mine, its in ((state.acoustic.model_state, networks), (state.acoustic.average_state, averaged)):
        for name, array in named_arrays(mine).items():
            if "num" not in name or its is networks:
                np.testing.assert_allclose(array, arrays_of(its)[1][name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_arrays_go_in_and_out_and_none_may_miss() -> None:
    first, other = torch_networks(), GaussianTTS(CONFIG)
    weights, statistics = arrays_of(first)
    load_arrays(other, weights, statistics)
    assert all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))
    del statistics["decoder.0.running_var"]
    with pytest.raises(RuntimeError, match=r"Missing.*decoder\.blocks\.0\.conv\.norm\.running_var"):
        load_arrays(other, weights, statistics)
