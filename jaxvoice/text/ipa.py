"""Texts in the letters of the IPA, as VITS reads them, with espeak-ng in a process of its own."""

import importlib.util
import json
import re
import subprocess
import sys

from jaxvoice.errors import MissingExtraError, TextError

_MARKS = re.compile(r'(\s*[;:,.!?¡¿—…"«»“”(){}\[\]]+\s*)')
# espeak marks a change of the language, as in "(en)", and the ends of some words.
_FLAGS = re.compile(r"\([a-z-]+\)|_+")
_VOICES = {"en": "en-us", "fr-fr": "fr"}
_MOST_SECONDS = 60


def text_to_ipa(text: str, language: str = "en-us") -> str:
    """`text` in the IPA with stress marks; punctuation is kept.

    **Arguments:** `language`, a voice of espeak-ng, such as `en-us`, `fr-fr` or `pt-br`.

    **Raises:** `MissingExtraError` without the extra `demo`, which installs espeak-ng; `TextError` for an unknown
    language, or a text that espeak-ng cannot read.

    The result is that of phonemizer with punctuation, which jaywalnut310/vits `text/cleaners.py` uses.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingExtraError(
            "This model reads the IPA. To convert texts to the IPA, install espeak-ng: pip install 'jaxvoice[demo]'. "
            "Or pass a text in the IPA to speak_phonemes (--phonemes)."
        )
    parts = _MARKS.split(text.strip())
    words = [part.strip() for part in parts[::2]]
    command = [sys.executable, "-m", "jaxvoice.text.espeak_process", _VOICES.get(language, language)]
    try:
        done = subprocess.run(
            command, input=json.dumps(words).encode(), capture_output=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as failure:
        raise TextError(f"espeak-ng did not read {text[:40]!r} in {_MOST_SECONDS} s; use a shorter text.") from failure
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise TextError(
            f"espeak-ng cannot read {text[:40]!r} in the language {language!r} ({lines[-1]}); pass "
            "another language, or a text in the IPA to speak_phonemes (--phonemes)."
        )
    parts[::2] = [_FLAGS.sub("", word) for word in json.loads(done.stdout)]
    return "".join(parts).strip()
