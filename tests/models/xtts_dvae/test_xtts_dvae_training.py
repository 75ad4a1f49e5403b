"""The training of the DVAE of XTTS: code books compared with NumPy, lengths, steps, phases, and resumed runs."""

import functools as ft
import json
import shutil
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import Corpus, CropBatch, Loader, RandomCrops, Store, Utterance
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.xtts_dvae import DVAE, FAMILY, CodeBook, CodecConfig, CodecNetwork, normalized_log_mel
from jaxvoice.models.xtts_dvae.statistics import mel_statistics
from jaxvoice.models.xtts_dvae.training import DVAETask, TrainingConfig
from jaxvoice.models.xtts_dvae.validation import Validation, usage_and_perplexity
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh
from jaxvoice.weights import named_arrays
from tests.models.xtts_dvae.small import SMALL, VOCODER

RATE = SMALL.mel.sample_rate
FAST = OptimizerConfig(3e-3, 0.9, 0.99, weight_decay=0.0, schedule="constant")
CONFIG = TrainingConfig(
    replace(SMALL, vocoder=VOCODER),
    FAST,
    dvae_steps=2,
    reconstruction_steps=1,
    segment_size=4096,
    vocoder_segment_size=2048,
    vocoder_optimizer=FAST,
    discriminators=DiscriminatorConfig(periods=(2,), scales=1, width=1 / 16),
    loss_weights=LossWeights(stft=1.0, stft_sizes=(512,)),
    ema_decay=0.5,
)


def tones(rows: int, samples: int) -> np.ndarray:
    """Recordings of tones that change, int16."""
    time, random = np.arange(samples) / RATE, np.random.default_rng(0)
    pitch = 200 + 400 * random.random((rows, 1)) * (1 + np.sin(2 * np.pi * 3 * time))
    audio = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch, 1) / RATE) + 0.01 * random.normal(size=(rows, samples))
    return np.rint(32767 * audio).astype(np.int16)


def batch_of(rows: int = 4) -> CropBatch:
    return CropBatch(tones(rows, 4096), np.full(rows, 1 / 32767, np.float32))


def store_of(*lengths: int) -> Store:
    audio = [tones(1, length)[0] for length in lengths]
    utterances = tuple(Utterance(f"tone{i}", Path(f"tone{i}.wav")) for i in range(len(lengths)))
    columns = {"audio": audio, "gain": np.full(len(lengths), 1 / 32767, np.float32)}
    return Store(Corpus("folder", Path("tones"), utterances), columns, RATE)


OF_DVAE = replace(CONFIG, model=SMALL)
"""The training of the DVAE alone, without networks that have to be initialised."""


def task_of(config: TrainingConfig = OF_DVAE, **options) -> DVAETask:
    return DVAETask(config, steps_per_epoch=10, mel_stats=np.full(10, 7.0, np.float32), **options)


@ft.cache
def compiled(task: DVAETask, phase: int):
    return eqx.filter_jit(ft.partial(task.step, phase=phase))


def test_update_and_restart_equal_numpy():
    random, count, channels = np.random.default_rng(0), 12, 6
    book = CodeBook(channels, count, key=jax.random.key(0))
    latents = random.normal(size=(3, 10, channels)).astype(np.float32)
    # A code book without a training step consists of vectors of the data, all of them different.
    first, dead = book.restarted(jnp.asarray(latents), below=0.1, key=jax.random.key(1))
    flat, embed = latents.reshape(-1, channels), np.asarray(first.embed).T
    rows = [int(np.flatnonzero((flat == vector).all(1))[0]) for vector in embed]
    assert int(dead) == count == len(set(rows))
    np.testing.assert_array_equal(first.cluster_size, np.full(count, 30 / count, np.float32))
    np.testing.assert_allclose(first.embed_avg, embed.T * (30 / count), rtol=1e-6)

    codes = np.argmin(((flat[:, None] - embed[None]) ** 2).sum(-1), 1)
    found = first(jnp.asarray(latents))
    np.testing.assert_array_equal(found.codes.reshape(-1), codes)
    np.testing.assert_allclose(found.commitment, np.mean((embed[codes] - flat) ** 2), rtol=1e-5)
    sizes, total = np.full(count, 30 / count), embed * (30 / count)
    for code in range(count):
        sizes[code] = 0.9 * sizes[code] + 0.1 * (codes == code).sum()
        total[code] = 0.9 * total[code] + 0.1 * flat[codes == code].sum(0)
    smoothed = (sizes + 1e-3) / (sizes.sum() + count * 1e-3) * sizes.sum()
    new = first.updated(jnp.asarray(latents), found.codes, decay=0.9, eps=1e-3)
    np.testing.assert_allclose(new.cluster_size, sizes, rtol=1e-5)
    np.testing.assert_allclose(new.embed_avg, total.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.embed, (total / smoothed[:, None]).T, rtol=1e-4, atol=1e-6)

    # Only vectors whose clusters are small are replaced.
    few = eqx.tree_at(lambda b: b.cluster_size, new, new.cluster_size.at[jnp.asarray([2, 7])].set(0.2))
    again, dead = few.restarted(jnp.asarray(latents), below=0.1, key=jax.random.key(2))
    changed = np.flatnonzero(np.any(np.asarray(again.embed) != np.asarray(new.embed), 0))
    assert int(dead) == 2 and changed.tolist() == [2, 7]
    assert all((flat == vector).all(1).any() for vector in np.asarray(again.embed).T[changed])
    # More vectors than latents: they repeat.
    repeated, _ = book.restarted(jnp.asarray(latents[:1, :5]), below=0.1, key=jax.random.key(1))
    assert len(np.unique(np.asarray(repeated.embed), axis=1).T) == 5


def test_results_of_valid_frames_do_not_depend_on_padding():
    network = DVAE(SMALL.dvae, key=jax.random.key(0))
    mel = np.random.default_rng(0).normal(size=(2, 33, 10)).astype(np.float32)
    padded = np.pad(mel, ((0, 0), (0, 7), (0, 0)), constant_values=3.0)
    lengths = jnp.asarray([33, 22])
    found = eqx.filter_jit(lambda n: n(jnp.asarray(padded), length=lengths))(network)
    for row, frames in enumerate((33, 22)):
        alone = eqx.filter_jit(lambda n, mel: n(mel))(network, jnp.asarray(mel[row, :frames]))
        count = -(-frames // SMALL.dvae.stride)
        np.testing.assert_array_equal(found.quantized.codes[row, :count], alone.quantized.codes)
        np.testing.assert_allclose(found.mel[row, :frames], alone.mel, atol=1e-5)
    decode = eqx.filter_jit(lambda n, codes: n.decode(codes, length=jnp.asarray([9, 6])))
    decoded = decode(network, found.quantized.codes)
    np.testing.assert_allclose(decoded[1, :22], alone.mel, atol=1e-5)


@pytest.mark.parametrize("samples", [1023, 1024, 1025])
def test_count_of_codes_is_that_of_the_encoder(samples):
    network = CodecNetwork(SMALL, key=jax.random.key(0))
    codes = eqx.filter_eval_shape(network.encode, jax.ShapeDtypeStruct((samples,), jnp.float32))
    assert SMALL.dvae.code_count(samples) == codes.shape[0]
    assert SMALL.dvae.code_count(np.array([samples])).tolist() == [codes.shape[0]]


def test_steps_of_the_dvae_lower_its_loss_and_use_the_code_book():
    task, batch = task_of(), batch_of()
    state = task.init(key=jax.random.key(0))
    step, losses, restarted = compiled(task, 0), [], []
    for number in range(12):
        state, metrics = step(state, batch, key=jax.random.key(number))
        losses.append(float(metrics["loss"]))
        restarted.append(float(metrics["restarted"]))
    assert losses[-1] < 0.8 * losses[0] and restarted[0] == SMALL.dvae.codes
    assert int(state.counters.step) == 12 and int(state.counters.skipped) == 0
    # The vectors are moved by the rule of the code book, and not by the optimiser.
    book = state.dvae.model.codebook
    size, total = np.asarray(book.cluster_size), np.asarray(book.embed_avg)
    smoothed = (size + 1e-5) / (size.sum() + len(size) * 1e-5) * size.sum()
    np.testing.assert_allclose(book.embed, total / smoothed, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(size.sum(), 4 * 4, rtol=1e-4)


def test_a_step_equals_the_rules_of_the_code_book():
    task, batch, key = task_of(), batch_of(), jax.random.key(5)
    state = task.init(key=jax.random.key(0))
    after, metrics = compiled(task, 0)(state, batch, key=key)

    @eqx.filter_jit
    def expected(dvae):
        audio = jnp.asarray(batch.audio.astype(np.float32) * batch.gain[:, None])
        mel = normalized_log_mel(audio, state.mel_stats, SMALL.mel)[:, :16]
        latents = dvae.latents(mel)
        book, _ = dvae.codebook.restarted(latents, below=CONFIG.restart_below, key=key)
        found = book(latents)
        error = jnp.mean(jnp.square(dvae.decode_vectors(found.vectors) - mel))
        return found, error, book.updated(latents, found.codes, decay=0.99, eps=1e-5)

    found, error, book = expected(state.dvae.model)
    assert float(metrics["reconstruction"]) == pytest.approx(float(error), rel=1e-4)
    assert float(metrics["commitment"]) == pytest.approx(float(found.commitment), rel=1e-3)
    counts = np.bincount(np.asarray(found.codes).reshape(-1), minlength=16)
    assert float(metrics["perplexity"]) == pytest.approx(usage_and_perplexity(counts)[1], rel=1e-4)
    for name in ("embed", "cluster_size", "embed_avg"):
        ours, theirs = (getattr(one, name) for one in (after.dvae.model.codebook, book))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=name)


def test_usage_and_perplexity_of_known_distributions():
    assert usage_and_perplexity(np.array([5, 5, 5, 5])) == (1.0, pytest.approx(4))
    assert usage_and_perplexity(np.array([0, 7, 0, 0])) == (0.25, pytest.approx(1))
    assert usage_and_perplexity(np.array([1, 3])) == (
        1.0,
        pytest.approx(np.exp(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))),
    )
    assert usage_and_perplexity(np.zeros(3, int)) == (0.0, 1.0)


def test_a_batch_that_is_not_finite_changes_nothing():
    task = task_of()
    state = task.init(key=jax.random.key(0))
    batch = CropBatch(batch_of().audio, np.full(4, np.nan, np.float32))
    after, _ = compiled(task, 0)(state, batch, key=jax.random.key(0))
    assert int(after.counters.skipped) == 1
    for old, new in zip(*(jax.tree.leaves(eqx.filter(s.dvae, eqx.is_array)) for s in (state, after)), strict=True):
        np.testing.assert_array_equal(old, new)


def test_statistics_are_mean_absolute_values_over_all_frames():
    store = store_of(5000, 300, 9000)  # the second one is shorter than a frame
    mels = [normalized_log_mel(jnp.asarray(store.waveform(row)), jnp.ones(10), SMALL.mel) for row in (0, 2)]
    expected = np.abs(np.concatenate(mels)).mean(0)
    np.testing.assert_allclose(mel_statistics(store, SMALL.mel), expected, rtol=1e-5)
    short = mel_statistics(store, SMALL.mel, seconds=0.3)
    np.testing.assert_allclose(short, np.abs(mels[0]).mean(0), rtol=1e-5)


def test_validation_equals_numpy_for_whole_recordings():
    task, store = task_of(), store_of(5000, 9000)
    network = task.network(task.init(key=jax.random.key(0)))
    evaluate = eqx.filter_jit(lambda n, audio: (n.mel(audio), n(audio)))
    _, first = evaluate(network, jnp.asarray(store.waveform(1)))
    book, _ = network.dvae.codebook.restarted(first.quantized.latents, below=0.5, key=jax.random.key(1))
    network = eqx.tree_at(lambda n: n.dvae.codebook, network, book)
    found = Validation(store, SMALL.mel, samples=1)(network)
    pairs, codes = [], []
    for row in range(2):
        mel, result = evaluate(network, jnp.asarray(store.waveform(row)))
        pairs.append((np.asarray(mel), np.asarray(result.mel)))
        codes.append(result.quantized.codes)
    target, decoded = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    assert found.metrics["reconstruction"] == pytest.approx(np.mean((target - decoded) ** 2), rel=1e-4)
    assert found.metrics["decoded_l1"] == pytest.approx(7 * np.mean(np.abs(target - decoded)), rel=1e-4)
    assert found.metrics["mel_l1"] == found.metrics["decoded_l1"]
    counts = np.bincount(np.concatenate(codes), minlength=16)
    assert (found.metrics["code_usage"], found.metrics["perplexity"]) == pytest.approx(usage_and_perplexity(counts))
    (sample,) = found.samples
    assert sample.audio.shape == (5000,) and sample.pictures["target"].shape == (10, 20)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_size": 5000}, "segment_size is 5000; it should be a multiple of the samples of a code, 1024"),
        ({"vocoder_segment_size": 1000}, "a multiple of the hop length, 256"),
        ({"vocoder_segment_size": 8192}, "at most segment_size, 4096"),
        ({"restart_below": 1.0}, r"restart_below is 1\.0; it should be in \[0, 1\)"),
        ({"commitment": -1.0}, "commitment"),
    ],
)
def test_invalid_settings_are_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": 80}, "vocoder.in_channels is 80; it should be 10"),
        ({"upsample_rates": (16, 8), "upsample_kernel_sizes": (32, 16)}, "upsample_rates, is 128; it should be 256"),
        ({"cond_channels": 3}, "vocoder.cond_channels is 3; it should be 0"),
    ],
)
def test_vocoders_that_do_not_fit_are_errors(fields, message):
    vocoder = GeneratorConfig(**{"in_channels": 10, **fields})
    with pytest.raises(ConfigError, match=message):
        CodecConfig(SMALL.dvae, vocoder)


def run_to(run: Path, steps: int, config: TrainingConfig = CONFIG, devices: int = 1):
    store = store_of(9000, 12_000, 8000)
    task = task_of(config, validation=Validation(store_of(5000), SMALL.mel, samples=1))
    loop = LoopConfig(steps=steps, log_every=1, checkpoint_every=2, validate_every=2, tensorboard=False)
    with Loader(store, RandomCrops(4, config.segment_size), workers=0) as loader:
        result = fit(task, loader, loop, run, mesh=data_mesh(jax.devices()[:devices]))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return result, {line["step"]: line for line in lines if line["kind"] == "train"}


@pytest.mark.slow
def test_phases_train_the_dvae_then_the_vocoder_and_resume_exactly(tmp_path):
    result, lines = run_to(tmp_path / "whole", 5)
    assert [[name in lines[step] for name in ("commitment", "stft", "discriminator")] for step in range(1, 6)] == [
        *([True, False, False] for _ in range(2)),
        [False, True, False],
        *([False, True, True] for _ in range(2)),
    ]
    assert result.best is not None and result.best["rank"] == 2
    network, config = FAMILY.load_network(tmp_path / "whole" / "model")
    assert config == CONFIG.model and network.vocoder is not None
    np.testing.assert_array_equal(network.mel_stats, np.full(10, 7, np.float32))
    # The DVAE does not change after its steps, and its model has no vocoder before.
    run_to(tmp_path / "short", 2)
    before, of_dvae = FAMILY.load_network(tmp_path / "short" / "model")
    assert of_dvae.vocoder is None and before.vocoder is None
    arrays = named_arrays(network, merged=FAMILY.merged)
    for name, array in named_arrays(before, merged=FAMILY.merged).items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    # As if the run had been stopped after the checkpoint of step 2, and of step 4.
    for kept in (2, 4):
        parts = tmp_path / f"parts{kept}"
        shutil.copytree(tmp_path / "whole", parts)
        for folder in (parts / "checkpoints").iterdir():
            if folder.name.isdigit() and int(folder.name) > kept:
                shutil.rmtree(folder)
        _, again = run_to(parts, 5)
        values = [
            {n: v for n, v in rows[5].items() if n not in ("time", "steps_per_second")} for rows in (lines, again)
        ]
        assert {n: values[0][n] for n in ("generator", "mel_l1")} == {n: values[1][n] for n in ("generator", "mel_l1")}
        resumed = named_arrays(FAMILY.load_network(parts / "model")[0], merged=FAMILY.merged)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, resumed[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_several_devices_give_the_same_code_book(tmp_path):
    config = replace(CONFIG, dvae_steps=3)
    _, one = run_to(tmp_path / "one", 3, config)
    _, four = run_to(tmp_path / "four", 3, config, devices=4)
    for step in (1, 2, 3):
        assert one[step]["perplexity"] == pytest.approx(four[step]["perplexity"], rel=1e-4)
        assert one[step]["reconstruction"] == pytest.approx(four[step]["reconstruction"], rel=1e-3)
    books = [FAMILY.load_network(tmp_path / name / "model")[0].dvae.codebook for name in ("one", "four")]
    np.testing.assert_allclose(books[0].cluster_size, books[1].cluster_size, rtol=1e-4)
    np.testing.assert_allclose(books[0].embed, books[1].embed, rtol=1e-2, atol=1e-3)
