"""The pipeline of content features: results do not depend on padding and batches; few programs; errors."""

import dataclasses

import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.data import resample
from jaxvoice.dsp import bucketed_nemo_log_mel
from jaxvoice.errors import AudioError, CheckpointError, ConfigError
from jaxvoice.models.conformer import FAMILY
from jaxvoice.pipelines import ContentEncoder, content_encoder
from tests.models.conformer.small import SMALL, network
from tests.reference import conformer_torch

LENGTHS = (5000, 12_345, 320, 30_001, 11_000)


@pytest.fixture(scope="module")
def reference():
    return conformer_torch.recogniser(SMALL)


def pipeline(reference, config=SMALL):
    return ContentEncoder(
        network(config, {name: tensor.numpy() for name, tensor in reference.state_dict().items()}), config
    )


@pytest.fixture(scope="module")
def encoder(reference):
    return pipeline(reference)


def recording(samples):
    return (0.1 * np.random.default_rng(samples).normal(size=samples)).astype(np.float32)


def expected(reference, audio, release="2.6"):
    mel = bucketed_nemo_log_mel(audio, SMALL.mel, release=release)
    with torch.no_grad():
        return reference.encoder(torch.from_numpy(mel.T)).numpy().T, reference(torch.from_numpy(mel.T)).numpy()


@pytest.mark.parametrize("release", ["1.7", "2.6"])
def test_features_of_single_and_batched_recordings_equal_torch(reference, release):
    encoder = pipeline(reference, dataclasses.replace(SMALL, nemo_release=release))
    # The releases differ in their frames only; one of them is tested with batches of several lengths.
    recordings = [recording(samples) for samples in (LENGTHS if release == "2.6" else LENGTHS[:2])]
    for audio, features in zip(recordings, encoder.encode(recordings), strict=True):
        wanted = expected(reference, audio, release)[0]
        assert features.dtype == np.float32 and features.shape == wanted.shape
        np.testing.assert_allclose(features, wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(recordings[1]), expected(reference, recordings[1], release)[0], atol=1e-5)
    assert encoder.encode([]) == []
    assert encoder.frame_seconds == 0.04 and encoder.channels == 8 and encoder.sample_rate == 16000


def test_the_comparison_detects_a_changed_weight(reference):
    changed = conformer_torch.recogniser(SMALL)
    changed.encoder.layers[1].conv.depthwise_conv.weight.data[3, 0, 1] += 0.1
    difference = pipeline(changed).encode(recording(5000)) - expected(reference, recording(5000))[0]
    assert np.abs(difference).max() > 1e-4


def test_recognised_symbols_are_those_of_greedy_ctc(reference, encoder):
    audio = recording(30_000)
    classes = expected(reference, audio)[1].argmax(-1)
    symbols, previous = [], None
    for number in classes:
        if number != previous and number != 4:
            symbols.append("abcd"[number])
        previous = number
    assert encoder.recognise(audio) == tuple(symbols) and len(set(classes)) > 2
    assert encoder.recognise([audio, audio[:8000]])[0] == tuple(symbols)


def test_repeats_are_merged():
    merged = content_encoder.merge_repeats(np.array([0, 0, 2, 2, 0, 1], np.int32))
    np.testing.assert_array_equal(merged, [0, 2, 0, 1])
    assert not content_encoder.merge_repeats(np.zeros(0, np.int32)).size


def test_audio_is_resampled(encoder):
    audio = recording(24_000)
    at_16k = encoder.encode(resample(audio, 24_000, 16_000))
    np.testing.assert_allclose(encoder.encode(audio, 24_000), at_16k, atol=1e-5)


def test_lengths_share_few_programs(encoder, monkeypatch):
    shapes = []
    run = content_encoder._run
    monkeypatch.setattr(content_encoder, "_run", lambda net, x, n: shapes.append(x.shape) or run(net, x, n))
    encoder.encode([recording(samples) for samples in range(11_000, 15_000, 400)])
    assert sorted(set(shapes)) == [(2, 96, 20), (8, 96, 20)]


def test_wrong_audio_raises_an_error(encoder):
    for audio, message in (
        (np.zeros(200, np.float32), "too short, 200 samples; it should have at least 320"),
        (np.full(4000, np.nan), "NaN or infinite in 4000 of 4000 samples"),
        (np.zeros((2, 4000), np.float32), "Average the channels"),
        (np.zeros(4000, np.int16), "divide 16-bit integers by 32768"),
        (np.zeros(0), "should have at least one sample"),
    ):
        with pytest.raises(AudioError, match=message):
            encoder.encode(audio)
    with pytest.raises(AudioError, match="Recording 2: The audio is too short"):
        encoder.encode([recording(4000), recording(200)])
    for rate in (0, -16_000, 16_000.5, "fast"):
        with pytest.raises(AudioError):
            encoder.encode(recording(4000), rate)


def test_wrong_models_raise_an_error(reference, encoder):
    with pytest.raises(ConfigError, match="another configuration"):
        ContentEncoder(encoder.network, dataclasses.replace(SMALL, xscaling=False))
    broken = conformer_torch.recogniser(SMALL)
    broken.encoder.layers[0].norm_out.weight.data[:] = np.inf
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        pipeline(broken).encode(recording(4000))


def test_loaded_models_have_the_same_identity(encoder, tmp_path):
    FAMILY.save_network(tmp_path, encoder.network, SMALL)
    loaded = jaxvoice.load(tmp_path)
    assert isinstance(loaded, ContentEncoder) and loaded.identity == encoder.identity
    np.testing.assert_array_equal(loaded.encode(recording(4000)), encoder.encode(recording(4000)))


def test_long_recordings_are_encoded_in_windows(reference):
    whole = pipeline(reference)
    encoder = ContentEncoder(whole.network, SMALL, piece=1.0, overlap=0.2)
    audio, short = recording(40_000), recording(9000)
    found, alone = encoder.encode([audio, short])
    np.testing.assert_allclose(alone, whole.encode(short), atol=1e-5)
    assert found.shape == whole.encode(audio).shape
    mel = bucketed_nemo_log_mel(audio, SMALL.mel, release=SMALL.nemo_release)
    # Windows of 25 frames, of whose inner ends 5 frames are discarded; the last one ends with the recording.
    for start, first, last in ((0, 0, 20), (15, 20, 35), (found.shape[1] - 25, 50, found.shape[1])):
        with torch.no_grad():
            window = reference.encoder(torch.from_numpy(mel[:, 4 * start : 4 * (start + 25)].T)).numpy()
        np.testing.assert_allclose(found[:, first:last], window[first - start : last - start].T, atol=1e-5)


def test_numbers_of_numpy_are_lengths_of_windows(encoder):
    audio = recording(40_000)
    found = ContentEncoder(encoder.network, SMALL, piece=np.int64(1), overlap=np.float32(0.2)).encode(audio)
    expected = ContentEncoder(encoder.network, SMALL, piece=1.0, overlap=0.2).encode(audio)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("piece", "overlap"), [(4.0, 2.0), (float("inf"), 2.0), (float("nan"), 1.0), (9.0, -1.0)])
def test_windows_are_checked(encoder, piece, overlap):
    with pytest.raises(ConfigError, match=rf"^piece is {piece} s and overlap is {overlap} s; overlap should be at"):
        ContentEncoder(encoder.network, SMALL, piece=piece, overlap=overlap)
