"""Export of model folders to weight files. Does not import jax."""

import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvoice import models
from jaxvoice._version import __version__
from jaxvoice.config import format_value, from_dict, to_dict
from jaxvoice.console import print_message
from jaxvoice.errors import CheckpointError, ConfigError, JaxvoiceError
from jaxvoice.models.checkpoint_layout import Checkpoint, CheckpointLayout, ImportOptions
from jaxvoice.models.family import Family, contract_differences
from jaxvoice.models.family_lookup import find_family
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.file_layout import FileLayout, read_layout
from jaxvoice.weights.file_writing import atomic_write, write_safetensors, write_torch
from jaxvoice.weights.foreign_settings import read_settings
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file
from jaxvoice.weights.rules import Plan, Spec
from jaxvoice.weights.schemas import export_metadata, with_schema_number
from jaxvoice.weights.training_files import TRAINING_FILE

Format = Literal["torch", "safetensors", "npz"]


_FORMATS: dict[str, Format] = {".safetensors": "safetensors", ".npz": "npz"}


def export_model(folder: str | Path, to: str | Path, format: Format | Literal["auto"] = "auto") -> int:
    """Write the weights of a model as one file, with the names and the layout that they were imported from.

    A model that was not imported is written in the default layout of its family. `torch` writes a file for
    `torch.load`, nested like the original. `safetensors` and `npz` contain the same names in one flat dict, and npz
    stores bfloat16 as float32. The import states how an export will differ from the original. The schema number is
    stored where other programs ignore it: an entry of torch's zip file, the metadata of safetensors, the comment of an
    npz file.

    The configuration, with the mel contract and the licence, is written to `config.json` in the folder of the file, for
    a speaker encoder of coqui to `config_se.json`, where `import_model` and `compare` find it. An existing
    configuration is kept if the file has the same mel contract with it, and a speaker encoder the same settings. If the
    implementation has configuration files, it also contains their keys. Other files of the layout, such as the names of
    languages and speakers, and models inside the model folder are written beside it.

    A state dict for training, such as that of RAVE, also contains the discriminators in `training.safetensors`. If
    there are none, they are initialised, and a warning is printed.

    **Arguments:** `folder`, a model folder, a run folder or a Hub id; `to`, the file to write; `format`, `"auto"`
    for that of the suffix `.safetensors` or `.npz`, and `torch` for other names.

    **Returns:** the number of tensors written.

    **Raises:** `CheckpointError` or `ConfigError` if the model folder is missing or damaged, if the file exists or
    cannot be written, if its suffix is that of another format, or if the configuration or another file beside it
    describes another model.
    """
    folder, to = find_model_folder(folder), Path(to).expanduser()
    format = _format(to, format)
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
    config = from_dict(family.config, about.get("config", {}), str(folder / CONFIG_FILE))
    exporter = _exporting_layout(family, about.get("info"), config)
    if exporter is None:
        known = [one.name for one in models.FAMILIES if any(layout.exports for layout in one.layouts)]
        raise ConfigError(
            f"{folder / CONFIG_FILE} describes a model of the family {family.name}, which has no layout to "
            f"export to; families that have one are {', '.join(known)}."
        )
    layout = read_layout(about.get("info"), str(folder / CONFIG_FILE)) or exporter.export_layout
    with ExitStack() as files:
        tensors = migrated.renamed(_open(weights, files))
        training = folder / TRAINING_FILE
        if exporter.exports_training and training.is_file():
            stored = _open(training, files)
            tensors = _joined(tensors, stored.renamed(migrated.training_tensors(stored)))
        specs = {name: Spec(info.shape, info.dtype) for name, info in tensors.infos().items()}
        plan = exporter.plan_export(config, layout, specs, str(weights))
        others = exporter.released_files(config, folder, to.parent)
        inside = exporter.released_models(config, folder)
        for name in inside:
            if os.path.lexists(to.parent / name):
                raise CheckpointError(f"{to.parent / name} exists; export to another folder.")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise CheckpointError(
                f"{to} cannot be written ({failure.strerror or failure}); choose another place."
            ) from failure
        _write(to, format, layout, plan, tensors)
    written = [to]
    try:
        for name, content in others.items():
            with atomic_write(to.parent / name) as output:
                output.write(content)
            written.append(to.parent / name)
        path = to.parent / exporter.config_file
        kept = os.path.lexists(path)
        _write_config(path, to, family, exporter, config, about.get("info"))
        written += [] if kept else [path]
        for name, inner in inside.items():
            export_model(inner, to.parent / name)
    except JaxvoiceError:
        for path in written:
            path.unlink()
        raise
    for note in exporter.export_notes(plan):
        print_message("warning", note)
    return len(plan.wanted)


def config_file_of(folder: str | Path) -> str:
    """The name of the configuration file that an export of the model `folder` has beside it.

    **Raises:** as `export_model` for a model folder that is missing or damaged.
    """
    folder = find_model_folder(folder)
    about, family = read_config_file(folder).table, find_family(folder)
    config = from_dict(family.config, about.get("config", {}), str(folder / CONFIG_FILE))
    exporter = _exporting_layout(family, about.get("info"), config)
    return CONFIG_FILE if exporter is None else exporter.config_file


def _open(path: Path, files: ExitStack) -> Tensors:
    """The tensors of the safetensors file `path`, which `files` closes."""
    archive = files.enter_context(open_archive(path))
    if archive.source.format != "safetensors":
        raise CheckpointError(f"{path} is not a safetensors file ({archive.source.format}); restore it.")
    return archive.tensors


def _joined(first: Tensors, second: Tensors) -> Tensors:
    """The tensors of two files, whose names differ."""
    return Tensors({**first.infos(), **second.infos()}, lambda name: (first if name in first else second)[name])


def _format(to: Path, format: Format | Literal["auto"]) -> Format:
    expected = _FORMATS.get(to.suffix.lower())
    if format == "auto":
        format = expected or "torch"
    if format not in ("torch", *_FORMATS.values()):
        raise ConfigError(f"format is {format_value(format)}; it should be 'auto', 'torch', 'safetensors' or 'npz'.")
    if expected not in (None, format):
        raise ConfigError(f"format is {format!r}; it should be {expected!r} for {to}. Choose another file name.")
    if to.name == WEIGHTS_FILE:
        raise ConfigError(
            f"the file is {to}; it should have another name than {WEIGHTS_FILE}, the name of the weights in a model "
            "folder."
        )
    return format


def _exporting_layout(family: Family, info: Any, config: Any) -> CheckpointLayout | None:
    """The layout that the model was imported from if it can be exported, or the first layout that can express it."""
    layouts = [layout for layout in family.layouts if layout.exports and layout.expresses(config)]
    name = info.get("layout_name") if isinstance(info, Mapping) else None
    return next((layout for layout in layouts if layout.name == name), layouts[0] if layouts else None)


def _write_config(path: Path, file: Path, family: Family, layout: CheckpointLayout, config: Any, info: Any) -> None:
    """Write the configuration of the export `file` to `path`, or check that an existing configuration describes it.

    The licence in `info`, the metadata of the model, is written with it.
    """
    if not os.path.lexists(path):
        licence = info.get("licence", info.get("license")) if isinstance(info, Mapping) else None
        ours = {"family": family.name, "jaxvoice": __version__, "config": to_dict(config)}
        ours["info"] = {} if licence is None else {"licence": licence}
        table = {**layout.released_config(config), **with_schema_number("model folder", ours)}
        with atomic_write(path) as output:
            output.write((json.dumps(table, indent=2) + "\n").encode())
        return
    advice = f"Export to a folder without {path.name}"
    with open_archive(file) as archive:
        try:
            found = layout.plan_import(Checkpoint(archive, read_settings(path), path), ImportOptions()).config
        except JaxvoiceError as failure:
            raise CheckpointError(f"{path} is the configuration of another model ({failure}). {advice}.") from failure
    different = contract_differences(found, config) + layout.setting_differences(found, config)
    if different:
        raise CheckpointError(
            f"{path} is the configuration of another model ({'; '.join(different)}). {advice}, or remove {path.name}."
        )


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
