"""Shapes that utterances are padded to, and batches in order of length."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral

import numpy as np
from jaxtyping import Int64

from jaxvoice.data.batches import Bucket, UtteranceBatch, collate_utterances
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError

UTTERANCE_COLUMNS = ("mel", "phonemes")  # the columns by whose lengths batches of type `UtteranceBatch` are formed
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
    """At most `count` buckets that hold all utterances of `store`, with about as many utterances in each.

    The frames of a bucket are rounded up to `frame_multiple`, and the most phones of its utterances to
    `phone_multiple`. No bucket exceeds `max_frames` and `max_phones`, the positions of a model.

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
    """At most `count` shapes, each a length for every one of `columns`, that hold all utterances of `store`.

    About as many utterances have each shape by the length of the first column. Lengths are rounded up to `multiples`,
    by default 8192 for `audio`, 8 for `phonemes`, `durations` and `tokens`, and 32 for other columns. No length exceeds
    `limits`.

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
    """Every utterance of `store` once, by rising length, for validation: the row numbers of each batch, and the batch.

    All batches have `batch_size` rows. In the last, the rows without an utterance have no phones and no frames.
    Without `buckets`, they are chosen within `max_frames` and `max_phones`, the positions of a model.

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


def column_lengths(store: Store, columns: Sequence[str]) -> Int64[np.ndarray, "utterances columns"]:
    """The length of each of `columns` for each utterance.

    **Raises:** `DataError` for an empty store.
    """
    if len(store) == 0:
        raise DataError("The store holds no utterances; there is nothing to load.")
    return np.stack([store.lengths(name) for name in columns], axis=1)


def length_in_words(name: str, length: int) -> str:
    """A length of the column `name`, such as "12 frames"."""
    return f"{length} {_UNITS[name]}" if name in _UNITS else f"{length} values of {name!r}"


def _check_longest(store: Store, name: str, lengths: Int64[np.ndarray, " utterances"], limit: int | None) -> None:
    longest = int(lengths.argmax())
    if limit is not None and lengths[longest] > limit:
        raise ConfigError(
            f"{store.corpus.utterances[longest].id} has {length_in_words(name, lengths[longest])} and exceeds "
            f"max_{_UNITS.get(name, name)}={limit}; leave such utterances out when loading."
        )


def _rounded(number: int, multiple: int, limit: int | None) -> int:
    """`number` rounded up to a multiple, but to no more than `limit`."""
    rounded = -(-number // multiple) * multiple
    return rounded if limit is None else min(rounded, limit)


def check_buckets(
    store: Store, buckets: Sequence[Sequence[int]] | None, columns: Sequence[str] = UTTERANCE_COLUMNS
) -> tuple[tuple[int, ...], ...]:
    """`buckets`, each a length for every one of `columns`, by rising size; by default `choose_shapes`.

    **Raises:** `ConfigError` if a larger bucket has a smaller length, or an utterance fits in none.
    """
    if buckets is None:
        return choose_shapes(store, columns)
    units = [_UNITS.get(name, name) for name in columns]
    shapes = sorted({tuple(sizes) for sizes in buckets})
    for sizes in shapes:
        if len(sizes) != len(columns) or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
            raise ConfigError(f"buckets should be ({', '.join(units)}) of at least 1, got {sizes}.")
    if not shapes:
        raise ConfigError("buckets is empty; give at least one, or None to choose them.")
    for left, right in itertools.pairwise(shapes):
        for unit, small, large in zip(units, left, right, strict=True):
            if large < small:
                raise ConfigError(f"Bucket {right} holds more {units[0]} than {left} but fewer {unit}; raise them.")
    lengths = column_lengths(store, columns)
    bad = np.flatnonzero((lengths > np.array(shapes[-1])).any(axis=1))
    if bad.size:
        sizes = " and ".join(itertools.starmap(length_in_words, zip(columns, lengths[bad[0]], strict=True)))
        raise ConfigError(
            f"{bad.size} utterance(s), for example {store.corpus.utterances[bad[0]].id!r} with {sizes}, exceed the "
            f"largest bucket {shapes[-1]}; add a larger one, or leave such utterances out when loading."
        )
    return tuple(shapes)


def check_sizes(**sizes: object) -> None:
    """Raise `ConfigError` unless all `sizes` are whole numbers of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool):
            raise ConfigError(f"{name} is {size!r}; it should be a whole number of at least 1.")
        if int(size) < 1:
            raise ConfigError(f"{name} should be at least 1, got {size}.")


def smallest_bucket(buckets: Sequence[tuple[int, ...]], lengths: Int64[np.ndarray, "batch columns"]) -> tuple[int, ...]:
    """The first of `buckets` that holds utterances of such `lengths`."""
    longest = lengths.max(axis=0)
    return next(shape for shape in buckets if (longest <= np.array(shape)).all())
