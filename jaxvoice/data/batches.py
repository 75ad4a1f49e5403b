"""Batches of a store: crops of recordings, and whole utterances padded to one shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16, Int32, Int64

from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError

LOG_MEL_OF_SILENCE = float(np.log(1e-5))


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


class Bucket(NamedTuple):
    """The shape that utterances of up to so many frames and phones are padded to."""

    frames: int
    phones: int


class Selection(NamedTuple):
    """The rows of a batch: which utterances, and which part of each.

    `utterances` `(batch,)` are numbers of the store's rows; `starts` `(batch,)`, where each crop starts, `None` for
    whole utterances; `bucket`, the shape that utterances are padded to, `None` for crops.
    """

    utterances: Int64[np.ndarray, " batch"]
    starts: Int64[np.ndarray, " batch"] | None = None
    bucket: Bucket | None = None

    def part(self, rows: slice) -> "Selection":
        """The selection of some of the rows, in the shape of the whole batch."""
        return Selection(self.utterances[rows], None if self.starts is None else self.starts[rows], self.bucket)


def collate_crops(
    store: Store,
    selection: Selection,
    *,
    segment: int,
    hop_length: int = 256,
    mel_padding: float = LOG_MEL_OF_SILENCE,
) -> CropBatch:
    """The crops of `segment` samples that `selection` names, padded at the end where a recording is shorter.

    `selection.starts` are samples, or frames of `hop_length` samples where the store has mels. Audio is padded with
    zeros and mels with `mel_padding`, the log-mel of silence.
    """
    clips, gains, starts = store["audio"], np.asarray(store["gain"]), selection.starts
    assert starts is not None
    mel = None
    if "mel" in store:
        mels, frames = store["mel"], segment // hop_length
        mel = np.full((len(starts), mels[0].shape[0], frames), mel_padding, np.float32)
        for row, index, start in zip(mel, selection.utterances, starts, strict=True):
            crop = mels[index][:, start : start + frames]
            row[:, : crop.shape[1]] = crop
        starts = starts * hop_length
    audio = np.zeros((len(starts), segment), np.int16)
    for row, index, start in zip(audio, selection.utterances, starts, strict=True):
        crop = clips[index][start : start + segment]
        row[: len(crop)] = crop
    return CropBatch(audio, gains[selection.utterances], mel)


def collate_utterances(
    store: Store, indices: Sequence[int] | Int64[np.ndarray, " batch"], bucket: Bucket, rows: int | None = None
) -> UtteranceBatch:
    """The utterances `indices` of `store`, padded to `bucket`, and to `rows` with rows of no phones and no frames.

    **Raises:** `ConfigError` if an utterance does not fit.
    """
    count = len(indices) if rows is None else rows
    if len(indices) > count:
        raise ConfigError(f"{len(indices)} utterances do not fit in {count} rows.")
    all_mels, all_phonemes, all_durations = store["mel"], store["phonemes"], store["durations"]
    phonemes = np.zeros((count, bucket.phones), np.int32)
    durations = np.zeros((count, bucket.phones), np.float32)
    mel = np.zeros((count, all_mels[0].shape[0], bucket.frames), np.float32)
    phone_count, frame_count = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for row, index in enumerate(indices):
        phones, frames = len(all_phonemes[index]), all_mels[index].shape[1]
        if phones > bucket.phones or frames > bucket.frames:
            raise ConfigError(
                f"{store.corpus.utterances[index].id} has {phones} phones and {frames} frames and does not fit in "
                f"{bucket.phones} phones and {bucket.frames} frames; use larger buckets."
            )
        phonemes[row, :phones] = all_phonemes[index]
        durations[row, :phones] = all_durations[index]
        mel[row, :, :frames] = all_mels[index]
        phone_count[row], frame_count[row] = phones, frames
    return UtteranceBatch(phonemes, phone_count, durations, mel, frame_count)
