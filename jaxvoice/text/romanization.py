"""Chinese, Japanese and Korean in Latin letters, by the libraries of XTTS. Does not import jax."""

import functools
import importlib
import threading
from typing import Any

from jaxvoice.errors import MissingExtraError

_LOCK = threading.Lock()
_EXTRAS = {"zh": ("chinese", "pypinyin"), "ja": ("japanese", "cutlet"), "ko": ("korean", "hangul_romanize")}


def romanize(text: str, language: str) -> str:
    """`text` in Latin letters if `language` is `zh`, `ja` or `ko`, and unchanged otherwise.

    Chinese becomes pinyin with the number of the tone after each syllable, 5 for the neutral one, without spaces
    (pypinyin); Japanese Hepburn romaji (cutlet); Korean the academic transliteration (hangul-romanize). Characters that
    are not of the language remain.

    **Raises:** `MissingExtraError` without the extra of the language, `chinese`, `japanese` or `korean`.
    """
    if language not in _EXTRAS or not text:
        return text
    converter = _converter(language)
    if language == "zh":
        syllables = converter(text, style=importlib.import_module("pypinyin").Style.TONE3, **_PINYIN)
        return "".join(syllable for (syllable, *_) in syllables)
    with _LOCK:  # the dictionaries of Japanese are not safe for threads
        return str(converter(text)).lower()


_PINYIN = {"heteronym": False, "neutral_tone_with_five": True}


@functools.lru_cache(maxsize=3)
def _converter(language: str) -> Any:
    """The function of the library of `language`."""
    module = _package(language)
    if language == "zh":
        return module.pinyin
    if language == "ja":
        return module.Cutlet(ensure_ascii=False).romaji
    rule = importlib.import_module("hangul_romanize.rule")
    return module.Transliter(rule.academic).translit


def _package(language: str) -> Any:
    extra, name = _EXTRAS[language]
    try:
        if language == "ja":
            importlib.import_module("unidic_lite")
        return importlib.import_module(name)
    except ImportError as failure:
        raise MissingExtraError(
            f"Texts in {extra.capitalize()} need the package {failure.name or name!r}, which is not installed: "
            f"pip install 'jaxvoice[{extra}]'."
        ) from failure
