"""Alignment files of each format, written by hand, and the errors for broken files."""

import codecs
import json

import pytest

from jaxvoice.data.alignments.alignment import Interval
from jaxvoice.data.alignments.filelist import parse_line, read_filelist
from jaxvoice.data.alignments.mfa_files import read_mfa_json, read_mfa_table
from jaxvoice.data.alignments.text_files import read_labels, read_lj_aligned, read_table
from jaxvoice.data.alignments.textgrid import read_textgrid
from jaxvoice.errors import DataError

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 0.75 
tiers? <exists> 
size = 3 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "words" 
        xmin = 0 
        xmax = 0.75 
        intervals: size = 2 
        intervals [1]:
            xmin = 0 
            xmax = 0.5 
            text = "he said ""3 <exists> 4""" 
        intervals [2]:
            xmin = 0.5 
            xmax = 0.75 
            text = "" 
    item [2]:
        class = "IntervalTier" 
        name = "phones" 
        xmin = 0 
        xmax = 0.75 
        intervals: size = 3 
        intervals [1]:
            xmin = 0 
            xmax = 0.125 
            text = "HH" 
        intervals [2]:
            xmin = 0.125 
            xmax = 5e-1 
            text = "IY1" 
        intervals [3]:
            xmin = 0.5 
            xmax = 0.75 
            text = "" 
    item [3]:
        class = "TextTier" 
        name = "marks" 
        xmin = 0 
        xmax = 0.75 
        points: size = 1 
        points [1]:
            number = 0.3 
            mark = "Größe" 
'''
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.75
<exists>
1
"IntervalTier"
"phones"
0
0.75
3
0
0.125
"HH"
0.125
0.5
"IY1"
0.5
0.75
""
"""
PHONES = [Interval("HH", 0, 0.125), Interval("IY1", 0.125, 0.5), Interval("", 0.5, 0.75)]


@pytest.fixture
def written(tmp_path):
    def write(text, name="it.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "data",
    [
        LONG.encode(),
        SHORT.encode(),
        LONG.replace("\n", "\r\n").encode("utf-8-sig"),
        codecs.BOM_UTF16_BE + LONG.encode("utf-16-be"),
        codecs.BOM_UTF16_LE + SHORT.encode("utf-16-le"),
        LONG.encode("utf-16-be"),
        SHORT.encode("utf-16-le"),
        LONG.replace('"phones"', '"Ann - phones"').encode(),
        LONG.replace('"phones"', '"Phone"').encode(),
        SHORT.replace('"phones"', '"ORT-MAU"').encode(),
        SHORT.replace("0.125\n0.5\n", "0.125 ! where the vowel starts, 7 \n0.5\n").encode(),
    ],
    ids=[
        "long",
        "short",
        "windows",
        "utf-16-be",
        "utf-16-le",
        "utf-16-be without mark",
        "utf-16-le without mark",
        "speaker",
        "phone",
        "only tier",
        "comment",
    ],
)
def test_read_textgrid_reads_every_form(written, data):
    assert read_textgrid(written(data)) == PHONES


def test_read_textgrid_reads_another_tier_with_quotes(written):
    assert read_textgrid(written(LONG), "words") == [
        Interval('he said "3 <exists> 4"', 0, 0.5),
        Interval("", 0.5, 0.75),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            LONG.replace('"phones"', '"segments"'),
            "has 0 interval tiers 'phones' .its tiers: 'words', 'segments', 'marks'",
        ),
        (LONG.replace('"words"', '"B - phones"'), "has 2 interval tiers"),
        (LONG[:700], "ends before"),
        (SHORT.replace("\n3\n", "\n30\n"), "ends before"),
        (SHORT.replace("\n3\n", "\n1e999\n"), "the size of a tier is inf; it should be a number of items"),
        (SHORT.replace("\n3\n", "\n-3\n"), "is -3; it should be a number of items"),
        (SHORT.replace('"HH"', "0.1"), "is '0.1'; it should be text in quotes"),
        (SHORT.replace("0.125\n0.5", '0.125\n"late"'), "the times of an interval is .*; it should be a number"),
        (SHORT.replace("<exists>", "<absent>"), "has 0 interval tiers .*none"),
        (LONG.replace("TextGrid", "Pitch", 1), "is not a TextGrid"),
        ("", "ends before the kind of file"),
        (b"ooBinaryFile\x08TextGrid", "binary"),
        ('"Praat chronological TextGrid text file"\n0 1', "chronological"),
        (LONG.encode("latin-1"), "is not UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"a\x00b", "is not UTF-16 text"),
    ],
)
def test_broken_textgrids_raise_an_error(written, text, said):
    with pytest.raises(DataError, match=said) as failure:
        read_textgrid(written(text))
    assert "\n" not in str(failure.value)


def test_missing_files_raise_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.TextGrid cannot be read"):
        read_textgrid(tmp_path / "none.TextGrid")


def test_read_labels_reads_htk(written):
    path = written("0 1250000 hh 12.5 he\n\n1250000 5000000 iy1\n5000000 7500000 sil\n")
    assert read_labels(path) == [Interval("hh", 0, 0.125), Interval("iy1", 0.125, 0.5), Interval("sil", 0.5, 0.75)]


def test_full_context_labels_have_stress(written):
    path = written(
        "0 1000000 x^x-pau+ax=b@x_x/A:0_0_0/B:x-x-x@x-x\n"
        "1000000 2000000 x^pau-ax+b=aw@1_1/A:0_0_0/B:0-0-1@1-1\n"
        "2000000 3000000 pau^ax-b+aw=t@1_3/A:0_0_1/B:1-1-3@1-1\n"
        "3000000 4000000 ax^b-aw+t=pau@2_2/A:0_0_1/B:1-1-3@1-1\n"
    )
    assert [item.label for item in read_labels(path)] == ["pau", "ax", "b", "aw1"]


def test_states_of_a_phone_are_merged(written):
    rows = [("a", 2), ("a", 3), ("a", 4), ("b", 2), ("b", 3), ("b", 2), ("b", 3)]
    text = "".join(f"{i * 10**6} {(i + 1) * 10**6} x-{phone}+y[{state}]\n" for i, (phone, state) in enumerate(rows))
    assert read_labels(written(text)) == [Interval("a", 0, 0.3), Interval("b", 0.3, 0.5), Interval("b", 0.5, 0.7)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 1250000\n", "line 1 is '0 1250000'; it should be 'start end label'"),
        ("0 100 a\n0.0 0.125 hh\n", "line 2 is '0.0 0.125 hh'; it should be .* whole units of 100 ns"),
        ("HE SAID IT\n", "line 1"),
        ("0 " + "9" * 400 + " a\n", "line 1"),
        ('#!MLF!#\n"*/a.lab"\n', "not a plain label file"),
        ("#\n0.1 125 hh\n", "not a plain label file"),
        ("0 100 a\n///\n0 100 b\n", "line 2"),
        (" \n", "contains no labels"),
    ],
)
def test_broken_labels_raise_an_error(written, text, said):
    with pytest.raises(DataError, match=said):
        read_labels(written(text))


def test_read_table_accepts_any_order_of_columns(written):
    first = written("phone,start_s,end_s\nHH,0,0.125\nIY1,0.125,0.5\n,0.5,0.75\n")
    assert read_table(first) == PHONES
    second = written("\ufeffend_s, word, start_s, phone\r\n0.125, he, 0, HH\r\n0.5, he, 0.125, IY1\r\n0.75,,0.5,\r\n")
    assert read_table(second) == PHONES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phone,start,end\nHH,0,1\n", "lacks the column 'start_s'"),
        ("", "lacks the column 'phone'"),
        ("phone,start_s,end_s\nHH,0\n", "line 2 has fewer values"),
        ("phone,start_s,end_s\nHH,0,soon\n", "a time in line 2 is 'soon'; it should be a number"),
        ("phone,start_s,end_s\n", "contains no phones"),
    ],
)
def test_broken_tables_raise_an_error(written, text, said):
    with pytest.raises(DataError, match=said):
        read_table(written(text))


def lj_json(phones, **more):
    words = [{"phones": [{"phone": p, "onset": on, "duration": d} for p, on, d in word]} for word in phones]
    return json.dumps({"ID": "LJ001-0001", "text": "He said.", "utterance": {"words": words}} | more)


def test_read_lj_aligned_reads_json(written):
    path = written(lj_json([[("HH", 0, 125), ("IY1", 125, 375)], [("pau", 500, 250)]]))
    assert read_lj_aligned(path) == ([*PHONES[:2], Interval("pau", 0.5, 0.75)], "He said.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"ID": "LJ001-0001", "text": "He"}', "no 'utterance'"),
        ('{"ID": "LJ0', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "no 'utterance'"),
        (json.dumps({"utterance": {"words": [{"phones": [{"phone": "HH"}]}]}}), "onset"),
        (json.dumps({"utterance": {"words": 3}}), "not have the expected structure"),
        (json.dumps({"utterance": {"words": [{"phones": [{"phone": "HH", "onset": "x", "duration": 1}]}]}}), "'x'"),
    ],
)
def test_broken_lj_aligned_json_raises_an_error(written, text, said):
    with pytest.raises(DataError, match=said):
        read_lj_aligned(written(text))


def test_read_filelist_reads_frames(written):
    path = written("He said.|0 11|11 32|HH IY1|wavs/a.wav\n\nNo.|0|5|N OW1|wavs/b.wav\nbad line\n")
    lines = read_filelist(path)
    assert [(line.row, line.text, line.audio) for line in lines[:2]] == [
        (1, "He said.", "wavs/a.wav"),
        (3, "No.", "wavs/b.wav"),
    ]
    frame = 256 / 22050
    assert parse_line(lines[0], path) == [Interval("HH", 0, 11 * frame), Interval("IY1", 11 * frame, 43 * frame)]
    with pytest.raises(DataError, match=r"line 3 has 1 start\(s\), 1 duration\(s\) and 2 code\(s\)"):
        parse_line(lines[1], path)
    with pytest.raises(DataError, match=r"line 4 has 1 field\(s\); it should have 5"):
        parse_line(lines[2], path)
    with pytest.raises(DataError, match="not whole numbers"):
        parse_line(read_filelist(written("No.|0 1.5|5 4|N OW1|b.wav"))[0], path)
    for damage in ("9" * 30, "9" * 5000):
        with pytest.raises(DataError, match="not whole numbers"):
            parse_line(read_filelist(written(f"No.|0 {damage}|5 4|N OW1|b.wav"))[0], path)
    with pytest.raises(DataError, match="no line of the form"):
        read_filelist(written("stem|text\n"))


MFA_TABLE = """Begin,End,Label,Type,Speaker
0.25,0.75,he,words,ann
0.25,0.4,HH,phones,ann
0.4,0.75,IY1,phones,ann
1.0,1.5,so,words,ann
1.0,1.2,S,phones,ann
1.2,1.5,OW1,phones,ann
"""
MFA_PHONES = [
    Interval("", 0, 0.25),
    Interval("HH", 0.25, 0.4),
    Interval("IY1", 0.4, 0.75),
    Interval("", 0.75, 1.0),
    Interval("S", 1.0, 1.2),
    Interval("OW1", 1.2, 1.5),
]


def mfa_json(name="phones", end=2.0):
    words = {"type": "interval", "entries": [[0.25, 0.75, "he"], [1.0, 1.5, "so"]]}
    phones = [[interval.start, interval.end, interval.label] for interval in MFA_PHONES if interval.label]
    return {"start": 0, "end": end, "tiers": {"words": words, name: {"type": "interval", "entries": phones}}}


def test_read_mfa_table_fills_gaps_with_silence(written):
    path = written(MFA_TABLE)
    assert read_mfa_table(path) == MFA_PHONES == read_mfa_table(path, 1.5)
    assert read_mfa_table(path, 2.0) == [*MFA_PHONES, Interval("", 1.5, 2.0)]


@pytest.mark.parametrize("name", ["phones", "ann - phones"])
def test_read_mfa_json_fills_gaps_with_silence(written, name):
    assert read_mfa_json(written(json.dumps(mfa_json(name), indent=4))) == [*MFA_PHONES, Interval("", 1.5, 2.0)]
    tiers = [{"class": "IntervalTier", "name": key, **tier} for key, tier in mfa_json(name)["tiers"].items()]
    assert read_mfa_json(written(json.dumps({"xmin": 0, "xmax": 1.5, "tiers": tiers}))) == MFA_PHONES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MFA_TABLE.replace("1.2,S", "x,S"), "a time in line 6 is 'x'; it should be a number"),
        (MFA_TABLE.replace("phones", "phoneset"), "contains no phones"),
        (MFA_TABLE.replace(",IY1,phones,ann", ""), "is not a table of the Montreal Forced Aligner"),
        (MFA_TABLE.replace("Type", "Kind"), "is not a table of the Montreal Forced Aligner"),
    ],
)
def test_broken_mfa_tables_raise_an_error(written, text, said):
    with pytest.raises(DataError, match=said):
        read_mfa_table(written(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "does not have the structure"),
        ("[]", "does not have the structure"),
        (json.dumps({"tiers": {"phones": {"entries": [[0, 1]]}}}), "does not have the structure"),
        (json.dumps(mfa_json("segments")), "has 0 interval tiers 'phones' .its tiers: 'words', 'segments'"),
    ],
)
def test_broken_mfa_json_raises_an_error(written, text, said):
    with pytest.raises(DataError, match=said):
        read_mfa_json(written(text))
