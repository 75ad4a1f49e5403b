"""`Family` describes a model family. `jaxvoice.models.FAMILIES` lists all families.

Loading, importing, exporting and comparing use this list and do not refer to a specific family. jax is imported only
when a network is built or loaded.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxvoice.config import differences, from_dict, to_dict
from jaxvoice.models.checkpoint_layout import CheckpointLayout
from jaxvoice.weights.model_folder import CONFIG_FILE, read_model_folder, write_model_folder


class Build(Protocol):
    """A function that creates the network of a configuration."""

    def __call__(self, config: Any, *, key: Any) -> Any:
        """The network with random weights."""
        ...


class ExampleInputs(Protocol):
    """A function that creates example inputs for the network of a configuration."""

    def __call__(self, config: Any, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for a call of the network.

        They are random arrays without batch axes, numbers, keys and flags.
        """
        ...


@dataclass(frozen=True)
class Family:
    """A model family.

    The arrays in a model folder of the family are those of `build(config)` under the names of
    `jaxvoice.weights.named_arrays`, without those of the attributes `merged`.
    """

    name: str
    """The name in the `config.json` of model folders."""
    config: type
    """The class of the configuration, a frozen dataclass."""
    build: Build
    """Creates the network of a configuration; imports jax when it is called."""
    example_inputs: ExampleInputs
    """Creates example inputs of that network; imports jax when it is called."""
    pipeline: str
    """The pipeline class, such as `"jaxvoice.pipelines:HiFiGANVocoder"`; it has a class method `load(path)`."""
    layouts: tuple[CheckpointLayout, ...] = ()
    """The layouts of released checkpoints.

    Models trained with jaxvoice are exported in the first layout that supports export."""
    config_arrays: Callable[[Any], Mapping[str, np.ndarray]] | None = None
    """The arrays of released checkpoints that a configuration contains, by their names in the checkpoints."""
    fewest_steps: int = 1000
    """Training steps below which loading a model prints a warning, unless it was fine-tuned from another model."""

    experiment: str | None = None
    """The module in `experiments` that trains a vocoder of the family on pairs of mels and audio, or `None`."""
    merged: tuple[str, ...] = ()
    """Attributes of the network whose names are left out of the names of its arrays in model folders.

    A network and its state, which are separate attributes, have the names of the release in this way."""
    prepared: Callable[[Any], Any] | None = None
    """Computes what a network needs for every inference in advance, for exported programs; `None` if there is nothing
    beyond weight norm."""
    folder_contents: Callable[[Path, Any], Mapping[str, str]] | None = None
    """Describes what a model folder contains beside weights and configuration, such as names of speakers, from its path
    and its configuration; does not import jax."""
    inner_models: tuple[str, ...] = ()
    """Folders of other models that a model folder may contain, which are downloaded with it."""
    stream: Callable[[Any], Any] | None = None
    """Creates the `jaxvoice.nn.Stream` of a network from a model folder; `None` for families without streams."""

    def __repr__(self) -> str:
        layouts = ", ".join(layout.name for layout in self.layouts) or "none"
        return f"Family({self.name!r}, pipeline {self.pipeline}, layouts {layouts})"

    def pipeline_class(self) -> Any:
        """The class that `pipeline` names."""
        module, _, name = self.pipeline.partition(":")
        return getattr(importlib.import_module(module), name)

    def load_pipeline(self, path: str | Path, **options: Any) -> Any:
        """The pipeline for the model at `path`: a model folder, a run folder or a Hub id."""
        return self.pipeline_class().load(path, **options)

    def save_network(
        self, folder: str | Path, network: Any, config: Any, *, info: Mapping[str, Any] | None = None
    ) -> None:
        """Write a model folder; `info` is stored in its `config.json`.

        **Raises:** `CheckpointError` if the folder cannot be written.
        """
        from jaxvoice.weights.array_names import named_arrays

        write_model_folder(
            Path(folder),
            family=self.name,
            config=to_dict(config),
            arrays=named_arrays(network, merged=self.merged),
            info=info,
        )

    def load_network(self, folder: Path) -> tuple[Any, Any]:
        """The network in a model folder, and its configuration.

        **Raises:** `CheckpointError` or `ConfigError` if the folder is missing or damaged, or if its weights are
        those of another network.
        """
        import equinox as eqx
        import jax

        from jaxvoice.weights.array_names import load_state

        data, arrays = read_model_folder(folder, family=self.name)
        config = from_dict(self.config, data, where=str(folder / CONFIG_FILE))
        skeleton = eqx.filter_eval_shape(self.build, config, key=jax.random.key(0))
        return load_state(skeleton, arrays, f"the weights in {folder}", merged=self.merged), config


def contract_differences(a: Any, b: Any) -> list[str]:
    """A line `mel.name: left value != right value` for each difference of the mel contracts of two configurations.

    The mel contract of a configuration is its field `mel`.
    """
    left, right = getattr(a, "mel", None), getattr(b, "mel", None)
    if left == right:
        return []
    return differences(left, right, "mel.") if type(left) is type(right) else [f"mel: {left!r} != {right!r}"]
