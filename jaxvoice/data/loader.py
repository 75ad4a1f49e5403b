"""Batches of random crops: made by threads, the same for the same seed, resumable at the very next batch."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64

from jaxvoice.data.resuming import LoaderState as LoaderState, ResumableLoader
from jaxvoice.data.sampling import permutation, uniform
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError

LOG_MEL_OF_SILENCE = float(np.log(1e-5))
_ORDER, _CROP = 0, 1  # separate streams of random numbers


class Batch(NamedTuple):
    """Crops for one training step.

    `audio` (batch, segment) int16; `gain` (batch,) is what one integer step of each crop is worth, so that
    `audio * gain` has full scale at 1; `mel` (batch, mels, frames), only where the corpus gives mel spectrograms.
    """

    audio: Int16[np.ndarray, "batch segment"]
    gain: Float32[np.ndarray, " batch"]
    mel: Float32[np.ndarray, "batch mels frames"] | None = None


class _Rows(NamedTuple):
    clips: Int64[np.ndarray, " batch"]
    places: Float64[np.ndarray, " batch"]


class Loader(ResumableLoader[Batch]):
    """An endless iterator of `Batch`es; close it, or use it as a context manager, to stop its threads.

    Every epoch takes `crops_per_clip` random crops of every clip of `store`, in a new random order (or always in order
    without `shuffle`), and drops the remainder that does not fill a batch. With fewer crops than `batch_size`, an epoch
    is one batch in which clips repeat, each time with another crop. Order and crops are functions of (seed, epoch,
    place in the epoch) alone: they do not depend on `workers` (0 makes batches in the caller's thread) or `prefetch`,
    the number of batches made ahead.

    Clips shorter than `segment` are padded with zeros at the end. Where the store has mels, crops start at a frame:
    `mel[:, i : i + segment / hop_length]` and `audio[i * hop_length : i * hop_length + segment]`, i uniform over all
    frames at which both fit; mels that are too short are padded with `mel_padding`, the log-mel of silence.

    Of several processes, number `process_index` of `process_count` makes its share of every global batch of
    `batch_size`: the shares laid end to end are what one process alone would make.

    Source: HiFi-GAN, `meldataset.py`, except that its data order does not change between epochs on a single device.

    **Raises:** `ConfigError` for sizes that do not fit together, `DataError` for an empty store.
    """

    def __init__(
        self,
        store: Store,
        *,
        batch_size: int,
        segment: int,
        seed: int = 0,
        hop_length: int = 256,
        crops_per_clip: int = 1,
        shuffle: bool = True,
        workers: int = 2,
        prefetch: int = 8,
        process_index: int = 0,
        process_count: int = 1,
        mel_padding: float = LOG_MEL_OF_SILENCE,
    ):
        sizes = {"segment": segment, "hop_length": hop_length, "prefetch": prefetch, "crops_per_clip": crops_per_clip}
        super().__init__(batch_size=batch_size, process_index=process_index, process_count=process_count, sizes=sizes)
        if workers < 0:
            raise ConfigError(f"workers should be at least 0, got {workers}.")
        if store.mels is not None and segment % hop_length:
            raise ConfigError(f"segment {segment} should be a multiple of hop_length {hop_length} to cut mels with it.")
        if len(store) == 0:
            raise DataError("The store holds no clips; there is nothing to load.")
        self._store = store
        self._segment, self._hop, self._padding = segment, hop_length, mel_padding
        self._crops = len(store) * crops_per_clip
        self._shuffle = shuffle
        self._starts = _number_of_starts(store, segment, hop_length)
        self._workers, self._prefetch = workers, prefetch
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[Batch]] = deque()
        self.restore(LoaderState(0, 0, seed))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return max(1, self._crops // self._batch)

    def describe(self) -> dict[str, int | bool]:
        """What the batches are cut from and how; of two stores of as many clips and samples nothing differs here."""
        return {
            "clips": len(self._store),
            "samples": sum(len(clip) for clip in self._store.clips),
            "batch_size": self._batch,
            "segment": self._segment,
            "crops_per_clip": self._crops // len(self._store),
            "shuffle": self._shuffle,
        }

    def __next__(self) -> Batch:
        self._check_open()
        try:
            batch = self._take()
        except BaseException:
            self.restore(self._next)  # an interrupted or failed batch is the one to go on with
            raise
        self._next = self._after(self._next)
        return batch

    def close(self) -> None:
        """Stop the threads; the state can still be read."""
        super().close()
        self._drop_ahead()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _begin(self, place: LoaderState) -> None:
        self._drop_ahead()
        self._planned = place
        self._order: tuple[LoaderState, Int64[np.ndarray, " crops"]] | None = None

    def _take(self) -> Batch:
        if self._workers == 0:
            return self._make(self._plan())
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="jaxvoice-loader")
        while len(self._ahead) < self._prefetch:
            self._ahead.append(self._pool.submit(self._make, self._plan()))
        return self._ahead.popleft().result()

    def _drop_ahead(self) -> None:
        while self._ahead:
            self._ahead.pop().cancel()

    def _plan(self) -> _Rows:
        """Which clips this process cuts for the next batch that is not planned yet, and where in them, in [0, 1)."""
        place = self._planned
        self._planned = self._after(place)
        start = place._replace(index=0)
        if self._order is None or self._order[0] != start:
            if self._shuffle:
                order = permutation(self._crops, place.seed, _ORDER, place.epoch)
            else:
                order = np.arange(self._crops)
            self._order = start, order
        rows = place.index * self._batch + np.arange(self._batch)[self._share]
        clips = self._order[1][rows % self._crops] % len(self._store)
        return _Rows(clips, uniform(place.seed, _CROP, place.epoch, rows))

    def _make(self, rows: _Rows) -> Batch:
        store, segment = self._store, self._segment
        starts = (rows.places * self._starts[rows.clips]).astype(np.int64)
        audio = np.empty((len(starts), segment), np.int16)
        mel = None
        if store.mels is not None:
            frames = segment // self._hop
            mel = np.full((len(starts), store.mels[0].shape[0], frames), self._padding, np.float32)
            for row, clip, start in zip(mel, rows.clips, starts, strict=True):
                crop = store.mels[clip][:, start : start + frames]
                row[:, : crop.shape[1]] = crop
            starts = starts * self._hop
        for row, clip, start in zip(audio, rows.clips, starts, strict=True):
            crop = store.clips[clip][start : start + segment]
            row[: len(crop)] = crop
            row[len(crop) :] = 0
        return Batch(audio, store.gains[rows.clips], mel)


def _number_of_starts(store: Store, segment: int, hop_length: int) -> Int64[np.ndarray, " clips"]:
    """At how many samples (of clips alone) or frames (of pairs) of each clip a crop can start; at least 1."""
    lengths = np.array([len(clip) for clip in store.clips], dtype=np.int64)
    if store.mels is None:
        return np.maximum(1, lengths - segment + 1)
    frames = np.array([mel.shape[1] for mel in store.mels], dtype=np.int64)
    return np.maximum(1, np.minimum(frames, lengths // hop_length) - segment // hop_length + 1)
