"""`jaxvoice convert` and `jaxvoice voice`: files, output and exit code."""

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.cli import main
from jaxvoice.errors import AudioError
from jaxvoice.models.hifigan.family import FAMILY as HIFIGAN
from jaxvoice.models.hifivc import FAMILY
from jaxvoice.pipelines import Voice, VoiceConverter
from tests.models.hifivc.small import random_network
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.test_voice_converter import CONFIG, tone


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    FAMILY.save_network(folder, random_network(CONFIG), CONFIG)
    return folder


@pytest.fixture(scope="module")
def converter(model) -> VoiceConverter:
    return VoiceConverter.load(model)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    for command in ("convert", "voice"):
        monkeypatch.setattr(f"jaxvoice.cli.{command}.use_compilation_cache", lambda: None)


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A folder with two recordings, an empty file and a text, and two references beside it."""
    folder = tmp_path / "sources"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(0.5), 16000, subtype="FLOAT")
    soundfile.write(folder / "b.flac", tone(0.4, 24000), 24000)
    (folder / "notes.txt").write_text("notes", encoding="utf-8")
    for name, f0 in (("ref", 200.0), ("ref2", 230.0)):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.6, 24000, f0), 24000, subtype="FLOAT")
    return folder


def run(capsys, *arguments: object) -> tuple[int, str, list[str]]:
    code = main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err.splitlines()


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 24000
    return samples


def test_one_file_is_written(recordings, model, converter, tmp_path, capsys):
    source, reference, output = recordings / "a.wav", tmp_path / "ref.wav", tmp_path / "out.wav"
    code, printed, errors = run(
        capsys, "convert", source, output, "--voice", reference, "--model", model, "--pitch", "-2", "--subtype", "float"
    )
    assert (code, errors) == (0, []) and printed == f"{output}: 0.50 s at 24000 Hz\n"
    np.testing.assert_array_equal(read(output), converter.convert(source, reference, pitch=-2.0))


@pytest.mark.slow
def test_long_recordings_are_written_in_parts(model, converter, tmp_path, capsys, monkeypatch):
    """At a low rate, the file is small, and its conversion has three windows of 30 s."""
    source, output = tmp_path / "long.wav", tmp_path / "out.wav"
    soundfile.write(source, tone(75.0, 2000), 2000, subtype="FLOAT")
    soundfile.write(tmp_path / "ref.wav", tone(0.6, 24000, 200.0), 24000, subtype="FLOAT")
    parts: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []
    convert_chunks = VoiceConverter.convert_chunks

    def spy(*args, **options):
        for part in convert_chunks(*args, **options):
            parts.append(weakref.ref(part))
            alive.append(sum(one() is not None for one in parts))
            yield part

    monkeypatch.setattr(VoiceConverter, "convert_chunks", spy)
    code, printed, errors = run(
        capsys, "convert", source, output, "--voice", tmp_path / "ref.wav", "--model", model, "--subtype", "float"
    )
    assert (code, errors) == (0, []) and printed == f"{output}: 75.00 s at 24000 Hz\n"
    assert len(alive) == 3 and max(alive) <= 2  # the last part, and the one that is written
    np.testing.assert_array_equal(read(output), converter.convert(source, tmp_path / "ref.wav"))


def test_folders_and_voice_files(recordings, model, converter, tmp_path, capsys):
    voice = tmp_path / "speaker.json"
    references = (tmp_path / "ref.wav", tmp_path / "ref2.wav")
    code, printed, errors = run(capsys, "voice", *references, voice, "--model", model)
    assert (code, errors) == (0, []) and printed.startswith(f"{voice}: Voice(2 recordings, ")
    np.testing.assert_array_equal(Voice.load(voice).embedding, converter.encode_voice(list(references)).embedding)
    code, printed, errors = run(capsys, "convert", recordings, tmp_path / "out", "--voice", voice, "--model", model)
    assert (code, errors) == (0, []) and printed == f"{tmp_path / 'out'}: 2 WAV files, 0.90 s at 24000 Hz\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]
    direct = tmp_path / "direct"
    assert run(capsys, "convert", recordings / "a.wav", direct, "--voice", *references, "--model", model)[0] == 0
    np.testing.assert_array_equal(read(direct / "a.wav"), read(tmp_path / "out" / "a.wav"))


def test_other_files_are_converted_after_an_error(recordings, model, tmp_path, capsys):
    soundfile.write(recordings / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(recordings / "clipped.wav", np.clip(4 * tone(0.3), -0.99, 0.99), 16000)
    soundfile.write(recordings / "stereo.wav", np.stack([tone(0.5)] * 2, axis=1), 16000, subtype="FLOAT")
    soundfile.write(recordings / "nan.wav", np.r_[tone(0.3), np.float32(np.nan)], 16000, subtype="FLOAT")
    soundfile.write(recordings / "short.wav", tone(0.03), 16000)
    soundfile.write(recordings / "slow.wav", tone(0.5, 1000), 1000)
    code, printed, errors = run(
        capsys, "convert", recordings, tmp_path / "out", "--voice", tmp_path / "ref.wav", "--model", model
    )
    assert code == 2 and "4 WAV files" in printed and len(errors) == 6
    assert errors[0].startswith("jaxvoice: warning: ") and "clipped.wav" in errors[0]
    for line, message in zip(
        errors[1:],
        [
            "nan.wav contains NaN or infinity in 1 of",
            "short.wav is 0.030 s long; it should be at least 0.040 s",
            "silent.wav: The audio is silent",
            "slow.wav: sample_rate is 1000; it should be in Hz and at least 2000",
            "4 of 8 files failed",
        ],
        strict=True,
    ):
        assert line.startswith("jaxvoice: error: ") and message in line
    np.testing.assert_array_equal(read(tmp_path / "out" / "stereo.wav"), read(tmp_path / "out" / "a.wav"))
    options = ["--voice", str(tmp_path / "ref.wav"), "--model", str(model), "--debug"]
    with pytest.raises(AudioError, match="contains NaN"):
        main(["convert", str(recordings), str(tmp_path / "out"), *options])


@pytest.mark.slow
def test_warning_about_the_pitch_is_printed_once(recordings, tmp_path, capsys):
    assert CONFIG.pitch_encoder is not None
    normalising = replace(CONFIG, pitch_encoder=replace(CONFIG.pitch_encoder, instance_norm=True))
    FAMILY.save_network(tmp_path / "model", random_network(normalising), normalising)
    options = ("--voice", tmp_path / "ref.wav", "--model", tmp_path / "model", "--pitch", "3")
    code, _, errors = run(capsys, "convert", recordings, tmp_path / "out", *options)
    assert code == 0 and sum("a constant shift of F0 has little effect" in line for line in errors) == 1


def test_invalid_arguments_are_one_line(recordings, model, tmp_path, capsys):
    source, reference, output = recordings / "a.wav", tmp_path / "ref.wav", tmp_path / "out.wav"
    voice, silent, short = tmp_path / "voice.json", tmp_path / "silent.wav", tmp_path / "short.wav"
    voice.write_text("{}", encoding="utf-8")
    other = tmp_path / "other.json"
    Voice(np.zeros(5), None, 1.0, 1, "another").save(other)
    soundfile.write(silent, np.zeros(8000), 16000)
    soundfile.write(short, tone(0.01, 24000), 24000)
    HIFIGAN.save_network(tmp_path / "vocoder", loud_generator(small_config()), small_config())
    (tmp_path / "empty").mkdir()
    options = ("--voice", reference, "--model", model)
    for arguments, message in [
        (("convert", source, *options), "it should be at least 2: one or more SOURCE"),
        (("convert", source, output, *options, "--pitch", "high"), "--pitch is high; it should be match, keep"),
        (("convert", source, output, *options, "--pitch", "60"), "--pitch is 60; it should be match, keep"),
        (("convert", tmp_path / "empty", output, *options), "contains no audio files"),
        (("convert", source, source, *options), "would overwrite the input"),
        (("convert", recordings, output, *options), "it should be a folder for several inputs"),
        (("convert", source, output, "--voice", tmp_path / "no.wav", "--model", model), "no.wav is missing"),
        (("convert", source, output, "--voice", silent, "--model", model), "silent.wav: The audio is silent"),
        (("convert", source, output, "--voice", short, "--model", model), "short.wav is 0.01 s long"),
        (("convert", source, output, "--voice", voice, "--model", model), "voice.json contains no voice"),
        (("convert", source, output, "--voice", voice, reference, "--model", model), "pass one voice file"),
        (
            ("convert", recordings, tmp_path / "out", "--voice", other, "--model", model),
            "computed by the model another",
        ),
        (("convert", source, output, "--voice", recordings, "--model", model), "sources, a folder; pass recordings"),
        (("convert", "--model", model, "--voice", reference, source, output), "Write them before --voice"),
        (("convert", source, output, *options, "--seed", "3"), f"--seed is not an option of {model}; omit it"),
        (("convert", source, output, *options, "--seed", 2**64), "--seed is 18446744073709551616; it should be"),
        (("convert", source, output, *options, "--speaker", "a"), f"--speaker is not an option of {model}; omit it"),
        (
            ("convert", source, output, "--voice", reference, "--model", tmp_path / "vocoder"),
            "a voice conversion model",
        ),
        (("voice", reference, "--model", model), "it should be at least 2: one or more REF"),
        (("voice", reference, tmp_path / "voice.npz", "--model", model), "it should be a .json file"),
        (("voice", reference, tmp_path / "no" / "voice.json", "--model", model), "in an existing folder"),
    ]:
        code, _, errors = run(capsys, *arguments)
        assert code == 2 and len(errors) == 1 and errors[0].startswith("jaxvoice: error: "), arguments
        assert message in errors[0]
    assert not output.exists()


def test_help_states_the_need_for_consent(capsys):
    for command in ("convert", "voice"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "docs/consent.md" in capsys.readouterr().out
