"""`jaxvoice speak` and `jaxvoice voice` with a small XTTS."""

import io

import numpy as np
import pytest
import soundfile

from jaxvoice.cli import main
from jaxvoice.data import write_wav
from jaxvoice.data.audio import stream_wav
from jaxvoice.pipelines import XTTSSynthesizer, XTTSVoice
from tests.pipelines.small_xtts import write_small_xtts

pytestmark = pytest.mark.filterwarnings("ignore:The speech of:jaxvoice.errors.JaxvoiceWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xtts")
    write_small_xtts(folder)
    time = np.arange(4 * 16000) / 16000
    write_wav(folder / "me.wav", 0.3 * np.sin(1500 * time * (1 + 0.1 * np.sin(7 * time))).astype(np.float32), 16000)
    return folder


@pytest.fixture
def run(model, capsys, monkeypatch):
    """Run a command with the model, without the compilation cache on disk, since other tests share this process."""
    for verb in ("speak", "voice"):
        monkeypatch.setattr(f"jaxvoice.cli.{verb}.use_compilation_cache", lambda: None)

    def called(*arguments):
        code = main([*map(str, arguments), "--model", str(model)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return called


def test_texts_are_spoken_in_stored_voices(run, model, tmp_path):
    out = tmp_path / "out.wav"
    options = ("--temperature", "0.9", "--top-k", "10", "--top-p", "0.9", "--repetition-penalty", "2", "--seed", "4")
    code, said, _ = run("speak", "the cat sat", out, "--speaker", "Ann", "--language", "pt", *options)
    expected = XTTSSynthesizer.load(model).speak(
        "the cat sat", "pt", speaker="Ann", temperature=0.9, top_k=10, top_p=0.9, repetition_penalty=2.0, seed=4
    )
    audio, rate = soundfile.read(out, dtype="float32")
    assert code == 0 and rate == 24000
    np.testing.assert_allclose(audio, expected.audio, rtol=0, atol=1e-4)
    read, codes = len(expected.tokens), len(expected.codes)
    assert f"{len(audio) / rate:.2f} s of speech from {read} text tokens in {codes} codes" in said


def test_speech_is_streamed_to_standard_output(model, monkeypatch, capsysbinary):
    monkeypatch.setattr("jaxvoice.cli.speak.use_compilation_cache", lambda: None)
    counts = []

    def counted(file, blocks, rate):
        return stream_wav(file, (counts.append(len(block)) or block for block in blocks), rate)

    monkeypatch.setattr("jaxvoice.data.audio.stream_wav", counted)
    options = ("--reference", str(model / "me.wav"), "--language", "pt", "--model", str(model))
    assert main(["speak", "the cat sat", "-", *options]) == 0
    samples, rate = soundfile.read(io.BytesIO(capsysbinary.readouterr().out), dtype="float32")
    expected = XTTSSynthesizer.load(model).speak("the cat sat", "pt", reference=model / "me.wav").audio
    assert rate == 24000 and len(counts) > 1 and sum(counts) == len(samples)
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-4)


def test_voices_are_written_and_spoken(run, model, tmp_path):
    voice, outs = tmp_path / "me.safetensors", [tmp_path / f"{name}.wav" for name in "ab"]
    code, said, _ = run("voice", model / "me.wav", voice)
    assert code == 0 and f"{voice}: XTTSVoice(1 recording, 4.00 s, 3 vectors" in said
    assert XTTSVoice.load(voice).references == 1
    for out, reference in zip(outs, (voice, model / "me.wav"), strict=True):
        assert run("speak", "the cat", out, "--reference", reference, "--precision", "float32")[0] == 0
    first, second = (soundfile.read(out, dtype="float32")[0] for out in outs)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--speaker", "Anna"), "the nearest known name is 'Ann'"),
        ((), "needs a voice"),
        (("--speaker", "Ann", "--language", "xx"), "language is 'xx'"),
        (("--speaker", "Ann", "--noise-scale", "1"), "--noise-scale is not an option of"),
        (("--speaker", "Ann", "--phonemes"), "--phonemes is not an option of"),
        (("--speaker", "Ann", "--plot", "out.png"), "--plot is not an option of"),
        (("--speaker", "Ann", "--temperature", "0"), "temperature is 0.0"),
        (("--reference", "me.json"), "me.json is a voice file, not a recording"),
    ],
)
def test_wrong_options_are_errors(run, tmp_path, options, message):
    code, _, error = run("speak", "the cat", tmp_path / "out.wav", *options)
    assert code == 2 and message in " ".join(error.split())


def test_voice_files_have_the_suffix_of_the_model(run, model, tmp_path):
    code, _, error = run("voice", model / "me.wav", tmp_path / "me.json")
    assert code == 2 and "it should be a .safetensors file for this model" in " ".join(error.split())
