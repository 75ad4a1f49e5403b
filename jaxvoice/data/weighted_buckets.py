"""A sampler of whole utterances that balances speakers and languages, or adapts a model to speakers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

from jaxvoice.data.batches import ColumnBatch, Selection, collate_columns
from jaxvoice.data.buckets import check_buckets, check_sizes, column_lengths, smallest_bucket
from jaxvoice.data.samplers import (
    BatchPlan,
    LoaderState,
    cache_last,
    check_columns,
    permutation,
    total_lengths,
    uniform,
)
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import ConfigError, DataError

Attribute = Literal["speaker", "language"]
"""An attribute of utterances that sampling can balance."""
# Streams of random numbers, after those of the samplers and of references.
_DRAWS, _ORDER, _BATCHES = 7, 8, 9


@dataclass(frozen=True)
class WeightedBuckets:
    """Batches of whole utterances of similar lengths, drawn with the weights of `balanced_weights`.

    An epoch has as many rows as the store has utterances, at least one batch. On average, an utterance occurs in it in
    proportion to its weight: the number of times is the expected number, rounded up or down. Without `balance`, all
    weights are equal.

    If `adapted` names speakers, a share `adapted_share` of the rows of every batch, rounded, and at least one row, is
    theirs, and the others are those of the other speakers, as in the speaker adaptation of YourTTS.

    Shapes, pools and batches are those of `LengthBuckets`: `columns` are padded to one of `buckets`, and the rows of
    the `fixed` columns are stacked.

    **Raises:** `ConfigError` for sizes below 1 or not whole, an unknown attribute, a share that is not between 0 and 1,
    or an utterance that fits in no bucket; `DataError` for an empty store, utterances without the attribute, a speaker
    that the store does not have, or no other speakers.

    arXiv 2112.02418, sections 3.2 and 4.3.
    """

    batch_size: int
    columns: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    buckets: Sequence[Sequence[int]] | None = None
    pool: int = 16
    balance: tuple[Attribute, ...] = ()
    adapted: tuple[str, ...] = ()
    adapted_share: float = 0.25

    def __post_init__(self) -> None:
        check_sizes(batch_size=self.batch_size, pool=self.pool)
        check_columns(self.columns, self.fixed)
        _check_attributes(self.balance)
        if not 0 < self.adapted_share < 1:
            raise ConfigError(f"adapted_share is {self.adapted_share}; it should be between 0 and 1.")
        if self.adapted and self.batch_size < 2:
            raise ConfigError(
                f"batch_size is {self.batch_size}; it should be at least 2, for utterances of adapted and of other "
                "speakers."
            )

    def plan(self, store: Store) -> BatchPlan[ColumnBatch]:
        """The batches of `store`, which has the named columns."""
        buckets, lengths = check_buckets(store, self.buckets, self.columns), column_lengths(store, self.columns)
        weights, groups = balanced_weights(store.corpus, self.balance), self._groups(store.corpus)
        steps = max(1, len(store) // self.batch_size)

        def order(seed: int, epoch: int) -> Int64[np.ndarray, "batches batch"]:
            parts = []
            for number, (rows, count) in enumerate(groups):
                offset = float(uniform(seed, _DRAWS, epoch, number)[0])
                drawn = rows[_systematic(weights[rows], steps * count, offset)]
                drawn = drawn[permutation(len(drawn), seed, _ORDER, epoch, number)]
                pools = np.arange(len(drawn)) // (self.pool * count)
                drawn = drawn[np.lexsort((*lengths[drawn].T[::-1], pools))]
                parts.append(drawn.reshape(steps, count))
            return np.concatenate(parts, axis=1)[permutation(steps, seed, _BATCHES, epoch)]

        cached = cache_last(order)

        def select(place: LoaderState) -> Selection:
            rows = cached(place.seed, place.epoch)[place.index]
            return Selection(rows, bucket=smallest_bucket(buckets, lengths[rows]))

        def collate(store: Store, selection: Selection) -> ColumnBatch:
            return collate_columns(store, selection, self.columns, self.fixed)

        description = {
            "utterances": len(store),
            **total_lengths(store, self.columns),
            "batch_size": self.batch_size,
            "buckets": [list(bucket) for bucket in buckets],
            "pool": self.pool,
            "balance": list(self.balance),
        }
        if self.adapted:
            description |= {"adapted": list(self.adapted), "adapted_rows": groups[0][1]}
        return BatchPlan(steps, select, collate, description)

    def _groups(self, corpus: Corpus) -> list[tuple[Int64[np.ndarray, " rows"], int]]:
        """The rows of the store, and the number of rows in a batch, of adapted and of other speakers."""
        if not self.adapted:
            return [(np.arange(len(corpus)), self.batch_size)]
        missing = sorted(set(self.adapted) - set(corpus.speakers))
        if missing:
            known = ", ".join(map(repr, corpus.speakers[:20])) or "none"
            raise DataError(f"adapted contains {missing[0]!r}, which is none of the speakers of the store: {known}.")
        chosen = np.array([utterance.speaker in self.adapted for utterance in corpus.utterances])
        if chosen.all():
            raise DataError(
                f"adapted is {self.adapted}, all speakers of the store; add recordings of other speakers, or leave "
                "adapted out."
            )
        count = min(self.batch_size - 1, max(1, round(self.adapted_share * self.batch_size)))
        return [(np.flatnonzero(chosen), count), (np.flatnonzero(~chosen), self.batch_size - count)]


def balanced_weights(corpus: Corpus, attributes: Sequence[Attribute]) -> Float64[np.ndarray, " utterances"]:
    """Weights of the utterances of `corpus`, whose sum is 1, for sampling that balances `attributes`.

    The weight of an utterance is the product of the probabilities of its values, one attribute after the other: each
    value of the first attribute is equally likely, then each value of the second attribute among the utterances with
    this first value, and so on, and last each utterance with the same values. With `("language", "speaker")`, all
    languages are equally likely, and all speakers of a language, also if a language has one speaker only.

    **Raises:** `ConfigError` for an unknown attribute; `DataError` for utterances without it.

    coqui-ai/TTS `TTS/tts/models/vits.py` keeps the weights of the last attribute alone; here, they are combined.
    """
    _check_attributes(attributes)
    groups: list[tuple[str, ...]] = [()] * len(corpus)
    weights = np.ones(len(corpus), np.float64)
    for attribute in attributes:
        values = [getattr(utterance, attribute) for utterance in corpus.utterances]
        if "" in values:
            example = corpus.utterances[values.index("")].id
            raise DataError(
                f"{values.count('')} utterance(s), for example {example!r}, have no {attribute}; name the {attribute} "
                f"of each utterance, or leave {attribute!r} out of balance."
            )
        inner = [(*group, value) for group, value in zip(groups, values, strict=True)]
        choices = Counter(group[:-1] for group in set(inner))
        weights /= [choices[group] for group in groups]
        groups = inner
    counts = Counter(groups)
    return weights / [counts[group] for group in groups]


def _systematic(weights: Float64[np.ndarray, " rows"], count: int, offset: float) -> Int64[np.ndarray, " count"]:
    """`count` numbers of rows, each about in proportion to its weight: systematic sampling with `offset` in [0, 1)."""
    ends = np.cumsum(weights)
    positions = (np.arange(count) + offset) / count * ends[-1]
    return np.minimum(np.searchsorted(ends, positions, side="right"), len(weights) - 1)


def _check_attributes(attributes: Sequence[str]) -> None:
    known = get_args(Attribute)
    if isinstance(attributes, str) or set(attributes) - set(known) or len(set(attributes)) < len(attributes):
        raise ConfigError(f"balance is {attributes!r}; it should contain {' or '.join(map(repr, known))}, each once.")
