"""Archives of named arrays: safetensors and npz."""

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Archive, Source, TensorInfo, Tensors
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, error_prefix, safe_text
from jaxvoice.weights.formats.inline_arrays import plain_dtype
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.mapped_file import Bytes
from jaxvoice.weights.formats.pickle_objects import StorageRef, TensorRef
from jaxvoice.weights.formats.state_dict import module_tree
from jaxvoice.weights.formats.strided_views import strided_view
from jaxvoice.weights.formats.zip_files import Zip
from jaxvoice.weights.schemas import EXPORT_KEY

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
    "C64": np.complex64, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": getattr(ml_dtypes, "float8_e8m0fnu", None),
}  # fmt: skip


# The header of an npy file: the source text of a dict with three fields.
_TEXT = r"(?:'[^'\\]*'|\"[^\"\\]*\")"
_SHAPE = r"\((?:[0-9]{1,20}L?, ?)*(?:[0-9]{1,20}L?)?\)"
_FIELD = re.compile(rf"['\"](descr|fortran_order|shape)['\"] *: *({_TEXT}|True|False|{_SHAPE})")
_HEADER = re.compile(rf" *\{{ *{_FIELD.pattern}(?: *, *{_FIELD.pattern}){{2}} *,? *\}}[ \n]*")
_RECORDS = re.compile(r"['\"]descr['\"] *: *[\[(]")


def is_safetensors(data: memoryview) -> bool:
    """Whether `data` starts with the size of a header and a header."""
    return len(data) > 9 and struct.unpack_from("<Q", data)[0] < 2**40 and data[8] == ord("{")


def open_safetensors(file: Bytes, path: Path, close: Callable[[], None], budget: Budget) -> Archive:
    """Read the header of a safetensors file.

    **Raises:** `CheckpointError` if the header is not valid; `RefusedError` if it exceeds a limit.
    """
    data = file.view
    (size,) = struct.unpack_from("<Q", data)
    if size > len(data) - 8:
        raise CheckpointError(f"its header should have {size} bytes, but the file has {len(data)}; {DAMAGED}.")
    if size > limits.SAFETENSORS_HEADER:
        raise RefusedError(f"its header has {size} bytes; at most {limits.SAFETENSORS_HEADER} are read.")
    try:
        with safe_open(path, framework="np"):  # checks the header and that the tensors fill the file without overlap
            pass
        header = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_once)
    except (SafetensorError, ValueError, RecursionError) as failure:
        raise CheckpointError(f"it is not a valid safetensors file ({str(failure)[:200]}); {DAMAGED}.") from failure
    metadata = header.pop("__metadata__", None) or {}
    _check_count(len(header), budget)
    refs = {name: _place(name, entry) for name, entry in header.items()}
    places = {name: slice(*(8 + size + end for end in entry["data_offsets"])) for name, entry in header.items()}

    def read(name: str) -> np.ndarray:
        with error_prefix(path):
            return strided_view(refs[name], file.view[places[name]], swap=False)

    return _archive(refs, read, metadata, Source(path, "safetensors"), close, budget)


def _check_count(tensors: int, budget: Budget) -> None:
    if tensors > limits.TENSORS:
        raise RefusedError(f"it has {tensors} tensors; at most {limits.TENSORS} are read.")
    budget.charge("its table of contents", work=60 * tensors, memory=1200 * tensors)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _place(name: str, entry: dict[str, Any]) -> TensorRef:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise RefusedError(
            f"its tensor {safe_text(name)} is of type {safe_text(entry['dtype'])}, which numpy does not support."
        )
    shape = tuple(entry["shape"])
    return _whole(name, np.dtype(dtype), shape)


def _whole(name: str, dtype: np.dtype, shape: tuple[int, ...], *, fortran: bool = False) -> TensorRef:
    """A tensor that is the only one in its storage."""
    if len(shape) > limits.RANK or math.prod(max(size, 1) for size in shape) > limits.ELEMENTS:
        raise RefusedError(f"its tensor {safe_text(name)} has the shape {safe_text(shape)}, which is too large.")
    axes = range(len(shape))
    strides = tuple(math.prod(shape[:axis] if fortran else shape[axis + 1 :]) for axis in axes)
    return TensorRef(StorageRef(name, dtype, math.prod(shape)), 0, shape, strides)


def _archive(
    refs: dict[str, TensorRef],
    read: Callable[[str], np.ndarray],
    metadata: dict[str, Any],
    source: Source,
    close: Callable[[], None],
    budget: Budget,
) -> Archive:
    infos = {name: TensorInfo(ref.shape, ref.storage.dtype, ref.storage.key) for name, ref in refs.items()}
    return Archive(Tensors(infos, read), metadata, module_tree(refs, budget), source, close)


def is_npz(archive: Zip) -> bool:
    """Whether a zip file contains only numpy arrays."""
    return bool(archive.entries) and all(name.endswith(".npy") for name in archive)


def open_npz(archive: Zip, path: Path, close: Callable[[], None], budget: Budget) -> Archive:
    """Read the headers of all arrays of an npz file.

    **Raises:** `CheckpointError` if a header is not valid; `RefusedError` if it exceeds a limit, or for text.
    """
    _check_count(len(archive.entries), budget)
    refs, starts, swapped = {}, {}, set()
    for entry in archive:
        name = entry.removesuffix(".npy")
        ref, start, swap = _npy_header(archive, entry, name)
        if archive.size(entry) - start != ref.storage.numel * ref.storage.dtype.itemsize:
            raise CheckpointError(
                f"its array {safe_text(name)} of shape {safe_text(ref.shape)} and type {ref.storage.dtype} has "
                f"{archive.size(entry) - start} bytes; {DAMAGED}."
            )
        refs[name], starts[name] = ref, start
        swapped |= {name} if swap else set()

    def read(name: str) -> np.ndarray:
        with error_prefix(path):
            return strided_view(refs[name], archive.open(f"{name}.npy")[starts[name] :], swap=name in swapped)

    pairs = (word.partition("=") for word in archive.comment.decode("ascii", "replace").split())
    metadata = {name: value for name, _, value in pairs if name == EXPORT_KEY}
    return _archive(refs, read, metadata, Source(path, "npz"), close, budget)


def _npy_header(archive: Zip, entry: str, name: str) -> tuple[TensorRef, int, bool]:
    """Shape and dtype of an array, the offset of its data in its entry, and whether the byte order must be swapped."""
    head = archive.start(entry, limits.NPY_HEADER + 12)
    version = head[6:7]
    width = 2 if version == b"\x01" else 4
    if not head.startswith(b"\x93NUMPY") or version not in (b"\x01", b"\x02", b"\x03") or len(head) < 8 + width:
        raise CheckpointError(f"its entry {safe_text(entry)} is not an array of numpy; {DAMAGED}.")
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    if start > len(head):
        raise RefusedError(
            f"the header of its array {safe_text(name)} is cut short, or longer than {limits.NPY_HEADER} bytes."
        )
    header = str(head[8 + width : start], "latin-1")
    fields = {key: value for key, value in _FIELD.findall(header)} if _HEADER.fullmatch(header) else {}
    if fields.keys() != {"descr", "fortran_order", "shape"}:
        if _RECORDS.search(header):
            raise RefusedError(f"its array {safe_text(name)} has a structured dtype; save its fields as arrays.")
        raise CheckpointError(f"the header of its array {safe_text(name)} cannot be parsed; {DAMAGED}.")
    descr, fortran = fields["descr"].strip("'\""), fields["fortran_order"] == "True"
    shape = tuple(int(size) for size in re.findall(r"[0-9]+", fields["shape"]))
    dtype = plain_dtype(descr, f"its entry {safe_text(entry)}")
    if dtype.kind in "SU":
        raise RefusedError(
            f"its array {safe_text(name)} has the dtype {safe_text(descr)}; only numbers are read. Save "
            "the array in another file."
        )
    native = dtype.newbyteorder("=")
    return _whole(name, native, shape, fortran=fortran), start, dtype != native
