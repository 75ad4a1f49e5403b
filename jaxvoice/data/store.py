"""Stores: the data of a corpus in columns, in memory or memory-mapped."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int16, Int64

from jaxvoice.data.atomic_folders import atomic_folder, cache_folder, remove_folder
from jaxvoice.data.audio import audio_info, read_as
from jaxvoice.data.mel_files import read_mel
from jaxvoice.data.utterances import Corpus, RejectedUtterance, Utterance, map_utterances, report_table
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError, DataError

PEAK = 0.95  # HiFi-GAN, meldataset.py: librosa.util.normalize(audio) * 0.95
_VERSION = 1
_INDEX = "index.json"
_log = logging.getLogger(__name__)

Column = Sequence[np.ndarray] | np.ndarray


@dataclass(frozen=True, eq=False)
class Store:
    """The data of `corpus` in columns by name: row i of every column belongs to `corpus.utterances[i]`.

    A column is a sequence with one array for each utterance, whose last axis is time and differs in length, or one
    array `(utterances, ...)`. The library uses these names:

    - `audio`: `(samples,)`, or `(channels, samples)` for several channels, int16 at `sample_rate` (Hz), and `gain`:
      `(utterances,)` float32, the value of one integer step, so that `audio * gain` is the waveform with full scale
      at 1.
    - `mel`: `(mels, frames)` float32 under the contract `mel`; if the contract is `None`, the mels are those of the
      corpus.
    - `phonemes`: `(phones,)` int32, ids in `corpus.phone_set`, from 1 on; `durations`: `(phones,)` int32, the frames
      of each phone, at least 1, whose sum is the number of frames of `mel`.

    `with_columns` adds other columns, such as F0, features, tokens or embeddings of speakers.

    `folder` contains memory-mapped columns, and is `None` for a store in memory. `notes` counts utterances with unusual
    properties. `peak_normalize` states whether recordings were scaled to a peak of 0.95.

    **Raises:** `DataError` if a column does not have one row for each utterance.
    """

    corpus: Corpus
    columns: Mapping[str, Column]
    sample_rate: int
    mel: MelConfig | None = None
    folder: Path | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    peak_normalize: bool = False

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if len(column) != len(self.corpus):
                raise DataError(
                    f"The column {name!r} has {len(column)} rows; it should have one row for each of the "
                    f"{len(self.corpus)} utterances."
                )

    def __len__(self) -> int:
        return len(self.corpus)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            known = ", ".join(map(repr, self.columns)) or "none"
            raise DataError(f"The store has no column {name!r} (its columns: {known}); add it with with_columns.")
        return self.columns[name]

    def lengths(self, name: str) -> Int64[np.ndarray, " utterances"]:
        """The length of the last axis of each row of the column `name`."""
        return np.array([row.shape[-1] for row in self[name]], np.int64)

    def waveform(self, index: int) -> Float32[np.ndarray, "*channels samples"]:
        """The recording of utterance `index`, float32 with full scale at 1."""
        return self["audio"][index].astype(np.float32) * self["gain"][index]

    def phones(self, index: int) -> tuple[str, ...]:
        """The codes of the phonemes of utterance `index`.

        **Raises:** `DataError` for a corpus without a phone set.
        """
        if self.corpus.phone_set is None:
            raise DataError(f"The corpus {self.corpus.root} has no phone set; read it with find_aligned.")
        codes = self.corpus.phone_set.codes
        return tuple(codes[number - 1] for number in self["phonemes"][index])

    def with_columns(self, **columns: Column) -> "Store":
        """A copy of the store with more columns. Columns of the same names are replaced.

        **Raises:** `DataError` if a column does not have one row for each utterance.
        """
        return replace(self, columns={**self.columns, **columns})

    def subset(self, indices: Iterable[int]) -> "Store":
        """The store of the utterances `indices`, in this order. Their data is not copied."""
        indices = list(indices)
        corpus = replace(self.corpus, utterances=tuple(self.corpus.utterances[index] for index in indices))
        columns = {
            name: column[indices] if isinstance(column, np.ndarray) else [column[index] for index in indices]
            for name, column in self.columns.items()
        }
        return replace(self, corpus=corpus, columns=columns)

    def usable(self, indices: Sequence[int], rejected: Sequence[RejectedUtterance]) -> "Store":
        """The store of the utterances `indices`, whose `rejected` are all others, each with a reason.

        **Raises:** `DataError`, with a table of the reasons, if `indices` is empty.
        """
        if not indices:
            reasons = report_table((), rejected, self.corpus.root)
            raise DataError(f"None of the {len(self)} utterance(s) of {self.corpus.root} can be used:\n{reasons}")
        kept = self.subset(indices)
        return replace(kept, corpus=replace(kept.corpus, rejected=tuple(rejected)))

    @property
    def frames(self) -> int:
        """Total number of mel frames."""
        return int(self.lengths("mel").sum())

    @property
    def seconds(self) -> float:
        """Duration of all recordings in seconds, or of all mels if the store has no audio."""
        if "audio" in self or self.mel is None:
            return int(self.lengths("audio").sum()) / self.sample_rate
        return self.frames * self.mel.hop_length / self.mel.sample_rate

    @property
    def rejected(self) -> tuple[RejectedUtterance, ...]:
        """The utterances that were rejected when the corpus was found, checked and loaded."""
        return self.corpus.rejected

    @property
    def counts(self) -> dict[str, int]:
        """Number of rejected utterances for each kind of reason."""
        return self.corpus.counts

    def table(self) -> str:
        """The store and the rejected utterances in lines of at most 80 characters."""
        rows = [("corpus", f"{self.corpus.root} ({self.corpus.kind})"), ("usable", f"{len(self)} utterance(s)")]
        rows.append(("duration", f"{self.seconds / 60:.1f} minutes"))
        if "phonemes" in self:
            phones = self.lengths("phonemes")
            rows.append(("phones", f"{phones.sum()}"))
            rows.append(("longest", f"{self.lengths('mel').max()} frames, {phones.max()} phones"))
        return report_table(rows, self.rejected, self.corpus.root, self.notes)

    def __str__(self) -> str:
        return self.table()


def load_store(
    corpus: Corpus,
    sample_rate: int,
    *,
    channels: int = 1,
    peak_normalize: bool = True,
    memory_limit: int = 4 * 2**30,
    cache: str | Path | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Store:
    """Load all recordings of `corpus` into the columns `audio` and `gain`, and its mels into the column `mel`.

    Recordings are resampled to `sample_rate` (Hz). Their channels are averaged, or with `channels` above 1 kept: a
    recording with one channel is repeated in all. With `peak_normalize`, gains scale every recording to a peak of
    0.95, as HiFi-GAN does before it crops. Without it, the levels do not change, as in HiFi-GAN's fine-tuning on mels.

    Data of up to `memory_limit` bytes is held in memory. Larger data is written once to a folder below `cache` (by
    default the user's cache folder) and memory-mapped. The folder is reused as long as the names, sizes and times of
    the files and the sample rate are the same.

    **Raises:** `AudioError` or `MelError` for a file that the preflight would reject, or one with another number of
    channels than 1 and `channels`; `DataError` if `corpus` is empty
    or the cache cannot be written.
    """
    if not corpus.utterances:
        raise DataError(f"The corpus {corpus.root} has no utterances; it should have at least one.")
    paired = [utterance for utterance in corpus.utterances if utterance.mel is not None]
    if paired and len(paired) < len(corpus):
        raise DataError(
            f"{len(paired)} of the {len(corpus)} utterances of {corpus.root} have a mel; all or none should have one."
        )
    if channels < 1:
        raise ConfigError(f"channels is {channels}; it should be at least 1.")
    needed = _expected_bytes(corpus, sample_rate, channels)

    def rows() -> Iterator[dict[str, Any]]:
        title = "loading audio" if progress else None
        return map_utterances(lambda item: _decode(item, sample_rate, channels), corpus.utterances, threads, title)

    folder = None
    if needed <= memory_limit:
        columns = _in_memory(rows())
    else:
        folder = Path(cache).expanduser() if cache is not None else cache_folder("corpora")
        folder = folder / _fingerprint(corpus, sample_rate, channels)
        columns = _cached(folder, rows, needed)
    gain = _gains(columns.pop("peak"), columns.pop("step"), peak_normalize)
    columns = {"audio": columns["audio"], "gain": gain, **columns}
    return Store(corpus, columns, sample_rate, corpus.mel, folder, peak_normalize=peak_normalize)


def divide_recordings(store: Store, samples: int) -> Store:
    """A store whose recordings are the pieces of those of `store`, of `samples` samples, without copies.

    The rest of a recording belongs to its last piece, which is shorter than twice `samples`. The id of a piece is that
    of the recording with the number of the piece, such as `song#0002`; recordings that are not divided keep their ids.

    **Raises:** `ConfigError` for `samples` below 1; `DataError` for a store with other columns than `audio` and `gain`.
    """
    if samples < 1:
        raise ConfigError(f"samples is {samples}; it should be at least 1.")
    others = sorted(set(store.columns) - {"audio", "gain"})
    if others:
        raise DataError(f"The store has the columns {', '.join(others)}; it should have only audio and gain.")
    utterances, audio, rows = [], [], []
    for row, utterance in enumerate(store.corpus.utterances):
        whole = store["audio"][row]
        pieces = max(1, whole.shape[-1] // samples)
        for piece in range(pieces):
            end = whole.shape[-1] if piece + 1 == pieces else (piece + 1) * samples
            name = utterance.id if pieces == 1 else f"{utterance.id}#{piece + 1:04}"
            utterances.append(replace(utterance, id=name))
            audio.append(whole[..., piece * samples : end])
            rows.append(row)
    corpus = replace(store.corpus, utterances=tuple(utterances), validation_ids=frozenset())
    return replace(store, corpus=corpus, columns={"audio": audio, "gain": np.asarray(store["gain"])[rows]})


def to_int16(samples: Float[np.ndarray, "*channels samples"]) -> tuple[Int16[np.ndarray, "*channels samples"], float]:
    """Round `samples` to 16-bit integers.

    **Returns:** the integers, and the value of an integer step. The value is 1/32768, or larger if samples exceed full
    scale, because these are scaled down rather than clipped.
    """
    top, bottom = float(samples.max(initial=0.0)), float(samples.min(initial=0.0))
    if round(top * 32768) <= 32767 and round(bottom * 32768) >= -32768:
        return np.rint(samples * np.float32(32768)).astype(np.int16), 1 / 32768
    peak = max(top, -bottom)
    return np.rint(samples * np.float32(32767 / peak)).astype(np.int16), peak / 32767


def audio_of(utterance: Utterance) -> Path:
    """The path of the recording of `utterance`.

    **Raises:** `AudioError` if there is none.
    """
    if utterance.audio is None:
        raise AudioError(f"{utterance.id} has no recording; pass the folder of the audio.")
    return utterance.audio


def _decode(utterance: Utterance, sample_rate: int, channels: int) -> dict[str, Any]:
    samples, step = to_int16(read_as(audio_of(utterance), channels, sample_rate)[0])
    samples = samples[0] if channels == 1 else samples
    peak = max(int(samples.max(initial=0)), -int(samples.min(initial=0)))
    row = {"audio": samples, "peak": np.int32(peak), "step": np.float64(step)}
    return row if utterance.mel is None else {**row, "mel": read_mel(utterance.mel)}


def _gains(peaks: Column, steps: Column, peak_normalize: bool) -> Float32[np.ndarray, " utterances"]:
    pairs = zip(np.asarray(peaks).tolist(), np.asarray(steps).tolist(), strict=True)
    return np.array([PEAK / peak if peak_normalize and peak else step for peak, step in pairs], dtype=np.float32)


def _expected_bytes(corpus: Corpus, sample_rate: int, channels: int) -> int:
    total = 0
    for utterance in corpus.utterances:
        total += channels * math.ceil(2 * sample_rate * audio_info(audio_of(utterance)).seconds)
        if utterance.mel is not None:
            total += utterance.mel.stat().st_size
    return total


def _fingerprint(corpus: Corpus, sample_rate: int, channels: int) -> str:
    kept = "" if channels == 1 else f" {channels} channels"
    digest = hashlib.sha256(f"{_VERSION} {sample_rate}{kept}".encode())
    for utterance in corpus.utterances:
        for path in filter(None, (utterance.audio, utterance.mel)):
            stat = path.stat()
            digest.update(os.fsencode(f"\n{path.resolve()}\t{stat.st_size}\t{stat.st_mtime_ns}"))
    return digest.hexdigest()[:24]


def _in_memory(rows: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Column]:
    columns: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return dict(columns)


def _cached(folder: Path, rows: Callable[[], Iterable[Mapping[str, np.ndarray]]], needed: int) -> dict[str, Column]:
    """The memory-mapped columns in `folder`, which are written from `rows` if they are missing or damaged."""
    columns = read_columns(folder)
    if columns is not None:
        return columns
    if folder.exists():
        _log.warning("%s is damaged and is written again", folder)
        remove_folder(folder)
    try:
        with atomic_folder(folder) as making:
            write_columns(making, rows())
    except OSError as failure:
        raise DataError(
            f"The audio cache {folder} ({needed / 2**30:.1f} GiB) cannot be written ({failure.strerror}); "
            "choose another folder for it or raise the memory limit."
        ) from failure
    columns = read_columns(folder)
    if columns is None:
        raise DataError(f"The audio cache {folder} was damaged while it was written; delete it and try again.")
    return columns


def write_columns(folder: Path, rows: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write `rows`, each a mapping from columns to arrays, to a file for each column and an index.

    Only one row is in memory at a time. All rows have the same columns, and all arrays of a column have the same type.
    """
    index: dict[str, Any] = {}
    files: dict[str, Any] = {}
    try:
        for row in rows:
            for name, value in row.items():
                value = np.asarray(value)
                if name not in files:
                    files[name] = (folder / f"{name}.bin").open("wb")
                    index[name] = {"file": f"{name}.bin", "dtype": value.dtype.name, "shapes": []}
                files[name].write(value.tobytes())
                index[name]["shapes"].append(value.shape)
    finally:
        for file in files.values():
            file.close()
    (folder / _INDEX).write_text(json.dumps({"columns": index}), encoding="utf-8")


def read_columns(folder: Path) -> dict[str, Column] | None:
    """Map the columns of `write_columns` in `folder`; `None` if it is missing, or a file has an unexpected size."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if "columns" not in index:
            return _read_first_format(folder, index)
        columns = {}
        for name, entry in index["columns"].items():
            shapes = [tuple(shape) for shape in entry["shapes"]]
            columns[name] = _mapped(folder / entry["file"], np.dtype(entry["dtype"]), shapes)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return columns


def _read_first_format(folder: Path, index: Mapping[str, Any]) -> dict[str, Column]:
    """The columns of a folder that version 0.1.0 wrote."""
    audio = _mapped(folder / "audio.i16", np.dtype(np.int16), [(length,) for length in index["lengths"]])
    columns: dict[str, Column] = {"audio": audio, "peak": np.array(index["peaks"]), "step": np.array(index["steps"])}
    shapes = [(index["num_mels"], frames) for frames in index["frames"]]
    mels = _mapped(folder / "mels.f32", np.dtype(np.float32), shapes)
    return {**columns, "mel": mels} if shapes else columns


def _mapped(path: Path, dtype: np.dtype, shapes: Sequence[tuple[int, ...]]) -> Column:
    """Views of the consecutive arrays in the file at `path`.

    **Raises:** `ValueError` if the size of the file is not that of the arrays.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if path.stat().st_size != dtype.itemsize * sum(sizes):
        raise ValueError(f"{path} does not have the size in the index")
    if not sum(sizes):
        return [np.empty(shape, dtype) for shape in shapes]
    whole = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
    if len(set(shapes)) == 1:
        return whole.reshape(len(shapes), *shapes[0])
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
