"""Word error rate: the words of a text in the spelling of recognisers, and the edit distance of two lists of words."""

import re
from collections.abc import Sequence

import numpy as np

# fmt: off
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_SHORT = {"mr": "mister", "mrs": "misses", "dr": "doctor", "st": "saint", "&": "and"}


def number_words(number: int) -> str:
    """An integer below a million in words: `1455` becomes "one thousand four hundred fifty five"."""
    if number >= 1000:
        rest = f" {number_words(number % 1000)}" if number % 1000 else ""
        return f"{number_words(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" {number_words(number % 100)}" if number % 100 else ""
        return f"{_SMALL[number // 100]} hundred{rest}"
    if number >= 20:
        rest = f" {_SMALL[number % 10]}" if number % 10 else ""
        return f"{_TENS[number // 10]}{rest}"
    return _SMALL[number]


def year_words(year: int) -> str:
    """A year in words: `1455` becomes "fourteen fifty five", `1905` becomes "nineteen oh five"."""
    century, rest = divmod(year, 100)
    if not 11 <= century <= 20 or (century == 20 and rest < 10):
        return number_words(year)
    if rest == 0:
        return f"{number_words(century)} hundred"
    return (
        f"{number_words(century)} oh {_SMALL[rest]}" if rest < 10 else f"{number_words(century)} {number_words(rest)}"
    )


def words(text: str) -> list[str]:
    """The words of `text` in lower case without punctuation, split at hyphens, numbers and abbreviations expanded.

    Four digits without a comma are read as a year.
    """
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", re.sub(r"\b(\d{4})\b(?!,\d)", lambda m: year_words(int(m[1])), text))
    text = re.sub(r"\d{1,6}", lambda m: f" {number_words(int(m[0]))} ", text)
    found: list[str] = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*|&", text)
    return [_SHORT.get(word, word) for word in found]


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance: the minimum number of insertions, deletions and substitutions of words, phonemes or letters
    that turn `reference` into `hypothesis`."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
    return row[-1]


def ratio_interval(
    errors: Sequence[int], base: Sequence[int], samples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval over clips of `sum(errors) / sum(base)`, for the errors of two systems on the same clips."""
    if not sum(base):
        return float("nan"), float("nan")
    picks = np.random.default_rng(0).integers(0, len(base), (samples, len(base)))
    over, under = np.asarray(errors)[picks].sum(1), np.asarray(base)[picks].sum(1)
    ratios = over[under > 0] / under[under > 0]
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
