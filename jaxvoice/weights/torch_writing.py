"""Writing of files for `torch.load` without torch: the zip format of torch 1.6 and later, pickle protocol 2."""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.atomic_write import atomic_write

_STORAGES: dict[np.dtype, str] = {
    np.dtype(dtype): name
    for dtype, name in [
        ("float32", "FloatStorage"),
        ("float64", "DoubleStorage"),
        ("float16", "HalfStorage"),
        (ml_dtypes.bfloat16, "BFloat16Storage"),
        ("int64", "LongStorage"),
        ("int32", "IntStorage"),
        ("int16", "ShortStorage"),
        ("int8", "CharStorage"),
        ("uint8", "ByteStorage"),
        ("bool", "BoolStorage"),
        ("complex64", "ComplexFloatStorage"),
        ("complex128", "ComplexDoubleStorage"),
    ]
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
    pickle = _Pickle()
    pickle.file(content)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        stem = path.name.partition(".")[0] or "archive"
        _add(archive, f"{stem}/data.pkl", pickle.bytes.getvalue())
        _add(archive, f"{stem}/byteorder", b"little")
        for key, array in enumerate(pickle.arrays):
            little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
            _add(archive, f"{stem}/data/{key}", little.reshape(-1).view(np.uint8).data)
        _add(archive, f"{stem}/version", b"3\n")
        for name, text in (entries or {}).items():
            _add(archive, f"{stem}/{name}", text.encode())


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(name)
    info.file_size = len(data)
    assert archive.fp is not None
    header = 30 + len(name.encode()) + (_LARGE_FIELD if info.file_size > _LARGE else 0)
    missing = -(archive.fp.tell() + header + 4) % _ALIGNMENT
    # An extra field "FB" of zeros, like the padding of torch.
    info.extra = b"FB" + struct.pack("<H", missing) + bytes(missing)
    with archive.open(info, "w") as entry:
        entry.write(data)


class _Pickle:
    """Writes a pickle of protocol 2 as torch does, without a memo."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self.arrays: list[np.ndarray] = []
        self._keys: dict[int, int] = {}
        self._above: set[int] = set()

    def file(self, content: Any) -> None:
        self.bytes.write(b"\x80\x02")
        self._value(content)
        self.bytes.write(b".")

    def _value(self, value: Any) -> None:
        write = self.bytes.write
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            write(b"N")
        elif isinstance(value, bool):
            write(b"\x88" if value else b"\x89")
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, float):
            write(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            encoded = value.encode("utf-8", "surrogatepass")
            write(b"X" + struct.pack("<I", len(encoded)) + encoded)
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, Mapping | list | tuple):
            with self._entered(value):
                self._nested(value)
        else:
            raise CheckpointError(
                f"torch's format does not support {value!r} of type {type(value).__name__}; use arrays, text, numbers, "
                "and dicts and lists of these."
            )

    def _nested(self, value: Any) -> None:
        write = self.bytes.write
        if isinstance(value, Mapping):
            write(b"}(")
            for key, item in value.items():
                self._value(key)
                self._value(item)
            write(b"u")
            return
        write(b"](" if isinstance(value, list) else b"(")
        for item in value:
            self._value(item)
        write(b"e" if isinstance(value, list) else b"t")

    @contextmanager
    def _entered(self, value: Any) -> Iterator[None]:
        if id(value) in self._above:
            raise CheckpointError("The content contains itself; use dicts and lists without cycles.")
        self._above.add(id(value))
        yield
        self._above.remove(id(value))

    def _integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.bytes.write(b"J" + struct.pack("<i", value))
            return
        encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(encoded) > 255:
            raise CheckpointError(f"An integer of {value.bit_length()} bits is too large for torch's format.")
        self.bytes.write(b"\x8a" + bytes([len(encoded)]) + encoded)

    def _tensor(self, array: np.ndarray) -> None:
        """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`."""
        storage = _STORAGES.get(array.dtype.newbyteorder("="))
        if storage is None:
            raise CheckpointError(
                f"torch's format has no storage for arrays of {array.dtype}; cast to one of "
                f"{', '.join(str(dtype) for dtype in _STORAGES)}."
            )
        key = self._keys.setdefault(id(array), len(self.arrays))
        if key == len(self.arrays):
            self.arrays.append(array)
        write = self.bytes.write
        write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        write(b"(")
        self._value("storage")
        write(f"ctorch\n{storage}\n".encode())
        for item in (str(key), "cpu", array.size):
            self._value(item)
        write(b"tQ")
        stride = np.cumprod([1, *array.shape[:0:-1]], dtype=np.int64)[::-1] if array.ndim else ()
        for item in (0, tuple(array.shape), tuple(int(step) for step in stride), False):
            self._value(item)
        write(b"ccollections\nOrderedDict\n)RtR")
