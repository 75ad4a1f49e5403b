import threading
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, LoaderState, RandomCrops, Store, Utterance, find_corpus, load_store
from jaxvoice.data.samplers import permutation, random_bits
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, DataError

HOP = 4


def make_store(lengths, mel_frames=None):
    """Clip i has the samples 500 i, 500 i + 1, ...; frame j of its mel is 500 i + j in every band."""
    clips = [500 * i + np.arange(length, dtype=np.int16) for i, length in enumerate(lengths)]
    mels = None
    if mel_frames is not None:
        mels = [np.broadcast_to((500 * i + np.arange(n)).astype(np.float32), (3, n)) for i, n in enumerate(mel_frames)]
    gains = np.arange(1, len(clips) + 1, dtype=np.float32)
    return store_of(clips, gains, mels)


def store_of(clips, gains, mels=None):
    utterances = tuple(Utterance(f"u{index}") for index in range(len(clips)))
    columns = {"audio": clips, "gain": gains} | ({} if mels is None else {"mel": mels})
    return Store(Corpus("folder", Path(), utterances), columns, 22050, MelConfig())


def loader_of(store, *, seed=0, workers=2, prefetch=8, process_index=0, process_count=1, **sizes):
    """A loader of random crops of `sizes`."""
    share = {"process_index": process_index, "process_count": process_count}
    return Loader(store, RandomCrops(**sizes), seed=seed, workers=workers, prefetch=prefetch, **share)


def take(loader, count):
    with loader:
        return [next(loader) for _ in range(count)]


def assert_same_batches(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        np.testing.assert_array_equal(a.gain, b.gain)
        assert (a.mel is None) == (b.mel is None)
        if a.mel is not None:
            np.testing.assert_array_equal(a.mel, b.mel)


def clip_of(batch):
    """The recording of each row, which the gain identifies."""
    return (batch.gain - 1).astype(int)


def test_random_bits_equal_splitmix64():
    # First outputs of the published generator for the states 0 and 1234567.
    assert int(random_bits(0)[0]) == 0xE220A8397B1DCDAF
    assert int(random_bits(1234567)[0]) == 6457827717110365317


def test_permutations_are_permutations_and_differ():
    orders = [permutation(1000, 1, epoch) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert np.mean(orders[0] == orders[1]) < 0.02 and np.mean(orders[1] == orders[2]) < 0.02


@pytest.mark.parametrize("workers", [0, 2, 5])
def test_workers_and_prefetch_do_not_change_batches(workers):
    store = make_store(range(20, 60))
    one = take(loader_of(store, batch_size=4, segment=16, seed=3, workers=1, prefetch=1), 25)
    assert_same_batches(one, take(loader_of(store, batch_size=4, segment=16, seed=3, workers=workers, prefetch=7), 25))
    other = take(loader_of(store, batch_size=4, segment=16, seed=4, workers=workers), 1)
    assert not np.array_equal(one[0].audio, other[0].audio)


def test_crops_are_parts_of_their_recordings():
    for batch in take(loader_of(make_store(range(30, 70)), batch_size=8, segment=16), 10):
        assert batch.audio.dtype == np.int16 and batch.audio.shape == (8, 16) and batch.mel is None
        starts = batch.audio[:, 0] - 500 * clip_of(batch)
        np.testing.assert_array_equal(batch.audio, batch.audio[:, :1] + np.arange(16))
        assert (starts >= 0).all() and (starts + 16 <= 30 + clip_of(batch)).all()


def test_starts_are_uniform():
    store = make_store([23] * 8)  # eight starts: 0 to 7
    batches = take(loader_of(store, batch_size=8, segment=16, workers=0), 1000)
    starts = np.concatenate([batch.audio[:, 0] - 500 * clip_of(batch) for batch in batches])
    counts = np.bincount(starts, minlength=8)
    assert len(counts) == 8 and ((counts - 1000) ** 2 / 1000).sum() < 24.3  # chi squared, 7 degrees, p = 0.001


def test_epoch_contains_every_recording_once_in_a_new_order():
    store = make_store([30] * 22)
    loader = loader_of(store, batch_size=4, segment=16, seed=1)
    assert loader.steps_per_epoch == 5
    batches = take(loader, 15)
    epochs = [np.concatenate([clip_of(batch) for batch in batches[5 * e : 5 * e + 5]]) for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 20
    assert any(set(epochs[0]) != set(epoch) for epoch in epochs[1:])
    assert not np.array_equal(epochs[0], epochs[1])


def test_batches_without_shuffle_follow_the_store():
    batches = take(loader_of(make_store([30] * 8), batch_size=4, segment=16, shuffle=False), 4)
    assert [clip_of(batch).tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2


def test_loader_describes_its_crops():
    loader = loader_of(make_store([200, 30, 70]), batch_size=2, segment=16, crops_per_clip=4)
    about = {"clips": 3, "samples": 300, "batch_size": 2, "segment": 16, "crops_per_clip": 4, "shuffle": True}
    assert loader.describe() == about


def test_crops_per_clip_repeat_recordings():
    loader = loader_of(make_store([200] * 6), batch_size=4, segment=16, crops_per_clip=4)
    assert loader.steps_per_epoch == 6
    batches = take(loader, 6)
    np.testing.assert_array_equal(np.bincount(np.concatenate([clip_of(batch) for batch in batches])), 4)
    crops = {(int(row[0]), int(row[-1])) for batch in batches for row in batch.audio}
    assert len(crops) > 20


def test_fewer_recordings_than_a_batch_repeat_with_other_crops():
    loader = loader_of(make_store([400] * 3), batch_size=8, segment=16)
    assert loader.steps_per_epoch == 1
    first, second = take(loader, 2)
    assert sorted(np.bincount(clip_of(first))) == [2, 3, 3]
    assert len(np.unique(first.audio[:, 0])) == 8
    assert not np.array_equal(first.audio, second.audio)


def test_short_recordings_are_padded_at_the_end():
    (batch,) = take(loader_of(make_store([10, 16]), batch_size=2, segment=16, shuffle=False), 1)
    np.testing.assert_array_equal(batch.audio[0], [*range(10), 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch.audio[1], 500 + np.arange(16))


@pytest.mark.parametrize("stop", [1, 5, 6, 13])
def test_loader_resumes_from_a_batch(stop):
    store = make_store(range(20, 45))
    arguments = {"batch_size": 4, "segment": 16, "seed": 9}
    whole = take(loader_of(store, **arguments), 20)
    first = loader_of(store, workers=3, **arguments)
    assert_same_batches(whole[:stop], take(first, stop))
    state = first.state()
    assert state == LoaderState(stop // 6, stop % 6, 9)
    second = loader_of(store, **(arguments | {"seed": 0}), workers=1)
    next(second)
    second.restore(LoaderState(*state))
    assert_same_batches(whole[stop:], take(second, 20 - stop))


def test_position_past_the_end_is_the_next_epoch():
    with loader_of(make_store([30] * 8), batch_size=4, segment=16) as loader:
        loader.restore(LoaderState(3, 2, 0))
        assert loader.state() == LoaderState(4, 0, 0)
        with pytest.raises(ConfigError, match="batch -1"):
            loader.restore(LoaderState(0, -1, 0))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("clips", [3, 21])
def test_shares_of_processes_make_the_global_batch(count, clips):
    store = make_store(range(40, 40 + clips))
    arguments = {"batch_size": 8, "segment": 16, "seed": 5}
    whole = take(loader_of(store, **arguments), 12)
    loaders = [loader_of(store, process_index=i, process_count=count, workers=1, **arguments) for i in range(count)]
    shares = [take(loader, 12) for loader in loaders]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert all(len(part.gain) == 8 // count for part in parts)
        np.testing.assert_array_equal(np.concatenate([part.audio for part in parts]), batch.audio)
        np.testing.assert_array_equal(np.concatenate([part.gain for part in parts]), batch.gain)


def test_crops_of_pairs_are_aligned():
    frames = [8, 20, 30, 41]
    store = make_store([HOP * 8 + 1, HOP * 20, HOP * 25 + 3, HOP * 60], frames)
    starts = {clip: set() for clip in range(4)}
    for batch in take(loader_of(store, batch_size=4, segment=8 * HOP, hop_length=HOP), 500):
        assert batch.mel is not None and batch.mel.shape == (4, 3, 8) and batch.mel.dtype == np.float32
        for clip, audio, mel in zip(clip_of(batch), batch.audio, batch.mel, strict=True):
            start = int(mel[0, 0]) - 500 * clip
            np.testing.assert_array_equal(mel, np.broadcast_to(500 * clip + start + np.arange(8), (3, 8)))
            np.testing.assert_array_equal(audio, 500 * clip + start * HOP + np.arange(8 * HOP))
            starts[clip].add(start)
    # Every start at which both the mel and the audio reach, and no other.
    assert starts == {0: {0}, 1: set(range(13)), 2: set(range(18)), 3: set(range(34))}


def test_mels_shorter_than_a_segment_are_padded_with_silence():
    store = make_store([HOP * 5, HOP * 30], [5, 6])
    (batch,) = take(loader_of(store, batch_size=2, segment=8 * HOP, hop_length=HOP, shuffle=False), 1)
    assert batch.mel is not None
    np.testing.assert_array_equal(batch.mel[0, :, :5], np.broadcast_to(np.arange(5), (3, 5)))
    np.testing.assert_allclose(batch.mel[0, :, 5:], np.log(1e-5), rtol=1e-6)
    np.testing.assert_array_equal(batch.audio[0, HOP * 5 :], 0)
    np.testing.assert_array_equal(batch.mel[1, :, :6], np.broadcast_to(500 + np.arange(6), (3, 6)))


class Fragile(list):
    """Recordings of which one raises an error while `broken` is true."""

    broken = True

    def __getitem__(self, index):
        if self.broken and index == 5:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 3])
def test_errors_in_workers_reach_the_caller_and_lose_no_batch(workers):
    whole = make_store([30] * 8)
    expected = take(loader_of(whole, batch_size=2, segment=16, shuffle=False), 4)
    clips = Fragile(whole["audio"])
    store = whole.with_columns(audio=clips)
    with loader_of(store, batch_size=2, segment=16, shuffle=False, workers=workers) as loader:
        assert_same_batches(expected[:2], [next(loader), next(loader)])
        for _ in range(2):
            with pytest.raises(OSError, match="disk is gone"):
                next(loader)
            assert loader.state() == LoaderState(0, 2, 0)
        clips.broken = False
        assert_same_batches(expected[2:], [next(loader), next(loader)])


def test_close_stops_the_threads():
    before = threading.active_count()
    with loader_of(make_store([30] * 8), batch_size=4, segment=16, workers=4, prefetch=16) as loader:
        next(loader)
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert loader.state() == LoaderState(0, 1, 0)
    with pytest.raises(DataError, match="closed"):
        next(loader)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"segment": 0}, "segment"),
        ({"workers": -1}, "workers"),
        ({"crops_per_clip": 0}, "crops_per_clip"),
        ({"process_count": 3}, "multiple"),
        ({"process_count": 2, "process_index": 2}, "from 0 to 1"),
        ({"segment": 18, "hop_length": HOP}, "multiple of hop_length, 4"),
    ],
)
def test_impossible_sizes_raise_an_error(arguments, said):
    with pytest.raises(ConfigError, match=said):
        loader_of(make_store([40] * 4, [10] * 4), **({"batch_size": 4, "segment": 16} | arguments))


def test_loader_crops_real_recordings(real_clips):
    store = load_store(find_corpus(real_clips / "LJSpeech-1.1"), 22050)
    batches = take(loader_of(store, batch_size=8, segment=8192, seed=1), 9)
    for batch in batches:
        assert batch.audio.shape == (8, 8192) and len(set(batch.gain.tolist())) > 1
        assert np.abs(batch.audio * batch.gain[:, None]).max() <= 0.95 + 1e-6
    assert np.mean([np.abs(batch.audio).max() > 1000 for batch in batches]) > 0.9
