"""Shapes that utterances are padded to, and batches in order of length."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from jaxvoice.data.batches import Bucket, UtteranceBatch, collate_utterances
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError


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
    for name, value in {"count": count, "frame_multiple": frame_multiple, "phone_multiple": phone_multiple}.items():
        if value < 1:
            raise ConfigError(f"{name} should be at least 1, got {value}.")
    frames, phones = frames_and_phones(store)
    _check_longest(store, "frames", frames, max_frames)
    _check_longest(store, "phones", phones, max_phones)
    ordered = np.sort(frames)
    last = [-(-len(ordered) * (number + 1) // count) - 1 for number in range(count)]
    edges = sorted({_rounded(int(ordered[index]), frame_multiple, max_frames) for index in last})
    most = [int(phones[frames <= edge].max()) for edge in edges]
    rounded = [_rounded(number, phone_multiple, max_phones) for number in most]
    return tuple(map(Bucket, edges, rounded))


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

    **Raises:** `ConfigError` if an utterance does not fit in the largest bucket, or exceeds the limits.
    """
    if buckets is None:
        buckets = choose_buckets(store, max_frames=max_frames, max_phones=max_phones)
    shapes, (frames, phones) = check_buckets(store, buckets), frames_and_phones(store)
    order = np.lexsort((phones, frames))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate_utterances(store, rows, smallest_bucket(shapes, frames[rows], phones[rows]), batch_size)


def frames_and_phones(
    store: Store,
) -> tuple[Int64[np.ndarray, " utterances"], Int64[np.ndarray, " utterances"]]:
    """The number of frames and of phones of each utterance; raises `DataError` for an empty store."""
    if len(store) == 0:
        raise DataError("The store holds no utterances; there is nothing to load.")
    return store.lengths("mel"), store.lengths("phonemes")


def _check_longest(store: Store, what: str, lengths: Int64[np.ndarray, " utterances"], limit: int | None) -> None:
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


def check_buckets(store: Store, buckets: Sequence[tuple[int, int]] | None) -> tuple[Bucket, ...]:
    """`buckets` by rising size, by default `choose_buckets(store)`.

    **Raises:** `ConfigError` if a larger bucket has fewer phones, or an utterance fits in none.
    """
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
    frames, phones = frames_and_phones(store)
    bad = np.flatnonzero((frames > shapes[-1].frames) | (phones > shapes[-1].phones))
    if bad.size:
        raise ConfigError(
            f"{bad.size} utterance(s), for example {store.corpus.utterances[bad[0]].id!r} with {frames[bad[0]]} frames "
            f"and {phones[bad[0]]} phones, exceed the largest bucket {tuple(shapes[-1])}; add a larger one, or leave "
            "such utterances out when loading (max_frames, max_phones)."
        )
    return tuple(shapes)


def smallest_bucket(
    buckets: Sequence[Bucket], frames: Int64[np.ndarray, " batch"], phones: Int64[np.ndarray, " batch"]
) -> Bucket:
    """The first of `buckets` that holds utterances of so many frames and phones."""
    return next(shape for shape in buckets if frames.max() <= shape.frames and phones.max() <= shape.phones)
