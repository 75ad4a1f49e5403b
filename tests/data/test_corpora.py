import os

import numpy as np
import pytest

from jaxvoice.data import find_corpus
from jaxvoice.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(corpus):
    return [utterance.id for utterance in corpus.utterances]


def test_find_corpus_reads_ljspeech(tmp_path):
    touch(tmp_path, "wavs/b.wav", "wavs/a.flac")
    rows = ["b|Dr. Who|Doctor Who|", "a|only this||", 'c|"quoted, with comma"|x|someone', ""]
    (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    corpus = find_corpus(tmp_path)
    assert corpus.kind == "ljspeech" and ids(corpus) == ["b", "a", "c"]
    assert [utterance.text for utterance in corpus.utterances] == ["Doctor Who", "only this", "x"]
    assert [utterance.audio.name for utterance in corpus.utterances] == ["b.wav", "a.flac", "c.wav"]
    assert corpus.speakers == ("someone",)


@pytest.mark.parametrize("top", ["", "wav48", "wav48_silence_trimmed"])
def test_find_corpus_reads_vctk(tmp_path, top):
    suffix = "_mic1" if top == "wav48_silence_trimmed" else ""
    touch(tmp_path / top, f"p2/p2_001{suffix}.flac", f"p1/p1_002{suffix}.flac", f"p1/p1_001{suffix}.flac")
    if suffix:
        touch(tmp_path / top, "p1/p1_001_mic2.flac")
    touch(tmp_path / top, "p1/._p1_001.flac", "p1/notes.pdf")
    if top:
        touch(tmp_path, "txt/p1/p1_001.txt")
        (tmp_path / "txt/p1/p1_001.txt").write_text("Please call.\n", encoding="utf-8")
    corpus = find_corpus(tmp_path)
    assert corpus.kind == "vctk" and corpus.speakers == ("p1", "p2")
    assert ids(corpus) == ["p1/p1_001", "p1/p1_002", "p2/p2_001"]
    assert corpus.utterances[0].text == ("Please call." if top else "")


def test_find_corpus_reads_any_folder(tmp_path):
    touch(tmp_path, "x.wav", "deep/er/y.MP3", "deep/z.ogg", "deep/z.flac", "readme.txt", ".hidden/w.wav")
    corpus = find_corpus(tmp_path)
    assert corpus.kind == "folder"
    assert ids(corpus) == ["deep/er/y", "deep/z.flac", "deep/z.ogg", "x"]
    assert corpus.speakers == ()


def test_folder_that_links_to_itself_is_visited_once(tmp_path):
    touch(tmp_path, "a/x.wav")
    try:
        (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert ids(find_corpus(tmp_path, "folder")) == ["a/x"]


def test_find_corpus_reads_file_lists_of_hifigan(tmp_path):
    touch(tmp_path, "LJSpeech-1.1/wavs/LJ1.wav", "LJSpeech-1.1/wavs/LJ2.wav", "LJSpeech-1.1/wavs/LJ3.wav")
    lists = tmp_path / "LJSpeech-1.1"
    (lists / "training.txt").write_text("LJ3|text|text\nLJ1|text|text\n", encoding="utf-8")
    (lists / "validation.txt").write_text("LJ2|text|text\n", encoding="utf-8")
    alone = find_corpus(lists / "training.txt")
    assert alone.kind == "filelist" and ids(alone) == ["LJ3", "LJ1"] and not alone.validation_ids
    both = find_corpus(lists)
    assert ids(both) == ["LJ3", "LJ1", "LJ2"] and both.validation_ids == {"LJ2"}
    elsewhere = tmp_path / "list.txt"
    elsewhere.write_text("LJ1.wav|text\n", encoding="utf-8")
    found = find_corpus(elsewhere, audio_dir=lists / "wavs")
    assert ids(found) == ["LJ1"] and found.utterances[0].audio == lists / "wavs" / "LJ1.wav"
    with pytest.raises(DataError, match=r"looked for .*wavs.*LJ1\.wav and"):
        find_corpus(elsewhere)


def test_find_corpus_reads_pairs(tmp_path):
    touch(tmp_path, "audio/b.flac", "audio/a.wav", "audio/unpaired.wav")
    (tmp_path / "mels").mkdir()
    for name in ("b", "a"):
        np.save(tmp_path / "mels" / f"{name}.npy", np.zeros((80, 4), np.float32))
    corpus = find_corpus(tmp_path)
    assert corpus.kind == "pairs" and ids(corpus) == ["a", "b"]
    assert [utterance.audio.name for utterance in corpus.utterances] == ["a.wav", "b.flac"]
    assert [utterance.mel.name for utterance in corpus.utterances if utterance.mel] == ["a.npy", "b.npy"]
    apart = find_corpus(tmp_path / "mels", "pairs", audio_dir=tmp_path / "audio")
    assert [utterance.audio for utterance in apart.utterances] == [utterance.audio for utterance in corpus.utterances]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ljspeech", r"metadata\.csv"),
        ("vctk", "<speaker>"),
        ("filelist", r"training\.txt"),
        ("pairs", r"mels.*\*\.npy"),
        ("folder", r"\.wav, \.flac"),
        ("auto", "2 .m4a"),
        ("lmdb", "kind is 'lmdb'; it should be"),
    ],
)
def test_errors_state_the_expected_names(tmp_path, kind, said):
    touch(tmp_path, "x.m4a", "y.m4a")
    with pytest.raises(DataError, match=said):
        find_corpus(tmp_path, kind)


def test_missing_roots_and_repeated_ids_raise_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_corpus(tmp_path / "nowhere")
    touch(tmp_path, "wavs/a.wav")
    (tmp_path / "metadata.csv").write_text("a|x\na|y\n", encoding="utf-8")
    with pytest.raises(DataError, match="'a'"):
        find_corpus(tmp_path)


def test_find_corpus_reads_real_corpora(real_clips):
    lj = find_corpus(real_clips / "LJSpeech-1.1")
    assert lj.kind == "ljspeech" and len(lj) == 24 and all(utterance.audio.is_file() for utterance in lj.utterances)
    assert lj.utterances[1].text == "in being comparatively modern."
    vctk = find_corpus(real_clips / "vctk")
    assert vctk.kind == "vctk" and len(vctk) == 29
    assert set(vctk.speakers) == {path.name for path in (real_clips / "vctk").iterdir() if path.is_dir()}


def test_vctk_texts_need_not_be_utf8(tmp_path):
    touch(tmp_path, "wav48/p1/p1_001.wav", "txt/p1/p1_001.txt")
    (tmp_path / "txt/p1/p1_001.txt").write_bytes("At the caf\u00e9.".encode("latin-1"))
    assert find_corpus(tmp_path).utterances[0].text == "At the caf\ufffd."


def test_lists_are_not_read_as_vctk(tmp_path):
    (tmp_path / "list.txt").write_text("LJ1|text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"list\.txt is not a folder.*'filelist'"):
        find_corpus(tmp_path / "list.txt", "vctk")


@pytest.mark.parametrize("kind", ["auto", "filelist", "folder"])
def test_special_files_raise_an_error(kind):
    with pytest.raises(DataError, match=r"neither a folder nor a regular file|no such file"):
        find_corpus(os.devnull, kind)


def test_names_that_the_system_refuses_raise_an_error(tmp_path):
    with pytest.raises(DataError, match=r"There is no corpus at .*nnn: .*check the path"):
        find_corpus(tmp_path / ("n" * 400))
    touch(tmp_path, "file")
    with pytest.raises(DataError, match="no such file"):
        find_corpus(tmp_path / "file" / "below")
