"""Writing of weight files: safetensors files, and files for `torch.load` without torch. All are written atomically."""

import io
import json
import os
import secrets
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError
from jaxvoice.weights.formats.torch_dtypes import STORAGES


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` on success, and deleted after an error.

    Its name is random and must be unused, so that an existing link is never followed.

    **Raises:** `CheckpointError` if the file cannot be written, or if `path` is a folder or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a folder or a device; it should be a file. Choose another name.")
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as failure:
        raise CheckpointError(
            f"{path} cannot be written ({failure.strerror or failure}); free disk space or choose another path."
        ) from failure


# safetensors

_DTYPE_NAMES = {
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
    with atomic_write(path) as file:
        _write_safetensors(file, specs, tensors, metadata)


def safetensors_bytes(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> bytes:
    """The bytes of the file that `write_safetensors` writes for `arrays`. Raises as it does."""
    file = io.BytesIO()
    _write_safetensors(file, {name: (array.shape, array.dtype) for name, array in arrays.items()}, arrays.items())
    return file.getvalue()


def _write_safetensors(
    file: BinaryIO,
    specs: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    tensors: Iterable[tuple[str, Shaped[np.ndarray, "..."]]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (shape, dtype) in specs.items():
        if not _is_unicode(name):
            raise CheckpointError(
                f"the tensor {name!a} has an invalid name; names in a safetensors file should be valid Unicode."
            )
        if dtype.name not in _DTYPE_NAMES:
            raise CheckpointError(
                f"the dtype of {name} is {dtype.name}; it should be one of {', '.join(_DTYPE_NAMES)}. Cast the tensor."
            )
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[dtype.name], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for (name, (shape, dtype)), (given, array) in zip(specs.items(), tensors, strict=True):
        if (given, array.shape, array.dtype) != (name, tuple(shape), dtype):
            raise ValueError(
                f"the tensor is {given} {array.shape} {array.dtype}; it should be {name} {tuple(shape)} {dtype}."
            )
        little = dtype.newbyteorder("<") if dtype.kind in "iufc" else dtype
        file.write(np.ascontiguousarray(array, little).reshape(-1).view(np.uint8).data)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


# torch

_STORAGES: dict[np.dtype, str] = {
    dtype: name.removeprefix("torch.") for name, dtype in STORAGES.items() if not name.startswith("torch.cuda.")
}
# torch maps storages into memory, and requires offsets that are multiples of this number.
_ALIGNMENT = 64
# For larger entries, zipfile writes 64-bit sizes in an extra field.
_LARGE, _LARGE_FIELD = zipfile.ZIP64_LIMIT / 1.05, 20


def write_torch(path: Path, content: Any, *, entries: Mapping[str, str] | None = None) -> None:
    """Write `content` atomically to a file for `torch.load`, with or without `weights_only=True`.

    Arrays become tensors. If an array occurs twice, its two tensors share memory. Equal content results in equal bytes.

    **Arguments:** `content`, nested dicts, lists and tuples of numpy arrays, text, numbers, booleans and `None`;
    `entries`, additional texts by name, which are entries of the zip file that `torch.load` ignores.

    **Raises:** `CheckpointError` for a value or a dtype that torch's format does not support, or if the file cannot be
    written.

    Format: pytorch/pytorch `torch/csrc/jit/docs/serialization.md`, `torch/serialization.py`.
    """
    with atomic_write(path) as file:
        _write_zip(file, path.name, content, entries or {})


def torch_bytes(content: Any, name: str) -> bytes:
    """The bytes of the file `name` that `write_torch` writes for `content`. Raises as it does."""
    file = io.BytesIO()
    _write_zip(file, name, content, {})
    return file.getvalue()


def _write_zip(file: BinaryIO, name: str, content: Any, entries: Mapping[str, str]) -> None:
    pickle = _PickleWriter()
    pickle.write(content)
    with zipfile.ZipFile(file, "w") as archive:
        stem = name.partition(".")[0] or "archive"
        _add_entry(archive, f"{stem}/data.pkl", pickle.buffer.getvalue())
        _add_entry(archive, f"{stem}/byteorder", b"little")
        for key, array in enumerate(pickle.arrays):
            little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
            _add_entry(archive, f"{stem}/data/{key}", little.reshape(-1).view(np.uint8).data)
        _add_entry(archive, f"{stem}/version", b"3\n")
        for entry, text in entries.items():
            _add_entry(archive, f"{stem}/{entry}", text.encode())


def _add_entry(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(name)
    info.file_size = len(data)
    assert archive.fp is not None
    header = 30 + len(name.encode()) + (_LARGE_FIELD if info.file_size > _LARGE else 0)
    missing = -(archive.fp.tell() + header + 4) % _ALIGNMENT
    # An extra field "FB" of zeros, like the padding of torch.
    info.extra = b"FB" + struct.pack("<H", missing) + bytes(missing)
    with archive.open(info, "w") as entry:
        entry.write(data)


class _PickleWriter:
    """Writes a pickle of protocol 2 as torch does, without a memo."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.arrays: list[np.ndarray] = []
        self._keys: dict[int, int] = {}
        self._containers: set[int] = set()

    def write(self, content: Any) -> None:
        self.buffer.write(b"\x80\x02")
        self._write_value(content)
        self.buffer.write(b".")

    def _write_value(self, value: Any) -> None:
        write = self.buffer.write
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            write(b"N")
        elif isinstance(value, bool):
            write(b"\x88" if value else b"\x89")
        elif isinstance(value, int):
            self._write_integer(value)
        elif isinstance(value, float):
            write(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            encoded = value.encode("utf-8", "surrogatepass")
            write(b"X" + struct.pack("<I", len(encoded)) + encoded)
        elif isinstance(value, np.ndarray):
            self._write_tensor(value)
        elif isinstance(value, Mapping | list | tuple):
            with self._entered(value):
                self._write_container(value)
        else:
            raise CheckpointError(
                f"the value is {format_value(value)} of type {type(value).__name__}; it should be an array, text, a "
                "number, None, or a dict or list of these."
            )

    def _write_container(self, value: Any) -> None:
        write = self.buffer.write
        if isinstance(value, Mapping):
            write(b"}(")
            for key, item in value.items():
                self._write_value(key)
                self._write_value(item)
            write(b"u")
            return
        write(b"](" if isinstance(value, list) else b"(")
        for item in value:
            self._write_value(item)
        write(b"e" if isinstance(value, list) else b"t")

    @contextmanager
    def _entered(self, value: Any) -> Iterator[None]:
        if id(value) in self._containers:
            raise CheckpointError("the content contains itself; it should be dicts and lists without cycles.")
        self._containers.add(id(value))
        yield
        self._containers.remove(id(value))

    def _write_integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.buffer.write(b"J" + struct.pack("<i", value))
            return
        encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(encoded) > 255:
            raise CheckpointError(f"the integer has {value.bit_length()} bits; it should have at most 2039.")
        self.buffer.write(b"\x8a" + bytes([len(encoded)]) + encoded)

    def _write_tensor(self, array: np.ndarray) -> None:
        """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`."""
        storage = _STORAGES.get(array.dtype.newbyteorder("="))
        if storage is None:
            raise CheckpointError(
                f"the dtype of an array is {array.dtype}; it should be one of "
                f"{', '.join(str(dtype) for dtype in _STORAGES)}. Cast the array."
            )
        key = self._keys.setdefault(id(array), len(self.arrays))
        if key == len(self.arrays):
            self.arrays.append(array)
        write = self.buffer.write
        write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        write(b"(")
        self._write_value("storage")
        write(f"ctorch\n{storage}\n".encode())
        for item in (str(key), "cpu", array.size):
            self._write_value(item)
        write(b"tQ")
        stride = np.cumprod([1, *array.shape[:0:-1]], dtype=np.int64)[::-1] if array.ndim else ()
        for item in (0, tuple(array.shape), tuple(int(step) for step in stride), False):
            self._write_value(item)
        write(b"ccollections\nOrderedDict\n)RtR")
