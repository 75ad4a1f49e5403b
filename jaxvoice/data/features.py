"""Columns that are computed once for each utterance, such as content features, and stored on disk."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.typing import DTypeLike

from jaxvoice.data.atomic_folders import atomic_folder, cache_folder, remove_folder
from jaxvoice.data.buckets import check_sizes
from jaxvoice.data.store import Column, Store, audio_of, read_columns, write_columns
from jaxvoice.data.utterances import Utterance, map_utterances
from jaxvoice.errors import DataError

_ABOUT = "about.json"
_log = logging.getLogger(__name__)


def computed_column(
    store: Store,
    name: str,
    function: Callable[[int], Shaped[np.ndarray, "..."]],
    *,
    identity: str,
    dtype: DTypeLike = np.float16,
    cache: str | Path | None = None,
    threads: int | None = 1,
    progress: bool = False,
) -> Column:
    """The column `name` of `store`, whose row i is `function(i)`, computed once and memory-mapped.

    The rows are written to a folder, and read from it by later calls with the same recordings and `identity`.

    **Arguments:**

    - `store`: the store that the column belongs to. It is not changed; add the column with `Store.with_columns`.
    - `name`: the name of the column.
    - `function`: computes a row from the number of its utterance.
    - `identity`: identifies what `function` computes, for example by the hash of a model's weights and settings.
    - `dtype`: the type in which the column is stored, by default float16.
    - `cache`: the folder of the column; by default a folder in the user's cache folder, one for each set of recordings
        and identity.
    - `threads`: the number of threads that call `function`; `None` is the number of processors, at most 8.
    - `progress`: whether to show a progress bar on standard error.

    **Raises:** `DataError` if the folder `cache` contains the column of another identity or of other recordings, if it
    cannot be written, or if a row contains NaN or infinity, also after its conversion to `dtype`.
    """
    about = {"column": name, "identity": identity, "dtype": np.dtype(dtype).name, "recordings": _recordings(store)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder("features", key) if cache is None else Path(cache).expanduser()

    def rows() -> Iterator[dict[str, np.ndarray]]:
        return ({name: row} for row in _rows(store, name, function, dtype, threads, progress))

    return _stored(folder, about, rows, f"The column {name!r}")[name]


def computed_columns(
    store: Store,
    function: Callable[[Sequence[int]], Iterable[Mapping[str, Shaped[np.ndarray, "..."]]]],
    *,
    identity: str,
    part: int = 256,
    cache: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Column]:
    """Several columns of `store` by name, computed once in parts of `part` utterances, and memory-mapped.

    Each part is a folder, which is complete or does not exist. After an interruption, the missing parts are computed.

    **Arguments:**

    - `store`: the store that the columns belong to. It is not changed; add the columns with `Store.with_columns`.
    - `function`: computes the rows of the utterances with the given numbers, in order: a mapping from names of columns
        to arrays for each. All rows have the same columns, and an array of a column always has the same type.
    - `identity`: identifies what `function` computes, for example by the hash of a model's weights and settings.
    - `part`: the number of utterances of a part, which are in memory at a time.
    - `cache`: the folder of the parts; by default a folder in the user's cache folder, one for each set of recordings,
        texts and speakers, and identity.
    - `progress`: whether to show a progress bar on standard error.

    **Raises:** `ConfigError` for `part` below 1; `DataError` as `computed_column`.
    """
    check_sizes(part=part)
    recordings = f"{_recordings(store)} {_annotations(store)}"
    about = {"identity": identity, "recordings": recordings, "part": str(part)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder("features", key) if cache is None else Path(cache).expanduser()
    columns: dict[str, list[np.ndarray]] = {}
    for start in _with_progress(range(0, len(store), part), len(store), part, progress):
        numbers = range(start, min(start + part, len(store)))

        def rows(numbers: range = numbers) -> Iterator[Mapping[str, np.ndarray]]:
            ids = [store.corpus.utterances[number].id for number in numbers]
            for name, row in zip(ids, function(numbers), strict=True):
                for column, value in row.items():
                    if not np.isfinite(value).all():
                        raise DataError(f"The {column} of {name} contain NaN or infinity; check recording and model.")
                yield row

        own = {**about, "first": str(start)}
        found = _stored(folder / f"{start // part:05}", own, rows, "The computed columns")
        for name, column in found.items():
            columns.setdefault(name, []).extend(column)
    return dict(columns)


def _with_progress(starts: Iterable[int], total: int, part: int, progress: bool) -> Iterator[int]:
    """`starts`, with a progress bar of utterances."""
    if not progress:
        yield from starts
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="computing features", unit="file", disable=None) as bar:
        for start in starts:
            yield start
            bar.update(min(part, total - start))


def _annotations(store: Store) -> str:
    """A hash of ids, texts, languages and speakers."""
    digest = hashlib.sha256()
    for one in store.corpus.utterances:
        digest.update(json.dumps([one.id, one.text, one.language, one.speaker]).encode())
    return digest.hexdigest()[:24]


def _stored(
    folder: Path, about: dict[str, str], rows: Callable[[], Iterator[Mapping[str, np.ndarray]]], what: str
) -> Mapping[str, Column]:
    """The columns in `folder`, which are written from `rows` if they are missing or damaged."""
    found = _read(folder, about)
    if found is not None:
        return found
    try:
        with atomic_folder(folder) as making:
            write_columns(making, rows())
            (making / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    except OSError as failure:
        raise DataError(
            f"{what} cannot be written to {folder} ({failure.strerror}); choose another folder."
        ) from failure
    found = _read(folder, about)
    if found is None:
        raise DataError(f"{what} in {folder} was damaged while it was written; delete it and try again.")
    return found


def _read(folder: Path, about: dict[str, str]) -> Mapping[str, Column] | None:
    """The columns in `folder`; `None` if the folder does not exist, is empty, or is damaged and was removed.

    **Raises:** `DataError` if the folder contains anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        stored = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{folder} contains no column of features; choose a new or empty folder.") from None
    if stored != about:
        table = stored if isinstance(stored, dict) else {}
        differing = [f"{key} is {table.get(key)!r} instead of {about[key]!r}" for key in about]
        differing = [line for key, line in zip(about, differing, strict=True) if table.get(key) != about[key]]
        raise DataError(
            f"{folder} contains features of another model or of other recordings ({'; '.join(differing)}); delete the "
            "folder or choose another one."
        )
    columns = read_columns(folder)
    if columns is None:
        _log.warning("%s is damaged and is computed again", folder)
        remove_folder(folder)
        return None
    return columns


def _rows(
    store: Store,
    name: str,
    function: Callable[[int], Shaped[np.ndarray, "..."]],
    dtype: DTypeLike,
    threads: int | None,
    progress: bool,
) -> Iterator[Shaped[np.ndarray, "..."]]:
    rows = {utterance.id: row for row, utterance in enumerate(store.corpus.utterances)}

    def compute(utterance: Utterance) -> Shaped[np.ndarray, "..."]:
        with np.errstate(over="ignore"):
            value = np.asarray(function(rows[utterance.id])).astype(dtype)
        if not np.isfinite(value).all():
            raise DataError(
                f"The {name} of {utterance.id} contain NaN or infinity as {np.dtype(dtype).name}; check the recording "
                f"{utterance.audio} and the model."
            )
        return value

    return map_utterances(compute, store.corpus.utterances, threads, f"computing {name}" if progress else None)


def _recordings(store: Store) -> str:
    """A hash of the names, sizes and times of the recordings, and of their sample rate and level."""
    digest = hashlib.sha256(f"{store.sample_rate} {store.peak_normalize}".encode())
    for utterance in store.corpus.utterances:
        path = audio_of(utterance)
        stat = path.stat()
        digest.update(os.fsencode(f"\n{path.resolve()}\t{stat.st_size}\t{stat.st_mtime_ns}"))
    return digest.hexdigest()[:24]
