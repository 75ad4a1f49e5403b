"""The columns of a store that the decoder of XTTS is trained on: crops of interpolated latents, and their audio."""

from collections.abc import Sequence
from fractions import Fraction
from typing import overload

import numpy as np
from jaxtyping import Float, Float32, Int64

from jaxvoice.data.samplers import RandomCrops
from jaxvoice.data.store import Column, Store
from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts.decoder import interpolated_length, neighbours

_Latents = Float[np.ndarray, "channels codes"]


def interpolated_slice(
    latents: _Latents, scales: Sequence[Fraction], start: int, stop: int
) -> Float[np.ndarray, "channels frames"]:
    """The frames `start` to `stop`, exclusive, of `latents`, interpolated by each of `scales` in turn.

    The values equal those of the interpolation of the whole utterance: the positions of a crop are those in the
    utterance. Only the latents that these frames depend on are read.
    """
    *before, last = scales
    lengths = [latents.shape[-1]]
    for scale in before:
        lengths.append(interpolated_length(lengths[-1], scale))
    places = neighbours(lengths[-1], last, start, stop)
    first, end = int(places.before[0]), int(places.after[-1]) + 1
    x = interpolated_slice(latents, before, first, end) if before else latents[..., first:end]
    share = places.share.astype(x.dtype)
    return x[..., places.before - first] * (1 - share) + x[..., places.after - first] * share


class InterpolatedRow:
    """The interpolated latents of an utterance, `(channels, frames)`, of which only slices in time are computed."""

    def __init__(self, latents: _Latents, scales: Sequence[Fraction]):
        self._latents, self._scales = latents, tuple(scales)
        frames = latents.shape[-1]
        for scale in self._scales:
            frames = interpolated_length(frames, scale)
        self.shape = (latents.shape[0], frames)
        self.dtype = latents.dtype

    def __getitem__(self, index: tuple[object, slice]) -> Float[np.ndarray, "channels frames"]:
        """The frames of `row[..., start:stop]`."""
        start, stop, _ = index[1].indices(self.shape[1])
        if stop <= start:
            return np.zeros((self.shape[0], 0), self.dtype)
        return interpolated_slice(self._latents, self._scales, start, stop)


class InterpolatedColumn(Sequence):
    """The column of interpolated latents of a store, for samplers of crops.

    **Arguments:** `latents`, the column of `compute_latents`; `scales`, those of `HiFiDecoder.scales`.
    """

    def __init__(self, latents: Column, scales: Sequence[Fraction]):
        self._latents, self._scales = latents, tuple(scales)

    def __len__(self) -> int:
        return len(self._latents)

    @overload
    def __getitem__(self, index: int) -> InterpolatedRow: ...

    @overload
    def __getitem__(self, index: slice) -> "InterpolatedColumn": ...

    def __getitem__(self, index):
        """The row of an utterance, or the column of several."""
        if isinstance(index, slice):
            return InterpolatedColumn(self._latents[index], self._scales)
        return InterpolatedRow(self._latents[index], self._scales)


class PaddedColumn(Sequence):
    """A column of recordings `(samples,)`, of which a row is padded with zeros to its length when it is read.

    **Arguments:** `lengths`, the least number of samples of each row.
    """

    def __init__(self, rows: Column, lengths: Int64[np.ndarray, " utterances"]):
        self._rows, self._lengths = rows, lengths

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Float32[np.ndarray, " samples"]: ...

    @overload
    def __getitem__(self, index: slice) -> "PaddedColumn": ...

    def __getitem__(self, index):
        """The row of an utterance, or the column of several."""
        if isinstance(index, slice):
            return PaddedColumn(self._rows[index], self._lengths[index])
        row = self._rows[index]
        return np.pad(row, (0, max(0, int(self._lengths[index]) - len(row))))


def training_store(
    store: Store,
    latents: Column,
    speaker: Sequence[Float32[np.ndarray, " dim"]] | Float32[np.ndarray, "utterances dim"],
    scales: Sequence[Fraction],
    hop_length: int,
) -> Store:
    """`store` with the columns `features`, the interpolated latents, and `speaker`.

    Recordings that end before their latents are padded with zeros, so that the decoder learns that the end is silent.

    **Arguments:** `store`, recordings at `config.output_rate`; `latents` and `speaker`, the columns of
    `compute_latents` for them; `scales`, those of `HiFiDecoder.scales`; `hop_length`, that of the decoder.

    **Raises:** `DataError` for columns of other lengths.
    """
    features = InterpolatedColumn(latents, scales)
    store = store.with_columns(features=features, speaker=speaker)
    lengths = np.array([row.shape[-1] * hop_length for row in features], np.int64)
    return store.with_columns(audio=PaddedColumn(store["audio"], lengths))


def training_sampler(batch_size: int, segment_frames: int, hop_length: int, *, crops_per_clip: int = 1) -> RandomCrops:
    """The sampler of `DecoderTask`: crops of `segment_frames` frames of a store of `training_store`.

    **Raises:** `ConfigError` for sizes below 1.
    """
    if segment_frames < 1:
        raise ConfigError(f"segment_frames is {segment_frames}; it should be at least 1.")
    return RandomCrops(
        batch_size,
        segment_frames * hop_length,
        hop_length=hop_length,
        crops_per_clip=crops_per_clip,
        columns=("audio", "features"),
        fixed=("gain", "speaker"),
    )
