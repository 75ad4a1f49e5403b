"""The files of a model folder of XTTS beside the weights: vocabulary, voices and DVAE. Does not import jax."""

from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, list_names, parse_json, read_text
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.voices import voice_names
from jaxvoice.weights.model_folder import WEIGHTS_FILE

VOCABULARY_FILE = "vocab.json"
"""The file of the text tokens in a model folder, in the format of the library `tokenizers`."""
DVAE_FOLDER = "dvae"
"""The folder inside a model folder with the model folder of the DVAE, which only training needs."""

_MOST_BYTES = 2**24


def count_tokens(path: Path) -> int:
    """The number of text ids of the vocabulary in the file `path`: its largest id plus one.

    **Raises:** `CheckpointError` for a file that is not a vocabulary of the library `tokenizers`; `ConfigError` if it
    is not JSON.
    """
    table = parse_json(path, read_text(path, _MOST_BYTES))
    ids = [*_ids(table), *_added(table)]
    if not ids or not all(type(number) is int and number >= 0 for number in ids):
        raise CheckpointError(
            f"{path} contains {format_value(table)}; it should be the vocabulary of an XTTS in the format of the "
            "library tokenizers: an object with model.vocab. Restore the file."
        )
    return 1 + max(ids)


def _ids(table: Any) -> list[Any]:
    model = table.get("model") if isinstance(table, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    return list(vocabulary.values()) if isinstance(vocabulary, dict) else []


def _added(table: Any) -> list[Any]:
    tokens = table.get("added_tokens") if isinstance(table, dict) else None
    return [token.get("id") if isinstance(token, dict) else None for token in tokens or ()]


def check_vocabulary(path: Path, config: XTTSConfig) -> int:
    """The number of text ids in the vocabulary `path`, for which the model of `config` should have vectors.

    **Raises:** `CheckpointError` for a vocabulary of another model; otherwise as `count_tokens`.
    """
    count = count_tokens(path)
    if count != config.gpt.text_ids:
        raise CheckpointError(
            f"{path} has {count} text ids; it should have {config.gpt.text_ids}, the rows of the table of text tokens, "
            "so it belongs to another model. Use the vocab.json of these weights."
        )
    return count


def folder_contents(folder: Path, config: XTTSConfig) -> dict[str, str]:
    """What a model folder contains beside weights and configuration, for `jaxvoice inspect`.

    **Raises:** `CheckpointError` or `ConfigError` for a damaged file, or a vocabulary of another model.
    """
    names, vocabulary = voice_names(folder), folder / VOCABULARY_FILE
    has_dvae = (folder / DVAE_FOLDER / WEIGHTS_FILE).is_file()
    return {
        "languages": ", ".join(config.languages),
        "voices": f"{len(names)}: {list_names(names)}" if names else "none",
        "vocabulary": f"{check_vocabulary(vocabulary, config)} text ids" if vocabulary.is_file() else "none",
        "DVAE": DVAE_FOLDER if has_dvae else "none; only training needs it",
    }
