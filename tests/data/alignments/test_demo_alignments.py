"""Durations in frames against the timings of the demo corpus, which are exact to the sample."""

import importlib.util

import numpy as np
import pytest
import soundfile

from jaxvoice.data import find_aligned, load_aligned, make_demo_corpus
from jaxvoice.data.demo import read_timings
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig

if importlib.util.find_spec("espeakng_loader") is None:
    pytest.skip("the extra 'demo' is not installed", allow_module_level=True)

SENTENCES = ["Pack both boxes.", "She sees six thick thistles; he sells seashells.", "I hear the choir sing higher."]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_demo_corpus(tmp_path_factory.mktemp("demo") / "corpus", SENTENCES).root


@pytest.fixture(scope="module")
def corpus(root):
    return find_aligned(root)


@pytest.fixture(scope="module")
def store(corpus):
    return load_aligned(corpus)


def test_demo_corpus_has_alignments_and_mels(corpus, store):
    assert corpus.kind == "demo" and len(corpus) == len(store) == 3 and store.counts == {}
    assert [item.text for item in corpus.utterances] == SENTENCES
    assert [item.speaker for item in corpus.utterances] == ["us-middle", "us-high", "us-low"]
    assert " ".join(corpus.utterances[0].alignment.phones) == "pau P AE1 K B OW1 TH B AA1 K S IH0 Z pau"
    for item in corpus.utterances:
        assert item.alignment.phones[-1] == "pau"


def test_durations_equal_the_timings_within_half_a_frame(root, corpus, store):
    for index, item in enumerate(corpus.utterances):
        timings = read_timings(root / "timings" / f"{item.id}.json")
        onsets = {phoneme.onset for phoneme in timings.phonemes}
        ends = np.cumsum(store["durations"][index])
        samples = item.alignment.boundaries * 22050
        assert ends[-1] == timings.samples // 256 == store["mel"][index].shape[1]
        # Boundaries of the alignment are onsets, or divide one phoneme; frames follow them to half a frame.
        whole = [edge for edge in samples[:-1] if round(edge) in onsets and abs(edge - round(edge)) < 1e-6]
        assert len(whole) >= 0.8 * len(onsets)
        assert len(store.phones(index)) == len(samples) - 1
        off = np.abs(ends[:-1] * 256 - samples[1:-1])
        # Further off, but by a frame at most, only where a phone too short for a frame was given one.
        lengths = store["durations"][index]
        near_short = (np.minimum(lengths[:-1], lengths[1:]) == 1) | (np.diff(samples)[:-1] < 128)
        assert off.max() < 129 + 256 and near_short[off > 128.5].all() and (off > 128.5).mean() < 0.1


def test_durations_equal_those_of_the_timings(root, corpus, store):
    for index, item in enumerate(corpus.utterances):
        timings = read_timings(root / "timings" / f"{item.id}.json")
        names, frames = timings.durations_in_frames(256)
        consonants = {"p": "P", "s": "S", "S": "SH", "k": "K", "tS": "CH", "T": "TH", "h": "HH"}
        expected = [
            (consonants[name], int(count)) for name, count in zip(names, frames, strict=True) if name in consonants
        ]
        pairs = zip(store.phones(index), store["durations"][index].tolist(), strict=True)
        assert [pair for pair in pairs if pair[0] in consonants.values()] == expected and len(expected) > 2


def test_frames_of_sibilants_have_high_frequencies(store):
    """At the frames of sibilants, the mel has more energy above 4 kHz than below 1 kHz."""
    tilt = {"hiss": [], "vowel": []}
    for index, (mel, lengths) in enumerate(zip(store["mel"], store["durations"], strict=True)):
        phones = store.phones(index)
        owner = np.repeat(np.arange(len(phones)), lengths)
        for number, phone in enumerate(phones):
            kind = "hiss" if phone in ("S", "SH") else "vowel" if phone in ("IY1", "OW1", "AA1", "IH1", "AE1") else None
            if kind and lengths[number] >= 4:
                frames = mel[:, owner == number][:, 1:-1]
                tilt[kind].append(frames[60:].mean() - frames[:25].mean())
    assert len(tilt["hiss"]) >= 8 and len(tilt["vowel"]) >= 8
    assert min(tilt["hiss"]) > max(tilt["vowel"])


def test_centred_contract_has_one_more_frame(corpus, store):
    other = load_aligned(corpus, WAVEGLOW_MEL)
    for plain, centred, lengths in zip(store["mel"], other["mel"], other["durations"], strict=True):
        assert centred.shape[1] == plain.shape[1] + 1 == lengths.sum()
    assert store.mel == MelConfig() and other.mel == WAVEGLOW_MEL


def test_truncated_audio_is_rejected_and_counted(root, tmp_path):
    copy = tmp_path / "corpus"
    for name in ("wavs", "timings"):
        (copy / name).mkdir(parents=True)
    for path in root.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(root)).write_bytes(path.read_bytes())
    cut = copy / "wavs" / "D0002.wav"
    audio = soundfile.read(cut, dtype="int16")[0]
    soundfile.write(cut, audio[: len(audio) // 2], 22050)
    (copy / "wavs" / "D0003.wav").unlink()
    (copy / "timings" / "D0001.json").write_text("{}")
    corpus = find_aligned(copy)
    assert corpus.counts == {"broken": 1}
    (copy / "timings" / "D0001.json").write_bytes((root / "timings" / "D0001.json").read_bytes())
    assert load_aligned(find_aligned(copy)).counts == {"length": 1, "no audio": 1}
