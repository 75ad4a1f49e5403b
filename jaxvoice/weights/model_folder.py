"""Model folders: `config.json` (family, configuration, mel contract, origin) and `model.safetensors`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice._version import __version__
from jaxvoice.config import format_value, read_json
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.weights.file_writing import atomic_write, write_safetensors
from jaxvoice.weights.schemas import Migrated, migrate, with_schema_number

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def write_model_folder(
    folder: Path,
    *,
    family: str,
    config: Mapping[str, Any],
    arrays: Mapping[str, Any],
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to `folder`, which is created if it is missing. Each file is written atomically.

    `config.json` also contains the SHA-256 of the weights, which identifies copies of a model.

    **Arguments:** `family`, the name of the model family; `config`, the configuration as JSON values; `arrays`, the
    weights by name; `info`, other metadata (origin, metrics, licence).

    **Raises:** `CheckpointError` if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        given = {name: np.asarray(array) for name, array in arrays.items()}
        specs = {name: (array.shape, array.dtype) for name, array in given.items()}
        write_safetensors(folder / WEIGHTS_FILE, specs, given.items())
        write_config_file(folder, family=family, config=config, info=info or {}, sha256=weights_sha256(folder))
    except OSError as failure:
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({failure.strerror or failure}); free disk space or choose "
            "another folder."
        ) from failure


def write_config_file(
    folder: Path, *, family: str, config: Mapping[str, Any], info: Mapping[str, Any], sha256: str | None = None
) -> None:
    """Write the `config.json` of a model folder, with the current schema number and the version of jaxvoice.

    **Arguments:** those of `write_model_folder`; `sha256` of the weights.
    """
    origin = {"family": family, "jaxvoice": __version__} | ({} if sha256 is None else {"sha256": sha256})
    about = with_schema_number("model folder", {**origin, "config": dict(config), "info": dict(info)})
    with atomic_write(folder / CONFIG_FILE) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())


def read_config_file(folder: Path) -> Migrated:
    """Read the `config.json` of a model folder and migrate it to the current schema.

    **Raises:** `ConfigError` if the file does not contain a JSON object; `CheckpointError` for a newer schema.
    """
    about = read_json(folder / CONFIG_FILE)
    if not isinstance(about, dict):
        raise ConfigError(
            f"{folder / CONFIG_FILE} contains a {type(about).__name__}; it should contain an object. Restore the file."
        )
    return migrate("model folder", about, str(folder / CONFIG_FILE))


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights in a model folder, in hexadecimal digits, as in `config.json`.

    **Raises:** `OSError` if they cannot be read.
    """
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model_folder(folder: Path, *, family: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the configuration and the weights of the model in `folder`, migrated to the current schema.

    **Raises:** `CheckpointError` if `folder` is not a model folder, has another family or a newer schema, or is
    damaged; `ConfigError` if `config.json` is not valid JSON.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"{folder} is not a model folder: {CONFIG_FILE} or {WEIGHTS_FILE} is missing. Pass a folder that training "
            "or import wrote."
        )
    migrated = read_config_file(folder)
    about = migrated.table
    if not isinstance(about.get("config"), dict):
        raise ConfigError(f"{folder / CONFIG_FILE} has no object 'config'; restore the file.")
    if about.get("family") != family:
        raise CheckpointError(
            f"the family of {folder} is {format_value(about.get('family'))}; it should be {family!r}. Load the model "
            "with jaxvoice.load."
        )
    try:
        arrays = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError, ValueError) as failure:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is damaged or cut short ({failure}); copy it again."
        ) from failure
    return about["config"], {name: arrays[stored] for name, stored in migrated.tensors(arrays).items()}
