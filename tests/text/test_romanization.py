"""Chinese, Japanese and Korean in Latin letters."""

# ruff: noqa: RUF001 - the texts are in several scripts.

import sys

import pytest

from jaxvoice.errors import MissingExtraError
from jaxvoice.text import romanization
from jaxvoice.text.romanization import romanize


def test_chinese_becomes_pinyin_with_tones():
    pytest.importorskip("pypinyin", reason="the extra chinese is not installed")
    assert romanize("中心", "zh") == "zhong1xin1"
    assert romanize("你好，我的abc", "zh") == "ni3hao3，wo3de5abc"


def test_japanese_becomes_romaji():
    pytest.importorskip("cutlet", reason="the extra japanese is not installed")
    assert romanize("カツカレーは美味しい", "ja") == "cutlet curry wa oishii"
    assert romanize("三人です。", "ja") == "sannin desu."
    assert "\N{GRINNING FACE}" in romanize("はい\N{GRINNING FACE}", "ja")


def test_korean_becomes_latin_letters():
    pytest.importorskip("hangul_romanize", reason="the extra korean is not installed")
    assert romanize("안녕하세요", "ko") == "annyeonghaseyo".replace("seyo", "se-yo")


def test_other_languages_do_not_change():
    assert romanize("Привет", "ru") == "Привет" and romanize("", "zh") == ""


@pytest.mark.parametrize(
    ("language", "module", "extra"),
    [
        ("zh", "pypinyin", "chinese"),
        ("ja", "unidic_lite", "japanese"),
        ("ja", "cutlet", "japanese"),
        ("ko", "hangul_romanize", "korean"),
    ],
)
def test_missing_extras_are_named(monkeypatch, language, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    romanization._converter.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"pip install 'jaxvoice\[{extra}\]'"):
        romanize("a", language)
