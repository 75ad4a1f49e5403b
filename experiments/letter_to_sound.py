"""Learn letter-to-sound from the dictionary, measure it on words held out, and write the table that jaxvoice ships.

    python -m experiments.letter_to_sound [--out jaxvoice/text/data/letter_to_sound.gz] [--test-words 2000]

1. Letters are aligned with phones: a letter stands for zero, one or two phones, and expectation maximisation over all
   ways to split a word's phones among its letters learns which.
2. N-grams of letter-phone pairs are counted, with Kneser-Ney counts in the lower orders, and those that tell least are
   pruned.
3. One in twenty groups of words is held out for the measurement; words that begin with the same six letters are in one
   group, so that no held-out word has its plural among the words learnt from. The table written learns from all words.

Takes about five minutes on one CPU core.
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
from jaxvoice.text.letters import END, FIRST_SYMBOL, REST, START, LetterToSound, pack

Entry = tuple[str, tuple[str, ...]]
Table = dict[tuple[str, str], float]
UNLIKELY = -6.0  # mean log-probability of a letter's chunk under which a word is taken for an abbreviation


def chunks(phones: Sequence[str], start: int) -> Iterable[tuple[int, str]]:
    """What one letter can stand for from phone `start` on: (phones taken, chunk)."""
    yield 0, ""
    if start < len(phones):
        yield 1, phones[start]
    if start + 1 < len(phones):
        yield 2, f"{phones[start]} {phones[start + 1]}"


def expected_counts(word: str, phones: Sequence[str], table: Table | None, counts: Table) -> None:
    """Add to `counts` how often each letter stands for each chunk, over all splits weighted by `table`."""
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


def learn_alignment(entries: Sequence[Entry], rounds: int = 6) -> Table:
    """Probability of each chunk of phones (stress left out) given the letter, by expectation maximisation."""
    table: Table | None = None
    for _ in range(rounds):
        counts: Table = defaultdict(float)
        for word, phones in entries:
            expected_counts(word, [phone.rstrip("012") for phone in phones], table, counts)
        totals: dict[str, float] = defaultdict(float)
        for (letter, _), count in counts.items():
            totals[letter] += count
        table = {key: count / totals[key[0]] for key, count in counts.items() if count / totals[key[0]] > 1e-5}
    assert table is not None
    return table


def align(word: str, phones: Sequence[str], table: Table) -> list[tuple[str, tuple[str, ...]]] | None:
    """The likeliest split of the phones among the letters; None where there is none, or none that is likely."""
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


def learn(entries: Sequence[Entry], table: Table, order: int, min_pair: int = 3) -> LetterToSound:
    """The model of the words in `entries`."""
    aligned = [pairs for word, phones in entries if (pairs := align(word, phones, table))]
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
    # What begins a word is shorter than the order and has no pair before it: it is counted as it was seen.
    shorter = [ngram for ngram in counts[order] if len(ngram) < order]
    kept = {ngram: counts[order][ngram] for ngram in shorter}
    for n, of_order in counts.items():
        kept |= {ngram: count for ngram, count in of_order.items() if len(ngram) == n}
    return LetterToSound(pairs, kept)


def prune(model: LetterToSound, keep: int) -> LetterToSound:
    """The model with the `keep` n-grams that tell most beyond what the next lower order says.

    An n-gram tells its count times how far its log-probability is from that of the lower order (after Stolcke, 1998).
    """
    told = {
        ngram: count
        * abs(math.log(model.probability(ngram[:-1], ngram[-1]) / model.probability(ngram[1:-1], ngram[-1])))
        if len(ngram) > 2
        else math.inf
        for ngram, count in model.counts.items()
    }
    kept = dict.fromkeys(sorted(told, key=lambda ngram: -told[ngram])[:keep])
    counts = {ngram: model.counts[ngram] for ngram in kept}
    contexts = {ngram[:-1] for ngram in counts}
    for ngram, count in model.counts.items():
        if ngram not in kept and ngram[:-1] in contexts:
            rest = ngram[:-1] + REST
            counts[rest] = counts.get(rest, 0) + count
    return LetterToSound(model.pairs, counts)


def measure(model: LetterToSound, entries: Sequence[Entry]) -> dict[str, float]:
    """Shares of words and phones right, with stress and without, and the seconds a word took."""
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
        "words right": words / len(entries),
        "words right but for stress": bare_words / len(entries),
        "phones wrong": errors / total,
        "phones wrong but for stress": bare_errors / total,
        "ms a word": 1e3 * (time.perf_counter() - began) / len(entries),
    }


def held_out(word: str) -> bool:
    """Whether the word is measured on; the same for all words that begin with the same six letters."""
    return zlib.crc32(word[:6].encode()) % 20 == 0


def main(
    out: Path = Path("jaxvoice/text/data/letter_to_sound.gz"),
    test_words: int = 2000,
    align_words: int = 20000,
    order: int = 5,
    keep: int = 130000,
) -> None:
    """Learn, measure, write."""
    entries = [(word, phones) for word, phones in cmudict().items() if word.isalpha() and len(word) > 1]
    training = [entry for entry in entries if not held_out(entry[0])]
    step = max(1, len(training) // align_words)
    table = learn_alignment(training[::step])
    print(f"{len(entries)} words, aligned on {len(training[::step])}")
    model = prune(learn(training, table, order), keep)
    tests = [entry for entry in entries if held_out(entry[0])]
    tests = tests[:: max(1, len(tests) // test_words)]
    print(f"{len(model.counts)} n-grams of {len(model.pairs)} pairs; held out: {len(tests)} words")
    for name, value in measure(model, tests).items():
        print(f"  {name:30} {value:.3f}")
    shipped = pack(prune(learn(entries, table, order), keep))
    out.write_bytes(shipped)
    print(f"{out}: {len(shipped) / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main)
