"""Discriminators and optimisers out of the `do_` files that jik876/hifi-gan writes beside its generators."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifigan.sizes import recognise_discriminators
from jaxvoice.models.hifigan.tensor_names import is_vector, period_shapes, scale_shapes
from jaxvoice.models.hifigan.weights import DISCRIMINATOR_RULES, GENERATOR_RULES
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.rules import Plan, Rule, Spec, make_plan

TRAINING_FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
FLOAT = np.dtype(np.float32)
_DECAY = 0.999  # jik876/hifi-gan config_v1.json: lr_decay
_OPTIMIZERS = {"generator": "optim_g", "discriminators": "optim_d"}
_SETTINGS = ("lr", "initial_lr", "betas", "eps", "weight_decay")


@dataclass(frozen=True)
class _Part:
    """Tensors of the file that become tensors of ours under a common prefix."""

    plan: Plan
    prefix: str
    names: Mapping[str, str]
    """What the file calls the tensors that the plan calls so."""


@dataclass(frozen=True)
class TrainingImport:
    """What is going to be written into `training.safetensors`."""

    discriminators: DiscriminatorConfig
    """Sizes of the discriminators."""
    about: Mapping[str, Any]
    """Steps, epochs, and each optimiser's settings and updates."""
    assumed: tuple[str, ...]
    """What the tensors do not tell."""
    parts: tuple[_Part, ...]
    """What becomes what."""

    @property
    def specs(self) -> dict[str, Spec]:
        """Shape and type of every tensor to write."""
        return {part.prefix + name: spec for part in self.parts for name, spec in part.plan.wanted.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """`about` as text, for the header of the file."""
        return {name: json.dumps(value) for name, value in self.about.items()}

    def read(self, tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> Iterator[tuple[str, np.ndarray]]:
        """Names and values in the order of `specs`."""
        for part in self.parts:
            for name, array in part.plan.read(Renamed(tensors, part.names)):
                yield part.prefix + name, array

    def table(self) -> list[tuple[str, str, str]]:
        """Lines `source, target, remark`."""
        lines = []
        for part in self.parts:
            for source, target, remark in part.plan.table():
                lines.append((part.names.get(source, source), part.prefix + target, remark))
        return lines


class Renamed(Mapping[str, np.ndarray]):
    """Tensors under other names, read when they are asked for."""

    def __init__(self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "..."]:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def plan_training(
    archive: Archive, generator: Plan, generator_names: Sequence[str], *, decay: float | None
) -> TrainingImport:
    """How discriminators and optimisers in `archive`, a `do_` file, become ours.

    **Arguments:** `generator`, the plan by which its generator was imported; `generator_names`, the names of the
    generator's parameters in its own file, in the order they have there, which is the order that torch numbers them in;
    `decay`, the factor of the learning rates after each epoch, where it is known.

    **Raises:** `CheckpointError` if networks and optimisers do not belong together.
    """
    where = archive.source.path.name
    specs = {name: Spec(info.shape, info.dtype) for name, info in archive.tensors.infos().items()}
    inside = {name: _without_module(name) for name in specs if name.startswith(("mpd.", "msd."))}
    shapes = {short: specs[name].shape for name, short in inside.items()}
    config, assumed = recognise_discriminators(shapes)
    wanted = {f"mpd.{name}": Spec(shape, FLOAT) for name, shape in period_shapes(config).items()}
    wanted |= {f"msd.{name}": Spec(shape, FLOAT) for name, shape in scale_shapes(config).items()}
    networks = make_plan(
        {short: specs[name] for name, short in inside.items()}, wanted, DISCRIMINATOR_RULES, where=where
    )
    originals = {short: name for name, short in inside.items()}
    parts = [_Part(networks, "", originals)]
    # torch chains the scale discriminators' parameters before the period discriminators'.
    ours = {
        "generator": (generator_names, GENERATOR_RULES, generator.wanted),
        "discriminators": (
            [n for stack in ("msd.", "mpd.") for n in originals if n.startswith(stack) and not _is_buffer(n)],
            DISCRIMINATOR_RULES,
            {name: spec for name, spec in wanted.items() if not _is_buffer(name)},
        ),
    }
    about: dict[str, Any] = {name: _number(archive.metadata, name, where) for name in ("steps", "epoch")}
    about["decay"] = _DECAY if decay is None else decay
    if decay is None:
        assumed += (f"learning rates times {_DECAY} after each epoch: the release's (no config.json)",)
    used = set(inside)
    for name, (parameters, rules, targets) in ours.items():
        place = _OPTIMIZERS[name]
        numbers, settings = _group(archive, place, len(parameters), where)
        steps = {_steps(archive, place, number, where) for number in numbers}
        used |= {f"{place}.state.{number}.step" for number in numbers}
        if len(steps) != 1:
            raise CheckpointError(f"{place} in {where} counts {sorted(steps)} updates; only one count is supported.")
        about[name] = {**settings, "updates": steps.pop()}
        for moment in MOMENTS:
            names = {new: f"{place}.state.{number}.{moment}" for new, number in zip(parameters, numbers, strict=True)}
            used |= set(names.values())
            parts.append(_moments(names, specs, targets, rules, f"{name}.{moment}.", where))
    strange = [name for name in specs if name not in used]
    if strange:
        raise CheckpointError(
            f"{where} holds tensors that no do_ file has: {', '.join(strange[:5])}; leave it away with "
            "--no-training, or give the right one with --training."
        )
    return TrainingImport(config, about, assumed, tuple(parts))


def _without_module(name: str) -> str:
    return re.sub(r"^(m[ps]d)\.module\.", r"\1.", name)


def _is_buffer(name: str) -> bool:
    return name.startswith("msd.") and is_vector(name.removeprefix("msd."))


def _moments(
    names: Mapping[str, str],
    specs: Mapping[str, Spec],
    targets: Mapping[str, Spec],
    rules: Sequence[Rule],
    prefix: str,
    where: str,
) -> _Part:
    """One kind of moments, by the rules of the parameters that they belong to."""
    lost = [name for name in names.values() if name not in specs]
    if lost:
        raise CheckpointError(
            f"{where} lacks {', '.join(lost[:3])} and {len(lost)} moments in all: it was cut or edited."
        )
    plan = make_plan({new: specs[old] for new, old in names.items()}, targets, _parameters_only(rules), where=where)
    if any(row.does != "keep" for row in plan.rows):
        raise CheckpointError(
            f"the norms of the generator were removed, so that the moments in {where} are of other parameters; import "
            "the generator as it was trained, or use --no-training."
        )
    return _Part(plan, prefix, names)


def _parameters_only(rules: Sequence[Rule]) -> list[Rule]:
    """`rules`, with the kernel under spectral norm alone: its vectors have no moments."""
    found = []
    for rule in rules:
        if rule.norm == "spectral":
            found.append(Rule(f"{rule.source}.weight_orig", f"{rule.target}.weight_orig"))
            found.append(Rule(f"{rule.source}.parametrizations.weight.original", f"{rule.target}.weight_orig"))
        else:
            found.append(rule)
    return found


def _group(archive: Archive, place: str, count: int, where: str) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the parameters in their order, and the settings, of an optimiser."""
    try:
        groups = archive.metadata[place]["param_groups"]
        numbers = [number for group in groups for number in group["params"]]
        settings = {name: groups[0][name] for name in _SETTINGS if name in groups[0]}
    except (KeyError, TypeError, IndexError) as failure:
        raise CheckpointError(f"{where} has no {place} with param_groups, as do_ files have.") from failure
    if len(numbers) != count:
        raise CheckpointError(
            f"{place} in {where} trains {len(numbers)} parameters, but its network has {count}: they do not "
            "belong together."
        )
    for name, value in settings.items():
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(part, int | float) for part in parts):
            raise CheckpointError(f"{place}.{name} in {where} is {value!r}, not a number.")
    return numbers, settings


def _steps(archive: Archive, place: str, number: int, where: str) -> int:
    """Updates made: a tensor in newer files, a number in older ones."""
    name = f"{place}.state.{number}.step"
    if name in archive.tensors:
        return int(archive.tensors[name])
    states = archive.metadata[place].get("state", {})
    state = states.get(number, states.get(str(number)))
    if not isinstance(state, Mapping) or not isinstance(state.get("step"), int | float):
        raise CheckpointError(f"{where} does not tell how many updates {place} made ({name} is missing).")
    return int(state["step"])


def _number(table: Mapping[str, Any], name: str, where: str) -> int:
    if not isinstance(table.get(name), int):
        raise CheckpointError(f"{where} does not tell {name!r}, as do_ files do; it is another kind of file.")
    return table[name]
