"""The pronunciation of one word: dictionary, morphology, letter-to-sound, and at last its letters one by one."""

import re
from functools import lru_cache
from typing import Literal

from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.letters import english
from jaxvoice.text.morphology import Phones, add_s, build

How = Literal["custom", "dictionary", "morphology", "letters", "spelled", "given", "punctuation"]

LONGEST_WORD = 40  # letters; what is longer is no word, and is spelled out
ELIDED = {"o'clock": "AH0 K L AA1 K", "ma'am": "M AE1 M", "ne'er": "N EH1 R", "e'er": "EH1 R", "o'er": "AO1 R"}
CONNECTED = {"was": "W AH0 Z"}
"""Words said otherwise in a sentence than alone, as the dictionary has them."""

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
    """ARPAbet phones of the name of a letter, such as B IY1."""
    phones = cmudict().get(f"{letter.lower()}.")
    if phones is None:
        raise ValueError(f"{letter!r} is not one of the letters a to z")
    return phones


def spell(word: str) -> Phones:
    """ARPAbet phones of the names of the letters of `word`, one after another."""
    return tuple(phone for letter in word if letter.isalpha() for phone in letter_name(letter))


def pronounce_word(word: str) -> tuple[Phones, How]:
    """ARPAbet phones of one word of letters and apostrophes, and how they were found.

    A single capital is the name of that letter; any other word is taken in lower case.
    """
    if re.fullmatch("[A-Z]('s)?", word):
        name = letter_name(word[0])
        return (add_s(name) if len(word) > 1 else name), "dictionary"
    word = word.lower()
    if len(word) > LONGEST_WORD:
        return spell(word), "spelled"
    known = cmudict()
    if irregular := CONNECTED.get(word) or ELIDED.get(word):
        return tuple(irregular.split()), "dictionary"
    if found := known.get(word):
        return found, "dictionary"
    if word.endswith("'s") and len(word) > 2:
        owner, how = pronounce_word(word.removesuffix("'s"))
        return add_s(owner), "morphology" if how == "dictionary" else how
    for ending, phones in CLITICS:
        if word.endswith(ending) and (found := known.get(word.removesuffix(ending))):
            return found + phones, "morphology"
    if found := build(word, known.get):
        return found, "morphology"
    return _guess(word)


def _guess(word: str) -> tuple[Phones, How]:
    letters = re.sub("[^a-z]", "", word)
    # What has no vowel is an abbreviation, not a word.
    if len(letters) > 1 and re.search("[aeiouy]", letters) and (phones := english()(letters)):
        return phones, "letters"
    return spell(letters), "spelled"
