"""Layers of a TorchScript archive, read from its code: their kind, hyper-parameters and calls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.torchscript.code import Code, original_name, parse_code
from jaxvoice.torchscript.compound_layers import FUSED, attention_settings, weights_of
from jaxvoice.torchscript.layer_inference import Shapes, from_shapes, infer
from jaxvoice.torchscript.symbolic_interpreter import SymbolicInterpreter
from jaxvoice.torchscript.symbolic_values import Call, Normed, Ref, is_plain

_SAME = {"NonDynamicallyQuantizableLinear": "Linear"}
_NOT_ATTRIBUTES = {"training", "_is_full_backward_hook"}
_NOT_SETTINGS = {"inplace", "sparse", "scale_grad_by_freq", "norm_type", "max_norm", "init", "transposed", "name"}


@dataclass(frozen=True)
class Layer:
    """A module of a TorchScript archive, described from its code and the shapes of its tensors."""

    path: str
    """Dotted name; `""` for the top module."""
    class_name: str
    """The Python class it was made from, `torch.nn.modules.conv.Conv1d` say."""
    kind: str
    """`Conv1d`, `LSTM`, ...: the class's last name, or what a class of the authors turns out to be; else that class's
    name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters under the names of torch's attributes; only what code, shapes or attributes hold."""
    computed: tuple[str, ...] = ()
    """Hyper-parameters that the program computes, or that differ from use to use."""
    conflicts: tuple[str, ...] = ()
    """Hyper-parameters whose attribute and call disagree; `settings` has the value of the call."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Other plain attributes and constants that the archive keeps for it."""
    norm: str = ""
    """`weight norm` or `spectral norm` where its weight is computed from what a norm keeps, with the axis."""
    methods: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    """For each method the calls it makes, in order; `forward1` is a trace's second use of the module."""
    used: bool = True
    """Whether any method calls it, or computes with its weight."""


def read_layers(archive: Any, code: Code | None = None) -> dict[str, Layer]:
    """Every module of a `TorchScriptArchive` by dotted name; nothing of the archive is executed.

    `code` is the parsed code where it is at hand.

    **Raises:** `CheckpointError` for code text that is refused.
    """
    code = parse_code(archive.code) if code is None else code
    symbolic = SymbolicInterpreter(code, archive.content, plain_constants(archive))
    symbolic.follow()
    shapes = {name: info.shape for name, info in archive.tensors.infos().items()}
    own, used = _by_owner(symbolic)
    for path in [*used, *symbolic.called]:
        while path:  # what holds a module that is used is used
            used.add(path)
            path = path.rpartition(".")[0]
    return {
        path: _layer(symbolic, path, own.get(path, []), shapes, path in used or not path) for path in symbolic.records
    }


def plain_constants(archive: Any) -> list[Any]:
    """The archive's constants, those that are tensors of a single number as that number; `None` for larger ones."""
    values = []
    for constant in archive.constants:
        shape = getattr(constant, "shape", None)
        if shape is not None and math.prod(shape) == 1 and len(shape) == 0:
            constant = archive.read(constant).item()
        values.append(constant if is_plain(constant) else None)
    return values


def _by_owner(symbolic: SymbolicInterpreter) -> tuple[dict[str, list[Call]], set[str]]:
    """Operator calls by the module they are of: the one whose weight they take, else the one that makes them."""
    own: dict[str, list[Call]] = {}
    used: set[str] = set()
    for (path, _), ways in symbolic.calls.items():
        for call in (call for calls in ways for call in calls if call.kind == "operator"):
            # Whoever has a tensor that is computed with is used.
            owners = {weight.rpartition(".")[0] for weight in weights_of(call)} & set(symbolic.records)
            used |= owners - {path}
            if call.name in FUSED:  # in place of a layer and those below it
                for below in owners - {path}:
                    own.setdefault(below, []).append(call)
            weight = call.arguments.get("weight")
            owner = path
            if isinstance(weight, Ref):
                owner = weight.path.rpartition(".")[0]
            elif isinstance(weight, Normed):
                owner = weight.of
            if owner != path and owner in symbolic.records:
                used.add(owner)
            own.setdefault(owner, []).append(call)
    return own, used


def _layer(symbolic: SymbolicInterpreter, path: str, calls: list[Call], shapes: Shapes, used: bool) -> Layer:
    record = symbolic.records[path]
    owner = symbolic.class_of(record)
    assert owner is not None
    class_name = original_name(owner.name)
    kind = class_name.rpartition(".")[2]
    kind = _SAME.get(kind, kind).removeprefix("Parametrized")
    of_torch = class_name.startswith("torch.nn.")
    found: list[dict[str, Any]] = []
    norm = ""
    for call in calls:
        inferred = infer(call, shapes, path)
        # A class of the authors is a layer of torch only if it computes with a weight of its own as that layer does.
        if inferred is None or (kind not in inferred.kinds if of_torch else not inferred.weighted):
            continue
        kind = kind if of_torch else inferred.kinds[0]
        found.append(inferred.settings)
        norm = _norm(call) or norm
    settings, computed = _merged(found)
    methods = {name: tuple(ways[0]) for (of, name), ways in symbolic.calls.items() if of == path}
    attributes = {
        name: value for name, value in record.state.items() if is_plain(value) and name not in _NOT_ATTRIBUTES
    }
    attributes = {name: value for name, value in attributes.items() if not (value is None and owner.fields.get(name))}
    conflicts: tuple[str, ...] = ()
    if of_torch:
        kept = {**attributes, **owner.constants}
        attributes = {}
        if not kind.startswith("ConvTranspose"):
            kept.pop("output_padding", None)
        if kept.get("mode") == kind:
            kept.pop("mode")
        ways = [way for (of, _), ways in symbolic.calls.items() if of == path for way in ways]
        inside = attention_settings(kind, path, calls, ways, shapes)
        conflicts = _fill(settings, kept, computed)
        conflicts += _fill(inside, {name: kept[name] for name in inside if name in kept}, ())
        computed = tuple(name for name in computed if name not in settings)
        settings = {**from_shapes(kind, path, settings, shapes), **settings, **inside}
    else:
        attributes.update(owner.constants)
    return Layer(path, class_name, kind, settings, computed, conflicts, attributes, norm, methods, used)


def _merged(found: list[dict[str, Any]]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What all uses agree on, and the names of what is computed or differs."""
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
        if name in computed and name != "scale_factor":  # torch computes that one for every axis
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
    if isinstance(weight, Normed):
        return weight.norm + (f", dim {weight.dim}" if weight.dim else "")
    return ""
