import os

import librosa
import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from jaxvoice.data import Corpus, Utterance, find_corpus, load_store, store
from jaxvoice.data.store import to_int16
from jaxvoice.errors import AudioError, DataError


def test_peak_normalize_equals_the_reference(make_corpus):
    corpus = find_corpus(make_corpus())
    loaded = load_store(corpus, 22050)
    for index, utterance in enumerate(corpus.utterances):
        _, integers = scipy.io.wavfile.read(utterance.audio)
        expected = librosa.util.normalize(integers / 32768) * 0.95
        np.testing.assert_allclose(loaded.waveform(index), expected, atol=2e-7)
        np.testing.assert_array_equal(loaded["audio"][index], integers)


def test_store_without_peak_normalize_keeps_levels(make_corpus):
    corpus = find_corpus(make_corpus())
    loaded = load_store(corpus, 22050, peak_normalize=False)
    assert loaded["gain"].dtype == np.float32 and set(loaded["gain"].tolist()) == {1 / 32768}


def test_lowest_integer_counts_as_peak(tmp_path):
    scipy.io.wavfile.write(tmp_path / "clip.wav", 22050, np.array([0, -32768, 100] * 1000, np.int16))
    loaded = load_store(find_corpus(tmp_path), 22050)
    assert loaded.waveform(0).min() == pytest.approx(-0.95) and loaded["audio"][0].min() == -32768


@pytest.mark.parametrize("peak", [0.25, 1.0, 1.3])
def test_samples_beyond_full_scale_are_scaled(speech, peak):
    samples = speech(level=peak) - np.float32(0.0)
    integers, step = to_int16(samples)
    np.testing.assert_allclose(integers.astype(np.float64) * step, samples, atol=0.51 * step)
    assert step >= 1 / 32768 and step == pytest.approx(max(peak, 1) / 32768, rel=1e-4)


def test_load_store_resamples_recordings(make_corpus):
    folder = make_corpus(rate=48000)
    loaded = load_store(find_corpus(folder), 24000)
    assert [len(clip) for clip in loaded["audio"]] == [round(24000 * (0.5 + 0.1 * index)) for index in range(6)]
    assert loaded.seconds == pytest.approx(sum(0.5 + 0.1 * index for index in range(6)))
    spectrum = np.abs(np.fft.rfft(loaded.waveform(2)))
    assert np.argmax(spectrum) / (len(loaded["audio"][2]) / 24000) == pytest.approx(300, abs=1.5)


def assert_same_columns(left, right):
    assert len(left) == len(right)
    np.testing.assert_array_equal(left["gain"], right["gain"])
    for a, b in zip(left["audio"], right["audio"], strict=True):
        assert a.dtype == b.dtype == np.int16
        np.testing.assert_array_equal(a, b)


def test_memory_mapped_store_equals_store_in_memory_and_is_reused(make_corpus, tmp_path, monkeypatch):
    corpus = find_corpus(make_corpus())
    inside = load_store(corpus, 16000)
    mapped = load_store(corpus, 16000, memory_limit=0, cache=tmp_path / "cache")
    assert inside.folder is None and mapped.folder is not None and mapped.folder.parent == tmp_path / "cache"
    assert_same_columns(inside, mapped)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [mapped.folder.name]

    def never(*args):
        raise AssertionError("decoded again")

    monkeypatch.setattr(store, "read_as", never)
    assert_same_columns(inside, load_store(corpus, 16000, memory_limit=0, cache=tmp_path / "cache"))
    plain = load_store(corpus, 16000, memory_limit=0, cache=tmp_path / "cache", peak_normalize=False)
    assert set(plain["gain"].tolist()) == {1 / 32768}
    os.utime(corpus.utterances[0].audio, ns=(1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        load_store(corpus, 16000, memory_limit=0, cache=tmp_path / "cache")


@pytest.mark.parametrize("damage", ["audio.bin", "peak.bin", "index.json"])
def test_damaged_cache_is_written_again(make_corpus, tmp_path, caplog, damage):
    corpus = find_corpus(make_corpus())
    mapped = load_store(corpus, 22050, memory_limit=0, cache=tmp_path / "cache")
    assert mapped.folder is not None
    expected, broken = load_store(corpus, 22050), mapped.folder / damage
    del mapped
    broken.write_bytes(broken.read_bytes()[:-3])
    assert_same_columns(expected, load_store(corpus, 22050, memory_limit=0, cache=tmp_path / "cache"))
    assert "is damaged" in caplog.text


def test_full_disk_raises_an_error_and_leaves_no_files(make_corpus, tmp_path, monkeypatch):
    corpus = find_corpus(make_corpus())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_columns", full)
    with pytest.raises(DataError, match="No space left on device"):
        load_store(corpus, 22050, memory_limit=0, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_pairs_have_their_mels_in_memory_and_mapped(tmp_path, speech):
    (tmp_path / "pairs" / "mels").mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = [rng.normal(size=(1, 80, 86)), rng.normal(size=(80, 60))]
    for index, mel in enumerate(written):
        np.save(tmp_path / "pairs" / "mels" / f"{index}.npy", mel)
        soundfile.write(tmp_path / "pairs" / f"{index}.wav", speech(), 22050)
    corpus = find_corpus(tmp_path / "pairs")
    for limit in (2**30, 0):
        loaded = load_store(corpus, 22050, memory_limit=limit, cache=tmp_path / "cache")
        assert loaded["mel"] is not None
        for mel, expected in zip(loaded["mel"], written, strict=True):
            np.testing.assert_array_equal(mel, expected.reshape(80, -1).astype(np.float32))


def test_errors_name_unusable_input(tmp_path, bad_files):
    for kind in ("truncated", "empty", "non-audio", "nan", "zero-length"):
        corpus = Corpus("folder", tmp_path, (Utterance(kind, bad_files[kind]),))
        with pytest.raises(AudioError, match=bad_files[kind].name):
            load_store(corpus, 22050)
    with pytest.raises(DataError, match="no utterances"):
        load_store(Corpus("folder", tmp_path, ()), 22050)
