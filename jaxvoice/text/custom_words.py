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

CUSTOM_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_MAX_BYTES = 16 * 2**20


def read_custom_words(path: str | Path, phone_set: PhoneSet = ALIGNED) -> dict[str, tuple[str, ...]]:
    """Read custom words for `pronounce` from the UTF-8 text file at `path`.

    Each line contains a word and its phonemes, in ARPAbet or in codes of `phone_set`, separated by spaces: `jaxvoice JH
    AE1 K S V OY2 S`. Empty lines and lines that start with `#` are skipped.

    **Returns:** the phonemes of each word, in codes of `phone_set`.

    **Raises:** `TextError` if the file cannot be read, or if a line has no word, no phonemes, an unknown phoneme, or a
    word of an earlier line. The message states the line.
    """
    words: dict[str, tuple[str, ...]] = {}
    line_numbers: dict[str, int] = {}
    for number, line in enumerate(split_lines(read_utf8_file(Path(path))), 1):
        word, *codes = line.split() or [""]
        if not word or word.startswith("#"):
            continue
        try:
            spelled = spell_custom_words({word: codes}, phone_set)
        except TextError as error:
            raise TextError(f"{path}, line {number}: {error}") from None
        for key, phones in spelled.items():
            if key in words:
                raise TextError(
                    f"{path}, line {number}: {word!r} is already in line {line_numbers[key]}; keep one of them."
                )
            words[key], line_numbers[key] = phones, number
    return words


def spell_custom_words(custom_words: CustomWords, phone_set: PhoneSet = ALIGNED) -> dict[str, Phones]:
    """Convert `custom_words` to words in lower case and phonemes in codes of `phone_set`.

    **Raises:** `TextError` if a key is not a word, its phonemes are missing or unknown, or a key or value has another
    type.
    """
    if not isinstance(custom_words, Mapping):
        kind = type(custom_words).__name__
        raise TextError(f"custom_words is of type {kind}; it should be a mapping such as {{'hello': 'HH AH0'}}.")
    custom: dict[str, Phones] = {}
    for word, codes in custom_words.items():
        if not isinstance(word, str):
            raise TextError(f"custom_words has the key {word!r}; it should be text.")
        if not isinstance(codes, Sequence) or not all(isinstance(code, str) for code in codes):
            raise TextError(f"the custom word {word!r} has phonemes {codes!r}; they should be text such as 'HH AH0'.")
        key = fold_to_ascii(word).strip().lower()
        if not CUSTOM_WORD.fullmatch(key):
            raise TextError(
                f"the custom word {word!r} is not one word of letters and digits; add one entry for each word."
            )
        try:
            custom[key] = tuple(phone_set.spell(codes.split() if isinstance(codes, str) else codes))
        except TextError as error:
            raise TextError(f"custom word {word!r}: {error}") from None
        if not custom[key]:
            raise TextError(f"the custom word {word!r} has no phonemes; it should have at least one.")
    return custom


def split_lines(text: str) -> list[str]:
    """The lines of `text`, which end with a newline, a carriage return, or both.

    `str.splitlines` also divides at characters that occur inside texts, such as U+2028, U+0085 and form feeds.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_utf8_file(path: Path) -> str:
    """Read the text in the file at `path`, with or without a byte order mark.

    **Raises:** `TextError` if the file cannot be read, is larger than 16 MiB, or is not UTF-8.
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
