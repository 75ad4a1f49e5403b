"""Packing the pronouncing dictionary in the format that the front end reads."""

import gzip
from importlib.resources import files

import pytest

from experiments.pack_dictionary import decode_text, main, pack_entries, read_entries
from jaxvoice.text.dictionary import Dictionary, cmudict

NEWER = """\
'bout B AW1 T
a AH0
a(2) EY1
a's EY1 Z
d'artagnan D AH0 R T AE1 NG Y AH0 N # foreign french
zoë Z OW1 IY0
aa EY2 EY1
"""
OLDER = """\
;;; # CMUdict  --  Major Version: 0.07
'BOUT  B AW1 T
A  AH0
A(1)  EY1
A'S  EY1 Z
AA  EY2 EY1
D'ARTAGNAN  D AH0 R T AE1 NG Y AH0 N
ZOË  Z OW1 IY0
"""


def test_packing_the_shipped_dictionary_again_does_not_change_it() -> None:
    shipped = (files("jaxvoice.text") / "data" / "cmudict.txt.gz").read_bytes()
    lines = gzip.decompress(shipped)
    # In reverse order and in capitals: packing sorts the lines and converts the case.
    again = pack_entries("\n".join(reversed(lines.decode().upper().splitlines())))
    assert gzip.decompress(again) == lines
    assert len(again) == pytest.approx(len(shipped), rel=0.05)  # implementations of zlib differ a little


@pytest.mark.parametrize("text", [NEWER, OLDER])
def test_both_formats_of_the_source_are_read(text: str) -> None:
    found = dict(Dictionary(gzip.decompress(pack_entries(text))).items())
    assert list(found) == ["'bout", "a", "a's", "aa", "d'artagnan", "zoë"]
    assert found["a"] == ("AH0",) and " ".join(found["d'artagnan"]) == "D AH0 R T AE1 NG Y AH0 N"


def test_every_packed_word_can_be_looked_up() -> None:
    packed = Dictionary(gzip.decompress(pack_entries(NEWER)))
    assert all(packed.get(word) == tuple(phones.split()) for word, phones in read_entries(NEWER).items())
    assert packed.get("a(2)") is None and packed.get("zoe") is None


def test_main_writes_the_packed_file(tmp_path, capsys) -> None:
    (tmp_path / "cmudict-0.7b").write_bytes(OLDER.encode("latin-1"))
    main(tmp_path / "cmudict-0.7b", tmp_path / "out.gz")
    assert (tmp_path / "out.gz").read_bytes() == pack_entries(NEWER) == pack_entries(decode_text(NEWER.encode()))
    assert "6 words" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["hello", "hello hh ah0", "<html>", "hello HH AH0 extra words"])
def test_invalid_lines_raise_an_error(line: str) -> None:
    with pytest.raises(SystemExit, match="line 2 is not an entry"):
        pack_entries(f"a AH0\n{line}\n")


def test_names_of_letters_are_kept() -> None:
    """Spelling needs entries such as `b.`, which a stricter parser would drop."""
    assert read_entries("b. B IY1\n")["b."] == " ".join(cmudict().get("b.") or ())
