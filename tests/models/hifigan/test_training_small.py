"""Training of a small HiFi-GAN on noise, compared with torch and between devices; saving and resuming."""

import dataclasses
import functools as ft
import json
import logging
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_hifigan, torch_training
from jaxvoice.data import Corpus, CropBatch, Loader, RandomCrops, Store, Utterance
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan import DiscriminatorConfig, GeneratorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh
from jaxvoice.weights import load_state, named_arrays
from tests.models.hifigan.trainer import Trainer
from tests.reference import golden

DECAY = 5.0  # of weights; the release's 0.01 would not be seen in so few steps
OPTIMIZER = OptimizerConfig(weight_decay=DECAY)
CONFIG = TrainingConfig(
    model=HiFiGANConfig(
        generator=GeneratorConfig(
            upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),)
        ),
        discriminators=DiscriminatorConfig(periods=(2,), scales=2, width=0.02),
        segment_size=2048,
    ),
    generator_optimizer=OPTIMIZER,
    discriminator_optimizer=OPTIMIZER,
    ema_decay=0.9,
)
LOSSES = ("disc_period", "disc_scale", "adv_period", "adv_scale", "feature_period", "feature_scale", "mel_times_45")


@pytest.fixture(scope="module", autouse=True)
def _share_programs(tmp_path_factory):
    """Compile each program once for all tests and loops, with few optimisations, since it runs for a few steps."""
    folder = str(tmp_path_factory.mktemp("xla"))
    options = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.2}
    options["jax_disable_most_optimizations"] = True
    before = {name: jax.config.values[name] for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def trainer():
    return Trainer(CONFIG)


def torch_networks():
    """Torch's networks, their weights made by the golden cases' formula: louder than fresh ones."""
    model = CONFIG.model
    sizes = ("upsample_initial_channel", "resblock_kernel_sizes", "resblock_dilation_sizes")
    networks = (
        torch_hifigan.Generator(**{name: getattr(model.generator, name) for name in sizes}),
        torch_hifigan.MultiPeriodDiscriminator(model.discriminators.periods, width=model.discriminators.width),
        torch_hifigan.MultiScaleDiscriminator(model.discriminators.scales, width=model.discriminators.width),
    )
    for network in networks:
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        torch_hifigan.load_arrays(network, {name: golden.tensor(name, tuple(s)) for name, s in shapes.items()})
    return networks


def is_vector(name):
    return name.startswith("discriminators.0.") and name.endswith(("weight_u", "weight_v"))


def state_like_torch(task):
    """The state before the first step, with the weights of `torch_networks`."""
    generator, mpd, msd = (torch_hifigan.arrays_of(network) for network in torch_networks())
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    discriminators = eqx.tree_at(
        lambda d: (d.mpd, d.msd),
        shapes.discriminators.model,
        (
            load_state(shapes.discriminators.model.mpd, mpd),
            load_state(shapes.discriminators.model.msd, {n: a for n, a in msd.items() if not is_vector(n)}),
        ),
    )
    vectors = load_state(shapes.discriminators.model_state, {n: a for n, a in msd.items() if is_vector(n)})
    return task.state_of(load_state(shapes.generator.model, generator), discriminators, vectors)


@pytest.fixture(scope="module")
def start(trainer):
    return state_like_torch(trainer.task)


def make_batch(seed, mel=None):
    rng = np.random.default_rng(seed)
    audio = np.cumsum(rng.standard_normal((8, CONFIG.model.segment_size)), axis=1)
    audio = np.rint(20000 * audio / np.abs(audio).max(axis=1, keepdims=True)).astype(np.int16)
    return CropBatch(audio, (rng.uniform(0.5, 1.5, 8) / 32768).astype(np.float32), mel)


def torch_batch(batch):
    """Mel spectrograms and audio for torch's step."""
    audio = torch.from_numpy(batch.audio.astype(np.float32) * batch.gain[:, None])
    mel = torch_training.LogMel()(audio) if batch.mel is None else torch.from_numpy(batch.mel)
    return mel, audio[:, None]


def torch_losses(batches, weight_decay=DECAY):
    theirs = torch_training.Trainer(*torch_networks(), weight_decay=weight_decay, lr_decay=1.0)
    found = [theirs.step(*torch_batch(batch)) for batch in batches]
    return np.array([[float(losses[name]) for name in LOSSES] for losses in found])


def our_losses(metrics):
    return np.array([[m[name] for name in LOSSES[:-1]] + [45 * m["mel_l1"]] for m in metrics])


@pytest.fixture(scope="module")
def stepped(trainer, start):
    """Three steps from `start`."""
    return trainer(start, *(make_batch(seed) for seed in range(3)))


def arrays_in(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))]


def largest_change(before, after):
    return max(np.abs(a - b).max() for a, b in zip(arrays_in(before), arrays_in(after), strict=True))


@pytest.mark.slow
def test_training_steps_equal_torch(trainer, start):
    batches = [make_batch(seed % 3) for seed in range(10)]  # of the first epoch, whose rate is constant
    ours = our_losses(trainer(start, *batches)[1])
    np.testing.assert_allclose(ours, torch_losses(batches), rtol=0.01)
    other = torch_losses(batches[:8], weight_decay=0.0)
    assert np.abs(ours[:8] / other - 1).max() > 0.03, "the losses depend on weight decay"


@pytest.mark.slow
def test_eight_devices_equal_one_device(start, stepped):
    assert jax.device_count() == 8
    many_states, many = Trainer(CONFIG, data_mesh())(start, make_batch(0))
    states, metrics = stepped
    for name, value in metrics[0].items():
        assert many[0][name] == pytest.approx(value, rel=1e-5), name
    rate = OPTIMIZER.learning_rate
    for before, one, eight in zip(
        *(arrays_in(s.generator.model) for s in (start, states[0], many_states[0])), strict=True
    ):
        assert np.abs(one - before).max() > 0.1 * rate
        np.testing.assert_allclose(eight, one, atol=1e-5)


@pytest.mark.slow
def test_nonfinite_batches_change_the_counters_only(trainer, start, stepped):
    good, bad = make_batch(1), make_batch(1)
    bad.gain[5] = np.nan
    states, metrics = trainer(start, make_batch(0), bad, good)
    assert not np.isfinite(metrics[1]["generator"])
    for left, right in zip(*(arrays_in(state) for state in states[:2]), strict=True):
        np.testing.assert_array_equal(left, right)
    counters = [tuple(int(c) for c in jax.tree.leaves(state.counters)) for state in states]
    assert counters == [(1, 0, 0), (2, 1, 1), (3, 1, 0)]
    assert metrics[2] == stepped[1][1], "a skipped step does not change the next step"


def test_moving_average_follows_the_generator(start, stepped):
    average = arrays_in(start.generator.model)
    for count, state in enumerate(stepped[0]):
        keep = min(0.9, (1 + count) / (10 + count))
        average = [keep * a + (1 - keep) * b for a, b in zip(average, arrays_in(state.generator.model), strict=True)]
        for ours, expected in zip(arrays_in(state.generator.average), average, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert largest_change(state.generator.average, state.generator.model) > 1e-5


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters(start, stepped):
    states, metrics = Trainer(dataclasses.replace(CONFIG, precision="bfloat16"))(start, make_batch(0))
    assert {leaf.dtype for leaf in arrays_in(states[0])} == {np.dtype(np.float32)}
    exact = our_losses(stepped[1][:1])
    np.testing.assert_allclose(our_losses(metrics), exact, rtol=0.05)
    assert np.abs(our_losses(metrics) / exact - 1).max() > 1e-5, "the losses differ from those of float32"


@pytest.mark.slow
def test_each_optimizer_uses_its_own_settings(start, stepped):
    """A gradient clipped far below Adam's epsilon hardly moves a weight; a rate halved every step halves the second."""
    plain = dataclasses.replace(OPTIMIZER, weight_decay=0.0)
    config = dataclasses.replace(
        CONFIG,
        generator_optimizer=dataclasses.replace(plain, clip_norm=1e-10),
        discriminator_optimizer=dataclasses.replace(plain, decay=0.5, decay_steps=1),
    )
    trainer = Trainer(config)
    start = trainer.task.state_of(start.generator.model, start.discriminators.model, start.discriminators.model_state)
    (first, second), _ = trainer(start, make_batch(0), make_batch(0))
    rate = OPTIMIZER.learning_rate
    assert largest_change(start.generator.model, first.generator.model) < 0.05 * rate
    assert largest_change(start.generator.model, stepped[0][0].generator.model) > 0.9 * rate
    assert largest_change(start.discriminators.model, first.discriminators.model) == pytest.approx(rate, rel=0.05)
    assert largest_change(first.discriminators.model, second.discriminators.model) == pytest.approx(rate / 2, rel=0.1)


@pytest.mark.slow
def test_generator_reads_stored_mels(start, stepped):
    mel = torch_batch(make_batch(0))[0].numpy()
    trainer = Trainer(CONFIG)
    _, same = trainer(start, make_batch(0, mel))
    np.testing.assert_allclose(our_losses(same), our_losses(stepped[1][:1]), rtol=1e-3)
    quiet = make_batch(0, mel - 1)
    found = our_losses(trainer(start, quiet)[1])
    # Torch's target is the mel spectrogram of the audio, whatever the generator is given.
    np.testing.assert_allclose(found, torch_losses([quiet]), rtol=1e-3)
    assert abs(found[0, -1] / our_losses(same)[0, -1] - 1) > 1e-3


@pytest.mark.slow
def test_reconstruction_steps_skip_the_discriminators(start):
    trainer = Trainer(dataclasses.replace(CONFIG, reconstruction_steps=2))
    assert [trainer.task.phase_of(step) for step in (0, 1, 2, 9)] == [0, 0, 1, 1]
    assert Trainer(CONFIG).task.phase_of(9) == 0
    (state,), (metrics,) = trainer(start, make_batch(0))
    assert set(metrics) == {"generator", "mel_l1", "gradient_norm", "learning_rate"}
    assert metrics["generator"] == pytest.approx(45 * metrics["mel_l1"], rel=1e-6)
    for ours, before in zip(arrays_in(state.discriminators), arrays_in(start.discriminators), strict=True):
        np.testing.assert_array_equal(ours, before)
    assert largest_change(start.generator.model, state.generator.model) > 0.5 * OPTIMIZER.learning_rate
    with pytest.raises(ConfigError, match="reconstruction_steps"):
        TrainingConfig(reconstruction_steps=-1)


def test_stft_loss_is_the_weighted_distance_to_the_recording(start):
    def metrics_with(**weights):
        loss_weights = LossWeights(**weights)
        trainer = Trainer(dataclasses.replace(CONFIG, reconstruction_steps=2, loss_weights=loss_weights))
        return trainer(start, make_batch(0))[1][0]

    metrics = metrics_with(stft=3.0, stft_sizes=(512, 64))
    assert metrics["generator"] == pytest.approx(45 * metrics["mel_l1"] + metrics["stft"], rel=1e-6)
    batch = make_batch(0)
    recordings = torch.from_numpy(batch.audio.astype(np.float32) * batch.gain[:, None])
    generator = torch_networks()[0]
    with torch.no_grad():
        generated = generator(torch_batch(batch)[0])[:, 0]
    expected = 0.0
    for size in (512, 64):
        window = torch.hann_window(size)
        real, fake = (
            torch.stft(x, size, size // 4, window=window, return_complex=True).abs().clamp(min=1e-7**0.5)
            for x in (recordings, generated)
        )
        expected += torch.linalg.norm((real - fake).ravel()) / torch.linalg.norm(real.ravel())
        expected += (real.log() - fake.log()).abs().mean()
    assert metrics["stft"] == pytest.approx(3 * float(expected) / 2, rel=1e-3)


def test_stft_sizes_longer_than_crops_raise_an_error():
    with pytest.raises(ConfigError, match=r"stft_sizes contains 2048; with segment_size=1024, it should .* below 2048"):
        TrainingConfig(dataclasses.replace(HiFiGANConfig(), segment_size=1024), loss_weights=LossWeights(stft=1.0))
    with pytest.raises(ConfigError, match=r"stft_sizes is \(\); it should be multiples of 4"):
        LossWeights(stft_sizes=())


def make_store(lengths=(5000, 9001, 3000)):
    rng = np.random.default_rng(0)
    clips = [np.rint(8000 * np.sin(np.cumsum(rng.uniform(0, 0.5, n)))).astype(np.int16) for n in lengths]
    utterances = tuple(Utterance(f"clip-{i}", Path(f"{i}.wav")) for i in range(len(clips)))
    gains = np.array([1 / 32768 + 1e-6 * i for i in range(len(clips))], np.float32)
    return Store(Corpus("folder", Path(), utterances), {"audio": clips, "gain": gains}, 22050)


def test_validation_is_the_mel_distance_over_whole_utterances(start, stepped):
    store = make_store()
    task = HiFiGANTask(CONFIG, steps_per_epoch=1, validation=store)
    generator, expected = torch_networks()[0], []
    torch_hifigan.load_arrays(
        generator, {name: np.asarray(a) for name, a in named_arrays(stepped[0][0].generator.average).items()}
    )
    narrow, full = torch_training.LogMel(), torch_training.LogMel(fmax=None)
    for i in range(len(store)):
        audio = torch.from_numpy(store.waveform(i))
        audio = audio[None, : len(audio) // 256 * 256]
        with torch.no_grad():
            copy = generator(narrow(audio))[:, 0]
            assert copy.shape == audio.shape
            expected.append(float((full(audio) - full(copy)).abs().mean()))
    # Validation uses the moving average only.
    zeros = ft.partial(jax.tree.map, jnp.zeros_like)
    state = eqx.tree_at(lambda s: s.generator.model, stepped[0][0], replace_fn=zeros)
    report = task.validate(state)
    assert report.metrics["mel_l1"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert task.validate(start).metrics["mel_l1"] != pytest.approx(np.mean(expected), abs=1e-4)
    assert [(s.name, s.audio.shape) for s in report.samples] == [
        ("clip-0", (4864,)),
        ("clip-1", (8960,)),
        ("clip-2", (2816,)),
    ]
    assert not HiFiGANTask(CONFIG, steps_per_epoch=1).validate(state).metrics


@pytest.fixture
def saved(trainer, stepped, tmp_path):
    trainer.task.save_model(stepped[0][0], tmp_path / "model")
    return tmp_path / "model"


def test_loaded_model_equals_the_saved_model(saved, stepped):
    generator, config = FAMILY.load_network(saved)
    assert config == CONFIG.model
    expected = named_arrays(stepped[0][0].generator.average)
    found = named_arrays(generator)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_damaged_models_raise_an_error(saved, tmp_path):
    weights, about = saved / "model.safetensors", saved / "config.json"
    whole, text = weights.read_bytes(), about.read_text(encoding="utf-8")
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or cut short"):
        FAMILY.load_network(saved)
    weights.write_bytes(whole)

    def rewrite(**changes):
        table = json.loads(text)
        table["config"]["generator"] |= changes
        about.write_text(json.dumps(table), encoding="utf-8")

    rewrite(upsample_initial_channel=32)
    with pytest.raises(CheckpointError, match=r"weights in .*model"):
        FAMILY.load_network(saved)
    for wrong in ({"upsample_initial_channel": 17}, {"chanels": 3}):
        rewrite(**wrong)
        with pytest.raises(ConfigError, match=r"config\.json"):
            FAMILY.load_network(saved)
    about.write_text(text.replace('"hifigan"', '"other"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"the family of .*model is 'other'; it should be"):
        FAMILY.load_network(saved)
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a model folder"):
        FAMILY.load_network(tmp_path)


def train(run, start, steps):
    store, loop = make_store(), LoopConfig(steps=steps, validate_every=2, log_every=1, seed=3, tensorboard=False)
    logging.getLogger("absl").setLevel(logging.ERROR)
    with Loader(store, RandomCrops(8, 2048, crops_per_clip=6), seed=1) as loader:
        task = HiFiGANTask(CONFIG, steps_per_epoch=loader.steps_per_epoch, validation=store)
        return fit(task, loader, loop, run, initial_state=start and (lambda: start), mesh=data_mesh(jax.devices()[:1]))


def logged(run):
    """The losses and validation metrics of a run, as hexadecimal floats."""
    wanted = (*LOSSES[:-1], "generator", "discriminator", "mel_l1")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {(line["step"], line["kind"]): {name: line[name].hex() for name in wanted if name in line} for line in lines}


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_run(start, tmp_path):
    train(tmp_path / "whole", start, 5)
    train(tmp_path / "cut", start, 3)
    result = train(tmp_path / "cut", None, 5)
    assert result.step == 5 and result.skipped == 0
    whole, cut = logged(tmp_path / "whole"), logged(tmp_path / "cut")
    assert len(whole[5, "train"]) == 9 and len(whole[5, "validation"]) == 1
    cut.pop((3, "validation"), None)  # the last step of the first session
    assert cut == whole
    assert whole[4, "train"] != whole[5, "train"]
    models = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert models[0] == models[1]
