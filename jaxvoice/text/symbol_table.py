"""Symbols of networks that read text as characters or as letters of the IPA: tables, cleaning and ids.

Does not import jax.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from jaxvoice.config import check_field, check_types
from jaxvoice.errors import TextError

_MOST_SYMBOLS, _MOST_SHOWN = 4096, 5

# coqui-ai/TTS `cleaners.py`, `multilingual_cleaners`: some marks become others, and brackets are left out.
_REPLACED = {";": ",", ":": ",", "-": " "} | dict.fromkeys('<>()[]"', "")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class SymbolTable:
    """The symbols of a network in the order of their ids, and how text is converted to them.

    **Raises:** `ConfigError` for values of the wrong type, or a table without characters.
    """

    characters: str
    """One symbol per character. A character that occurs several times has the last of its ids."""
    blank: Literal["last", "first", "none"] = "last"
    """The id that separates symbols: an additional one after those of `characters`, the first one, or none."""
    cleaner: Literal["multilingual", "lowercase", "spaces"] = "multilingual"
    """How text is cleaned. All three combine spaces; `lowercase` also converts to lower case, and `multilingual`
    replaces marks as well, as in YourTTS."""
    alphabet: Literal["characters", "ipa"] = "characters"
    """Whether texts are read as they are written, or have to be converted to the IPA first."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(
            self, "characters", 0 < len(self.characters) <= _MOST_SYMBOLS, f"have 1 to {_MOST_SYMBOLS} characters"
        )

    @property
    def size(self) -> int:
        """The number of ids."""
        return len(self.characters) + (self.blank == "last")

    @property
    def blank_id(self) -> int | None:
        """The id of the blank; `None` if there is none."""
        return {"last": len(self.characters), "first": 0, "none": None}[self.blank]

    def clean(self, text: str) -> str:
        """`text` as the network reads it, without the characters that the cleaner removes."""
        return _SPACE.sub(
            " ", "".join(self._cleaned(character) for character in unicodedata.normalize("NFC", text))
        ).strip()

    def ids(self, text: str, *, blanks: bool = True) -> list[int]:
        """The ids of the symbols of `text`, with the blank before, between and after them.

        **Arguments:** `text`, in any case if the cleaner converts it; `blanks`, whether blanks are added.

        **Raises:** `TextError` if the text contains nothing to read, or characters that the table does not contain. The
        message contains these characters and their positions.
        """
        self.check(text)
        known = _ids_of(self.characters)
        found = [known[character] for character in self.clean(text)]
        if all(not character.isalnum() for character in self.clean(text)):
            raise TextError(f"the text {text[:40]!r} contains nothing to read; it should contain a word.")
        blank = self.blank_id
        return found if blank is None or not blanks else with_blanks(found, blank)

    def check(self, text: str, *, digits: bool = False) -> None:
        """Raise `TextError`, with their positions, for characters of `text` that the table does not contain.

        **Arguments:** `digits`, whether digits are allowed because they are converted to words later.
        """
        known = _ids_of(self.characters)
        composed = unicodedata.normalize("NFC", text)
        unknown = [
            (place, character)
            for place, character in enumerate(composed, 1)
            if not character.isspace()
            and not (digits and character.isdecimal())
            and any(one not in known for one in self._cleaned(character))
        ]
        if unknown:
            raise TextError(
                f"{_shown(unknown)} in {composed[:40]!r} cannot be read by this model. Write the text with the "
                f"characters {self.readable!r}."
            )

    @property
    def readable(self) -> str:
        """The characters that texts may contain, without repetitions and without the first one, which is padding."""
        return "".join(dict.fromkeys(self.characters[1:]))

    def _cleaned(self, character: str) -> str:
        """The characters that `character` becomes, before spaces are combined."""
        if character.isspace():
            return " "
        if self.cleaner == "spaces":
            return character
        lower = character.lower()
        return lower if self.cleaner == "lowercase" else "".join(_REPLACED.get(one, one) for one in lower)


@functools.lru_cache(maxsize=16)
def _ids_of(characters: str) -> Mapping[str, int]:
    return {character: number for number, character in enumerate(characters)}


def with_blanks(ids: Iterable[int], blank: int) -> list[int]:
    """`ids` with `blank` before, between and after them: `2 n + 1` ids."""
    result = [blank]
    for one in ids:
        result += [one, blank]
    return result


def _shown(unknown: list[tuple[int, str]]) -> str:
    parts = [f"{character!r} (character {place})" for place, character in unknown[:_MOST_SHOWN]]
    more = len(unknown) - len(parts)
    return ", ".join(parts) + (f" and {more} more characters" if more else "")


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MARKS = "!'(),-.:;? "
_YOURTTS_LETTERS = (
    _LETTERS
    + "\u00af\u00b7ßàáâãäæçèéêëìíîïñòóôõöùúûüÿāąćēęěī\u0131łńōőœśūűźżǎǐǒǔ"
    + "абвгдежзийклмнопрстуфхцчшщъыьэюяёєіїґ\u2013"
)
_IPA = (
    "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'\u0329'ᵻ"
)

YOURTTS_SYMBOLS = SymbolTable(f"_{_MARKS}{_YOURTTS_LETTERS}{_MARKS}")
"""The 165 symbols of YourTTS: padding, 11 marks, 152 characters, which contain the marks again, and the blank.

Source: coqui-ai/TTS `recipes/vctk/yourtts/train_yourtts.py`."""

VITS_SYMBOLS = SymbolTable(f'_;:,.!?¡¿—…"«»“” {_LETTERS}{_IPA}', blank="first", cleaner="spaces", alphabet="ipa")
"""The 178 symbols of VITS: padding, which is also the blank, marks, letters, and letters of the IPA.

Source: jaywalnut310/vits `text/symbols.py`."""

ENGLISH_CHARACTERS = SymbolTable(f"_{_MARKS}{_LETTERS[26:]}")
"""Lower-case English letters and marks, for small models."""
