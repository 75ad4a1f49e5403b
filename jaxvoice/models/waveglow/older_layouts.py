"""Layers of older checkpoints of WaveGlow, which later releases joined to one.

NVIDIA/DeepLearningExamples has one convolution of the condition for each layer, `WN.0.cond_layers.3`, instead of one
for all layers. The first release had separate convolutions for the residual connection, `WN.0.res_layers.3`, and the
output, `WN.0.skip_layers.3`. In both cases, the rows of the joined kernel are those of its parts. An import joins
them as `WN.0.cond_layers` and `WN.0.res_layers+skip_layers.3`. An export to these names divides them again.

Source: NVIDIA/waveglow `convert_model.py`; NVIDIA/DeepLearningExamples `waveglow/model.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from jaxvoice.weights.archive import TensorInfo, Tensors
from jaxvoice.weights.rules import Plan, Spec, TensorMapping

JOINED_CONDITION, JOINED_RESIDUAL = "cond_layers", "res_layers+skip_layers"
"""The names of joined layers in a coupling network; layers of the second kind have a number after the name."""

_CONDITION = re.compile(r"(.*\bWN\.[0-9]{1,3}\.cond_layers)\.([0-9]{1,3})\.(.+)", re.DOTALL)
_RESIDUAL = re.compile(r"(.*\bWN\.[0-9]{1,3})\.(res|skip)_layers\.([0-9]{1,3}\..+)", re.DOTALL)


def joined_tensors(tensors: Tensors) -> Tensors:
    """`tensors` with the parts of layers joined. Parts that do not match each other stay separate."""
    infos = tensors.infos()
    found = {name: parts for name, parts in _joined(infos).items() if name not in infos and _match(infos, parts)}
    name_of = {part: name for name, parts in found.items() for part in parts}
    joined: dict[str, TensorInfo] = {}
    for part, info in infos.items():
        name = name_of.get(part, part)
        if name not in joined:
            rows = sum(infos[one].shape[0] for one in found[name]) if name in found else 0
            joined[name] = replace(info, shape=(rows, *info.shape[1:])) if name in found else info

    def read(name: str) -> Shaped[np.ndarray, "..."]:
        return np.concatenate([tensors[part] for part in found[name]]) if name in found else tensors[name]

    return Tensors(joined, read) if found else tensors


def _joined(names: Iterable[str]) -> dict[str, list[str]]:
    """The name of each joined tensor, and the names of its parts in order."""
    numbered: dict[str, dict[int, str]] = {}
    for name in names:
        if found := _CONDITION.fullmatch(name):
            numbered.setdefault(f"{found[1]}.{found[3]}", {})[int(found[2])] = name
        elif found := _RESIDUAL.fullmatch(name):
            joined = f"{found[1]}.{JOINED_RESIDUAL}.{found[3]}"
            numbered.setdefault(joined, {})[("res", "skip").index(found[2])] = name
    # The last layer has an output only, and stays as it is.
    complete = {name: parts for name, parts in numbered.items() if sorted(parts) == list(range(len(parts)))}
    return {name: [parts[i] for i in range(len(parts))] for name, parts in complete.items()}


def _match(infos: Mapping[str, TensorInfo], parts: list[str]) -> bool:
    first = infos[parts[0]]
    return all(
        infos[part].shape and infos[part].shape[1:] == first.shape[1:] and infos[part].dtype == first.dtype
        for part in parts
    )


@dataclass(frozen=True, kw_only=True)
class _DividedMapping(TensorMapping):
    """The conversion `whole`, whose targets are divided into parts with equally many rows."""

    whole: TensorMapping
    parts: tuple[int, ...]
    """The number of parts of each target of `whole`."""

    def apply(self, arrays: list[Shaped[np.ndarray, "..."]]) -> list[Shaped[np.ndarray, "..."]]:
        wholes = zip(self.whole.apply(arrays), self.parts, strict=True)
        return [part for array, count in wholes for part in np.split(array, count)]


def divided(plan: Plan, layers: int) -> Plan:
    """`plan` of an export, with joined layers divided into their parts; coupling networks have `layers` layers."""
    parts = {name: _parts_of(name, layers) for name in plan.wanted}
    if all(len(names) == 1 for names in parts.values()):
        return plan
    wanted = {
        part: Spec((spec.shape[0] // len(parts[name]), *spec.shape[1:]), spec.dtype)
        for name, spec in plan.wanted.items()
        for part in parts[name]
    }
    rows = []
    for row in plan.rows:
        counts = tuple(len(parts[target]) for target in row.targets)
        targets = tuple(part for target in row.targets for part in parts[target])
        dtypes = tuple(wanted[target].dtype for target in targets)
        divides = max(counts) > 1
        rows.append(
            _DividedMapping(
                row.sources, targets, row.conversion, row.layout, dtypes, row.remark, whole=row, parts=counts
            )
            if divides
            else row
        )
    return replace(plan, rows=tuple(rows), wanted=wanted)


def _parts_of(name: str, layers: int) -> list[str]:
    """The names of the parts of the tensor `name`; `[name]` if it is not a joined tensor."""
    before, condition, after = name.partition(f".{JOINED_CONDITION}.")
    if condition:
        return [f"{before}{condition}{i}.{after}" for i in range(layers)]
    before, residual, after = name.partition(f".{JOINED_RESIDUAL}.")
    return [f"{before}.{layer}.{after}" for layer in JOINED_RESIDUAL.split("+")] if residual else [name]
