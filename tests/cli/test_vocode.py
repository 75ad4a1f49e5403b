"""`jaxvoice vocode` on valid and invalid files: files, output and exit code."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from jaxvoice.cli import main
from jaxvoice.data import read_mel
from jaxvoice.dsp import check_mel
from jaxvoice.errors import AudioError, MelError
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines import Vocoder
from tests.pipelines.conftest import loud_generator, small_config

RATE = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    FAMILY.save_network(folder, loud_generator(small_config()), small_config())
    return folder


@pytest.fixture(scope="module")
def vocoder(model) -> Vocoder:
    return Vocoder.load(model)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    monkeypatch.setattr("jaxvoice.cli.vocode.use_compilation_cache", lambda: None)


def speech(seconds: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, round(seconds * RATE)).clip(-1, 1)
    samples[len(samples) // 3 : len(samples) // 2] = 0
    return samples.astype(np.float32)


@pytest.fixture
def files(tmp_path, vocoder) -> Callable[[str], Path]:
    """Valid and invalid inputs, by name."""
    mel = vocoder.log_mel(speech(), RATE)
    broken = mel.copy()
    broken[3, 5] = np.nan
    arrays = {
        "mel": mel,
        "batch_of_one": mel[None],
        "double": mel.astype(np.float64),
        "nan": broken,
        "bands": mel[:7],
        "no_frames": mel[:, :0],
        "decibels": 20 / np.log(10) * mel,
        "log10": mel / np.log(10),
        "unit": (mel - mel.min()) / (mel.max() - mel.min()) * 0.9 + 0.1,
        "deeper": np.where(mel < -11, mel - 1, mel),
        "integers": mel.astype(np.int16),
    }

    def path(name: str) -> Path:
        if name in arrays:
            np.save(tmp_path / f"{name}.npy", arrays[name])
            return tmp_path / f"{name}.npy"
        found = tmp_path / f"{name}.wav"
        if name == "speech":
            soundfile.write(found, speech(), RATE)
        elif name == "stereo_16k":
            soundfile.write(found, np.repeat(speech(), 4).reshape(-1, 2), 2 * RATE)
        elif name == "short":
            soundfile.write(found, speech(0.002), RATE)
        elif name == "empty":
            found.touch()
        return found

    return path


def run(capsys, *arguments: object) -> tuple[int, list[str]]:
    code = main(["vocode", *map(str, arguments)])
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["mel", "batch_of_one", "double"])
def test_vocode_writes_the_audio_of_synthesize(name, files, model, vocoder, tmp_path, capsys):
    assert run(capsys, files(name), tmp_path / "out.wav", "--model", model) == (0, [])
    written, rate = soundfile.read(tmp_path / "out.wav", dtype="int16")
    expected = vocoder.synthesize(vocoder.log_mel(speech(), RATE))
    assert rate == RATE and soundfile.info(tmp_path / "out.wav").subtype == "PCM_16"
    assert np.abs(written - np.rint(expected * 32768.0).clip(-32768, 32767)).max() <= 1


def test_recordings_keep_their_length_and_floats_their_precision(files, model, vocoder, tmp_path, capsys):
    arguments = (files("speech"), tmp_path / "out.wav", "--model", model, "--subtype", "float")
    assert run(capsys, *arguments) == (0, [])
    written, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    stored, _ = soundfile.read(files("speech"), dtype="float32")
    assert rate == RATE and soundfile.info(tmp_path / "out.wav").subtype == "FLOAT"
    np.testing.assert_array_equal(written, vocoder.resynthesize(stored, RATE))
    assert run(capsys, files("stereo_16k"), tmp_path / "out.wav", "--model", model) == (0, [])
    assert soundfile.info(tmp_path / "out.wav").frames == len(speech())


def test_other_files_are_converted_after_an_error(files, model, tmp_path, capsys):
    inputs = [files(name) for name in ("speech", "nan", "mel", "empty")]
    code, lines = run(capsys, *inputs, tmp_path / "made" / "here", "--model", model)
    assert code == 2 and len(lines) == 3
    assert lines[0].startswith("jaxvoice: error: ") and "nan.npy" in lines[0] and "NaN" in lines[0]
    assert "empty.wav is empty" in lines[1] and "2 of 4 files failed" in lines[2]
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == ["mel.wav", "speech.wav"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "NaN"),
        ("bands", "(7, 200)"),
        ("no_frames", "no frames"),
        ("decibels", "decibels"),
        ("log10", "base 10; multiply it by ln(10) = 2.3026"),
        ("unit", "normalised to [0, 1]"),
        ("integers", "contains int16 numbers; it should contain floats"),
        ("short", "too short"),
        ("empty", "0 bytes"),
        ("not_there", "missing"),
    ],
)
def test_invalid_inputs_are_one_line(name, said, files, model, tmp_path, capsys):
    code, lines = run(capsys, files(name), tmp_path / "out.wav", "--model", model)
    assert code == 2 and len(lines) == 1
    assert lines[0].startswith("jaxvoice: error: ") and said in lines[0] and name in lines[0]
    assert not (tmp_path / "out.wav").exists()


def test_unusual_mels_are_converted_with_a_warning(files, model, tmp_path, capsys):
    code, lines = run(capsys, files("deeper"), tmp_path / "out.wav", "--model", model)
    assert code == 0 and (tmp_path / "out.wav").exists() and len(lines) == 1
    assert lines[0].startswith("jaxvoice: warning: ") and "below the logarithm's floor" in lines[0]


def test_checks_can_be_disabled(files, model, tmp_path, capsys):
    assert run(capsys, files("log10"), tmp_path / "out.wav", "--model", model, "--no-check") == (0, [])


def test_invalid_outputs_are_one_line(files, model, tmp_path, capsys):
    (tmp_path / "file").write_text("keep me", encoding="utf-8")
    for output, said in [
        (tmp_path / "nowhere" / "out.wav", "it should be in an existing folder"),
        (tmp_path / "file" / "below", "is not a folder. Choose another OUTPUT"),
        (tmp_path / "file", "is not a folder. Choose another OUTPUT"),
        (tmp_path / "out.mp3", "it should be a .wav file or a folder"),
    ]:
        code, lines = run(capsys, files("mel"), output, "--model", model)
        assert code == 2 and len(lines) == 1 and said in lines[0] and str(output) in lines[0]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "keep me"


def test_outputs_overwrite_neither_inputs_nor_each_other(files, model, tmp_path, capsys):
    recording = files("speech")
    before = recording.read_bytes()
    for output in (recording, tmp_path):
        code, lines = run(capsys, recording, output, "--model", model)
        assert code == 2 and "would overwrite" in lines[0]
    (tmp_path / "other").mkdir()
    code, lines = run(capsys, recording, tmp_path / "other" / "speech.wav", tmp_path / "out", "--model", model)
    assert code == 2 and "would both be written to" in lines[0]
    assert recording.read_bytes() == before and not (tmp_path / "out").exists()


def test_contradictory_paths_are_one_line(files, model, tmp_path, capsys):
    mel = files("mel")
    assert "it should be at least 2: one or more INPUT" in run(capsys, mel, "--model", model)[1][0]
    code, lines = run(capsys, mel, files("speech"), tmp_path / "out.wav", "--model", model)
    assert code == 2 and "it should be a folder for several inputs" in lines[0]


def test_several_inputs_are_written_to_a_folder_of_any_name(files, model, tmp_path, capsys):
    mel, recording, folder = files("mel"), files("speech"), tmp_path / "out.v1"
    code, lines = run(capsys, mel, folder, "--model", model)
    assert code == 2 and "it should be a .wav file or a folder" in lines[0] and "create the folder first" in lines[0]
    assert run(capsys, mel, recording, folder, "--model", model)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["mel.wav", "speech.wav"]
    (folder / "mel.wav").unlink()
    assert run(capsys, mel, folder, "--model", model) == (0, [])
    assert (folder / "mel.wav").exists()


def test_npz_archives_are_one_line(files, model, tmp_path, capsys):
    np.savez(tmp_path / "mels.npz", mel=np.load(files("mel")))
    code, lines = run(capsys, tmp_path / "mels.npz", tmp_path / "out.wav", "--model", model)
    assert code == 2 and len(lines) == 1 and "mels.npz is an .npz archive" in lines[0] and ".npy" in lines[0]


def test_folders_without_a_model_are_one_line(files, tmp_path, capsys):
    code, lines = run(capsys, files("mel"), tmp_path / "new", "--model", tmp_path)
    assert code == 2 and len(lines) == 1 and "neither a model folder" in lines[0]
    assert not (tmp_path / "new").exists()


def test_debug_keeps_the_traceback(files, model, tmp_path):
    with pytest.raises(MelError, match="NaN"):
        main(["vocode", str(files("nan")), str(tmp_path / "out.wav"), "--model", str(model), "--debug"])
    with pytest.raises(AudioError, match="missing"):
        main(["vocode", str(files("gone")), str(tmp_path / "out.wav"), "--model", str(model), "--debug"])


def test_conditioned_models_need_a_vector(tmp_path, files, capsys):
    config = small_config(cond_channels=3)
    FAMILY.save_network(tmp_path / "model", loud_generator(config), config)
    arguments = (files("mel"), tmp_path / "out.wav", "--model", tmp_path / "model")
    code, lines = run(capsys, *arguments)
    assert code == 2 and "cond is None; it should be the conditioning vector" in lines[0]
    np.save(tmp_path / "voice.npy", np.ones(3, np.float32))
    assert run(capsys, *arguments, "--cond", tmp_path / "voice.npy") == (0, [])
    code, lines = run(capsys, *arguments, "--cond", tmp_path / "none.npy")
    assert code == 2 and "none.npy is missing" in lines[0]


@pytest.mark.parametrize("kind", ["archive", "damaged archive", "text"])
def test_invalid_conditioning_vectors_are_one_line(kind, tmp_path, files, capsys):
    config = small_config(cond_channels=3)
    FAMILY.save_network(tmp_path / "model", loud_generator(config), config)
    voice = tmp_path / "voice.npy"
    if kind == "text":
        np.save(voice, np.array(["a", "b", "c"]))
    else:
        with voice.open("wb") as file:
            np.savez(file, voice=np.ones(3, np.float32))
    if kind == "damaged archive":
        voice.write_bytes(voice.read_bytes()[:40])
    model = tmp_path / "model"
    code, lines = run(capsys, files("mel"), tmp_path / "out.wav", "--model", model, "--cond", voice)
    assert code == 2 and len(lines) == 1 and "voice.npy is missing or is not a .npy array of numbers" in lines[0]


class _FullDisk(io.BytesIO):
    def write(self, _, /):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_batch_goes_on_when_the_disk_is_full_for_one_file(files, model, tmp_path, monkeypatch, capfd):
    opened = Path.open

    def write_less(path, mode="r", *arguments, **options):
        file = opened(path, mode, *arguments, **options)
        if mode == "wb" and path.name.startswith(".speech.wav"):
            file.close()
            return _FullDisk()
        return file

    monkeypatch.setattr(Path, "open", write_less)
    out = tmp_path / "out"
    assert main(["vocode", str(files("speech")), str(files("mel")), str(out), "--model", str(model)]) == 2
    assert [path.name for path in out.iterdir()] == ["mel.wav"]
    said = capfd.readouterr().err
    assert "speech.wav cannot be written (No space left on device)" in said and "Traceback" not in said


def test_vocode_prints_what_it_wrote(files, model, tmp_path, capsys):
    arguments = ["--model", str(model)]
    assert main(["vocode", str(files("speech")), str(tmp_path / "out.wav"), *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.wav'}: 0.40 s at 8000 Hz\n"
    assert main(["vocode", str(files("speech")), str(tmp_path / "one"), *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'one' / 'speech.wav'}: 0.40 s at 8000 Hz\n"
    inputs = [str(files(name)) for name in ("speech", "stereo_16k", "nan")]
    assert main(["vocode", *inputs, str(tmp_path / "out"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out'}: 2 WAV files, 0.80 s at 8000 Hz\n"
    assert "1 of 3 files failed" in printed.err
    assert main(["vocode", str(files("nan")), str(files("empty")), str(tmp_path / "out"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "2 of 2 files failed; see above" in printed.err


@pytest.mark.parametrize("form", ["tensor", "batch", "dictionary", "legacy", "bfloat16", "transposed view"])
def test_mels_of_torch_are_read(form, files, model, tmp_path, capsys):
    mel = torch.from_numpy(np.load(files("mel")))
    saved = {
        "batch": mel[None],
        "dictionary": {"mel": mel},
        "bfloat16": mel.bfloat16(),
        "transposed view": mel.T.contiguous().T,
    }.get(form, mel)
    torch.save(saved, tmp_path / "mel.pt", _use_new_zipfile_serialization=form != "legacy")
    read = read_mel(tmp_path / "mel.pt")
    np.testing.assert_array_equal(read, mel.bfloat16().float() if form == "bfloat16" else mel)
    assert run(capsys, tmp_path / "mel.pt", tmp_path / "out.wav", "--model", model) == (0, [])


class Hostile:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([torch.zeros(8, 5), torch.zeros(8, 5)], "contains 2 tensors ('0', '1'); it should contain one"),
        ({"text": "none"}, "contains 0 tensors (none)"),
        (torch.zeros(8, 5, dtype=torch.int32), "contains int32 numbers; it should contain floats"),
        (Hostile(), "system"),
    ],
)
def test_invalid_mels_of_torch_are_one_line(saved, said, model, tmp_path, capsys):
    torch.save(saved, tmp_path / "mel.pt")
    code, lines = run(capsys, tmp_path / "mel.pt", tmp_path / "out.wav", "--model", model)
    assert code == 2 and len(lines) == 1 and said in lines[0] and "mel.pt" in lines[0]


def test_frames_of_zeros_at_the_end_are_left_out(files, model, vocoder, tmp_path, capsys):
    mel = np.load(files("mel"))
    padded = np.pad(mel, ((0, 0), (0, 37)))
    np.save(tmp_path / "padded.npy", padded)
    code, lines = run(capsys, tmp_path / "padded.npy", tmp_path / "out.wav", "--model", model)
    assert code == 0 and len(lines) == 1
    assert "the last 37 of" in lines[0] and "they are left out" in lines[0]
    assert soundfile.info(tmp_path / "out.wav").frames == len(vocoder.synthesize(mel))
    assert run(capsys, tmp_path / "padded.npy", tmp_path / "out.wav", "--model", model, "--no-check") == (0, [])
    assert soundfile.info(tmp_path / "out.wav").frames == len(vocoder.synthesize(padded, check=False))
    assert any("ends with zeros (37 frames)" in line for line in check_mel(padded, vocoder.mel))
    assert not any("ends with zeros" in line for line in check_mel(mel, vocoder.mel))
