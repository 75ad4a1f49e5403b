"""Recordings of several channels: the check, stores in memory and mapped, and their division into pieces."""

import librosa
import numpy as np
import pytest
import soundfile

from jaxvoice.data import divide_recordings, find_corpus, load_store, preflight
from jaxvoice.errors import AudioError, ConfigError, DataError

RATE = 16000


@pytest.fixture
def recordings(tmp_path):
    """A stereo file, a mono file at another rate, and files that a model of two channels cannot use."""
    random = np.random.default_rng(0)
    stereo = 0.2 * random.standard_normal((RATE, 2))
    soundfile.write(tmp_path / "a_stereo.wav", stereo, RATE)
    mono = 0.5 * np.sin(0.05 * np.arange(8000))
    soundfile.write(tmp_path / "b_mono.wav", mono, 8000)
    soundfile.write(tmp_path / "c_surround.wav", 0.1 * random.standard_normal((RATE, 6)), RATE)
    soundfile.write(tmp_path / "d_silent.wav", np.zeros((RATE, 2)), RATE)
    soundfile.write(tmp_path / "e_short.wav", stereo[:100], RATE)
    broken = stereo.copy()
    broken[50, 1] = np.nan
    soundfile.write(tmp_path / "f_nan.wav", broken, RATE, subtype="FLOAT")
    half = stereo.copy()
    half[:, 0] = 0
    soundfile.write(tmp_path / "g_half.wav", half, RATE)
    return tmp_path, stereo, mono


def test_check_keeps_files_with_one_or_all_channels(recordings):
    found = preflight(find_corpus(recordings[0], "folder"), RATE, 12000, channels=2, shortest=128 / RATE)
    assert [utterance.id for utterance in found.corpus.utterances] == ["a_stereo", "b_mono", "g_half"]
    reasons = {item.id: item.reason for item in found.rejected}
    assert "6 channels; it should have 1 or 2" in reasons["c_surround"]
    assert "is silent" in reasons["d_silent"] and "too short, 0.006 s" in reasons["e_short"]
    assert "NaN or infinity in 1 of" in reasons["f_nan"]
    assert found.notes["one channel repeated in 2"] == 1
    assert not any("averaged" in note for note in found.notes)
    assert "audio: 4" in found.table()


@pytest.mark.parametrize("limit", [2**30, 0])
def test_store_has_all_channels(recordings, tmp_path, limit):
    folder, stereo, mono = recordings
    corpus = preflight(find_corpus(folder, "folder"), RATE, 12000, channels=2).corpus
    store = load_store(corpus, RATE, channels=2, peak_normalize=False, memory_limit=limit, cache=tmp_path / "cache")
    assert (store.folder is None) == bool(limit)
    np.testing.assert_allclose(store.waveform(0), stereo.T, atol=1 / 32768)
    assert store.lengths("audio").tolist() == [RATE] * 3
    expected = librosa.resample(mono, orig_sr=8000, target_sr=RATE)
    for channel in store.waveform(1):
        np.testing.assert_allclose(channel, expected, atol=2e-3)
    averaged = load_store(corpus, RATE, peak_normalize=False, memory_limit=limit, cache=tmp_path / "cache")
    np.testing.assert_allclose(averaged.waveform(0), stereo.mean(axis=1), atol=2 / 32768)
    with pytest.raises(ConfigError, match="channels is 0"):
        load_store(corpus, RATE, channels=0)
    with pytest.raises(AudioError, match="2 channels; it should have 1 or 3"):
        load_store(corpus, RATE, channels=3)


def test_recordings_are_divided_without_a_rest(recordings):
    store = load_store(preflight(find_corpus(recordings[0], "folder"), RATE, 1, channels=2).corpus, RATE, channels=2)
    pieces = divide_recordings(store, 5000)
    assert pieces.lengths("audio").tolist() == [5000, 5000, 6000] * 3
    assert [utterance.id for utterance in pieces.corpus.utterances][2:4] == ["a_stereo#0003", "b_mono#0001"]
    for row, number in enumerate((0, 1, 2)):
        parts = [pieces.waveform(3 * row + i) for i in range(3)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), store.waveform(number))
    whole = divide_recordings(store, 9000)
    assert [utterance.id for utterance in whole.corpus.utterances] == ["a_stereo", "b_mono", "g_half"]
    with pytest.raises(ConfigError, match="samples is 0"):
        divide_recordings(store, 0)
    with pytest.raises(DataError, match="has the columns pitch"):
        divide_recordings(store.with_columns(pitch=[np.zeros(3)] * 3), 5000)
