"""The module tree as rows of text. Repeated blocks are shown once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvoice.console import printable
from jaxvoice.inspection.description import ModuleDescription, fingerprint, main_weight
from jaxvoice.inspection.layer_text import call_text, layer_text, value_text
from jaxvoice.torchscript.layers import Layer
from jaxvoice.torchscript.symbolic_values import is_plain
from jaxvoice.weights.archive import TensorInfo

_CONTAINERS = ("ModuleList", "ModuleDict", "Sequential")
# Tensors of torch's layers whose shapes follow from the shape of the weight.
_IMPLIED = ("bias", "weight_g", "weight_u", "running_mean", "running_var", "num_batches_tracked")
_RAGGED = 12


@dataclass(frozen=True)
class TreeRow:
    """One row of the tree."""

    name: str
    """Name, relative to the parent row."""
    depth: int
    """Depth in the tree."""
    layer: str
    """Class, hyper-parameters, norm and notes."""
    tensors: str
    """Shapes of tensors."""
    parameters: str
    """Number of parameters, as text."""


def tree_rows(root: ModuleDescription, *, depth: int | None = None, dtype: np.dtype | None = None) -> list[TreeRow]:
    """The rows of the tree of `root`, up to `depth` levels (at least 1). Dtypes other than `dtype` are shown."""
    result: list[TreeRow] = []
    if root.tensors or root.class_name:
        result.append(_row([root], root.path or "(top)", 0, dtype, cut=False))
    _below(root, len(result), depth, dtype, result)
    return result


def limited_rows(root: ModuleDescription, most: int, dtype: np.dtype | None) -> tuple[list[TreeRow], int | None]:
    """The rows of the greatest depth with at most `most` rows, and this depth; `None` if all rows are returned."""
    every = tree_rows(root, dtype=dtype)
    if len(every) <= most:
        return every, None
    for depth in range(max(row.depth for row in every), 1, -1):
        some = tree_rows(root, depth=depth, dtype=dtype)
        if len(some) <= most:
            return some, depth
    return tree_rows(root, depth=1, dtype=dtype), 1


def _below(
    module: ModuleDescription, level: int, depth: int | None, dtype: np.dtype | None, result: list[TreeRow]
) -> None:
    for names, members in _groups(module):
        member, name = members[0], names
        # A module with a single child shares its row.
        while not member.tensors and member.class_name in (None, *_containers(member)) and len(members) == 1:
            inner = _groups(member)
            if len(inner) != 1 or _attributes(member):
                break
            name, members = f"{name}.{inner[0][0]}", inner[0][1]
            member = members[0]
        cut = depth is not None and depth <= 1 and bool(member.children)
        result.append(_row(members, name, level, dtype, cut=cut))
        if not cut and not _ragged(members):
            _below(member, level + 1, None if depth is None else depth - 1, dtype, result)


def _attributes(module: ModuleDescription) -> dict[str, Any]:
    """Plain attributes of a module, without those of every module."""
    return {name: v for name, v in module.attributes.items() if is_plain(v) and name != "training" and name[:1] != "_"}


def _containers(module: ModuleDescription) -> tuple[str, ...]:
    name = module.class_name or ""
    return (name,) if name.rpartition(".")[2] in _CONTAINERS and not (module.layer and module.layer.methods) else ()


def _groups(module: ModuleDescription) -> list[tuple[str, list[ModuleDescription]]]:
    """The children of each row. Consecutive numbered children with equal descriptions share a row."""
    numbered = [child for name, child in module.children.items() if name.isdecimal()]
    if len(numbered) > _RAGGED and len(numbered) == len(module.children) and _only_differ_in_shape(numbered):
        return [(_range(numbered), numbered)]
    groups: list[tuple[str, list[ModuleDescription]]] = []
    for name, child in module.children.items():
        if groups and name.isdecimal() and _is_next(groups[-1][1], name) and _share_row(groups[-1][1], child):
            groups[-1][1].append(child)
        else:
            groups.append((name, [child]))
    return [(_range(members) if len(members) > 1 else name, members) for name, members in groups]


def _range(members: Sequence[ModuleDescription]) -> str:
    first, last = (member.path.rpartition(".")[2] for member in (members[0], members[-1]))
    return f"{first}-{last}"


def _is_next(members: Sequence[ModuleDescription], name: str) -> bool:
    before = members[-1].path.rpartition(".")[2]
    return before.isdecimal() and len(name) < 9 and len(before) < 9 and int(name) == int(before) + 1


def _share_row(members: Sequence[ModuleDescription], child: ModuleDescription) -> bool:
    """Whether the description of `child` equals that of `members`, or differs in few settings of a few layers."""
    if fingerprint(members[-1]) == fingerprint(child) and not _varied(members):
        return True
    if len(members) > 1 and not _varied(members):
        return False
    return len(members) < 6 and bool(_varied([*members, child]))


def _varied(members: Sequence[ModuleDescription]) -> dict[str, list[Any]]:
    """The settings in which otherwise equal layers differ; empty if the layers are equal, or differ in other ways."""
    layers = [member.layer for member in members]
    if len(members) < 2 or any(layer is None or member.children for layer, member in zip(layers, members, strict=True)):
        return {}
    described: list[Layer] = [layer for layer in layers if layer is not None]
    first = described[0]
    for layer, member in zip(described, members, strict=True):
        same = (layer.kind, layer.class_name, tuple(layer.settings), layer.computed, layer.conflicts, layer.norm)
        if same != (first.kind, first.class_name, tuple(first.settings), first.computed, first.conflicts, first.norm):
            return {}
        if (layer.used, repr(layer.attributes)) != (first.used, repr(first.attributes)) or member.shares:
            return {}
        if not layer.class_name.startswith("torch.nn.") or list(layer.methods) != list(first.methods):
            return {}
        if {n: (i.shape, i.dtype, i.kind) for n, i in member.tensors.items()} != {
            n: (i.shape, i.dtype, i.kind) for n, i in members[0].tensors.items()
        }:
            return {}
    differing = {
        name: [layer.settings[name] for layer in described]
        for name in first.settings
        if any(layer.settings[name] != first.settings[name] for layer in described)
    }
    return differing if len(differing) <= 3 else {}


def _only_differ_in_shape(members: Sequence[ModuleDescription]) -> bool:
    """Whether the modules have tensors with equal names and different shapes, such as the state of an optimiser."""
    if any(member.children or member.class_name or not member.tensors for member in members):
        return False
    return len({tuple(member.tensors) for member in members}) == 1 and "weight" not in members[0].tensors


def _ragged(members: Sequence[ModuleDescription]) -> bool:
    return len({fingerprint(member) for member in members}) > 1 and not _varied(members)


def _row(members: Sequence[ModuleDescription], name: str, level: int, dtype: np.dtype | None, cut: bool) -> TreeRow:
    module = members[0]
    notes = [_layer(members)]
    norm = module.norm or (module.layer.norm if module.layer else "")
    notes.append(norm)
    if module.layer and not module.layer.used:
        notes.append("never called")
    if module.layer:
        notes += [f"! {conflict}" for conflict in module.layer.conflicts]
    if cut:
        below = sum(1 for child in module.walk()) - 1
        notes.append(f"({below} submodules)")
    layer = ", ".join(printable(note) for note in notes if note)
    if _ragged(members):
        names = ", ".join(printable(leaf) for leaf in module.tensors)
        count = sum(member.parameters for member in members)
        return TreeRow(printable(name), level, f"{len(members)} entries of different shapes", names, f"{count:,}")
    count = f"{module.parameters:,}" if module.parameters else ""
    times = f"{len(members)} x " if len(members) > 1 and count else ""
    return TreeRow(printable(name), level, layer, _tensors(members, dtype), times + count)


def _layer(members: Sequence[ModuleDescription]) -> str:
    module = members[0]
    if module.layer is None:
        named = module.class_name.rpartition(".")[2] if module.class_name else ""
        shown = [f"{name}={value_text(value)}" for name, value in _attributes(module).items() if module.class_name]
        return named + (f"({', '.join(shown)})" if shown else "")
    text = layer_text(module.layer, _varied(members))
    # Show the operators that a custom class calls. torch's classes are known by their names.
    if not module.layer.class_name.startswith("torch.nn."):
        calls_text = [call_text(call) for calls in module.layer.methods.values() for call in calls]
        calls_text = list(dict.fromkeys(one for one in calls_text if one))
        if calls_text:
            text += ": " + ", ".join(calls_text)
    return text


def _tensors(members: Sequence[ModuleDescription], dtype: np.dtype | None) -> str:
    module = members[0]
    main = main_weight(module)
    known = module.layer is not None and module.layer.class_name.startswith("torch.nn.")
    texts = []
    for name, info in module.tensors.items():
        if name == main:
            texts.insert(0, shape_text(info.shape) + _type(info, dtype))
        elif not (main and _implied(name, info, module, known)):
            texts.append(f"{printable(name)} {shape_text(info.shape)}{_type(info, dtype)}")
    if known and module.layer and module.layer.kind in ("LSTM", "GRU", "RNN") and len(texts) > 2:
        texts = [*texts[:2], f"{len(texts)} in all"]
    others = [printable(other) for name, other in module.shares.items() if name == main or not main]
    return ", ".join(texts + [f"is {other}" for other in others])


def _implied(name: str, info: TensorInfo, module: ModuleDescription, known: bool) -> bool:
    """Whether the shape of a tensor follows from the weight, the class and the norm."""
    weight = main_weight(module)
    like = weight is not None and info.dtype in (module.tensors[weight].dtype, np.dtype(np.int64))
    kept = name in ("weight_g", "weight_v", "weight_u") or name.startswith("parametrizations.weight.")
    return like and ((known and name in _IMPLIED) or (bool(module.norm) and kept))


def shape_text(shape: Sequence[int]) -> str:
    """The shape as text, for example `512x80x7`; `scalar` for a scalar."""
    return "x".join(map(str, shape)) if shape else "scalar"


def _type(info: TensorInfo, dtype: np.dtype | None) -> str:
    return "" if info.dtype == dtype else f" {info.dtype}"
