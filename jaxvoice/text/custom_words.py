"""Read pronunciations of custom words from a text file."""

from pathlib import Path

from jaxvoice.errors import TextError
from jaxvoice.text.front_end import spell_custom_words
from jaxvoice.text.phonemes import ALIGNED, PhoneSet

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
