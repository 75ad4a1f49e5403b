"""`jaxvoice embed` and `jaxvoice compare-voices`."""

import json
import shutil

import numpy as np
import pytest
import soundfile

import jaxvoice
from jaxvoice.cli import main
from jaxvoice.data.speaker_table import SpeakerTable
from jaxvoice.models.speaker_encoder import FAMILY
from tests.models.speaker_encoder.small import LSTM_SMALL, random_encoder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and a folder with two speakers."""
    place = tmp_path_factory.mktemp("embed")
    FAMILY.save_network(place / "model", random_encoder(LSTM_SMALL), LSTM_SMALL)
    for speaker, count in (("anna", 2), ("bert", 1)):
        (place / "corpus" / speaker).mkdir(parents=True)
        for number in range(count):
            samples = 0.1 * np.random.default_rng([len(speaker), number]).normal(size=20_000)
            soundfile.write(place / "corpus" / speaker / f"{number}.wav", samples, 16000)
    return place


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_embeddings_of_folders_are_written(place, tmp_path, suffix, capsys):
    output = tmp_path / f"speakers{suffix}"
    assert run("embed", place / "corpus", output, "--model", place / "model") == 0
    assert "SpeakerTable(3 clips, 2 speakers, 12 components)" in capsys.readouterr().out
    table = SpeakerTable.load(output)
    assert table.clips == ("anna/0", "anna/1", "bert/0") and table.names == ("anna", "bert")
    encoder = jaxvoice.SpeakerEncoder.load(place / "model")
    np.testing.assert_allclose(table["anna/1"], encoder.embed(place / "corpus" / "anna" / "1.wav"), atol=1e-6)


def test_other_files_beside_the_folders_of_speakers_are_ignored(place, tmp_path, capsys):
    shutil.copytree(place / "corpus", tmp_path / "corpus")
    (tmp_path / "corpus" / "README.txt").write_text("two speakers")
    assert run("embed", tmp_path / "corpus", tmp_path / "out.json", "--model", place / "model") == 0
    assert SpeakerTable.load(tmp_path / "out.json").clips == ("anna/0", "anna/1", "bert/0")
    (tmp_path / "corpus" / "anna" / "notes").mkdir()
    (tmp_path / "corpus" / "anna" / "notes" / "a.txt").write_text("a folder without recordings")
    assert run("embed", tmp_path / "corpus" / "anna", tmp_path / "out.json", "--model", place / "model") == 0
    assert SpeakerTable.load(tmp_path / "out.json").clips == ("0", "1")


def test_recordings_beside_the_folders_of_speakers_are_errors(place, tmp_path, capsys):
    shutil.copytree(place / "corpus", tmp_path / "corpus")
    shutil.copy(place / "corpus" / "bert" / "0.wav", tmp_path / "corpus" / "c.wav")
    assert run("embed", tmp_path / "corpus", tmp_path / "out.json", "--model", place / "model") == 2
    assert "contains recordings and also folders with recordings, such as anna" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_single_files_are_embedded(place, tmp_path):
    file = place / "corpus" / "bert" / "0.wav"
    assert run("embed", file, tmp_path / "one.json", "--model", place / "model", "--speaker", "B") == 0
    found = json.loads((tmp_path / "one.json").read_text())
    assert list(found) == ["0"] and found["0"]["name"] == "B" and len(found["0"]["embedding"]) == 12


def test_failed_files_are_reported(place, tmp_path, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(20_000), 16000)
    files = (place / "corpus" / "anna" / "0.wav", tmp_path / "silent.wav")
    assert run("embed", *files, tmp_path / "out.npz", "--model", place / "model") == 2
    error = capsys.readouterr().err
    assert "silent.wav" in error and "1 of 2 files failed" in error
    assert len(SpeakerTable.load(tmp_path / "out.npz")) == 1


def test_similarity_of_two_voices_is_printed(place, capsys):
    anna, bert = (place / "corpus" / name for name in ("anna", "bert"))
    assert run("compare-voices", anna / "0.wav", anna / "0.wav", "--model", place / "model") == 0
    assert capsys.readouterr().out.strip() == "1.0000"
    assert run("compare-voices", anna, bert, "--model", place / "model") == 0
    encoder = jaxvoice.SpeakerEncoder.load(place / "model")
    expected = encoder.similarity(encoder.embed([anna / "0.wav", anna / "1.wav"]).mean(0), bert / "0.wav")
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def test_help_names_both_voices(capsys):
    with pytest.raises(SystemExit):
        run("compare-voices", "--help")
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[0] for line in lines if line.startswith(("A ", "B "))] == ["A", "B"]


def test_wrong_arguments_are_errors(place, tmp_path, capsys):
    file, model = place / "corpus" / "bert" / "0.wav", ("--model", place / "model")
    for arguments, message in (
        ((file,), "it should be at least 2"),
        ((file, tmp_path / "out.pth"), "it should be a .json or .npz file"),
        ((file, tmp_path / "missing" / "out.json"), "in an existing folder"),
    ):
        assert run("embed", *arguments, *model) == 2
        assert message in capsys.readouterr().err
    soundfile.write(tmp_path / "0.flac", np.ones(10) * 0.1, 16000)
    soundfile.write(tmp_path / "0.wav", np.ones(10) * 0.1, 16000)
    assert run("embed", tmp_path / "0.flac", tmp_path / "0.wav", tmp_path / "o.json", *model) == 2
    assert "would both be the clip '0'" in capsys.readouterr().err
