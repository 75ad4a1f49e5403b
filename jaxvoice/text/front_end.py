"""Text to phonemes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxvoice.errors import TextError
from jaxvoice.text.folding import fold
from jaxvoice.text.morphology import Phones, add_s
from jaxvoice.text.normalization import HELD, expand, hold_braces, restore
from jaxvoice.text.phonemes import ALIGNED, PAUSE, VOWELS, PhoneSet
from jaxvoice.text.words import How, pronounce_word

Mode = Literal["default", "compat"]
CustomWords = Mapping[str, str | Sequence[str]]

CANDIDATE = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
TOKEN = re.compile(
    rf"(?P<held>{HELD})"
    r"|(?P<word>(?:(?<![A-Za-z])'(?:tis|twas|em|til|bout|cause|round|n)\b)'?|[A-Za-z]+in'(?![A-Za-z])"
    r"|[A-Za-z]+(?:'[A-Za-z]+)*)"
    r"|(?P<pause>[,.;:!?()]+|-{2,}|(?<!\S)-+(?!\S))"
)
COMPAT_TOKEN = re.compile(rf"{HELD}|[^\W{HELD}]+|[^\w\s{HELD}]+")
COMPAT_PAUSES = frozenset("!?.,-:;\"'()")


@dataclass(frozen=True)
class Word:
    """A piece of the text, its phoneme codes, and how they were found.

    `codes` of a pause that is part of the one before it is empty: the codes of all words make up the pronunciation.
    """

    text: str
    codes: tuple[str, ...]
    how: How


@dataclass(frozen=True)
class Pronunciation:
    """What a text sounds like: the `text` as normalised and its `words` in order."""

    text: str
    words: tuple[Word, ...]

    @property
    def codes(self) -> list[str]:
        """The phoneme codes of all words, one after another."""
        return [code for word in self.words for code in word.codes]


def text_to_phonemes(
    text: str, custom_words: CustomWords | None = None, *, mode: Mode = "default", phone_set: PhoneSet = ALIGNED
) -> list[str]:
    """The phoneme codes of an English text; `pronounce` tells also which word they belong to and how they were found.

    Raises:
        TextError: as `pronounce`.
    """
    return pronounce(text, custom_words, mode=mode, phone_set=phone_set).codes


def pronounce(
    text: str, custom_words: CustomWords | None = None, *, mode: Mode = "default", phone_set: PhoneSet = ALIGNED
) -> Pronunciation:
    """The pronunciation of an English text, word by word.

    `default` mode normalises the text, keeps apostrophes inside words, pauses at punctuation (once where several marks
    meet), and ends with one pause. `compat` mode does as the published `lj_speech.py` of LJ-Speech-aligned: figures and
    abbreviations are not written out, every run of the marks `!?.,-:;"'()` is a pause, also the apostrophe of "don't",
    ER becomes EH1, and no pause is added at the end. Words outside the dictionary went through espeak there, figures,
    symbols, letters with accents, curly quotes and long dashes among them. Here such quotes, dashes and letters are
    first made plain as in the default mode, so that these marks are pauses; words take the same way as in that mode and
    then that code's mapping, in which every vowel of such a word is stressed.

    `custom_words` maps words, in any case, to ARPAbet or to codes of `phone_set`, as a string or a sequence. In both
    modes phonemes can be written in braces inside the text, `{HH AH0 L OW1} world`; pauses among them are all kept.

    Raises:
        TextError: the text has nothing to say, has characters that English cannot say, or names a phoneme that is not
            in `phone_set`; or `mode` is unknown or does not go with `phone_set`.
    """
    if mode not in ("default", "compat"):
        raise TextError(f"there is no mode {mode!r}; use 'default' or 'compat'")
    if mode == "compat" and phone_set.codes != ALIGNED.codes:
        raise TextError(f"compat mode speaks in the codes of 'aligned', not of {phone_set.name!r}; use mode='default'")
    customs = spell_custom_words({} if custom_words is None else custom_words, phone_set)
    kept, folded = hold_braces(fold(text))
    given = [Word(written, _given(written, phone_set), "given") for written in kept]
    if mode == "compat":
        normal, words = folded.lower(), _compat_words(folded.lower(), given, customs)
    else:
        folded, held = _hold_customs(folded, given, customs)
        normal = expand(folded)
        words = _linked(_paused(_default_words(normal, held, phone_set)), phone_set)
        normal = restore(normal, [word.text for word in held])
    words = tuple(words)
    if not any(word.codes for word in words):
        raise TextError(f"the text {text[:40]!r} has nothing to say; give it at least one word")
    return Pronunciation(normal, words)


def spell_custom_words(custom_words: CustomWords, phone_set: PhoneSet = ALIGNED) -> dict[str, Phones]:
    """`custom_words` as `pronounce` uses them: words in small letters, phonemes in codes of `phone_set`.

    Raises:
        TextError: what should be a word is none, or its phonemes are none or unknown; or these are of another type.
    """
    if not isinstance(custom_words, Mapping):
        kind = type(custom_words).__name__
        raise TextError(
            f"custom_words should map each word to its phonemes, as {{'hello': 'HH AH0 L OW1'}}, not {kind}"
        )
    customs: dict[str, Phones] = {}
    for word, codes in custom_words.items():
        if not isinstance(word, str):
            raise TextError(f"the custom word {word!r} is not text but {type(word).__name__}; give the word in letters")
        if not isinstance(codes, Sequence) or not all(isinstance(code, str) for code in codes):
            raise TextError(f"the custom word {word!r} has phonemes {codes!r}; give them as 'HH AH0' or ['HH', 'AH0']")
        key = fold(word).strip().lower()
        if not CANDIDATE.fullmatch(key):
            raise TextError(f"the custom word {word!r} is not one word of letters and digits; give one for each word")
        try:
            customs[key] = tuple(phone_set.spell(codes.split() if isinstance(codes, str) else codes))
        except TextError as error:
            raise TextError(f"custom word {word!r}: {error}") from None
        if not customs[key]:
            raise TextError(f"the custom word {word!r} has no phonemes; give at least one")
    return customs


def _given(written: str, phone_set: PhoneSet) -> Phones:
    codes = written[1:-1].split()
    if not codes:
        raise TextError("'{}' holds no phonemes; write them as in {HH AH0 L OW1}, or leave the braces out")
    try:
        return tuple(phone_set.spell(codes))
    except TextError as error:
        raise TextError(f"in {written!r}: {error}") from None


def _hold_customs(folded: str, given: list[Word], customs: dict[str, Phones]) -> tuple[str, list[Word]]:
    """The text with `HELD` for each custom word, and what is held in order, phonemes in braces included."""
    if not customs:
        return folded, given
    held: list[Word] = []
    in_braces = iter(given)

    def hold(match: re.Match[str]) -> str:
        written = match[0]
        if written == HELD:
            held.append(next(in_braces))
            return HELD
        word = written.lower()
        if word in customs:
            held.append(Word(written, customs[word], "custom"))
        elif word.endswith("'s") and word[:-2] in customs:
            held.append(Word(written, add_s(customs[word[:-2]]), "custom"))
        else:
            return written
        return HELD

    return re.sub(f"{HELD}|{CANDIDATE.pattern}", hold, folded), held


def _default_words(normal: str, held: list[Word], phone_set: PhoneSet) -> Iterator[Word]:
    waiting = iter(held)
    known: dict[str, tuple[Phones, How]] = {}
    for match in TOKEN.finditer(normal):
        token = match[0]
        if match["held"]:
            yield next(waiting)
        elif match["pause"]:
            yield Word(token, (PAUSE,), "punctuation")
        else:
            if token not in known:
                phones, how = pronounce_word(token)
                known[token] = tuple(phone_set.spell(phones)), how
            yield Word(token, *known[token])


def _paused(words: Iterator[Word]) -> list[Word]:
    """The words with no pause at the beginning, one where several meet, and one at the end; given ones all stay."""
    spoken: list[Word] = []
    last = PAUSE
    for word in words:
        if word.how == "punctuation" and last == PAUSE:
            spoken.append(Word(word.text, (), "punctuation"))
            continue
        spoken.append(word)
        last = word.codes[-1]
    if last != PAUSE:
        spoken.append(Word("", (PAUSE,), "punctuation"))
    return spoken


def _linked(words: list[Word], phone_set: PhoneSet) -> list[Word]:
    """The words with "the" as DH IY0 before a vowel."""
    before_vowel = tuple(phone_set.spell(("DH", "IY0"))) if {"DH", "IY0"} <= set(phone_set.codes) else None
    for place, (word, after) in enumerate(pairwise(words)):
        follows = after.codes[0][:2] if after.codes else ""
        if before_vowel and word.text == "the" and word.how == "dictionary" and follows in (*VOWELS, "EU"):
            words[place] = Word(word.text, before_vowel, word.how)
    return words


def _compat_words(lowered: str, given: list[Word], customs: dict[str, Phones]) -> Iterator[Word]:
    waiting = iter(given)
    known: dict[str, Word] = {}
    for token in COMPAT_TOKEN.findall(lowered):
        if token == HELD:
            yield next(waiting)
        elif COMPAT_PAUSES.issuperset(token):
            yield Word(token, (PAUSE,), "punctuation")
        elif token in customs:
            yield Word(token, customs[token], "custom")
        else:
            if token not in known:
                known[token] = _compat_word(token)
            yield known[token]


def _compat_word(token: str) -> Word:
    if token.isalpha():
        phones, how = pronounce_word(token)
    else:
        # Figures and symbols: espeak read them, so they are written out here.
        parts = [pronounce_word(part) for part in re.findall("[A-Za-z]+", expand(token))]
        phones, how = tuple(phone for phones, _ in parts for phone in phones), "letters"
    return Word(token, tuple(_compat_code(phone, how == "dictionary") for phone in phones), how)


def _compat_code(phone: str, in_dictionary: bool) -> str:
    bare = phone.rstrip("012")
    if bare not in VOWELS:
        return phone
    if bare == "ER":
        return "EH1"
    return bare + ("0" if in_dictionary and phone.endswith("0") and bare != "AA" else "1")
