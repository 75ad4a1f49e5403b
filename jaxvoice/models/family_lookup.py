"""Lookup of the family of a model folder or of a released checkpoint in `jaxvoice.models.FAMILIES`."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jaxvoice import models
from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, CheckpointLayout
from jaxvoice.models.family import Family
from jaxvoice.weights.mismatches import format_names
from jaxvoice.weights.model_folder import CONFIG_FILE, read_config_file


def find_family(folder: Path) -> Family:
    """The family of the model in a model folder.

    **Raises:** `ConfigError` if its `config.json` contains no known family or cannot be read; `CheckpointError` for a
    newer schema.
    """
    name = read_config_file(folder).table.get("family")
    families = models.FAMILIES
    found = next((family for family in families if family.name == name), None)
    if found is None:
        raise ConfigError(
            f"The family in {folder / CONFIG_FILE} is {format_value(name)}; it should be one of "
            f"{', '.join(family.name for family in families)}. Update jaxvoice, or restore the file."
        )
    return found


def recognise_checkpoint(checkpoint: Checkpoint, family: str | None = None) -> tuple[Family, CheckpointLayout]:
    """The family and the layout that recognise a checkpoint; `family` restricts the search to one family.

    With `family`, its layouts may also recognise a part of another model.

    **Raises:** `CheckpointError`, listing what each layout looks for, if none or several do.
    """
    asked = _layouts(family)
    found = [pair for pair in asked if pair[1].recognises(checkpoint)]
    if not found and family is not None:
        found = [pair for pair in asked if pair[1].contains(checkpoint)]
    if len(found) == 1:
        return found[0]
    name = checkpoint.name
    if found:
        raise _several(name, found)
    described = "; ".join(_describe(*pair) for pair in asked)
    tensors = list(checkpoint.archive.tensors)
    tops = sorted({tensor.split(".")[0] for tensor in tensors})
    raise CheckpointError(
        f"{name} is not a checkpoint of a known family: its {len(tensors)} tensors start with "
        f"{format_names(tops) or 'nothing'}. {described}. See `jaxvoice inspect {shlex.quote(str(name))}`."
    )


def find_main_file(folder: Path, family: str | None = None) -> Path:
    """The weight file of the checkpoint in `folder`; `family` restricts the search to one family.

    **Raises:** `CheckpointError` if no layout recognises the folder, or if layouts choose different files.
    """
    layouts = _layouts(family)
    files = {pair: file for pair in layouts if (file := pair[1].main_file(folder)) is not None}
    if len(set(files.values())) > 1:
        raise _several(str(folder), list(files))
    if not files:
        advice = " ".join(text for _, layout in layouts if (text := layout.folder_advice(folder)))
        names = sorted(entry.name for entry in folder.iterdir())
        found = f"It contains {format_names(names) or 'no files'}. Pass the path of the weight file."
        raise CheckpointError(f"{folder} is a folder that no layout recognises. {advice or found}")
    return next(iter(files.values()))


def _layouts(family: str | None) -> list[tuple[Family, CheckpointLayout]]:
    """All layouts with their families, or those of `family`; raises `CheckpointError` if it has none."""
    known = [(one, layout) for one in models.FAMILIES for layout in one.layouts]
    asked = [pair for pair in known if family in (None, pair[0].name)]
    if not asked:
        names = ", ".join(dict.fromkeys(one.name for one, _ in known))
        raise CheckpointError(
            f"family is {format_value(family)}; it should be a family that can import checkpoints: {names}."
        )
    return asked


def _several(name: str, found: Sequence[tuple[Family, CheckpointLayout]]) -> CheckpointError:
    described = "; ".join(_describe(*pair) for pair in found)
    return CheckpointError(f"{name} is recognised by several layouts. {described}. Choose a family with --family.")


def _describe(family: Family, layout: CheckpointLayout) -> str:
    return f"{family.name} ({layout.name}) looks for {layout.looks_for}"
