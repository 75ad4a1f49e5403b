"""The description of a weight file as JSON values."""

import math
from collections.abc import Mapping
from typing import Any

from jaxvoice.inspection.description import FileDescription, ModuleDescription
from jaxvoice.inspection.reports import statistics
from jaxvoice.torchscript.layers import Layer
from jaxvoice.torchscript.symbolic_values import MAX_BITS, Call, Computed, NormedWeight, PaddedInput, Ref, Stored
from jaxvoice.weights.archive import Archive, TensorInfo


def file_values(description: FileDescription) -> dict[str, Any]:
    """The source, totals, modules, tensors and metadata of a file as JSON values."""
    archive = description.archive
    infos = archive.tensors.infos()
    return {
        "source": {
            "path": str(archive.source.path),
            "format": archive.source.format,
            "details": dict(archive.source.details),
        },
        "totals": {
            "tensors": len(infos),
            "parameters": description.root.parameters,
            "other_numbers": description.other_elements,
            "bytes": sum(info.nbytes for info in infos.values()),
            "dtypes": dict(description.dtypes),
            "norms": dict(description.norms),
        },
        **({"problem": description.problem} if description.problem else {}),
        "modules": [_module(module) for module in description.root.walk()],
        "tensors": [tensor_values(name, info) for name, info in infos.items()],
        "metadata": to_json(archive.metadata),
    }


def tensor_values(name: str, info: TensorInfo) -> dict[str, Any]:
    """The name, shape, dtype, kind and storage of a tensor as JSON values."""
    fields = {"shape": list(info.shape), "dtype": str(info.dtype), "kind": info.kind, "storage": info.storage}
    return {"name": name, **fields}


def tensors_with_statistics(archive: Archive, names: list[str]) -> list[dict[str, Any]]:
    """`tensor_values` of `names`, with minimum, maximum, mean and standard deviation."""
    found = []
    for name in names:
        numbers = statistics(archive.tensors[name])
        values = to_json(numbers._asdict()) if numbers else {}
        found.append({**tensor_values(name, archive.tensors.info(name)), **values})
    return found


def _module(module: ModuleDescription) -> dict[str, Any]:
    values: dict[str, Any] = {"name": module.path, "class": module.class_name, "parameters": module.parameters}
    if module.norm:
        values["norm"] = module.norm
    if module.shares:
        values["shares"] = dict(module.shares)
    if module.layer is None:
        return {**values, "attributes": to_json(module.attributes)}
    return {**values, **layer_values(module.layer)}


def layer_values(layer: Layer) -> dict[str, Any]:
    """The description of a module from TorchScript code as JSON values."""
    return {
        "kind": layer.kind,
        "settings": to_json(layer.settings),
        "computed": list(layer.computed),
        "conflicts": list(layer.conflicts),
        "attributes": to_json(layer.attributes),
        "norm": layer.norm,
        "used": layer.used,
        "calls": {name: [_call(call) for call in calls] for name, calls in layer.methods.items()},
    }


def _call(call: Call) -> dict[str, Any]:
    values: dict[str, Any] = {call.kind: call.name}
    if call.method:
        values["method"] = call.method
    if call.arguments:
        values["arguments"] = {name: to_json(value) for name, value in call.arguments.items()}
    if call.within:
        values["within"] = list(call.within)
    return values


def to_json(value: Any) -> Any:
    """`value` as a JSON value. Non-finite numbers and values that JSON does not support become text."""
    match value:
        case bool() | str() | None:
            return value
        case int():
            return value if value.bit_length() <= MAX_BITS else f"a number of {value.bit_length():,} bits"
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): to_json(below) for key, below in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(item) for item in value]
        case Computed(text=text):
            return {"computed": text}
        case Ref(path=path):
            return {"of": path}
        case Stored(path=path, value=kept):
            return {"kept": path, "value": to_json(kept)}
        case NormedWeight(norm=norm, of=of, dim=dim):
            return {"norm": norm, "of": of, "dim": dim}
        case PaddedInput(amounts=amounts, mode=mode):
            return {"padded": list(amounts), "mode": mode}
    name = getattr(value, "class_name", None) or getattr(value, "name", None)
    return str(name) if name else str(value)
