"""Batches of whole utterances: shapes, order, resuming, and the shares of processes."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import (
    Bucket,
    Corpus,
    LengthBuckets,
    Loader,
    LoaderState,
    Store,
    Utterance,
    batches_in_order,
    choose_buckets,
    collate_utterances,
)
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.text.phonemes import ALIGNED

MEL = MelConfig(num_mels=3, fmax=None)


def make_store(count=50, seed=0, most=200):
    """All mel values of utterance i are i + 1, which identifies the utterances of a batch."""
    rng = np.random.default_rng(seed)
    mels, ids, durations, utterances = [], [], [], []
    for index in range(count):
        lengths = rng.integers(1, 9, int(rng.integers(2, most // 8))).astype(np.int32)
        mels.append(np.full((3, lengths.sum()), index + 1, np.float32))
        ids.append(rng.integers(1, 55, len(lengths)).astype(np.int32))
        durations.append(lengths)
        utterances.append(Utterance(f"u{index}"))
    return store_of(tuple(utterances), mels, ids, durations)


def store_of(utterances, mels, ids, durations):
    corpus = Corpus("table", Path(), utterances, phone_set=ALIGNED)
    return Store(corpus, {"mel": mels, "phonemes": ids, "durations": durations}, MEL.sample_rate, MEL)


def loader_of(store, *, seed=0, process_index=0, process_count=1, **sizes):
    share = {"process_index": process_index, "process_count": process_count}
    return Loader(store, LengthBuckets(**sizes), seed=seed, workers=0, **share)


def buckets_of(loader):
    return tuple(Bucket(*sizes) for sizes in loader.describe()["buckets"])


def who(batch):
    return (batch.mel[:, 0, 0] - 1).astype(int).tolist()


def take(loader, count):
    return [next(loader) for _ in range(count)]


def assert_same_batches(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_batch_contains_utterances_padded_with_zeros():
    store = make_store()
    batch = next(loader_of(store, batch_size=4))
    types = (np.int32, np.int32, np.float32, np.float32, np.int32)
    assert tuple(array.dtype for array in batch) == tuple(map(np.dtype, types))
    for row, index in enumerate(who(batch)):
        phones, frames = len(store["phonemes"][index]), store["mel"][index].shape[1]
        assert batch.phone_count[row] == phones and batch.frame_count[row] == frames
        np.testing.assert_array_equal(batch.phonemes[row, :phones], store["phonemes"][index])
        np.testing.assert_array_equal(batch.durations[row, :phones], store["durations"][index])
        np.testing.assert_array_equal(batch.mel[row, :, :frames], store["mel"][index])
        assert not batch.phonemes[row, phones:].any() and not batch.durations[row, phones:].any()
        assert not batch.mel[row, :, frames:].any()
    np.testing.assert_array_equal(batch.durations.sum(1), batch.frame_count)


def test_epoch_contains_every_utterance_once_except_a_changing_remainder():
    store = make_store(50)
    loader = loader_of(store, batch_size=4)
    assert loader.steps_per_epoch == 12
    left_out = []
    for _ in range(30):
        seen = sorted(index for batch in take(loader, 12) for index in who(batch))
        assert len(set(seen)) == len(seen) == 48
        left_out += sorted(set(range(50)) - set(seen))
    assert len(set(left_out)) > 30  # 60 draws: not always the same


def test_fewer_utterances_than_a_batch_repeat():
    loader = loader_of(make_store(3), batch_size=8)
    assert loader.steps_per_epoch == 1
    assert np.bincount(who(next(loader))).min() >= 2
    assert loader.state() == LoaderState(1, 0, 0)


def test_shapes_are_few_and_sufficient():
    store = make_store(400)
    loader = loader_of(store, batch_size=8, pool=8)
    batches = take(loader, loader.steps_per_epoch)
    shapes = {(batch.mel.shape[2], batch.phonemes.shape[1]) for batch in batches}
    assert shapes <= set(buckets_of(loader)) and 1 < len(shapes) <= 4
    assert all(len(batch.phone_count) == 8 for batch in batches)
    for batch in batches:
        smaller = [b for b in buckets_of(loader) if b.frames < batch.mel.shape[2]]
        assert not any(batch.frame_count.max() <= b.frames and batch.phone_count.max() <= b.phones for b in smaller)


def test_sorting_within_pools_reduces_padding():
    store = make_store(400)

    def used(pool):
        loader = loader_of(store, batch_size=8, pool=pool)
        batches = take(loader, loader.steps_per_epoch)
        return sum(int(b.frame_count.sum()) for b in batches) / sum(b.mel[:, 0].size for b in batches)

    assert used(16) > 0.65 and used(1) < 0.5


def test_batches_are_shuffled_not_sorted():
    """The lengths of successive batches are not sorted, and differ between epochs."""
    loader = loader_of(make_store(400), batch_size=8)
    first, second = ([batch.frame_count.max() for batch in take(loader, 50)] for _ in range(2))
    assert first != second
    for lengths in (first, second):
        rising = np.mean(np.diff(lengths) >= 0)
        assert 0.3 < rising < 0.7 and abs(np.corrcoef(np.arange(50), lengths)[0, 1]) < 0.5
    groups = [{frozenset(who(b)) for b in take(loader_of(make_store(400), batch_size=8, seed=s), 50)} for s in (0, 1)]
    assert len(groups[0] & groups[1]) < 5  # other companions too, not only another order


def test_batches_depend_on_the_seed():
    store = make_store()
    assert_same_batches(take(loader_of(store, batch_size=4), 30), take(loader_of(store, batch_size=4), 30))
    assert who(next(loader_of(store, batch_size=4))) != who(next(loader_of(store, batch_size=4, seed=1)))


@pytest.mark.parametrize("stop", [0, 1, 11, 12, 13, 25])
def test_loader_resumes_from_a_batch(stop):
    store = make_store()
    whole = take(loader_of(store, batch_size=4, seed=3), 30)
    first = loader_of(store, batch_size=4, seed=3)
    take(first, stop)
    kept = json.loads(json.dumps(first.state()))
    second = loader_of(store, batch_size=4, seed=8)
    take(second, 2)
    second.restore(LoaderState(*kept))
    assert_same_batches(take(second, 30 - stop), whole[stop:])


def test_restore_past_the_end_is_the_next_epoch():
    loader = loader_of(make_store(), batch_size=4)
    loader.restore(LoaderState(2, 12, 5))
    assert loader.state() == LoaderState(3, 0, 5)
    with pytest.raises(ConfigError, match="batch -1"):
        loader.restore(LoaderState(0, -1, 0))


def test_shares_of_processes_make_the_global_batch():
    store = make_store()
    whole = take(loader_of(store, batch_size=6), 20)
    parts = [take(loader_of(store, batch_size=6, process_index=i, process_count=3), 20) for i in range(3)]
    joined = [
        type(batch)(*map(np.concatenate, zip(*shares, strict=True)))
        for *shares, batch in zip(*parts, whole, strict=True)
    ]
    assert_same_batches(joined, whole)


def test_without_shuffle_the_order_is_fixed():
    loader = loader_of(make_store(), batch_size=4, shuffle=False, pool=1)
    first, second = ([who(batch) for batch in take(loader, 12)] for _ in range(2))
    assert first == second and sorted(first[0]) == [0, 1, 2, 3] and sorted(first[11]) == [44, 45, 46, 47]


def test_chosen_buckets_fit_all_utterances():
    store = make_store(100)
    buckets = choose_buckets(store, 3, frame_multiple=16, phone_multiple=4)
    assert len(buckets) == 3 and all(b.frames % 16 == 0 and b.phones % 4 == 0 for b in buckets)
    for ids, mel in zip(store["phonemes"], store["mel"], strict=True):
        assert any(len(ids) <= b.phones and mel.shape[1] <= b.frames for b in buckets)
    counts = [sum(mel.shape[1] <= b.frames for mel in store["mel"]) for b in buckets]
    assert counts[-1] == 100 and 33 <= counts[0] < 50 and 66 <= counts[1] < 85


def test_buckets_respect_the_limits_of_a_model():
    """147 phones are padded to 150 where no more positions are learned, and not to 152."""
    store = make_store(20, most=64)
    store["phonemes"][3], store["durations"][3] = np.ones(147, np.int32), np.full(147, 6, np.int32)
    store["mel"][3] = np.zeros((3, 882), np.float32)
    assert choose_buckets(store, 1) == (Bucket(896, 152),)
    assert choose_buckets(store, 1, max_frames=890, max_phones=150) == (Bucket(890, 150),)
    assert choose_buckets(store, 1, max_frames=882, max_phones=147) == (Bucket(882, 147),)
    wide, narrow = choose_buckets(store, 3), choose_buckets(store, 3, max_frames=890, max_phones=150)
    assert narrow[:-1] == wide[:-1] and narrow[-1] == Bucket(890, 150)
    shapes = {batch.phonemes.shape[1] for _, batch in batches_in_order(store, 4, max_frames=890, max_phones=150)}
    assert max(shapes) == 150
    loader_of(store, batch_size=4, buckets=narrow)
    with pytest.raises(ConfigError, match=r"u3 has 147 phones and exceeds max_phones=146"):
        choose_buckets(store, max_phones=146)
    with pytest.raises(ConfigError, match=r"u3 has 882 frames and exceeds max_frames=881"):
        list(batches_in_order(store, 4, max_frames=881))


def test_given_buckets_are_used_and_checked():
    store = make_store(20, most=64)
    loader = loader_of(store, batch_size=4, buckets=[(64, 10), (40, 4)])
    assert buckets_of(loader) == (Bucket(40, 4), Bucket(64, 10))
    with pytest.raises(ConfigError, match=r"utterance\(s\), for example 'u\d+' .* exceed the largest bucket \(8, 10\)"):
        loader_of(store, batch_size=4, buckets=[(8, 10)])
    with pytest.raises(ConfigError, match="fewer phones"):
        loader_of(store, batch_size=4, buckets=[(64, 10), (40, 12)])
    with pytest.raises(ConfigError, match="of at least 1"):
        loader_of(store, batch_size=4, buckets=[(64, 0)])
    with pytest.raises(ConfigError, match="does not fit in"):
        collate_utterances(store, [0], Bucket(1, 1))


def test_batches_in_order_yield_every_utterance_once():
    store = make_store(50)
    batches = list(batches_in_order(store, 8))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(50)) and len(batches) == 7
    rows, last = batches[-1]
    assert len(rows) == 2 and last.mel.shape[0] == 8 and not last.frame_count[2:].any() and not last.mel[2:].any()
    assert who(last)[:2] == rows.tolist()


def test_loader_describes_its_batches_and_closes():
    store = make_store()
    with loader_of(store, batch_size=4) as loader:
        described = json.loads(json.dumps(loader.describe()))
        next(loader)
    assert described["utterances"] == 50 and described["batch_size"] == 4 and described["frames"] == store.frames
    assert described["buckets"] == [list(bucket) for bucket in buckets_of(loader)]
    with pytest.raises(DataError, match="closed"):
        next(loader)
    assert loader.state().index == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; it should be a whole number"),
        ({"batch_size": 4, "pool": 0}, "pool is 0; it should"),
        ({"batch_size": 4, "process_count": 3}, "should be a multiple of the number of processes, 3"),
        ({"batch_size": 4, "process_index": 1}, "from 0 to 0"),
    ],
)
def test_impossible_sizes_raise_an_error(arguments, said):
    with pytest.raises(ConfigError, match=said):
        loader_of(make_store(5), **arguments)


def test_empty_store_raises_an_error():
    empty = store_of((), [], [], [])
    with pytest.raises(DataError, match="no utterances"):
        loader_of(empty, batch_size=2)
