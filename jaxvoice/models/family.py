"""One description of each model family: `Family`. `jaxvoice.models.FAMILIES` lists them.

Loading, importing, exporting and comparing go through the list, and name no family. Nothing here imports jax before a
network is built or loaded.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jaxvoice.config import format_value, from_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, CheckpointLayout
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.model_folder import CONFIG_FILE, read_about, read_model_folder


class Build(Protocol):
    """A function that makes the network of a configuration."""

    def __call__(self, config: Any, *, key: Any) -> Any:
        """The network with random weights."""
        ...


class ExampleInputs(Protocol):
    """A function that makes inputs for the network of a configuration."""

    def __call__(self, config: Any, *, key: Any) -> tuple[Any, ...]:
        """Positional arguments of a call of the network: random arrays, without batch axes, and plain numbers."""
        ...


@dataclass(frozen=True)
class Family:
    """A model family.

    The arrays in a model folder of the family are those of `build(config)` under the names of
    `jaxvoice.weights.named_arrays`.
    """

    name: str
    """The name in the `config.json` of model folders."""
    config: type
    """The class of the configuration, a frozen dataclass."""
    build: Build
    """Makes the network of a configuration; imports jax when it is called."""
    example_inputs: ExampleInputs
    """Makes inputs of that network; imports jax when it is called."""
    pipeline: str
    """The class that users call, as text: `"jaxvoice.pipelines:Vocoder"`. It has the class method `load(path)`."""
    task: str
    """The name of the family's `Task`, as run folders hold it."""
    layouts: tuple[CheckpointLayout, ...] = ()
    """The layouts of released checkpoints. The first that can be exported is that of models trained here."""

    def load_pipeline(self, path: str | Path, **options: Any) -> Any:
        """The pipeline for the model at `path`: a model folder, a run folder or a Hub id."""
        module, _, name = self.pipeline.partition(":")
        return getattr(importlib.import_module(module), name).load(path, **options)

    def load_network(self, folder: Path) -> tuple[Any, Any]:
        """The network in a model folder, and its configuration.

        **Raises:** `CheckpointError` or `ConfigError` for a folder that is missing, damaged, or of other weights.
        """
        import equinox as eqx
        import jax

        from jaxvoice.weights.array_names import load_state

        data, arrays = read_model_folder(folder, family=self.name)
        config = from_dict(self.config, data, where=str(folder / CONFIG_FILE))
        skeleton = eqx.filter_eval_shape(self.build, config, key=jax.random.key(0))
        return load_state(skeleton, arrays, where=f"the weights in {folder}"), config


def list_families() -> tuple[Family, ...]:
    """All families; imported when called, since the list imports this module."""
    from jaxvoice import models

    return models.FAMILIES


def find_family(folder: Path) -> Family:
    """The family of the model in a model folder.

    **Raises:** `ConfigError` if its `config.json` names no known family or cannot be read; `CheckpointError` for a
    newer schema.
    """
    name = read_about(folder).table.get("family")
    families = list_families()
    found = next((family for family in families if family.name == name), None)
    if found is None:
        raise ConfigError(
            f"{folder / CONFIG_FILE} names the family {format_value(name)}; known families are "
            f"{', '.join(family.name for family in families)}. Update jaxvoice, or restore the file."
        )
    return found


def recognise_checkpoint(checkpoint: Checkpoint, family: str | None = None) -> tuple[Family, CheckpointLayout]:
    """The family and the layout that recognise a checkpoint; `family` names the only one to ask.

    **Raises:** `CheckpointError`, listing what each layout looks for, if none or several do.
    """
    known = [(one, layout) for one in list_families() for layout in one.layouts]
    asked = [pair for pair in known if family in (None, pair[0].name)]
    if not asked:
        names = ", ".join(dict.fromkeys(one.name for one, _ in known))
        raise CheckpointError(f"No family {format_value(family)} imports checkpoints; those that do are {names}.")
    found = [pair for pair in asked if pair[1].recognises(checkpoint)]
    if len(found) == 1:
        return found[0]
    name, described = checkpoint.name, "; ".join(_describe(*pair) for pair in found or asked)
    if found:
        raise CheckpointError(f"{name} is recognised by several layouts. {described}. Choose a family with --family.")
    tensors = list(checkpoint.archive.tensors)
    tops = sorted({tensor.split(".")[0] for tensor in tensors})
    raise CheckpointError(
        f"{name} is not a checkpoint of a known family: its {len(tensors)} tensors begin with "
        f"{_some(tops) or 'nothing'}. {described}. See `jaxvoice inspect {name}`."
    )


def _describe(family: Family, layout: CheckpointLayout) -> str:
    return f"{family.name} ({layout.name}) looks for {layout.looks_for}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(format_name(name, 60) for name in names[:8]) + (", ..." if len(names) > 8 else "")
