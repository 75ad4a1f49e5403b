"""Texts in the letters of the IPA, as VITS reads them, with espeak-ng in a process of its own."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence

from jaxvoice.errors import MissingExtraError, TextError

_MARKS = re.compile(r'(\s*[;:,.!?¡¿—…"«»“”(){}\[\]]+\s*)')
# espeak marks a change of the language, as in "(en)", and the ends of some words.
_FLAGS = re.compile(r"\([a-z-]+\)|_+")
_VOICES = {"en": "en-us", "fr-fr": "fr"}
_MOST_SECONDS = 60
_MOST_TEXTS = 500  # texts that one process converts


def text_to_ipa(text: str, language: str = "en-us") -> str:
    """`text` in the IPA with stress marks; punctuation is kept.

    **Arguments:** `language`, a voice of espeak-ng, such as `en-us`, `fr-fr` or `pt-br`.

    **Raises:** `MissingExtraError` without the extra `demo`, which installs espeak-ng; `TextError` for an unknown
    language, or a text that espeak-ng cannot read.

    The result is that of phonemizer with punctuation, which jaywalnut310/vits `text/cleaners.py` uses.
    """
    return texts_to_ipa([text], language)[0]


def texts_to_ipa(texts: Sequence[str], language: str = "en-us") -> list[str]:
    """`text_to_ipa` for each of many texts, which few processes convert."""
    if not language:
        raise TextError("language is ''; it should be a voice of espeak-ng, such as 'en-us', 'fr-fr' or 'pt-br'.")
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingExtraError(
            "This model reads the IPA. To convert texts to the IPA, install espeak-ng: pip install 'jaxvoice[demo]'. "
            "Or pass a text in the IPA to speak_phonemes (--phonemes)."
        )
    return [
        ipa
        for start in range(0, len(texts), _MOST_TEXTS)
        for ipa in _converted(texts[start : start + _MOST_TEXTS], language)
    ]


def _converted(texts: Sequence[str], language: str) -> list[str]:
    """The IPA of texts that one process converts."""
    divided = [_MARKS.split(text.strip()) for text in texts]
    words = [part.strip() for parts in divided for part in parts[::2]]
    shown = repr(texts[0][:40]) if len(texts) == 1 else f"{len(texts)} texts from {texts[0][:40]!r} on"
    command = [sys.executable, "-m", "jaxvoice.text.espeak_process", _VOICES.get(language, language)]
    try:
        done = subprocess.run(
            command, input=json.dumps(words).encode(), capture_output=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as failure:
        raise TextError(f"espeak-ng did not read {shown} in {_MOST_SECONDS} s; use shorter texts.") from failure
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise TextError(
            f"espeak-ng cannot read {shown} in the language {language!r} ({lines[-1]}); pass "
            "another language, or a text in the IPA to speak_phonemes (--phonemes)."
        )
    found = iter(json.loads(done.stdout))
    for parts in divided:
        parts[::2] = [_FLAGS.sub("", next(found)) for _ in parts[::2]]
    return ["".join(parts).strip() for parts in divided]
