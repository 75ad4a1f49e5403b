"""`jaxvoice align` on a corpus with valid and invalid recordings: files, output and exit code."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.cli import main
from jaxvoice.cli.align import Align
from jaxvoice.data import Utterance, find_aligned, load_aligned
from jaxvoice.data.alignments import read_textgrid
from jaxvoice.data.audio import write_wav
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.pipelines import Aligner
from tests.pipelines.test_aligner import FRAMES, HELLO, LINE, WORLD
from tests.pipelines.tone_synthesizer import MEL, tone_audio, tone_synthesizer

SPOKEN = "Hello, world and some more."
GOOD = ["pau", *HELLO, "pau", *WORLD, *["AH0", "N", "D", "S", "AH1", "M", "M", "AO1", "R", "pau"]]


@pytest.fixture(autouse=True)
def fake_model(monkeypatch):
    monkeypatch.setattr("jaxvoice.cli.align.use_compilation_cache", lambda: None)
    monkeypatch.setattr("jaxvoice.pipelines.aligner.load_with_method", lambda *_: tone_synthesizer())


@pytest.fixture
def align(capsys):
    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = main(["align", *map(str, arguments), "--model", "tone_synthesizer"])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


@pytest.fixture
def corpus(tmp_path) -> Path:
    root = tmp_path / "corpus"
    (root / "wavs").mkdir(parents=True)
    frames = np.resize(FRAMES, len(GOOD)).clip(4)
    frames[[0, 5, -1]] = 30
    clips = {"one": tone_audio(GOOD, frames, noise=1e-4), "two": tone_audio([*HELLO, *WORLD], [9.0] * 9, noise=1e-4)}
    clips |= {"silent": np.zeros(8000), "wordless": clips["two"], "foreign": clips["two"], "long": clips["two"]}
    clips |= {"short": clips["one"]}
    for name, samples in clips.items():
        write_wav(root / "wavs" / f"{name}.wav", samples, MEL.sample_rate)
    (root / "wavs" / "damaged.wav").write_bytes(b"RIFF")
    texts = {"one": SPOKEN, "two": "Hello, world.", "silent": "Hello.", "wordless": "", "damaged": "Hello."}
    texts |= {"foreign": "\u4f60\u597d", "long": "Hello, world. " * 20, "short": "Oh.", "missing": "Hello."}
    lines = [f"{name}|{text}|{text}" for name, text in texts.items()]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_align_writes_textgrids(align, corpus, tmp_path):
    out = tmp_path / "out"
    code, printed, errors = align(corpus, out)
    assert code == 0 and not [line for line in errors if "error" in line]
    assert printed[-1].startswith(f"{out}: 2 of 9 utterances aligned, 0.0 minutes; cost 0.")
    text = "\n".join(printed)
    for kind in (
        "rejected      7",
        "audio: 3",
        "no text: 1",
        "text: 1",
        "length: 1",
        "too fast: 1",
        "- The number of phonemes in long is",
        "- The speed of short is",
    ):
        assert kind in text, kind
    assert sorted(path.name for path in out.iterdir()) == ["one.TextGrid", "two.TextGrid"]
    words = [word.label for word in read_textgrid(out / "one.TextGrid", "words") if word.label]
    assert words == ["hello", "world", "and", "some", "more"]
    aligned = find_aligned(out, audio_dir=corpus / "wavs")
    assert [utterance.alignment.phones for utterance in aligned.utterances] == [tuple(GOOD), (*HELLO, *WORLD)]
    store = load_aligned(aligned, MEL, peak_normalize=True)
    assert len(store) == 2 and not store.rejected
    aligner = Aligner(tone_synthesizer())
    for utterance, durations in zip(aligned.utterances, store["durations"], strict=True):
        samples = tone_audio([*HELLO, *WORLD], [9.0] * 9, noise=1e-4)
        if utterance.id == "two":
            expected = aligner.align(np.rint(samples * 32768) / 32768, 8000, "Hello, world.")
            np.testing.assert_array_equal(durations, expected.durations)
            assert np.abs(durations - 9).max() <= 2


def test_rejections_name_the_utterance_once(align, corpus, tmp_path):
    """The name may also be part of another word, of the path, or of the number of a phoneme."""
    for name in ("text", "a", "wavs", "1"):
        (corpus / "wavs" / f"{name}.wav").write_bytes((corpus / "wavs" / "two.wav").read_bytes())
    (corpus / "wavs" / "riff.wav").write_bytes(b"RIFF")
    texts = {"text": "...", "a": "{QQ}", "wavs": "\u4f60", "1": "{HH QQ}"}
    texts |= {"riff": "Hello.", "long": "Hello, world. " * 20}
    lines = [f"{name}|{text}" for name, text in [*texts.items(), ("two", "Hello, world.")]]
    (corpus / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, printed, _ = align(corpus, tmp_path / "out")
    assert code == 0 and "rejected      6" in "\n".join(printed)
    long = "The number of phonemes in long is "
    for begin in ("text: the text '...'", "a: in '{QQ}'", "wavs: ", "1: in '{HH QQ}'", "riff: ", long):
        (line,) = [line.strip() for line in printed if line.strip().startswith(f"- {begin}")]
        assert not line.startswith(f"- {begin}{begin}")


def test_costs_above_the_limit_are_skipped(align, corpus, tmp_path):
    metadata = corpus / "metadata.csv"
    metadata.write_text("one|Some more hellos, and a world.\ntwo|Hello, world.\n", encoding="utf-8")
    assert align(corpus, tmp_path / "all")[1][-1].startswith(f"{tmp_path / 'all'}: 2 of 2")
    code, printed, _ = align(corpus, tmp_path / "good", "--max-cost", "0.45")
    text = "\n".join(printed)
    assert code == 0 and "cost: 1" in text and "1 of 2" in printed[-1] and "at most 0.45 (--max-cost)" in text
    assert [path.stem for path in (tmp_path / "good").iterdir()] == ["two"]


def test_files_are_neither_overwritten_nor_written_outside_the_folder(align, corpus, tmp_path):
    out = tmp_path / "out"
    assert align(corpus, out)[0] == 0
    written = (out / "one.TextGrid").read_bytes()
    (out / "one.TextGrid").write_text("mine", encoding="utf-8")
    code, printed, errors = align(corpus, out)
    assert code == 2 and not printed and "2 TextGrid(s) exist" in errors[0]
    assert (out / "one.TextGrid").read_text(encoding="utf-8") == "mine"
    assert align(corpus, out, "--overwrite")[0] == 0 and (out / "one.TextGrid").read_bytes() == written
    (corpus / "metadata.csv").write_text("../two|Hello, world.\n", encoding="utf-8")
    assert align(corpus, tmp_path / "other")[0] == 0 and not (tmp_path / "two.TextGrid").exists()
    with pytest.raises(ConfigError, match="would be written outside"):
        Align(corpus, out, "model").targets((Utterance("../one"),))


def test_corpora_without_aligned_recordings_exit_with_2(align, corpus, tmp_path):
    (corpus / "metadata.csv").write_text("silent|Hello.\n", encoding="utf-8")
    code, printed, errors = align(corpus, tmp_path / "out")
    assert code == 2 and "audio: 1" in "\n".join(printed)
    assert errors[-1].startswith("jaxvoice: error: None of the 1 utterance(s)")
    assert align(tmp_path / "none", tmp_path / "out")[0] == 2
    blocked = tmp_path / "file"
    blocked.touch()
    (corpus / "metadata.csv").write_text("two|Hello, world.\n", encoding="utf-8")
    code, _, errors = align(corpus, blocked / "out")
    assert code == 2 and "Choose another OUTPUT" in errors[-1]
    with pytest.raises(ConfigError, match="Choose another OUTPUT"):
        align(corpus, blocked / "out", "--debug")


def test_arguments_are_checked_before_the_model_is_loaded(align, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxvoice.pipelines.aligner.load_with_method", lambda *_: pytest.fail("it was loaded"))
    (tmp_path / "file").touch()
    code, _, errors = align(corpus, tmp_path / "file")
    assert code == 2 and f"{tmp_path / 'file'} is not a folder. Choose another OUTPUT" in errors[0]
    (corpus / "metadata.csv").write_text("one||\ntwo||\n", encoding="utf-8")
    code, _, errors = align(corpus, tmp_path / "out")
    assert code == 2 and "None of the 2 utterance(s)" in errors[0] and "has a text" in errors[0]
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    code, _, errors = align(corpus, tmp_path / "out")
    assert code == 2 and f"{tmp_path} is not writable. Choose another OUTPUT" in errors[0]
    assert not (tmp_path / "out").exists()


def test_help_describes_the_corpus(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["align", "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    for word in ("CORPUS", "OUTPUT", "--model", "--max-cost", "--audio-dir", "--overwrite"):
        assert word in out
    assert len(LINE) == len(FRAMES)


@pytest.mark.parametrize("full", [("one",), ("one", "two")])
def test_batch_goes_on_when_the_disk_is_full_for_a_textgrid(align, corpus, tmp_path, monkeypatch, full):
    written = Path.write_text

    def write_less(path, *arguments, **options):
        if any(path.name.startswith(f".{name}.TextGrid") for name in full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_less)
    out = tmp_path / "out"
    code, printed, errors = align(corpus, out)
    assert code == 2 and "rejected      7" in "\n".join(printed)
    assert [path.stem for path in out.iterdir()] == [name for name in ("one", "two") if name not in full]
    *said, last = [line for line in errors if "error" in line]
    assert len(said) == len(full) and all("cannot be written (No space left on device)" in line for line in said)
    assert last == f"jaxvoice: error: {len(full)} of 9 TextGrids could not be written; see above."
    assert ("1 of 9 utterances aligned" in printed[-1]) == (len(full) == 1)


def test_folder_that_cannot_be_created_is_the_error_of_one_recording(align, corpus, tmp_path):
    (corpus / "wavs" / "p1").mkdir()
    (corpus / "wavs" / "p1" / "three.wav").write_bytes((corpus / "wavs" / "two.wav").read_bytes())
    (corpus / "metadata.csv").write_text("p1/three|Hello, world.\ntwo|Hello, world.\n", encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / "p1").write_text("a file")
    code, printed, errors = align(corpus, out)
    assert code == 2 and f"{out / 'p1'} cannot be created" in "\n".join(errors)
    assert (out / "two.TextGrid").is_file() and "1 of 2 utterances aligned" in printed[-1]


def test_debug_keeps_the_traceback_of_a_full_disk(corpus, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(DataError, match="cannot be written"):
        main(["align", str(corpus), str(tmp_path / "out"), "--model", "tone_synthesizer", "--debug"])
