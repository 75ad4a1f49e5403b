"""Text of untrusted files is escaped before it is printed."""

from jaxvoice.console import printable


def test_unprintable_characters_are_escaped():
    assert printable("a\x1b[31mb\nc\x07\u202e\u200b\ud800\x85") == ("a\\x1b[31mb\\nc\\x07\\u202e\\u200b\\ud800\\x85")
    assert printable("Größe 音") == "Größe 音"
    assert printable("e" + "\u0301" * 3) == "e" + "\\u0301" * 3
