"""Numpy arrays that a pickle contains, and the opcode `BUILD`, which stores their elements or the state of a record.

No attribute of an object is set.
"""

import math
import re
from typing import Any, Protocol

import numpy as np

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import safe_text
from jaxvoice.weights.formats.limits import RECORD
from jaxvoice.weights.formats.pickle_objects import DictWithState, InlineArray, Record


class BudgetedReader(Protocol):
    """A reader with a budget, to which it charges the cost of values."""

    what: str
    """Name of the pickle in messages."""

    def charge(self, *, work: int = 0, memory: int = 0) -> None:
        """Charge the cost of a value to the budget, in addition to its opcode."""
        ...


_PLAIN = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,6})")


def build(target: Any, state: Any, reader: BudgetedReader) -> None:
    """Store `state` in `target`, as the opcode `BUILD` does.

    **Raises:** `RefusedError` if `target` is neither a record nor an object of numpy.
    """
    what = reader.what
    if isinstance(target, Record):
        if state is not target:  # a dict that is its own attributes
            target.state = state
    elif isinstance(target, DictWithState):
        target.extra = state
    elif isinstance(target, InlineArray) and target.dtype is not None:
        _finish_dtype(target, state, what)
    elif isinstance(target, InlineArray):
        _finish_array(target, state, reader)
    else:
        raise RefusedError(f"{what} sets attributes of {safe_text(target)}; only records have attributes.")


def plain_dtype(code: Any, what: str) -> np.dtype:
    """The dtype with the code `code`.

    **Raises:** `RefusedError` unless it is a dtype of numbers or text.
    """
    if not isinstance(code, str) or not _PLAIN.fullmatch(code):
        raise RefusedError(
            f"{what} contains a numpy array of type {safe_text(code)}; only numbers and text are read, because "
            "reading objects would execute code."
        )
    return np.dtype(code)


def decode_array(raw: Any, dtype: Any, shape: Any, order: Any, reader: BudgetedReader) -> np.ndarray:
    """The numpy array of `shape` in the bytes `raw`, read-only.

    **Raises:** `CheckpointError` if the sizes do not match; `RefusedError` if the budget is exhausted.
    """
    what = reader.what
    if not isinstance(dtype, InlineArray) or dtype.dtype is None or not isinstance(raw, bytes | str):
        raise CheckpointError(f"{what} contains a numpy array without data or dtype; save the file again.")
    # At most two copies are made: of text as bytes, and of numbers with swapped byte order.
    reader.charge(work=30 + len(raw) // 1024, memory=2 * RECORD + 2 * len(raw))
    if isinstance(raw, str):
        raw = raw.encode("latin-1", "replace")
    fits = isinstance(shape, tuple) and len(shape) <= limits.RANK and all(type(n) is int and n >= 0 for n in shape)
    fits = fits and math.prod(max(n, 1) for n in shape) <= limits.ELEMENTS
    if not fits or not dtype.dtype.itemsize or math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise CheckpointError(
            f"{what} contains a numpy array of shape {safe_text(shape)} and type {dtype.dtype} in {len(raw)} "
            "bytes; the sizes do not match, so the file is damaged."
        )
    array = np.frombuffer(raw, dtype.dtype) if raw else np.zeros(0, dtype.dtype)
    array = array.astype(array.dtype.newbyteorder("="), copy=not array.dtype.isnative).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def decode_scalar(raw: Any, dtype: Any, reader: BudgetedReader) -> Any:
    """A numpy scalar (a number or text) as a Python value; raises the errors of `decode_array`."""
    if isinstance(dtype, InlineArray) and dtype.dtype is not None and not dtype.dtype.itemsize:
        return np.zeros((), dtype.dtype).item()  # an empty text
    array = decode_array(raw, dtype, (), "C", reader)
    if array.dtype.kind == "U":
        points = array.reshape(1).view(np.uint32)
        if points.max(initial=0) > 0x10FFFF:
            raise CheckpointError(f"{reader.what} contains numpy text with invalid characters; the file is damaged.")
    return array.item()


def _finish_dtype(target: InlineArray, state: Any, what: str) -> None:
    match state:
        case (3 | 4, "<" | ">" | "|" | "=" as order, None, None, None, *_):
            assert target.dtype is not None
            target.dtype = target.dtype.newbyteorder("<" if order == "=" else order) if order != "|" else target.dtype
        case _:
            raise RefusedError(f"{what} contains a structured numpy dtype; only numbers and text are read.")


def _finish_array(target: InlineArray, state: Any, reader: BudgetedReader) -> None:
    match state:
        case (1, shape, dtype, bool() | 0 | 1 as fortran, raw) if target.array is None:
            target.array = decode_array(raw, dtype, shape, "F" if fortran else "C", reader)
        case _:
            raise CheckpointError(f"{reader.what} contains a numpy array in an unknown form; save it as a tensor.")
