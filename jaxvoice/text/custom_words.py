"""Pronunciations of custom words, from a mapping or a text file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxvoice.errors import TextError
from jaxvoice.text.folding import fold_to_ascii
from jaxvoice.text.morphology import Phones
from jaxvoice.text.phonemes import ALIGNED, PhoneSet

CustomWords = Mapping[str, str | Sequence[str]]
"""Maps words, in any case, to their phonemes: codes separated by spaces, or a sequence of codes."""

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_MAX_BYTES = 16 * 2**20


def read_custom_words(path: str | Path, phone_set: PhoneSet = ALIGNED) -> dict[str, tuple[str, ...]]:
    """Read the words in the UTF-8 text file at `path`, with their phonemes in codes of `phone_set`, for `pronounce`.

    Each line contains a word and its phonemes, in ARPAbet or in codes of `phone_set`, separated by spaces: `jaxvoice JH
    AE1 K S V OY2 S`. Empty lines and lines that start with `#` are skipped.

    Raises:
        TextError: the file cannot be read, or a line has no phonemes, an unknown phoneme, no word, or a word of an
            earlier line; the message states the line.
    """
    words: dict[str, tuple[str, ...]] = {}
    line_numbers: dict[str, int] = {}
    for number, line in enumerate(read_utf8_file(Path(path)).splitlines(), 1):
        word, *codes = line.split() or [""]
        if not word or word.startswith("#"):
            continue
        try:
            spelt = spell_custom_words({word: codes}, phone_set)
        except TextError as error:
            raise TextError(f"{path}, line {number}: {error}") from None
        for key, phones in spelt.items():
            if key in words:
                raise TextError(
                    f"{path}, line {number}: {word!r} is already in line {line_numbers[key]}; keep one of them"
                )
            words[key], line_numbers[key] = phones, number
    return words


def spell_custom_words(custom_words: CustomWords, phone_set: PhoneSet = ALIGNED) -> dict[str, Phones]:
    """Convert `custom_words` to words in lower case and phonemes in codes of `phone_set`.

    Raises:
        TextError: a key is not a word, its phonemes are missing or unknown, or a key or value has another type.
    """
    if not isinstance(custom_words, Mapping):
        kind = type(custom_words).__name__
        raise TextError(f"custom_words must map each word to its phonemes, as {{'hello': 'HH AH0 L OW1'}}, got {kind}")
    custom: dict[str, Phones] = {}
    for word, codes in custom_words.items():
        if not isinstance(word, str):
            raise TextError(f"the custom word {word!r} is {type(word).__name__}; write the word as text")
        if not isinstance(codes, Sequence) or not all(isinstance(code, str) for code in codes):
            raise TextError(f"the custom word {word!r} has phonemes {codes!r}; give them as 'HH AH0' or ['HH', 'AH0']")
        key = fold_to_ascii(word).strip().lower()
        if not WORD.fullmatch(key):
            raise TextError(f"the custom word {word!r} is not one word of letters and digits; add one entry per word")
        try:
            custom[key] = tuple(phone_set.spell(codes.split() if isinstance(codes, str) else codes))
        except TextError as error:
            raise TextError(f"custom word {word!r}: {error}") from None
        if not custom[key]:
            raise TextError(f"the custom word {word!r} has no phonemes; give at least one")
    return custom


def read_utf8_file(path: Path) -> str:
    """Read the text in the file at `path`, with or without a byte order mark.

    Raises:
        TextError: the file cannot be read, is larger than 16 MiB, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise TextError(f"{path} is larger than {_MAX_BYTES:,} bytes; split it into smaller files.")
        return data.decode("utf-8-sig")
    except OSError as failure:
        raise TextError(f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    except UnicodeDecodeError as failure:
        raise TextError(f"{path} is not UTF-8 text ({failure.reason}); save it as UTF-8.") from failure
