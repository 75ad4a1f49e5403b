"""The stored voices of an XTTS: the vectors of references by name, in a file of the model folder.

Does not import jax.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.weights.file_writing import atomic_write, safetensors_bytes
from jaxvoice.weights.formats import open_archive

VOICES_FILE = "voices.safetensors"
"""The file of voices in a model folder: tensors `conditioning/NAME` and `speaker/NAME`."""

_PARTS = ("conditioning", "speaker")


@dataclass(frozen=True, eq=False)
class StoredVoice:
    """The vectors of a reference."""

    conditioning: Float32[np.ndarray, "vectors channels"]
    """The vectors that the language model reads (`XTTS.condition`)."""
    speaker: Float32[np.ndarray, " dim"]
    """The vector of the speaker, which the decoder reads (`XTTS.embed_speaker`)."""


def read_voices(folder: Path, config: XTTSConfig) -> dict[str, StoredVoice]:
    """The voices in a model folder of `config` by name, in the order of the file; empty without a file.

    **Raises:** `CheckpointError` for a damaged file, or vectors that do not match the model.
    """
    path = folder / VOICES_FILE
    if not path.is_file():
        return {}
    with open_archive(path) as archive:
        names = _names(archive.tensors, path)
        found = {name: StoredVoice(*(np.array(archive.tensors[f"{part}/{name}"]) for part in _PARTS)) for name in names}
    check_voices(found, config, str(path))
    return found


def write_voices(folder: Path, voices: Mapping[str, StoredVoice]) -> None:
    """Write the file of voices in a model folder; an existing file is replaced.

    **Raises:** `CheckpointError` if it cannot be written, or for a name that is not valid text.
    """
    content = voices_content(voices)
    with atomic_write(folder / VOICES_FILE) as file:
        file.write(content)


def voices_content(voices: Mapping[str, StoredVoice]) -> bytes:
    """The bytes of the file that `write_voices` writes. Raises `CheckpointError` for a name that is not valid text."""
    arrays = {f"{part}/{name}": np.asarray(getattr(voice, part)) for name, voice in voices.items() for part in _PARTS}
    return safetensors_bytes(arrays)


def voice_names(folder: Path) -> tuple[str, ...]:
    """The names of the voices in a model folder; the vectors are not read. Raises as `read_voices`."""
    path = folder / VOICES_FILE
    if not path.is_file():
        return ()
    with open_archive(path) as archive:
        return _names(archive.tensors, path)


def _names(tensors: Iterable[str], path: Path) -> tuple[str, ...]:
    split = [tuple(tensor.partition("/")[::2]) for tensor in tensors]
    names = dict.fromkeys(name for _, name in split)
    wrong = [f"{part}/{name}" for part, name in split if part not in _PARTS or not name]
    wrong += [f"{part}/{name}" for name in names for part in _PARTS if (part, name) not in split]
    if wrong:
        raise CheckpointError(
            f"{path} should contain the tensors conditioning/NAME and speaker/NAME of each voice, and no others; it "
            f"does not match at {format_value(wrong[0])}. Restore the file."
        )
    return tuple(names)


def check_voices(voices: Mapping[str, StoredVoice], config: XTTSConfig, where: str) -> None:
    """Raise `CheckpointError` unless the vectors of all voices of the file `where` are those of a model of `config`."""
    latents, channels, dim = config.gpt.conditioning.latents, config.gpt.channels, config.speaker_encoder.dim
    for name, voice in voices.items():
        shapes = voice.conditioning.shape, voice.speaker.shape
        vectors = latents or (shapes[0][0] if shapes[0] else 1)
        if shapes != ((vectors, channels), (dim,)) or not vectors:
            raise CheckpointError(
                f"The voice {format_value(name)} in {where} has vectors of the shapes {shapes[0]} and {shapes[1]}; "
                f"they should be ({latents or 'vectors'}, {channels}) and ({dim},), those of this model. Use the file "
                "of this model, or remove it."
            )
        for kind, vector in (("conditioning", voice.conditioning), ("speaker", voice.speaker)):
            if vector.dtype != np.float32 or not np.isfinite(vector).all() or not vector.any():
                raise CheckpointError(
                    f"The {kind} vectors of the voice {format_value(name)} in {where} have the type {vector.dtype}, "
                    "or contain NaN or infinity, or only zeros; they should be numbers of the type float32. Compute "
                    "the voice again, or remove it."
                )
