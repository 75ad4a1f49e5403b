"""Tables of embeddings: reading, writing, merging and means."""

import json

import numpy as np
import pytest
import torch

from jaxvoice.data.speaker_table import SpeakerTable
from jaxvoice.errors import CheckpointError, ConfigError, DataError, RefusedError

CLIPS = ("vctk#p225_001", "vctk#p225_002", "vctk#p226_001")
SPEAKERS = ("VCTK_p225", "VCTK_p225", "VCTK_p226")
VECTORS = np.array([[1, 2], [3, 6], [0.25, -1]], np.float32)


@pytest.fixture
def table():
    return SpeakerTable(CLIPS, SPEAKERS, VECTORS)


def coqui(clips=CLIPS, speakers=SPEAKERS, vectors=VECTORS):
    """The content of coqui's file."""
    return {
        clip: {"name": name, "embedding": vector.tolist()}
        for clip, name, vector in zip(clips, speakers, vectors, strict=True)
    }


def equal(a, b):
    return (a.clips, a.speakers, a.names) == (b.clips, b.speakers, b.names) and np.array_equal(
        a.embeddings, b.embeddings
    )


def test_files_of_coqui_are_read(table, tmp_path):
    (tmp_path / "speakers.json").write_text(json.dumps(coqui()))
    assert equal(SpeakerTable.load(tmp_path / "speakers.json"), table)
    torch.save(coqui(), tmp_path / "speakers.pth")
    assert equal(SpeakerTable.load(tmp_path / "speakers.pth"), table)
    tensors = {clip: {**entry, "embedding": torch.tensor(entry["embedding"])[None]} for clip, entry in coqui().items()}
    torch.save(tensors, tmp_path / "tensors.pth")
    assert equal(SpeakerTable.load(tmp_path / "tensors.pth"), table)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_tables_are_written_and_read(table, tmp_path, suffix):
    random = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    table = SpeakerTable(("ä b", "c/d", "e#f"), SPEAKERS, random)
    table.save(tmp_path / f"t{suffix}")
    assert equal(SpeakerTable.load(tmp_path / f"t{suffix}"), table)


def test_json_has_the_form_of_coqui(table, tmp_path):
    table.save(tmp_path / "speakers.json")
    assert json.loads((tmp_path / "speakers.json").read_text()) == coqui()


def test_table_has_clips_speakers_and_means(table):
    assert len(table) == 3 and list(table) == list(CLIPS) and CLIPS[0] in table and "x" not in table
    assert table.ids == {"VCTK_p225": 0, "VCTK_p226": 1} and table.dim == 2
    assert repr(table) == "SpeakerTable(3 clips, 2 speakers, 2 components)"
    np.testing.assert_array_equal(table["vctk#p226_001"], [0.25, -1])
    assert table.clips_of("VCTK_p225") == CLIPS[:2]
    np.testing.assert_array_equal(table.embeddings_of("VCTK_p225"), VECTORS[:2])
    np.testing.assert_array_equal(table.mean("VCTK_p225"), [2, 4])
    np.testing.assert_array_equal(table.mean("VCTK_p225", count=1), [1, 2])
    # Random clips are drawn with repetitions.
    means = {tuple(table.mean("VCTK_p225", count=3, seed=seed).tolist()) for seed in range(40)}
    assert len(means) == 4 and (1, 2) in means and (3, 6) in means
    np.testing.assert_array_equal(table.mean("VCTK_p225", seed=1), table.mean("VCTK_p225", seed=1))


def test_merged_tables_keep_the_numbers_of_speakers(table, tmp_path):
    other = SpeakerTable(("x", "y"), ("B", "A"), np.ones((2, 2), np.float32))
    for number, one in enumerate((table, other)):
        one.save(tmp_path / f"{number}.json")
    merged = SpeakerTable.load(tmp_path / "0.json", tmp_path / "1.json")
    assert merged.ids == {"VCTK_p225": 0, "VCTK_p226": 1, "A": 2, "B": 3}
    np.testing.assert_array_equal(merged["y"], [1, 1])
    with pytest.raises(DataError, match="The clip 'vctk#p225_001' occurs twice"):
        table.merged(table)
    with pytest.raises(DataError, match="2 and 3 components; they should be of one encoder"):
        table.merged(SpeakerTable(("x",), ("A",), np.ones((1, 3), np.float32)))


def test_unknown_names_are_errors_with_the_nearest(table):
    with pytest.raises(DataError, match=r"no speaker 'VCTK_p227'; the nearest known names are 'VCTK_p22[56]'"):
        table.mean("VCTK_p227")
    with pytest.raises(DataError, match=r"no clip 'zzz'; it should be one of the known names: 'vctk#p225_001'"):
        table["zzz"]
    with pytest.raises(DataError, match="count is 3, but 'VCTK_p225' has 2 clips"):
        table.mean("VCTK_p225", count=3)
    for name, value in (("count", 0), ("count", 1.5), ("count", True), ("seed", -1), ("seed", "a")):
        with pytest.raises(ConfigError, match=rf"^{name} is {value!r}; it should be None or a whole number of at"):
            table.mean("VCTK_p225", **{name: value})


def test_invalid_tables_are_errors():
    with pytest.raises(DataError, match="3 clips and 2 speakers"):
        SpeakerTable(CLIPS, SPEAKERS[:2], VECTORS)
    with pytest.raises(DataError, match="The embedding of 'vctk#p225_002' contains NaN"):
        SpeakerTable(CLIPS, SPEAKERS, np.where(VECTORS == 6, np.nan, VECTORS))
    with pytest.raises(DataError, match="contain each speaker once"):
        SpeakerTable(CLIPS, SPEAKERS, VECTORS, ("VCTK_p225",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a table of embeddings"),
        ({}, "is not a table of embeddings"),
        ({"a": 3}, "but the entry 'a' is 3"),
        ({"a": {"name": "s"}}, "the embedding of 'a' in .* is None; it should be a list of numbers"),
        ({"a": {"name": "s", "embedding": [1, "2"]}}, "it should be a list of numbers"),
        ({"a": {"name": "s", "embedding": []}}, "it should have one axis"),
        ({"a": {"name": "s", "embedding": [1e99]}}, r"speakers.json: The embedding of 'a' contains NaN or infinity"),
        (
            {"a": {"name": "s", "embedding": [1, 2]}, "b": {"name": "s", "embedding": [1, 2, 3]}},
            "The embeddings of 'a' and 'b' in .* have 2 and 3 components",
        ),
    ],
)
def test_damaged_json_is_an_error(content, message, tmp_path):
    (tmp_path / "speakers.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        SpeakerTable.load(tmp_path / "speakers.json")


class Hostile:
    def __reduce__(self):
        return (print, ("executed",))


def test_other_files_are_errors(table, tmp_path, capsys):
    torch.save({"a": {"name": "s", "embedding": Hostile()}}, tmp_path / "hostile.pth")
    with pytest.raises((RefusedError, CheckpointError)):
        SpeakerTable.load(tmp_path / "hostile.pth")
    assert "executed" not in capsys.readouterr().out
    for name in ("missing.npz", "missing.json"):
        with pytest.raises(ConfigError, match=rf"{name} cannot be read \(No such file .*\); check the path"):
            SpeakerTable.load(tmp_path / name)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match=r"text.npz cannot be read .* write it again with SpeakerTable.save"):
        SpeakerTable.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", clips=np.array(["a"]))
    with pytest.raises(DataError, match="lacks the arrays speakers, embeddings"):
        SpeakerTable.load(tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", clips=np.array([None]), speakers=np.array(["a"]), embeddings=VECTORS[:1])
    with pytest.raises(DataError, match="cannot be read"):
        SpeakerTable.load(tmp_path / "objects.npz")
    with pytest.raises(DataError, match=r"should end in \.json, \.npz or \.pth"):
        SpeakerTable.load(tmp_path / "speakers.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        SpeakerTable.load(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match=r"should end in \.json or \.npz"):
        table.save(tmp_path / "speakers.pth")
    with pytest.raises(DataError, match="pass at least one file"):
        SpeakerTable.load()
