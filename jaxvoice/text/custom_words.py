"""Words of the user's own and how they are said, in a text file."""

from pathlib import Path

from jaxvoice.errors import TextError
from jaxvoice.text.front_end import spell_custom_words
from jaxvoice.text.phonemes import ALIGNED, PhoneSet

_MOST_BYTES = 16 * 2**20


def read_custom_words(path: str | Path, phone_set: PhoneSet = ALIGNED) -> dict[str, tuple[str, ...]]:
    """The words in the text file (UTF-8) at `path` and their phonemes in codes of `phone_set`, for `pronounce`.

    A line holds a word and its phonemes, in ARPAbet or in codes of `phone_set`, with spaces between: `jaxvoice JH AE1 K
    S V OY2 S`. Empty lines and those that begin with `#` are left out.

    Raises:
        TextError: the file cannot be read; or a line has no phonemes, an unknown one, no word, or a word that was
            there before; the message names the line.
    """
    words: dict[str, tuple[str, ...]] = {}
    places: dict[str, int] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        word, *codes = line.split() or [""]
        if not word or word.startswith("#"):
            continue
        try:
            spelt = spell_custom_words({word: codes}, phone_set)
        except TextError as error:
            raise TextError(f"{path}, line {number}: {error}") from None
        for key, phones in spelt.items():
            if key in words:
                raise TextError(f"{path}, line {number}: {word!r} was given in line {places[key]} already; keep one")
            words[key], places[key] = phones, number
    return words


def read_text(path: Path) -> str:
    """The text in the file at `path`, with or without a byte order mark.

    Raises:
        TextError: it cannot be read, is larger than 16 MiB, or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise TextError(f"{path} is larger than {_MOST_BYTES:,} bytes; give it in parts.")
        return data.decode("utf-8-sig")
    except OSError as failure:
        raise TextError(f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    except UnicodeDecodeError as failure:
        raise TextError(f"{path} is no text in UTF-8 ({failure.reason}); save it as such.") from failure
