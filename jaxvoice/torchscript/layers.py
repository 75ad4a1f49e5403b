"""The layers of a TorchScript archive, read from its code: kinds, hyper-parameters and calls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.torchscript.code import Code, original_name, parse_code
from jaxvoice.torchscript.compound_layers import FUSED, attention_settings, weight_paths
from jaxvoice.torchscript.layer_inference import TensorShapes, from_shapes, infer
from jaxvoice.torchscript.symbolic_interpreter import SymbolicInterpreter
from jaxvoice.torchscript.symbolic_values import Call, NormedWeight, Ref, is_plain

_ALIASES = {"NonDynamicallyQuantizableLinear": "Linear"}
_NOT_ATTRIBUTES = {"training", "_is_full_backward_hook"}
_NOT_SETTINGS = {"inplace", "sparse", "scale_grad_by_freq", "norm_type", "max_norm", "init", "transposed", "name"}


@dataclass(frozen=True)
class Layer:
    """A module of a TorchScript archive, described from its code and the shapes of its tensors."""

    path: str
    """Dotted name; `""` for the top module."""
    class_name: str
    """The original Python class, for example `torch.nn.modules.conv.Conv1d`."""
    kind: str
    """`Conv1d`, `LSTM`, ...: the last part of the class name. For a class outside torch: the layer of torch that it
    computes, or the last part of its name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters under the names of torch's attributes, as far as code, shapes or attributes contain them."""
    computed: tuple[str, ...] = ()
    """Hyper-parameters that the program computes, or that differ between calls."""
    conflicts: tuple[str, ...] = ()
    """Hyper-parameters whose values in the attribute and in the call differ. `settings` contains the call's value."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Other plain attributes and constants of the module in the archive."""
    norm: str = ""
    """`weight norm` or `spectral norm`, with the axis, if the weight is computed by a norm."""
    methods: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    """The calls of each method in order; in a trace, `forward1` is the second call of the module."""
    used: bool = True
    """Whether any method calls the module or uses its weight."""


def read_layers(archive: Any, code: Code | None = None) -> dict[str, Layer]:
    """Read every module of a `TorchScriptArchive`, by dotted name, without executing code of the archive.

    **Arguments:** `code`: the parsed code of the archive, if it is available.

    **Raises:** `CheckpointError` for invalid code.
    """
    code = parse_code(archive.code) if code is None else code
    symbolic = SymbolicInterpreter(code, archive.content, plain_constants(archive))
    symbolic.run()
    shapes = {name: info.shape for name, info in archive.tensors.infos().items()}
    own, used = _calls_by_owner(symbolic)
    for path in [*used, *symbolic.called]:
        while path:  # parents of a used module are used
            used.add(path)
            path = path.rpartition(".")[0]
    return {
        path: _layer(symbolic, path, own.get(path, []), shapes, path in used or not path) for path in symbolic.records
    }


def plain_constants(archive: Any) -> list[Any]:
    """The archive's constants. Scalar tensors are converted to numbers; other tensors are replaced by `None`."""
    values = []
    for constant in archive.constants:
        shape = getattr(constant, "shape", None)
        if shape is not None and math.prod(shape) == 1 and len(shape) == 0:
            constant = archive.read(constant).item()
        values.append(constant if is_plain(constant) else None)
    return values


def _calls_by_owner(symbolic: SymbolicInterpreter) -> tuple[dict[str, list[Call]], set[str]]:
    """Operator calls by module: the module whose weight they use, otherwise the module that calls them."""
    own: dict[str, list[Call]] = {}
    used: set[str] = set()
    for (path, _), variants in symbolic.calls.items():
        for call in (call for calls in variants for call in calls if call.kind == "operator"):
            # A module whose tensor is used is used.
            owners = {weight.rpartition(".")[0] for weight in weight_paths(call)} & set(symbolic.records)
            used |= owners - {path}
            if call.name in FUSED:  # the fused operator replaces a layer and its submodules
                for below in owners - {path}:
                    own.setdefault(below, []).append(call)
            weight = call.arguments.get("weight")
            owner = path
            if isinstance(weight, Ref):
                owner = weight.path.rpartition(".")[0]
            elif isinstance(weight, NormedWeight):
                owner = weight.of
            if owner != path and owner in symbolic.records:
                used.add(owner)
            own.setdefault(owner, []).append(call)
    return own, used


def _layer(symbolic: SymbolicInterpreter, path: str, calls: list[Call], shapes: TensorShapes, used: bool) -> Layer:
    record = symbolic.records[path]
    owner = symbolic.class_of(record)
    assert owner is not None
    class_name = original_name(owner.name)
    kind = class_name.rpartition(".")[2]
    kind = _ALIASES.get(kind, kind).removeprefix("Parametrized")
    is_torch_class = class_name.startswith("torch.nn.")
    found: list[dict[str, Any]] = []
    norm = ""
    for call in calls:
        inferred = infer(call, shapes, path)
        # A class outside torch is a layer of torch only if it uses its own weight as that layer does.
        if inferred is None or (kind not in inferred.kinds if is_torch_class else not inferred.weighted):
            continue
        kind = kind if is_torch_class else inferred.kinds[0]
        found.append(inferred.settings)
        norm = _norm(call) or norm
    settings, computed = _merge(found)
    methods = {name: tuple(variants[0]) for (of, name), variants in symbolic.calls.items() if of == path}
    attributes = {
        name: value for name, value in record.state.items() if is_plain(value) and name not in _NOT_ATTRIBUTES
    }
    attributes = {name: value for name, value in attributes.items() if not (value is None and owner.fields.get(name))}
    conflicts: tuple[str, ...] = ()
    if is_torch_class:
        stored = {**attributes, **owner.constants}
        attributes = {}
        if not kind.startswith("ConvTranspose"):
            stored.pop("output_padding", None)
        if stored.get("mode") == kind:
            stored.pop("mode")
        variants = [variant for (of, _), variants in symbolic.calls.items() if of == path for variant in variants]
        attention = attention_settings(kind, path, calls, variants, shapes)
        conflicts = _fill(settings, stored, computed)
        conflicts += _fill(attention, {name: stored[name] for name in attention if name in stored}, ())
        computed = tuple(name for name in computed if name not in settings)
        settings = {**from_shapes(kind, path, settings, shapes), **settings, **attention}
    else:
        attributes.update(owner.constants)
    return Layer(path, class_name, kind, settings, computed, conflicts, attributes, norm, methods, used)


def _merge(found: list[dict[str, Any]]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings with equal values in all calls, and the names of those that are computed or differ."""
    settings: dict[str, Any] = {}
    computed: list[str] = []
    for one in found:
        for name, value in one.items():
            if not is_plain(value) or (name in settings and settings[name] != value):
                computed.append(name)
            else:
                settings[name] = value
    return {name: value for name, value in settings.items() if name not in computed}, tuple(dict.fromkeys(computed))


def _fill(settings: dict[str, Any], constants: Mapping[str, Any], computed: tuple[str, ...]) -> tuple[str, ...]:
    conflicts = []
    for name, value in constants.items():
        if name in _NOT_SETTINGS or name.startswith("_"):
            continue
        if name in computed and name != "scale_factor":  # torch computes scale_factor for every axis
            conflicts.append(f"{name} is computed in the call, {value} in the attribute")
        if name not in settings:
            settings[name] = value
        elif not _same(settings[name], value) and not (name == "padding" and isinstance(value, str)):
            conflicts.append(f"{name} is {settings[name]} in the call, {value} in the attribute")
    return tuple(conflicts)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        a = list(a) if isinstance(a, (list, tuple)) else [a] * len(b)
        b = list(b) if isinstance(b, (list, tuple)) else [b] * len(a)
    return a == b


def _norm(call: Call) -> str:
    weight = call.arguments.get("weight")
    if isinstance(weight, NormedWeight):
        return weight.norm + (f", dim {weight.dim}" if weight.dim else "")
    return ""
