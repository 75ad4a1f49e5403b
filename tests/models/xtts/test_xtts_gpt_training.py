"""The training of the language model of XTTS: golden losses, references, masks, accumulation, folders and devices."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxvoice.data import Corpus, Loader, Store, Utterance
from jaxvoice.errors import ConfigError, DataError, TextError
from jaxvoice.models.xtts import FAMILY, FRAMES_MEL, GPT
from jaxvoice.models.xtts.gpt import training_targets
from jaxvoice.models.xtts.gpt_columns import training_columns, training_sampler
from jaxvoice.models.xtts.gpt_objective import (
    RELEASED_MASKING,
    MaskingConfig,
    Slices,
    loss_sums,
    losses,
    mask_references,
    reference_slices,
    step_inputs,
    totals,
)
from jaxvoice.models.xtts.gpt_training import GPTTask, GPTTrainingConfig
from jaxvoice.models.xtts.gpt_validation import GPTValidation
from jaxvoice.models.xtts.voices import StoredVoice, read_voices
from jaxvoice.models.xtts_dvae import FAMILY as DVAE_FAMILY, CodecNetwork
from jaxvoice.nn import length_mask
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import data_mesh, on_one_device, place, shard_batch
from jaxvoice.training.training_state import Skeleton
from jaxvoice.weights import named_arrays
from tests.models.xtts.released import GOLDEN_GPT, assert_close, last, load
from tests.models.xtts.small import SMALL, random_xtts
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.random_networks import random_network
from tests.reference import golden

MODEL = replace(SMALL, gpt=replace(SMALL.gpt, layers=1, dropout=0.0))
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, b1=0.9, b2=0.96, weight_decay_on="kernels", schedule="constant")
CONFIG = GPTTrainingConfig(MODEL, OPTIMIZER, text_weight=0.5, reference_seconds=(0.2, 0.3))
STOP = MODEL.gpt.stop_audio


@functools.cache
def codec():
    network = random_network(CodecNetwork, CODEC, 1)
    return eqx.tree_at(lambda n: n.mel_stats, network, jnp.linspace(2.0, 4.0, CODEC.mel.num_mels))


def encode(text, language):
    if "#" in text:
        raise TextError("'#' cannot be read")
    return [6 + (ord(letter) + len(language)) % 20 for letter in text]


def noise_store(samples=(20480, 15000, 18000, 21000), texts=("one two", "three", "four", "five six"), **changes):
    generator = np.random.default_rng(0)
    utterances = tuple(
        replace(Utterance(f"u{i}", text=text, language=("en", "pt")[i % 2]), **changes) for i, text in enumerate(texts)
    )
    audio = [generator.normal(0, 3000, count).astype(np.int16) for count in samples]
    columns = {"audio": audio, "gain": np.full(len(audio), 1 / 32768, np.float32)}
    return Store(Corpus("folder", Path("corpus"), utterances), columns, MODEL.input_rate)


@functools.cache
def store():
    return training_columns(noise_store(), MODEL, encode)


def batch_of(size=4):
    with Loader(store(), training_sampler(store(), MODEL, size, buckets=1)) as loader:
        return next(loader)


def task(config=CONFIG, **options):
    return GPTTask(config, steps_per_epoch=10, codec=codec(), **options)


def assert_same_gradients(left, right):
    """Compare first moments: updates of AdamW have the sign of a gradient, however small it is."""
    moments = [jax.tree.leaves(optax.tree_utils.tree_get(one.optimizer_state, "mu")) for one in (left, right)]
    largest = max(float(jnp.abs(array).max()) for array in moments[0])
    for one, other in zip(*moments, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * largest)


@eqx.filter_jit
def inputs_of(codec, batch, reference_samples, key, config=MODEL.gpt):
    return step_inputs(batch, config, codec, codec.mel_stats, MaskingConfig(), reference_samples, key=key)


def test_masked_losses_equal_the_release():
    case = golden.case("xtts/gpt")
    gpt = load(case, GPT, GOLDEN_GPT, "gpt.")
    text, codes = (case[name].astype(np.int32) for name in ("text", "codes"))
    text_count, samples = (case[name].astype(np.int32) for name in ("text_lengths", "wav_lengths"))
    released = {"stops": RELEASED_MASKING.stops, "hidden_stop": RELEASED_MASKING.hidden_stop}
    targets = training_targets(text, text_count, codes, -(-samples // 1024), GOLDEN_GPT, **released)
    counts = {"text_count": targets.text_count, "code_count": targets.code_count}

    @eqx.filter_jit
    def logits_of(gpt, mel):
        return gpt(gpt.condition(mel), targets.text, targets.codes, **counts, inference=True)

    logits = logits_of(gpt, jnp.asarray(last(case["cond_mels"][:, 0])))
    slices = Slices(*(jnp.asarray(column, jnp.int32) for column in case["cond_idxs"].T))

    def losses_of(**changes):
        masked = mask_references(targets, slices, replace(RELEASED_MASKING, **changes), 1024)
        return loss_sums(logits, masked, totals(masked))

    found = losses_of()
    assert_close(found.text, case, "loss_text_masked")
    assert_close(found.codes, case, "loss_mel_masked")
    assert_close(losses_of(references=False).codes, case, "loss_mel")
    for corrected in ({"only_last": False}, {"reference_stride": None}):
        assert abs(losses_of(**corrected).codes - found.codes) > 1e-3


def test_codes_attend_to_the_stop_of_the_text_as_in_synthesis():
    gpt = random_network(GPT, MODEL.gpt, 0)
    text, count = jnp.arange(8, dtype=jnp.int32).reshape(2, 4), jnp.array([4, 2], jnp.int32)
    codes, vectors = jnp.arange(6, dtype=jnp.int32).reshape(2, 3), jnp.ones((2, 2, MODEL.gpt.channels))

    @eqx.filter_jit
    def first_logits(gpt, hidden_stop):
        given = training_targets(text, count, codes, jnp.full(2, 3), gpt.config, hidden_stop=hidden_stop)
        counts = {"text_count": given.text_count, "code_count": given.code_count}
        found = gpt(vectors, given.text, given.codes, **counts, inference=True).audio[:, 0]
        return found, gpt.start(vectors, given.text, text_count=count + 2, positions=12).logits

    found, expected = first_logits(gpt, False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert jnp.abs(first_logits(gpt, True)[0] - expected).max() > 1e-3


def test_references_of_each_example_are_masked():
    codes = jnp.arange(20).reshape(2, 10)
    targets = training_targets(jnp.ones((2, 3), int), jnp.full(2, 3), codes, jnp.array([10, 8]), MODEL.gpt, stops=1)
    slices = Slices(jnp.array([100, 300]), jnp.array([350, 500]))
    masked = np.asarray(mask_references(targets, slices, MaskingConfig(), 100).code_targets)
    assert masked[0].tolist() == [0, -1, -1, -1, 4, 5, 6, 7, 8, 9, STOP, -1]
    assert masked[1].tolist() == [10, 11, 12, -1, -1, 15, 16, 17, STOP, -1, -1, -1]
    last_only = mask_references(targets, slices, MaskingConfig(only_last=True), 100).code_targets
    assert last_only[0].tolist() == [*range(10), STOP, -1] and last_only[1].tolist() == masked[1].tolist()
    unmasked = mask_references(targets, slices, MaskingConfig(references=False), 100)
    np.testing.assert_array_equal(unmasked.code_targets, targets.code_targets)


def test_references_lie_inside_recordings():
    lengths = jnp.array([1000, 150, 400, 90])
    draws = [
        reference_slices(lengths, shortest=100, longest=300, key=key)
        for key in jax.random.split(jax.random.key(0), 300)
    ]
    starts, ends = (np.stack([np.asarray(draw[part]) for draw in draws]) for part in (0, 1))
    sizes = ends - starts
    assert (starts >= 0).all() and (ends <= np.asarray(lengths)).all()
    assert sizes[:, 0].min() < 110 and sizes[:, 0].max() > 290 and (sizes[:, 0] >= 100).all()
    assert set(sizes[:, 1]) >= {75} and set(sizes[:, 3]) == {45}  # half of recordings that are too short
    assert starts[:, 0].max() > 800
    fixed = reference_slices(lengths, shortest=100, longest=300, key=None)
    assert fixed.starts.tolist() == [0] * 4 and fixed.ends.tolist() == [300, 75, 300, 45]


def test_inputs_of_a_step_are_codes_and_mels_of_each_recording():
    batch, gpt = batch_of(), MODEL.gpt
    inputs = inputs_of(codec(), batch, (4000, 6000), None)
    for row, samples in enumerate(batch.lengths["audio"]):
        audio = jnp.asarray(batch.columns["audio"][row, :samples], jnp.float32) * batch.columns["gain"][row]
        count = CODEC.dvae.code_count(int(samples))
        codes = inputs.targets.codes[row]
        assert codes[0] == gpt.start_audio and codes[1 : count + 1].tolist() == codec().encode(audio).tolist()
        targets = inputs.targets.code_targets[row]
        assert targets[:6].tolist() == [-1] * 6 and (targets[6:count] == codes[7 : count + 1]).all()
        assert targets[count] == STOP and (targets[count + 1 :] == -1).all()
        assert inputs.reference_count[row] == 6000 // 256 + 1
        tokens = batch.columns["tokens"][row, : batch.lengths["tokens"][row]].tolist()
        assert inputs.targets.text[row, : len(tokens) + 2].tolist() == [gpt.start_text, *tokens, gpt.stop_text]


WITHOUT_PERCEIVER = replace(MODEL.gpt.conditioning, latents=0, mel=replace(FRAMES_MEL, num_mels=CODEC.mel.num_mels))


@pytest.mark.parametrize(
    "conditioning", [MODEL.gpt.conditioning, pytest.param(WITHOUT_PERCEIVER, marks=pytest.mark.slow)]
)
def test_padding_of_references_has_no_influence(conditioning):
    config = replace(MODEL.gpt, conditioning=conditioning)
    inputs = inputs_of(codec(), batch_of(), (3000, 6000), jax.random.key(1), config)
    count = inputs.reference_count
    assert len(set(count.tolist())) > 1
    padding = ~length_mask(count, inputs.reference.shape[1])[..., None]
    changed = inputs._replace(reference=jnp.where(padding, 3.0, inputs.reference))
    gpt = random_network(GPT, config, 0)

    def of(inputs, masking):
        return eqx.filter_jit(losses)(gpt, inputs, totals(inputs.targets), masking, inference=True).codes

    np.testing.assert_allclose(of(changed, MaskingConfig()), of(inputs, MaskingConfig()), rtol=1e-5)
    padded = MaskingConfig(padded_references=True)
    assert abs(of(changed, padded) - of(inputs, padded)) > 1e-4


@eqx.filter_jit
def step_of(made, state, batch):
    return made.step(state, batch, key=jax.random.key(0), phase=0)


@pytest.mark.slow
def test_parts_give_the_gradient_of_the_whole_batch():
    one, two = task(), task(replace(CONFIG, accumulate=2))
    state, batch = one.state_of(random_xtts(MODEL)), batch_of()
    (whole, expected), (divided, found) = (step_of(made, state, batch) for made in (one, two))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, err_msg=name)
    assert_same_gradients(divided.gpt, whole.gpt)


@pytest.mark.slow
def test_steps_lower_the_losses_and_a_model_folder_has_all_parts(tmp_path):
    conditioning = MODEL.gpt.conditioning.latents, MODEL.gpt.channels
    voice = StoredVoice(np.ones(conditioning, np.float32), np.ones(MODEL.speaker_encoder.dim, np.float32))
    given = {"vocabulary": b"{}", "voices": {"Ana": voice}, "untrained": ("hifigan_decoder",)}
    made = task(replace(CONFIG, accumulate=2), **given)
    state, batch = made.state_of(random_xtts(MODEL)), batch_of()
    after, first = step_of(made, state, batch)
    for _ in range(5):
        after, metrics = step_of(made, after, batch)
    assert metrics["code_loss"] < first["code_loss"] and metrics["text_loss"] < first["text_loss"]
    before, trained = named_arrays(state.gpt.model), named_arrays(after.gpt.model)
    moved = {name for name, array in before.items() if not np.array_equal(array, trained[name])}
    assert moved == set(before)
    assert eqx.tree_equal(after.rest, state.rest)

    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "old.json").write_bytes(b"old")
    (folder / "vocab.json").hardlink_to(tmp_path / "old.json")
    made.save_model(after, folder)
    assert (tmp_path / "old.json").read_bytes() == b"old"  # files are replaced, not truncated
    network, config = FAMILY.load_network(folder)
    (found,) = read_voices(folder, MODEL).values()
    np.testing.assert_array_equal(found.conditioning, voice.conditioning)
    assert config == MODEL and (folder / "vocab.json").read_bytes() == b"{}"
    np.testing.assert_array_equal(network.gpt.mel_head.weight, after.gpt.model.mel_head.weight)
    stored, _ = DVAE_FAMILY.load_network(folder / "dvae")
    np.testing.assert_array_equal(stored.mel_stats, codec().mel_stats)
    info = json.loads((folder / "config.json").read_text())["info"]
    assert info["step"] == 6 and info["untrained"] == ["hifigan_decoder"]


def test_validation_is_the_loss_without_dropout():
    validation = GPTValidation(store(), MODEL, reference_samples=CONFIG.reference_samples, batch_size=3)
    made = task(validation=validation)
    state = made.state_of(random_xtts(MODEL))
    found = made.validate(state).metrics
    inputs = inputs_of(codec(), batch_of(), CONFIG.reference_samples, None)
    expected = eqx.filter_jit(losses)(state.gpt.model, inputs, totals(inputs.targets), MaskingConfig(), inference=True)
    np.testing.assert_allclose(found["code_loss"], expected.codes, rtol=1e-5)
    np.testing.assert_allclose(found["text_loss"], expected.text, rtol=1e-5)
    np.testing.assert_allclose(found["code_accuracy"], expected.accuracy, atol=1e-6)
    assert made.held_out()["ids"] == ["u0", "u1", "u2", "u3"]


def test_unusable_utterances_are_rejected_with_their_reasons():
    given = noise_store(samples=(20000, 900, 18000, 23000), texts=("one", "two", "# four", "five six"))
    found = training_columns(given, MODEL, encode)
    assert [one.id for one in found.corpus.utterances] == ["u0"]
    assert {one.id: one.kind for one in found.rejected} == {"u1": "too short", "u2": "text", "u3": "too long"}
    long = noise_store(samples=(20000, 20000), texts=("word " * 5, ""))
    with pytest.raises(DataError, match="text too long"):
        training_columns(long, MODEL, encode)
    assert (
        "at most 3"
        in training_columns(noise_store(texts=("one", "four", "two", "six")), MODEL, encode, max_tokens=3)
        .rejected[0]
        .reason
    )
    with pytest.raises(DataError, match="'fr'; the model has 'en', 'pt'"):
        training_columns(noise_store(language="fr"), MODEL, encode)
    for ids, invalid in (([99], 99), ([1, -2, 3], -2)):
        with pytest.raises(ConfigError, match=rf"'u0' is {invalid}; it should be from 0 to 29, below gpt\.text_ids"):
            training_columns(noise_store(), MODEL, lambda text, language, ids=ids: ids)


def test_dvae_of_another_size_raises():
    other = replace(MODEL, dvae=replace(MODEL.dvae, hidden=16))
    with pytest.raises(ConfigError, match=r"it should be model\.dvae"):
        task(replace(CONFIG, model=other))
    with pytest.raises(ConfigError, match="reference_seconds"):
        GPTTrainingConfig(MODEL, reference_seconds=(2.0, 1.0))


WIDE = replace(MODEL.gpt, channels=64, conditioning=replace(MODEL.gpt.conditioning, norm_groups=8))


@pytest.mark.slow
def test_split_parameters_give_the_losses_of_copied_ones():
    wide = replace(MODEL, gpt=WIDE, decoder=replace(MODEL.decoder, in_channels=64))
    made, mesh = task(replace(CONFIG, model=wide, ema_decay=0.9)), data_mesh()
    state = made.state_of(random_xtts(wide))
    skeleton, batch = Skeleton(state), jax.tree.map(lambda array: np.concatenate([array, array]), batch_of())

    def steps(shard):
        leaves = place(skeleton.flatten(state), mesh, shard=shard)
        program = CompiledStep(made, skeleton, mesh, shard_parameters=shard)
        codes = shard_batch(np.zeros(mesh.size, np.int32), mesh)
        for _ in range(3):
            leaves, metrics, _ = program(leaves, shard_batch(batch, mesh), codes)
        return leaves, {name: float(value) for name, value in metrics.items()}

    (copied, expected), (split, found) = steps(False), steps(True)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert_same_gradients(*(skeleton.build(on_one_device(leaves)).gpt for leaves in (split, copied)))
    large = [leaf for name, leaf in zip(skeleton.names, split, strict=True) if leaf.size >= 1024 and "gpt." in name]
    assert sum("optimizer_state" in name or "average" in name for name in skeleton.names) > 100
    for leaf in large:
        assert {shard.data.size for shard in leaf.addressable_shards} == {leaf.size // 8}


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(tmp_path):
    dropping = replace(CONFIG, model=replace(MODEL, gpt=replace(MODEL.gpt, dropout=0.2)))
    mesh = data_mesh(jax.devices()[:1])

    def run(name, *ends):
        for steps in ends:
            loop = LoopConfig(steps=steps, log_every=1, checkpoint_every=2, best_metric="code_loss", tensorboard=False)
            validation = GPTValidation(store(), MODEL, reference_samples=CONFIG.reference_samples)
            with Loader(store(), training_sampler(store(), MODEL, 4, buckets=1)) as loader:
                fit(task(dropping, validation=validation), loader, loop, tmp_path / name, mesh=mesh)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}

    assert run("whole", 4) == run("parts", 2, 4)
    assert FAMILY.load_network(tmp_path / "parts" / "model")[1] == dropping.model
