"""The speakers of a VITS: names with ids or vectors, in files beside the weights. Does not import jax."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, list_names, parse_json, read_text
from jaxvoice.data.speaker_table import SpeakerTable
from jaxvoice.errors import CheckpointError, DataError
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.weights.formats import PickleArchive, open_archive

SPEAKERS_FILE = "speakers.json"
"""The file of the speakers in a model folder: `{name: id}`, or a `SpeakerTable` with a vector for each speaker."""

ENCODER_FOLDER = "speaker_encoder"
"""The folder inside a model folder with the model folder of its speaker encoder."""

IDS_FILE = "speaker_ids.json"
"""coqui's file of the ids of a table of speakers, `{name: id}`."""

_ID_FILES = (IDS_FILE, "speaker_ids.pth", SPEAKERS_FILE, "speakers.pth")
_VECTOR_FILES = (SPEAKERS_FILE, "speakers.pth")
_MOST_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Speakers:
    """The known speakers of a model, by name."""

    ids: Mapping[str, int]
    """The row of each speaker in the table of the network; empty for a model that reads vectors."""
    vectors: Mapping[str, Float32[np.ndarray, " dim"]]
    """The vector of each speaker; empty for a model with a table."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all speakers, in the order of the file."""
        return (*self.ids, *self.vectors)


def read_speakers(folder: Path, config: VITSConfig) -> Speakers:
    """The speakers in a model folder; without a file, those of a table are called by their ids.

    **Raises:** `CheckpointError` or `DataError` for a file that does not match the model.
    """
    path = folder / SPEAKERS_FILE
    if config.num_speakers:
        ids = _read_ids(path, config) if path.is_file() else {str(i): i for i in range(config.num_speakers)}
        return Speakers(ids, {})
    if config.speaker_channels and path.is_file():
        return Speakers({}, _read_vectors(path, config))
    return Speakers({}, {})


def speakers_beside(folder: Path, config: VITSConfig) -> dict[str, bytes]:
    """The content of `SPEAKERS_FILE` for the model folder, from the files of coqui in `folder`; empty without them.

    The vector of a speaker is the mean of those of its clips.

    **Raises:** `CheckpointError` or `DataError` for a file that does not match the model.
    """
    names = _ID_FILES if config.num_speakers else _VECTOR_FILES if config.speaker_channels else ()
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return {}
    if config.num_speakers:
        content: Any = _read_ids(path, config)
    else:
        vectors = _read_vectors(path, config)
        content = {name: {"name": name, "embedding": [float(x) for x in vector]} for name, vector in vectors.items()}
    try:
        return {SPEAKERS_FILE: (json.dumps(content, ensure_ascii=False) + "\n").encode()}
    except UnicodeEncodeError as failure:
        raise CheckpointError(f"{path} contains a name that is not valid text ({failure.reason}).") from failure


def folder_contents(folder: Path, config: VITSConfig) -> dict[str, str]:
    """The speakers of a model folder, and the folder of its speaker encoder, for `jaxvoice inspect`.

    **Raises:** as `read_speakers`.
    """
    found = {"speakers": ", ".join(read_speakers(folder, config).names) or "none"} if config.speaker_channels else {}
    if config.reads_vectors:
        found["speaker encoder"] = ENCODER_FOLDER if (folder / ENCODER_FOLDER).is_dir() else "none"
    return found


def describe_names(config: VITSConfig, side_files: Mapping[str, bytes], folder: Path) -> dict[str, str]:
    """The speakers and languages of a checkpoint in `folder`, for the summary of its import.

    **Arguments:** `side_files`, those of `speakers_beside`.
    """
    found = {}
    if config.speaker_channels:
        names = list(json.loads(side_files[SPEAKERS_FILE])) if SPEAKERS_FILE in side_files else []
        files = _ID_FILES if config.num_speakers else _VECTOR_FILES
        missing = f"there is no {' or '.join(name for name in files if name.endswith('.json'))} in {folder}"
        if names:
            found["speakers"] = f"{len(names)}: {list_names(names)}"
        elif config.num_speakers:
            found["speakers"] = f"{config.num_speakers}, called by their ids: {missing}"
        else:
            found["speakers"] = f"none: {missing}"
    if config.languages:
        found["language"] = ", ".join(map(repr, config.languages))
    return found


def _check_names(names: Iterable[Any], path: Path) -> None:
    if "" in names:
        raise CheckpointError(f"{path} contains a speaker whose name is ''; every speaker should have a name. Add one.")


def _read_ids(path: Path, config: VITSConfig) -> dict[str, int]:
    """The ids in a file of coqui, `{name: id}`."""
    if path.suffix == ".json":
        table = parse_json(path, read_text(path, _MOST_BYTES))
    else:
        with open_archive(path) as archive:
            table = archive.content if isinstance(archive, PickleArchive) else None
    numbers = list(table.values()) if isinstance(table, Mapping) else []
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(config.num_speakers)):
        raise CheckpointError(
            f"{path} contains {format_value(table)}; it should give each of the ids from 0 to "
            f"{config.num_speakers - 1} to one name, because the model has {config.num_speakers} speakers. Pass the "
            "file of these weights, or remove it: the names are then the ids."
        )
    assert isinstance(table, Mapping)
    _check_names(table, path)
    return {str(name): number for name, number in sorted(table.items(), key=lambda item: item[1])}


def _read_vectors(path: Path, config: VITSConfig) -> dict[str, Float32[np.ndarray, " dim"]]:
    table = SpeakerTable.load(path)
    if table.dim != config.speaker_channels:
        raise DataError(
            f"{path} contains vectors of {table.dim} numbers; they should have {config.speaker_channels}, the size of "
            "the speaker vectors of this model. Compute them with the speaker encoder of the model."
        )
    _check_names(table.names, path)
    vectors = {name: table.mean(name) for name in table.names}
    for name, vector in vectors.items():
        if not np.any(vector):
            raise DataError(
                f"The vector of the speaker {name!r} in {path} contains only zeros, so that the model would speak "
                "without a voice. Compute it again, or remove the speaker."
            )
    return vectors
