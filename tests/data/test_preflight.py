import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.data import audio_info, find_corpus, load_store, preflight, split
from jaxvoice.dsp import MelConfig, log_mel
from jaxvoice.errors import DataError

REASONS = {
    "empty": "is empty",
    "truncated": "is truncated",
    "silent": "is silent",
    "nan": "NaN",
    "zero-length": "a header but no samples",
    "non-audio": "not audio",
    "too short": "0.050 s",
}


def test_preflight_rejects_bad_files_with_the_reason(bad_files, speech):
    folder = bad_files["empty"].parent
    soundfile.write(folder / "good.wav", speech(2.0), 22050)
    report = preflight(find_corpus(folder), 22050, 8192)
    assert [utterance.id for utterance in report.corpus.utterances] == ["good"]
    reasons = {item.id: item.reason for item in report.rejected}
    assert set(reasons) == {path.stem for path in bad_files.values()}
    assert report.corpus.counts == {"audio": len(bad_files)}
    for kind, said in REASONS.items():
        assert said in reasons[bad_files[kind].stem]
    assert report.hours == pytest.approx(2 / 3600)


def test_error_for_no_usable_file_states_every_reason(bad_files):
    with pytest.raises(DataError) as failure:
        preflight(find_corpus(bad_files["empty"].parent), 22050, 8192)
    said = " ".join(str(failure.value).split())
    assert "None of the 7 file(s)" in said and all(path.name in said for path in bad_files.values())


def test_preflight_rejects_a_constant_offset_as_silence(tmp_path, speech):
    soundfile.write(tmp_path / "offset.wav", np.full(22050, 0.25, np.float32), 22050)
    soundfile.write(tmp_path / "quiet.wav", speech(level=0.001), 22050)
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert [item.id for item in report.rejected] == ["offset"]


def test_preflight_notes_other_formats(tmp_path, speech):
    soundfile.write(tmp_path / "coarse.wav", speech(), 22050, subtype="PCM_U8")
    soundfile.write(tmp_path / "stereo.wav", np.stack([speech(), speech()], 1), 22050)
    soundfile.write(tmp_path / "fast.wav", speech(rate=96000), 96000)
    soundfile.write(tmp_path / "slow.wav", speech(rate=8000), 8000)
    soundfile.write(tmp_path / "short.wav", speech(0.3), 22050)
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert len(report.corpus) == 5 and not report.rejected
    assert report.rates == {22050: 3, 96000: 1, 8000: 1}
    assert all(count == 1 for count in report.notes.values())
    text = " ".join(report.notes)
    for part in ("8 bit", "2 channels averaged", "from 96000 Hz to 22050 Hz", "nothing above 4000 Hz", "padded"):
        assert part in text


def test_table_has_80_columns(bad_files, speech, tmp_path):
    folder = bad_files["empty"].parent
    for index in range(30):
        (folder / f"empty{index}_{'x' * 60}.wav").touch()
    soundfile.write(folder / "long.wav", speech(3.0), 22050)
    soundfile.write(folder / "small.wav", speech(1.0, 44100), 44100)
    table = preflight(find_corpus(folder), 22050, 8192).table()
    assert max(map(len, table.splitlines())) <= 80
    said = " ".join(table.split())
    for part in ("usable files 2", "22050 Hz (1), 44100 Hz (1)", "shortest 1.00 s, small", "longest 3.00 s, long"):
        assert part in said
    assert "rejected 37" in said and "duration 4.0 s" in said
    assert all(f"empty{index}_" in said for index in range(30))


def test_preflight_rejects_missing_files_of_a_list(tmp_path, speech):
    (tmp_path / "wavs").mkdir()
    soundfile.write(tmp_path / "wavs" / "a.wav", speech(), 22050)
    (tmp_path / "metadata.csv").write_text("a|x\nb|y\n", encoding="utf-8")
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert [item.id for item in report.rejected] == ["b"] and "is missing" in report.rejected[0].reason


def phrases(rate: int = 22050) -> np.ndarray:
    """A second of noise in bursts, with silence between."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    return noise * (np.arange(rate) // (rate // 8) % 2)


def write_pairs(folder: Path, mels: dict[str, np.ndarray]) -> None:
    (folder / "mels").mkdir()
    for name, mel in mels.items():
        np.save(folder / "mels" / f"{name}.npy", mel.astype(np.float32))
        soundfile.write(folder / f"{name}.wav", phrases(), 22050)


SCALES = {
    "decibels": (lambda mel: 20 / np.log(10) * mel, "decibels (values from -100.0"),
    "log10": (lambda mel: mel / np.log(10), "base 10"),
    "linear": (np.exp, "linear"),
    "zero-one": (lambda mel: (mel - mel.min()) / np.ptp(mel), "[0, 1]"),
    "symmetric": (lambda mel: 2 * (mel - mel.min()) / np.ptp(mel) - 1, "[-1, 1]"),
    "four": (lambda mel: 8 * (mel - mel.min()) / np.ptp(mel) - 4, "[-4, 4]"),
    "unit": (lambda mel: (mel - mel.mean()) / mel.std(), "unit variance"),
}


def test_preflight_rejects_mels_of_another_scale(tmp_path):
    mel = np.asarray(log_mel(phrases(), MelConfig()))
    write_pairs(tmp_path, {"right": mel} | {name: rescale(mel) for name, (rescale, _) in SCALES.items()})
    found = find_corpus(tmp_path)
    report = preflight(found, 22050, 8192, mel=MelConfig())
    assert found.mel is None and report.corpus.mel == MelConfig()
    assert [utterance.id for utterance in report.corpus.utterances] == ["right"] and not report.notes
    reasons = {item.id: item.reason for item in report.rejected}
    assert set(reasons) == set(SCALES)
    for name, (_, said) in SCALES.items():
        assert said in reasons[name] and f"{name}.npy: The mel" in reasons[name]
        assert "values from" in reasons[name] and "natural logarithm of mel magnitudes" in reasons[name]


def test_preflight_counts_unusual_mels_in_one_note(tmp_path):
    mel = np.asarray(log_mel(phrases(), MelConfig()))
    write_pairs(tmp_path, {"b_loud": np.maximum(mel, -5.5), "a_loud": np.maximum(mel, -4.5), "right": mel})
    found = find_corpus(tmp_path)
    report = preflight(found, 22050, 8192, mel=MelConfig())
    assert found.mel is None and report.corpus.mel == MelConfig()
    assert len(report.corpus) == 3 and not report.rejected
    ((note, count),) = report.notes.items()
    assert count == 2 and "few low values (values from -4.50" in note and "a_loud.npy" in note


def test_preflight_checks_mels_against_the_contract(tmp_path):
    config = MelConfig(num_mels=40, hop_length=200, log="log10")
    write_pairs(tmp_path, {"a": np.asarray(log_mel(phrases(), config))})
    assert len(preflight(find_corpus(tmp_path), 22050, 8192, mel=config).corpus) == 1
    with pytest.raises(DataError, match="40 bands"):
        preflight(find_corpus(tmp_path), 22050, 8192, mel=MelConfig())
    with pytest.raises(DataError, match=r"110\s+frames"):
        preflight(find_corpus(tmp_path), 22050, 8192, mel=replace(config, hop_length=256))


def test_preflight_checks_mels_against_their_audio(tmp_path, speech):
    (tmp_path / "mels").mkdir()
    mel = np.asarray(log_mel(phrases(), MelConfig()))
    mels = {
        "good": mel,
        "batched": np.pad(mel, ((0, 0), (0, 1)), mode="edge")[None],
        "transposed": mel.T,
        "longer": np.pad(mel, ((0, 0), (0, 34)), mode="edge"),
        "nan": np.full((80, 86), np.nan),
        "frameless": np.zeros((80, 0)),
    }
    for name, mel in mels.items():
        np.save(tmp_path / "mels" / f"{name}.npy", mel.astype(np.float32))
        soundfile.write(tmp_path / f"{name}.wav", speech(), 22050)
    (tmp_path / "mels" / "junk.npy").write_text("no array", encoding="utf-8")
    soundfile.write(tmp_path / "junk.wav", speech(), 22050)
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert [utterance.id for utterance in report.corpus.utterances] == ["batched", "good"]
    reasons = {item.id: item.reason for item in report.rejected}
    said = {"transposed": "(86, 80)", "longer": "120 frames", "nan": "NaN", "frameless": "no frames", "junk": ".npy"}
    assert set(reasons) == set(said) and all(part in reasons[name] for name, part in said.items())


def test_preflight_accepts_real_recordings(real_clips):
    report = preflight(find_corpus(real_clips / "LJSpeech-1.1"), 22050, 8192)
    assert len(report.corpus) == 24 and not report.rejected and set(report.rates) == {22050}
    durations = [soundfile.info(utterance.audio).duration for utterance in report.corpus.utterances]
    np.testing.assert_allclose(report.seconds, durations)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse file names that are not text")
@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_names_that_are_not_text_are_read(tmp_path, speech, suffix):
    soundfile.write(tmp_path / f"good{suffix}", speech(), 22050)
    odd = Path(f"{tmp_path}/\udcff\udcfe{suffix}")  # the bytes ff fe, as Python spells them
    odd.write_bytes((tmp_path / f"good{suffix}").read_bytes())
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert len(report.corpus) == 2 and not report.rejected
    assert audio_info(odd) == audio_info(tmp_path / f"good{suffix}")
    loaded = load_store(report.corpus, 22050, memory_limit=0, cache=tmp_path / "cache")
    np.testing.assert_array_equal(loaded["audio"][0], loaded["audio"][1])
    train, valid = split(report.corpus, 1, how="random")
    assert len(train) == len(valid) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse file names that are not text")
def test_preflight_rejects_damaged_files_with_names_that_are_not_text(tmp_path, speech):
    soundfile.write(tmp_path / "good.wav", speech(), 22050)
    Path(f"{tmp_path}/\udcff.wav").write_bytes(b"no audio" * 99)
    report = preflight(find_corpus(tmp_path), 22050, 8192)
    assert [item.id for item in report.rejected] == ["\udcff"] and "not audio" in report.rejected[0].reason


def test_preflight_rejects_names_that_are_too_long(tmp_path, speech):
    soundfile.write(tmp_path / "good.wav", speech(), 22050)
    corpus = find_corpus(tmp_path)
    long = replace(corpus.utterances[0], audio=tmp_path / ("n" * 400 + ".wav"), id="long")
    report = preflight(replace(corpus, utterances=(*corpus.utterances, long)), 22050, 8192)
    assert [item.id for item in report.rejected] == ["long"]


def test_preflight_notes_coarse_codecs(tmp_path, speech):
    for subtype in ("GSM610", "MS_ADPCM", "IMA_ADPCM"):
        soundfile.write(tmp_path / f"{subtype}.wav", speech(rate=8000), 8000, subtype=subtype)
    report = preflight(find_corpus(tmp_path), 8000, 4096)
    assert report.notes["GSM 6.10, with audible quantisation noise"] == 1
    assert report.notes["ADPCM, with audible quantisation noise"] == 2 and not report.rejected
