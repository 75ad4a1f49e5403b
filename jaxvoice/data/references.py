"""A sampler that adds to each row of a batch a reference: another utterance of the same speaker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from jaxvoice.data.batches import ColumnBatch, Selection
from jaxvoice.data.buckets import check_sizes
from jaxvoice.data.samplers import BatchPlan, LoaderState, Sampler, permutation, random_bits, uniform
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import Corpus, rows_of_speakers
from jaxvoice.errors import ConfigError

ReferenceSource = Literal["other", "same"]
# Streams of random numbers, after those of the samplers.
_REFERENCE, _START, _PIECES, _ORDER = 3, 4, 5, 6


@dataclass(frozen=True)
class WithReferences:
    """The batches of `sampler`, a sampler of `ColumnBatch`, with a reference for each row.

    The references are crops of `length` frames of the column `column`, in the column `reference` of the batch. Shorter
    references are padded at the end with `padding`, and `lengths["reference"]` is their number of frames.

    With `source="other"`, the reference of a row is another utterance of the same speaker. A speaker with one utterance
    is its own reference; `description["without_other_utterance"]` counts these utterances. With `source="same"`, the
    reference is a crop of the utterance of the row.

    With `pieces`, a reference is cut into pieces of a random length from `pieces[0]` to `pieces[1]` frames, whose order
    is random. The pieces contain the sound of the voice, but not the sequence of phonemes, which a model could
    otherwise read from a reference of the same utterance (NVC-Net, `hparams.py`: `split_low`, `split_high`).

    **Raises:** `ConfigError` for sizes below 1, pieces that are not ordered, or another `source`. `plan` raises
    `DataError` for utterances without a speaker.
    """

    sampler: Sampler[ColumnBatch]
    length: int
    column: str = "mel"
    source: ReferenceSource = "other"
    pieces: tuple[int, int] | None = None
    padding: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(length=self.length)
        if self.source not in get_args(ReferenceSource):
            raise ConfigError(f"source is {self.source!r}; it should be 'other' or 'same'.")
        if self.pieces is not None and not 1 <= self.pieces[0] <= self.pieces[1]:
            raise ConfigError(f"pieces is {self.pieces}; it should be a shortest and a longest length, at least 1.")

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch over all processes."""
        return self.sampler.batch_size

    def plan(self, store: Store) -> BatchPlan[ColumnBatch]:
        """The batches of `store`, which has the columns of `sampler` and `column`."""
        inner, lengths = self.sampler.plan(store), store.lengths(self.column)
        members = _Members.of(store.corpus) if self.source == "other" else None

        def select(place: LoaderState) -> Selection:
            chosen = inner.select(place)
            rows = place.index * self.batch_size + np.arange(len(chosen.utterances))
            references = chosen.utterances
            if members is not None:
                draws = uniform(place.seed, _REFERENCE, place.epoch, rows)
                references = np.array([members.other(*pair) for pair in zip(references, draws, strict=True)])
            room = np.maximum(1, lengths[references] - self.length + 1)
            starts = (uniform(place.seed, _START, place.epoch, rows) * room).astype(np.int64)
            seeds = random_bits(place.seed, _PIECES, place.epoch, rows).astype(np.int64)
            return chosen._replace(references=Selection(references, starts, seeds=seeds))

        def collate(store: Store, selection: Selection) -> ColumnBatch:
            batch, references = inner.collate(store, selection), selection.references
            assert references is not None
            values, counts = self._crops(store, references)
            return ColumnBatch(
                {**batch.columns, "reference": values},
                {**batch.lengths, "reference": counts},
            )

        return BatchPlan(inner.steps_per_epoch, select, collate, self._description(inner.description, members))

    def _crops(
        self, store: Store, selection: Selection
    ) -> tuple[Shaped[np.ndarray, "batch ... length"], Int32[np.ndarray, " batch"]]:
        assert selection.starts is not None and selection.seeds is not None
        column, rows = store[self.column], []
        for row, start, seed in zip(selection.utterances, selection.starts, selection.seeds, strict=True):
            crop = column[row][..., start : start + self.length]
            rows.append(crop if self.pieces is None else shuffle_pieces(crop, self.pieces, int(seed)))
        values = np.full((len(rows), *rows[0].shape[:-1], self.length), self.padding, rows[0].dtype)
        for target, crop in zip(values, rows, strict=True):
            target[..., : crop.shape[-1]] = crop
        return values, np.array([crop.shape[-1] for crop in rows], np.int32)

    def _description(self, inner: Mapping[str, object], members: "_Members | None") -> dict[str, object]:
        references: dict[str, object] = {"length": self.length, "column": self.column, "source": self.source}
        if self.pieces is not None:
            references["pieces"] = list(self.pieces)
        if members is not None:
            references["without_other_utterance"] = sum(len(rows) == 1 for rows in members.rows)
        return {**inner, "references": references}


def shuffle_pieces(
    values: Shaped[np.ndarray, "... time"], pieces: tuple[int, int], seed: int
) -> Shaped[np.ndarray, "... time"]:
    """Cut `values` along the last axis into pieces of random lengths, and put the pieces in a random order.

    The lengths are from `pieces[0]` to `pieces[1]`; the last piece may be shorter. The result is a function of `seed`.
    """
    shortest, longest = pieces
    draws = uniform(seed, _PIECES, np.arange(values.shape[-1] // shortest + 1))
    ends = np.cumsum(shortest + (draws * (longest - shortest + 1)).astype(np.int64))
    parts = np.split(values, ends[ends < values.shape[-1]], axis=-1)
    return np.concatenate([parts[part] for part in permutation(len(parts), seed, _ORDER)], axis=-1)


@dataclass(frozen=True)
class _Members:
    """The utterances of each speaker."""

    rows: list[Int64[np.ndarray, " rows"]]
    """The utterances of each speaker, in order."""
    speaker: Int64[np.ndarray, " utterances"]
    """The number of the speaker of each utterance."""
    position: Int64[np.ndarray, " utterances"]
    """The position of each utterance among those of its speaker."""

    @classmethod
    def of(cls, corpus: Corpus) -> "_Members":
        rows = list(rows_of_speakers(corpus).values())
        speaker, position = np.empty(len(corpus), np.int64), np.empty(len(corpus), np.int64)
        for number, own in enumerate(rows):
            speaker[own], position[own] = number, np.arange(len(own))
        return cls(rows, speaker, position)

    def other(self, row: int, draw: float) -> int:
        """One of the other utterances of the speaker of `row`, for a `draw` in [0, 1); `row` if there are none."""
        rows, own = self.rows[self.speaker[row]], self.position[row]
        if len(rows) == 1:
            return row
        number = int(draw * (len(rows) - 1))
        return rows[number + (number >= own)]
