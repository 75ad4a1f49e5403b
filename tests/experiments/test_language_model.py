"""The language model for the recogniser against chances worked out by hand."""

import pytest

from experiments.benchmarks.language_model import bigram_arpa

SENTENCES = [["a", "b"], ["a", "c"], ["b"]]


def parsed(text: str) -> tuple[dict[str, float], dict[str, float], dict[tuple[str, str], float]]:
    """Chances of words, weights of backing off, and chances of pairs in an ARPA file."""
    singles, weights, doubles, part = {}, {}, {}, ""
    for line in text.splitlines():
        if line.startswith("\\"):
            part = line
        elif part == "\\1-grams:" and line:
            chance, word, *weight = line.split("\t")
            singles[word] = 10 ** float(chance)
            weights[word] = 10 ** float(weight[0]) if weight else 1.0
        elif part == "\\2-grams:" and line:
            chance, pair = line.split("\t")
            doubles[tuple(pair.split())] = 10 ** float(chance)
    return singles, weights, doubles


def test_probabilities_equal_the_counts():
    singles, _, doubles = parsed(bigram_arpa(SENTENCES))
    # Counts with one more each: a 3, b 3, c 2, end 4, of 12.
    assert singles["a"] == pytest.approx(3 / 12, rel=1e-5) and singles["</s>"] == pytest.approx(4 / 12, rel=1e-5)
    # Two of three sentences begin with a, one with b.
    assert doubles["<s>", "a"] == pytest.approx(1.5 / 3, rel=1e-5)
    assert doubles["<s>", "b"] == pytest.approx(0.5 / 3, rel=1e-5)
    assert ("a", "</s>") not in doubles


def test_probabilities_after_every_word_sum_to_one():
    singles, weights, doubles = parsed(bigram_arpa(SENTENCES))
    possible = [word for word in singles if word != "<s>"]
    for first in ("<s>", "a", "b", "c"):
        after = {second: doubles.get((first, second), weights[first] * singles[second]) for second in possible}
        assert sum(after.values()) == pytest.approx(1, rel=1e-4)


def test_the_counts_of_the_header_equal_the_sections():
    text = bigram_arpa(SENTENCES)
    singles, _, doubles = parsed(text)
    assert f"ngram 1={len(singles)}\nngram 2={len(doubles)}\n" in text
    with pytest.raises(ValueError, match="needs sentences with words"):
        bigram_arpa([])
