"""Pronunciations of custom words in a text file."""

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text import ARPABET, read_custom_words, text_to_phonemes


@pytest.fixture
def words_of(tmp_path):
    def read(content: str | bytes, **options):
        file = tmp_path / "words.txt"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_custom_words(file, **options)

    return read


def test_phonemes_are_mapped_to_the_phone_set(words_of):
    text = "\ufeff# mine\r\nJaxvoice JH AE1 K S V OY2 S\n\n  her\tHH ER0  \nl'eau  L OW1"
    words = words_of(text)
    jaxvoice = ("JH", "AE1", "K", "S", "V", "OY1", "S")
    assert words == {"jaxvoice": jaxvoice, "her": ("HH", "EU0", "R"), "l'eau": ("L", "OW1")}
    assert words_of(text, phone_set=ARPABET)["her"] == ("HH", "ER0")
    assert text_to_phonemes("JAXVOICE", words) == [*jaxvoice, "pau"]
    assert words_of("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one W AH1 N\n\ntwo T QQ1", r"words\.txt, line 3: custom word 'two': 'QQ1' \(phoneme 2\) is not in"),
        ("one", r"line 1: the custom word 'one' has no phonemes"),
        ("# x\n-- W", r"line 2: the custom word '--' is not one word"),
        ("one W AH1 N\nOne W AO1 N", r"line 2: 'One' is already in line 1"),
        (b"caf\xe9 K", "is not UTF-8 text"),
        ("слово S", "line 1: .*Cyrillic"),
    ],
)
def test_invalid_lines_raise_an_error(words_of, text, message):
    with pytest.raises(TextError, match=message):
        words_of(text)


def test_a_missing_file_raises_an_error(tmp_path):
    with pytest.raises(TextError, match="cannot be read"):
        read_custom_words(tmp_path / "none.txt")
    with pytest.raises(TextError, match="cannot be read"):
        read_custom_words(tmp_path)
