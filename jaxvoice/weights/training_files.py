"""The training state in a model folder, `training.safetensors`, and its import from other implementations."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.model_folder import read_config_file
from jaxvoice.weights.rules import Change, Plan, Rule, Spec, make_plan

TRAINING_FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""torch's names of AdamW's moments."""


@dataclass(frozen=True)
class TrainingPart:
    """Tensors of a file that become tensors of `training.safetensors` under a common prefix."""

    plan: Plan
    prefix: str
    names: Mapping[str, str]
    """Names of tensors in the file, by their names in the plan."""
    nonnegative: bool = False
    """Whether the values are second moments, which are never negative."""


@dataclass(frozen=True)
class TrainingPlan:
    """The planned content of `training.safetensors`."""

    config: Any
    """The configuration of the model, with sizes that only the training state determines."""
    about: Mapping[str, Any]
    """Steps, epochs, and the settings and updates of each optimiser."""
    assumed: tuple[str, ...]
    """Assumptions about values that the tensors do not determine."""
    parts: tuple[TrainingPart, ...]
    """The conversions of tensors."""

    @property
    def specs(self) -> dict[str, Spec]:
        """Shape and dtype of all tensors to write."""
        return {part.prefix + name: spec for part in self.parts for name, spec in part.plan.wanted.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """`about` as text, for the header of the file."""
        return {name: json.dumps(value) for name, value in self.about.items()}

    def read(self, tensors: Tensors) -> Iterator[tuple[str, np.ndarray]]:
        """Yield names and values in the order of `specs`."""
        for part in self.parts:
            sources = {change.target: change.sources for change in part.plan.table()}
            for name, array in part.plan.read(tensors.renamed(part.names), part.names):
                below = int(np.count_nonzero(array < 0)) if part.nonnegative else 0
                if below:
                    raise CheckpointError(
                        f"{part.names[sources[name][0]]} contains {below} negative second moments, so the next "
                        "step would be NaN; the file is damaged."
                    )
                yield part.prefix + name, array

    def table(self) -> list[Change]:
        """The conversions, in the order of `specs`."""
        return [
            Change(tuple(part.names[source] for source in sources), part.prefix + target, remark)
            for part in self.parts
            for sources, target, remark in part.plan.table()
        ]


def plan_moments(
    names: Mapping[str, str],
    specs: Mapping[str, Spec],
    targets: Mapping[str, Spec],
    rules: Sequence[Rule],
    prefix: str,
    where: str,
) -> TrainingPart:
    """Plan the import of the moments of an optimiser, with the rules of their parameters.

    **Arguments:** `names`, the moments by the names of their parameters; `specs`, shapes and dtypes of all tensors of
    the file `where`; `targets`, those of the parameters; `prefix` of the moments in `training.safetensors`, which ends
    with the kind of the moments.

    **Raises:** `CheckpointError` if moments are missing, or have other shapes than the parameters.
    """
    lost = [name for name in names.values() if name not in specs]
    if lost:
        raise CheckpointError(
            f"{where} lacks {len(lost)} moments, for example {', '.join(lost[:3])}; the file is damaged."
        )
    given = {new: specs[old] for new, old in names.items()}
    label = f"{where}, by the parameters that the moments {prefix.rstrip('.')} belong to,"
    plan = make_plan(given, targets, _parameters_only(rules), where=label)
    if any(row.conversion != "keep" for row in plan.rows):
        raise CheckpointError(
            f"weight norm was removed from the model, so the moments in {where} belong to other parameters; import "
            "the model as it was trained, or use --no-training."
        )
    return TrainingPart(plan, prefix, names, nonnegative=prefix.endswith("exp_avg_sq."))


def _parameters_only(rules: Sequence[Rule]) -> list[Rule]:
    """`rules` without the vectors of spectral norm, which have no moments."""
    found = []
    for rule in rules:
        if rule.norm == "spectral":
            found.append(Rule(f"{rule.source}.weight_orig", f"{rule.target}.weight_orig"))
            found.append(Rule(f"{rule.source}.parametrizations.weight.original", f"{rule.target}.weight_orig"))
        else:
            found.append(rule)
    return found


def read_training_file(folder: Path, *, arrays: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata of a model folder's `training.safetensors`, and, if `arrays`, its tensors by name.

    **Raises:** `CheckpointError` if there is no such file, or a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / TRAINING_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} contains no training state ({TRAINING_FILE} is missing); import a checkpoint together with its "
            "training state, or start from its weights alone (--init-from)."
        )
    migrated = read_config_file(folder) if arrays else None
    try:
        with safe_open(path, "numpy") as file:
            about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            names = {} if migrated is None else migrated.training_tensors(file.keys())
            return about, {name: file.get_tensor(stored) for name, stored in names.items()}
    except (SafetensorError, OSError, ValueError, RecursionError) as failure:
        raise CheckpointError(f"{path} is damaged or of another kind ({failure}); import it again.") from failure


def arrays_below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix`, by their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
