"""The training of RAVE: parts that do not change, states, validation, runs that are resumed, and bad input."""

import dataclasses
import functools
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import AudioBatch, AudioCrops, AugmentationConfig, Corpus, Loader, Store, Utterance
from jaxvoice.errors import DataError, TrainingError
from jaxvoice.losses import spectral_distance
from jaxvoice.models.rave import (
    FAMILY,
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    LatentPCA,
    NoiseConfig,
    receptive_field,
)
from jaxvoice.models.rave.training import RaveTask
from jaxvoice.models.rave.validation import Validation
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.parallel import data_mesh
from jaxvoice.weights import named_arrays
from tests.models.rave.small import CONFIGS, random_model
from tests.models.rave.test_rave_steps import CONFIG, MODEL, changed, recordings, run, start

DISCRIMINATORS = DiscriminatorConfig("scale", capacity=1, scales=1)
V1 = dataclasses.replace(
    MODEL,
    encoder=EncoderConfig("v1", capacity=2, ratios=(2, 2), dilations=()),
    generator=GeneratorConfig(
        "v1", capacity=2, ratios=(2, 2), dilations=(), noise=NoiseConfig((2, 2), hidden_size=None)
    ),
    discriminators=DISCRIMINATORS,
)
V1_CONFIG = dataclasses.replace(CONFIG, model=V1, phase_1_steps=1)


@pytest.mark.slow
def test_statistics_of_v1_follow_the_audio_while_the_encoder_is_frozen():
    (first, _), (second, _), (third, _) = run(V1_CONFIG, 3)
    for before, after in ((first, second), (second, third)):
        names = changed(before.networks.model_state, after.networks.model_state)
        assert {name.rpartition(".")[2] for name in names} >= {"running_mean", "running_var"}
        assert not [name for name in changed(before.networks.model, after.networks.model) if "encoder" in name]


@pytest.mark.slow
def test_v1_adds_noise_in_the_second_phase_only():
    # Without an effect of the key on latents, it has an effect on the noise alone.
    config = dataclasses.replace(V1_CONFIG, model=dataclasses.replace(V1, bottleneck=BottleneckConfig("spherical", 3)))
    task = RaveTask(config, steps_per_epoch=1)
    state, batch = start(config), AudioBatch(recordings())
    step = eqx.filter_jit(lambda state, key, phase: task.step(state, batch, key=key, phase=phase)[1]["fullband"])
    for number, differs in ((0, False), (1, True)):
        phase = task.phase_of(number)
        found = {float(step(state, jax.random.key(seed), phase)) for seed in (0, 1)}
        assert task.config.step_kind(number).mode in ("reconstruction", "generator")
        assert (len(found) == 2) == differs


@functools.cache
def discrete(warmup=0):
    bottleneck = BottleneckConfig("discrete", 3, num_quantizers=2, codebook_size=4, kmeans_iterations=5)
    model = dataclasses.replace(MODEL, bottleneck=bottleneck, discriminators=DISCRIMINATORS)
    return dataclasses.replace(CONFIG, model=model, phase_1_steps=3, warmup_quantize=warmup)


@pytest.mark.slow
def test_codebooks_are_trained_with_the_first_quantised_batch():
    steps = run(discrete(1), 2)
    books = [state.networks.model_state.encoder.rvq.codebooks for state, _ in steps]
    assert all(float(book.inited[0]) == 0 and not np.any(book.embed) for book in books[0])
    assert all(float(book.inited[0]) == 1 and np.all(np.any(book.embed, axis=1)) for book in books[1])
    regularization = [float(metrics["regularization"]) for _, metrics in steps]
    assert regularization[0] == 0 and regularization[1] > 0


@pytest.mark.slow
def test_encoder_of_discrete_latents_is_trained_in_both_phases():
    steps = run(dataclasses.replace(discrete(), phase_1_steps=1), 2)
    names = changed(steps[0][0].networks.model, steps[1][0].networks.model)
    assert any(name.startswith("encoder.encoder.") for name in names)


@pytest.mark.slow
def test_instance_norms_do_nothing_in_training():
    plain = dataclasses.replace(MODEL, discriminators=DISCRIMINATORS)
    adapted = dataclasses.replace(
        plain,
        encoder=dataclasses.replace(plain.encoder, adain=True),
        generator=dataclasses.replace(plain.generator, adain=True),
    )
    ((state, metrics),) = run(dataclasses.replace(CONFIG, model=adapted), 1)
    assert (
        changed(start(dataclasses.replace(CONFIG, model=adapted)).networks.model_state, state.networks.model_state)
        == set()
    )
    assert np.isfinite(float(metrics["generator"]))


@pytest.mark.parametrize("name", ["v2", "v1", "discrete", "wasserstein", "spherical"])
def test_models_of_all_kinds_are_saved_with_the_flags_of_their_phase(name, tmp_path):
    config = dataclasses.replace(CONFIG, model=CONFIGS[name], phase_1_steps=2, warmup_quantize=2)
    task, model = RaveTask(config, steps_per_epoch=1), random_model(CONFIGS[name])
    first = task.state_of(model.network, model.state, {"discriminators": jnp.zeros(1)})
    later = eqx.tree_at(lambda s: s.counters.step, first, first.counters.step + 3)
    for state, flag in ((first, 0), (later, 1)):
        task.save_model(state, tmp_path / str(flag))
        saved, saved_config = FAMILY.load_network(tmp_path / str(flag))
        assert saved_config == config.model
        encoder, decoder = saved.state.encoder, saved.state.decoder
        flags = encoder.warmed_up, encoder.enabled, getattr(decoder, "warmed_up", None)
        assert [value is not None for value in flags] == [name != "spherical", name == "discrete", name == "v1"]
        assert all(int(value) == flag for value in flags if value is not None)
        assert tuple(saved.state.receptive_field) == receptive_field(config.model)


def store_of(*lengths, channels=1, silent=(), rate=8000):
    random = np.random.default_rng(1)
    audio = []
    for number, length in enumerate(lengths):
        time = np.arange(length)[None] * random.uniform(0.05, 0.4, (channels, 1))
        wave = np.rint(9000 * np.sin(time) + 300 * random.normal(size=time.shape)).astype(np.int16)
        wave = np.zeros_like(wave) if number in silent else wave
        audio.append(wave[0] if channels == 1 else wave)
    utterances = tuple(Utterance(f"tone{number}", Path(f"{number}.wav")) for number in range(len(lengths)))
    gain = np.full(len(lengths), 1 / 32768, np.float32)
    return Store(Corpus("folder", Path("tones"), utterances), {"audio": audio, "gain": gain}, rate)


FITTED = dataclasses.replace(CONFIG, phase_1_steps=1, ema_decay=0.5)


def fit_to(folder, steps, **options):
    crops = AudioCrops(2, 1024, 8000, AugmentationConfig())
    loop = LoopConfig(
        steps=steps,
        validate_every=2,
        checkpoint_every=2,
        log_every=1,
        best_metric="spectral_distance",
        tensorboard=False,
        **options,
    )
    with Loader(store_of(3000, 500, 1024), crops, seed=3) as loader:
        validation = Validation(store_of(2500, 700), FITTED, samples=1)
        task = RaveTask(FITTED, steps_per_epoch=loader.steps_per_epoch, validation=validation)
        return fit(task, loader, loop, folder, mesh=data_mesh(jax.devices()[:1]))


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """In the second phase, before a step of the discriminators."""
    whole = fit_to(tmp_path / "whole", 4)
    fit_to(tmp_path / "parts", 2)
    parts = fit_to(tmp_path / "parts", 4)
    assert whole.metrics == parts.metrics and whole.best == parts.best
    assert whole.best is not None and whole.best["rank"] == 1
    models = [FAMILY.load_network(folder / "model")[0] for folder in (whole.folder, parts.folder)]
    assert changed(*models) == set() and named_arrays(models[0])
    state = models[0].state
    assert int(state.encoder.warmed_up) == 1 and float(state.fidelity[-1]) == pytest.approx(1)
    written = {path.name for path in (whole.folder / "samples" / "step_00000004").iterdir()}
    assert written == {"tone0.wav", "tone0.target.wav", "tone0.png"}


@pytest.mark.slow
def test_validation_measures_windows_and_components():
    config, store = dataclasses.replace(CONFIG, fullband_target="round_trip"), store_of(2500, 700, 1024, silent=(2,))
    state = start(config)
    found = Validation(store, config)
    network, buffers = state.networks.model, state.networks.model_state
    result = found(network, buffers, config.step_kind(0), step=1)
    distances, means = [], []
    # Windows of 1024 samples; the third recording is silent.
    for row, places in ((0, (0, 1024, 2048)), (1, (0,))):
        for place in places:
            audio = store.waveform(row)[place : place + 1024]
            frames = -(-len(audio) // 16)
            padded = jnp.asarray(np.pad(audio, (0, 1024 - len(audio)))[:, None])
            latents, _ = network.encode(padded, buffers, inference=True)
            made, _ = network.decode(latents.z, buffers, inference=True)
            options = {"scales": config.scales, "log_epsilon": config.log_epsilon}
            pqmf = network.pqmf
            real = pqmf.synthesis(pqmf.analysis(padded))
            distances.append(float(spectral_distance(real, made, **options)))
            means.append(np.asarray(latents.z)[:frames])
    assert result.metrics["spectral_distance"] == pytest.approx(np.mean(distances), rel=1e-4)
    pca = LatentPCA.fit(np.concatenate(means))
    assert result.metrics["latents_95"] == pca.size_for(0.95)
    for step in (1, 2):  # from the validation, and computed again
        completed = found.with_components(network, buffers, step=step)
        np.testing.assert_allclose(completed.fidelity, pca.fidelity, rtol=1e-4)
        np.testing.assert_allclose(np.abs(completed.latent_pca), np.abs(pca.components), atol=1e-3)
    assert [sample.name for sample in result.samples] == ["tone0", "tone1"]
    assert [len(sample.audio) for sample in result.samples] == [2512, 704]
    np.testing.assert_allclose(result.samples[1].target[:700], store.waveform(1), atol=1e-6)


def test_few_frames_give_no_components_but_a_warning(capsys):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, bottleneck=BottleneckConfig(latent_size=100)))
    validation = Validation(store_of(1024), config)
    assert "64 frames of 100 latents. Hold out at least 100 frames, 0.2 s" in capsys.readouterr().out
    state = start(CONFIG).networks.model_state
    assert validation.with_components(start(CONFIG).networks.model, state, step=0) is state
    with pytest.raises(DataError, match="All held-out recordings are silent"):
        Validation(store_of(1024, silent=(0,)), CONFIG)


def test_number_of_windows_is_limited():
    validation = Validation(store_of(*[3 * 1024] * 10), CONFIG, windows=5)
    names = [window.name for window in validation._windows]
    assert names == ["tone0", "tone2", "tone4", "tone6", "tone8"]


@pytest.mark.slow
def test_several_channels_train_and_validate(tmp_path):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, n_channels=2, discriminators=DISCRIMINATORS))
    store = store_of(3000, 1500, channels=2)
    loop = LoopConfig(steps=3, best_metric="spectral_distance", tensorboard=False)
    with Loader(store, AudioCrops(2, 1024, 8000)) as loader:
        assert loader.state() and next(loader).audio.shape == (2, 1024, 2)
        task = RaveTask(config, steps_per_epoch=1, validation=Validation(store, config, samples=1))
        result = fit(task, loader, loop, tmp_path / "run", mesh=data_mesh(jax.devices()[:1]))
    assert np.isfinite(result.metrics["spectral_distance"])
    names = {path.name for path in (result.folder / "samples" / "step_00000003").iterdir()}
    assert {"tone0.channel 2.wav", "tone0.channel 2 target.wav"} <= names


@pytest.mark.slow
def test_silent_batches_are_skipped_and_end_the_training(tmp_path):
    """The distance of a silent batch is not a number."""
    silent = AugmentationConfig(mute_probability=1.0)
    loop = LoopConfig(steps=9, max_skipped_in_a_row=3, best_metric="spectral_distance", tensorboard=False)
    with Loader(store_of(3000), AudioCrops(1, 1024, 8000, silent)) as loader:
        task = RaveTask(dataclasses.replace(CONFIG, phase_1_steps=9), steps_per_epoch=1)
        with pytest.raises(TrainingError, match="not finite in 3 consecutive steps"):
            fit(task, loader, loop, tmp_path / "run", mesh=data_mesh(jax.devices()[:1]))
