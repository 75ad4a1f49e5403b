"""Pronounce one word with the dictionary, morphology, letter-to-sound, or the names of its letters."""

import re
from functools import lru_cache
from typing import Literal

from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.letter_to_sound import english_model
from jaxvoice.text.morphology import Phones, add_s, pronounce_from_parts

PronunciationSource = Literal["custom", "dictionary", "morphology", "letters", "spelled", "given", "punctuation"]

MAX_WORD_LETTERS = 40  # longer words are spelled letter by letter
CONTRACTIONS = {"o'clock": "AH0 K L AA1 K", "ma'am": "M AE1 M", "ne'er": "N EH1 R", "e'er": "EH1 R", "o'er": "AO1 R"}
IN_SENTENCES = {"was": "W AH0 Z"}
"""Words whose pronunciation in sentences differs from the entry of the dictionary."""

CLITICS: tuple[tuple[str, Phones], ...] = (
    ("n't", ("AH0", "N", "T")),
    ("'ll", ("AH0", "L")),
    ("'ve", ("AH0", "V")),
    ("'re", ("ER0",)),
    ("'d", ("D",)),
    ("'m", ("M",)),
)


@lru_cache(maxsize=64)
def letter_name(letter: str) -> Phones:
    """ARPAbet phones of the name of a letter, such as B IY1 for `b`."""
    phones = cmudict().get(f"{letter.lower()}.")
    if phones is None:
        raise ValueError(f"letter is {letter!r}; it should be one of the letters a to z.")
    return phones


def spell_word(word: str) -> Phones:
    """ARPAbet phones of the names of the letters of `word` in order."""
    return tuple(phone for letter in word if letter.isalpha() for phone in letter_name(letter))


def pronounce_word(word: str) -> tuple[Phones, PronunciationSource]:
    """ARPAbet phones of one word of letters and apostrophes, and their source.

    A single capital is pronounced as the name of the letter. Other words are converted to lower case.
    """
    if re.fullmatch("[A-Z]('s)?", word):
        name = letter_name(word[0])
        return (add_s(name) if len(word) > 1 else name), "dictionary"
    word = word.lower()
    if len(word) > MAX_WORD_LETTERS:
        return spell_word(word), "spelled"
    dictionary = cmudict()
    if irregular := IN_SENTENCES.get(word) or CONTRACTIONS.get(word):
        return tuple(irregular.split()), "dictionary"
    if found := dictionary.get(word):
        return found, "dictionary"
    if word.endswith("'s") and len(word) > 2:
        base, source = pronounce_word(word.removesuffix("'s"))
        return add_s(base), "morphology" if source == "dictionary" else source
    for ending, phones in CLITICS:
        if word.endswith(ending) and (found := dictionary.get(word.removesuffix(ending))):
            return found + phones, "morphology"
    if found := pronounce_from_parts(word, dictionary.get):
        return found, "morphology"
    return _predict(word)


def _predict(word: str) -> tuple[Phones, PronunciationSource]:
    letters = re.sub("[^a-z]", "", word)
    # Letters without a vowel are an abbreviation, not a word.
    if len(letters) > 1 and re.search("[aeiouy]", letters) and (phones := english_model()(letters)):
        return phones, "letters"
    return spell_word(letters), "spelled"
