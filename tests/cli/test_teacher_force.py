"""`jaxvoice teacher-force`: files, output, the next command and the exit code."""

import shlex

import numpy as np
import pytest

from experiments import hifigan_l40, waveglow
from jaxvoice.cli import main
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.waveglow.family import FAMILY as WAVEGLOW
from jaxvoice.pipelines.teacher_forcing import TeacherForced
from tests.models.gaussian_tts.small import save_model
from tests.pipelines.aligned_small import PHONES, small_corpus, sound, write_corpus
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.small_waveglow import random_waveglow, waveglow_config
from tests.pipelines.test_synthesizer import trained


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    save_model(root / "tts", *trained())
    FAMILY.save_network(root / "voc oder", loud_generator(small_config()), small_config())
    small_corpus(root / "corpus")
    write_corpus(root / "mute", one=(PHONES["tiny"], None), two=(PHONES["short"], None))
    return root


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    monkeypatch.setattr("jaxvoice.cli.teacher_force.use_compilation_cache", lambda: None)


@pytest.fixture
def teacher_force(folders, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["teacher-force", *map(str, arguments), "--model", str(folders / "tts")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_command_writes_pairs_and_prints_the_next_command(teacher_force, folders, tmp_path):
    out = tmp_path / "my pairs"
    write_corpus(folders / "corpus", silent=(PHONES["tiny"], np.zeros(800, np.float32)))
    code, printed, errors = teacher_force(folders / "corpus", out, "--vocoder", folders / "voc oder")
    assert code == 0 and errors == ""
    words = " ".join(printed.split())
    assert "pairs 3 in" in words and "mean L1 " in words and "rejected 1 audio: 1 - wavs/silent.wav is silent" in words
    assert np.load(out / "mels" / "long.npy").shape == (8, 225) and len(list((out / "wavs").iterdir())) == 3
    command = printed.splitlines()[-1].removeprefix("next: ")
    *_, module = python = shlex.split(command)[:3]
    assert python == ["python", "-m", "experiments.hifigan_l40"] and module == hifigan_l40.__name__
    experiment = hifigan_l40.parse(shlex.split(command)[3:])
    assert (experiment.data, experiment.corpus, experiment.init_from) == (out, "pairs", folders / "voc oder")


def test_next_command_is_that_of_the_family_of_the_vocoder(tmp_path):
    WAVEGLOW.save_network(tmp_path / "voc", random_waveglow(waveglow_config()), waveglow_config())
    result = TeacherForced(tmp_path, tmp_path / "pairs", 1, 1.0, 0.1)
    words = shlex.split(result.next_command(tmp_path / "voc"))
    assert words[:3] == ["python", "-m", "experiments.waveglow"]
    experiment = waveglow.parse(words[3:])
    assert (experiment.data, experiment.corpus) == (tmp_path / "pairs", "pairs")
    assert experiment.init_from == tmp_path / "voc"


def test_next_command_without_a_vocoder_has_a_placeholder(teacher_force, folders, tmp_path):
    code, printed, _ = teacher_force(folders / "corpus", tmp_path / "pairs", "--kind", "table", "--batch-size", 2)
    assert code == 0 and "--init-from RUN_OR_MODEL_OF_THE_VOCODER" in printed


def test_recordings_are_read_from_audio_dir(teacher_force, folders, tmp_path):
    code, printed, errors = teacher_force(folders / "mute", tmp_path / "pairs")
    assert code == 2 and not printed and "has no recordings" in errors and "--audio-dir" in errors
    sounds = tmp_path / "sounds"
    write_corpus(sounds, one=(PHONES["tiny"], sound(0.1)))
    code, printed, _ = teacher_force(folders / "mute", tmp_path / "pairs", "--audio-dir", sounds / "wavs")
    assert code == 0 and "no audio: 1" in printed


def test_errors_are_one_line_and_write_nothing(teacher_force, folders, tmp_path):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "x").touch()
    for arguments, message in [
        ((folders / "corpus", tmp_path / "held"), "held contains 'x'; it should be empty"),
        ((tmp_path / "none", tmp_path / "pairs"), "There is no aligned corpus"),
        ((folders / "corpus", tmp_path / "pairs", "--kind", "labels"), "contains no files of an aligned corpus"),
        ((folders / "corpus", tmp_path / "pairs", "--vocoder", tmp_path / "none"), "There is no folder"),
        ((folders / "corpus", tmp_path / "pairs", "--batch-size", "0"), "it should be at least 1"),
    ]:
        code, said, errors = teacher_force(*arguments)
        assert code == 2 and not said and errors.count("\n") == 1, arguments
        assert errors.startswith("jaxvoice: error: ") and message in errors
    assert [path.name for path in tmp_path.iterdir()] == ["held"]
