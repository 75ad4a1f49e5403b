"""Training of a small WaveGlow: loss and updates compared with torch; validation, resuming, model folders."""

import functools
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_waveglow
from experiments.benchmarks.torch_hifigan import arrays_of
from experiments.benchmarks.torch_training import LogMel
from jaxvoice.data import Corpus, CropBatch, Loader, RandomCrops, Store, Utterance
from jaxvoice.dsp import log_mel, mel_filterbank
from jaxvoice.errors import ConfigError
from jaxvoice.models.waveglow import FAMILY, WaveGlow, validation
from jaxvoice.models.waveglow.training import TrainingConfig, WaveGlowTask
from jaxvoice.models.waveglow.validation import Validation, dequantize
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh
from jaxvoice.weights import load_state, named_arrays
from tests.models.waveglow.small import SMALL

MODEL = replace(SMALL, flows=2, early_every=1, layers=2)
# With a large constant in the denominator, an update of Adam is almost proportional to the gradient. With the usual
# one, rounding errors of gradients near zero would decide the signs of updates.
CONFIG = TrainingConfig(
    MODEL,
    OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.999, eps=0.1, weight_decay=0.0, schedule="constant"),
    sigma=0.7,
    segment_size=2048,
)
NOISY = replace(
    CONFIG,
    optimizer=OptimizerConfig(learning_rate=5e-3, weight_decay=0.0, schedule="constant"),
    dequantize=True,
    ema_decay=0.5,
)


def recordings(rows=2, samples=2048):
    """Tones with noise, as integers."""
    random = np.random.default_rng(0)
    waves = np.sin(np.arange(samples)[None] * random.uniform(0.05, 0.3, (rows, 1)))
    return np.rint(8000 * waves + 300 * random.normal(size=(rows, samples))).astype(np.int16)


def batch_of(audio):
    return CropBatch(audio, np.full(len(audio), 1 / 32768, np.float32))


def torch_network():
    """A network of torch whose couplings change their input."""
    torch.manual_seed(3)
    network = torch_waveglow.WaveGlow(
        mels=MODEL.mel.num_mels,
        flows=MODEL.flows,
        group=MODEL.group,
        early_every=MODEL.early_every,
        early_size=MODEL.early_size,
        layers=MODEL.layers,
        channels=MODEL.channels,
        kernel_size=MODEL.kernel_size,
        upsample_kernel=MODEL.upsample_kernel,
        hop_length=MODEL.mel.hop_length,
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".end." in name:
                parameter.normal_(0, 0.05)
            elif name.startswith("convinv"):
                parameter.mul_(1.1)  # otherwise the determinants would be 1
    return network


def load(network: torch.nn.Module) -> WaveGlow:
    return load_state(eqx.filter_eval_shape(WaveGlow, MODEL, key=jax.random.key(0)), arrays_of(network))


def total(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([part.sum() for part in parts]).sum()


@functools.cache
def new_network() -> WaveGlow:
    return eqx.filter_jit(WaveGlow)(MODEL, key=jax.random.key(0))


@functools.cache
def compiled(config=CONFIG):
    task = WaveGlowTask(config, steps_per_epoch=3)
    return task, eqx.filter_jit(lambda state, batch, key: task.step(state, batch, key=key, phase=0))


def test_loss_and_updates_equal_torch():
    network, samples, sigma = torch_network(), recordings(), CONFIG.sigma
    task, step = compiled()
    state = task.state_of(load(network))
    mel, optimizer = LogMel(filters=mel_filterbank(MODEL.mel), center=True), CONFIG.optimizer
    adam = torch.optim.Adam(network.parameters(), optimizer.learning_rate, (0.9, 0.999), optimizer.eps)
    audio = torch.from_numpy(samples).float() / 32768
    for _ in range(3):
        state, metrics = step(state, batch_of(samples), jax.random.key(0))
        z, log_scales, log_determinants = network(mel(audio), audio)
        # NVIDIA/waveglow `glow.py:WaveGlowLoss`
        log_scale, log_determinant = total(log_scales), total(log_determinants)
        loss = (z.square().sum() / (2 * sigma**2) - log_scale - log_determinant) / z.numel()
        adam.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.get_total_norm([one.grad for one in network.parameters() if one.grad is not None]))
        adam.step()
        assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
        assert float(metrics["log_scale"]) == pytest.approx(log_scale.item() / z.numel(), rel=1e-4)
        assert float(metrics["log_determinant"]) == pytest.approx(log_determinant.item() / z.numel(), rel=1e-4)
        assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-3)
        # The density of a normal distribution, from scipy's definition.
        bits = (loss.item() + math.log(sigma) + 0.5 * math.log(2 * math.pi)) / math.log(2)
        assert float(metrics["bits_per_sample"]) == pytest.approx(bits, rel=1e-4)
    expected = arrays_of(network)
    start = arrays_of(torch_network())
    for name, array in named_arrays(state.network.model).items():
        moved = np.abs(expected[name] - start[name]).max()
        np.testing.assert_allclose(array, expected[name], atol=1e-3 * moved + 1e-7, rtol=0, err_msg=name)
        assert moved > 0, name


def test_negative_determinants_do_not_change_the_loss():
    task, step = compiled()
    network = load(torch_network())
    # The channels of the second half have the opposite sign, after which the couplings are applied to them.
    flipped = eqx.tree_at(lambda one: one.convinv[-1].conv.weight, network, replace_fn=lambda w: w.at[-1].multiply(-1))
    assert float(jnp.linalg.det(flipped.convinv[-1].conv.weight[..., 0])) < 0
    found = [step(task.state_of(one), batch_of(recordings()), jax.random.key(0))[1] for one in (network, flipped)]
    assert float(found[1]["log_determinant"]) == pytest.approx(float(found[0]["log_determinant"]), rel=1e-6)
    assert all(np.isfinite(float(value)) for value in found[1].values())


@pytest.mark.slow
def test_steps_lower_the_likelihood_of_a_new_network():
    task, step = compiled(NOISY)
    state, found = task.state_of(new_network()), []
    for number in range(30):
        state, metrics = step(state, batch_of(recordings()), jax.random.key(number))
        found.append(float(metrics["bits_per_sample"]))
    # A normal distribution with the deviation of the recordings has this entropy.
    deviation = recordings().std() / 32768
    assert min(found[-5:]) < math.log2(deviation * math.sqrt(2 * math.pi * math.e)) + 0.5
    assert int(state.counters.step) == 30 and int(state.counters.skipped) == 0


def test_updates_that_are_not_finite_are_skipped():
    task, step = compiled()
    state = task.state_of(load(torch_network()))
    batch = batch_of(recordings())._replace(gain=np.array([1 / 32768, np.nan], np.float32))
    after, metrics = step(state, batch, jax.random.key(0))
    assert not np.isfinite(float(metrics["loss"]))
    assert eqx.tree_equal(after.network, state.network)
    assert (int(after.counters.step), int(after.counters.skipped)) == (1, 1)


def test_bfloat16_changes_the_loss_by_rounding_only():
    task, step = compiled()
    half, half_step = compiled(replace(CONFIG, precision="bfloat16"))
    network, batch = load(torch_network()), batch_of(recordings())
    expected = step(task.state_of(network), batch, jax.random.key(0))[1]
    state, found = half_step(half.state_of(network), batch, jax.random.key(0))
    assert all(array.dtype == np.float32 for array in named_arrays(state.network.model).values())
    assert 0 < abs(float(found["loss"]) - float(expected["loss"])) < 0.02 * abs(float(expected["loss"]))
    # Determinants are not computed in the narrow type.
    assert float(found["log_determinant"]) == pytest.approx(float(expected["log_determinant"]), rel=1e-6)
    assert float(found["gradient_norm"]) == pytest.approx(float(expected["gradient_norm"]), rel=0.05)


def test_noise_is_that_of_one_integer_step():
    audio = jnp.asarray(recordings(2, 4000).astype(np.float32) / 32768)
    steps = jnp.asarray([[1 / 32768], [2 / 32768]], jnp.float32)
    noise = np.asarray(dequantize(audio, steps, key=jax.random.key(0)) - audio) * 32768
    assert np.abs(noise[0]).max() <= 0.51 and np.abs(noise[1]).max() <= 1.01
    np.testing.assert_allclose(noise.std(1), np.array([1, 2]) / math.sqrt(12), rtol=0.05)
    np.testing.assert_allclose(noise.mean(1), 0, atol=0.05)


def test_noise_of_a_step_depends_on_its_key():
    for config, equal in ((CONFIG, True), (NOISY, False)):
        task, step = compiled(config)
        state = task.state_of(load(torch_network()))
        losses = [float(step(state, batch_of(recordings()), jax.random.key(seed))[1]["loss"]) for seed in (0, 1)]
        assert (losses[0] == losses[1]) is equal


def test_mels_of_the_store_replace_those_of_the_crops():
    samples = recordings()
    audio = jnp.asarray(samples.astype(np.float32) / 32768)
    mel = np.asarray(jax.vmap(log_mel, in_axes=(0, None))(audio, MODEL.mel))[..., :8]
    task, step = compiled()
    state = task.state_of(load(torch_network()))
    # The last frame is the condition of the samples after the last whole frame, of which there are none.
    losses = [
        float(step(state, batch_of(samples)._replace(mel=given), jax.random.key(0))[1]["loss"])
        for given in (None, mel, mel + 3)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and abs(losses[2] - losses[0]) > 1e-4


def make_store(lengths=(2600, 9001), levels=8000) -> Store:
    """Tones with the peak 0.24, in so many integer steps."""
    random = np.random.default_rng(0)
    clips = [np.rint(levels * np.sin(np.cumsum(random.uniform(0, 0.5, n)))).astype(np.int16) for n in lengths]
    utterances = tuple(Utterance(f"clip-{i}", Path(f"{i}.wav")) for i in range(len(clips)))
    columns = {"audio": clips, "gain": np.full(len(clips), 8000 / 32768 / levels, np.float32)}
    return Store(Corpus("folder", Path(), utterances), columns, 22050)


def test_validation_of_couplings_that_do_nothing_is_that_of_a_normal_distribution():
    """A new network is a rotation of the samples, so the likelihood is that of their squares."""
    store, network = make_store(), new_network()
    audio = np.concatenate([store.waveform(i)[: len(store["audio"][i]) // 256 * 256] for i in range(2)])
    for sigma in (1.0, 0.5):
        nats = np.mean(np.square(audio, dtype=np.float64)) / (2 * sigma**2) + math.log(sigma * math.sqrt(2 * math.pi))
        found = Validation(store, MODEL, sigma=sigma)(network).metrics["bits_per_sample"]
        assert found == pytest.approx(nats / math.log(2), abs=1e-5)


def test_validation_equals_that_of_recordings_without_padding():
    store, network = make_store(), load(torch_network())
    result = Validation(store, MODEL, synthesis_sigma=0.5, samples=1)(network)
    nats, errors, run = 0.0, [], eqx.filter_jit(WaveGlow.encode)
    for row in range(2):
        frames = len(store["audio"][row]) // 256
        whole = torch.from_numpy(store.waveform(row))[None]
        mel = LogMel(filters=mel_filterbank(MODEL.mel), center=True)(whole)
        audio = whole[:, : 256 * frames]
        with torch.no_grad():
            z, log_scales, log_determinants = torch_network()(mel, audio)
        nats += z.square().sum().item() / 2 - total(log_scales).item()
        nats += z.numel() * math.log(math.sqrt(2 * math.pi)) - total(log_determinants).item()
        # Deterministic synthesis: the noise is recovered from the audio.
        if row == 0:
            made = result.samples[0].audio
            found = run(network, jnp.asarray(made)[:, None], jnp.asarray(mel[0, :, :frames].numpy().T))
            noise = np.asarray(found.latents)
            assert noise.std() == pytest.approx(0.5, rel=0.05) and abs(noise.mean()) < 0.05
            full = MODEL.mel.full_band()
            mels = [np.asarray(log_mel(jnp.asarray(one), full)) for one in (made, audio[0].numpy())]
            errors.append(np.abs(mels[0] - mels[1]).mean())
    samples = sum(len(store["audio"][row]) // 256 * 256 for row in range(2))
    assert result.metrics["bits_per_sample"] == pytest.approx(nats / samples / math.log(2), abs=1e-4)
    ((sample,), (error,)) = result.samples, errors
    assert sample.name == "clip-0" and sample.target is not None and len(sample.audio) == 2560
    difference = np.abs(sample.pictures["generated"] - sample.pictures["target"]).mean()
    assert difference == pytest.approx(error, rel=1e-3)
    alone = Validation(make_store((2600,)), MODEL, synthesis_sigma=0.5)(network)
    assert alone.metrics["mel_l1"] == pytest.approx(difference, rel=1e-4)


@pytest.mark.slow
def test_validation_in_windows_equals_that_of_whole_recordings(monkeypatch):
    store, network, found = make_store((9001, 20_000)), load(torch_network()), {}
    lengths, evaluate = [], validation._bits_per_sample

    def spy(network, audio, mel, *options):
        lengths.append(len(mel))
        return evaluate(network, audio, mel, *options)

    monkeypatch.setattr(validation, "_bits_per_sample", spy)
    monkeypatch.setattr(validation, "_SMALLEST", 16)
    for window in (16, 1024):
        monkeypatch.setattr(validation, "_WINDOW", window)
        found[window] = Validation(store, MODEL, add_noise=True)(network)
    assert lengths[:-2] == [16] * len(lengths[:-2]) and lengths[-2:] == [48, 96]
    cut, whole = found[16], found[1024]
    assert cut.metrics["bits_per_sample"] == pytest.approx(whole.metrics["bits_per_sample"], abs=1e-5)
    assert cut.metrics["mel_l1"] == pytest.approx(whole.metrics["mel_l1"], rel=1e-4)
    for one, other in zip(cut.samples, whole.samples, strict=True):
        np.testing.assert_allclose(one.audio, other.audio, atol=1e-5)
        assert one.audio.std() > 0.1


def test_validation_is_repeatable_with_and_without_noise():
    store, network = make_store(levels=4), load(torch_network())
    found = [Validation(store, MODEL, add_noise=noise)(network).metrics for noise in (False, True, True)]
    assert found[1] == found[2] and found[0]["mel_l1"] == found[1]["mel_l1"]
    assert found[0]["bits_per_sample"] != found[1]["bits_per_sample"]


def test_synthesis_that_is_not_finite_is_no_metric():
    network = load(torch_network())
    broken = eqx.tree_at(lambda one: one.WN[0].end.bias, network, replace_fn=lambda bias: bias - 200)
    metrics = Validation(make_store(), MODEL)(broken).metrics
    assert math.isnan(metrics["mel_l1"])


def train(run, steps):
    store = make_store((9001, 9001, 12000))
    loop = LoopConfig(steps=steps, validate_every=2, log_every=1, tensorboard=False, best_metric="bits_per_sample")
    logging.getLogger("absl").setLevel(logging.ERROR)
    with Loader(store, RandomCrops(2, CONFIG.segment_size), seed=1) as loader:
        task = WaveGlowTask(NOISY, steps_per_epoch=loader.steps_per_epoch, validation=make_store())
        return fit(task, loader, loop, run, mesh=data_mesh(jax.devices()[:1]))


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_run(tmp_path):
    train(tmp_path / "whole", 4)
    train(tmp_path / "cut", 3)
    assert train(tmp_path / "cut", 4).step == 4
    logged = []
    for run in ("whole", "cut"):
        lines = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        names = ("loss", "bits_per_sample", "log_scale", "log_determinant", "gradient_norm", "mel_l1")
        rows = {(line["step"], line["kind"]): [line[name] for name in names if name in line] for line in lines}
        rows.pop((3, "validation"), None)  # the last step of the first session
        logged.append(rows)
    assert logged[0] == logged[1] and len(logged[0]) == 6
    models = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert models[0] == models[1]


def test_model_folder_contains_the_average_and_the_step(tmp_path):
    _, step = compiled(NOISY)
    task = WaveGlowTask(NOISY, steps_per_epoch=3, validation=make_store(), inherited_info={"licence": "test"})
    state = task.state_of(load(torch_network()))
    state, _ = step(state, batch_of(recordings()), jax.random.key(0))
    task.save_model(state, tmp_path / "model")
    network, loaded = FAMILY.load_network(tmp_path / "model")
    assert loaded == MODEL
    for name, array in named_arrays(network).items():
        np.testing.assert_array_equal(array, named_arrays(state.network.average)[name])
    assert not eqx.tree_equal(state.network.average, state.network.model)
    info = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["info"]
    assert info["licence"] == "test" and info["step"] == 1
    assert task.held_out()["ids"] == ["clip-0", "clip-1"]
    assert task.audio_seconds(batch_of(recordings())) == pytest.approx(2 * 2048 / 22050)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_size": 2001}, r"segment_size is 2001; it should be a multiple of model.group, 8, .* is 2000\."),
        ({"segment_size": 8}, r"segment_size is 8; it should .* at least 513, .* is 520\."),
        ({"sigma": 0.0}, "sigma is 0.0; it should be positive"),
        ({"synthesis_sigma": -1.0}, "synthesis_sigma is -1.0; it should be positive"),
        ({"ema_decay": 1.0}, r"ema_decay is 1.0; it should be in \[0, 1\)"),
        ({"precision": "float16"}, "precision"),
    ],
)
def test_configurations_that_cannot_be_trained_raise(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


def test_new_networks_have_rotations_or_exchange_halves():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), jnp.float32)
    for kind in ("rotations", "exchanges"):
        task = WaveGlowTask(replace(CONFIG, initial_matrices=kind), steps_per_epoch=3)
        network = eqx.filter_jit(task.init)(key=jax.random.key(0)).network.model
        y = np.asarray(network.convinv[0](x))
        np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5)
        assert np.array_equal(y, np.roll(x, 4, axis=1)) is (kind == "exchanges")
