"""The files of a model folder of XTTS beside the weights: vocabulary, voices and DVAE. Does not import jax."""

from dataclasses import dataclass
from pathlib import Path

from jaxvoice.config import list_names
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.vocabulary import START, STOP, parse_vocabulary, vocabulary_content
from jaxvoice.models.xtts.voices import voice_names
from jaxvoice.weights.model_folder import WEIGHTS_FILE, read_config_file

VOCABULARY_FILE = "vocab.json"
"""The file of the text tokens in a model folder, in the format of the library `tokenizers`."""
DVAE_FOLDER = "dvae"
"""The folder inside a model folder with the model folder of the DVAE, which only training needs."""
UNTRAINED = "untrained"
"""Key in the `info` of a model folder: the parts of the network whose weights are random."""


@dataclass(frozen=True)
class Vocabulary:
    """What an import reads of a vocabulary."""

    size: int
    """The number of text ids: the largest id plus one."""
    start: int
    """The id of `[START]`."""
    stop: int
    """The id of `[STOP]`."""


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in the file `path`, in the format of the library `tokenizers`.

    **Raises:** `CheckpointError` for a file that cannot be read, or that is not such a vocabulary.
    """
    ids = parse_vocabulary(vocabulary_content(path), str(path))
    return Vocabulary(1 + max(ids.values()), ids[START], ids[STOP])


def check_vocabulary(path: Path, config: XTTSConfig) -> Vocabulary:
    """The vocabulary in the file `path`, which should be that of the model of `config`.

    **Raises:** `CheckpointError` for the vocabulary of another model; otherwise as `read_vocabulary`.
    """
    found, gpt = read_vocabulary(path), config.gpt
    pairs = (
        ("text ids", found.size, gpt.text_ids, "the rows of the table of text tokens"),
        ("[START] with the id", found.start, gpt.start_text, "gpt.start_text"),
        ("[STOP] with the id", found.stop, gpt.stop_text, "gpt.stop_text"),
    )
    for what, value, expected, source in pairs:
        if value != expected:
            shown = f"{value} {what}" if what == "text ids" else f"{what} {value}"
            raise CheckpointError(
                f"{path} has {shown}; it should be {expected}, {source} of the model, so the file belongs to another "
                "model. Use the vocab.json of these weights."
            )
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
