"""Convert text to phonemes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxvoice.errors import TextError
from jaxvoice.text.custom_words import CUSTOM_WORD, CustomWords, spell_custom_words
from jaxvoice.text.folding import fold_to_ascii, symbol_words
from jaxvoice.text.morphology import Phones, add_s
from jaxvoice.text.phonemes import ALIGNED, PAUSE, VOWELS, PhoneSet
from jaxvoice.text.text_normalization import PLACEHOLDER, expand_text, extract_braces, fill_placeholders
from jaxvoice.text.word_pronunciation import PronunciationSource, pronounce_word

PronunciationMode = Literal["default", "compat"]

TOKEN = re.compile(
    rf"(?P<placeholder>{PLACEHOLDER})"
    r"|(?P<word>(?:(?<![A-Za-z])'(?:tis|twas|em|til|bout|cause|round|n)\b)'?|[A-Za-z]+in'(?![A-Za-z])"
    r"|[A-Za-z]+(?:'[A-Za-z]+)*)"
    r"|(?P<pause>[,.;:!?()]+|-{2,}|(?<!\S)-+(?!\S))"
)
COMPAT_TOKEN = re.compile(rf"{PLACEHOLDER}|[^\W{PLACEHOLDER}]+|[^\w\s{PLACEHOLDER}]+")
COMPAT_PAUSES = frozenset("!?.,-:;\"'()")


@dataclass(frozen=True)
class Word:
    """A word or punctuation mark of a text with its phoneme codes.

    - `text`: the word as normalised.
    - `codes`: its phoneme codes; empty for a punctuation mark whose pause is merged with the one before it. The codes
        of all words together are the pronunciation of the text.
    - `source`: the source of the codes: `dictionary`, `morphology`, `letters` (letter-to-sound), `spelled` (letter
        by letter), `custom` (custom words), `given` (phonemes in braces) or `punctuation`.
    """

    text: str
    codes: tuple[str, ...]
    source: PronunciationSource


@dataclass(frozen=True)
class Pronunciation:
    """The pronunciation of a text: the normalised `text` and its `words` in order."""

    text: str
    words: tuple[Word, ...]

    @property
    def codes(self) -> list[str]:
        """The phoneme codes of all words in order."""
        return [code for word in self.words for code in word.codes]


def text_to_phonemes(
    text: str,
    custom_words: CustomWords | None = None,
    *,
    mode: PronunciationMode = "default",
    phone_set: PhoneSet = ALIGNED,
) -> list[str]:
    """The phoneme codes of an English text. `pronounce` returns them for each word, with their source.

    **Raises:** `TextError` as `pronounce` does.
    """
    return pronounce(text, custom_words, mode=mode, phone_set=phone_set).codes


def pronounce(
    text: str,
    custom_words: CustomWords | None = None,
    *,
    mode: PronunciationMode = "default",
    phone_set: PhoneSet = ALIGNED,
) -> Pronunciation:
    """The pronunciation of an English text, word by word.

    `default` mode normalises the text and keeps apostrophes inside words. Punctuation becomes a pause, adjacent marks
    become one pause, and the text ends with one pause.

    `compat` mode follows the published `lj_speech.py` of LJ-Speech-aligned. Numbers and abbreviations are not expanded.
    Every run of the marks `!?.,-:;"'()` is a pause, including the apostrophe of "don't". ER becomes EH1, and no pause
    is added at the end. The published code passes words outside the dictionary, numbers, symbols, accented letters,
    curly quotes and long dashes to espeak. jaxvoice folds quotes, dashes and accents to ASCII as in the default mode,
    so that these marks are pauses. It pronounces words outside the dictionary as in the default mode, and then applies
    the published mapping, which stresses every vowel of these words.

    In both modes, phonemes can be written in braces inside the text: `{HH AH0 L OW1} world`. All pauses in braces are
    kept.

    **Arguments:**

    - `text`: English text.
    - `custom_words`: maps words, in any case, to their phonemes in ARPAbet or in codes of `phone_set`, as a string or a
        sequence.
    - `mode`: `default` or `compat`.
    - `phone_set`: the set of the returned codes.

    **Raises:** `TextError` if the text contains nothing to pronounce, a character without an English reading, or a
    phoneme that is not in `phone_set`; or if `mode` is unknown or not available for `phone_set`.
    """
    if mode not in ("default", "compat"):
        raise TextError(f"mode is {mode!r}; it should be 'default' or 'compat'.")
    if mode == "compat" and phone_set.codes != ALIGNED.codes:
        raise TextError(
            f"phone_set is {phone_set.name!r}; it should be 'aligned' in compat mode. Pass mode='default' for other "
            "phone sets."
        )
    custom = spell_custom_words({} if custom_words is None else custom_words, phone_set)
    braces, folded = extract_braces(fold_to_ascii(text))
    given = [Word(written, _spell_braces(written, phone_set), "given") for written in braces]
    if mode == "compat":
        normal = symbol_words(folded).lower()
        words = _compat_words(normal, given, custom)
    else:
        folded, extracted = _extract_custom_words(folded, given, custom)
        normal = expand_text(folded)
        words = _pronounce_the(_merge_pauses(_default_words(normal, extracted, phone_set)), phone_set)
        normal = fill_placeholders(normal, [word.text for word in extracted])
    words = tuple(words)
    if not any(word.codes for word in words):
        raise TextError(f"the text {text[:40]!r} contains nothing to pronounce; it should contain a word.")
    return Pronunciation(normal, words)


def _spell_braces(written: str, phone_set: PhoneSet) -> Phones:
    codes = written[1:-1].split()
    if not codes:
        raise TextError("'{}' contains no phonemes; write them as in {HH AH0 L OW1}, or remove the braces.")
    try:
        return tuple(phone_set.spell(codes))
    except TextError as error:
        raise TextError(f"in {written!r}: {error}") from None


def _extract_custom_words(folded: str, given: list[Word], custom: dict[str, Phones]) -> tuple[str, list[Word]]:
    """Replace each custom word by `PLACEHOLDER`. Returns the text and the words of all placeholders in order.

    Placeholders of phonemes in braces, whose words are `given`, are already in the text.
    """
    if not custom:
        return folded, given
    extracted: list[Word] = []
    in_braces = iter(given)

    def extract(match: re.Match[str]) -> str:
        written = match[0]
        if written == PLACEHOLDER:
            extracted.append(next(in_braces))
            return PLACEHOLDER
        word = written.lower()
        if word in custom:
            extracted.append(Word(written, custom[word], "custom"))
        elif word.endswith("'s") and word[:-2] in custom:
            extracted.append(Word(written, add_s(custom[word[:-2]]), "custom"))
        else:
            return written
        return PLACEHOLDER

    return re.sub(f"{PLACEHOLDER}|{CUSTOM_WORD.pattern}", extract, folded), extracted


def _default_words(normal: str, extracted: list[Word], phone_set: PhoneSet) -> Iterator[Word]:
    remaining = iter(extracted)
    known: dict[str, tuple[Phones, PronunciationSource]] = {}
    for match in TOKEN.finditer(normal):
        token = match[0]
        if match["placeholder"]:
            yield next(remaining)
        elif match["pause"]:
            yield Word(token, (PAUSE,), "punctuation")
        else:
            if token not in known:
                phones, source = pronounce_word(token)
                known[token] = tuple(phone_set.spell(phones)), source
            yield Word(token, *known[token])


def _merge_pauses(words: Iterator[Word]) -> list[Word]:
    """Merge adjacent pauses, remove pauses at the beginning and end with one pause. Pauses in braces are all kept."""
    merged: list[Word] = []
    last = PAUSE
    for word in words:
        if word.source == "punctuation" and last == PAUSE:
            merged.append(Word(word.text, (), "punctuation"))
            continue
        merged.append(word)
        last = word.codes[-1]
    if last != PAUSE:
        merged.append(Word("", (PAUSE,), "punctuation"))
    return merged


def _pronounce_the(words: list[Word], phone_set: PhoneSet) -> list[Word]:
    """Pronounce "the" as DH IY0 before a vowel."""
    before_vowel = tuple(phone_set.spell(("DH", "IY0"))) if {"DH", "IY0"} <= set(phone_set.codes) else None
    for i, (word, after) in enumerate(pairwise(words)):
        next_phone = after.codes[0][:2] if after.codes else ""
        if before_vowel and word.text == "the" and word.source == "dictionary" and next_phone in (*VOWELS, "EU"):
            words[i] = Word(word.text, before_vowel, word.source)
    return words


def _compat_words(lower_case: str, given: list[Word], custom: dict[str, Phones]) -> Iterator[Word]:
    remaining = iter(given)
    known: dict[str, Word] = {}
    for token in COMPAT_TOKEN.findall(lower_case):
        if token == PLACEHOLDER:
            yield next(remaining)
        elif COMPAT_PAUSES.issuperset(token):
            yield Word(token, (PAUSE,), "punctuation")
        elif token in custom:
            yield Word(token, custom[token], "custom")
        else:
            if token not in known:
                known[token] = _compat_word(token)
            yield known[token]


def _compat_word(token: str) -> Word:
    if token.isalpha():
        phones, source = pronounce_word(token)
    else:
        # The published code passes numbers and symbols to espeak, which reads them; here they are expanded.
        parts = [pronounce_word(part) for part in re.findall("[A-Za-z]+", expand_text(token))]
        phones, source = tuple(phone for phones, _ in parts for phone in phones), "letters"
    return Word(token, tuple(_compat_code(phone, source == "dictionary") for phone in phones), source)


def _compat_code(phone: str, in_dictionary: bool) -> str:
    bare = phone.rstrip("012")
    if bare not in VOWELS:
        return phone
    if bare == "ER":
        return "EH1"
    return bare + ("0" if in_dictionary and phone.endswith("0") and bare != "AA" else "1")
