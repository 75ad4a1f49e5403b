"""The phoneme of each frame of a recording, by the exact times of an alignment."""

import numpy as np
from jaxtyping import Int32

from jaxvoice.data.alignments.alignment import Alignment
from jaxvoice.data.store import Store
from jaxvoice.errors import DataError
from jaxvoice.text.phonemes import PhoneSet


def frame_labels(
    alignment: Alignment, phone_set: PhoneSet, frames: int, frame_seconds: float
) -> Int32[np.ndarray, " {frames}"]:
    """The ids in `phone_set` of the phonemes at the times `t * frame_seconds`, for t from 0 to `frames - 1`.

    The label of frame t is the phoneme that starts at this time or before it, and has not ended; 0 after the last
    phoneme. Phonemes that no frame falls into have no label.

    **Raises:** `TextError` for a phoneme that is not in `phone_set`.
    """
    ids = np.array([*phone_set.ids(alignment.phones), 0], np.int32)
    # Half a microsecond, so that rounding does not move a boundary past the frame on it.
    times = np.arange(frames) * frame_seconds + 5e-7
    return ids[np.searchsorted(alignment.boundaries[1:], times, side="right")]


def label_column(store: Store, hop_length: int) -> list[Int32[np.ndarray, " frames"]]:
    """The column of `frame_labels` for the recordings of a store: `samples // hop_length + 1` labels for each.

    Frame t is at sample `t * hop_length` of the column `audio`. Add the column with
    `store.with_columns(labels=label_column(store, hop_length))`.

    **Raises:** `DataError` for a corpus without a phone set, or an utterance without an alignment; `TextError` as
    `frame_labels`.
    """
    phone_set = store.corpus.phone_set
    if phone_set is None:
        raise DataError(f"The corpus {store.corpus.root} has no phone set; read it with find_aligned.")
    rows = []
    for utterance, samples in zip(store.corpus.utterances, store.lengths("audio"), strict=True):
        if utterance.alignment is None:
            raise DataError(f"{utterance.id} has no alignment; align it first, or exclude it.")
        frames = int(samples) // hop_length + 1
        rows.append(frame_labels(utterance.alignment, phone_set, frames, hop_length / store.sample_rate))
    return rows
