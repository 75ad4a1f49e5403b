"""Letter-to-sound: the pronunciation of a word that no dictionary holds, from its letters.

A joint n-gram model of letters and phones (Bisani and Ney, 2008, "Joint-sequence models for grapheme-to-phoneme
conversion"): every letter is paired with the zero, one or two phones it stands for, the pairs are predicted from the
pairs before them, and the likeliest sequence of pairs that spells the word gives its phones. Its counts are learnt from
the dictionary by `experiments/letter_to_sound.py`.
"""

import gzip
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

DISCOUNT = 0.7
"""What every seen n-gram gives up, in counts, for those that were not seen (absolute discounting)."""

START, END = "^", "$"
REST = "~"
"""Ends the n-gram whose count is that of all n-grams of the same beginning that were pruned."""

FIRST_SYMBOL = 0x100  # a letter-phone pair is one character from here on: an n-gram is then a string


class LetterToSound:
    """Phones of words by their letters.

    `pairs` are (letter, phones); pair `i` is the character `chr(FIRST_SYMBOL + i)`. `counts` holds the n-grams of these
    characters, of every order up to `order`, with how often each was seen (for the lower orders: after how many
    different pairs, as in Kneser and Ney, 1995). Those that were pruned are counted together under `REST`.
    """

    def __init__(self, pairs: Sequence[tuple[str, tuple[str, ...]]], counts: Mapping[str, int]):
        self.pairs = tuple(pairs)
        self.counts = dict(counts)
        self.order = max(map(len, self.counts))
        self._of_letter: dict[str, list[tuple[str, tuple[str, ...], int]]] = {}
        for index, (letter, phones) in enumerate(self.pairs):
            primary = sum(phone.endswith("1") for phone in phones)
            self._of_letter.setdefault(letter, []).append((chr(FIRST_SYMBOL + index), phones, primary))
        self._seen: dict[str, tuple[float, float]] = {}  # by context: its count, and what goes to the lower order
        for ngram, count in self.counts.items():
            total, spare = self._seen.get(ngram[:-1], (0.0, 0.0))
            self._seen[ngram[:-1]] = (total + count, spare + (count if ngram[-1] == REST else DISCOUNT))

    @property
    def letters(self) -> frozenset[str]:
        """The letters that the model knows."""
        return frozenset(self._of_letter)

    def probability(self, history: str, symbol: str) -> float:
        """Probability of `symbol` after `history` (at most `order - 1` symbols), interpolated over all orders."""
        probability = 1 / (len(self.pairs) + 1)
        for length in range(len(history) + 1):
            context = history[len(history) - length :]
            seen = self._seen.get(context)
            if seen is None:
                break
            total, spare = seen
            count = self.counts.get(context + symbol, 0)
            probability = (max(count - DISCOUNT, 0.0) + spare * probability) / total
        return probability

    def __call__(self, word: str, *, beam: int = 16) -> tuple[str, ...] | None:
        """ARPAbet phones of `word` (lower case), with exactly one primary stress where it has a vowel.

        None where a letter is unknown, or where the word gets no phone at all.
        """
        keep = self.order - 1
        beams: dict[tuple[str, bool], tuple[float, tuple[str, ...]]] = {(START, False): (0.0, ())}
        for letter in word:
            grown: dict[tuple[str, bool], tuple[float, tuple[str, ...]]] = {}
            for (history, stressed), (score, phones) in beams.items():
                for symbol, more, primary in self._of_letter.get(letter, ()):
                    if primary + stressed > 1:
                        continue
                    total = score + math.log(self.probability(history, symbol))
                    key = ((history + symbol)[-keep:], bool(stressed or primary))
                    if key not in grown or grown[key][0] < total:
                        grown[key] = (total, phones + more)
            beams = dict(sorted(grown.items(), key=lambda item: -item[1][0])[:beam])
        ended = [
            # A word without a primary stress comes last: only words without a vowel have none.
            (stressed, score + math.log(self.probability(history, END)), phones)
            for (history, stressed), (score, phones) in beams.items()
            if phones
        ]
        if not ended:
            return None
        return max(ended, key=lambda item: item[:2])[2]


def pack(model: LetterToSound) -> bytes:
    """The model as a compressed table; `unpack` reads it.

    Line 1: the pairs, as letter and phones joined by `_`. Then one line for each n-gram in sorted order: how many
    symbols it shares with the line before, the symbols that follow, its count.
    """
    lines = [" ".join("_".join((letter, *phones)) for letter, phones in model.pairs)]
    before = ""
    for ngram in sorted(model.counts):
        shared = 0
        while shared < min(len(before), len(ngram)) and before[shared] == ngram[shared]:
            shared += 1
        lines.append(f"{shared}{ngram[shared:]}{model.counts[ngram]}")
        before = ngram
    return gzip.compress("\n".join(lines).encode(), 9, mtime=0)


def unpack(table: bytes) -> LetterToSound:
    """The model in a table that `pack` wrote."""
    first, *rest = gzip.decompress(table).decode().split("\n")
    pairs = [(entry[0], tuple(entry.split("_")[1:])) for entry in first.split(" ")]
    counts: dict[str, int] = {}
    before = ""
    digits = "0123456789"
    for line in rest:
        symbols = line.rstrip(digits)
        before = before[: int(line[0])] + symbols[1:]
        counts[before] = int(line[len(symbols) :])
    return LetterToSound(pairs, counts)


@lru_cache(maxsize=1)
def english() -> LetterToSound:
    """The shipped model of English, learnt from the CMU Pronouncing Dictionary."""
    return unpack((files("jaxvoice.text") / "data" / "letter_to_sound.gz").read_bytes())
