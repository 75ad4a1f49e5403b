"""Letter-to-sound: predict the pronunciation of a word outside the dictionary from its letters.

This is a joint n-gram model of letters and phones (Bisani and Ney, 2008, "Joint-sequence models for grapheme-to-phoneme
conversion"). Every letter is paired with zero, one or two phones. The model predicts each pair from the pairs before
it, and the most probable sequence of pairs that spells the word contains its phones. `experiments/letter_to_sound.py`
learns the counts from the dictionary.
"""

import gzip
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

DISCOUNT = 0.7
"""The count subtracted from every seen n-gram in favour of unseen ones (absolute discounting)."""

START, END = "^", "$"
PRUNED = "~"
"""The last symbol of an entry that counts all pruned n-grams of one context."""

FIRST_SYMBOL = 0x100  # pairs are characters from here on, so that an n-gram is a string


class LetterToSound:
    """A letter-to-sound model.

    `pairs` are (letter, phones); pair `i` is written as the character `chr(FIRST_SYMBOL + i)`. `counts` maps n-grams of
    these characters, of every order up to `order`, to their counts. In lower orders, the count is the number of
    different pairs that precede the n-gram (Kneser and Ney, 1995). Pruned n-grams of a context are counted together
    under `PRUNED`.
    """

    def __init__(self, pairs: Sequence[tuple[str, tuple[str, ...]]], counts: Mapping[str, int]):
        self.pairs = tuple(pairs)
        self.counts = dict(counts)
        self.order = max(map(len, self.counts))
        self._of_letter: dict[str, list[tuple[str, tuple[str, ...], int]]] = {}
        for index, (letter, phones) in enumerate(self.pairs):
            primary = sum(phone.endswith("1") for phone in phones)
            self._of_letter.setdefault(letter, []).append((chr(FIRST_SYMBOL + index), phones, primary))
        self._seen: dict[str, tuple[float, float]] = {}  # by context: its count, and the count that lower orders share
        for ngram, count in self.counts.items():
            total, backoff = self._seen.get(ngram[:-1], (0.0, 0.0))
            self._seen[ngram[:-1]] = (total + count, backoff + (count if ngram[-1] == PRUNED else DISCOUNT))

    @property
    def letters(self) -> frozenset[str]:
        """The letters that occur in the model."""
        return frozenset(self._of_letter)

    def probability(self, history: str, symbol: str) -> float:
        """The probability of `symbol` after `history` (at most `order - 1` symbols), interpolated over all orders."""
        probability = 1 / (len(self.pairs) + 1)
        for length in range(len(history) + 1):
            context = history[len(history) - length :]
            seen = self._seen.get(context)
            if seen is None:
                break
            total, backoff = seen
            count = self.counts.get(context + symbol, 0)
            probability = (max(count - DISCOUNT, 0.0) + backoff * probability) / total
        return probability

    def __call__(self, word: str, *, beam: int = 16) -> tuple[str, ...] | None:
        """ARPAbet phones of `word` (lower case), with exactly one primary stress if it has a vowel.

        None if a letter is unknown, or if the word has no phones.
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
            # Pronunciations with a primary stress are preferred: only words without a vowel have none.
            (stressed, score + math.log(self.probability(history, END)), phones)
            for (history, stressed), (score, phones) in beams.items()
            if phones
        ]
        if not ended:
            return None
        return max(ended, key=lambda item: item[:2])[2]


def pack_model(model: LetterToSound) -> bytes:
    """Write the model as a compressed table, which `unpack_model` reads.

    Line 1 contains the pairs, as letter and phones joined by `_`. Then there is one line for each n-gram in sorted
    order: the number of first symbols that it shares with the previous n-gram, the other symbols, and its count.
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


def unpack_model(table: bytes) -> LetterToSound:
    """Read the model in a table that `pack_model` wrote."""
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
def english_model() -> LetterToSound:
    """The model of English that is part of jaxvoice, learnt from the CMU Pronouncing Dictionary."""
    return unpack_model((files("jaxvoice.text") / "data" / "letter_to_sound.gz").read_bytes())
