"""Training of HiFi-VC on harmonic tones of two speakers: columns, batches, steps, validation and model folders."""

import functools
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import jaxvoice
from jaxvoice.data import Corpus, Loader, Store, Utterance
from jaxvoice.dsp import PitchConfig, log_mel
from jaxvoice.dsp.nemo_mel import nemo_log_mel
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models.conformer import ConformerEncoder, fold_batch_norm
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifivc import FAMILY, HiFiVC, features
from jaxvoice.models.hifivc.features import (
    content_features,
    content_frames,
    pack_pitch,
    training_columns,
    unpack_pitch,
    unpack_speech,
)
from jaxvoice.models.hifivc.speaker_encoder import kl_divergence
from jaxvoice.models.hifivc.training import HiFiVCTask, LossWeights, TrainingConfig, training_sampler
from jaxvoice.models.hifivc.validation import Validation
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.weights import named_arrays
from tests.models.hifivc.small import SMALL

RATE = 24_000
MODEL = replace(
    SMALL,
    pitch=PitchConfig(tracker="autocorrelation"),
    discriminators=DiscriminatorConfig(periods=(2,), scales=1, width=1 / 16),
)
OPTIMIZER = OptimizerConfig(learning_rate=5e-3, schedule="constant")
CONFIG = TrainingConfig(
    MODEL,
    OPTIMIZER,
    OPTIMIZER,
    LossWeights(kl_warmup_steps=4),
    segment_frames=4,
    reference_frames=24,
    reconstruction_steps=10,
)


@functools.cache
def encoder():
    one = ConformerEncoder(MODEL.content, key=jax.random.key(3))
    return fold_batch_norm(one, one.init_state())


def recordings(count, seed=0):
    """Recordings of 0.5 to 0.8 s of two speakers with an F0 of about 110 and 210 Hz."""
    random, audio, utterances = np.random.default_rng(seed), [], []
    for number in range(count):
        f0 = (110, 210)[number % 2] * 2 ** (0.1 * np.sin(np.arange(random.integers(12_000, 19_200)) / 3000))
        phase = 2 * np.pi * np.cumsum(f0) / RATE
        wave = sum(np.sin(k * phase) / k for k in range(1, 12)) + 0.01 * random.normal(size=len(f0))
        audio.append((9000 * wave).astype(np.int16))
        utterances.append(Utterance(f"{seed}-{number}", audio=Path(__file__), speaker=("ann", "bob")[number % 2]))
    corpus = Corpus("folder", Path(), tuple(utterances))
    return Store(corpus, {"audio": audio, "gain": np.full(count, 1 / 32768, np.float32)}, RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def store(folder):
    return training_columns(recordings(6), encoder(), MODEL, identity="test", cache=folder / "columns")


@pytest.fixture(scope="module")
def batches(store):
    with Loader(store, training_sampler(CONFIG, store, 4), seed=1) as loader:
        return [next(loader) for _ in range(4)]


@functools.cache
def compiled(config, phase):
    task = HiFiVCTask(config, encoder(), steps_per_epoch=3)
    step = eqx.filter_jit(lambda state, batch, key: task.step(state, batch, key=key, phase=phase))
    return task, task.init(key=jax.random.key(0)), step


def test_columns_belong_to_the_same_time(store):
    for row in range(len(store)):
        frames = store["content"][row].shape[1]
        assert store["content"][row].shape == (8, frames) and store["pitch"][row].shape == (8, frames)
        assert 0 <= 960 * frames - len(store["audio"][row]) < 960
        expected = log_mel(jnp.asarray(store.waveform(row)), MODEL.mel)
        np.testing.assert_allclose(store["mel"][row], expected, atol=2e-4)
        # log F0 of the speaker in every subframe, all voiced but for the ends
        packed = store["pitch"][row].reshape(2, 4, frames)
        assert np.abs(packed[0, :, 1:-1] - np.log((110, 210)[row % 2])).max() < 0.1
        assert packed[1, :, 2:-2].mean() > 0.9


def test_features_of_another_content_encoder_are_refused(store, folder):
    again = training_columns(recordings(6), encoder(), MODEL, identity="test", cache=folder / "columns")
    np.testing.assert_array_equal(again["content"][3], store["content"][3])
    with pytest.raises(DataError, match=r"features of another model .*identity is 'test, .*' instead of 'other, "):
        training_columns(recordings(6), encoder(), MODEL, identity="other", cache=folder / "columns")


def test_features_of_other_windows_are_refused(store, folder, monkeypatch):
    monkeypatch.setattr(features, "OVERLAP", 3.0)
    with pytest.raises(DataError, match=r"30 s without 2 s' instead of 'test, windows of 30 s without 3 s'"):
        training_columns(recordings(6), encoder(), MODEL, identity="test", cache=folder / "columns")


def test_mels_and_pitch_are_computed_once(store, folder, monkeypatch):
    for name in ("bucketed_log_mel", "track_pitch"):
        monkeypatch.setattr(features, name, lambda *args: pytest.fail("it was computed again"))
    again = training_columns(recordings(6), encoder(), MODEL, identity="test", cache=folder / "columns")
    for name in ("mel", "pitch"):
        assert again[name][2].dtype == np.float32
        np.testing.assert_array_equal(again[name][2], store[name][2])
    other = replace(MODEL, pitch=replace(MODEL.pitch, ceiling=500.0))
    with pytest.raises(DataError, match=r"pitch contains features of another model .*500"):
        training_columns(recordings(6), encoder(), other, identity="test", cache=folder / "columns")


def test_long_recordings_are_encoded_in_windows(monkeypatch):
    sizes = []
    original = features.encode_content
    monkeypatch.setattr(features, "encode_content", lambda *args: (sizes.append(args[2]), original(*args))[1])
    speech = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    found = content_features(encoder(), speech, MODEL, piece=1.0, overlap=0.2)
    assert found.shape == (8, content_frames(len(speech), MODEL)) and max(sizes) == 100
    log, _ = nemo_log_mel(jnp.asarray(speech), MODEL.content.mel, release=MODEL.content.nemo_release)
    run = eqx.filter_jit(encoder())
    # Windows of 25 frames, of whose inner ends 5 frames are discarded.
    np.testing.assert_allclose(found[:, :20], run(log[:, :100].T)[:20].T, atol=2e-4)
    np.testing.assert_allclose(found[:, 20:35], run(log[:, 60:160].T)[5:20].T, atol=2e-4)


def test_pitch_of_a_frame_is_packed_into_channels():
    pitch = np.stack([np.arange(20.0), 100 + np.arange(20.0)])
    packed = pack_pitch(pitch, 4)
    np.testing.assert_array_equal(packed[:4, 2], [8, 9, 10, 11])
    np.testing.assert_array_equal(packed[4:, 2], [108, 109, 110, 111])
    crop = unpack_pitch(jnp.asarray(packed[None, :, 1:4]), 4)
    np.testing.assert_array_equal(crop[0], pitch[:, 4:16].T)


def test_content_features_do_not_depend_on_the_padding(store):
    speech = np.sin(np.arange(16_000 // 2 + 77) * 0.3).astype(np.float32)
    features = content_features(encoder(), speech, MODEL)
    assert features.shape == (8, content_frames(len(speech), MODEL))
    log, length = nemo_log_mel(jnp.asarray(speech), MODEL.content.mel, release=MODEL.content.nemo_release)
    expected = eqx.filter_jit(encoder())(log[:, : int(length)].T)
    np.testing.assert_allclose(features, expected.T, atol=2e-4)


def test_rows_are_crops_with_references_of_the_same_speaker(store, batches):
    speakers = {name: index for index, name in enumerate(("ann", "bob"))}
    for batch in batches:
        assert batch.columns["audio"].shape == (4, 4 * 960) and batch.columns["content"].shape == (4, 8, 4)
        assert batch.columns["reference"].shape == (4, 80, 24)
        pitch = unpack_pitch(jnp.asarray(batch.columns["pitch"]), 4)
        assert pitch.shape == (4, 16, 2)
        of_row = (np.median(pitch[..., 0], axis=1) > np.log(150)).astype(int)
        assert sorted(of_row) == [0, 0, 1, 1] and set(of_row) == set(speakers.values())
        for row in range(4):
            # The crop of the audio is at the time of the crop of the content.
            index, start = _find(store, batch.columns["content"][row])
            audio = store["audio"][index][960 * start : 960 * (start + 4)]
            np.testing.assert_array_equal(batch.columns["audio"][row][: len(audio)], audio)
            assert store.corpus.utterances[index].speaker == ("ann", "bob")[of_row[row]]


def _find(store, content):
    for index, whole in enumerate(store["content"]):
        for start in range(whole.shape[1] - content.shape[1] + 1):
            if np.array_equal(whole[:, start : start + content.shape[1]], content):
                return index, start
    raise AssertionError("the crop is in no recording")


@pytest.mark.slow
def test_steps_lower_the_loss_and_have_a_warmed_up_divergence(batches):
    _, state, step = compiled(CONFIG, 0)
    found = []
    for number in range(12):
        state, metrics = step(state, batches[number % len(batches)], jax.random.key(number))
        found.append({name: float(value) for name, value in metrics.items()})
    assert found[-1]["mel_l1"] < 0.8 * found[0]["mel_l1"]
    for number, metrics in enumerate(found):
        weight = 0.01 * min(1, (number + 1) / 4)
        assert metrics["generator"] == pytest.approx(45 * metrics["mel_l1"] + weight * metrics["kl"], rel=1e-5)
    assert int(state.counters.step) == 12


def test_pitch_stays_in_float32(batches, monkeypatch):
    found = []

    def decode(self, content, pitch, speaker, **options):
        found.append((content.dtype, pitch.dtype))
        return original(self, content, pitch, speaker, **options)

    original = HiFiVC.decode
    monkeypatch.setattr(HiFiVC, "decode", decode)
    task = HiFiVCTask(replace(CONFIG, precision="bfloat16"), encoder(), steps_per_epoch=3)
    state = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    eqx.filter_eval_shape(lambda state: task.step(state, batches[0], key=jax.random.key(0), phase=0), state)
    assert set(found) == {(jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))}


@pytest.mark.slow
def test_step_with_discriminators_updates_all_networks(batches):
    task, state, step = compiled(CONFIG, 1)
    assert [task.phase_of(n) for n in (0, 9, 10)] == [0, 0, 1]
    new, metrics = step(state, batches[0], jax.random.key(0))
    assert {"adv_period", "feature_scale", "disc_period", "disc_scale", "disc_gradient_norm"} <= set(metrics)
    for part in ("speaker_encoder", "pitch_encoder", "decoder"):
        before, after = (named_arrays(getattr(one.networks.model, part)) for one in (state, new))
        assert all(not np.array_equal(before[name], after[name]) for name in before if not name.endswith("bias"))
    before, after = (named_arrays(one.discriminators.model) for one in (state, new))
    assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_speaker_vectors_are_random_and_references_matter(batches):
    _, state, step = compiled(CONFIG, 0)
    first, again, other = (float(step(state, batches[0], jax.random.key(seed))[1]["mel_l1"]) for seed in (0, 0, 1))
    assert first == again != other
    lengths = {**batches[0].lengths, "reference": np.full(4, 12, np.int32)}
    shorter = float(step(state, batches[0]._replace(lengths=lengths), jax.random.key(0))[1]["mel_l1"])
    assert shorter != first


def test_gradient_of_the_divergence_reaches_the_speaker_encoder(batches):
    _, state, _ = compiled(CONFIG, 0)
    reference = jnp.asarray(batches[0].columns["reference"]).swapaxes(1, 2)

    def divergence(model):
        return jnp.mean(kl_divergence(model.encode_speaker(reference)))

    gradient = eqx.filter_jit(eqx.filter_grad(divergence))(state.networks.model)
    assert float(jnp.abs(gradient.speaker_encoder.std_conv.weight_v).max()) > 0


@pytest.mark.slow
def test_computed_content_is_frozen_and_has_no_optimiser_state(folder):
    config = replace(CONFIG, content="computed")
    store = training_columns(
        recordings(4), encoder(), MODEL, identity="test", computed_content=True, cache=folder / "speech"
    )
    with Loader(store, training_sampler(config, store, 2)) as loader:
        batch = next(loader)
    speech = unpack_speech(jnp.asarray(batch.columns["speech"]))
    assert speech.shape == (2, 4 * 640)
    _, state, step = compiled(config, 0)
    trained = {name for name in named_arrays(state.networks.optimizer_state) if "content_encoder" in name}
    assert not trained
    new, metrics = step(state, batch, jax.random.key(0))
    assert np.isfinite(float(metrics["generator"]))
    before, after = (named_arrays(one.networks.model.content_encoder) for one in (state, new))
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    # Without the frozen path, the stored features have no encoder in the state at all.
    assert compiled(CONFIG, 0)[1].networks.model.content_encoder is None


def test_validation_measures_reconstruction_and_writes_conversions(store, folder):
    unseen = training_columns(recordings(2, seed=5), encoder(), MODEL, identity="test", cache=folder / "unseen")
    validation = Validation(store, MODEL, unseen=unseen, samples=1)
    task = HiFiVCTask(CONFIG, encoder(), steps_per_epoch=3, validation=validation, info={"licence": "test"})
    state = compiled(CONFIG, 0)[1]
    result = task.validate(state)
    assert set(result.metrics) == {"mel_l1", "mel_l1_unseen"} and all(v > 0 for v in result.metrics.values())
    assert [sample.name for sample in result.samples] == ["0-0", "0-0_as_bob", "5-0", "5-0_as_bob"]
    reconstruction, converted = result.samples[:2]
    assert len(reconstruction.audio) == len(store["audio"][0])
    assert reconstruction.target is not None
    np.testing.assert_allclose(reconstruction.target, store.waveform(0))
    assert not np.allclose(reconstruction.audio, converted.audio)
    assert converted.target is None and list(converted.pictures) == [
        "source",
        "reference",
        "converted",
        "reconstruction",
    ]
    np.testing.assert_array_equal(converted.others["source"], store.waveform(0))
    np.testing.assert_array_equal(converted.others["reference"], store.waveform(1))
    np.testing.assert_array_equal(converted.others["reconstruction"], reconstruction.audio)
    np.testing.assert_array_equal(converted.pictures["reference"], store["mel"][1])
    np.testing.assert_allclose(converted.pictures["converted"], _mel(converted.audio), atol=2e-4)
    expected = np.abs(_mel(reconstruction.audio) - store["mel"][0]).mean()
    alone = Validation(store.subset([0, 2, 1]), MODEL, samples=2)(task.networks(state))
    assert [sample.name for sample in alone.samples] == ["0-0", "0-0_as_bob", "0-1", "0-1_as_ann"]
    first = np.abs(_mel(alone.samples[0].audio) - store["mel"][0]).mean()
    assert expected == pytest.approx(first, rel=0.05)
    assert task.held_out()["unseen"]["ids"] == ["5-0", "5-1"]
    task.save_model(state, folder / "model")
    networks, config = FAMILY.load_network(folder / "model")
    assert config == MODEL
    saved = named_arrays(networks)
    for name, array in named_arrays(task.networks(state)).items():
        np.testing.assert_array_equal(saved[name], array)
    assert jaxvoice.load(folder / "model").sample_rate == RATE


def test_validation_uses_the_beginning_of_long_utterances(store, monkeypatch):
    networks = HiFiVCTask(CONFIG, encoder(), steps_per_epoch=3).networks(compiled(CONFIG, 0)[1])
    monkeypatch.setattr("jaxvoice.models.hifivc.validation._SECONDS", 0.4)
    found = Validation(store, MODEL, samples=1)(networks)
    hop = MODEL.mel.hop_length
    cut = {
        "audio": [store["audio"][row][..., : 10 * 960] for row in range(len(store))],
        "mel": [store["mel"][row][:, : 10 * 960 // hop] for row in range(len(store))],
        "content": [store["content"][row][:, :10] for row in range(len(store))],
        "pitch": [store["pitch"][row][:, :10] for row in range(len(store))],
    }
    expected = Validation(store.with_columns(**cut), MODEL, samples=1)(networks)
    assert found.metrics["mel_l1"] == pytest.approx(expected.metrics["mel_l1"], rel=1e-5)
    for ours, theirs in zip(found.samples, expected.samples, strict=True):
        assert len(ours.audio) == 10 * 960 < len(store["audio"][0])
        np.testing.assert_array_equal(ours.audio, theirs.audio)
    assert [len(audio) for audio in found.samples[1].others.values()] == [10 * 960] * 3


def _mel(audio):
    return np.asarray(log_mel(jnp.asarray(audio), MODEL.mel))


def test_recordings_too_short_for_a_reference_are_refused(store):
    mels = list(store["mel"])
    mels[2] = mels[2][:, :5]
    with pytest.raises(DataError, match=r"1 recording\(s\), for example '0-2', have fewer than 6 mel frames"):
        training_sampler(CONFIG, store.with_columns(mel=mels), 4)


def test_errors():
    with pytest.raises(ConfigError, match=r"reference_frames is 4; it should be at least 6"):
        replace(CONFIG, reference_frames=4)
    with pytest.raises(ConfigError, match="kl is -1"):
        LossWeights(kl=-1.0)
    with pytest.raises(ConfigError, match="stft_sizes contains 8192"):
        replace(CONFIG, loss_weights=LossWeights(stft=1.0, stft_sizes=(8192,)))
