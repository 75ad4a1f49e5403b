"""Samplers: which utterances of a store are in each batch, and which part of them.

Random numbers are functions of their place (seed, epoch, row), without the state of a generator, and are the same on
every machine and with every version of numpy.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from jaxvoice.data.batches import (
    LOG_MEL_OF_SILENCE,
    CropBatch,
    Selection,
    UtteranceBatch,
    collate_crops,
    collate_utterances,
)
from jaxvoice.data.buckets import check_buckets, frames_and_phones, smallest_bucket
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError

BatchType = TypeVar("BatchType", covariant=True)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Streams of random numbers. Two have the same number, which version 0.1 gave them; no sampler draws from both.
_ORDER, _CROP, _BATCHES, _SPEAKERS = 0, 1, 1, 2


class LoaderState(NamedTuple):
    """The place of a batch: number `index` of `epoch`, under `seed`."""

    epoch: int
    index: int
    seed: int


@dataclass(frozen=True)
class BatchPlan(Generic[BatchType]):
    """The batches of one store under a sampler.

    `select` gives the rows of the global batch at a place, and `collate` makes a batch of rows; `description` states in
    JSON values what batches are made from and how.
    """

    steps_per_epoch: int
    select: Callable[[LoaderState], Selection]
    collate: Callable[[Store, Selection], BatchType]
    description: Mapping[str, object]


class Sampler(Protocol[BatchType]):
    """Decides which utterances, and which part of them, are in each batch of a store."""

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch over all processes."""
        ...

    def plan(self, store: Store) -> BatchPlan[BatchType]:
        """The batches of `store`.

        **Raises:** `ConfigError` or `DataError` for a store that the sampler cannot make batches of.
        """
        ...


@dataclass(frozen=True)
class RandomCrops:
    """Random crops of `segment` samples, `crops_per_clip` of every recording in each epoch.

    Every epoch has a new random order (without `shuffle`, the order of the store), and drops the remainder that does
    not fill a batch. With fewer crops than `batch_size`, an epoch is one batch in which recordings repeat, each time
    with another crop. Recordings shorter than `segment` are padded with zeros at the end.

    If the store has mels, crops start at a frame: `mel[:, i : i + segment / hop_length]` and
    `audio[i * hop_length : i * hop_length + segment]`, with i uniform over all frames at which both fit. Shorter mels
    are padded with `mel_padding`, the log-mel of silence.

    Source: HiFi-GAN, `meldataset.py`, except that its order does not change between epochs on a single device.

    **Raises:** `ConfigError` for sizes below 1, or a `segment` that is not whole frames of given mels.
    """

    batch_size: int
    segment: int
    hop_length: int = 256
    crops_per_clip: int = 1
    shuffle: bool = True
    mel_padding: float = LOG_MEL_OF_SILENCE

    def __post_init__(self) -> None:
        check_sizes(self, "batch_size", "segment", "hop_length", "crops_per_clip")

    def plan(self, store: Store) -> BatchPlan[CropBatch]:
        """The batches of `store`, which has the columns `audio` and `gain`."""
        room = _crop_positions(store, self.segment, self.hop_length)
        clips, size = len(store), self.batch_size
        crops = clips * self.crops_per_clip
        order = _last_call(lambda seed, epoch: permutation(crops, seed, _ORDER, epoch))

        def select(place: LoaderState) -> Selection:
            rows = place.index * size + np.arange(size)
            order_now = order(place.seed, place.epoch) if self.shuffle else np.arange(crops)
            chosen = order_now[rows % crops] % clips
            return Selection(chosen, _starts(place, rows, room[chosen]))

        description = {
            "clips": clips,
            "samples": int(store.lengths("audio").sum()),
            "batch_size": size,
            "segment": self.segment,
            "crops_per_clip": self.crops_per_clip,
            "shuffle": self.shuffle,
        }
        return BatchPlan(max(1, crops // size), select, _crop_collate(self), description)


@dataclass(frozen=True)
class SpeakerBalanced:
    """Crops of `utterances` recordings of each of `speakers` speakers: a batch for losses between speakers.

    Row `s * utterances + u` of a batch is recording u of its speaker s. The speakers of a batch differ. They are drawn
    in rounds: each round is a new random order of all speakers, cut into batches, and drops those that do not fill one.
    So every speaker is drawn equally often on average, however many recordings it has. The recordings of a speaker come
    in a random order that changes when they are used up; a round that drops the speaker skips some. A speaker with
    fewer than `utterances` recordings repeats them, each time with another crop. An epoch has as many rows as the store
    has recordings, or one batch.

    Crops are those of `RandomCrops`.

    **Raises:** `ConfigError` for sizes below 1, or a `segment` that is not whole frames of given mels; `DataError` for
    recordings without a speaker, or too few speakers.

    Source: batches of N speakers and M utterances, Wan et al. 2018, "Generalized end-to-end loss for speaker
    verification".
    """

    speakers: int
    utterances: int
    segment: int
    hop_length: int = 256
    mel_padding: float = LOG_MEL_OF_SILENCE

    def __post_init__(self) -> None:
        check_sizes(self, "speakers", "utterances", "segment", "hop_length")

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch over all processes."""
        return self.speakers * self.utterances

    def plan(self, store: Store) -> BatchPlan[CropBatch]:
        """The batches of `store`, which has the columns `audio` and `gain`."""
        room = _crop_positions(store, self.segment, self.hop_length)
        names = [utterance.speaker for utterance in store.corpus.utterances]
        if "" in names:
            raise DataError(
                f"{names.count('')} recording(s), for example {store.corpus.utterances[names.index('')].id!r}, have no "
                "speaker; use a corpus that names the speaker of each recording."
            )
        found = sorted(set(names))
        if len(found) < self.speakers:
            raise DataError(
                f"The store has {len(found)} speaker(s), and a batch needs {self.speakers}; use fewer speakers a batch."
            )
        members = [np.flatnonzero([name == speaker for name in names]) for speaker in found]
        batches_per_round = len(found) // self.speakers
        round_of = _last_call(lambda seed, epoch, number: permutation(len(found), seed, _SPEAKERS, epoch, number))

        def recordings(place: LoaderState, speaker: int, turn: int) -> Int64[np.ndarray, " utterances"]:
            own = members[speaker]
            turns = max(1, len(own) // self.utterances)  # draws until the recordings of this speaker are used up
            order = permutation(len(own), place.seed, _ORDER, place.epoch, speaker, turn // turns)
            return own[order[(turn % turns * self.utterances + np.arange(self.utterances)) % len(own)]]

        def select(place: LoaderState) -> Selection:
            turn, part = divmod(place.index, batches_per_round)
            drawn = round_of(place.seed, place.epoch, turn)[part * self.speakers :][: self.speakers]
            chosen = np.concatenate([recordings(place, int(speaker), turn) for speaker in drawn])
            rows = place.index * self.batch_size + np.arange(self.batch_size)
            return Selection(chosen, _starts(place, rows, room[chosen]))

        description = {
            "clips": len(store),
            "samples": int(store.lengths("audio").sum()),
            "speakers": self.speakers,
            "utterances": self.utterances,
            "segment": self.segment,
        }
        return BatchPlan(max(1, len(store) // self.batch_size), select, _crop_collate(self), description)


@dataclass(frozen=True)
class LengthBuckets:
    """Whole utterances, sorted by length within pools, in batches of few shapes.

    Every epoch puts the utterances in a new random order and drops those at its end that do not fill a batch. With
    fewer utterances than `batch_size`, an epoch is one batch in which they repeat. The order is cut into pools of
    `pool` batches. In each pool, utterances are sorted by length and cut into batches. Then all batches of the epoch
    are shuffled. Without `shuffle`, the order is that of the store, and batches stay in the order of their pools.

    A batch has the shape of the first of `buckets` (frames, phones; by default `choose_buckets`) that holds all its
    utterances, so there are at most as many shapes as buckets.

    **Raises:** `ConfigError` for sizes below 1 or an utterance that fits in no bucket, `DataError` for an empty store.
    """

    batch_size: int
    buckets: Sequence[tuple[int, int]] | None = None
    pool: int = 16
    shuffle: bool = True

    def __post_init__(self) -> None:
        check_sizes(self, "batch_size", "pool")

    def plan(self, store: Store) -> BatchPlan[UtteranceBatch]:
        """The batches of `store`, which has the columns `mel`, `phonemes` and `durations`."""
        buckets = check_buckets(store, self.buckets)
        frames, phones = frames_and_phones(store)
        total, size = len(store), self.batch_size
        steps = max(1, total // size)

        def order(seed: int, epoch: int) -> Int64[np.ndarray, "batches batch"]:
            rows = permutation(total, seed, _ORDER, epoch) if self.shuffle else np.arange(total)
            rows = rows[np.arange(steps * size) % total]
            pools = np.arange(len(rows)) // (self.pool * size)
            rows = rows[np.lexsort((phones[rows], frames[rows], pools))]
            batches = rows.reshape(steps, size)
            return batches[permutation(steps, seed, _BATCHES, epoch)] if self.shuffle else batches

        order = _last_call(order)

        def select(place: LoaderState) -> Selection:
            rows = order(place.seed, place.epoch)[place.index]
            return Selection(rows, bucket=smallest_bucket(buckets, frames[rows], phones[rows]))

        def collate(store: Store, selection: Selection) -> UtteranceBatch:
            assert selection.bucket is not None
            return collate_utterances(store, selection.utterances, selection.bucket)

        description = {
            "utterances": total,
            "frames": store.frames,
            "batch_size": size,
            "buckets": [list(bucket) for bucket in buckets],
            "pool": self.pool,
            "shuffle": self.shuffle,
        }
        return BatchPlan(steps, select, collate, description)


def check_sizes(holder: object, *names: str) -> None:
    """Raise `ConfigError` unless the attributes `names` of `holder` are at least 1."""
    for name in names:
        if getattr(holder, name) < 1:
            raise ConfigError(f"{name} should be at least 1, got {getattr(holder, name)}.")


def random_bits(*counters: int | Int64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """64 random bits for every combination of `counters`, each an integer or an array of them.

    A chain of the SplitMix64 finaliser, one link per counter (Steele, Lea and Flood 2014, section 5).
    """
    bits = np.zeros(1, dtype=np.uint64)
    for counter in counters:
        number = np.asarray(counter, dtype=np.int64).astype(np.uint64)
        bits = bits * _GAMMA + number + _GAMMA
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX1
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX2
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def uniform(*counters: int | Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """A number in [0, 1) for every combination of `counters`."""
    return (random_bits(*counters) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *counters: int) -> Int64[np.ndarray, " count"]:
    """An order of 0 ... count - 1 chosen by `counters`."""
    return np.argsort(random_bits(*counters, np.arange(count)), kind="stable")


Function = TypeVar("Function", bound=Callable[..., np.ndarray])


def _last_call(function: Function) -> Function:
    """`function` with its last result kept: the order of an epoch is computed once, not for every batch."""
    return functools.lru_cache(maxsize=1)(function)  # pyright: ignore[reportReturnType]


def _crop_positions(store: Store, segment: int, hop_length: int) -> Int64[np.ndarray, " utterances"]:
    """The number of samples, or frames where the store has mels, at which a crop can start; at least 1.

    **Raises:** `ConfigError` if a crop is not whole frames of given mels, `DataError` for an empty store.
    """
    if "mel" in store and segment % hop_length:
        raise ConfigError(f"segment {segment} should be a multiple of hop_length {hop_length} to cut mels with it.")
    if len(store) == 0:
        raise DataError("The store holds no clips; there is nothing to load.")
    lengths = store.lengths("audio")
    if "mel" not in store:
        return np.maximum(1, lengths - segment + 1)
    return np.maximum(1, np.minimum(store.lengths("mel"), lengths // hop_length) - segment // hop_length + 1)


def _starts(
    place: LoaderState, rows: Int64[np.ndarray, " batch"], positions: Int64[np.ndarray, " batch"]
) -> Int64[np.ndarray, " batch"]:
    return (uniform(place.seed, _CROP, place.epoch, rows) * positions).astype(np.int64)


def _crop_collate(sampler: RandomCrops | SpeakerBalanced) -> Callable[[Store, Selection], CropBatch]:
    return functools.partial(
        collate_crops, segment=sampler.segment, hop_length=sampler.hop_length, mel_padding=sampler.mel_padding
    )
