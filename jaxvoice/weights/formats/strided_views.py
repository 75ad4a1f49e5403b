"""Where the elements of a tensor lie in its storage: checked when it is named, turned into an array when read."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, shown
from jaxvoice.weights.formats.pickle_objects import StorageRef, TensorRef


@dataclass(frozen=True, eq=False, slots=True)
class StorageSlice:
    """A part of a storage that an old file gives a tensor as a storage of its own."""

    storage: StorageRef
    """The whole."""
    offset: int
    """Its first element that belongs to the part."""
    numel: int
    """Number of elements of the part."""


def place(storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, what: str) -> TensorRef:
    """The tensor that a file describes; raises `CheckpointError` unless every element lies within the storage."""
    start, room = 0, 0
    if isinstance(storage, StorageSlice):
        start, room, storage = storage.offset, storage.numel, storage.storage
    elif isinstance(storage, StorageRef):
        room = storage.numel
    else:
        raise RefusedError(f"{what} makes a tensor of {shown(storage)}, which is not a storage.")
    shape = tuple(shape) if isinstance(shape, list) else shape
    stride = tuple(stride) if isinstance(stride, list) else stride
    sound = type(offset) is int and 0 <= offset <= limits.ELEMENTS and _is_sizes(shape) and _is_sizes(stride)
    if not sound or len(shape) != len(stride):
        raise RefusedError(
            f"{what} has a tensor of shape {shown(shape)}, strides {shown(stride)} and offset {shown(offset)}; "
            f"these are {limits.RANK} axes at most, none of the numbers negative."
        )
    size = math.prod(shape)
    if size > limits.ELEMENTS or (not size and math.prod([max(n, 1) for n in shape]) > limits.ELEMENTS):
        raise RefusedError(f"{what} has a tensor of shape {shown(shape)}, more than can be.")
    last = offset + sum([(n - 1) * step for n, step in zip(shape, stride, strict=True)])
    if size and last >= room:
        raise RefusedError(
            f"{what} has a tensor of shape {shown(shape)}, strides {shown(stride)} and offset {shown(offset)} in a "
            f"storage of {room} elements; it reaches {shown(last - room + 1)} past the end. {DAMAGED.capitalize()}."
        )
    nbytes = size * storage.dtype.itemsize
    if nbytes > room * storage.dtype.itemsize and nbytes > limits.EXPANDED:
        raise RefusedError(
            f"{what} has a tensor of shape {shown(shape)} whose {nbytes} bytes lie on each other in {room} elements; "
            f"expanded tensors may take {limits.EXPANDED >> 20} MiB. Save it as it was before `expand`."
        )
    return TensorRef(storage, start + offset if size else 0, shape, stride, bool(requires_grad))


def _is_sizes(numbers: Any) -> bool:
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= limits.RANK
        and all([type(number) is int and 0 <= number <= limits.ELEMENTS for number in numbers])
    )


def view(ref: TensorRef, block: memoryview, *, swap: bool) -> Shaped[np.ndarray, "..."]:
    """The tensor as a read-only array that looks into `block`, the bytes of its storage.

    With `swap` the bytes of numbers come in the order that is not this machine's, and the array is a copy. Raises
    `CheckpointError` when the block is not as long as the storage should be.
    """
    dtype = ref.storage.dtype
    if len(block) != ref.storage.numel * dtype.itemsize:
        raise CheckpointError(f"the storage {shown(ref.storage.key)} has {len(block)} bytes; {DAMAGED}.")
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
