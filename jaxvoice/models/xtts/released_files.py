"""coqui's files beside the weights of XTTS: voices and statistics of mel bands. Does not import jax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, list_names
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.voices import StoredVoice, check_voices
from jaxvoice.models.xtts_dvae.released_files import STATISTICS_FILE, read_statistics
from jaxvoice.weights.formats import PickleArchive, open_archive
from jaxvoice.weights.formats.pickle_objects import TensorRef

SPEAKERS_FILE = "speakers_xtts.pth"
"""The voices: a dict of names, each with the two tensors of a reference."""
DVAE_FILE = "dvae.pth"
"""The DVAE."""

_KEYS = ("gpt_cond_latent", "speaker_embedding")


def read_speakers(path: Path, config: XTTSConfig) -> dict[str, StoredVoice]:
    """The voices in coqui's file `path`, for a model of `config`.

    The tensors of a voice have the shapes `(1, vectors, channels)` and `(1, dim, 1)`, under the keys of the release or
    in their order.

    **Raises:** `CheckpointError` for a file with another content, or for vectors that do not match the model.
    """
    with open_archive(path) as archive:
        archive.verify()
        if not isinstance(archive, PickleArchive):
            raise _wrong_speakers(path, f"a {archive.source.format} file")
        table = archive.content
        if not isinstance(table, Mapping) or not table:
            raise _wrong_speakers(path, table)
        voices = {}
        for name, entry in table.items():
            if not isinstance(name, str) or not name or not isinstance(entry, Mapping):
                raise _wrong_speakers(path, {name: entry})
            refs = [entry[key] for key in _KEYS] if set(_KEYS) <= set(entry) else list(entry.values())
            if len(refs) != 2 or not all(isinstance(ref, TensorRef) for ref in refs):
                raise _wrong_speakers(path, {name: entry})
            conditioning, speaker = (np.array(archive.read(ref), np.float32) for ref in refs)
            fits = conditioning.ndim == 3 and conditioning.shape[0] == 1 and speaker.ndim == 3
            if not fits or speaker.shape[::2] != (1, 1):
                raise CheckpointError(
                    f"The voice {format_value(name)} in {path} has tensors of the shapes {conditioning.shape} and "
                    f"{speaker.shape}; they should be (1, vectors, channels) and (1, dim, 1). Restore the file."
                )
            voices[name] = StoredVoice(conditioning[0], speaker[0, :, 0])
    check_voices(voices, config, str(path))
    return voices


def _wrong_speakers(path: Path, found: Any) -> CheckpointError:
    shown = f"a dict with {list_names(map(str, found))}" if isinstance(found, dict) and found else format_value(found)
    return CheckpointError(
        f"{path} contains {shown}; it should contain a dict of names, each with the tensors "
        f"{' and '.join(_KEYS)}. Restore the file."
    )


def speakers_content(voices: Mapping[str, StoredVoice]) -> dict[str, Any]:
    """The content of coqui's file for `voices`."""
    return {
        name: {_KEYS[0]: voice.conditioning[None], _KEYS[1]: voice.speaker[None, :, None]}
        for name, voice in voices.items()
    }


def statistics_difference(folder: Path, inside: Float32[np.ndarray, " mels"]) -> float | None:
    """The largest relative difference of the statistics of mel bands in `folder` to those in the weights, `inside`.

    `None` if there is no file.

    **Raises:** `CheckpointError` for a file with another content.
    """
    path = folder / STATISTICS_FILE
    if not path.is_file():
        return None
    found = read_statistics(path, len(inside))
    return float(np.abs(found - inside).max() / np.abs(inside).max())
