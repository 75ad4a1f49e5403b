"""Discriminators and optimisers out of the `do_` files that jik876/hifi-gan writes beside its generators."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.adam_settings import adam_settings, count
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifigan.sizes import recognise_discriminators
from jaxvoice.models.hifigan.tensor_names import is_vector, period_shapes, scale_shapes
from jaxvoice.models.hifigan.weights import DISCRIMINATOR_RULES, GENERATOR_RULES
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Change, Plan, Rule, Spec, make_plan

TRAINING_FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
FLOAT = np.dtype(np.float32)
_DECAY = 0.999  # jik876/hifi-gan config_v1.json: lr_decay
_OPTIMIZERS = {"generator": "optim_g", "discriminators": "optim_d"}


@dataclass(frozen=True)
class _Part:
    """Tensors of the file that become tensors of ours under a common prefix."""

    plan: Plan
    prefix: str
    names: Mapping[str, str]
    """What the file calls the tensors that the plan calls so."""
    squares: bool = False
    """Whether no number may be below 0."""


@dataclass(frozen=True)
class TrainingImport:
    """What is going to be written into `training.safetensors`."""

    discriminators: DiscriminatorConfig
    """Sizes of the discriminators."""
    about: Mapping[str, Any]
    """Steps, epochs, and each optimiser's settings and updates."""
    assumed: tuple[str, ...]
    """What the tensors do not determine."""
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
            sources = {change.target: change.sources for change in part.plan.table()}
            for name, array in part.plan.read(Renamed(tensors, part.names), part.names):
                below = int(np.count_nonzero(array < 0)) if part.squares else 0
                if below:
                    raise CheckpointError(
                        f"{part.names[sources[name][0]]} holds {below} means of squares that are below 0, so that the "
                        "next step would be NaN; the file was damaged or edited."
                    )
                yield part.prefix + name, array

    def table(self) -> list[Change]:
        """What became what."""
        return [
            Change(tuple(part.names[source] for source in sources), part.prefix + target, remark)
            for part in self.parts
            for sources, target, remark in part.plan.table()
        ]


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
    config, assumed = recognise_discriminators(shapes, where)
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
    about: dict[str, Any] = {name: _number(archive, name, where) for name in ("steps", "epoch")}
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
            raise CheckpointError(
                f"{place} in {where} counts {format_value(sorted(steps))} updates; only one is supported."
            )
        about[name] = {**settings, "updates": steps.pop()}
        for moment in MOMENTS:
            names = {new: f"{place}.state.{number}.{moment}" for new, number in zip(parameters, numbers, strict=True)}
            used |= set(names.values())
            parts.append(_moments(names, specs, targets, rules, f"{name}.{moment}.", where))
    strange = [name for name in specs if name not in used]
    if strange:
        raise CheckpointError(
            f"{where} holds tensors that no do_ file has: {', '.join(map(format_name, strange[:5]))}; leave it "
            "away with --no-training, or give the right one with --training."
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
    given = {new: specs[old] for new, old in names.items()}
    label = f"{where}, by the parameters that the moments {prefix.rstrip('.')} belong to,"
    plan = make_plan(given, targets, _parameters_only(rules), where=label)
    if any(row.does != "keep" for row in plan.rows):
        raise CheckpointError(
            f"the norms of the generator were removed, so that the moments in {where} are of other parameters; import "
            "the generator as it was trained, or use --no-training."
        )
    return _Part(plan, prefix, names, squares=prefix.endswith("exp_avg_sq."))


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


def _group(archive: Archive, place: str, parameters: int, where: str) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the parameters in their order, and the settings, of an optimiser."""
    table = archive.metadata.get(place)
    groups = table.get("param_groups") if isinstance(table, Mapping) else None
    if not isinstance(groups, list | tuple) or not groups or not all(isinstance(one, Mapping) for one in groups):
        raise CheckpointError(f"{where} has no {place} with param_groups, as do_ files have.")
    numbers = []
    for group in groups:
        listed = group.get("params")
        if not isinstance(listed, list | tuple) or not all(type(number) is int and number >= 0 for number in listed):
            raise CheckpointError(
                f"{place} in {where} lists its parameters as {format_value(listed)}, not by their numbers."
            )
        numbers += listed
    if len(numbers) != parameters or len(set(numbers)) != parameters:
        raise CheckpointError(
            f"{place} in {where} trains {len(set(numbers))} parameters, but its network has {parameters}: they do not "
            "belong together."
        )
    settings = [adam_settings(group, f"{where}: {place}.param_groups.{i}") for i, group in enumerate(groups)]
    if any(other != settings[0] for other in settings):
        raise CheckpointError(
            f"{place} in {where} trains its parameters in {len(groups)} groups with different settings; only one "
            "setting for all is supported. Leave it away with --no-training."
        )
    return numbers, settings[0]


def _steps(archive: Archive, place: str, number: int, where: str) -> int:
    """Updates made: a tensor in newer files, a number in older ones."""
    name = f"{place}.state.{number}.step"
    if name in archive.tensors:
        return count(archive.tensors[name], f"{where}: {name}")
    states = archive.metadata[place].get("state")
    state = states.get(number, states.get(str(number))) if isinstance(states, Mapping) else None
    if not isinstance(state, Mapping) or "step" not in state:
        raise CheckpointError(f"{where} does not say how many updates {place} made ({name} is missing).")
    return count(state["step"], f"{where}: {name}")


def _number(archive: Archive, name: str, where: str) -> int:
    if name not in archive.metadata:
        raise CheckpointError(f"{where} does not contain {name!r}, as do_ files do; it is another kind of file.")
    return count(archive.metadata[name], f"{where}: {name}")
