"""The training task of the decoder of XTTS: losses, frozen parts, validation, model folders, resuming."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import Corpus, Loader, Store, Utterance
from jaxvoice.dsp import MelConfig, log_mel
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.models.hifigan import DiscriminatorConfig
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE
from jaxvoice.models.xtts.decoder_columns import training_sampler, training_store
from jaxvoice.models.xtts.decoder_folder import write_decoder
from jaxvoice.models.xtts.decoder_training import DecoderTask, DecoderTrainingConfig
from jaxvoice.models.xtts.decoder_validation import METRICS, DecoderValidation
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.voices import StoredVoice, read_voices, write_voices
from jaxvoice.models.xtts_dvae import CodecNetwork
from jaxvoice.models.xtts_dvae.family import FAMILY as DVAE_FAMILY
from jaxvoice.training.loop import LoopConfig, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.small import random_encoder
from tests.models.xtts.small import SMALL, random_xtts
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.random_networks import random_network

# Two stages, because a program of the whole step takes long to compile.
MODEL = replace(
    SMALL,
    decoder=replace(
        SMALL.decoder,
        upsample_rates=(16, 16),
        upsample_kernel_sizes=(32, 32),
        upsample_initial_channel=16,
        resblock_dilation_sizes=((1,),),
    ),
)
OPTIMIZER = OptimizerConfig(learning_rate=2e-3, weight_decay=0.1)
CONFIG = DecoderTrainingConfig(
    MODEL.decoder,
    DiscriminatorConfig(periods=(2,), scales=1, width=0.02),
    MelConfig(sample_rate=24000, num_mels=20, fmax=None),
    segment_frames=8,
    generator_optimizer=OPTIMIZER,
    discriminator_optimizer=OPTIMIZER,
    loss_weights=LossWeights(adversarial=1 / 2),
    ema_decay=0.5,
)
WITHOUT_ADVERSARIES = replace(CONFIG, reconstruction_steps=1000, ema_decay=None)
CODES = (12, 10, 14, 9)


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


@functools.cache
def encoder():
    return random_encoder(MODEL.speaker_encoder, seed=1)


def tones_store():
    """Tones in noise whose vectors contain them, so that a decoder can learn them."""
    generator = np.random.default_rng(0)
    audio, latents, speakers = [], [], []
    for codes in CODES:
        samples = int(codes * 1024 * 24000 / 22050)
        tone = 0.4 * np.sin(np.arange(samples) * generator.uniform(0.05, 0.3))
        tone += 0.02 * generator.standard_normal(samples)
        audio.append(np.rint(32767 * np.clip(tone, -1, 1)).astype(np.int16))
        latents.append(generator.standard_normal((16, codes)).astype(np.float32))
        vector = generator.standard_normal(12).astype(np.float32)
        speakers.append(vector / np.linalg.norm(vector))
    utterances = tuple(Utterance(f"{i}", Path(f"{i}.wav"), speaker="a") for i in range(len(CODES)))
    gain = np.full(len(CODES), 1 / 32768, np.float32)
    store = Store(Corpus("folder", Path("tones"), utterances), {"audio": audio, "gain": gain}, 24000)
    scales = eqx.filter_eval_shape(random_xtts, MODEL).hifigan_decoder.scales
    return training_store(store, latents, np.stack(speakers), scales, MODEL.decoder.hop_length)


def loader():
    return Loader(tones_store(), training_sampler(8, CONFIG.segment_frames, 256), seed=0)


def task(config=CONFIG, model=MODEL, **options):
    return DecoderTask(config, model, options.pop("encoder", encoder()), steps_per_epoch=10, **options)


def bytes_of(tree):
    return {name: np.asarray(array).tobytes() for name, array in named_arrays(tree).items()}


@functools.cache
def program(config, phase):
    one = task(config)
    return one, eqx.filter_jit(
        lambda state, batch, constants: one.step(state, batch, key=jax.random.key(0), phase=phase, constants=constants)
    )


def trained(config, phase, steps):
    """The states before and after, and the metrics of all steps on one batch."""
    one, step = program(config, phase)
    with loader() as batches:
        batch = next(batches)
    before = state = one.init(key=jax.random.key(0))
    found = []
    for _ in range(steps):
        state, metrics = step(state, batch, one.constants)
        found.append({name: float(value) for name, value in metrics.items()})
    return before, state, found


@pytest.mark.slow
def test_steps_lower_the_losses_and_change_no_speaker_encoder():
    frozen = bytes_of(encoder())
    before, after, metrics = trained(WITHOUT_ADVERSARIES, 0, 30)
    assert metrics[-1]["mel_l1"] < 0.9 * metrics[0]["mel_l1"]
    assert metrics[-1]["speaker_similarity"] > metrics[0]["speaker_similarity"]
    assert all(one["speaker_gradient"] > 0 and one["compared_segments"] == 8 for one in metrics)
    assert bytes_of(encoder()) == frozen
    changed = [name for name, value in bytes_of(after.generator.model).items()
               if value != bytes_of(before.generator.model)[name]]  # fmt: skip
    assert changed == list(named_arrays(after.generator.model))  # the conditioning layers too
    assert bytes_of(after.discriminators.model) == bytes_of(before.discriminators.model)
    assert not task().warnings(metrics[-1])
    assert len(task().warnings({**metrics[-1], "speaker_gradient": 0.0})) == 1


@pytest.mark.slow
def test_steps_with_discriminators_train_both():
    before, after, metrics = trained(CONFIG, 0, 20)
    assert metrics[-1]["mel_l1"] < metrics[0]["mel_l1"] and metrics[-1]["disc_period"] < metrics[0]["disc_period"]
    assert {"adv_period", "adv_scale", "feature_period", "feature_scale"} <= set(metrics[0])
    assert bytes_of(after.discriminators.model) != bytes_of(before.discriminators.model)
    # The moving average of the weights, which is validated and saved, is not the last weights.
    assert bytes_of(after.generator.eval_model) != bytes_of(after.generator.model)


@pytest.mark.slow
def test_the_loss_is_the_weighted_sum_of_its_parts():
    one, step = program(CONFIG, 0)
    with loader() as batches:
        batch = next(batches)
    state = one.init(key=jax.random.key(0))
    metrics = {name: float(value) for name, value in step(state, batch, one.constants)[1].items()}
    adversarial = sum(metrics[f"{kind}_{of}"] for kind in ("adv", "feature") for of in ("period", "scale"))
    expected = adversarial + 45 * metrics["mel_l1"] - 9 * metrics["speaker_similarity"]
    assert metrics["generator"] == pytest.approx(expected, rel=1e-5)
    fake = state.generator.model(batch.columns["features"].swapaxes(1, 2), batch.columns["speaker"])[..., 0]
    real = batch.columns["audio"] * batch.columns["gain"][:, None]
    mels = [jax.vmap(lambda x: log_mel(x, CONFIG.mel))(jnp.asarray(x, jnp.float32)) for x in (fake, real)]
    assert metrics["mel_l1"] == pytest.approx(float(jnp.mean(jnp.abs(mels[0] - mels[1]))), rel=1e-4)


def test_phases_begin_after_their_steps():
    config = replace(CONFIG, reconstruction_steps=3, speaker_steps=5)
    assert [task(config).phase_of(step) for step in (0, 2, 3, 4, 5, 9)] == [0, 0, 1, 1, 2, 2]
    assert "speaker_similarity" in task().columns and task().constants is not None
    silent = task(replace(CONFIG, speaker_weight=0.0))
    assert "speaker_similarity" not in silent.columns and silent.constants is None


@pytest.mark.slow
def test_validation_equals_whole_utterances():
    store = tones_store().subset([1, 2])
    validation = DecoderValidation(store, CONFIG.mel, 256, encoder(), samples=1)
    generator = random_network(Generator, MODEL.decoder, 2)
    found = validation(generator)
    assert list(found.metrics) == list(METRICS) and len(found.samples) == 1
    decode = eqx.filter_jit(lambda generator, *args: generator(*args)[..., 0])
    errors = []
    for row in range(2):
        frames = min(store["features"][row].shape[1], store.lengths("audio")[row] // 256)
        audio = decode(generator, store["features"][row][..., :frames].T, store["speaker"][row])
        recording = store.waveform(row)[: 256 * frames]
        mels = [np.asarray(log_mel(jnp.asarray(x), CONFIG.mel)) for x in (audio, recording)]
        errors.append(np.abs(mels[0] - mels[1]).mean())
        if row == 0:
            np.testing.assert_array_equal(found.samples[0].target, recording)
    assert found.metrics["mel_l1"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert 0 < found.metrics["speaker_distance"] < 2
    assert validation.held_out["ids"] == ["1", "2"]
    with pytest.raises(DataError, match="no utterances"):
        DecoderValidation(store.subset([]), CONFIG.mel, 256, encoder())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model folder with vocabulary, a voice and a DVAE."""
    folder = tmp_path_factory.mktemp("source")
    FAMILY.save_network(folder, random_xtts(), SMALL, info={"licence": "CPML"})
    (folder / VOCABULARY_FILE).write_text(json.dumps({"model": {"vocab": {"[STOP]": 0, "a": 1}}}))
    ones = np.ones((3, 16), np.float32), np.ones(12, np.float32)
    write_voices(folder, {"ana": StoredVoice(*ones)})
    DVAE_FAMILY.save_network(folder / DVAE_FOLDER, random_network(CodecNetwork, CODEC), CODEC)
    return folder


@pytest.mark.parametrize("new_encoder", [False, True])
def test_models_contain_the_decoder_and_all_other_parts_of_the_source(source, tmp_path, new_encoder):
    own = random_xtts().hifigan_decoder.speaker_encoder
    used = encoder() if new_encoder else own
    generator = random_network(Generator, MODEL.decoder, 2)
    info = {"licence": "CPML"}
    write_decoder(tmp_path / "model", source, MODEL, generator, used if new_encoder else None, info=info)
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config == MODEL
    expected = bytes_of(random_xtts())
    for name, value in bytes_of(network).items():
        if name.startswith("hifigan_decoder.waveform_decoder."):
            assert value == bytes_of(generator)[name.removeprefix("hifigan_decoder.waveform_decoder.")]
        elif name.startswith("hifigan_decoder.speaker_encoder."):
            assert value == bytes_of(used)[name.removeprefix("hifigan_decoder.speaker_encoder.")]
        else:
            assert value == expected[name]
    assert (tmp_path / "model" / VOCABULARY_FILE).read_bytes() == (source / VOCABULARY_FILE).read_bytes()
    assert DVAE_FAMILY.load_network(tmp_path / "model" / DVAE_FOLDER)[1] == CODEC
    # Another speaker encoder computes other vectors of voices.
    assert list(read_voices(tmp_path / "model", config)) == ([] if new_encoder else ["ana"])
    assert json.loads((tmp_path / "model" / "config.json").read_text())["info"] == info


def test_wrong_settings_are_errors(source, tmp_path):
    with pytest.raises(ConfigError, match="differs from model"):
        task(model=SMALL)
    with pytest.raises(ConfigError, match=r"mel.sample_rate is 22050; it should be 24000"):
        task(replace(CONFIG, mel=MelConfig()))
    with pytest.raises(ConfigError, match="Raise segment_frames"):
        replace(CONFIG, segment_frames=3)
    with pytest.raises(ConfigError, match="speaker_weight is -1"):
        replace(CONFIG, speaker_weight=-1.0)
    state = eqx.filter_eval_shape(task().init, key=jax.random.key(0))
    with pytest.raises(ConfigError, match="no source"):
        task().save_model(state, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_resumed_run_equals_an_uninterrupted_one(source, tmp_path):
    validation = DecoderValidation(tones_store().subset([3]), CONFIG.mel, 256, encoder())
    options = {"source": source, "new_encoder": True, "validation": validation, "inherited_info": {"licence": "CPML"}}
    loop = LoopConfig(steps=5, validate_every=5, checkpoint_every=2, log_every=1, tensorboard=False)
    with loader() as batches:
        fit(task(CONFIG, **options), batches, loop, tmp_path / "whole")
    for steps in (2, 5):
        with loader() as batches:
            result = fit(task(CONFIG, **options), batches, replace(loop, steps=steps), tmp_path / "parts")
    assert result.step == 5 and set(result.metrics) == set(METRICS)
    models = [FAMILY.load_network(tmp_path / run / "model")[0] for run in ("whole", "parts")]
    assert bytes_of(models[0]) == bytes_of(models[1])
    # The mean weights, and all other parts of the source.
    info = json.loads((tmp_path / "parts" / "model" / "config.json").read_text())["info"]
    assert info == {"licence": "CPML", "step": 5}
    expected = bytes_of(random_xtts().gpt)
    assert bytes_of(models[1].gpt) == expected and bytes_of(models[1].hifigan_decoder.speaker_encoder) == bytes_of(
        encoder()
    )
    # Vectors of another language model are not accepted.
    other = replace(CONFIG, latents_identity="other")
    with loader() as batches, pytest.raises(CheckpointError, match="latents_identity"):
        fit(task(other, **options), batches, replace(loop, steps=6), tmp_path / "parts")
