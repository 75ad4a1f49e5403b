"""The training task of VITS: what the gradients reach, frozen encoders, phases, validation, model folders, resuming."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import ColumnBatch, Corpus, Loader, Store, Utterance
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models import speaker_encoder as speaker_encoders
from jaxvoice.models.speaker_encoder import ResNetConfig, SpeakerEncoderConfig, build
from jaxvoice.models.vits import VITS, VITSDiscriminators, preset
from jaxvoice.models.vits.columns import training_columns, training_sampler
from jaxvoice.models.vits.config import DurationConfig
from jaxvoice.models.vits.family import FAMILY
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.objective import (
    draw_noise,
    generate,
    generator_losses,
    recorded_segments,
    step_inputs,
)
from jaxvoice.models.vits.training import TrainingConfig, VITSTask
from jaxvoice.models.vits.validation import METRICS, Validation
from jaxvoice.models.vits.warm_start import load_discriminators
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.training.compiled_step import CompiledStep, compiler_options
from jaxvoice.training.learner import Learner
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh, on_one_device, replicate, shard_batch
from jaxvoice.training.training_state import Skeleton, array_names
from jaxvoice.weights import count_parameters, named_arrays
from tests.models.speaker_encoder.small import random_encoder
from tests.models.vits.frozen_encoder import PLACES, Blocked, digest
from tests.models.vits.small import SHALLOW, SMALL
from tests.random_networks import random_network

MODEL = SHALLOW
# The gradient of splines doubles the time to compile the step.
WITHOUT_SPLINES = replace(MODEL, durations=DurationConfig("deterministic", channels=6))
HOP, RATE = MODEL.mel.hop_length, MODEL.mel.sample_rate
ENCODER = SpeakerEncoderConfig(
    ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 8, 8, 8), attention=4, dim=MODEL.speaker_channels),
    PowerMelConfig(num_mels=16),
)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, weight_decay=0.1)
CONFIG = TrainingConfig(MODEL, OPTIMIZER, OPTIMIZER, LossWeights(speaker=9.0), ema_decay=0.5)
MODULES = ("emb_l", "text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder")
TEXTS = ("one", "two", "four", "nine")


@functools.cache
def encoder():
    return random_encoder(ENCODER, seed=1)


def noise_store(frames=(24, 20, 30, 22)):
    """Noise with texts, speakers, languages and vectors."""
    generator = np.random.default_rng(0)
    utterances = tuple(
        Utterance(f"u{i}", text=text, speaker="ab"[i % 2], language=("en", "pt")[i // 2])
        for i, text in enumerate(TEXTS[: len(frames)])
    )
    audio = [(3000 * generator.standard_normal(count * HOP)).astype(np.int16) for count in frames]
    columns = {"audio": audio, "gain": np.full(len(audio), 1 / 32768, np.float32)}
    vectors = generator.normal(size=(len(frames), MODEL.speaker_channels)).astype(np.float32)
    return training_columns(Store(Corpus("folder", Path("corpus"), utterances), columns, RATE), MODEL, vectors=vectors)


def batch_of(store, rows=(0, 1)):
    sampler = training_sampler(store.subset(rows), MODEL, len(rows), buckets=1)
    with Loader(store.subset(rows), sampler, workers=0) as loader:
        return next(loader)


def task_of(config=CONFIG, **options):
    return VITSTask(config, steps_per_epoch=10, speaker_encoder=encoder(), **options)


@functools.cache
def networks(model=MODEL):
    return random_network(VITS, model), random_network(VITSDiscriminators, model.discriminators)


def random_state(task):
    return task.state_of(*networks(task.config.model))


@functools.cache
def trained(steps=3):
    """The states before and after `steps` steps, the metrics, and the digest of the encoder before."""
    task = task_of(replace(CONFIG, model=WITHOUT_SPLINES))
    before = digest(encoder())
    state = random_state(task)
    skeleton, mesh = Skeleton(state), data_mesh(jax.devices()[:1])
    program = CompiledStep(task, skeleton, mesh)
    leaves, codes = replicate(skeleton.flatten(state), mesh), shard_batch(np.zeros(1, np.int32), mesh)
    batch, metrics = shard_batch(batch_of(noise_store()), mesh), []
    for _ in range(steps):
        leaves, found, _ = program(leaves, batch, codes)
        metrics.append({name: float(value) for name, value in found.items()})
    return task, state, skeleton.build(on_one_device(leaves)), metrics, before


@pytest.mark.slow
def test_a_step_changes_all_networks_and_lowers_the_losses():
    _, before, after, metrics, _ = trained()
    assert int(after.counters.step) == 3 and int(after.counters.skipped) == 0
    for learner in ("generator", "discriminators"):
        old, new = (named_arrays(getattr(state, learner).model) for state in (before, after))
        same = [name for name in old if np.array_equal(old[name], new[name])]
        # Symbols and relative positions that the texts do not have.
        assert not [name for name in same if "emb" not in name], same
    assert metrics[-1]["mel_l1"] < metrics[0]["mel_l1"]
    assert set(metrics[0]) >= {"generator", "discriminator", "kl", "durations", "adversarial", "feature"}
    moved = named_arrays(after.generator.average)["flow.flows.0.pre.bias"]
    assert not np.array_equal(moved, named_arrays(after.generator.model)["flow.flows.0.pre.bias"])


def like_the_encoder(tree):
    """The names of arrays in `tree` that have the names or the shapes of arrays of the encoder alone."""
    convolutions = {array.shape for name, array in named_arrays(encoder()).items() if name.endswith("conv1.weight")}
    arrays = eqx.filter(tree, eqx.is_array)
    pairs = zip(array_names(arrays), jax.tree.leaves(arrays), strict=True)
    return [name for name, leaf in pairs if leaf.shape in convolutions or "torch_spec" in name or "se.fc" in name]


@pytest.mark.slow
def test_the_speaker_encoder_does_not_change_and_is_not_in_the_state():
    task, state, _, metrics, before = trained()
    assert digest(task.constants) == before
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(eqx.filter(task.constants, eqx.is_array)))
    assert not like_the_encoder(state)
    assert all(one["speaker_gradient"] > 0 and one["mel_gradient"] > 0 for one in metrics)
    assert not task.warnings(metrics[0])


def test_a_learner_with_the_encoder_would_change_it():
    # Control: weight decay changes an encoder that is part of the trained tree, although its gradients are zero.
    learner = Learner.create(encoder(), OPTIMIZER, steps_per_epoch=10)
    assert {name.split(".")[0] for name in like_the_encoder(learner)} == {"model", "optimizer_state"}
    update = eqx.filter_jit(lambda one: one.update(jax.tree.map(jnp.zeros_like, one.params)))
    assert digest(update(learner).model) != digest(encoder())
    frozen = Learner.create(encoder(), OPTIMIZER, steps_per_epoch=10, frozen=("conv1",))
    assert len(jax.tree.leaves(frozen.params)) < len(jax.tree.leaves(learner.params))


@pytest.mark.slow
def test_every_loss_reaches_its_networks_only():
    state, model, options = random_state(task_of()), MODEL, compiler_options()
    inputs = step_inputs(batch_of(noise_store()), model)
    noise = draw_noise(inputs, model, key=jax.random.key(2))
    recorded = recorded_segments(inputs, noise.starts, model)
    params, static = eqx.partition(state.generator.model, eqx.is_inexact_array)

    @functools.partial(jax.jit, compiler_options=options)
    def forward(params):
        run = lambda params: generate(eqx.combine(params, static), inputs, noise, key=jax.random.key(3))  # noqa: E731
        return jax.vjp(run, params)

    @functools.partial(jax.jit, compiler_options=options)
    def pulled(pull, cotangent):
        (gradient,) = pull(cotangent)
        return jnp.stack([_size(getattr(gradient, module)) for module in MODULES]), gradient.waveform_decoder

    def found(generated, speaker_encoder, weights=CONFIG.loss_weights):
        discriminators = state.discriminators.model
        return generator_losses(discriminators, recorded, generated, weights, model, speaker_encoder=speaker_encoder)[0]

    def total(generated, speaker_encoder, weights):
        return sum(found(generated, speaker_encoder, weights).values())

    generated, pull = forward(params)
    of_loss = eqx.filter_jit(lambda one, name, encoder: jax.grad(lambda one: found(one, encoder)[name])(one))
    of_total = eqx.filter_jit(lambda one, encoder, weights: jax.grad(total)(one, encoder, weights))

    def reached(name, speaker_encoder):
        sizes = np.asarray(pulled(pull, of_loss(generated, name, speaker_encoder))[0])
        return {module for module, size in zip(MODULES, sizes, strict=True) if size}

    of_segment = {"posterior_encoder", "waveform_decoder"}
    expected = {
        **dict.fromkeys(("adversarial", "feature", "mel", "speaker"), of_segment),
        "kl": {"emb_l", "text_encoder", "posterior_encoder", "flow"},
        "durations": {"duration_predictor"},
    }
    names = jax.eval_shape(lambda one: found(one, encoder()), generated)
    assert {name: reached(name, encoder()) for name in names} == expected
    # Control: where the gradient stops on the way to the embedding, the speaker consistency loss trains nothing.
    for place in PLACES:
        assert reached("speaker", Blocked(encoder(), place)) == set(), place
    # The gradients with and without the loss differ by that of the loss.
    silent = replace(CONFIG.loss_weights, speaker=0.0)
    decoders = [
        pulled(pull, cotangent)[1]
        for cotangent in (
            of_total(generated, encoder(), CONFIG.loss_weights),
            of_total(generated, encoder(), silent),
            of_loss(generated, "speaker", encoder()),
        )
    ]
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(decoders[0]))
    for both, without, speaker in zip(*map(jax.tree.leaves, decoders), strict=True):
        np.testing.assert_allclose(both - without, speaker, atol=1e-5 * largest)


def _size(tree):
    return sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree))


def test_losses_are_added_in_phases():
    config = replace(CONFIG, reconstruction_steps=4, speaker_steps=10)
    assert config.phase_starts == (0, 4, 10)
    assert [task_of(config).phase_of(step) for step in (0, 3, 4, 9, 10, 99)] == [0, 0, 1, 1, 2, 2]
    silent = replace(config, loss_weights=LossWeights())
    assert silent.phase_starts == (0, 4) and replace(CONFIG, reconstruction_steps=0).phase_starts == (0,)


@pytest.mark.slow
def test_early_phases_train_without_discriminators_and_without_the_encoder():
    config = replace(CONFIG, reconstruction_steps=1, speaker_steps=2)
    task = task_of(config)
    state, batch = random_state(task), jax.tree.map(jnp.asarray, batch_of(noise_store()))
    step = eqx.filter_jit(lambda state, phase: task.step(state, batch, key=jax.random.key(0), phase=phase))
    metrics = []
    for number in range(3):
        before = state
        state, found = step(state, task.phase_of(number))
        metrics.append(found)
        same = eqx.tree_equal(before.discriminators.model, state.discriminators.model)
        assert bool(same) == (number == 0)
    assert ["adversarial" in one for one in metrics] == [False, True, True]
    assert ["speaker_gradient" in one for one in metrics] == [False, False, True]


def test_warnings_name_losses_without_a_gradient():
    task = task_of()
    assert not task.warnings({"speaker_gradient": 0.1, "mel_gradient": 2.0, "kl": 0.0})
    assert "speaker consistency loss" in task.warnings({"speaker_gradient": 0.0, "mel_gradient": 1.0})[0]
    assert len(task.warnings({"speaker_gradient": float("nan"), "mel_gradient": 0.0})) == 2
    # Silent recordings are not compared, so that the gradient is zero.
    assert not task.warnings({"speaker_gradient": 0.0, "mel_gradient": 1.0, "compared_segments": 0.0})
    assert len(task.warnings({"speaker_gradient": 0.0, "mel_gradient": 1.0, "compared_segments": 1.0})) == 1
    assert len(task.warnings({"speaker_gradient": float("nan"), "mel_gradient": 1.0, "compared_segments": 0.0})) == 1


@pytest.mark.parametrize("speakers", [{"a": 0}, {"a": 0, "b": 0}, {"a": 0, "b": 2}])
def test_speakers_that_do_not_match_the_table_raise_errors(speakers):
    with pytest.raises(ConfigError, match="it should give each of the ids from 0 to 1 to one name"):
        VITSTask(TrainingConfig(replace(SMALL, num_speakers=2)), steps_per_epoch=1, speakers=speakers)


def test_the_full_model_trains_the_networks_of_the_release_alone():
    config, key = preset("yourtts"), jax.random.key(0)
    hasp = eqx.filter_eval_shape(build, speaker_encoders.preset("hasp"), key=key)
    weights = LossWeights(speaker=9.0)
    task = VITSTask(TrainingConfig(config, loss_weights=weights), steps_per_epoch=1, speaker_encoder=hasp)
    generator = eqx.filter_eval_shape(task.init, key=key).generator
    trained = 40_068_928 + 4 * len(config.languages)
    moments = sum(leaf.size for leaf in jax.tree.leaves(generator.optimizer_state) if leaf.ndim)
    assert count_parameters(generator.model) == trained and moments == 2 * trained
    # Control: with the encoder in the trained tree, there are moments of its 8 million parameters.
    both = eqx.filter_eval_shape(
        lambda pair: Learner.create(pair, OPTIMIZER, steps_per_epoch=1), (generator.model, hasp)
    )
    moments = sum(leaf.size for leaf in jax.tree.leaves(both.optimizer_state) if leaf.ndim)
    assert moments > 2 * (trained + 8_028_492)
    discriminators = eqx.filter_eval_shape(VITSDiscriminators, config.discriminators, key=jax.random.key(0))
    assert count_parameters(discriminators) == 46_747_132


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VITSTask(CONFIG, steps_per_epoch=1), "there is no speaker encoder"),
        (lambda: replace(CONFIG, speaker_steps=-1), "speaker_steps is -1"),
        (lambda: replace(CONFIG, ema_decay=1.5), r"ema_decay is 1\.5"),
        (lambda: task_of(replace(CONFIG, model=replace(MODEL, segment_frames=1))), "186 samples.*at least 257"),
    ],
)
def test_impossible_settings_raise_errors(make, text):
    with pytest.raises(ConfigError, match=text):
        make()


def test_columns_are_those_that_a_step_logs():
    without = VITSTask(replace(CONFIG, loss_weights=replace(CONFIG.loss_weights, speaker=0.0)), steps_per_epoch=1)
    assert set(task_of().columns) - set(without.columns) == {
        "speaker_similarity",
        "compared_segments",
        "speaker_gradient, mel_gradient",
    }


def test_model_folders_keep_the_licence_of_the_speaker_encoder(tmp_path, capsys):
    speaker_encoders.FAMILY.save_network(tmp_path / "given", encoder(), encoder().config, info={"licence": "CC BY 4.0"})
    info = SpeakerEncoder.load(tmp_path / "given").info
    assert info == {"licence": "CC BY 4.0"}
    task = task_of(speaker_encoder_info=info)
    task.save_model(random_state(task), tmp_path / "model")
    capsys.readouterr()
    SpeakerEncoder.load(tmp_path / "model" / "speaker_encoder")
    printed = capsys.readouterr().err
    assert printed == f"Licence of the weights in {tmp_path / 'model' / 'speaker_encoder'}: CC BY 4.0\n"


@pytest.mark.slow
def test_validation_and_model_folders(tmp_path):
    store = noise_store()
    validation = Validation(store, MODEL, samples=2, batch_size=3)
    vectors = {"b": np.arange(10, dtype=np.float32), "a": np.ones(10, np.float32)}
    task = task_of(validation=validation, speakers=vectors)
    state = random_state(task)
    result = task.validate(state)
    assert set(result.metrics) == set(METRICS) and all(np.isfinite(value) for value in result.metrics.values())
    assert [sample.name for sample in result.samples] == ["u0", "u1"]
    assert all(len(sample.audio) % HOP == 0 and len(sample.audio) for sample in result.samples)
    again = Validation(store.subset([3, 1, 0, 2]), MODEL, samples=0, batch_size=4)(state.generator.eval_model)
    assert again.metrics == pytest.approx(result.metrics, rel=1e-4)
    task.save_model(state, tmp_path)
    network, config = FAMILY.load_network(tmp_path)
    assert config == MODEL and bool(eqx.tree_equal(network, state.generator.average))
    assert bool(eqx.tree_equal(load_discriminators(tmp_path, MODEL), state.discriminators.model))
    saved, _ = speaker_encoders.FAMILY.load_network(tmp_path / "speaker_encoder")
    assert bool(eqx.tree_equal(saved, encoder()))
    table = json.loads((tmp_path / "speakers.json").read_text(encoding="utf-8"))
    assert table["b"] == {"name": "b", "embedding": list(range(10))} and list(table) == ["b", "a"]


@pytest.mark.slow
def test_a_resumed_run_continues_exactly(tmp_path):
    store, mesh = noise_store(), data_mesh(jax.devices()[:1])

    def go(run, steps):
        sampler = training_sampler(store, MODEL, 2, buckets=1, balance=("language", "speaker"))
        loop = LoopConfig(steps=steps, log_every=1, checkpoint_every=2, validate_every=0, tensorboard=False)
        with Loader(store, sampler, workers=0) as loader:
            fit(task_of(), loader, loop, run, mesh=mesh)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["generator"] for line in lines if line["kind"] == "train"}

    whole = go(tmp_path / "whole", 3)
    # As if the run had been stopped after the checkpoint of step 2.
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "3")
    assert go(tmp_path / "parts", 3) == whole and len(set(whole.values())) == 3


@pytest.mark.slow
def test_a_step_in_bfloat16_is_close_to_one_in_float32():
    batch = jax.tree.map(jnp.asarray, batch_of(noise_store()))
    found = {}
    for precision in ("float32", "bfloat16"):
        # Splines with random weights amplify the rounding of bfloat16.
        task = task_of(replace(CONFIG, model=WITHOUT_SPLINES, precision=precision))
        state = random_state(task)
        new, metrics = eqx.filter_jit(task.step)(state, batch, key=jax.random.key(0), phase=0)
        assert int(new.counters.skipped) == 0
        found[precision] = metrics
    # The squared difference of the durations amplifies rounding more than the means of absolute values.
    for name, tolerance in {"mel_l1": 0.05, "kl": 0.05, "durations": 0.25}.items():
        np.testing.assert_allclose(found["bfloat16"][name], found["float32"][name], rtol=tolerance)


def test_batches_without_a_column_that_the_model_needs_raise_an_error():
    batch = batch_of(noise_store())
    columns = {name: column for name, column in batch.columns.items() if name != "language"}

    def run():
        inputs = step_inputs(ColumnBatch(columns, batch.lengths), MODEL)
        return generate(networks()[0], inputs, draw_noise(inputs, MODEL, key=jax.random.key(0)), inference=True)

    with pytest.raises(ShapeError, match="language is None"):
        jax.eval_shape(run)
