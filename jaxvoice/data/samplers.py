"""Samplers, which select the utterances of each batch and the parts of them.

Random numbers are functions of seed, epoch and row, without the state of a generator. They are the same on every
machine and with every version of NumPy.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from jaxvoice.data.batches import (
    Bucket,
    ColumnBatch,
    CropBatch,
    Selection,
    UtteranceBatch,
    check_frame_columns,
    collate_columns,
    collate_cropped_columns,
    collate_crops,
    collate_utterances,
    crop_padding,
)
from jaxvoice.data.buckets import UTTERANCE_COLUMNS, check_buckets, check_sizes, column_lengths, smallest_bucket
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import ConfigError, DataError

_BatchT_co = TypeVar("_BatchT_co", covariant=True)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Streams of random numbers. Version 0.1 gave two of them the same number; no sampler uses both of these.
_ORDER, _CROP, _BATCHES, _SPEAKERS = 0, 1, 1, 2


class LoaderState(NamedTuple):
    """The position of a batch: number `index`, from 0 on, in `epoch`, for `seed`."""

    epoch: int
    index: int
    seed: int


@dataclass(frozen=True)
class BatchPlan(Generic[_BatchT_co]):
    """The batches of a sampler for one store.

    `select` returns the rows of the global batch at a position, and `collate` makes a batch from rows. `description`
    contains the sizes of the data and the settings of the batches as JSON values.
    """

    steps_per_epoch: int
    select: Callable[[LoaderState], Selection]
    collate: Callable[[Store, Selection], _BatchT_co]
    description: Mapping[str, object]


class Sampler(Protocol[_BatchT_co]):
    """Selects the utterances of each batch of a store, and the parts of them."""

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch over all processes."""
        ...

    def plan(self, store: Store) -> BatchPlan[_BatchT_co]:
        """The batches of `store`.

        **Raises:** `ConfigError` or `DataError` for a store without the data that the sampler needs.
        """
        ...


@dataclass(frozen=True)
class RandomCrops:
    """Random crops of `segment` samples, `crops_per_clip` of every recording in each epoch.

    Every epoch has a new random order (without `shuffle`, the order of the store), and drops the remainder that does
    not fill a batch. With fewer crops than `batch_size`, an epoch is one batch in which recordings repeat, each time
    with another crop. Recordings shorter than `segment` are padded with zeros at the end.

    Batches are `CropBatch`, with crops of the mels where the store has them. If `columns` names columns, batches are
    `ColumnBatch` with crops of these, and with the rows of the `fixed` columns. `audio` is cropped in samples, every
    other column (`mel`, F0, features) in frames of `hop_length` samples.

    Without `hop_length`, crops start at any sample. With it, they start at a frame:
    `mel[:, i : i + segment / hop_length]` and `audio[i * hop_length : i * hop_length + segment]`, with i uniform over
    all frames at which every column fits. Shorter mels are padded with `mel_padding`, by default the log-mel of silence
    under the contract of the store, and other columns with zeros.

    Source: HiFi-GAN, `meldataset.py`, except that its order does not change between epochs on a single device.

    **Raises:** `ConfigError` for sizes below 1 or not whole, a `segment` that is not whole frames of `hop_length`, or
    columns in frames without `hop_length`.
    """

    batch_size: int
    segment: int
    hop_length: int | None = None
    crops_per_clip: int = 1
    shuffle: bool = True
    mel_padding: float | None = None
    columns: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(batch_size=self.batch_size, crops_per_clip=self.crops_per_clip)
        _check_crops(self)

    def plan(self, store: Store) -> BatchPlan[Any]:
        """The batches of `store`, which has the named columns, by default `audio` and `gain`."""
        room = _crop_positions(store, self)
        clips, size = len(store), self.batch_size
        crops = clips * self.crops_per_clip
        order = cache_last(lambda seed, epoch: permutation(crops, seed, _ORDER, epoch))

        def select(place: LoaderState) -> Selection:
            rows = place.index * size + np.arange(size)
            order_now = order(place.seed, place.epoch) if self.shuffle else np.arange(crops)
            chosen = order_now[rows % crops] % clips
            return Selection(chosen, _starts(place, rows, room[chosen]))

        description = {
            "clips": clips,
            **_crop_sizes(store, self),
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

    Crops and batches are those of `RandomCrops`.

    **Raises:** `ConfigError` as `RandomCrops`; `DataError` for recordings without a speaker, or too few speakers.

    Source: batches of N speakers and M utterances, Wan et al. 2018, "Generalized end-to-end loss for speaker
    verification".
    """

    speakers: int
    utterances: int
    segment: int
    hop_length: int | None = None
    mel_padding: float | None = None
    columns: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(speakers=self.speakers, utterances=self.utterances)
        _check_crops(self)

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch over all processes."""
        return self.speakers * self.utterances

    def plan(self, store: Store) -> BatchPlan[Any]:
        """The batches of `store`, which has the named columns, by default `audio` and `gain`."""
        room = _crop_positions(store, self)
        members = list(rows_of_speakers(store.corpus).values())
        if len(members) < self.speakers:
            raise DataError(
                f"speakers is {self.speakers}; it should be at most {len(members)}, the number of speakers in the "
                "store."
            )
        batches_per_round = len(members) // self.speakers
        round_of = cache_last(lambda seed, epoch, number: permutation(len(members), seed, _SPEAKERS, epoch, number))

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
            **_crop_sizes(store, self),
            "speakers": self.speakers,
            "utterances": self.utterances,
            "segment": self.segment,
        }
        return BatchPlan(max(1, len(store) // self.batch_size), select, _crop_collate(self), description)


@dataclass(frozen=True)
class LengthBuckets:
    """Batches of whole utterances of similar lengths, in few shapes.

    Every epoch puts the utterances in a new random order and drops those at its end that do not fill a batch. With
    fewer utterances than `batch_size`, an epoch is one batch in which they repeat. The order is cut into pools of
    `pool` batches. In each pool, utterances are sorted by length and cut into batches. Then all batches of the epoch
    are shuffled. Without `shuffle`, the utterances are in the order of the store, and pools and batches in their order.

    Batches are `UtteranceBatch` of mels, phonemes and durations. If `columns` names columns, batches are `ColumnBatch`
    with these, and with the rows of the `fixed` columns: `LengthBuckets(16, columns=("audio", "tokens"),
    fixed=("gain",))`. Utterances are sorted by the length of the first column, then by those of the others.

    A batch has the shape of the first of `buckets` that is long enough for all its utterances. A bucket is a length for
    each of `columns`, by default (frames, phones). `choose_shapes` and `choose_buckets` choose them.

    **Raises:** `ConfigError` for sizes below 1 or not whole, or an utterance that fits in no bucket; `DataError` for an
    empty store.
    """

    batch_size: int
    buckets: Sequence[Sequence[int]] | None = None
    pool: int = 16
    shuffle: bool = True
    columns: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(batch_size=self.batch_size, pool=self.pool)
        check_columns(self.columns, self.fixed)

    def plan(self, store: Store) -> BatchPlan[Any]:
        """The batches of `store`, which has the named columns, by default `mel`, `phonemes` and `durations`."""
        columns = UTTERANCE_COLUMNS if self.columns is None else self.columns
        buckets, lengths = check_buckets(store, self.buckets, columns), column_lengths(store, columns)
        total, size = len(store), self.batch_size
        steps = max(1, total // size)

        def order(seed: int, epoch: int) -> Int64[np.ndarray, "batches batch"]:
            rows = permutation(total, seed, _ORDER, epoch) if self.shuffle else np.arange(total)
            rows = rows[np.arange(steps * size) % total]
            pools = np.arange(len(rows)) // (self.pool * size)
            rows = rows[np.lexsort((*lengths[rows].T[::-1], pools))]
            batches = rows.reshape(steps, size)
            return batches[permutation(steps, seed, _BATCHES, epoch)] if self.shuffle else batches

        order = cache_last(order)

        def select(place: LoaderState) -> Selection:
            rows = order(place.seed, place.epoch)[place.index]
            return Selection(rows, bucket=smallest_bucket(buckets, lengths[rows]))

        def collate(store: Store, selection: Selection) -> UtteranceBatch | ColumnBatch:
            if self.columns is not None:
                return collate_columns(store, selection, self.columns, self.fixed)
            assert selection.bucket is not None
            return collate_utterances(store, selection.utterances, Bucket(*selection.bucket))

        measured = {"frames": store.frames} if self.columns is None else total_lengths(store, self.columns)
        description = {
            "utterances": total,
            **measured,
            "batch_size": size,
            "buckets": [list(bucket) for bucket in buckets],
            "pool": self.pool,
            "shuffle": self.shuffle,
        }
        return BatchPlan(steps, select, collate, description)


def random_bits(*counters: int | Int64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """64 random bits for every combination of `counters`, each an integer or an array of integers.

    The SplitMix64 finaliser is applied once for each counter (Steele, Lea and Flood 2014, section 5).
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
    """A random number in [0, 1) for every combination of `counters`."""
    return (random_bits(*counters) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *counters: int) -> Int64[np.ndarray, " count"]:
    """A random order of 0 ... count - 1 for `counters`."""
    return np.argsort(random_bits(*counters, np.arange(count)), kind="stable")


_FunctionT = TypeVar("_FunctionT", bound=Callable[..., np.ndarray])


def cache_last(function: _FunctionT) -> _FunctionT:
    """`function` with a cache of its last result, so that the order of an epoch is computed once."""
    return functools.lru_cache(maxsize=1)(function)  # pyright: ignore[reportReturnType]


def check_columns(columns: Sequence[str] | None, fixed: Sequence[str]) -> None:
    if isinstance(columns, str) or isinstance(fixed, str):
        raise ConfigError(f"columns is {columns!r} and fixed is {fixed!r}; they should be tuples of names.")
    if columns is None and fixed:
        raise ConfigError(f"columns is None; it should name the columns of the batch, since fixed is {fixed}.")
    if columns is not None and (not columns or len({*columns, *fixed}) < len(columns) + len(fixed)):
        raise ConfigError(
            f"columns is {columns} and fixed is {fixed}; they should contain at least one column, and no name twice."
        )


def _check_crops(sampler: RandomCrops | SpeakerBalanced) -> None:
    check_sizes(segment=sampler.segment)
    check_columns(sampler.columns, sampler.fixed)
    if sampler.columns is not None:
        check_frame_columns(sampler.columns, sampler.hop_length)
    if sampler.hop_length is not None:
        check_sizes(hop_length=sampler.hop_length)
        if sampler.segment % sampler.hop_length:
            raise ConfigError(
                f"segment is {sampler.segment}; it should be a multiple of hop_length, {sampler.hop_length}, because "
                "crops start at frames."
            )


def _cropped_columns(store: Store, sampler: RandomCrops | SpeakerBalanced) -> tuple[str, ...]:
    if sampler.columns is not None:
        return sampler.columns
    return ("audio", "mel") if "mel" in store and sampler.hop_length is not None else ("audio",)


def _crop_positions(store: Store, sampler: RandomCrops | SpeakerBalanced) -> Int64[np.ndarray, " utterances"]:
    """The number of samples, or with `hop_length` of frames, at which a crop can start; at least 1.

    **Raises:** `DataError` for an empty store, or a column that it does not have.
    """
    if len(store) == 0:
        raise DataError("The store has no recordings; it should have at least one.")
    hop = sampler.hop_length or 1
    lengths = [store.lengths(name) // (hop if name == "audio" else 1) for name in _cropped_columns(store, sampler)]
    return np.maximum(1, np.minimum.reduce(lengths) - sampler.segment // hop + 1)


def _crop_sizes(store: Store, sampler: RandomCrops | SpeakerBalanced) -> dict[str, object]:
    if sampler.columns is None:
        return {"samples": int(store.lengths("audio").sum())}
    return total_lengths(store, sampler.columns)


def total_lengths(store: Store, columns: Sequence[str]) -> dict[str, object]:
    """The total length of each of `columns`, as the description of batches lists it."""
    return {"columns": {name: int(store.lengths(name).sum()) for name in columns}}


def _starts(
    place: LoaderState, rows: Int64[np.ndarray, " batch"], positions: Int64[np.ndarray, " batch"]
) -> Int64[np.ndarray, " batch"]:
    return (uniform(place.seed, _CROP, place.epoch, rows) * positions).astype(np.int64)


def _crop_collate(sampler: RandomCrops | SpeakerBalanced) -> Callable[[Store, Selection], CropBatch | ColumnBatch]:
    segment, hop_length, columns = sampler.segment, sampler.hop_length, sampler.columns
    if columns is None:
        return functools.partial(collate_crops, segment=segment, hop_length=hop_length, mel_padding=sampler.mel_padding)

    def collate(store: Store, selection: Selection) -> ColumnBatch:
        padding = crop_padding(store, columns, sampler.mel_padding)
        return collate_cropped_columns(
            store, selection, columns, sampler.fixed, segment=segment, hop_length=hop_length, padding=padding
        )

    return collate
