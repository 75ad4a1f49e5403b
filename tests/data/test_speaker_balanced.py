"""Batches of N speakers with M recordings each: contents, frequencies, resuming, and shares of processes."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, LoaderState, SpeakerBalanced, Store, Utterance
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, DataError

COUNTS = {"ann": 40, "bob": 3, "cid": 9, "dee": 12, "eve": 1}


def make_store(counts=COUNTS, length=100):
    """Recordings of the speakers in turn; recording i contains the samples 500 i, 500 i + 1, ..."""
    speakers = [name for name, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(speakers))
    utterances = tuple(Utterance(f"u{i}", speaker=speakers[place]) for i, place in enumerate(order))
    clips = [(500 * i + np.arange(length)).astype(np.int16) for i in range(len(speakers))]
    columns = {"audio": clips, "gain": np.arange(1, len(clips) + 1, dtype=np.float32)}
    return Store(Corpus("folder", Path(), utterances), columns, 22050, MelConfig())


def recordings(batch, speakers):
    """The recordings in a batch, one row for each speaker."""
    return (batch.gain.astype(int) - 1).reshape(speakers, -1)


def take(store, sampler, count, **options):
    with Loader(store, sampler, **options) as loader:
        return list(itertools.islice(loader, count))


def assert_same_batches(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        np.testing.assert_array_equal(a.gain, b.gain)


def test_rows_are_different_speakers_with_different_recordings():
    store = make_store()
    name_of = [utterance.speaker for utterance in store.corpus.utterances]
    for batch in take(store, SpeakerBalanced(3, 4, segment=16), 60):
        assert batch.audio.shape == (12, 16)
        rows = recordings(batch, 3)
        names = [{name_of[index] for index in row} for row in rows]
        assert all(len(name) == 1 for name in names) and len(set().union(*names)) == 3
        for row, name in zip(rows, names, strict=True):
            assert len(set(row.tolist())) == min(4, COUNTS[next(iter(name))])


def test_speakers_are_drawn_equally_often():
    store = make_store()
    name_of = [utterance.speaker for utterance in store.corpus.utterances]
    batches = take(store, SpeakerBalanced(2, 2, segment=16), 2000, seed=3, workers=0)
    drawn = Counter(name_of[row[0]] for batch in batches for row in recordings(batch, 2))
    assert set(drawn) == set(COUNTS)
    # 2 of 5 speakers in 2000 batches: 800 times each; rounds make the counts more equal than chance.
    assert all(abs(count - 800) < 80 for count in drawn.values())


def test_recordings_repeat_after_all_others_of_the_speaker():
    store = make_store({"ann": 8, "bob": 8})
    name_of = [utterance.speaker for utterance in store.corpus.utterances]
    sampler = SpeakerBalanced(2, 2, segment=16)
    loader = Loader(store, sampler, workers=0)
    assert loader.steps_per_epoch == 4
    seen = np.concatenate([recordings(next(loader), 2).ravel() for _ in range(4)])
    assert sorted(seen) == list(range(16)) and Counter(name_of[i] for i in seen) == {"ann": 8, "bob": 8}
    again = np.concatenate([recordings(next(loader), 2).ravel() for _ in range(4)])
    assert sorted(again) == list(range(16)) and not np.array_equal(seen, again)


def test_repeated_recordings_have_other_crops():
    batches = take(make_store({"ann": 1, "bob": 1}, length=400), SpeakerBalanced(2, 4, segment=16), 10)
    for batch in batches:
        assert len({int(row[0]) for row in batch.audio}) == 8


def test_crops_are_parts_of_their_recordings():
    for batch in take(make_store(), SpeakerBalanced(4, 3, segment=16), 20):
        starts = batch.audio[:, 0] - 500 * (batch.gain.astype(int) - 1)
        np.testing.assert_array_equal(batch.audio, batch.audio[:, :1] + np.arange(16))
        assert (starts >= 0).all() and (starts <= 84).all()


@pytest.mark.parametrize("stop", [1, 5, 6, 13])
def test_loader_resumes_from_a_batch_for_any_number_of_workers(stop):
    store, sampler = make_store(), SpeakerBalanced(3, 4, segment=16)
    whole = take(store, sampler, 20, seed=9, workers=0)
    first = Loader(store, sampler, seed=9, workers=3)
    assert first.steps_per_epoch == 5
    with first:
        assert_same_batches(whole[:stop], list(itertools.islice(first, stop)))
    state = first.state()
    assert state == LoaderState(stop // 5, stop % 5, 9)
    with Loader(store, sampler, workers=1) as second:
        second.restore(state)
        assert_same_batches(whole[stop:], list(itertools.islice(second, 20 - stop)))
    other = take(store, sampler, 1, seed=8)
    assert not np.array_equal(other[0].audio, whole[0].audio)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_shares_of_processes_make_the_global_batch(count):
    store, sampler = make_store(), SpeakerBalanced(3, 4, segment=16)
    whole = take(store, sampler, 8)
    shares = [take(store, sampler, 8, process_index=i, process_count=count) for i in range(count)]
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([share[step].audio for share in shares]), batch.audio)


def test_pairs_are_cropped_at_frames():
    store = make_store()
    mels = [np.broadcast_to(np.arange(25, dtype=np.float32) + 500 * i, (3, 25)) for i in range(len(store))]
    for batch in take(store.with_columns(mel=mels), SpeakerBalanced(3, 2, segment=32, hop_length=4), 10):
        assert batch.mel is not None and batch.mel.shape == (6, 3, 8)
        clips = batch.gain.astype(int) - 1
        np.testing.assert_array_equal(batch.audio[:, 0] - 500 * clips, 4 * (batch.mel[:, 0, 0] - 500 * clips))


def test_stores_without_enough_speakers_raise_an_error():
    with pytest.raises(DataError, match=r"speakers is 6; it should be at most 5"):
        Loader(make_store(), SpeakerBalanced(6, 2, segment=16))
    with pytest.raises(DataError, match=r"2 recording\(s\), for example 'u\d', have no speaker"):
        Loader(make_store({"ann": 3, "": 2}), SpeakerBalanced(1, 2, segment=16))
    with pytest.raises(ConfigError, match="speakers is 0; it should be a whole number"):
        SpeakerBalanced(0, 2, segment=16)
    with pytest.raises(ConfigError, match="should be a multiple of the number of processes, 5"):
        Loader(make_store(), SpeakerBalanced(3, 4, segment=16), process_count=5)


def test_description_consists_of_json_values():
    loader = Loader(make_store(), SpeakerBalanced(3, 4, segment=16))
    about = {"clips": 65, "samples": 6500, "speakers": 3, "utterances": 4, "segment": 16}
    assert loader.describe() == about
