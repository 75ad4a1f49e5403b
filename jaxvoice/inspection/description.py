"""The description of a weight file: a tree of modules with classes, shapes, norms and hyper-parameters."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.code import original_name
from jaxvoice.torchscript.layers import Layer, read_layers
from jaxvoice.torchscript.symbolic_values import Call, NormedWeight, Ref, Stored, is_plain
from jaxvoice.weights.archive import Archive, ModuleNode, TensorInfo

_DEEPEST = 48
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class ModuleDescription:
    """The description of a module in a file, and of its descendants."""

    path: str
    """Dotted name; `""` for the root."""
    class_name: str | None = None
    """Its Python class, if the file contains the name."""
    layer: Layer | None = None
    """Its description from TorchScript code."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Its plain attributes."""
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    """Its tensors, without those of child modules, by name relative to the module."""
    shares: Mapping[str, str] = field(default_factory=dict)
    """Its tensors that are second names of an earlier tensor, with the full name of that tensor."""
    children: Mapping[str, "ModuleDescription"] = field(default_factory=dict)
    """Child modules by name."""
    own_parameters: int = 0
    """Number of elements of its parameters, without child modules and `shares`. Tensors of unknown kind are counted."""

    @property
    def norm(self) -> str:
        """`weight norm` or `spectral norm`; `""` without a norm, or if the norm is folded into the weight."""
        norms = {_norm(stem, self.tensors) for stem in _stems(self.tensors)} - {""}
        return ", ".join(sorted(norms))

    @property
    def parameters(self) -> int:
        """Number of elements of the parameters of the module and its descendants."""
        return self.own_parameters + sum(child.parameters for child in self.children.values())

    def walk(self) -> Iterator["ModuleDescription"]:
        """This module and its descendants, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()


@dataclass(frozen=True)
class FileDescription:
    """The description of a weight file."""

    archive: Archive
    """The file."""
    root: ModuleDescription
    """Its root module."""
    shares: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are second names of an earlier tensor, with the name of that tensor."""
    problem: str = ""
    """The error that prevented the analysis of its code; empty if there was none."""

    @property
    def dtypes(self) -> Counter[str]:
        """Number of tensors of each dtype."""
        return Counter(str(info.dtype) for info in self.archive.tensors.infos().values())

    @property
    def other_elements(self) -> int:
        """Number of elements of buffers and constants."""
        infos = self.archive.tensors.infos()
        return sum(info.size for name, info in infos.items() if name not in self.shares) - self.root.parameters

    @property
    def norms(self) -> Counter[str]:
        """Number of modules with each norm that is not folded into the weight."""
        return Counter(module.norm for module in self.root.walk() if module.norm)


def describe(archive: Archive) -> FileDescription:
    """Describe an archive. Values of tensors are not read.

    Errors in the code of a TorchScript archive are stored in `problem`.
    """
    layers: dict[str, Layer] = {}
    problem = ""
    if hasattr(archive, "code"):
        try:
            layers = read_layers(archive)
        except CheckpointError as failure:
            problem = str(failure)
    shares = _shared(archive)
    tree = _Tree()
    for path in layers:  # in the order of their definition
        if path.count(".") < _DEEPEST:
            tree.at(path)
    for path, module in archive.modules.walk():
        if path.count(".") < _DEEPEST:
            tree.at(path).module = module
    for name, info in archive.tensors.infos().items():
        path, _, leaf = name.rpartition(".")
        if "parametrizations" in path.split("."):
            path, _, leaf = name.partition(".parametrizations.")
            leaf = f"parametrizations.{leaf}" if leaf else name
        if path.count(".") >= _DEEPEST:
            parts = name.split(".")
            path, leaf = ".".join(parts[:_DEEPEST]), ".".join(parts[_DEEPEST:])
        tree.at(path).tensors[leaf] = info
    # If the file distinguishes parameters and buffers, all other tensors are constants.
    distinguished = hasattr(archive, "code") or any(
        info.kind == "parameter" for info in archive.tensors.infos().values()
    )
    return FileDescription(archive, tree.describe("", layers, shares, distinguished), shares, problem)


def _shared(archive: Archive) -> dict[str, str]:
    """Tensors that are second names of an earlier tensor, with the name of that tensor."""
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    shares: dict[str, str] = {}
    for name, info in archive.tensors.infos().items():
        others = alike.setdefault((info.storage, info.shape), [])
        if others and info.size:
            # Different views of a storage can have the same shape, so addresses are compared.
            here = archive.tensors[name]
            same = next((other for other in others if _address(archive.tensors[other]) == _address(here)), None)
            if same is not None:
                shares[name] = same
                continue
        others.append(name)
    return shares


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class _Tree:
    """A mutable tree of modules, from which `ModuleDescription` is built."""

    def __init__(self) -> None:
        self.module: ModuleNode | None = None
        self.tensors: dict[str, TensorInfo] = {}
        self.below: dict[str, _Tree] = {}

    def at(self, path: str) -> "_Tree":
        place = self
        for name in path.split(".") if path else ():
            place = place.below.setdefault(name, _Tree())
        return place

    def describe(
        self, path: str, layers: Mapping[str, Layer], shares: Mapping[str, str], distinguished: bool
    ) -> ModuleDescription:
        stem = f"{path}." if path else ""
        if all(name.isdecimal() and len(name) < 10 for name in self.below):
            # In files with sorted names, 10 precedes 2.
            self.below = dict(sorted(self.below.items(), key=lambda item: int(item[0])))
        children = {
            name: below.describe(stem + name, layers, shares, distinguished)
            for name, below in self.below.items()
            # Modules of parametrizations belong to the norm, and `_flat_weights` repeats the weights of a recurrent
            # layer.
            if not (name == "parametrizations" and any(leaf.startswith("parametrizations.") for leaf in self.tensors))
            and not (name == "_flat_weights" and all(f"{stem}{name}.{leaf}" in shares for leaf in below.tensors))
        }
        module = self.module or ModuleNode()
        name = original_name(module.class_name) if module.class_name else None
        mine = {leaf: shares[stem + leaf] for leaf in self.tensors if stem + leaf in shares}
        own = sum(
            info.size
            for leaf, info in self.tensors.items()
            if leaf not in mine and _is_parameter(leaf, info, distinguished)
        )
        return ModuleDescription(path, name, layers.get(path), module.attributes, self.tensors, mine, children, own)


def _is_parameter(name: str, info: TensorInfo, distinguished: bool) -> bool:
    return info.kind == "parameter" if distinguished else info.kind != "buffer" and name not in _STATISTICS


def _stems(tensors: Mapping[str, Any]) -> set[str]:
    """Names of weights with a norm, for example `weight` for `weight_g` and `weight_v`."""
    found = set()
    for name in tensors:
        match = re.fullmatch(r"(.+)_(?:v|orig)|parametrizations\.(.+)\.original[01]?", name)
        if match:
            found.add(match[1] or match[2])
    return found


def _norm(stem: str, tensors: Mapping[str, TensorInfo]) -> str:
    new = f"parametrizations.{stem}.original"
    if f"{new}0" in tensors and f"{new}1" in tensors:
        return "weight norm" + _axis(tensors[f"{new}0"])
    if f"{stem}_orig" in tensors and f"{stem}_u" in tensors:
        return "spectral norm"
    if new in tensors and any(name.startswith(f"parametrizations.{stem}.0._u") for name in tensors):
        return "spectral norm"
    if f"{stem}_g" in tensors and f"{stem}_v" in tensors:
        return "weight norm" + _axis(tensors[f"{stem}_g"])
    return ""


def _axis(gain: TensorInfo) -> str:
    axes = [i for i, size in enumerate(gain.shape) if size != 1]
    return f" (dim {axes[0]})" if axes and axes[0] else ""


def main_weight(module: ModuleDescription) -> str | None:
    """The name of the module's weight, or, with a norm, of the tensor that has the shape of the weight; else `None`."""
    names = (
        "weight",
        "weight_orig",
        "weight_v",
        "parametrizations.weight.original1",
        "parametrizations.weight.original",
    )
    return next((name for name in names if name in module.tensors), None)


def fingerprint(module: ModuleDescription, top: str | None = None) -> Any:
    """A value that is equal for two modules if their descriptions are equal except for the paths.

    **Arguments:** `top`: the path that is removed from names; by default, the path of the module.
    """
    top = module.path if top is None else top
    layer = module.layer
    described = layer and (
        layer.kind, repr(dict(layer.settings)), layer.computed, layer.conflicts, repr(dict(layer.attributes)),
        layer.norm, layer.used, tuple((name, _calls(calls, top)) for name, calls in layer.methods.items()),
    )  # fmt: skip
    tensors = tuple((name, info.shape, str(info.dtype), info.kind) for name, info in module.tensors.items())
    shares = tuple((name, _relative(other, top)) for name, other in module.shares.items())
    below = tuple((name, fingerprint(child, top)) for name, child in module.children.items())
    return module.class_name, described, repr(dict(module.attributes)), tensors, shares, below


def _calls(calls: tuple[Call, ...], top: str) -> Any:
    return tuple(
        (call.kind, _relative(call.name, top), call.method, call.within,
         tuple((name, _relative_value(value, top)) for name, value in call.arguments.items()))
        for call in calls
    )  # fmt: skip


def _relative_value(value: Any, top: str) -> str:
    if isinstance(value, Ref):
        return _relative(value.path, top)
    if isinstance(value, NormedWeight):
        return f"{value.norm} {_relative(value.of, top)} {value.dim}"
    if isinstance(value, Stored):
        return repr(value.value)
    return repr(value) if is_plain(value) else "?"


def _relative(path: str, top: str) -> str:
    return path[len(top) :] if top and (path + ".").startswith(top + ".") else f"/{path}"


def size_text(count: int) -> str:
    """A number of bytes as text, for example `55.8 MB`."""
    if count < 1000:
        return f"{count} bytes"
    exponent = min(int(math.log10(count) / 3), 4)
    return f"{count / 1000**exponent:.1f} {' kMGT'[exponent]}B"
