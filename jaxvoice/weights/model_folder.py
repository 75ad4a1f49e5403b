"""Model folders: `config.json` (family, configuration, mel contract, origin) and `model.safetensors`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice._version import __version__
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.weights.file_writing import atomic_write, write_safetensors
from jaxvoice.weights.schemas import Migrated, migrate, numbered

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
        write_about(folder, family=family, config=config, info=info or {}, sha256=weights_sha256(folder))
    except OSError as failure:
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({failure}); free disk space or choose another folder."
        ) from failure


def write_about(
    folder: Path, *, family: str, config: Mapping[str, Any], info: Mapping[str, Any], sha256: str | None = None
) -> None:
    """Write the `config.json` of a model folder, with its schema number and the version of jaxvoice."""
    origin = {"family": family, "jaxvoice": __version__} | ({} if sha256 is None else {"sha256": sha256})
    about = numbered("model folder", {**origin, "config": dict(config), "info": dict(info)})
    with atomic_write(folder / CONFIG_FILE) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())


def read_about(folder: Path) -> Migrated:
    """The `config.json` of a model folder in the current schema, and the names of its tensors in this schema.

    **Raises:** `ConfigError` if the file does not contain a JSON object; `CheckpointError` for a newer schema.
    """
    from jaxvoice.config import read_json

    about = read_json(folder / CONFIG_FILE)
    if not isinstance(about, dict):
        raise ConfigError(
            f"{folder / CONFIG_FILE} should contain an object, got {type(about).__name__}; restore the file."
        )
    return migrate("model folder", about, str(folder / CONFIG_FILE))


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights in a model folder, in hexadecimal digits; `sha256` in `config.json`.

    **Raises:** `OSError` if they cannot be read.
    """
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model_folder(folder: Path, *, family: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the weights in `folder`, with current names if the folder has an older schema.

    **Raises:** `CheckpointError` if `folder` is not a model folder, has another family or a newer schema, or is
    damaged; `ConfigError` if `config.json` is not valid JSON.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"{folder} is not a model folder, which contains {CONFIG_FILE} and {WEIGHTS_FILE}; pass a folder that "
            "training or import wrote."
        )
    migrated = read_about(folder)
    about = migrated.table
    if not isinstance(about.get("config"), dict):
        raise ConfigError(f"{folder / CONFIG_FILE} should contain an object with the key 'config'; restore the file.")
    if about.get("family") != family:
        raise CheckpointError(
            f"{folder} contains a model of the family {about.get('family')!r}, not {family!r}; load it with "
            "jaxvoice.load."
        )
    try:
        arrays = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError, ValueError) as failure:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is damaged or cut short ({failure}); copy it again."
        ) from failure
    return about["config"], {name: arrays[stored] for name, stored in migrated.tensors(arrays).items()}
