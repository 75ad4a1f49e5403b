"""Tensors as strided views of storages. Bounds are checked when a reference is created."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, safe_text
from jaxvoice.weights.formats.pickle_objects import StorageRef, TensorRef


@dataclass(frozen=True, eq=False, slots=True)
class StorageSlice:
    """A part of a storage, which files of the legacy format use as the storage of a tensor."""

    storage: StorageRef
    """The whole storage."""
    offset: int
    """Index of the first element of the part."""
    numel: int
    """Number of elements of the part."""


def tensor_reference(storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, what: str) -> TensorRef:
    """Create a reference to a tensor.

    **Raises:** `CheckpointError` unless all elements lie within the storage.
    """
    start, room = 0, 0
    if isinstance(storage, StorageSlice):
        start, room, storage = storage.offset, storage.numel, storage.storage
    elif isinstance(storage, StorageRef):
        room = storage.numel
    else:
        raise RefusedError(f"{what} makes a tensor of {safe_text(storage)}, which is not a storage.")
    shape = tuple(shape) if isinstance(shape, list) else shape
    stride = tuple(stride) if isinstance(stride, list) else stride
    sound = type(offset) is int and 0 <= offset <= limits.ELEMENTS and _is_sizes(shape) and _is_sizes(stride)
    if not sound or len(shape) != len(stride):
        raise RefusedError(
            f"{what} has a tensor of shape {safe_text(shape)}, strides {safe_text(stride)} and offset "
            f"{safe_text(offset)}; at most {limits.RANK} axes and no negative numbers are allowed."
        )
    size = math.prod(shape)
    if size > limits.ELEMENTS or (not size and math.prod([max(n, 1) for n in shape]) > limits.ELEMENTS):
        raise RefusedError(f"{what} has a tensor of shape {safe_text(shape)}, which is too large.")
    last = offset + sum([(n - 1) * step for n, step in zip(shape, stride, strict=True)])
    if size and last >= room:
        raise RefusedError(
            f"{what} has a tensor of shape {safe_text(shape)}, strides {safe_text(stride)} and offset "
            f"{safe_text(offset)} in a storage of {room} elements; the tensor reaches "
            f"{safe_text(last - room + 1)} past the end. {DAMAGED.capitalize()}."
        )
    nbytes = size * storage.dtype.itemsize
    if nbytes > room * storage.dtype.itemsize and nbytes > limits.EXPANDED:
        raise RefusedError(
            f"{what} has a tensor of shape {safe_text(shape)} whose {nbytes} bytes overlap in {room} elements; "
            f"expanded tensors may take {limits.EXPANDED >> 20} MiB. Save the tensor without `expand`."
        )
    return TensorRef(storage, start + offset if size else 0, shape, stride, bool(requires_grad))


def _is_sizes(numbers: Any) -> bool:
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= limits.RANK
        and all([type(number) is int and 0 <= number <= limits.ELEMENTS for number in numbers])
    )


def strided_view(ref: TensorRef, block: memoryview, *, swap: bool) -> Shaped[np.ndarray, "..."]:
    """The tensor as a read-only view of `block`, the bytes of its storage.

    With `swap`, the byte order is not that of the machine, and the array is a copy.

    **Raises:** `CheckpointError` if the size of the block is not that of the storage.
    """
    dtype = ref.storage.dtype
    if len(block) != ref.storage.numel * dtype.itemsize:
        raise CheckpointError(f"the storage {safe_text(ref.storage.key)} has {len(block)} bytes; {DAMAGED}.")
    if not math.prod(ref.shape):
        empty = np.zeros(ref.shape, dtype)
        empty.flags.writeable = False
        return empty
    if swap and dtype.itemsize > 1:
        block = memoryview(_swapped(block, dtype))  # pyright: ignore[reportArgumentType]: arrays are buffers
    strides = tuple(step * dtype.itemsize for step in ref.stride)
    array = np.ndarray(ref.shape, dtype, buffer=block, offset=ref.offset * dtype.itemsize, strides=strides)
    array.flags.writeable = False
    return array


def _swapped(block: memoryview, dtype: np.dtype) -> np.ndarray:
    width = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
    return np.frombuffer(block, f"u{width}").byteswap().view(np.uint8)
