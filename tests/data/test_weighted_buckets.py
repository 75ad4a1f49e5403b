"""Sampling that balances speakers and languages, and the adaptation to speakers."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, Store, Utterance, WeightedBuckets, balanced_weights
from jaxvoice.errors import ConfigError, DataError

# Speaker, language and number of utterances: one language has a single speaker.
SPEAKERS = (("a", "en", 12), ("b", "en", 4), ("c", "en", 8), ("d", "pt", 2), ("e", "fr", 3), ("f", "fr", 3))


def corpus_of(speakers=SPEAKERS):
    utterances = [
        Utterance(f"{speaker}{number}", speaker=speaker, language=language)
        for speaker, language, count in speakers
        for number in range(count)
    ]
    return Corpus("folder", Path("corpus"), tuple(utterances))


def store_of(speakers=SPEAKERS):
    corpus = corpus_of(speakers)
    lengths = 1 + np.arange(len(corpus)) * 7 % 11
    tokens = [np.full(length, row, np.int32) for row, length in enumerate(lengths)]
    return Store(corpus, {"tokens": tokens, "gain": np.arange(len(corpus), dtype=np.float32)}, 16000)


def sampler(**changes):
    return WeightedBuckets(**{"batch_size": 4, "columns": ("tokens",), "fixed": ("gain",), **changes})


def batches(store, count, seed=0, **changes):
    with Loader(store, sampler(**changes), seed=seed, workers=0) as loader:
        return [next(loader) for _ in range(count)]


def rows(batch):
    return batch.columns["gain"].astype(int)


def test_all_languages_and_their_speakers_are_equally_likely():
    corpus = corpus_of()
    weights = balanced_weights(corpus, ("language", "speaker"))
    np.testing.assert_allclose(weights.sum(), 1)
    of_speaker = Counter()
    for utterance, weight in zip(corpus.utterances, weights, strict=True):
        of_speaker[utterance.speaker] += weight
    expected = {"a": 1 / 9, "b": 1 / 9, "c": 1 / 9, "d": 1 / 3, "e": 1 / 6, "f": 1 / 6}
    assert of_speaker == pytest.approx(expected)
    one = {utterance.id: weight for utterance, weight in zip(corpus.utterances, weights, strict=True)}
    assert one["a0"] == pytest.approx(one["a11"]) and one["b0"] == pytest.approx(1 / 36)


def test_one_attribute_is_balanced_alone():
    weights = balanced_weights(corpus_of(), ("speaker",))
    assert weights[:12].sum() == pytest.approx(1 / 6) and weights[24:26].sum() == pytest.approx(1 / 6)
    np.testing.assert_allclose(balanced_weights(corpus_of(), ()), 1 / 32)


def test_utterances_occur_as_often_as_their_weights_say():
    store, weights = store_of(), balanced_weights(corpus_of(), ("language", "speaker"))
    for epoch in range(2):
        found = batches(store, 8 * (epoch + 1), balance=("language", "speaker"))[8 * epoch :]
        counts = np.bincount(np.concatenate([rows(batch) for batch in found]), minlength=32)
        assert (np.abs(counts - 32 * weights) < 1).all()


def test_without_attributes_every_utterance_occurs_once():
    found = np.concatenate([rows(batch) for batch in batches(store_of(), 8)])
    assert sorted(found) == list(range(32))


def test_epochs_and_seeds_differ_and_are_reproducible():
    store = store_of()
    first, again, other = (batches(store, 16, seed=seed, balance=("speaker",)) for seed in (1, 1, 2))
    orders = [[rows(batch).tolist() for batch in run] for run in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:8] != orders[0][8:]


def test_a_restored_loader_continues():
    store = store_of()
    with Loader(store, sampler(balance=("speaker",)), seed=3, workers=0) as loader:
        for _ in range(11):
            next(loader)
        state = loader.state()
        expected = rows(next(loader))
    with Loader(store, sampler(balance=("speaker",)), seed=3, workers=0) as loader:
        loader.restore(state)
        np.testing.assert_array_equal(rows(next(loader)), expected)


def test_batches_have_few_shapes_and_similar_lengths():
    found = batches(store_of(), 16, buckets=((4,), (8,), (11,)))
    assert {batch.columns["tokens"].shape for batch in found} <= {(4, 4), (4, 8), (4, 11)}
    spread = np.mean([np.ptp(batch.lengths["tokens"]) for batch in found])
    assert spread < 3  # of lengths from 1 to 11, four random ones differ by 7 on average
    for batch in found:
        for row, tokens, length in zip(rows(batch), batch.columns["tokens"], batch.lengths["tokens"], strict=True):
            np.testing.assert_array_equal(tokens, np.where(np.arange(len(tokens)) < length, row, 0))


@pytest.mark.parametrize(("batch_size", "share", "expected"), [(4, 0.25, 1), (8, 0.25, 2), (4, 0.9, 3), (4, 0.01, 1)])
def test_adapted_speakers_have_their_share_of_every_batch(batch_size, share, expected):
    store = store_of()
    adapted = {row for row, utterance in enumerate(store.corpus.utterances) if utterance.speaker == "d"}
    found = batches(store, 8, batch_size=batch_size, adapted=("d",), adapted_share=share)
    assert all(sum(row in adapted for row in rows(batch)) == expected for batch in found)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"pool": 1.5}, ConfigError, "pool is 1.5"),
        ({"balance": ("accent",)}, ConfigError, "'speaker' or 'language'"),
        ({"balance": "speaker"}, ConfigError, "balance is 'speaker'"),
        ({"adapted_share": 1.0}, ConfigError, r"adapted_share is 1\.0"),
        ({"adapted": ("a",), "batch_size": 1}, ConfigError, "at least 2"),
        ({"adapted": ("z",)}, DataError, "adapted contains 'z'"),
        ({"adapted": ("a", "b", "c", "d", "e", "f")}, DataError, "all speakers"),
        ({"columns": ()}, ConfigError, "at least one column"),
        ({"columns": ("mels",)}, DataError, "no column 'mels'"),
    ],
)
def test_bad_settings_are_rejected(changes, error, text):
    with pytest.raises(error, match=text):
        sampler(**changes).plan(store_of())


def test_utterances_without_the_attribute_are_named():
    corpus = corpus_of((("a", "", 2), ("b", "en", 1)))
    with pytest.raises(DataError, match="'a0', have no language"):
        balanced_weights(corpus, ("language",))
