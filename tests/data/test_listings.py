"""Lists of recordings in the forms of other programs, and the search for the audio that they name."""

import json
import sys

import pytest

from jaxvoice.cli import main
from jaxvoice.data import find_corpus
from jaxvoice.data.alignments.text_files import read_labels
from jaxvoice.data.listed_audio import list_ids
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
            r"line 2 has the offset 3\.5 s; it should be 0",
        ),
        ({"audio_filepath": "data/p1/a.wav", "offset": -1}, r"line 2 has the offset -1 s; it should be 0"),
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


def fields_of(rows, separator="|"):
    return "".join(separator.join(row) + "\n" for row in rows)


def test_separators_in_a_text_are_kept_and_other_lines_do_not_change(tmp_path):
    lines = ["a|One.", "b|either|or", "c|Three.", "d|Four.|"]
    path = make_list(tmp_path, "\n".join(lines), *(f"{name}.wav" for name in "abcd"))
    assert [line[1:3] for line in read(path)] == [("One.", ""), ("either|or", ""), ("Three.", ""), ("Four.", "")]
    assert find_corpus(path).list_fields == "audio|text; '|' kept in 1 text(s), the first in list.txt, line 2"
    path.write_text("a|p1|One.\nb|p2|this | that | both\nc|p1|Three.\n", encoding="utf-8")
    assert [line[1:3] for line in read(path)] == [("One.", "p1"), ("this | that | both", "p2"), ("Three.", "p1")]
    path.write_text("a|One.|p1\nb|this|that|p2\nc|Three.|p1\nd|Four.|p2\n", encoding="utf-8")
    assert [line[1:3] for line in read(path)][1] == ("this|that", "p2")
    path.write_text("a|One.|p1\nb|this|that|p9\nc|Three.|p1\nd|Four.|p2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2 has 4 field\(s\), 'b\|this\|that\|p9'; it should have 3"):
        find_corpus(path)


@pytest.mark.parametrize("name", ["list.txt", "metadata.csv"])
@pytest.mark.parametrize("line", ["e|p1", "e", "e|One.|Two.|Three.|Four."])
def test_lines_of_another_width_raise_an_error_with_their_number(tmp_path, name, line):
    rows = [("a", "Mr. A", "Mister A"), ("b", "Mr. B", "Mister B"), ("c", "Mr. C", "Mister C")]
    text = "\n" + fields_of(rows[:2]) + "\n" + line + "\n" + fields_of(rows[2:])
    path = make_list(tmp_path, text, *(f"wavs/{stem}.wav" for stem in "abc"), name=name)
    with pytest.raises(DataError, match=rf"{name}, line 5 has {line.count('|') + 1} field\(s\).*should have 3"):
        find_corpus(path if name == "list.txt" else tmp_path)


def test_metadata_with_a_separator_in_one_text_raises_an_error(tmp_path):
    make_list(tmp_path, "a|One\nb|this|that\nc|Three\n", "wavs/a.wav", name="metadata.csv")
    with pytest.raises(DataError, match=r"line 2 has 3 field\(s\).*since most lines have 2 \(audio\|text\)"):
        find_corpus(tmp_path)


def test_names_of_audio_alone_may_be_lines(tmp_path):
    path = make_list(tmp_path, "a|One.|p1\nb.wav\nc\nd|Four.|p2\n", "wavs/a.wav", "wavs/c.wav", "wavs/d.wav")
    assert [line[:3] for line in read(path)] == [
        ("a", "One.", "p1"),
        ("b", "", ""),
        ("c", "", ""),
        ("d", "Four.", "p2"),
    ]


def test_lines_without_audio_raise_an_error(tmp_path):
    path = make_list(tmp_path, "a|One.\n|Two.\n", "a.wav")
    with pytest.raises(DataError, match="line 2 has no audio: its first field is empty"):
        find_corpus(path)
    path.write_text("path,text\na,One.\n,Two.\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3 has no audio"):
        find_corpus(path)
    path.write_text("path,text\na,One.\n,\n", encoding="utf-8")
    assert [line[:2] for line in read(path)] == [("a", "One.")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.wav,Well, you see.\nb.wav,Yes\n", ["Well, you see.", "Yes"]),
        ("a.wav,Well, you\nb.wav,Yes, I\n", ["Well, you", "Yes, I"]),
        ("a.wav,one,two\nb.wav,three,four\n", ["one,two", "three,four"]),
        ('a.wav,"Well, you."\nb.wav,Yes, I do.\n', ["Well, you.", "Yes, I do."]),
        ('a.wav,"Well," he said.\nb.wav,Yes\n', ['"Well," he said.', "Yes"]),
        ('a.wav,"Well\nb.wav,Yes"\n', ['"Well', 'Yes"']),
        ('a.wav,"He said ""No"", then left."\nb.wav,Yes\n', ['He said "No", then left.', "Yes"]),
        ("path,text\na.wav,Well, you see.\nb.wav,Yes\n", ["Well, you see.", "Yes"]),
        ('path,text\na.wav,"Well, you\n\nsee."\nb.wav,Yes\n', ["Well, you see.", "Yes"]),
        ('path,text\na.wav,"Well," he said.\nb.wav,Yes\n', ['"Well," he said.', "Yes"]),
        ("a.wav,p225,One.\nb.wav,p226,Two.\n", ["One.", "Two."]),
    ],
)
def test_texts_in_comma_lists_may_contain_commas(tmp_path, text, expected):
    path = make_list(tmp_path, text, "a.wav", "b.wav")
    assert [line[1] for line in read(path)] == expected


def test_broken_quotes_in_a_table_raise_an_error_with_the_line(tmp_path):
    text = 'path,text\na.wav,"One, two."\nb.wav,"Two," he said.\nc.wav,"Three, four."\nd.wav,"Four, five."\n'
    path = make_list(tmp_path, text, "a.wav")
    with pytest.raises(DataError, match=r"line 3 is not a line of a CSV file.*Double the quotation marks"):
        find_corpus(path)


def test_tables_with_a_wrong_number_of_fields_raise_an_error(tmp_path):
    path = make_list(tmp_path, "path,text,speaker\na.wav,Well, yes,p1\n", "a.wav")
    with pytest.raises(DataError, match=r"line 2 has 4 field\(s\).*the header has 3 \(path, text, speaker\)"):
        find_corpus(path)


def test_headers_are_found_before_separators_in_texts(tmp_path):
    path = make_list(tmp_path, "path\tsentence\na.wav\tthis | that\nb.wav\tYes\n", "a.wav", "b.wav")
    assert [line[1] for line in read(path)] == ["this | that", "Yes"]
    path.write_text("path,sentence\na.wav,this | that\nb.wav,Yes\n", encoding="utf-8")
    assert [line[1] for line in read(path)] == ["this | that", "Yes"]
    path.write_text("a.wav\tthis | that\nb.wav\tYes\n", encoding="utf-8")
    assert [line[1] for line in read(path)] == ["this | that", "Yes"]
    path.write_text("path\tsentence\tspeaker\na.wav\tNo\t\nb.wav\tYes\tp1\n", encoding="utf-8")
    assert [line[1:3] for line in read(path)] == [("No", ""), ("Yes", "p1")]


SENTENCES = ["Hello there.", "How are you today?", "It is raining.", "Good night.", "See you soon.", "Where is he?"]
WORDS = ["apple", "pear", "plum", "cherry", "grape", "fig"]
LONE = ["\u4f60\u597d", "\u662f", "\u5929\u6c14\u5f88\u597d", "\u8c22\u8c22\u4f60", "\u518d\u89c1", "\u4eca\u5929"]
NAMES = ["Jane Doe", "John Q. Smith", "Jane Doe"] * 2
ACCENTED = ["J\u00fcrgen", "Zo\u00eb", "\u738b\u82b3"] * 2


@pytest.mark.parametrize("texts", [SENTENCES, WORDS, LONE])
@pytest.mark.parametrize("speakers", [NAMES, ACCENTED, ["p1", "p2", "p3"] * 2, ["7"] * 6, list("abcabc")])
@pytest.mark.parametrize("first", [True, False], ids=["speaker first", "text first"])
def test_columns_are_recognised_by_their_values(tmp_path, texts, speakers, first):
    names = [f"u{place}" for place in range(6)]
    columns = (names, speakers, texts) if first else (names, texts, speakers)
    path = make_list(tmp_path, fields_of(zip(*columns, strict=True)), *(f"{name}.wav" for name in names))
    assert [line[1:3] for line in read(path)] == list(zip(texts, speakers, strict=True))
    assert find_corpus(path).list_fields == ("audio|speaker|text" if first else "audio|text|speaker")


def test_columns_of_larger_lists_are_recognised(tmp_path):
    phones = ["HH AH0 L OW1 DH EH1 R", "HH AW1 AA1 R Y UW1", "IH1 T", "G UH1 D", "S IY1", "W EH1 R"]
    names = [f"u{place}" for place in range(6)]
    files = [f"{name}.wav" for name in names]
    rows = zip(names, NAMES, ["EN"] * 6, SENTENCES, phones, strict=True)
    path = make_list(tmp_path, fields_of(rows), *files)
    assert find_corpus(path).list_fields == "audio|speaker|unused|text|unused"
    rows = zip(names, ["EN"] * 6, NAMES, SENTENCES, strict=True)
    path = make_list(tmp_path, fields_of(rows), *files)
    assert find_corpus(path).list_fields == "audio|unused|speaker|text"
    rows = zip(names, ["1.5", "2.25", "0.5", "1.0", "3.5", "2.0"], SENTENCES, strict=True)
    path = make_list(tmp_path, fields_of(rows), *files)
    assert find_corpus(path).list_fields == "audio|unused|text"
    wake_words = zip(names, ["Hey there"] * 6, [f"spk{place}" for place in range(6)], strict=True)
    path = make_list(tmp_path, fields_of(wake_words), *files)
    assert find_corpus(path).list_fields == "audio|text|speaker"
    prompts = zip(names, ["Mr. X", "Mrs. Y"] * 3, ["Mister X", "Missis Y"] * 3, strict=True)
    path = make_list(tmp_path, fields_of(prompts), *files)
    assert find_corpus(path).list_fields == "audio|text|unused"


def test_training_and_validation_lists_have_the_same_columns(tmp_path):
    names = [f"u{place}" for place in range(7)]
    rows = list(zip(names, [*NAMES, "Jane Doe"], [*WORDS, "melon"], strict=True))
    make_list(tmp_path, fields_of(rows[:6]), *(f"wavs/{name}.wav" for name in names), name="training.txt")
    make_list(tmp_path, fields_of(rows[6:]), name="validation.txt")
    corpus = find_corpus(tmp_path)
    assert [(found.speaker, found.text) for found in corpus.utterances] == [row[1:] for row in rows]
    assert corpus.list_fields == "audio|speaker|text" and corpus.validation_ids == {"u6"}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", ["|", "\t"])
def test_marks_blank_lines_headers_and_quotes(tmp_path, ending, mark, separator):
    rows = [["audio", "text"], ["a.wav", 'He said "No" to me.'], ["b.wav", '"Yes," she said.'], ["c.wav", 'A 5" disk.']]
    text = mark + ending.join(separator.join(row) for row in rows) + 3 * ending + "  " + ending
    path = make_list(tmp_path, text, "a.wav", "b.wav", "c.wav")
    assert [line[1] for line in read(path)] == [row[1] for row in rows[1:]]
    path.write_bytes(text.replace(separator.join(rows[0]) + ending, "").encode())
    assert [line[1] for line in read(path)] == [row[1] for row in rows[1:]]


def test_only_letters_with_slashes_are_drives(tmp_path):
    assert list_ids(["a:1", "b:1", "a:1.wav"]) == ["a:1", "b:1", "a:1"]
    assert list_ids(["a:x/1", "b:x/1"]) == ["a:x/1", "b:x/1"]
    assert list_ids(["C:\\x\\1.wav", "C:/y/1.wav"]) == ["x/1", "y/1"]
    assert list_ids(["C:\\x\\1.wav", "D:\\x\\1.wav"]) == ["C:/x/1", "D:/x/1"]
    assert list_ids(["\\\\h\\p\\1.wav", "\\\\h\\q\\1.wav"]) == ["p/1", "q/1"]
    assert list_ids(["/x/1.wav", "/x/y/../2.wav", "3.wav"]) == ["1", "2", "3"]
    if sys.platform != "win32":
        path = make_list(tmp_path, "a:1|One.\nb:1|Two.\n", "a:1.wav", "b:1.wav")
        assert [line[0] for line in read(path)] == ["a:1", "b:1"]


def test_repeated_recordings_raise_an_error_with_their_lines(tmp_path):
    path = make_list(tmp_path, "a|One.\nb|Two.\na|One.\n", "a.wav", "b.wav", "b.flac")
    with pytest.raises(DataError, match=r"lists 1 recording\(s\) more than once.*list\.txt, line 1: .*line 3: .*Keep"):
        find_corpus(path)
    path.write_text("a|One.\nb.wav|Two.\nb.flac|Two.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 id\(s\) that belong to several.*line 2: .*b\.wav; .*line 3: .*b\.flac\)"):
        find_corpus(path)


def test_preflight_prints_the_columns_of_the_list(tmp_path, speech, capsys):
    import soundfile

    path = make_list(tmp_path, "a|Jane Doe|One two.\nb|Jane Doe|Three.\n")
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", speech(), 22050)
    assert main(["preflight", str(path)]) == 0
    assert "list fields   audio|speaker|text\n" in capsys.readouterr().out
    path.write_text("client_id\tpath\tsentence\nx1\ta.wav\tOne.\nx2\tb.wav\tTwo.\n", encoding="utf-8")
    assert main(["preflight", str(path)]) == 0
    assert "list fields   audio (path), text (sentence), speaker (client_id)\n" in capsys.readouterr().out


def test_lists_with_a_header_name_languages(tmp_path, speech):
    import soundfile

    path = make_list(tmp_path, "path\tsentence\tlocale\na.wav\tOne.\ten\nb.wav\tUm.\tpt-br\n")
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", speech(), 22050)
    corpus = find_corpus(path)
    assert [utterance.language for utterance in corpus.utterances] == ["en", "pt-br"]
    assert corpus.list_fields == "audio (path), text (sentence), language (locale)"
