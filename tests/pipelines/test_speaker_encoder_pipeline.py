"""Embeddings of recordings by the pipeline, compared with those of the networks; unusual recordings."""

import dataclasses
import os
import tracemalloc
import zipfile
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

import jaxvoice
from jaxvoice.dsp import log_mel, power_mel
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, JaxvoiceWarning, ShapeError
from jaxvoice.models.speaker_encoder import FAMILY, embed, embed_windows, partial_starts
from jaxvoice.models.speaker_encoder.embedding import PARTIAL_FRAMES
from jaxvoice.pipelines.speaker_encoder import SpeakerEncoder, cosines, scaled_to_level
from tests.models.speaker_encoder.released import mels
from tests.models.speaker_encoder.small import GE2E, LSTM_SMALL, SMALL, random_encoder

RATE = 16000
REFLECTED = dataclasses.replace(GE2E, mel=dataclasses.replace(GE2E.mel, padding="reflect"))
ZEROS = dataclasses.replace(GE2E, mel=dataclasses.replace(GE2E.mel, padding="zeros"))


def pipeline(config):
    return SpeakerEncoder(random_encoder(config), config)


def speech(seconds, seed=0):
    noise = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return (0.05 * noise * (1 + np.sin(np.arange(noise.size) / 2000))).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    return pipeline(LSTM_SMALL)


@pytest.mark.parametrize(
    ("config", "seconds"),
    [(SMALL, 1.3), *((config, seconds) for config in (LSTM_SMALL, REFLECTED, ZEROS) for seconds in (1.3, 5.03))],
    ids=["resnet", "lstm", "long lstm", "reflected", "long reflected", "zeros", "long zeros"],
)
def test_embeddings_equal_those_of_the_network(config, seconds):
    one = pipeline(config)
    audio = speech(seconds)
    expected = eqx.filter_jit(embed)(one.network, jnp.asarray(scaled_to_level(audio, config)))
    np.testing.assert_allclose(one.embed(audio, RATE), expected, atol=2e-6)


@pytest.mark.parametrize("config", [REFLECTED, ZEROS], ids=["reflected", "zeros"])
def test_windows_of_resemblyzer_have_the_mels_of_the_whole_recording(config):
    network, audio, hop = random_encoder(config), speech(5.03), config.mel.hop_length

    @eqx.filter_jit
    def of_whole_mels(network, audio):
        starts = [int(start) // hop for start in partial_starts(len(audio), config)]
        missing = max(0, (starts[-1] + PARTIAL_FRAMES) * hop - len(audio))
        mel = power_mel(jnp.pad(audio, (0, missing)), config.mel).T
        vectors = network.embed_mels(jnp.stack([mel[start : start + PARTIAL_FRAMES] for start in starts]))
        mean = jnp.mean(vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True), axis=0)
        return mean / jnp.linalg.norm(mean)

    expected = of_whole_mels(network, jnp.asarray(audio))
    np.testing.assert_allclose(eqx.filter_jit(embed)(network, jnp.asarray(audio)), expected, atol=2e-6)


@pytest.mark.parametrize(("config", "seconds"), [(LSTM_SMALL, 4), (GE2E, 1.5)], ids=["lstm", "ge2e"])
def test_encoders_of_mels_read_recordings(config, seconds):
    one = pipeline(dataclasses.replace(config, mel=mels(20)))
    audio = speech(seconds)
    mel = log_mel(jnp.asarray(scaled_to_level(audio, one.config)), one.config.mel).T
    np.testing.assert_allclose(one.embed(audio, RATE), eqx.filter_jit(embed_windows)(one.network, mel), atol=2e-6)


def test_files_arrays_and_lists_give_the_same_embeddings(encoder, tmp_path):
    audio = speech(1.5)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    alone = encoder.embed(audio, RATE)
    np.testing.assert_array_equal(encoder.embed(tmp_path / "a.wav"), alone)
    both = encoder.embed([jaxvoice.read_audio(tmp_path / "a.wav"), tmp_path / "a.wav"])
    np.testing.assert_array_equal(both, [alone, alone])
    assert encoder.embed([]).shape == (0, 12)


def test_other_sample_rates_give_similar_embeddings(encoder):
    time = np.arange(3 * 48000) / 48000
    high = sum(np.sin(2 * np.pi * f * time * (1 + 0.01 * np.sin(3 * time))) / f for f in (150, 450, 1050, 2700))
    high = (20 * high).astype(np.float32)
    assert encoder.similarity(encoder.embed(high, 48000), encoder.embed(high[::3], RATE)) > 0.999


def test_levels_are_those_of_the_configuration():
    audio = speech(1)
    for config, gain, expected in (
        (SMALL, 1.0, -27),
        (SMALL, 100.0, -27),
        (dataclasses.replace(SMALL, level=None), 2, None),
    ):
        scaled = scaled_to_level(np.float32(gain) * audio, config)
        if expected is None:
            np.testing.assert_array_equal(scaled, np.float32(gain) * audio)
        else:
            np.testing.assert_allclose(10 * np.log10(np.mean(scaled.astype(np.float64) ** 2)), expected, atol=1e-4)
    raised = dataclasses.replace(SMALL, level=-30.0, only_raise=True)
    np.testing.assert_array_equal(scaled_to_level(100 * audio, raised), 100 * audio)
    np.testing.assert_allclose(np.sqrt(np.mean(scaled_to_level(0.01 * audio, raised) ** 2)), 10**-1.5, rtol=1e-4)


def test_similarity_is_the_cosine(encoder):
    a, b = np.eye(12, dtype=np.float32)[:2]
    assert encoder.similarity(a, 3 * a) == 1.0
    assert encoder.similarity(a, np.array([3, 4, *[0] * 10], np.float32)) == pytest.approx(0.6)
    np.testing.assert_allclose(encoder.similarity(np.stack([a, b]), np.stack([a, b, -a])), [[1, 0, -1], [0, 1, 0]])
    for several in ([a, b], (a, jnp.asarray(b)), [a.tolist(), b]):
        np.testing.assert_allclose(encoder.similarity(several, a.tolist()), [1, 0])
    audio = speech(1.2)
    np.testing.assert_allclose(
        encoder.similarity([audio, a], [encoder.embed(audio, RATE), a], RATE).diagonal(), 1, atol=1e-6
    )
    assert encoder.similarity([], a).shape == (0,)
    assert encoder.similarity(audio, encoder.embed(audio, RATE), RATE) == pytest.approx(1, abs=1e-6)
    assert encoder.similarity([audio], [audio, audio], RATE).shape == (1, 2)


def test_unsuitable_arguments_raise_errors(encoder, tmp_path):
    with pytest.raises(AudioError, match="silent"):
        encoder.embed(np.zeros(RATE, np.float32), RATE)
    with pytest.raises(AudioError, match=r"audio is 0\.100 s long; it should be at least 0\.2 s"):
        encoder.embed(speech(0.1), RATE)
    with pytest.raises(AudioError, match=r"recording 2 is 0\.100 s long"):
        encoder.embed([speech(1), speech(0.1)], RATE)
    with pytest.raises(AudioError, match="sample_rate is None"):
        encoder.embed(speech(1))
    with pytest.raises(AudioError, match="NaN or infinite in 1 of"):
        encoder.embed(np.concatenate([speech(1), [np.nan]]).astype(np.float32), RATE)
    with pytest.raises(AudioError):
        encoder.embed(tmp_path / "missing.wav")
    with pytest.warns(JaxvoiceWarning, match=r"0\.50 s long; embeddings of less than 1 s"):
        encoder.embed(speech(0.5), RATE)
    with pytest.raises(ShapeError, match=r"b has shape \(3, 13\); it should have 12 components"):
        encoder.similarity(np.ones(12, np.float32), np.ones((3, 13), np.float32))
    for value in (np.ones(9), np.ones(9, np.float32), [1.0] * 9, jnp.ones(9)):
        with pytest.raises(ShapeError, match=r"^a has shape \(9,\); it should have 12 components, .* sample_rate"):
            encoder.similarity(value, np.ones(12))
    with pytest.raises(ShapeError, match=r"^b has shape \(1, 2, 12\); it should have 12 components"):
        encoder.similarity(np.ones(12), np.ones((1, 2, 12)), RATE)
    with pytest.raises(ShapeError, match=r"^b\[1\] has shape \(13,\); it should have 12 components"):
        encoder.similarity(np.ones(12), [np.ones(12), np.ones(13)])
    with pytest.raises(AudioError, match=r"^b is 0\.100 s long"):
        encoder.similarity(np.ones(12), speech(0.1), RATE)
    for value, kind in ((None, "NoneType"), ({}, "dict"), (iter(()), "tuple_iterator")):
        with pytest.raises(AudioError, match=rf"^audio has type {kind}; it should be the path of a file, an Audio"):
            encoder.embed(value)
        with pytest.raises(AudioError, match=rf"^a has type {kind}; it should be the path"):
            encoder.similarity(value, np.ones(12))
    with pytest.raises(ShapeError, match="12 and 13 components"):
        cosines(np.ones(12), np.ones(13))
    with pytest.raises(ShapeError, match="norm of 0"):
        cosines(np.zeros(12), np.ones(12))
    for value in (np.nan, np.inf):
        with pytest.raises(ShapeError, match="contains NaN or infinity"):
            cosines(np.full(12, value), np.ones(12))
    with pytest.raises(ConfigError, match="another configuration"):
        SpeakerEncoder(encoder.network, SMALL)
    weight = encoder.network.layers[1].linear.weight
    damaged = eqx.tree_at(lambda network: network.layers[1].linear.weight, encoder.network, weight * jnp.nan)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        SpeakerEncoder(damaged, LSTM_SMALL).embed(speech(1), RATE)


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL, ZEROS], ids=["resnet", "ge2e"])
def test_recordings_of_an_hour_are_embedded(config):
    minute = speech(60)
    one = pipeline(config)
    hour = one.embed(np.tile(minute, 60), RATE)
    assert one.similarity(hour, one.embed(minute, RATE)) > 0.999


@pytest.mark.parametrize(
    ("config", "copies"),
    [(LSTM_SMALL, 2.5), (dataclasses.replace(LSTM_SMALL, mel=mels(20)), 6), (ZEROS, 3.5)],
    ids=["lstm", "lstm of mels", "ge2e"],
)
def test_memory_is_that_of_a_few_copies_of_the_recording(config, copies):
    one, audio = pipeline(config), np.tile(speech(1), 240)
    one.embed(audio[: 30 * RATE], RATE)  # compiles the programs
    tracemalloc.start()
    try:
        one.embed(audio, RATE)
        assert tracemalloc.get_traced_memory()[1] < copies * audio.nbytes
    finally:
        tracemalloc.stop()


def test_identities_are_those_of_weights_and_settings(encoder):
    again = pipeline(LSTM_SMALL)
    assert again.identity == encoder.identity
    rate = dataclasses.replace(LSTM_SMALL, mel=dataclasses.replace(LSTM_SMALL.mel, sample_rate=22050))
    level = dataclasses.replace(LSTM_SMALL, level=-20.0)
    other = SpeakerEncoder(random_encoder(LSTM_SMALL, seed=1), LSTM_SMALL)
    identities = {encoder.identity, pipeline(rate).identity, pipeline(level).identity, other.identity}
    assert len(identities) == 4


def test_saved_encoders_give_the_same_embeddings(encoder, tmp_path):
    FAMILY.save_network(tmp_path / "model", encoder.network, LSTM_SMALL)
    audio = speech(1.2)
    loaded = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.embed(audio, RATE), encoder.embed(audio, RATE))
    assert loaded.identity == encoder.identity


def test_weights_of_resemblyzer_give_the_embeddings_of_torch(tmp_path):
    folder = Path(os.environ.get("JAXVOICE_WHEELS", os.devnull))
    wheel = max((path for path in folder.glob("*.whl") if path.name.lower().startswith("resemblyzer-")), default=None)
    if wheel is None:
        pytest.skip("JAXVOICE_WHEELS names no folder with the wheel (pip download --no-deps resemblyzer)")
    from experiments.benchmarks.torch_speaker_encoder import load

    (tmp_path / "pretrained.pt").write_bytes(zipfile.ZipFile(wheel).read("resemblyzer/pretrained.pt"))
    jaxvoice.import_model(tmp_path / "pretrained.pt", tmp_path / "model")
    ours, theirs = jaxvoice.SpeakerEncoder.load(tmp_path / "model"), load(wheel)
    for seconds in (1.0, 1.7, 6.3):
        for gain in (0.2, 2.0):
            audio = np.float32(gain) * speech(seconds)
            np.testing.assert_allclose(ours.embed(audio, RATE), theirs.embed(audio, RATE), atol=1e-4)
