"""`jaxvoice speak` with a tiny model of random weights: files, output and exit code."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from jaxvoice.cli import main
from jaxvoice.errors import TextError
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines import Synthesizer
from jaxvoice.training import pictures
from tests.models.gaussian_tts.small import save_model
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.test_synthesizer import trained


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "tts", *trained())
    FAMILY.save_network(folder / "vocoder", loud_generator(small_config()), small_config())
    return folder


@pytest.fixture(scope="module")
def synthesizer(models) -> Synthesizer:
    return Synthesizer.load(models / "tts", models / "vocoder")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    monkeypatch.setattr("jaxvoice.cli.speak.use_compilation_cache", lambda: None)


@pytest.fixture
def speak(models, capsys):
    def run(*arguments: object, vocoder: bool = True) -> tuple[int, list[str], list[str]]:
        voice = ("--vocoder", models / "vocoder") if vocoder else ()
        code = main(["speak", *map(str, (*arguments, "--model", models / "tts", *voice))])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def heard(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000 and soundfile.info(path).subtype == "PCM_16"
    return samples


def assert_says(path: Path, audio: np.ndarray) -> None:
    assert np.abs(heard(path) - np.rint(audio * 32768.0).clip(-32768, 32767)).max() <= 1


def test_speak_writes_the_audio_of_the_synthesizer(speak, synthesizer, tmp_path):
    out = tmp_path / "out.wav"
    code, printed, errors = speak("Hello.", out)
    expected = synthesizer.speak("Hello.")
    assert (code, errors) == (0, []) and len(printed) == 1
    assert str(out) in printed[0] and f"5 phonemes in {expected.mel.shape[1]} frames" in printed[0]
    assert_says(out, expected.audio)


def test_text_is_read_from_a_file(speak, synthesizer, tmp_path):
    source, out = tmp_path / "text.txt", tmp_path / "out.wav"
    source.write_text("\ufeffHello,\nworld.\n", encoding="utf-8")
    for flag in ("-f", "--file"):
        assert speak(flag, source, out, "--speed", "2")[0] == 0
        assert_says(out, synthesizer.speak("Hello, world.", speed=2).audio)
        out.unlink()


def test_phonemes_and_seed_are_used(speak, synthesizer, tmp_path):
    code, printed, _ = speak("HH AH0 L OW1 pau", tmp_path / "out.wav", "--phonemes")
    assert code == 0 and "5 phonemes" in printed[0]
    assert_says(tmp_path / "out.wav", synthesizer.speak("Hello.").audio)
    for seed, name in enumerate(("a.wav", "b.wav")):
        assert speak("Hello.", tmp_path / name, "--seed", seed, vocoder=False)[0] == 0
    assert np.any(heard(tmp_path / "a.wav") != heard(tmp_path / "b.wav"))


def test_custom_words_and_mode_are_used(speak, synthesizer, tmp_path):
    words, out = tmp_path / "words.txt", tmp_path / "out.wav"
    words.write_text("# mine\nworld HH AH0 L OW1\n", encoding="utf-8")
    assert speak("World.", out, "--custom-words", words)[0] == 0
    assert_says(out, synthesizer.speak("Hello.").audio)
    assert speak("don't", out, "--mode", "compat")[0] == 0
    said = [synthesizer.speak("don't", mode=mode) for mode in ("compat", "default")]
    assert_says(out, said[0].audio)
    assert said[0].phonemes != said[1].phonemes
    words.write_text("world HH AH0\n\nhello QQ\n", encoding="utf-8")
    for arguments, message in [
        (("--custom-words", words), "words.txt, line 3: custom word 'hello': 'QQ' (phoneme 1)"),
        (("--custom-words", tmp_path / "none.txt"), "none.txt cannot be read"),
        (("--custom-words", words, "--phonemes"), "cannot be combined with --custom-words"),
        (("--mode", "compat", "--phonemes"), "cannot be combined with --custom-words"),
    ]:
        code, said, errors = speak("Hello.", tmp_path / "none.wav", *arguments)
        assert code == 2 and not said and len(errors) == 1 and message in errors[0]
    with pytest.raises(SystemExit) as failure:
        speak("Hello.", out, "--mode", "strict")
    assert failure.value.code == 2


@pytest.mark.parametrize("text", ["-ish", "--- hello", "-5", "--hello, you", "-fold", "-- and", "- one"])
def test_texts_may_begin_with_a_dash(speak, synthesizer, models, tmp_path, text):
    out = tmp_path / "out.wav"
    expected = synthesizer.speak(text, speed=2).audio
    for arguments in ((text, out, "--speed", "2"), ("--speed", "2", text, out)):
        assert speak(*arguments)[0] == 0
        assert_says(out, expected)
        out.unlink()
    options = ["--speed", "2", "--model", str(models / "tts"), "--vocoder", str(models / "vocoder")]
    assert main(["speak", *options, "--", text, str(out)]) == 0
    assert_says(out, expected)


def test_misspelled_options_are_errors(tmp_path, capsys):
    for arguments, wrong in (
        (["Hello.", "out.wav", "--sped", "2"], "--sped"),
        (["--sped", "2", "Hello.", "out.wav"], "--sped"),
        (["Hello.", "--phonmes", "out.wav"], "--phonmes"),
        (["--phonmes", "out.wav"], "--phonmes"),
        (["-f", "text.txt", "--sped=2", "out.wav"], "--sped=2"),
        (["Hello.", "-phonemes", "out.wav"], "-phonemes"),
    ):
        with pytest.raises(SystemExit) as failure:
            main(["speak", *arguments, "--model", str(tmp_path)])
        printed = capsys.readouterr().err
        assert failure.value.code == 2 and "nrecognized" in printed and wrong in printed


def test_plot_is_written(speak, tmp_path, monkeypatch):
    out, picture = tmp_path / "out.wav", tmp_path / "out.png"
    code, printed, errors = speak("Hello. " * 10, out, "--plot", picture)
    assert (code, errors) == (0, []) and out.exists()
    assert printed[1] == f"{picture}: mel spectrogram, alignment and durations"
    height, width, _ = imread(picture).shape
    monkeypatch.setattr("jaxvoice.cli.speak._PLOTTED", 20)
    monkeypatch.setattr("jaxvoice.cli.speak._ROWS", 2)
    phonemes = printed[0].split(" phonemes")[0].split()[-1]
    printed = speak("Hello. " * 10, out, "--plot", picture)[1]
    assert printed[1].endswith(f"durations of the first 40 of {phonemes} phonemes")
    assert imread(picture).shape[0] > height and imread(picture).shape[1] < width


@pytest.mark.slow
def test_plots_of_long_texts_have_a_row_for_each_part(speak, synthesizer, tmp_path, monkeypatch):
    drawn = {"mels": [], "alignment": [], "durations": []}
    for name, calls in drawn.items():
        original = getattr(pictures, f"draw_{name}")
        monkeypatch.setattr(pictures, f"draw_{name}", lambda *a, c=calls, o=original: (c.append(a), o(*a))[1])
    monkeypatch.setattr("jaxvoice.cli.speak._PLOTTED", 20)
    text = "Hello. " * 10
    assert speak(text, tmp_path / "out.wav", "--plot", tmp_path / "out.png")[0] == 0
    speech = synthesizer.speak(text)
    assert sum(len(call[2]) for call in drawn["alignment"]) == len(speech.phonemes)
    mels = np.concatenate([call[1]["mel spectrogram"] for call in drawn["mels"]], axis=1)
    np.testing.assert_array_equal(mels, speech.mel)
    durations = np.concatenate([call[1]["frames"] for call in drawn["durations"]])
    np.testing.assert_array_equal(durations, speech.durations)
    frames = np.cumsum([0, *(call[1].shape[0] for call in drawn["alignment"])])
    phones = np.cumsum([0, *(call[1].shape[1] for call in drawn["alignment"])])
    for call, frame, phone in zip(drawn["alignment"], frames, phones, strict=False):
        rows, columns = call[1].shape
        np.testing.assert_array_equal(call[1], speech.alignment[frame : frame + rows, phone : phone + columns])


def test_warnings_are_printed(speak, tmp_path):
    code, _, errors = speak("hello " * 40, tmp_path / "out.wav")
    assert code == 0 and len(errors) == 1
    assert errors[0].startswith("jaxvoice: warning: ") and "too few pauses" in errors[0]


def test_invalid_arguments_are_one_line(speak, tmp_path):
    text, latin, out = tmp_path / "text.txt", tmp_path / "latin.txt", tmp_path / "out.wav"
    text.write_text("Hello.", encoding="utf-8")
    latin.write_bytes(b"caf\xe9")
    for arguments, message in [
        (("", out), "nothing to pronounce"),
        (("... !", out), "nothing to pronounce"),
        (("Привет.", out), "'П' (U+041F, CYRILLIC CAPITAL LETTER PE) at character 1 of the text"),
        (("Hello 今日は.", out), "another script"),
        (("A \u2603.", out), "SNOWMAN"),
        (("say {HH QQ}", out), "in '{HH QQ}': 'QQ' (phoneme 2)"),
        (("HH AE3", out, "--phonemes"), "'AE3' (phoneme 2)"),
        (("Hello.", out, "--speed", "0"), "error: --speed is 0.0; it should be"),
        (("Hello.", out, "--seed", "99999999999999999999999"), "it should be a whole number"),
        (("Hello.",), "The number of arguments is 1; it should be 2: TEXT in quotes"),
        (("Hello", "there.", out), "The number of arguments is 3"),
        ((), "The number of arguments is 0"),
        (("Hello.", out, "-f", text), "it should be 1 with -f: OUTPUT"),
        (("Hello.", tmp_path / "out.mp3"), "it should be a .wav file"),
        (("Hello.", tmp_path / "none" / "out.wav"), "folder that does not exist"),
        (("Hello.", out, "--plot", tmp_path / "out.jpg"), "it should be a .png file"),
        (("Hello.", out, "--plot", tmp_path / "none" / "out.png"), "folder that does not exist"),
        ((out, "-f", tmp_path / "gone.txt"), "gone.txt cannot be read"),
        ((out, "-f", latin), "is not UTF-8 text"),
        (("Hello.", out, "--vocoder", tmp_path), "neither a model folder"),
    ]:
        code, said, errors = speak(*arguments, vocoder="--vocoder" not in arguments)
        assert code == 2 and len(errors) == 1 and not said, arguments
        assert errors[0].startswith("jaxvoice: error: ") and message in errors[0]
    assert not out.exists()


def test_arguments_are_checked_before_the_model_is_loaded(speak, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxvoice.pipelines.sources.load_with_method", lambda *_, **__: pytest.fail("it was loaded"))
    out, empty = tmp_path / "out.wav", tmp_path / "empty.txt"
    empty.touch()
    for arguments, message in [
        (("Hello.", out, "--speed", "11"), "--speed is 11.0; it should be"),
        (("Hello.", out, "--seed", "9" * 30), "it should be a whole number"),
        (("...", out), "nothing to pronounce"),
        (("Привет.", out), "CYRILLIC"),
        (("a { b", out), "has no counterpart"),
        ((" ", out, "--phonemes"), "error: TEXT is empty; with --phonemes, it should contain phoneme codes separated"),
        (("-f", empty, out, "--phonemes"), f"error: {empty} is empty; with --phonemes"),
        (("Hello.", out, "--speed", "2", "--length-scale", "2"), "--speed and --length-scale are both given; pass"),
        (("Hello.", out, "--speaker", "a", "--reference", "b.wav"), "--speaker and --reference are both given; pass"),
        (
            ("--reference", "b.wav", "Hello.", out),
            "Write them before --reference, which takes all paths that follow it",
        ),
        (("Hello.", out, "--reference", out), "would overwrite the input"),
        (("Hello.", tmp_path / "none" / "out.wav"), "folder that does not exist"),
        (("Hello.", out, "--custom-words", tmp_path / "gone.txt"), "gone.txt cannot be read"),
    ]:
        code, _, errors = speak(*arguments)
        assert code == 2 and len(errors) == 1 and message in errors[0], (arguments, errors)


def test_vocoders_of_another_contract_are_one_line(models, capsys, tmp_path):
    config = small_config()
    printed = {}
    for name, changes in {"band": {"fmax": 3000.0}, "flavour": {"center": True}}.items():
        mel = dataclasses.replace(config.mel_contract, **changes)
        FAMILY.save_network(tmp_path / name, loud_generator(config), dataclasses.replace(config, mel=mel))
        arguments = ["Hello.", tmp_path / f"{name}.wav", "--model", models / "tts", "--vocoder", tmp_path / name]
        assert main(["speak", *map(str, arguments)]) == 2
        printed[name] = capsys.readouterr().err
        assert printed[name].count("\n") == 1 and "have different mel contracts" in printed[name]
        assert not (tmp_path / f"{name}.wav").exists()
    assert "fmax: 4000.0 != 3000.0" in printed["band"] and "center: False != True" in printed["flavour"]
    model, norms, made = trained()
    centred = dataclasses.replace(made, mel=dataclasses.replace(made.mel, center=True, magnitude_floor=0.0))
    save_model(tmp_path / "centred", model, norms, centred)
    out = tmp_path / "out.wav"
    arguments = ["Hello.", out, "--model", tmp_path / "centred", "--vocoder", models / "vocoder"]
    assert main(["speak", *map(str, arguments)]) == 0 and out.exists()
    warned = capsys.readouterr().err
    assert warned.startswith("jaxvoice: warning: ") and warned.count("\n") == 1 and "half a hop later" in warned


def test_inputs_are_never_overwritten(speak, tmp_path):
    for name, output in (("text.wav", "text.wav"), ("text.png", "out.wav")):
        source = tmp_path / name
        source.write_text("Hello.", encoding="utf-8")
        plot = ("--plot", source) if output == "out.wav" else ()
        code, _, errors = speak("-f", source, tmp_path / output, *plot)
        assert code == 2 and "would overwrite" in errors[0]
        assert source.read_text(encoding="utf-8") == "Hello."


def test_debug_keeps_the_traceback(speak, tmp_path):
    with pytest.raises(TextError, match="nothing to pronounce"):
        speak("...", tmp_path / "out.wav", "--debug")


def test_speech_is_written_to_standard_output(models, synthesizer, capsysbinary):
    model = ("--model", str(models / "tts"), "--vocoder", str(models / "vocoder"))
    assert main(["speak", "Hello.", "-", *model]) == 0
    printed = capsysbinary.readouterr()
    assert printed.err == b""
    samples, rate = soundfile.read(io.BytesIO(printed.out), dtype="int16")
    assert rate == 8000
    np.testing.assert_allclose(samples, np.rint(synthesizer.speak("Hello.").audio * 32768.0), atol=1)
    assert main(["speak", *model, "--", "-ish", "-"]) == 0
    assert capsysbinary.readouterr().out[:4] == b"RIFF"


def test_standard_output_is_no_terminal_and_has_no_plot(speak, tmp_path, monkeypatch):
    code, _, errors = speak("Hello.", "-", "--plot", tmp_path / "plot.png")
    assert code == 2 and "--plot cannot be combined with -" in errors[0]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, _, errors = speak("Hello.", "-")
    assert code == 2 and "standard output is a terminal; redirect it" in errors[0]
