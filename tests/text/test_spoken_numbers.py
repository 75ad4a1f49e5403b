"""Numbers in words: separators of decimals and of thousands in each language."""

import pytest

from jaxvoice.text.spoken_numbers import spell_numbers


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "1,000 cats", "one thousand cats"),
        ("en", "1,000.5", "one thousand point five"),
        ("en-us", "2,345,678.", "two million, three hundred and forty-five thousand, six hundred and seventy-eight."),
        ("en", "3.5, 7", "three point five, seven"),
        ("en", "1, 2,3", "one, two,three"),
        ("en", "1,00 and 1,0000", "one,zero and one,zero"),
        ("pt", "1.000", "mil"),
        ("pt", "1.000,5", "mil vírgula cinco"),
        ("pt-br", "3,5", "três vírgula cinco"),
        ("pt", "0.125", "zero vírgula um dois cinco"),
        ("pt", "3.5", "três vírgula cinco"),
        ("fr-fr", "10\u202f000 chats", "dix mille chats"),
        ("fr", "1 000 000,5", "un million virgule cinq"),
        ("fr", "06 12 345", "six douze trois cent quarante-cinq"),
        ("de", "1.000 und 2.000", "eintausend und zweitausend"),
        ("de", "24.12.2000", "vierundzwanzig.zwölf.zweitausend"),
        ("xx", "1,000", "1,000"),
        ("en", "1,000,000,000,000,000", "1,000,000,000,000,000"),
    ],
)
def test_separators_are_those_of_the_language(language, text, expected):
    assert spell_numbers(text, language) == expected
