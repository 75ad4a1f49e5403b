"""The corpus of synthetic instruments: pitch, timbre, files and damage."""

import numpy as np
import pytest
import soundfile

from jaxvoice.data import make_instrument_corpus, split
from jaxvoice.data.demo import instruments
from jaxvoice.data.demo.instruments import INSTRUMENTS, instrument_phrase
from jaxvoice.errors import ConfigError, DataError

RATE = 16000


def note(play, frequency):
    samples = play(frequency, RATE, RATE, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(RATE)))
    return samples, spectrum


@pytest.mark.parametrize("frequency", [130.81, 523.25])
def test_notes_have_their_pitch(frequency):
    for play in (instruments._plucked, instruments._bowed, instruments._struck):
        _, spectrum = note(play, frequency)
        low = spectrum[: int(1.5 * frequency)]
        assert abs(np.argmax(low) - frequency) < 2.5


def test_timbres_differ():
    plucked, of_plucked = note(instruments._plucked, 220.0)
    bowed, of_bowed = note(instruments._bowed, 220.0)
    struck, of_struck = note(instruments._struck, 220.0)

    def level(samples, start, end):
        return np.sqrt(np.mean(samples[int(start * RATE) : int(end * RATE)] ** 2))

    # Plucked and struck tones decay, bowed ones begin slowly.
    assert level(plucked, 0.8, 1.0) < 0.6 * level(plucked, 0.0, 0.1)
    assert level(struck, 0.8, 1.0) < 0.2 * level(struck, 0.0, 0.1)
    assert level(bowed, 0.0, 0.02) < 0.5 * level(bowed, 0.5, 1.0)
    # The second harmonic is absent from the bar, which has a partial at 2.756.
    for spectrum, harmonic in ((of_plucked, True), (of_bowed, True), (of_struck, False)):
        second, partial = spectrum[430:451].max(), spectrum[590:623].max()
        assert (second > partial) == harmonic


def test_phrases_are_the_same_in_every_call_and_different_from_each_other():
    phrases = [instrument_phrase(name, number, RATE) for name in INSTRUMENTS for number in (0, 1)]
    assert all(phrase.shape == (6 * RATE,) and np.abs(phrase).max() == pytest.approx(0.8) for phrase in phrases)
    np.testing.assert_array_equal(phrases[0], instrument_phrase("plucked", 0, RATE))
    correlations = np.abs(np.corrcoef(phrases) - np.eye(6))
    assert correlations.max() < 0.3
    with pytest.raises(ConfigError, match="one of plucked, bowed, struck"):
        instrument_phrase("flute", 0, RATE)


def test_corpus_is_written_once_and_repaired_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path))
    corpus = make_instrument_corpus(sample_rate=8000, phrases=3)
    assert corpus.speakers == ("bowed", "plucked", "struck") and len(corpus) == 9
    train, held_out = split(corpus)
    assert len(train) == 3 and {utterance.id for utterance in held_out.utterances} == {
        f"{name}/{number}" for name in INSTRUMENTS for number in ("001", "002")
    }
    first = corpus.utterances[0].audio
    assert first is not None
    written = first.stat().st_mtime_ns
    assert make_instrument_corpus(sample_rate=8000, phrases=3) == corpus and first.stat().st_mtime_ns == written
    expected = soundfile.read(first)[0]
    first.write_bytes(b"")
    make_instrument_corpus(sample_rate=8000, phrases=3)
    np.testing.assert_array_equal(soundfile.read(first)[0], expected)


def test_folders_with_other_content_are_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="other content"):
        make_instrument_corpus(tmp_path, sample_rate=8000, phrases=3)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="at least 3"):
        make_instrument_corpus(tmp_path, phrases=2)
    with pytest.raises(ConfigError, match="8000 Hz"):
        make_instrument_corpus(tmp_path, sample_rate=4000)
