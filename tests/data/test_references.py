"""References of the same speaker for the rows of a batch."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, LoaderState, RandomCrops, SpeakerBalanced, Store, Utterance, WithReferences
from jaxvoice.data.references import shuffle_pieces
from jaxvoice.errors import ConfigError, DataError

SPEAKERS = ("ann", "bob", "ann", "ann", "cid", "bob", "ann")
LENGTHS = (90, 70, 50, 120, 80, 60, 20)


def make_store(speakers=SPEAKERS):
    """Frame t of utterance i has the value 1000 i + t in both bands of the mel."""
    utterances = tuple(Utterance(f"u{i}", speaker=name) for i, name in enumerate(speakers))
    mels = [np.stack([1000 * i + np.arange(length)] * 2).astype(np.float32) for i, length in enumerate(LENGTHS)]
    audio = [np.zeros(10 * length, np.int16) for length in LENGTHS]
    columns = {"audio": audio, "gain": np.ones(len(LENGTHS), np.float32), "mel": mels}
    return Store(Corpus("folder", Path(), utterances), columns, 22050)


def crops(**options):
    return RandomCrops(4, 100, hop_length=10, columns=("mel",), mel_padding=0.0, **options)


def take(sampler, count=40, store=None, **options):
    with Loader(store or make_store(), sampler, workers=0, **options) as loader:
        return list(itertools.islice(loader, count))


def rows_of(values):
    """The utterance of each row."""
    return (values[:, 0, 0] // 1000).astype(int)


def test_references_are_other_utterances_of_the_same_speaker():
    drawn = set()
    for batch in take(WithReferences(crops(), 32)):
        assert batch.columns["reference"].shape == (4, 2, 32)
        for own, reference in zip(rows_of(batch.columns["mel"]), rows_of(batch.columns["reference"]), strict=True):
            assert SPEAKERS[own] == SPEAKERS[reference]
            assert own != reference or SPEAKERS[own] == "cid"
            drawn.add((int(own), int(reference)))
    ann = (0, 2, 3, 6)
    assert {(a, b) for a in ann for b in ann if a != b} <= drawn


def test_references_are_crops_and_short_ones_are_padded():
    starts = set()
    for batch in take(WithReferences(crops(), 32, padding=-7.0)):
        for row, values, count in zip(
            rows_of(batch.columns["reference"]), batch.columns["reference"], batch.lengths["reference"], strict=True
        ):
            assert count == min(32, LENGTHS[row])
            np.testing.assert_array_equal(np.diff(values[0, :count]), 1)
            assert (values[:, count:] == -7).all()
            assert 0 <= values[0, 0] - 1000 * row <= max(0, LENGTHS[row] - 32)
            starts.add(float(values[0, 0]))
    assert len(starts) > 60


def test_references_of_the_same_utterance_are_shuffled_in_pieces():
    orders = set()
    for batch in take(WithReferences(crops(), 50, source="same", pieces=(6, 9))):
        np.testing.assert_array_equal(rows_of(batch.columns["mel"]), rows_of(batch.columns["reference"]))
        for values, count in zip(batch.columns["reference"], batch.lengths["reference"], strict=True):
            frames = np.sort(values[0, :count])
            np.testing.assert_array_equal(np.diff(frames), 1)
            np.testing.assert_array_equal(values[0, :count], values[1, :count])
            orders.add(tuple(values[0, :count] - frames[0]))
    assert len(orders) > 100


def test_pieces_have_the_given_lengths():
    values = np.arange(200)[None]
    lengths = []
    for seed in range(30):
        shuffled = shuffle_pieces(values, (30, 45), seed)[0]
        assert sorted(shuffled) == list(range(200))
        ends = np.flatnonzero(np.diff(shuffled) != 1) + 1
        pieces = np.split(shuffled, ends)
        # Two pieces that stay neighbours look like one, so only pieces of at most 45 frames are counted.
        lengths += [len(piece) for piece in pieces if piece[-1] != 199 and len(piece) <= 45]
    assert min(lengths) >= 30 and len(set(lengths)) > 10
    np.testing.assert_array_equal(shuffle_pieces(values, (30, 45), 3), shuffle_pieces(values, (30, 45), 3))


def test_order_of_pieces_does_not_depend_on_their_lengths():
    ascending: list[bool] = []
    for seed in range(200):
        shuffled = shuffle_pieces(np.arange(85), (30, 40), seed)
        ends = np.flatnonzero(np.diff(shuffled) != 1) + 1
        pieces = [len(part) for part in np.split(shuffled, ends) if part[-1] != 84]  # without the rest at the end
        ascending += [pieces[0] < pieces[1]] if len(pieces) == 2 and pieces[0] != pieces[1] else []
    assert len(ascending) > 30 and 0.25 < np.mean(ascending) < 0.75


def test_batches_resume_and_are_shared_between_processes():
    sampler = WithReferences(
        SpeakerBalanced(2, 2, 100, hop_length=10, columns=("mel",), mel_padding=0.0), 40, pieces=(8, 12)
    )
    whole = take(sampler, 12, seed=5)
    with Loader(make_store(), sampler, workers=2) as loader:
        loader.restore(LoaderState(*_place(loader, 6, 5)))
        later = list(itertools.islice(loader, 6))
    for a, b in zip(whole[6:], later, strict=True):
        np.testing.assert_array_equal(a.columns["reference"], b.columns["reference"])
    parts = [take(sampler, 12, seed=5, process_index=i, process_count=2) for i in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for name in ("mel", "reference"):
            joined = np.concatenate([share.columns[name] for share in shares])
            np.testing.assert_array_equal(joined, batch.columns[name])


def _place(loader, index, seed):
    epoch, position = divmod(index, loader.steps_per_epoch)
    return epoch, position, seed


def test_description_counts_speakers_with_one_utterance():
    with Loader(make_store(), WithReferences(crops(), 32), workers=0) as loader:
        # The description is written to the config.json of a run.
        assert json.loads(json.dumps(loader.describe()["references"])) == {
            "length": 32,
            "column": "mel",
            "source": "other",
            "without_other_utterance": 1,
        }


def test_errors():
    with pytest.raises(ConfigError, match="source is 'any'"):
        WithReferences(crops(), 32, source="any")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pieces is"):
        WithReferences(crops(), 32, pieces=(9, 4))
    with pytest.raises(ConfigError, match="length is 0"):
        WithReferences(crops(), 0)
    with pytest.raises(DataError, match="no speaker"):
        WithReferences(crops(), 32).plan(make_store(("", *SPEAKERS[1:])))
