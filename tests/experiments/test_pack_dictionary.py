"""Packing the pronouncing dictionary: what is packed is what the front end reads."""

import gzip
from importlib.resources import files

import pytest

from experiments.pack_dictionary import decoded, entries, main, pack
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


def test_the_shipped_dictionary_packed_again_is_the_same() -> None:
    shipped = (files("jaxvoice.text") / "data" / "cmudict.txt.gz").read_bytes()
    lines = gzip.decompress(shipped)
    # Upside down and in capitals: order and case are the packing's work.
    again = pack("\n".join(reversed(lines.decode().upper().splitlines())))
    assert gzip.decompress(again) == lines
    assert len(again) == pytest.approx(len(shipped), rel=0.05)  # implementations of zlib differ a little


@pytest.mark.parametrize("text", [NEWER, OLDER])
def test_both_spellings_of_the_source_are_read(text: str) -> None:
    found = dict(Dictionary(gzip.decompress(pack(text))).items())
    assert list(found) == ["'bout", "a", "a's", "aa", "d'artagnan", "zoë"]
    assert found["a"] == ("AH0",) and " ".join(found["d'artagnan"]) == "D AH0 R T AE1 NG Y AH0 N"


def test_every_word_can_be_looked_up_again() -> None:
    packed = Dictionary(gzip.decompress(pack(NEWER)))
    assert all(packed.get(word) == tuple(phones.split()) for word, phones in entries(NEWER).items())
    assert packed.get("a(2)") is None and packed.get("zoe") is None


def test_a_file_makes_the_file(tmp_path, capsys) -> None:
    (tmp_path / "cmudict-0.7b").write_bytes(OLDER.encode("latin-1"))
    main(tmp_path / "cmudict-0.7b", tmp_path / "out.gz")
    assert (tmp_path / "out.gz").read_bytes() == pack(NEWER) == pack(decoded(NEWER.encode()))
    assert "6 words" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["hello", "hello hh ah0", "<html>", "hello HH AH0 extra words"])
def test_what_is_no_dictionary_is_refused(line: str) -> None:
    with pytest.raises(SystemExit, match="line 2 is no entry"):
        pack(f"a AH0\n{line}\n")


def test_letters_have_their_names() -> None:
    """What spelling out needs: entries such as `b.`, which a stricter reading would drop."""
    assert entries("b. B IY1\n")["b."] == " ".join(cmudict().get("b.") or ())
