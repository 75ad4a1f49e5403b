"""Tables of the embeddings of clips, with the speaker of each: files of coqui's `SpeakerManager`."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, parse_json, read_text, suggest_names
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.weights.file_writing import atomic_write
from jaxvoice.weights.formats import PickleArchive, open_archive
from jaxvoice.weights.formats.pickle_objects import TensorRef

_MOST_BYTES = 2**30
_NPZ = ("clips", "speakers", "embeddings")
_SUFFIXES = (".json", ".npz", ".pth")


@dataclass(frozen=True, eq=False, repr=False)
class SpeakerTable:
    """Embeddings by the names of clips, and the speaker of each clip.

    `table[clip]` is the embedding of a clip. Files are those of coqui's `SpeakerManager`,
    `{clip: {"name": speaker, "embedding": [...]}}`, or npz files with the arrays `clips`, `speakers` and `embeddings`.

    **Raises:** `DataError` for embeddings of different sizes, or with NaN or infinity, or if the numbers of clips,
    speakers and embeddings differ.
    """

    clips: tuple[str, ...]
    """Names of the clips, each once."""
    speakers: tuple[str, ...]
    """The speaker of each clip."""
    embeddings: Float32[np.ndarray, "clips dim"]
    """The embedding of each clip."""
    names: tuple[str, ...] = ()
    """Names of the speakers, in the order of their numbers; by default sorted."""

    def __post_init__(self) -> None:
        vectors = np.asarray(self.embeddings, np.float32)
        if vectors.ndim != 2 or not len(vectors) == len(self.clips) == len(self.speakers):
            raise DataError(
                f"There are {len(self.clips)} clips and {len(self.speakers)} speakers, and the embeddings have shape "
                f"{vectors.shape}; there should be one of each, in an array (clips, dim)."
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise DataError(f"The embedding of {self.clips[bad[0]]!r} contains NaN or infinity; compute it again.")
        if len(set(self.clips)) < len(self.clips):
            double = next(clip for clip in self.clips if self.clips.count(clip) > 1)
            raise DataError(f"The clip {double!r} occurs twice; each clip should have one embedding. Rename one.")
        vectors.flags.writeable = False
        object.__setattr__(self, "embeddings", vectors)
        names = self.names or tuple(sorted(set(self.speakers)))
        if set(names) != set(self.speakers) or len(set(names)) < len(names):
            raise DataError(f"names is {format_value(names)}; it should contain each speaker once.")
        object.__setattr__(self, "names", names)

    def __repr__(self) -> str:
        return f"SpeakerTable({len(self)} clips, {len(self.names)} speakers, {self.dim} components)"

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[str]:
        return iter(self.clips)

    def __getitem__(self, clip: str) -> Float32[np.ndarray, " dim"]:
        """The embedding of a clip; raises `DataError`, with the nearest names, if there is none."""
        row = self._rows.get(clip)
        if row is None:
            raise DataError(f"There is no clip {format_value(clip)}; {suggest_names(clip, self.clips)}")
        return self.embeddings[row]

    def __contains__(self, clip: object) -> bool:
        return clip in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {clip: row for row, clip in enumerate(self.clips)}

    @cached_property
    def _of_speakers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in self.names}
        for row, speaker in enumerate(self.speakers):
            found[speaker].append(row)
        return found

    @property
    def dim(self) -> int:
        """Components of an embedding."""
        return self.embeddings.shape[1]

    @property
    def ids(self) -> dict[str, int]:
        """The number of each speaker, by name."""
        return {name: number for number, name in enumerate(self.names)}

    def clips_of(self, speaker: str) -> tuple[str, ...]:
        """The clips of a speaker; raises `DataError`, with the nearest names, if there is none."""
        return tuple(self.clips[row] for row in self._rows_of(speaker))

    def embeddings_of(self, speaker: str) -> Float32[np.ndarray, "clips dim"]:
        """The embeddings of the clips of a speaker; raises `DataError`, with the nearest names, if there is none."""
        return self.embeddings[self._rows_of(speaker)]

    def mean(self, speaker: str, *, count: int | None = None, seed: int | None = None) -> Float32[np.ndarray, " dim"]:
        """The mean of the embeddings of a speaker, which is not normalised.

        **Arguments:** `count`, the number of clips to take, by default all; `seed`, draws these at random, with
        repetitions; by default, the first are taken.

        **Raises:** `DataError` for an unknown speaker, with the nearest names, or if there are fewer clips than
        `count`; `ConfigError` for a `count` that is not a whole number of at least 1, or a `seed` that is not one of at
        least 0.
        """
        rows = self._rows_of(speaker)
        for name, number, least in (("count", count, 1), ("seed", seed, 0)):
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if number is not None and (not whole or number < least):
                raise ConfigError(
                    f"{name} is {format_value(number)}; it should be None or a whole number of at least {least}."
                )
        if seed is not None:
            rows = np.random.default_rng(seed).choice(rows, len(rows) if count is None else count)
        elif count is not None:
            if count > len(rows):
                raise DataError(f"count is {count}, but {speaker!r} has {len(rows)} clips; it should be at most that.")
            rows = rows[:count]
        return self.embeddings[rows].mean(axis=0, dtype=np.float64).astype(np.float32)

    def _rows_of(self, speaker: str) -> Any:
        rows = self._of_speakers.get(speaker)
        if rows is None:
            raise DataError(f"There is no speaker {format_value(speaker)}; {suggest_names(speaker, self.names)}")
        return np.asarray(rows)

    def merged(self, *others: "SpeakerTable") -> "SpeakerTable":
        """This table with the clips of `others`.

        Speakers keep their numbers, and new ones get the next numbers, as in coqui's `SpeakerManager`.

        **Raises:** `DataError` for a clip that occurs twice, or embeddings of another size.
        """
        tables = (self, *others)
        sizes = sorted({table.dim for table in tables})
        if len(sizes) > 1:
            raise DataError(
                f"The tables have embeddings of {sizes[0]} and {sizes[-1]} components; they should be of one encoder."
            )
        return SpeakerTable(
            tuple(clip for table in tables for clip in table.clips),
            tuple(speaker for table in tables for speaker in table.speakers),
            np.concatenate([table.embeddings for table in tables]),
            tuple(dict.fromkeys(name for table in tables for name in table.names)),
        )

    @classmethod
    def load(cls, *paths: str | Path) -> "SpeakerTable":
        """Read the files `paths`, whose format is that of their suffix: `.json`, `.npz`, or `.pth` of torch.

        Files of torch are pickles; they are read without executing code.

        **Raises:** `DataError` for files of another kind, a clip that occurs twice, embeddings of different sizes, or
        NaN or infinity; `ConfigError` or `CheckpointError` for files that are missing or cannot be read.
        """
        if not paths:
            raise DataError("No file is given; pass at least one file of embeddings.")
        tables = [_read(Path(path)) for path in paths]
        return tables[0].merged(*tables[1:])

    def save(self, path: str | Path) -> None:
        """Write the table to a `.json` or `.npz` file, which `load` reads.

        **Raises:** `ConfigError` for another suffix; `CheckpointError` if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in _SUFFIXES[:2]:
            raise ConfigError(f"path is {path}; it should end in .json or .npz.")
        with atomic_write(path) as file:
            if path.suffix.lower() == ".npz":
                np.savez(file, clips=np.array(self.clips), speakers=np.array(self.speakers), embeddings=self.embeddings)
                return
            rows = zip(self.clips, self.speakers, self.embeddings, strict=True)
            table = {clip: {"name": name, "embedding": [float(x) for x in vector]} for clip, name, vector in rows}
            file.write((json.dumps(table, ensure_ascii=False) + "\n").encode())


def _read(path: Path) -> SpeakerTable:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"The file of embeddings is {path}; it should end in .json, .npz or .pth.")
    if suffix == ".npz":
        return _read_npz(path)
    if suffix == ".json":
        return _from_table(parse_json(path, read_text(path, _MOST_BYTES)), path, lambda value: value)
    with open_archive(path) as archive:
        if not isinstance(archive, PickleArchive):
            raise DataError(f"{path} is not a file of torch; it should contain a dict of embeddings.")
        return _from_table(
            archive.content, path, lambda value: archive.read(value) if isinstance(value, TensorRef) else value
        )


def _from_table(table: Any, path: Path, array: Any) -> SpeakerTable:
    """The table in `{clip: {"name": speaker, "embedding": numbers}}`."""
    wrong = f"{path} is not a table of embeddings; it should contain {{clip: {{name, embedding}}}}"
    if not isinstance(table, Mapping) or not table:
        raise DataError(f"{wrong}.")
    vectors = []
    for clip, entry in table.items():
        if not isinstance(clip, str) or not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise DataError(f"{wrong}, but the entry {format_value(clip)} is {format_value(entry)}.")
        vectors.append(_vector(array(entry.get("embedding")), f"the embedding of {format_value(clip)} in {path}"))
    sizes = {len(vector): clip for vector, clip in zip(vectors, table, strict=True)}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise DataError(
            f"The embeddings of {one!r} and {other!r} in {path} have {first} and {second} components; they should be "
            "of one encoder."
        )
    return _checked(tuple(table), tuple(entry["name"] for entry in table.values()), np.stack(vectors), path)


def _checked(clips: tuple[str, ...], speakers: tuple[str, ...], embeddings: Any, path: Path) -> SpeakerTable:
    """The table in the file `path`, which errors name."""
    try:
        return SpeakerTable(clips, speakers, embeddings)
    except DataError as failure:
        raise DataError(f"{path}: {failure}") from failure


def _vector(value: Any, where: str) -> Float32[np.ndarray, " dim"]:
    numbers = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
    if not numbers and not isinstance(value, np.ndarray):
        raise DataError(f"{where} is {format_value(value)}; it should be a list of numbers.")
    with np.errstate(over="ignore"):
        vector = np.asarray(value, np.float64).astype(np.float32)
    while vector.ndim > 1 and len(vector) == 1:
        vector = vector[0]
    if vector.ndim != 1 or not vector.size:
        raise DataError(f"{where} has shape {np.shape(value)}; it should have one axis.")
    return vector


def _read_npz(path: Path) -> SpeakerTable:
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in _NPZ if name not in stored]
            if missing:
                raise DataError(f"{path} lacks the arrays {', '.join(missing)}; write it with SpeakerTable.save.")
            clips, speakers, embeddings = (stored[name] for name in _NPZ)
    except OSError as failure:
        raise ConfigError(f"{path} cannot be read ({failure.strerror or failure}); check the path.") from failure
    except (ValueError, zipfile.BadZipFile) as failure:
        raise DataError(f"{path} cannot be read ({failure}); write it again with SpeakerTable.save.") from failure
    if clips.dtype.kind != "U" or speakers.dtype.kind != "U" or embeddings.dtype.kind != "f":
        raise DataError(f"The arrays in {path} have other types than SpeakerTable.save writes; write it again.")
    return _checked(tuple(clips.ravel().tolist()), tuple(speakers.ravel().tolist()), embeddings, path)
