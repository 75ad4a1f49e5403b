"""Sentences composed for the demo corpus."""

import re

import pytest

from jaxvoice.data.demo import SENTENCES, compose_sentences
from jaxvoice.errors import DataError


def test_sentences_are_different_complete_and_reproducible():
    sentences = compose_sentences(3000)
    assert len(set(sentences)) == 3000 and not set(sentences) & set(SENTENCES)
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z ]+(, [a-z][a-z ]+)?\.", sentence), sentence
        assert 6 <= len(sentence.split()) <= 25, sentence
    assert sum("," in sentence for sentence in sentences) == pytest.approx(750, abs=75)
    assert compose_sentences(40) == sentences[:40] != compose_sentences(40, seed=1)
    assert sentences[:2] == [
        "A group of tourists threw the ball over the fence in the garden without a word.",
        "The woman upstairs heard a sudden noise between two hills in the summer.",
    ]


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_compose_sentences_raises_for_impossible_counts(count):
    with pytest.raises(DataError, match=str(count)):
        compose_sentences(count)
