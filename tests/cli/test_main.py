"""The program `jaxvoice`: help, version, usage errors and imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from jaxvoice import __version__
from jaxvoice.cli import main
from jaxvoice.console import run_command
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.errors import DataError


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "jaxvoice", *arguments], capture_output=True, text=True)


def test_import_of_jaxvoice_imports_no_large_package():
    heavy = "{'jax', 'equinox', 'numpy', 'torch', 'librosa', 'soundfile', 'matplotlib', 'orbax', 'tyro'}"
    assert python(f"import sys, jaxvoice; print(sorted({heavy} & set(sys.modules)))") == "[]"
    assert python(f"import sys, jaxvoice.cli; print(sorted({heavy} & set(sys.modules) - {{'tyro'}}))") == "[]"


def test_vocoder_imports_neither_torch_nor_librosa():
    heavy = "{'torch', 'librosa', 'matplotlib', 'orbax', 'tensorboardX', 'huggingface_hub'}"
    assert python(f"import sys, jaxvoice; jaxvoice.Vocoder; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_version_and_help_are_printed():
    assert command("--version").stdout == f"jaxvoice {__version__}\n"
    found = command("--help")
    assert found.returncode == 0 and not found.stderr
    assert all(verb in found.stdout for verb in ("vocode", "preflight", "demo-corpus"))


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("vocode", ["INPUT ... OUTPUT", "--model", "--subtype", "pcm16", "--cond", "--no-check", "--debug", "Hub id"]),
        ("preflight", ["PATH", "--corpus", "ljspeech", "--sample-rate", "--num-mels", "--hop-length", "--debug"]),
        ("demo-corpus", ["FOLDER", "--debug", "jaxvoice[demo]"]),
    ],
)
def test_help_of_each_command_is_printed(verb, words, capsys):
    with pytest.raises(SystemExit) as exit:
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0 and all(word in out for word in words)


@pytest.mark.parametrize("arguments", [[], ["vocoder"], ["vocode", "a", "b"], ["vocode", "a", "b", "--model"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    printed = capsys.readouterr().err
    assert exit.value.code == 2 and printed.startswith("jaxvoice: error: ") and "--help" in printed
    assert printed.count("\n") == 1 and not re.search("[\u2500-\u257f]", printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "Unrecognized options: bogus. Available subcommands: speak, clone,"),
        ([], "Missing subcommand: expected one of {speak, clone,"),
        (["speak"], "Required options missing from jaxvoice speak: --model STR"),
        (
            ["export", "a", "--to", "b", "--format", "zip"],
            "Invalid choice 'zip' for argument '--format'. Expected",
        ),
        (["compare", "a", "b", "--tolerance", "x"], "--tolerance: could not convert string to float: 'x'. Argument"),
    ],
)
@pytest.mark.parametrize("boxes", [False, True])
def test_usage_errors_are_sentences(arguments, message, boxes, capsys, monkeypatch):
    monkeypatch.setattr("tyro._fmtlib._should_use_utf8_drawing_chars", lambda: boxes)
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.startswith(f"jaxvoice: error: {message}")


def test_errors_are_one_line_without_traceback(tmp_path):
    found = command("vocode", "x.npy", "out.wav", "--model", str(tmp_path / "none"))
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.startswith("jaxvoice: error: There is no folder") and found.stderr.count("\n") == 1


def test_preflight_lists_unusable_files(tmp_path, capsys):
    import numpy as np

    tone = 0.3 * np.sin(np.arange(22050) * 0.1)
    soundfile.write(tmp_path / "good.wav", tone, 22050)
    (tmp_path / "bad.wav").touch()
    assert main(["preflight", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "usable files  1" in out and "bad.wav is empty" in out
    (tmp_path / "good.wav").unlink()
    assert main(["preflight", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxvoice: error: None of the 1 file(s)") and captured.err.count("\n") == 1


def test_preflight_rejects_names_that_are_too_long(tmp_path, capsys):
    import numpy as np

    soundfile.write(tmp_path / "good.wav", 0.3 * np.sin(np.arange(22050) * 0.1), 22050)
    (tmp_path / "list.txt").write_text(f"good|text\n{'n' * 400}|text\n", encoding="utf-8")
    assert main(["preflight", str(tmp_path / "list.txt")]) == 0
    out = capsys.readouterr().out
    assert "usable files  1" in out and "nnn.wav" in "".join(out.split())  # lines may be wrapped inside the name


def test_preflight_checks_mels_of_other_sizes(tmp_path, capsys):
    import numpy as np

    (tmp_path / "mels").mkdir()
    (tmp_path / "wavs").mkdir()
    soundfile.write(tmp_path / "wavs" / "a.wav", 0.3 * np.sin(np.arange(24000) * 0.1), 24000)
    np.save(tmp_path / "mels" / "a.npy", np.random.default_rng(0).uniform(-11.5, 1, (100, 80)).astype(np.float32))
    options = ["--sample-rate", "24000", "--hop-length", "300"]
    assert main(["preflight", str(tmp_path), *options, "--num-mels", "100"]) == 0
    assert "usable files  1" in capsys.readouterr().out
    assert main(["preflight", str(tmp_path), *options]) == 2
    assert "80" in capsys.readouterr().err


def test_demo_corpus_writes_composed_sentences_in_one_voice(tmp_path, capsys):
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    assert main(["demo-corpus", str(tmp_path / "corpus"), "--sentences", "3", "--voices", "1", "--seed", "5"]) == 0
    assert "3 utterances by 1 speaker(s) in" in capsys.readouterr().out
    lines = (tmp_path / "corpus" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1] for line in lines] == compose_sentences(3, seed=5)
    assert {line.split("|")[3] for line in lines} == {VOICES[0].speaker}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--voices", "17"], "--voices is 17; it should be from 1 to 16"),
        (["--seed", "1"], "Add --sentences"),
        (["--sentences", "0"], "number of sentences is 0; it should be from 1"),
    ],
)
def test_demo_corpus_rejects_invalid_options(tmp_path, capsys, flags, message):
    assert main(["demo-corpus", str(tmp_path / "corpus"), *flags]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "corpus").exists()


def test_demo_corpus_rejects_a_folder_in_use(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it", encoding="utf-8")
    assert main(["demo-corpus", str(tmp_path)]) == 2
    assert "is not a demo corpus" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse file names that are not text")
def test_undecodable_names_are_printed_escaped(tmp_path):
    import numpy as np

    soundfile.write(tmp_path / "good.wav", 0.3 * np.sin(np.arange(22050) * 0.1), 22050)
    Path(f"{tmp_path}/\udcff\udcfe.wav").touch()
    found = command("preflight", str(tmp_path))
    assert found.returncode == 0 and r"\udcff\udcfe.wav is empty" in found.stdout and not found.stderr
    (tmp_path / "good.wav").unlink()
    found = command("preflight", str(tmp_path))
    assert found.returncode == 2 and r"\udcff\udcfe.wav is empty" in found.stderr and found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (PermissionError(13, "Permission denied", "secret"), "secret: Permission denied"),
        (PermissionError(13, "Permission denied", b"secret"), "secret: Permission denied"),
        (OSError("the network is down"), "the network is down"),
    ],
)
def test_system_errors_are_one_line(failure, said, tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr("jaxvoice.data.find_corpus", fail)
    assert main(["preflight", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"jaxvoice: error: {said}\n"
    with pytest.raises(OSError):
        main(["preflight", str(tmp_path), "--debug"])


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows says of a path that long that it does not exist, which other tests cover"
)
def test_paths_that_are_too_long_are_one_line(tmp_path):
    found = command("preflight", str(tmp_path / ("n" * 400)))
    assert found.returncode == 2 and found.stderr.count("\n") == 1 and "nnn: File name too long" in found.stderr


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (DataError("no\n  corpus"), 2, "tool: error: no corpus\n"),
        (IsADirectoryError(21, "Is a directory", "x"), 2, "tool: error: x: Is a directory\n"),
        (KeyboardInterrupt(), 130, "tool: error: interrupted.\n"),
    ],
)
def test_errors_start_with_the_name_of_the_program(failure, code, said, capsys):
    def fail() -> int:
        raise failure

    assert run_command(fail, name="tool") == code
    assert capsys.readouterr().err == said
    if isinstance(failure, Exception):
        with pytest.raises(type(failure)):
            run_command(fail, name="tool", debug=True)


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0, name="tool")


def test_preflight_compares_mels_with_the_given_sizes(tmp_path, capsys):
    import numpy as np

    (tmp_path / "mels").mkdir()
    tone = 0.3 * np.sin(np.arange(22050) * 0.1)
    soundfile.write(tmp_path / "a.wav", tone, 22050)
    decibels = np.random.default_rng(0).uniform(-100, 8, (80, 86)).astype(np.float32)
    np.save(tmp_path / "mels" / "a.npy", decibels)
    assert main(["preflight", str(tmp_path)]) == 2
    assert "decibels (values from -" in capsys.readouterr().err
    assert main(["preflight", str(tmp_path), "--hop-length", "0"]) == 2
    assert "--hop-length is 0; it should be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["-m", "jaxvoice", "--help"], ["-m", "jaxvoice", "speak", "--help"], ["-m", "jaxvoice", "--version"]],
)
def test_readers_may_close_the_pipe(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run([sys.executable, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, "")
