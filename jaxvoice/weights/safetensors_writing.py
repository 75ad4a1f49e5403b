"""Writing of safetensors files. Only one tensor is in memory at a time."""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.atomic_write import atomic_write

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_safetensors(
    path: Path,
    specs: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    tensors: Iterable[tuple[str, Shaped[np.ndarray, "..."]]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors`, in the order of `specs` (shape and dtype by name), to `path` atomically.

    **Raises:** `CheckpointError` for a dtype or a name that the format does not support, or if `path` cannot be
    written; `ValueError` if a tensor does not match `specs`.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (shape, dtype) in specs.items():
        if not _is_text(name):
            raise CheckpointError(f"{name!a} cannot be a name in a safetensors file; rename the tensor.")
        if dtype.name not in _NAMES:
            raise CheckpointError(f"{name} has dtype {dtype.name}, which safetensors files do not support; cast it.")
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype.name], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, (shape, dtype)), (given, array) in zip(specs.items(), tensors, strict=True):
            if (given, array.shape, array.dtype) != (name, tuple(shape), dtype):
                raise ValueError(f"expected {name} {shape} {dtype}, got {given} {array.shape} {array.dtype}")
            little = dtype.newbyteorder("<") if dtype.kind in "iufc" else dtype
            file.write(np.ascontiguousarray(array, little).reshape(-1).view(np.uint8).data)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)
