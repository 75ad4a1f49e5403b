"""Train the letter-to-sound model on the dictionary, evaluate it on held-out words, and write the shipped table.

    python -m experiments.letter_to_sound [--out jaxvoice/text/data/letter_to_sound.gz] [--test-words 2000]

1. Letters are aligned with phones. Each letter is paired with zero, one or two phones; expectation maximisation over
   all splits of a word's phones among its letters estimates the probabilities of the pairs.
2. N-grams of letter-phone pairs are counted, with Kneser-Ney counts in lower orders. The n-grams that change the
   model's likelihood least are pruned.
3. One in twenty groups of words is held out for the evaluation. Words that start with the same six letters are in one
   group, so that a held-out word and its plural are not separated. The table that is written is trained on all words.

The experiment takes about five minutes on one CPU core.
"""

import math
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import tyro

from experiments.benchmarks.word_errors import edits
from jaxvoice.text.dictionary import cmudict
from jaxvoice.text.letter_to_sound import END, FIRST_SYMBOL, PRUNED, START, LetterToSound, pack_model

_Entry = tuple[str, tuple[str, ...]]
PairTable = dict[tuple[str, str], float]
UNLIKELY = -6.0  # words with a lower mean log-probability per letter are treated as abbreviations


def chunks(phones: Sequence[str], start: int) -> Iterable[tuple[int, str]]:
    """Yield the phones that one letter may be paired with, from phone `start` on: (number of phones, chunk)."""
    yield 0, ""
    if start < len(phones):
        yield 1, phones[start]
    if start + 1 < len(phones):
        yield 2, f"{phones[start]} {phones[start + 1]}"


def expected_counts(word: str, phones: Sequence[str], table: PairTable | None, counts: PairTable) -> None:
    """Add to `counts` the expected count of each letter-chunk pair over all splits, weighted by `table`."""
    rows, columns = len(word), len(phones)

    def weight(letter: str, chunk: str) -> float:
        return 1.0 if table is None else table.get((letter, chunk), 0.0)

    forward = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    forward[0][0] = 1.0
    for i, letter in enumerate(word):
        for j in range(columns + 1):
            if forward[i][j] > 0:
                for taken, chunk in chunks(phones, j):
                    forward[i + 1][j + taken] += forward[i][j] * weight(letter, chunk)
    whole = forward[rows][columns]
    if whole <= 0:
        return
    backward = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    backward[rows][columns] = 1.0
    for i in range(rows - 1, -1, -1):
        for j in range(columns + 1):
            for taken, chunk in chunks(phones, j):
                share = weight(word[i], chunk) * backward[i + 1][j + taken]
                if share > 0:
                    backward[i][j] += share
                    if forward[i][j] > 0:
                        counts[word[i], chunk] += forward[i][j] * share / whole


def estimate_pairs(entries: Sequence[_Entry], iterations: int = 6) -> PairTable:
    """Probability of each chunk of phones, without stress, given the letter, by expectation maximisation."""
    table: PairTable | None = None
    for _ in range(iterations):
        counts: PairTable = defaultdict(float)
        for word, phones in entries:
            expected_counts(word, [phone.rstrip("012") for phone in phones], table, counts)
        totals: dict[str, float] = defaultdict(float)
        for (letter, _), count in counts.items():
            totals[letter] += count
        table = {key: count / totals[key[0]] for key, count in counts.items() if count / totals[key[0]] > 1e-5}
    assert table is not None
    return table


def align_letters(word: str, phones: Sequence[str], table: PairTable) -> list[tuple[str, tuple[str, ...]]] | None:
    """The most probable split of the phones among the letters; None if there is none, or all are improbable."""
    bare = [phone.rstrip("012") for phone in phones]
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for letter in word:
        grown: dict[int, tuple[float, list[int]]] = {}
        for j, (score, cuts) in best.items():
            for taken, chunk in chunks(bare, j):
                weight = table.get((letter, chunk), 0.0)
                if weight > 0:
                    total = score + math.log(weight)
                    if j + taken not in grown or grown[j + taken][0] < total:
                        grown[j + taken] = (total, [*cuts, j + taken])
        best = grown
    if len(phones) not in best or best[len(phones)][0] / len(word) < UNLIKELY:
        return None
    cuts = best[len(phones)][1]
    return [(letter, tuple(phones[a:b])) for letter, a, b in zip(word, cuts, cuts[1:], strict=False)]


def train(entries: Sequence[_Entry], table: PairTable, order: int, min_pair: int = 3) -> LetterToSound:
    """Train a model on the words in `entries`."""
    aligned = [pairs for word, phones in entries if (pairs := align_letters(word, phones, table))]
    frequency = Counter(pair for pairs in aligned for pair in pairs)
    pairs = sorted(pair for pair, count in frequency.items() if count >= min_pair)
    symbol = {pair: chr(FIRST_SYMBOL + index) for index, pair in enumerate(pairs)}
    counts: dict[int, Counter[str]] = {n: Counter() for n in range(1, order + 1)}
    for word in aligned:
        if not all(pair in symbol for pair in word):
            continue
        line = START + "".join(symbol[pair] for pair in word) + END
        for end in range(2, len(line) + 1):
            counts[order][line[max(0, end - order) : end]] += 1
    for n in range(order - 1, 0, -1):
        for ngram in counts[n + 1]:
            if len(ngram) == n + 1:
                counts[n][ngram[1:]] += 1
    # N-grams at the beginning of a word are shorter than the order; no pair precedes them, so their counts stay.
    shorter = [ngram for ngram in counts[order] if len(ngram) < order]
    merged = {ngram: counts[order][ngram] for ngram in shorter}
    for n, of_order in counts.items():
        merged |= {ngram: count for ngram, count in of_order.items() if len(ngram) == n}
    return LetterToSound(pairs, merged)


def prune(model: LetterToSound, keep: int) -> LetterToSound:
    """Keep the `keep` n-grams whose removal would change the model most.

    The change is the count of the n-gram times the absolute difference between its log-probability and that of the
    next lower order (after Stolcke, 1998).
    """
    change = {
        ngram: count
        * abs(math.log(model.probability(ngram[:-1], ngram[-1]) / model.probability(ngram[1:-1], ngram[-1])))
        if len(ngram) > 2
        else math.inf
        for ngram, count in model.counts.items()
    }
    kept = dict.fromkeys(sorted(change, key=lambda ngram: -change[ngram])[:keep])
    counts = {ngram: model.counts[ngram] for ngram in kept}
    contexts = {ngram[:-1] for ngram in counts}
    for ngram, count in model.counts.items():
        if ngram not in kept and ngram[:-1] in contexts:
            rest = ngram[:-1] + PRUNED
            counts[rest] = counts.get(rest, 0) + count
    return LetterToSound(model.pairs, counts)


def evaluate(model: LetterToSound, entries: Sequence[_Entry]) -> dict[str, float]:
    """Word accuracy and phone error rate, with and without stress, and milliseconds per word."""
    words = bare_words = errors = bare_errors = total = 0
    began = time.perf_counter()
    for word, truth in entries:
        found = model(word) or ()
        bare = [phone.rstrip("012") for phone in found]
        bare_truth = [phone.rstrip("012") for phone in truth]
        words += tuple(found) == tuple(truth)
        bare_words += bare == bare_truth
        errors += edits(truth, found)
        bare_errors += edits(bare_truth, bare)
        total += len(truth)
    return {
        "word accuracy": words / len(entries),
        "word accuracy without stress": bare_words / len(entries),
        "phone error rate": errors / total,
        "phone error rate without stress": bare_errors / total,
        "ms per word": 1e3 * (time.perf_counter() - began) / len(entries),
    }


def held_out(word: str) -> bool:
    """Whether the word is in the evaluation set. The result is the same for words with the same first six letters."""
    return zlib.crc32(word[:6].encode()) % 20 == 0


def main(
    out: Path = Path("jaxvoice/text/data/letter_to_sound.gz"),
    test_words: int = 2000,
    align_words: int = 20000,
    order: int = 5,
    keep: int = 130000,
) -> None:
    """Train, evaluate and write the model."""
    entries = [(word, phones) for word, phones in cmudict().items() if word.isalpha() and len(word) > 1]
    training = [entry for entry in entries if not held_out(entry[0])]
    step = max(1, len(training) // align_words)
    table = estimate_pairs(training[::step])
    print(f"{len(entries)} words, aligned on {len(training[::step])}")
    model = prune(train(training, table, order), keep)
    tests = [entry for entry in entries if held_out(entry[0])]
    tests = tests[:: max(1, len(tests) // test_words)]
    print(f"{len(model.counts)} n-grams of {len(model.pairs)} pairs; held out: {len(tests)} words")
    for name, value in evaluate(model, tests).items():
        print(f"  {name:32} {value:.3f}")
    packed = pack_model(prune(train(entries, table, order), keep))
    out.write_bytes(packed)
    print(f"{out}: {len(packed) / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.letter_to_sound", description=__doc__)
