"""Shapes to which utterances are padded, and batches in order of length."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral

import numpy as np
from jaxtyping import Int64

from jaxvoice.data.batches import (
    Bucket,
    ColumnBatch,
    Selection,
    UtteranceBatch,
    collate_columns,
    collate_utterances,
)
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError

UTTERANCE_COLUMNS = ("mel", "phonemes")  # columns whose lengths determine the shape of an `UtteranceBatch`
_UNITS = {"mel": "frames", "phonemes": "phones", "audio": "samples", "durations": "phones", "tokens": "tokens"}
_SINGULAR = {"mel": "frame", "phonemes": "phone"}
_MULTIPLES = {"audio": 8192, "phonemes": 8, "durations": 8, "tokens": 8}


def choose_buckets(
    store: Store,
    count: int = 4,
    *,
    frame_multiple: int = 32,
    phone_multiple: int = 8,
    max_frames: int | None = None,
    max_phones: int | None = None,
) -> tuple[Bucket, ...]:
    """Choose at most `count` buckets for the utterances of `store`, with about the same number of utterances in each.

    Frames are rounded up to a multiple of `frame_multiple`, and phones to a multiple of `phone_multiple`. No bucket
    exceeds `max_frames` and `max_phones`, the numbers of positions of a model.

    **Raises:** `ConfigError` for numbers below 1 or an utterance beyond the limits, `DataError` for an empty store.
    """
    shapes = choose_shapes(
        store,
        UTTERANCE_COLUMNS,
        count,
        multiples={"mel": frame_multiple, "phonemes": phone_multiple},
        limits={"mel": max_frames, "phonemes": max_phones},
    )
    return tuple(Bucket(*shape) for shape in shapes)


def choose_shapes(
    store: Store,
    columns: Sequence[str],
    count: int = 4,
    *,
    multiples: Mapping[str, int] | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Choose at most `count` shapes for the utterances of `store`. A shape is a length for each of `columns`.

    By the length of the first column, about the same number of utterances belongs to each shape. Lengths are rounded
    up to `multiples`, by default 8192 for `audio`, 8 for `phonemes`, `durations` and `tokens`, and 32 for other
    columns. No length exceeds `limits`.

    **Raises:** `ConfigError` for numbers below 1 or an utterance beyond the limits, `DataError` for an empty store.
    """
    check_sizes(count=count)
    given, limits = multiples or {}, limits or {}
    steps = [given.get(name, _MULTIPLES.get(name, 32)) for name in columns]
    for name, step in zip(columns, steps, strict=True):
        check_sizes(**{f"{_SINGULAR.get(name, name)}_multiple": step})
    lengths = column_lengths(store, columns)
    most = [limits.get(name) for name in columns]
    for name, own, limit in zip(columns, lengths.T, most, strict=True):
        _check_longest(store, name, own, limit)
    ordered = np.sort(lengths[:, 0])
    last = [-(-len(ordered) * (number + 1) // count) - 1 for number in range(count)]
    edges = sorted({_rounded(int(ordered[index]), steps[0], most[0]) for index in last})
    shapes = []
    for edge in edges:
        longest = lengths[lengths[:, 0] <= edge].max(axis=0)
        rules = zip(longest[1:], steps[1:], most[1:], strict=True)
        shapes.append((edge, *(_rounded(int(number), step, limit) for number, step, limit in rules)))
    return tuple(shapes)


def batches_in_order(
    store: Store,
    batch_size: int,
    buckets: Sequence[tuple[int, int]] | None = None,
    *,
    max_frames: int | None = None,
    max_phones: int | None = None,
) -> Iterator[tuple[Int64[np.ndarray, " _"], UtteranceBatch]]:
    """Yield the utterances of `store` once, in order of length, for validation: row numbers and batch.

    All batches have `batch_size` rows. The last batch is filled with rows of no phones and no frames. If `buckets` is
    `None`, `choose_buckets` chooses them within `max_frames` and `max_phones`.

    **Raises:** `ConfigError` if an utterance does not fit in the largest bucket, or exceeds the limits, or for a
    `batch_size` below 1 or not whole.
    """
    check_sizes(batch_size=batch_size)
    if buckets is None:
        buckets = choose_buckets(store, max_frames=max_frames, max_phones=max_phones)
    shapes, lengths = check_buckets(store, buckets), column_lengths(store, UTTERANCE_COLUMNS)
    order = np.lexsort(lengths.T[::-1])  # by the first column, then the others
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate_utterances(store, rows, Bucket(*smallest_bucket(shapes, lengths[rows])), batch_size)


def column_batches_in_order(
    store: Store,
    batch_size: int,
    columns: Sequence[str],
    fixed: Sequence[str] = (),
    buckets: Sequence[Sequence[int]] | None = None,
) -> Iterator[tuple[Int64[np.ndarray, " _"], ColumnBatch]]:
    """Yield the utterances of `store` once, in order of length, for validation: row numbers and batch.

    All batches have `batch_size` rows. The last batch is filled with its last utterance, whose repetitions have the
    length 0. If `buckets` is `None`, `choose_shapes` chooses the lengths that `columns` are padded to.

    **Raises:** `ConfigError` if an utterance does not fit in the largest bucket, or for a `batch_size` below 1 or not
    whole; `DataError` for an empty store, or a column that it does not have.
    """
    check_sizes(batch_size=batch_size)
    shapes, lengths = check_buckets(store, buckets, columns), column_lengths(store, columns)
    order = np.lexsort(lengths.T[::-1])
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        filled = np.pad(rows, (0, batch_size - len(rows)), mode="edge")
        batch = collate_columns(store, Selection(filled, bucket=smallest_bucket(shapes, lengths[rows])), columns, fixed)
        real = np.arange(batch_size) < len(rows)
        yield rows, ColumnBatch(batch.columns, {name: np.where(real, n, 0) for name, n in batch.lengths.items()})


def column_lengths(store: Store, columns: Sequence[str]) -> Int64[np.ndarray, "utterances columns"]:
    """The length of each of `columns` for each utterance.

    **Raises:** `DataError` for an empty store.
    """
    if len(store) == 0:
        raise DataError("The store has no utterances; it should have at least one.")
    return np.stack([store.lengths(name) for name in columns], axis=1)


def length_in_words(name: str, length: int) -> str:
    """A length of the column `name`, such as "12 frames"."""
    return f"{length} {_UNITS[name]}" if name in _UNITS else f"{length} values of {name!r}"


def _check_longest(store: Store, name: str, lengths: Int64[np.ndarray, " utterances"], limit: int | None) -> None:
    longest = int(lengths.argmax())
    if limit is not None and lengths[longest] > limit:
        raise ConfigError(
            f"{store.corpus.utterances[longest].id} has {length_in_words(name, lengths[longest])} and exceeds "
            f"max_{_UNITS.get(name, name)}={limit}; exclude such utterances when the corpus is loaded."
        )


def _rounded(number: int, multiple: int, limit: int | None) -> int:
    """`number` rounded up to a multiple, but to no more than `limit`."""
    rounded = -(-number // multiple) * multiple
    return rounded if limit is None else min(rounded, limit)


def check_buckets(
    store: Store, buckets: Sequence[Sequence[int]] | None, columns: Sequence[str] = UTTERANCE_COLUMNS
) -> tuple[tuple[int, ...], ...]:
    """Sort and check `buckets`, each a length for every one of `columns`; for `None`, `choose_shapes` chooses them.

    **Raises:** `ConfigError` if a larger bucket has a smaller length, or an utterance fits in none.
    """
    if buckets is None:
        return choose_shapes(store, columns)
    units = [_UNITS.get(name, name) for name in columns]
    shapes = sorted({tuple(sizes) for sizes in buckets})
    for sizes in shapes:
        if len(sizes) != len(columns) or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
            raise ConfigError(f"A bucket is {sizes}; it should be ({', '.join(units)}), whole numbers of at least 1.")
    if not shapes:
        raise ConfigError("buckets is empty; it should contain at least one bucket. Pass None to choose them.")
    for left, right in itertools.pairwise(shapes):
        for unit, small, large in zip(units, left, right, strict=True):
            if large < small:
                raise ConfigError(
                    f"Bucket {right} has more {units[0]} than {left} and fewer {unit}; it should have at least as many."
                )
    lengths = column_lengths(store, columns)
    bad = np.flatnonzero((lengths > np.array(shapes[-1])).any(axis=1))
    if bad.size:
        sizes = " and ".join(itertools.starmap(length_in_words, zip(columns, lengths[bad[0]], strict=True)))
        raise ConfigError(
            f"{bad.size} utterance(s), for example {store.corpus.utterances[bad[0]].id!r} with {sizes}, exceed the "
            f"largest bucket {shapes[-1]}; add a larger bucket, or exclude such utterances when the corpus is loaded."
        )
    return tuple(shapes)


def check_sizes(**sizes: object) -> None:
    """Raise `ConfigError` unless all `sizes` are whole numbers of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or int(size) < 1:
            raise ConfigError(f"{name} is {size!r}; it should be a whole number of at least 1.")


def smallest_bucket(buckets: Sequence[tuple[int, ...]], lengths: Int64[np.ndarray, "batch columns"]) -> tuple[int, ...]:
    """The first of `buckets` that is at least as long as all `lengths`."""
    longest = lengths.max(axis=0)
    return next(shape for shape in buckets if (longest <= np.array(shape)).all())
