"""Batches of a store: crops of recordings, and whole utterances padded to one shape."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16, Int32, Int64, Shaped
from numpy.typing import DTypeLike

from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError


class CropBatch(NamedTuple):
    """Crops of recordings.

    `audio` `(batch, segment)` int16; `gain` `(batch,)`, the value of one integer step of each crop, so that
    `audio * gain` has full scale at 1; `mel` `(batch, mels, frames)`, `None` where the store has no mels.
    """

    audio: Int16[np.ndarray, "batch segment"]
    gain: Float32[np.ndarray, " batch"]
    mel: Float32[np.ndarray, "batch mels frames"] | None = None


class UtteranceBatch(NamedTuple):
    """Whole utterances padded to one shape.

    `phonemes` `(batch, phones)`, numbers from 1 on, 0 in the padding; `phone_count` `(batch,)`; `durations`
    `(batch, phones)` in frames, 0 in the padding; `mel` `(batch, mels, frames)`, the log-mel under the store's
    contract, 0 in the padding; `frame_count` `(batch,)`.
    """

    phonemes: Int32[np.ndarray, "batch phones"]
    phone_count: Int32[np.ndarray, " batch"]
    durations: Float32[np.ndarray, "batch phones"]
    mel: Float32[np.ndarray, "batch mels frames"]
    frame_count: Int32[np.ndarray, " batch"]


class ColumnBatch(NamedTuple):
    """The columns that a task names, as arrays by the name of the column.

    `columns[name]` is `(batch, ..., time)` for a column over time, padded at the end, and `(batch, ...)` for a fixed
    one, such as `gain` or embeddings, in the type of the store. `lengths[name]` `(batch,)` int32 is the number of
    values of each row before the padding; fixed columns have none.
    """

    columns: dict[str, Shaped[np.ndarray, "batch ..."]]
    lengths: dict[str, Int32[np.ndarray, " batch"]]


class Bucket(NamedTuple):
    """The largest numbers of frames and phones of the utterances in a batch, to which they are padded."""

    frames: int
    phones: int


class Selection(NamedTuple):
    """The rows of a batch.

    `utterances` `(batch,)` are row numbers of the store; `starts` `(batch,)` are the starts of crops, `None` for whole
    utterances; `bucket` contains the lengths to which columns are padded, `None` for crops. `references` is the
    selection of the references of `WithReferences`, and `seeds` `(batch,)` are random numbers for changes of each row.
    """

    utterances: Int64[np.ndarray, " batch"]
    starts: Int64[np.ndarray, " batch"] | None = None
    bucket: tuple[int, ...] | None = None
    references: "Selection | None" = None
    seeds: Int64[np.ndarray, " batch"] | None = None

    def part(self, rows: slice) -> "Selection":
        """The selection of some of the rows, with the bucket of the whole batch."""
        return Selection(
            self.utterances[rows],
            None if self.starts is None else self.starts[rows],
            self.bucket,
            None if self.references is None else self.references.part(rows),
            None if self.seeds is None else self.seeds[rows],
        )


def collate_crops(
    store: Store,
    selection: Selection,
    *,
    segment: int,
    hop_length: int | None = None,
    mel_padding: float | None = None,
) -> CropBatch:
    """A batch of the crops of `segment` samples in `selection`, padded at the end for shorter recordings.

    `selection.starts` are samples, or frames of `hop_length` samples. Audio is padded with zeros and mels with
    `mel_padding`, by default the log-mel of silence under the contract of the store.

    **Raises:** `ConfigError` for a store with mels, but without `hop_length`, or without a contract and `mel_padding`.
    """
    if "mel" in store and hop_length is None:
        raise ConfigError(
            "hop_length is None; it should be the hop length of the store's mels, because their crops start at frames. "
            'For batches without mels, pass columns=("audio",) to the sampler.'
        )
    names = ("audio", "mel") if "mel" in store else ("audio",)
    padding = crop_padding(store, names, mel_padding)
    found = collate_cropped_columns(
        store, selection, names, ("gain",), segment=segment, hop_length=hop_length, padding=padding
    ).columns
    return CropBatch(found["audio"], found["gain"], found.get("mel"))


def collate_cropped_columns(
    store: Store,
    selection: Selection,
    columns: Sequence[str],
    fixed: Sequence[str] = (),
    *,
    segment: int,
    hop_length: int | None = None,
    padding: Mapping[str, float] | None = None,
) -> ColumnBatch:
    """A batch of crops of `columns` over the same time, padded at the end, and of rows of the `fixed` columns.

    `audio` is cropped to `segment` samples, every other column to `segment / hop_length` frames. `selection.starts` are
    samples, or frames with `hop_length`. `padding` is the value that a column is padded with, by default 0.

    **Raises:** `ConfigError` for columns in frames without `hop_length`; `DataError` if the store has no such column.
    """
    assert selection.starts is not None
    parts: dict[str, tuple[Int64[np.ndarray, " batch"], int]] = {}
    for name in columns:
        if hop_length is None:
            check_frame_columns(columns, hop_length)
            parts[name] = selection.starts, segment
        elif name == "audio":
            parts[name] = selection.starts * hop_length, segment
        else:
            parts[name] = selection.starts, segment // hop_length
    arrays, lengths = {}, {}
    for name, (starts, size) in parts.items():
        column = store[name]
        rows = [column[row][..., at : at + size] for row, at in zip(selection.utterances, starts, strict=True)]
        arrays[name], lengths[name] = _padded(rows, size, (padding or {}).get(name, 0))
    return ColumnBatch(arrays | _fixed_rows(store, selection, fixed), lengths)


def collate_columns(
    store: Store, selection: Selection, columns: Sequence[str], fixed: Sequence[str] = ()
) -> ColumnBatch:
    """A batch of `columns` of whole utterances, padded with zeros to `selection.bucket`, and of `fixed` columns.

    **Raises:** `ConfigError` if an utterance does not fit in the bucket; `DataError` if the store has no such column.
    """
    assert selection.bucket is not None
    arrays, lengths = {}, {}
    for name, size in zip(columns, selection.bucket, strict=True):
        column = store[name]
        rows = [column[row] for row in selection.utterances]
        for index, row in zip(selection.utterances, rows, strict=True):
            if row.shape[-1] > size:
                raise ConfigError(
                    f"{store.corpus.utterances[index].id} has {row.shape[-1]} values in the column {name!r} and does "
                    f"not fit in {size}; use larger buckets."
                )
        arrays[name], lengths[name] = _padded(rows, size, 0)
    return ColumnBatch(arrays | _fixed_rows(store, selection, fixed), lengths)


def crop_padding(store: Store, columns: Sequence[str], mel_padding: float | None) -> dict[str, float]:
    """The value that crops of `mel` are padded with: `mel_padding`, or the floor of the store's contract.

    **Raises:** `ConfigError` if `columns` contains `mel`, but there is neither.
    """
    if "mel" not in columns:
        return {}
    if mel_padding is not None:
        return {"mel": mel_padding}
    if store.mel is None:
        raise ConfigError(
            "mel_padding is None; it should be the log-mel of silence, because the store has mels without a contract. "
            "Pass the floor of their MelConfig."
        )
    return {"mel": store.mel.floor}


def check_frame_columns(columns: Sequence[str], hop_length: int | None) -> None:
    """Raise `ConfigError` if `columns` other than `audio` are to be cropped without `hop_length`."""
    in_frames = [name for name in columns if name != "audio"]
    if in_frames and hop_length is None:
        raise ConfigError(
            "hop_length is None; it should be the number of samples of a frame, to crop "
            f"{', '.join(map(repr, in_frames))} in frames."
        )


def _padded(
    rows: Sequence[Shaped[np.ndarray, "... time"]], size: int, value: float
) -> tuple[Shaped[np.ndarray, "batch ... size"], Int32[np.ndarray, " batch"]]:
    """`rows` of up to `size` values in one array, padded at the end with `value`, and their lengths."""
    array = np.full((len(rows), *rows[0].shape[:-1], size), value, rows[0].dtype)
    for target, row in zip(array, rows, strict=True):
        target[..., : row.shape[-1]] = row
    return array, np.array([row.shape[-1] for row in rows], np.int32)


def _fixed_rows(store: Store, selection: Selection, names: Sequence[str]) -> dict[str, Shaped[np.ndarray, "batch ..."]]:
    found = {}
    for name in names:
        column = store[name]
        shapes = {np.shape(column[row]) for row in selection.utterances}
        if len(shapes) > 1:
            raise DataError(
                f"fixed contains {name!r}, a column whose rows have different shapes, such as "
                f"{' and '.join(map(str, sorted(shapes)[:2]))}; pass its name in columns."
            )
        found[name] = np.stack([column[row] for row in selection.utterances])
    return found


def collate_utterances(
    store: Store, indices: Sequence[int] | Int64[np.ndarray, " batch"], bucket: Bucket, rows: int | None = None
) -> UtteranceBatch:
    """A batch of the utterances `indices` of `store`, padded to `bucket`, and to `rows` with empty rows.

    **Raises:** `ConfigError` if an utterance does not fit.
    """
    count = len(indices) if rows is None else rows
    if len(indices) > count:
        raise ConfigError(f"rows is {count}; it should be at least the number of utterances, {len(indices)}.")
    selection = Selection(np.asarray(indices, np.int64), bucket=(bucket.phones, bucket.phones, bucket.frames))
    arrays, lengths = collate_columns(store, selection, ("phonemes", "durations", "mel"))

    def padded(array: Shaped[np.ndarray, "rows ..."], dtype: DTypeLike) -> Shaped[np.ndarray, "batch ..."]:
        array, missing = array.astype(dtype, copy=False), count - len(array)
        return np.concatenate([array, np.zeros((missing, *array.shape[1:]), dtype)]) if missing else array

    return UtteranceBatch(
        padded(arrays["phonemes"], np.int32),
        padded(lengths["phonemes"], np.int32),
        padded(arrays["durations"], np.float32),
        padded(arrays["mel"], np.float32),
        padded(lengths["mel"], np.int32),
    )
