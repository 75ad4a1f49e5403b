"""The files of a model folder of XTTS beside the weights: vocabulary, voices and DVAE. Does not import jax."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Vocabulary:
    """What an import reads of a vocabulary."""

    size: int
    """The number of text ids: the largest id plus one."""
    start: int | None
    """The id of `[START]`; `None` if there is none."""
    stop: int | None
    """The id of `[STOP]`; `None` if there is none."""


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in the file `path`, in the format of the library `tokenizers`.

    **Raises:** `CheckpointError` for a file that is not such a vocabulary; `ConfigError` if it is not JSON.
    """
    table = parse_json(path, read_text(path, _MOST_BYTES))
    ids = {**_model_ids(table), **_added_ids(table)}
    if not ids or not all(type(number) is int and number >= 0 for number in ids.values()):
        raise CheckpointError(
            f"{path} contains {format_value(table)}; it should be the vocabulary of an XTTS in the format of the "
            "library tokenizers: an object with model.vocab. Restore the file."
        )
    return Vocabulary(1 + max(ids.values()), ids.get("[START]"), ids.get("[STOP]"))


def _model_ids(table: Any) -> dict[Any, Any]:
    model = table.get("model") if isinstance(table, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    return vocabulary if isinstance(vocabulary, dict) else {}


def _added_ids(table: Any) -> dict[Any, Any]:
    tokens = table.get("added_tokens") if isinstance(table, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        return {} if tokens is None else {None: None}
    return {str(token.get("content")): token.get("id") for token in tokens}


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
