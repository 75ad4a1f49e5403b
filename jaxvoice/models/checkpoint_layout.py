"""Conversion of released checkpoints to model folders and back.

A family describes each layout of released checkpoints with a subclass of `CheckpointLayout`. Import and export need no
jax, so this module does not import it.
"""

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, detect_layout
from jaxvoice.weights.mismatches import ADVICE, format_name, format_names
from jaxvoice.weights.model_folder import CONFIG_FILE
from jaxvoice.weights.rules import Ignore, Initial, Matches, Plan, Rule, Spec, make_plan, matches, unmatched
from jaxvoice.weights.tensor_conversions import Shape
from jaxvoice.weights.training_files import TrainingPlan

FLOAT = np.dtype(np.float32)
UNKNOWN_LICENCE = "unknown; ask the authors of the weights"


@dataclass(frozen=True)
class Checkpoint:
    """A released checkpoint: the open weight file and its configuration."""

    archive: Archive
    """The weight file."""
    config: Mapping[str, Any] | None = None
    """The contents of the configuration file; `None` if there is no such file."""
    config_path: Path | None = None
    """The path of the configuration file; `None` if there is no such file."""

    @property
    def name(self) -> str:
        """The name of the weight file, for messages."""
        return self.archive.source.path.name

    @property
    def folder(self) -> Path:
        """The folder of the weight file, which may contain other files of the checkpoint."""
        return self.archive.source.path.parent


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import."""

    part: str | None = None
    """The part of a larger model to import, given by the last components of its name."""
    allow_missing: Sequence[str] = ()
    """Regular expressions for arrays of the model that get initial values if the file does not contain them."""
    ignore: Sequence[str] = ()
    """Regular expressions of tensors in the file to ignore."""


@dataclass(frozen=True)
class InnerModel:
    """A model in a released checkpoint, which becomes a model folder inside that of the checkpoint."""

    path: Path
    """Its weight file."""
    family: str
    """The name of its family."""
    part: str | None = None
    """Its part of the file, as in `ImportOptions`."""


@dataclass(frozen=True)
class ImportPlan:
    """The planned result of an import."""

    config: Any
    """The configuration of the family."""
    parts: tuple[tuple[Archive, Plan], ...]
    """The weight files, each with the mapping from its tensors to those of the model."""
    version: str
    """Name of the released model, such as `V1`, or a description of its sizes."""
    origin: str
    """The implementation that wrote the checkpoint."""
    licence: str = UNKNOWN_LICENCE
    """The licence of the weights, or advice if it is unknown."""
    layout: FileLayout | None = None
    """The names and nesting of the tensors in the file, for exports; `None` if the layout cannot be exported."""
    differs: tuple[str, ...] = ()
    """Descriptions of the differences between an export and the original file."""
    assumed: tuple[str, ...] = ()
    """Assumptions about settings that neither the tensors nor the configuration determine."""
    in_config: Mapping[str, str] = field(default_factory=dict)
    """The ignored tensors whose values are in `config`, by name, and their names in `Family.config_arrays`."""
    patterns: Mapping[str, Matches] = field(default_factory=dict)
    """The patterns of the options `ignore` and `allow_missing`, by option, and the names that each pattern affected."""
    hints: tuple[str, ...] = ()
    """A sentence for each pattern that had no effect. Other remarks for the user may follow."""
    side_files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of other files for the model folder, by name, such as a vocabulary or a table of speakers."""
    inside: Mapping[str, InnerModel] = field(default_factory=dict)
    """Other models of the checkpoint, by the names of their folders inside the model folder."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of what was found beside the weights, such as names of speakers, for the summary of the import.
    Their names have at most eight letters."""
    config_file: str | None = None
    """The name of the configuration file that was read in place of `Checkpoint.config`; `None` if there is none."""
    report: str = ""
    """Markdown that is appended to `report.md`."""
    training: tuple[Archive, TrainingPlan] | None = None
    """The weight file and the plan of its training state; `None` if it contains no training state."""

    @property
    def wanted(self) -> dict[str, Spec]:
        """The shape and type of every tensor to write."""
        return {name: spec for _, plan in self.parts for name, spec in plan.wanted.items()}


class CheckpointLayout(abc.ABC):
    """One kind of released checkpoint: how it is recognised, imported and (if supported) exported."""

    name: str
    """The implementation that writes such checkpoints."""
    looks_for: str
    """Description of the checkpoints that are recognised, for errors."""
    exports: bool = False
    """Whether the layout can be exported, with `plan_export`."""
    exports_training: bool = False
    """Whether exports contain tensors of `training.safetensors`."""
    export_layout: FileLayout = FileLayout()
    """The tensor names and nesting in exports of models that were not imported."""
    config_file: str = CONFIG_FILE
    """The name of the configuration file that exports write beside the weights."""

    @abc.abstractmethod
    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint has this layout, by names, shapes and configuration; values are not read."""

    def contains(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint contains a network of this layout as a part of another model.

        Such a network is imported only if the user selects the family. By default, the same as `recognises`.
        """
        return self.recognises(checkpoint)

    @abc.abstractmethod
    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """The plan to import `checkpoint`.

        **Raises:** `CheckpointError` or `ConfigError` if the tensors and the configuration contradict each other, or do
        not determine the model.
        """

    def open_questions(self, checkpoint: Checkpoint) -> str:
        """What an import of `checkpoint` cannot determine and how to find it out, as Markdown; empty if nothing.

        It is also available if `plan_import` raises an error.
        """
        return ""

    def main_file(self, folder: Path) -> Path | None:
        """The weight file of a checkpoint that is a folder of several files; `None` if there is none."""
        return None

    def folder_advice(self, folder: Path) -> str:
        """What to do with a folder in which `main_file` finds nothing, as sentences; empty if it is unknown."""
        return ""

    def training_file(self, path: Path) -> Path | None:
        """The file with the training state of the weight file `path`; `None` if there is none."""
        return None

    def plan_training(self, archive: Archive, imported: ImportPlan) -> TrainingPlan:
        """Plan the import of the training state in `archive`, which belongs to the checkpoint of `imported`.

        **Raises:** `CheckpointError` if the layout has no training state, or if the state does not match the imported
        networks.
        """
        raise CheckpointError(f"Checkpoints of {self.name} have no training state to import; omit --training.")

    def released_config(self, config: Any) -> dict[str, Any]:
        """The content of the configuration file of the implementation for the model of `config`, as JSON values.

        Exports write it to `config_file` together with the keys of jaxvoice: `family`, `jaxvoice`, `schema` and
        `config`. Empty if the implementation has no such file, or cannot express `config`.
        """
        return {}

    def released_files(self, config: Any, folder: Path, beside: Path) -> dict[str, bytes]:
        """The contents of other files of the implementation, such as names of speakers, by file name.

        Exports write them beside the weights.

        **Arguments:** `config`, the configuration of the model; `folder`, the model folder; `beside`, the folder of the
        export. Files that it contains already, with the same content, are left out.

        **Raises:** `CheckpointError` for a file in `beside` that describes another model.
        """
        return {}

    def released_models(self, config: Any, folder: Path) -> dict[str, Path]:
        """The model folders inside the model folder `folder` that exports write beside the weights, by file name."""
        return {}

    def expresses(self, config: Any) -> bool:
        """Whether models of `config` that were not imported are exported in this layout."""
        return True

    def setting_differences(self, found: Any, config: Any) -> list[str]:
        """A line for each setting, beside the mel contract, in which two configurations of the same tensors differ.

        An export of a model of `config` is not written beside a configuration file from which an import would read
        `found`.
        """
        return []

    def plan_export(self, config: Any, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """Plan the export of a model folder to this layout.

        **Arguments:** `config`, the configuration of the model; `layout`, the layout recorded by the import, or
        `export_layout`; `given`, the shapes and types of the tensors in the file `where`, and, with
        `exports_training`, of those in `training.safetensors` beside it.

        **Raises:** `ConfigError` if the layout cannot be exported; `CheckpointError` if the tensors do not match
        `config`.
        """
        raise ConfigError(f"Checkpoints of {self.name} cannot be exported, only imported.")

    def export_notes(self, plan: Plan) -> tuple[str, ...]:
        """Sentences for the user about tensors of the export `plan` that the model folder does not contain."""
        return ()


def choose_part(prefixes: Sequence[str], part: str | None, where: str, *, kind: str, hint: str = "") -> str:
    """The prefix of the network to import from a file `where` that may contain several.

    **Arguments:** `prefixes`, those of all networks in the file, each empty or ending with a dot; `part`, the name that
    the user selected, or its end; `kind`, the name of the family, and `hint`, an addition to the known names, for the
    message.

    **Raises:** `CheckpointError` if `part` is not the name of one network, or if there are several and no `part`.
    """
    names = [prefix.removesuffix(".") for prefix in prefixes]
    if part is not None:
        chosen = [name for name in names if name == part or name.endswith(f".{part}")]
        if len(chosen) != 1:
            known = [name for name in names if name]
            advice = f": {format_names(known)}" if known else ", which has no name; omit --part"
            raise CheckpointError(
                f"--part is {format_name(part)}; it should be the name of one {kind} in {where}{advice}{hint}."
            )
        names = chosen
    if len(names) > 1:
        raise CheckpointError(f"{where} contains several networks: {format_names(names)}. Select one with --part NAME.")
    return f"{names[0]}." if names[0] else ""


@dataclass(frozen=True)
class PlannedWeights:
    """A plan for the tensors of one weight file, and the effect of the options."""

    plan: Plan
    """The mapping from the tensors of the file to those of the model."""
    layout: FileLayout
    """The tensor names and nesting in the file."""
    differs: tuple[str, ...]
    """Descriptions of the differences between an export and the original file."""
    patterns: Mapping[str, Matches]
    """As in `ImportPlan`."""
    hints: tuple[str, ...]
    """As in `ImportPlan`."""


def plan_weights(
    archive: Archive,
    shapes: Mapping[str, Shape],
    rules: Sequence[Rule],
    options: ImportOptions,
    *,
    prefix: str = "",
    ignore: Iterable[Ignore] = (),
    initial: Initial | None = None,
    dtypes: Mapping[str, np.dtype] | None = None,
) -> PlannedWeights:
    """The plan to convert the tensors under `prefix` to a model with arrays of the given `shapes`, in float32.

    The plan excludes constants in the code of a TorchScript archive, and the products that torch stores beside
    `weight_g` and `weight_v`. If `options` select a part of the file, it also excludes the tensors outside that part.

    **Arguments:** `ignore`, further tensors to ignore; `initial`, the values of tensors that may be missing; `dtypes`,
    the types of arrays that are not float32, by name.

    **Raises:** `CheckpointError` under the conditions of `make_plan`.
    """
    infos = archive.tensors.infos()
    specs = {name: Spec(info.shape, info.dtype) for name, info in infos.items()}
    targets = {name: Spec(shape, (dtypes or {}).get(name, FLOAT)) for name, shape in shapes.items()}
    constants = infos.keys() - archive.tensors.weights().keys()
    left_out = _weight_norm_products(archive, prefix)
    if options.part is not None:
        reason = f"outside {format_name(prefix.removesuffix('.'))}"
        left_out |= {name: reason for name in specs if not name.startswith(prefix)}
    left_out |= dict.fromkeys(constants, "constant in the archive's code")
    ignoring, allowing = matches(options.ignore, specs), matches(options.allow_missing, targets)
    hints = unmatched("--ignore", ignoring, specs) + unmatched("--allow-missing", allowing, targets)
    advice = ADVICE
    if options.part is None and prefix and any(not name.startswith(prefix) for name in specs if name not in constants):
        last = format_name(prefix.removesuffix(".").split(".")[-1])
        advice = f"Use --part {last} to import this part only, or --ignore REGEX to ignore tensors"
    plan = make_plan(
        specs,
        targets,
        rules,
        prefix=prefix,
        ignore=[*(Ignore(pattern, f"--ignore {pattern}") for pattern in options.ignore), *ignore],
        left_out=left_out,
        allow_missing=options.allow_missing,
        initial=initial,
        where=archive.source.path.name,
        advice=". ".join([*hints, advice]),
    )
    initialised = {pattern: [name for name in names if name in plan.missing] for pattern, names in allowing.items()}
    hints += [
        f"--allow-missing {format_name(pattern)} had no effect: the file contains all matching tensors"
        for pattern, names in allowing.items()
        if names and not initialised[pattern]
    ]
    layout, differs = detect_layout(archive, prefix, plan)
    return PlannedWeights(plan, layout, differs, {"ignore": ignoring, "allow_missing": initialised}, tuple(hints))


def _weight_norm_products(archive: Archive, prefix: str) -> dict[str, str]:
    """The weights that `torch.nn.utils.weight_norm` stores beside `weight_g` and `weight_v` in pickled modules.

    **Returns:** the reason for ignoring each, by name.
    """
    infos, found = archive.tensors.infos(), {}
    for name in infos:
        layer = name.removesuffix(".weight")
        if layer != name and name.startswith(prefix) and infos[name].kind == "tensor":
            parts = [infos.get(f"{layer}.{part}") for part in ("weight_g", "weight_v")]
            if all(part is not None and part.kind == "parameter" for part in parts):
                found[name] = "product of weight_g and weight_v, which torch stores, too"
    return found
