from dataclasses import replace
from pathlib import Path

import pytest

from jaxvoice.data import Corpus, Utterance, split
from jaxvoice.errors import DataError


def corpus(count, held_out=()):
    utterances = tuple(Utterance(f"u{i:04d}", Path(f"{i}.wav")) for i in range(count))
    return Corpus("folder", Path("somewhere"), utterances, validation_ids=frozenset(held_out))


def ids(part):
    return [utterance.id for utterance in part.utterances]


def test_split_holds_out_the_last_utterances():
    train, valid = split(corpus(24), 4)
    assert ids(valid) == ["u0020", "u0021", "u0022", "u0023"] and ids(train) == [f"u{i:04d}" for i in range(20)]
    assert len(split(corpus(24), 0.25)[1]) == 6


@pytest.mark.parametrize("validation", [0, 3, 0.1, 0.5])
@pytest.mark.parametrize("how", ["last", "random"])
def test_sides_are_disjoint_and_complete(validation, how):
    whole = corpus(50)
    train, valid = split(whole, validation, how=how)
    assert sorted(ids(train) + ids(valid)) == ids(whole)
    assert (ids(train), ids(valid)) == (sorted(ids(train)), sorted(ids(valid)))
    if isinstance(validation, int):
        assert len(valid) == validation


def test_random_split_depends_on_the_seed():
    whole = corpus(200)
    shuffled = replace(whole, utterances=whole.utterances[::-1])
    first = set(ids(split(whole, 20, seed=1, how="random")[1]))
    assert first == set(ids(split(shuffled, 20, seed=1, how="random")[1]))
    assert first != set(ids(split(whole, 20, seed=2, how="random")[1]))


def test_random_fraction_is_stable_when_files_are_added():
    few, many = corpus(500), corpus(1000)
    before, after = (set(ids(split(part, 0.1, how="random")[1])) for part in (few, many))
    assert before == {name for name in after if name < "u0500"}
    assert 70 <= len(after) <= 130


def test_split_of_the_corpus_is_the_default():
    assert ids(split(corpus(10, ["u0003"]))[1]) == ["u0003"]
    assert len(split(corpus(100))[1]) == 5 and len(split(corpus(13_100))[1]) == 150


def test_corpus_of_one_recording_can_be_split():
    with pytest.raises(DataError, match=r"Holding out 1 of the 1 .*--validation 0"):
        split(corpus(1))
    train, valid = split(corpus(1), 0)
    assert (len(train), len(valid)) == (1, 0)


@pytest.mark.parametrize("validation", [2, 5, -1, 1.0, -0.5])
def test_impossible_splits_raise_an_error(validation):
    with pytest.raises(DataError, match=r"none to train on|size of the validation set is"):
        split(corpus(2), validation)
