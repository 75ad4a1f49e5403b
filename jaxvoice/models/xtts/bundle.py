"""The files of a model folder of XTTS beside the weights: vocabulary, voices and DVAE. Does not import jax."""

from pathlib import Path

from jaxvoice.config import list_names
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.vocabulary import VocabularyIds, parse_vocabulary, vocabulary_content, vocabulary_ids
from jaxvoice.models.xtts.voices import voice_names
from jaxvoice.weights.model_folder import WEIGHTS_FILE, read_config_file

VOCABULARY_FILE = "vocab.json"
"""The file of the text tokens in a model folder, in the format of the library `tokenizers`."""
DVAE_FOLDER = "dvae"
"""The folder inside a model folder with the model folder of the DVAE, which only training needs."""
UNTRAINED = "untrained"
"""Key in the `info` of a model folder: the parts of the network whose weights are random."""


def read_vocabulary(path: Path) -> VocabularyIds:
    """The ids of the vocabulary in the file `path`, in the format of the library `tokenizers`.

    **Raises:** `CheckpointError` for a file that cannot be read, or that is not such a vocabulary.
    """
    return vocabulary_ids(parse_vocabulary(vocabulary_content(path), str(path)))


def check_vocabulary(path: Path, config: XTTSConfig) -> VocabularyIds:
    """The ids of the vocabulary in the file `path`, which should be that of the model of `config`.

    **Raises:** `CheckpointError` for the vocabulary of another model; otherwise as `read_vocabulary`.
    """
    found = read_vocabulary(path)
    if mismatch := found.mismatch(config.gpt):
        raise CheckpointError(f"{path} {mismatch}")
    return found


def untrained_parts(folder: Path) -> tuple[str, ...]:
    """The parts of the network in a model folder whose weights are random, such as `hifigan_decoder`.

    **Raises:** `CheckpointError` or `ConfigError` if its `config.json` cannot be read.
    """
    info = read_config_file(folder).table.get("info")
    parts = info.get(UNTRAINED) if isinstance(info, dict) else None
    return tuple(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ()


def folder_contents(folder: Path, config: XTTSConfig) -> dict[str, str]:
    """What a model folder contains beside weights and configuration, for `jaxvoice inspect`.

    **Raises:** `CheckpointError` or `ConfigError` for a damaged file, or a vocabulary of another model.
    """
    names, vocabulary = voice_names(folder), folder / VOCABULARY_FILE
    has_dvae = (folder / DVAE_FOLDER / WEIGHTS_FILE).is_file()
    return {
        "languages": ", ".join(config.languages),
        "voices": f"{len(names)}: {list_names(names)}" if names else "none",
        "vocabulary": f"{check_vocabulary(vocabulary, config).size} text ids" if vocabulary.is_file() else "none",
        "DVAE": DVAE_FOLDER if has_dvae else "none; only training needs it",
    }
