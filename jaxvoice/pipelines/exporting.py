"""Export of model folders to weight files. Does not import jax."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvoice import models
from jaxvoice.config import from_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.family_lookup import find_family
from jaxvoice.weights.file_layout import FileLayout, read_layout
from jaxvoice.weights.file_writing import atomic_write, write_safetensors, write_torch
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file
from jaxvoice.weights.rules import Plan, Spec
from jaxvoice.weights.schemas import export_metadata

Format = Literal["torch", "safetensors", "npz"]


def export_model(folder: str | Path, to: str | Path, format: Format = "torch") -> int:
    """Write the weights in a model folder as one file, with the names and the layout that they were imported from.

    A model that was not imported is written in the default layout of its family. `torch` writes a file for
    `torch.load`, nested like the original. `safetensors` and `npz` contain the same names in one flat dict, and npz
    stores bfloat16 as float32. The import states how an export will differ from the original. The schema number is
    stored where other programs ignore it: an entry of torch's zip file, the metadata of safetensors, the comment of an
    npz file.

    **Returns:** the number of tensors written.

    **Raises:** `CheckpointError` or `ConfigError` if the model folder is missing or damaged, or if the file exists or
    cannot be written.
    """
    folder, to = Path(folder), Path(to)
    if not (folder / WEIGHTS_FILE).is_file() and (folder / "model").is_dir():
        folder = folder / "model"
    if os.path.lexists(to):
        raise CheckpointError(f"{to} exists; choose another file name.")
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder; it should be a folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
        )
    migrated = read_config_file(folder)
    about = migrated.table
    family = find_family(folder)
    exporter = next((layout for layout in family.layouts if layout.exports), None)
    if exporter is None:
        known = [one.name for one in models.FAMILIES if any(layout.exports for layout in one.layouts)]
        raise ConfigError(
            f"{folder / CONFIG_FILE} describes a model of the family {family.name}, which has no layout to "
            f"export to; families that have one are {', '.join(known)}."
        )
    config = from_dict(family.config, about.get("config", {}), str(folder / CONFIG_FILE))
    layout = read_layout(about.get("info"), str(folder / CONFIG_FILE)) or exporter.export_layout
    with open_archive(weights) as archive:
        if archive.source.format != "safetensors":
            raise CheckpointError(f"{weights} is not a safetensors file ({archive.source.format}); restore it.")
        tensors = migrated.renamed(archive.tensors)
        specs = {name: Spec(info.shape, info.dtype) for name, info in tensors.infos().items()}
        plan = exporter.plan_export(config, layout, specs, str(weights))
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise CheckpointError(f"{to} cannot be written ({failure}); choose another place.") from failure
        _write(to, format, layout, plan, tensors)
    return len(plan.wanted)


def _write(to: Path, format: Format, layout: FileLayout, plan: Plan, arrays: Mapping[str, np.ndarray]) -> None:
    prefix = layout.prefix
    if format == "safetensors":
        specs = {prefix + name: spec for name, spec in plan.wanted.items()}
        write_safetensors(to, specs, ((prefix + name, array) for name, array in plan.read(arrays)), export_metadata())
        return
    tensors = {prefix + name: array for name, array in plan.read(arrays)}
    if format == "npz":
        _write_npz(to, tensors)
        return
    content: Any = tensors
    for key in reversed(layout.nesting):
        content = {key: content} if isinstance(key, str) else [*[None] * key, content]
    write_torch(to, content, entries=export_metadata())


def _write_npz(to: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write an npz file. numpy has no bfloat16, so such arrays are written as float32, which is exact."""
    for name in tensors:
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in name):
            raise CheckpointError(f"{name!a} cannot be a name in an npz file; use --format torch.")
    known = {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array for name, array in tensors.items()
    }
    with atomic_write(to) as file, zipfile.ZipFile(file, "w") as archive:
        # A further array would be read as a weight; readers of npz files ignore the comment of the zip file.
        archive.comment = " ".join(f"{name}={number}" for name, number in export_metadata().items()).encode()
        for name, array in known.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
