"""Batches of whole utterances in few shapes: sorted by length within pools, then shuffled, and resumable."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64

from jaxvoice.data.aligned.store import AlignedStore
from jaxvoice.data.resuming import LoaderState, ResumableLoader
from jaxvoice.data.sampling import permutation
from jaxvoice.errors import ConfigError, DataError

_UTTERANCES, _BATCHES = 0, 1  # separate streams of random numbers


class AlignedBatch(NamedTuple):
    """Utterances padded to one shape.

    `phonemes` (batch, phones), ids, 0 in pads; `phone_count` (batch,); `durations` (batch, phones) in frames, 0 in
    pads; `mel` (batch, mels, frames), log-mel as the contract has it, 0 in pads; `frame_count` (batch,).
    """

    phonemes: Int32[np.ndarray, "batch phones"]
    phone_count: Int32[np.ndarray, " batch"]
    durations: Float32[np.ndarray, "batch phones"]
    mel: Float32[np.ndarray, "batch mels frames"]
    frame_count: Int32[np.ndarray, " batch"]


class Bucket(NamedTuple):
    """The shape that utterances of up to so many frames and phones are padded to."""

    frames: int
    phones: int


def choose_buckets(
    store: AlignedStore,
    count: int = 4,
    *,
    frame_multiple: int = 32,
    phone_multiple: int = 8,
    max_frames: int | None = None,
    max_phones: int | None = None,
) -> tuple[Bucket, ...]:
    """At most `count` buckets that hold the utterances of `store`, about as many in each.

    The number of frames of each is rounded up to `frame_multiple`, and as many phones as any utterance of so many
    frames has to `phone_multiple`; but no bucket exceeds `max_frames` and `max_phones`, the positions of a model.

    **Raises:** `ConfigError` for numbers below 1 or an utterance beyond the limits, `DataError` for an empty store.
    """
    for name, value in {"count": count, "frame_multiple": frame_multiple, "phone_multiple": phone_multiple}.items():
        if value < 1:
            raise ConfigError(f"{name} should be at least 1, got {value}.")
    frames, phones = _lengths(store)
    _check_longest(store, "frames", frames, max_frames)
    _check_longest(store, "phones", phones, max_phones)
    ordered = np.sort(frames)
    last = [-(-len(ordered) * (number + 1) // count) - 1 for number in range(count)]
    edges = sorted({_rounded(int(ordered[index]), frame_multiple, max_frames) for index in last})
    most = [int(phones[frames <= edge].max()) for edge in edges]
    rounded = [_rounded(number, phone_multiple, max_phones) for number in most]
    return tuple(map(Bucket, edges, rounded))


def collate(
    store: AlignedStore, indices: Sequence[int] | Int64[np.ndarray, " batch"], bucket: Bucket, rows: int | None = None
) -> AlignedBatch:
    """The utterances `indices` of `store`, padded to `bucket`, and to `rows` with rows of no phones and no frames.

    **Raises:** `ConfigError` if one of them does not fit.
    """
    count = len(indices) if rows is None else rows
    if len(indices) > count:
        raise ConfigError(f"{len(indices)} utterances do not fit in {count} rows.")
    phonemes = np.zeros((count, bucket.phones), np.int32)
    durations = np.zeros((count, bucket.phones), np.float32)
    mel = np.zeros((count, store.mel.num_mels, bucket.frames), np.float32)
    phone_count, frame_count = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for row, index in enumerate(indices):
        phones, frames = len(store.ids[index]), store.mels[index].shape[1]
        if phones > bucket.phones or frames > bucket.frames:
            raise ConfigError(
                f"{store.corpus.utterances[index].id} has {phones} phones and {frames} frames and does not fit in "
                f"{bucket.phones} phones and {bucket.frames} frames; use larger buckets."
            )
        phonemes[row, :phones] = store.ids[index]
        durations[row, :phones] = store.durations[index]
        mel[row, :, :frames] = store.mels[index]
        phone_count[row], frame_count[row] = phones, frames
    return AlignedBatch(phonemes, phone_count, durations, mel, frame_count)


def batches_in_order(
    store: AlignedStore,
    batch_size: int,
    buckets: Sequence[tuple[int, int]] | None = None,
    *,
    max_frames: int | None = None,
    max_phones: int | None = None,
) -> Iterator[tuple[Int64[np.ndarray, " _"], AlignedBatch]]:
    """Every utterance of `store` once, by rising length, for validation: their numbers, and the batch they fill.

    All batches have `batch_size` rows; the rows of the last that no utterance is left for have no phones and no frames.
    Without `buckets` they are chosen within `max_frames` and `max_phones`, the positions of a model.

    **Raises:** `ConfigError` if an utterance does not fit in the largest bucket, or exceeds the limits.
    """
    if buckets is None:
        buckets = choose_buckets(store, max_frames=max_frames, max_phones=max_phones)
    shapes, (frames, phones) = _checked(store, buckets), _lengths(store)
    order = np.lexsort((phones, frames))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate(store, rows, _smallest(shapes, frames[rows], phones[rows]), batch_size)


class AlignedLoader(ResumableLoader[AlignedBatch]):
    """An endless iterator of `AlignedBatch`es of `batch_size` whole utterances of `store`, made in the caller's thread.

    Every epoch puts the utterances in a new random order and leaves out those at its end that do not fill a batch, so
    that each is in one batch of the epoch or in none, and none is left out by rule. With fewer utterances than
    `batch_size`, an epoch is one batch in which they repeat. The order is cut into pools of `pool` batches; in each,
    utterances are sorted by length and cut into batches; and then all batches of the epoch are shuffled. Without
    `shuffle` the order is that of the store, and batches stay in the order of their pools.

    A batch has the shape of the first of `buckets` (frames, phones; by default `choose_buckets`) that holds all its
    utterances, so there are no more shapes than buckets. Batches are functions of (seed, epoch, place in the epoch)
    alone. Of several processes, number `process_index` of `process_count` makes its share of every global batch: the
    shares laid end to end are what one process alone would make, and all have the same shape.

    **Raises:** `ConfigError` for sizes that do not fit together or an utterance that fits in no bucket, `DataError` for
    an empty store.
    """

    def __init__(
        self,
        store: AlignedStore,
        *,
        batch_size: int,
        buckets: Sequence[tuple[int, int]] | None = None,
        seed: int = 0,
        pool: int = 16,
        shuffle: bool = True,
        process_index: int = 0,
        process_count: int = 1,
    ):
        super().__init__(
            batch_size=batch_size, process_index=process_index, process_count=process_count, sizes={"pool": pool}
        )
        self._store, self._pool, self._shuffle = store, pool, shuffle
        self._buckets = _checked(store, buckets)
        self._frames, self._phones = _lengths(store)
        self.restore(LoaderState(0, 0, seed))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return max(1, len(self._store) // self._batch)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The shapes that batches can have, smallest first."""
        return self._buckets

    def describe(self) -> dict[str, object]:
        """What the batches are made from and how; of two stores of as many utterances and frames nothing differs."""
        return {
            "utterances": len(self._store),
            "frames": self._store.frames,
            "batch_size": self._batch,
            "buckets": [list(bucket) for bucket in self._buckets],
            "pool": self._pool,
            "shuffle": self._shuffle,
        }

    def __next__(self) -> AlignedBatch:
        self._check_open()
        place = self._next
        start = place._replace(index=0)
        if self._plan is None or self._plan[0] != start:
            self._plan = start, self._epoch(place)
        rows = self._plan[1][place.index]
        bucket = _smallest(self._buckets, self._frames[rows], self._phones[rows])
        batch = collate(self._store, rows[self._share], bucket)
        self._next = self._after(place)
        return batch

    def _begin(self, place: LoaderState) -> None:
        self._plan: tuple[LoaderState, Int64[np.ndarray, "batches batch"]] | None = None

    def _epoch(self, place: LoaderState) -> Int64[np.ndarray, "batches batch"]:
        """The utterances in each batch of the epoch of `place`."""
        total, steps = len(self._store), self.steps_per_epoch
        order = permutation(total, place.seed, _UTTERANCES, place.epoch) if self._shuffle else np.arange(total)
        order = order[np.arange(steps * self._batch) % total]
        pools = np.arange(len(order)) // (self._pool * self._batch)
        order = order[np.lexsort((self._phones[order], self._frames[order], pools))]
        batches = order.reshape(steps, self._batch)
        return batches[permutation(steps, place.seed, _BATCHES, place.epoch)] if self._shuffle else batches


def _lengths(store: AlignedStore) -> tuple[Int64[np.ndarray, " utterances"], Int64[np.ndarray, " utterances"]]:
    """How many frames and phones each utterance has."""
    if len(store) == 0:
        raise DataError("The store holds no utterances; there is nothing to load.")
    frames = np.array([mel.shape[1] for mel in store.mels], np.int64)
    return frames, np.array([len(ids) for ids in store.ids], np.int64)


def _check_longest(
    store: AlignedStore, what: str, lengths: Int64[np.ndarray, " utterances"], limit: int | None
) -> None:
    longest = int(lengths.argmax())
    if limit is not None and lengths[longest] > limit:
        raise ConfigError(
            f"{store.corpus.utterances[longest].id} has {lengths[longest]} {what} and exceeds max_{what}={limit}; "
            "leave such utterances out when loading."
        )


def _rounded(number: int, multiple: int, limit: int | None) -> int:
    """`number` rounded up to a multiple, but to no more than `limit`."""
    rounded = -(-number // multiple) * multiple
    return rounded if limit is None else min(rounded, limit)


def _checked(store: AlignedStore, buckets: Sequence[tuple[int, int]] | None) -> tuple[Bucket, ...]:
    """`buckets` by rising size, each as large as those before in both ways; `ConfigError` where the store overflows."""
    if buckets is None:
        return choose_buckets(store)
    shapes = sorted({Bucket(*sizes) for sizes in buckets})
    if not shapes or min(min(shape) for shape in shapes) < 1:
        raise ConfigError(f"buckets should be pairs (frames, phones) of at least 1, got {list(buckets)}.")
    for left, right in pairwise(shapes):
        if right.phones < left.phones:
            raise ConfigError(
                f"Bucket {tuple(right)} holds more frames than {tuple(left)} but fewer phones; raise them."
            )
    frames, phones = _lengths(store)
    bad = np.flatnonzero((frames > shapes[-1].frames) | (phones > shapes[-1].phones))
    if bad.size:
        raise ConfigError(
            f"{bad.size} utterance(s), for example {store.corpus.utterances[bad[0]].id!r} with {frames[bad[0]]} frames "
            f"and {phones[bad[0]]} phones, exceed the largest bucket {tuple(shapes[-1])}; add a larger one, or leave "
            "such utterances out when loading (max_frames, max_phones)."
        )
    return tuple(shapes)


def _smallest(
    buckets: Sequence[Bucket], frames: Int64[np.ndarray, " batch"], phones: Int64[np.ndarray, " batch"]
) -> Bucket:
    return next(shape for shape in buckets if frames.max() <= shape.frames and phones.max() <= shape.phones)
