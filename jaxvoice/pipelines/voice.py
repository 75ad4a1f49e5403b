"""The voice of a speaker for voice conversion and text to speech, and its file."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, from_dict, read_json, to_dict
from jaxvoice.dsp.pitch import PitchStatistics
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.pipelines.recordings import several
from jaxvoice.weights.file_writing import atomic_write
from jaxvoice.weights.schemas import migrate, with_schema_number

VOICE_SUFFIX = ".json"
"""The suffix of voice files."""
_KIND = "speaker"  # marks voice files, those of all families; until schema 2 "hifivc"
_FIRST_SCHEMA = 2  # older files identify the model by another hash
_LARGEST = sys.float_info.max


@dataclass(frozen=True, eq=False)
class Voice:
    """The voice of a speaker, computed from recordings by the `encode_voice` of a `VoiceConverter` or of a
    `VITSSynthesizer`.

    **Raises:** `ConfigError` for an embedding that is not one axis of finite numbers, or another invalid value.
    """

    embedding: Float32[np.ndarray, " size"]
    """The speaker vector of the model."""
    pitch: PitchStatistics | None
    """Statistics of the F0 of the recordings; `None` if they have no voiced frame, or the model reads no F0."""
    seconds: float
    """Duration of the recordings together, without their silent ends."""
    references: int
    """The number of recordings."""
    model: str
    """Identifies the speaker encoder that computed `embedding`: a hash of its settings and weights."""

    def __post_init__(self) -> None:
        embedding = np.asarray(self.embedding)
        if embedding.ndim != 1 or not embedding.size or not np.issubdtype(embedding.dtype, np.number):
            raise ConfigError(
                f"Voice.embedding has shape {embedding.shape} and type {embedding.dtype}; it should be numbers of "
                "shape (size,)."
            )
        if not np.isfinite(embedding).all():
            raise ConfigError("Voice.embedding contains NaN or infinity; it should be finite.")
        seconds, count = self.seconds, self.references
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LARGEST:
            raise ConfigError(f"Voice.seconds is {format_value(seconds)}; it should be a finite number of at least 0.")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"Voice.references is {format_value(count)}; it should be a whole number of at least 1.")
        embedding = embedding.astype(np.float32)
        embedding.flags.writeable = False
        object.__setattr__(self, "embedding", embedding)

    def __repr__(self) -> str:
        count = "1 recording" if self.references == 1 else f"{self.references} recordings"
        pitch = "no F0" if self.pitch is None else f"median F0 {np.exp(self.pitch.median):.0f} Hz"
        return f"Voice({count}, {self.seconds:.2f} s, {pitch}, model {self.model[:12]})"

    def save(self, path: str | Path) -> None:
        """Write the voice to a JSON file, which `load` reads.

        **Raises:** `ConfigError` unless the suffix of `path` is `.json`; `CheckpointError` if it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != VOICE_SUFFIX:
            raise ConfigError(f"path is {path}; it should end in {VOICE_SUFFIX}, the suffix of voice files.")
        table = {
            "voice": _KIND,
            "model": self.model,
            "seconds": self.seconds,
            "references": self.references,
            "pitch": None if self.pitch is None else to_dict(self.pitch),
            "embedding": [float(value) for value in self.embedding],
        }
        with atomic_write(path) as file:
            file.write((json.dumps(with_schema_number("voice", table), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Voice":
        """Read the voice that `save` wrote to `path`.

        **Raises:** `CheckpointError` if the file is missing, contains no voice, or has another schema; `ConfigError` if
        it is damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path} is missing or is not a file; pass a file that Voice.save wrote.")
        table = read_json(path)
        if not isinstance(table, dict) or table.get("voice") not in (_KIND, "hifivc"):
            raise CheckpointError(f"{path} contains no voice; pass a file that Voice.save or jaxvoice voice wrote.")
        migrated = migrate("voice", table, str(path))
        if migrated.schema < _FIRST_SCHEMA:
            raise CheckpointError(
                f"{path} was written by an older version, which identified models in another way; write it again from "
                "the recordings with jaxvoice voice."
            )
        table = migrated.table
        try:
            return cls(
                embedding=np.asarray(_list_of_numbers(table["embedding"]), np.float32),
                pitch=_statistics(table["pitch"]),
                seconds=table["seconds"],
                references=table["references"],
                model=str(table["model"]),
            )
        except ConfigError as failure:
            raise ConfigError(
                f"{path} is not a complete voice: {failure} Write it again with jaxvoice voice."
            ) from failure
        except (KeyError, TypeError, ValueError, OverflowError) as failure:
            raise ConfigError(
                f"{path} is not a complete voice ({type(failure).__name__}: {failure}); write it again with "
                "jaxvoice voice."
            ) from failure


def is_voice_file(value: Any) -> bool:
    """Whether `value` is the path of a voice file, by its suffix."""
    return isinstance(value, str | Path) and Path(value).suffix.lower() == VOICE_SUFFIX


def list_recordings(reference: Any, name: str) -> list[Any]:
    """`reference`, one recording or a list of them, as a list; `name` is that of the argument in errors.

    **Raises:** `ConfigError` for an empty list, and for a `Voice` or a voice file among the recordings.
    """
    values = list(reference) if several(reference) else [reference]
    if not values:
        raise ConfigError(f"{name} is an empty list; it should contain at least one recording.")
    for value in values:
        if isinstance(value, Voice) or is_voice_file(value):
            instead = "recordings only, or one voice alone" if len(values) > 1 else "recordings of the speaker"
            kind = "a Voice" if isinstance(value, Voice) else "a voice file"
            shown = repr(value) if isinstance(value, Voice) else str(value)
            raise ConfigError(f"{shown} is {kind}, not a recording; pass {instead}.")
    return values


def _list_of_numbers(value: Any) -> list[float]:
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise ConfigError(f"embedding is {format_value(value)}; it should be a list of numbers.")
    return value


def _statistics(value: Any) -> PitchStatistics | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigError(f"pitch is {format_value(value)}; it should be an object or null.")
    return from_dict(PitchStatistics, value, "pitch")
