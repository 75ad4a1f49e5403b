"""Text of many languages as the token ids that XTTS reads. Does not import jax.

coqui-ai/TTS `TTS/tts/layers/xtts/tokenizer.py`.
"""

# ruff: noqa: RUF001 - the tables contain ambiguous characters.

import functools
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import tokenizers

from jaxvoice.config import format_value, suggest_names
from jaxvoice.errors import CheckpointError, ConfigError, TextError
from jaxvoice.models.xtts.config import GPTConfig
from jaxvoice.models.xtts.vocabulary import (
    LANGUAGE_TAG,
    SPACE,
    START,
    STOP,
    parse_vocabulary,
    vocabulary_content,
    vocabulary_ids,
)
from jaxvoice.text.multilingual_normalization import normalize_multilingual
from jaxvoice.text.romanization import romanize
from jaxvoice.text.sentences import pack

CHARACTER_LIMITS: Mapping[str, int] = MappingProxyType(
    dict(en=250, de=253, fr=273, es=239, it=213, pt=203, pl=224, zh=82, ar=166, cs=186)
    | dict(ru=182, nl=251, tr=226, ja=71, hu=224, ko=95, hi=150)
)
"""The most characters of a piece of `Tokenizer.split`, by language; all but Hindi as in the release."""
_OTHER_LIMIT = 200
_MOST_CHARACTERS = 50  # of a token; longer texts are not cleaned to count their tokens
_MOST_SHOWN = 5
# Marks that a vocabulary may lack, and what they become then. A vocabulary may lack that, too: – becomes - or a space.
_MARKS = (
    dict.fromkeys("–—―‐‑‒−", "-")
    | dict.fromkeys("،、，､", ",")
    | dict.fromkeys("؛；", ";")
    | dict.fromkeys("؟？", "?")
    | dict.fromkeys("۔。｡।॥．", ".")
    | {"！": "!", "：": ":", "…": "...", "（": "(", "）": ")"}
    | {"!": ".", "?": ".", ";": ",", ":": ",", "-": " ", ",": " ", ".": " "}
    | dict.fromkeys("¿¡\"'", "")
    | dict.fromkeys("·•*_|\\/<>~^`()", " ")
)


class Tokenizer:
    """Converts texts to the token ids of a model, with its vocabulary.

    `encode` cleans a text (`clean`), writes `[en]`, the tag of its language, before it and `[SPACE]` for spaces, and
    applies byte-pair encoding.

    **Arguments:** `vocabulary`, the content of the `vocab.json` of the model; `max_text`, the number of tokens that a
    text does not reach, `GPTConfig.max_text`; `where`, the name of the file, for messages.

    **Raises:** `CheckpointError` for a vocabulary that is not one of XTTS.
    """

    def __init__(self, vocabulary: str | bytes, *, max_text: int = 402, where: str = "the vocabulary") -> None:
        data = vocabulary.encode() if isinstance(vocabulary, str) else bytes(vocabulary)
        self._ids = parse_vocabulary(data, where)
        self._summary = vocabulary_ids(self._ids)
        self.vocabulary = data
        self.max_text = max_text
        self._where = where
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        except Exception as failure:  # the library has no exception of its own
            raise CheckpointError(
                f"{where} cannot be read by the library tokenizers ({failure}); use the vocab.json of the model."
            ) from failure
        self._tokens = {number: token for token, number in self._ids.items()}
        self._characters = frozenset(token for token in self._ids if len(token) == 1)
        tags = {match[1]: number for token, number in self._ids.items() if (match := LANGUAGE_TAG.fullmatch(token))}
        self._tags = {
            code: f"[{code}]" for code, number in tags.items() if self._tokenizer.encode(f"[{code}]").ids == [number]
        }

    @classmethod
    def load(cls, path: str | Path, *, max_text: int = 402) -> "Tokenizer":
        """The tokenizer of the file at `path`, the `vocab.json` of a model.

        **Raises:** `CheckpointError` if the file cannot be read, or is not a vocabulary of XTTS.
        """
        return cls(vocabulary_content(path), max_text=max_text, where=str(path))

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, which is `GPTConfig.text_ids`."""
        return self._summary.size

    @property
    def start_id(self) -> int:
        """The id of `[START]`, which the language model adds before a text."""
        return self._summary.start

    @property
    def stop_id(self) -> int:
        """The id of `[STOP]`, which the language model adds after a text."""
        return self._summary.stop

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages whose tags the vocabulary contains, in the order of their ids."""
        return tuple(sorted(self._tags, key=lambda code: self._ids[self._tags[code]]))

    def check(self, config: GPTConfig) -> None:
        """Raise `ConfigError` unless the vocabulary has the size and the special ids of `config`."""
        if mismatch := self._summary.mismatch(config):
            raise ConfigError(f"{self._where} {mismatch}")

    def language(self, code: str) -> str:
        """The language of the vocabulary for `code`: `zh` is `zh-cn`, and `en-us` is `en`.

        **Raises:** `ConfigError` for a language that the vocabulary does not contain, with the nearest ones.
        """
        if isinstance(code, str):
            lower = code.lower().replace("_", "-")
            base = lower.partition("-")[0]
            regional = [known for known in self.languages if known.partition("-")[0] == base]
            for known in (lower, base, *regional):
                if known in self._tags:
                    return known
        raise ConfigError(f"language is {format_value(code)}; {suggest_names(code, self.languages)}")

    def clean(self, text: str, language: str) -> str:
        """`text` as it is encoded: in lower case, with numbers, money, abbreviations and symbols in words.

        Chinese becomes pinyin, Japanese romaji, and Korean Latin letters. A mark that the vocabulary lacks becomes
        a simpler one: `—` becomes `-` or a space, and `!` becomes `.` or a space.

        **Raises:** as `encode`, without the limit.
        """
        found, unknown = self._cleaned(text, self.language(language))
        if unknown:
            raise TextError(
                f"{_shown(unknown, text)} in {text[:40]!r} cannot be read by this model, whose vocabulary does not "
                "contain it. Leave it out, or write it in words."
            )
        return found

    def encode(self, text: str, language: str) -> list[int]:
        """The ids of `text`, without those of start and stop.

        **Arguments:** `language`, a code of `languages`, or `zh` for `zh-cn`, or with a region, such as `en-us`.

        **Raises:** `TextError` for a text without letters or digits, characters that the vocabulary lacks, such as
        emoji, with their positions, or at least `max_text` tokens (`split` makes shorter pieces); `ConfigError` for a
        language that the vocabulary lacks; `MissingExtraError` for Chinese, Japanese and Korean without the extra of
        the language.
        """
        code = self.language(language)
        if len(" ".join(text.split())) > _MOST_CHARACTERS * self.max_text:
            raise TextError(
                f"the text {text[:40]!r} has {len(text):,} characters, too many for {self.max_text} tokens. Divide it "
                "into sentences, for example with Tokenizer.split."
            )
        cleaned = self.clean(text, code)
        if not _has_words(cleaned):
            raise TextError(f"the text {text[:40]!r} contains nothing to read; it should contain a word.")
        ids = self._encoded(cleaned, code)
        if len(ids) >= self.max_text:
            raise TextError(
                f"the text {text[:40]!r} has {len(ids)} tokens; the model reads fewer than {self.max_text}. Divide it "
                "into sentences, for example with Tokenizer.split."
            )
        return ids

    def split(self, text: str, language: str) -> list[str]:
        """Pieces of `text` that can be encoded and spoken one after another.

        A piece has at most the characters of `CHARACTER_LIMITS` for the language, and fewer than `max_text` tokens. It
        ends at the end of a sentence; a longer sentence is divided at commas, then between words, then between
        characters. The pieces contain all characters of `text` but spaces; marks without a word beside them belong to
        the piece before or after, and are left out if they do not fit.

        **Raises:** as `encode`, but characters that the vocabulary lacks are errors of `encode` alone.
        """
        code = self.language(language)
        base = code.partition("-")[0]
        limit = CHARACTER_LIMITS.get(base, _OTHER_LIMIT)

        @functools.lru_cache(maxsize=64)
        def cleaned(piece: str) -> str:
            return self._cleaned(piece, code)[0]

        def readable(piece: str) -> bool:
            return len(self._encoded(cleaned(piece), code)) < self.max_text

        pieces: list[str] = []
        marks = ""
        for piece in pack(text, base, limit, readable):
            if _has_words(cleaned(piece)):
                joined = f"{marks} {piece}"
                pieces.append(joined if marks and readable(joined) else piece)
                marks = ""
            elif not pieces:
                joined = f"{marks} {piece}".strip()
                marks = joined if readable(joined) else piece
            elif readable(joined := f"{pieces[-1]} {piece}"):
                pieces[-1] = joined
        if not pieces:
            raise TextError(f"the text {text[:40]!r} contains nothing to read; it should contain a word.")
        return pieces

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id; raises `TextError` for an id that the vocabulary does not contain."""
        found = []
        for number in ids:
            token = self._tokens.get(int(number))
            if token is None:
                raise TextError(f"id {number} is not in the vocabulary, whose ids are below {self.vocabulary_size}.")
            found.append(token)
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The cleaned text of `ids`, without the tag of the language, start and stop; raises as `tokens`."""
        left_out = {STOP, START, *self._tags.values()}
        return "".join(" " if token == SPACE else token for token in self.tokens(ids) if token not in left_out).strip()

    def _encoded(self, cleaned: str, code: str) -> list[int]:
        text = self._tags[code] + cleaned.replace(" ", SPACE)
        # The library takes no lone surrogates. They are unknown characters, which `encode` reports.
        return self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8")).ids

    def _cleaned(self, text: str, code: str) -> tuple[str, list[str]]:
        """The cleaned text, in which marks that the vocabulary lacks are replaced, and the unknown characters."""
        parts, unknown = [], []
        for character in clean_text(text, code):
            if character == " " or character in self._characters:
                parts.append(character)
                continue
            replaced = self._replaced(character)
            parts.append(character if replaced is None else replaced)
            if replaced is None:
                unknown.append(character)
        return " ".join("".join(parts).split()), list(dict.fromkeys(unknown))

    def _replaced(self, character: str) -> str | None:
        """What a character becomes that the vocabulary lacks; `None` if the vocabulary lacks a part of that, too."""
        parts = []
        for one in _MARKS.get(character, unicodedata.normalize("NFKC", character).lower()):
            known = one == " " or one in self._characters
            part = one if known else self._replaced(one) if one in _MARKS else None
            if part is None:
                return None
            parts.append(part)
        return "".join(parts)


def clean_text(text: str, language: str) -> str:
    """`text` as XTTS reads it: normalised, and Chinese, Japanese and Korean in Latin letters."""
    return romanize(normalize_multilingual(text, language), language.partition("-")[0].lower())


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _shown(unknown: list[str], text: str) -> str:
    """Characters with their positions in the text, for a message."""
    places = {character: text.lower().find(character) + 1 for character in unknown}
    parts = [
        f"{character!r}" + (f" (character {places[character]})" if places[character] else "")
        for character in unknown[:_MOST_SHOWN]
    ]
    more = len(unknown) - len(parts)
    return ", ".join(parts) + (f" and {more} more characters" if more else "")
