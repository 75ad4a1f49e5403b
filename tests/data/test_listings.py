"""Lists of recordings in the forms of other programs, and the search for the audio that they name."""

import json

import pytest

from jaxvoice.cli import main
from jaxvoice.data import find_corpus
from jaxvoice.data.alignments.text_files import read_labels
from jaxvoice.errors import DataError
from jaxvoice.text import read_custom_words


def make_list(root, text, *files, name="list.txt"):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / name).write_bytes(text.encode())
    return root / name


def read(path, **options):
    """Ids, texts, speakers and files of the corpus at `path`."""
    corpus = find_corpus(path, **options)
    return [
        (
            found.id,
            found.text,
            found.speaker,
            found.audio.relative_to(path.parent if path.is_file() else path).as_posix(),
        )
        for found in corpus.utterances
        if found.audio is not None
    ]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
@pytest.mark.parametrize("name", ["list.txt", "metadata.csv"])
def test_only_newlines_and_carriage_returns_end_lines(tmp_path, character, name):
    text = f"a|Hello{character}there\r\nb|two\rc|three\n\nd|four"
    path = make_list(tmp_path, text, *(f"wavs/{stem}.wav" for stem in "abcd"), name=name)
    found = read(path if name == "list.txt" else tmp_path)
    assert [line[:2] for line in found] == [
        ("a", f"Hello{character}there"),
        ("b", "two"),
        ("c", "three"),
        ("d", "four"),
    ]


def test_only_newlines_and_carriage_returns_end_lines_of_other_files(tmp_path):
    (tmp_path / "a.lab").write_text("0 10000000 AA1 a\u2028b\r10000000 20000000 pau\n", encoding="utf-8", newline="")
    assert [interval.label for interval in read_labels(tmp_path / "a.lab")] == ["AA1", "pau"]
    (tmp_path / "words.txt").write_text("# one\u2028two\nhi HH AY1\n", encoding="utf-8")
    assert list(read_custom_words(tmp_path / "words.txt")) == ["hi"]


@pytest.mark.parametrize("suffix", [".WAV", ".Wav", ".FLAC", ".Mp3"])
def test_suffixes_may_be_in_upper_case(tmp_path, suffix):
    path = make_list(tmp_path, "a|Hello.\n", f"wavs/a{suffix}")
    assert read(path) == [("a", "Hello.", "", f"wavs/a{suffix}")]
    path.write_text(f"wavs/a{suffix.lower()}|Hello.\n", encoding="utf-8")
    assert read(path) == [("wavs/a", "Hello.", "", f"wavs/a{suffix}")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a|p225|Hello there.", "b|p226|Yes."], [("Hello there.", "p225"), ("Yes.", "p226")]),
        (["a|0|Hello there.", "b|1|Yes."], [("Hello there.", "0"), ("Yes.", "1")]),
        (["a|Hello there.|p225", "b|Yes.|p226"], [("Hello there.", "p225"), ("Yes.", "p226")]),
        (["a|p225|EN|Hello there.", "b|p226|EN|Yes."], [("Hello there.", "p225"), ("Yes.", "p226")]),
        (["a|p225|\u4f60\u597d", "b|p226|\u662f"], [("\u4f60\u597d", "p225"), ("\u662f", "p226")]),
        (["a|Mr. One|Mister One", "b|Yes|Yes"], [("Mr. One", ""), ("Yes", "")]),
        (["a|yes|yes", "b|no|no"], [("yes", ""), ("no", "")]),
        (["a|Hello there.|p225", "b"], [("Hello there.", "p225"), ("", "")]),
    ],
)
def test_lists_may_name_speakers(tmp_path, lines, expected):
    path = make_list(tmp_path, "\n".join(lines), "a.wav", "b.wav")
    assert [line[1:3] for line in read(path)] == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a|p225|Hello there."], ("Hello there.", "p225")),
        (["a|Mr. One|Mister One|p225"], ("Mister One", "p225")),
        (["a|Mr. One||p225"], ("Mr. One", "p225")),
        (["wavs/a.wav|Mr. One|Mister One"], ("Mister One", "")),
    ],
)
def test_metadata_may_name_speakers_and_the_folder_of_audio(tmp_path, lines, expected):
    make_list(tmp_path, "\n".join(lines), "wavs/a.wav", name="metadata.csv")
    assert read(tmp_path) == [("a", *expected, "wavs/a.wav")]


@pytest.mark.parametrize("separator", ["|", "\t", ","])
def test_tables_with_a_header_are_read_by_their_columns(tmp_path, separator):
    rows = [["speaker", "audio_file", "duration", "text"], ["p1", "clips/a.wav", "1.5", "Hello there."]]
    path = make_list(tmp_path, "\n".join(map(separator.join, rows)), "clips/a.wav")
    assert read(path) == [("clips/a", "Hello there.", "p1", "clips/a.wav")]


def test_commas_separate_fields_if_the_first_one_is_audio(tmp_path):
    make_list(tmp_path, 'a,"Hello, you."\nb,Yes\n', "wavs/a.wav", "wavs/b.wav", name="metadata.csv")
    assert [line[:2] for line in read(tmp_path)] == [("a", "Hello, you."), ("b", "Yes")]
    path = make_list(tmp_path, "well, a\nwell, b\n", "well, a.wav", "well, b.wav")
    assert [line[:2] for line in read(path)] == [("well, a", ""), ("well, b", "")]
    path.write_text("well, a|Hello, you.\nwell, b|Yes\n", encoding="utf-8")
    assert [line[:2] for line in read(path)] == [("well, a", "Hello, you."), ("well, b", "Yes")]


def test_json_lines_of_nemo_are_read(tmp_path):
    rows = [
        {"audio_filepath": str(tmp_path / "data/p1/a.wav"), "duration": 1.0, "text": "Hello.", "speaker": 7},
        {
            "audio_filepath": str(tmp_path / "data/p2/b.wav"),
            "duration": 1.0,
            "text": "Mr. B",
            "normalized_text": "Mister B",
        },
    ]
    path = make_list(tmp_path, "\n".join(map(json.dumps, rows)), "data/p1/a.wav", "data/p2/b.wav")
    assert read(path) == [("p1/a", "Hello.", "7", "data/p1/a.wav"), ("p2/b", "Mr. B", "", "data/p2/b.wav")]
    path.write_text(json.dumps({"audio_filepath": "data/p1/a.wav"}), encoding="utf-8")
    assert read(path) == [("data/p1/a", "", "", "data/p1/a.wav")]
    for row, said in (
        (
            {"audio_filepath": "data/p1/a.wav", "offset": 3.5},
            r"line 2 is a part of a recording \(its offset is 3\.5 s\)",
        ),
        ({"text": "Hello."}, r"line 2 is .*it should be a JSON object with 'audio_filepath'"),
        ("{", "line 2 is .*it should be a JSON object"),
    ):
        path.write_text(f"{json.dumps(rows[0])}\n{row if isinstance(row, str) else json.dumps(row)}", encoding="utf-8")
        with pytest.raises(DataError, match=said):
            find_corpus(path)


@pytest.mark.parametrize(
    "form", ["DUMMY/{}.wav", "data\\wavs\\{}.wav", "C:\\data\\wavs\\{}.wav", "/far/away/{}.wav", "../{}.flac"]
)
def test_folders_that_do_not_exist_are_left_out(tmp_path, form):
    path = make_list(tmp_path, "".join(f"{form.format(name)}|Hello.\n" for name in "ab"), "wavs/a.wav", "wavs/b.wav")
    if form.endswith(".flac"):
        (tmp_path / "wavs/a.wav").rename(tmp_path / "wavs/a.flac")
        (tmp_path / "wavs/b.wav").rename(tmp_path / "wavs/b.flac")
    beside = [line[3].partition(".")[0] for line in read(path)]
    assert beside == ["wavs/a", "wavs/b"]
    (tmp_path / "wavs").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"Pass the folder of the audio \(audio_dir, --audio-dir\)"):
        find_corpus(path)
    assert len(read(path, audio_dir=tmp_path / "elsewhere")) == 2


def test_folders_that_distinguish_files_are_not_left_out(tmp_path):
    path = make_list(tmp_path, "x/p1/a.wav|Hello.\nx/p2/a.wav|Yes.\n", "a.wav")
    with pytest.raises(DataError, match="names audio that is missing"):
        find_corpus(path)
    make_list(tmp_path, path.read_text(encoding="utf-8"), "p1/a.wav", "p2/a.wav")
    assert [line[3] for line in read(path)] == ["p1/a.wav", "p2/a.wav"]


def test_one_recording_is_a_corpus(tmp_path):
    make_list(tmp_path, "", "a.WAV")
    corpus = find_corpus(tmp_path / "a.WAV")
    assert corpus.kind == "folder" and [(found.id, found.audio) for found in corpus.utterances] == [
        ("a", tmp_path / "a.WAV")
    ]
    with pytest.raises(DataError, match="is a recording, not a list"):
        find_corpus(tmp_path / "a.WAV", "filelist")


def test_preflight_takes_the_folder_that_its_error_asks_for(tmp_path, speech, capsys):
    import soundfile

    path = make_list(tmp_path, "DUMMY/a.wav|Hello.\n", "elsewhere/a.wav")
    soundfile.write(tmp_path / "elsewhere/a.wav", speech(), 22050)
    assert main(["preflight", str(path)]) == 2
    assert "--audio-dir" in capsys.readouterr().err
    assert main(["preflight", str(path), "--audio-dir", str(tmp_path / "elsewhere")]) == 0
    assert main(["preflight", str(tmp_path / "elsewhere/a.wav")]) == 0
    for flag in ("--sample-rate", "--segment", "--num-mels"):
        capsys.readouterr()
        assert main(["preflight", str(path), flag, "0", "--audio-dir", str(tmp_path / "elsewhere")]) == 2
        assert capsys.readouterr().err == f"jaxvoice: error: {flag} is 0; it should be at least 1.\n"
