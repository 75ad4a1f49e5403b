"""The opcode `BUILD`: store the state of a record, or complete a numpy array. No attribute of an object is set."""

import math
import re
from typing import Any, Protocol

import numpy as np

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import short_text
from jaxvoice.weights.formats.limits import RECORD
from jaxvoice.weights.formats.pickle_objects import Inline, Record, Table


class Charging(Protocol):
    """An object with a budget to which values are charged."""

    what: str

    def charge(self, *, work: int = 0, memory: int = 0) -> None:
        """Charge the cost of a value to the budget."""
        ...


_PLAIN = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,6})")


def build(target: Any, state: Any, reader: Charging) -> None:
    """Store `state` for `target`.

    **Raises:** `RefusedError` if `target` is neither a record nor an object of numpy.
    """
    what = reader.what
    if isinstance(target, Record):
        if state is not target:  # a dict that is its own attributes
            target.state = state
    elif isinstance(target, Table):
        target.extra = state
    elif isinstance(target, Inline) and target.dtype is not None:
        _finish_dtype(target, state, what)
    elif isinstance(target, Inline):
        _finish_array(target, state, reader)
    else:
        raise RefusedError(f"{what} sets attributes of {short_text(target)}; only records have attributes.")


def plain_dtype(code: Any, what: str) -> np.dtype:
    """The dtype with the code `code`.

    **Raises:** `RefusedError` unless it is a dtype of numbers or text.
    """
    if not isinstance(code, str) or not _PLAIN.fullmatch(code):
        raise RefusedError(
            f"{what} contains a numpy array of type {short_text(code)}; only numbers and text are read, because "
            "reading "
            "objects would execute code."
        )
    return np.dtype(code)


def inline_array(raw: Any, dtype: Any, shape: Any, order: Any, reader: Charging) -> np.ndarray:
    """A numpy array whose data are stored in the pickle; its sizes are checked."""
    what = reader.what
    if not isinstance(dtype, Inline) or dtype.dtype is None or not isinstance(raw, bytes | str):
        raise CheckpointError(f"{what} contains a numpy array without data or dtype; save the file again.")
    # At most two copies are made: of text as bytes, and of numbers with swapped byte order.
    reader.charge(work=30 + len(raw) // 1024, memory=2 * RECORD + 2 * len(raw))
    if isinstance(raw, str):
        raw = raw.encode("latin-1", "replace")
    fits = isinstance(shape, tuple) and len(shape) <= limits.RANK and all(type(n) is int and n >= 0 for n in shape)
    fits = fits and math.prod(max(n, 1) for n in shape) <= limits.ELEMENTS
    if not fits or not dtype.dtype.itemsize or math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise CheckpointError(
            f"{what} contains a numpy array of shape {short_text(shape)} and type {dtype.dtype} in {len(raw)} bytes; "
            "the "
            "sizes do not match, so the file is damaged."
        )
    array = np.frombuffer(raw, dtype.dtype) if raw else np.zeros(0, dtype.dtype)
    array = array.astype(array.dtype.newbyteorder("="), copy=not array.dtype.isnative).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def inline_scalar(raw: Any, dtype: Any, reader: Charging) -> Any:
    """A numpy scalar (a number or text) as a plain value."""
    if isinstance(dtype, Inline) and dtype.dtype is not None and not dtype.dtype.itemsize:
        return np.zeros((), dtype.dtype).item()  # an empty text
    array = inline_array(raw, dtype, (), "C", reader)
    if array.dtype.kind == "U":
        points = array.reshape(1).view(np.uint32)
        if points.max(initial=0) > 0x10FFFF:
            raise CheckpointError(f"{reader.what} contains numpy text with invalid characters; the file is damaged.")
    return array.item()


def _finish_dtype(target: Inline, state: Any, what: str) -> None:
    match state:
        case (3 | 4, "<" | ">" | "|" | "=" as order, None, None, None, *_):
            assert target.dtype is not None
            target.dtype = target.dtype.newbyteorder("<" if order == "=" else order) if order != "|" else target.dtype
        case _:
            raise RefusedError(f"{what} contains a structured numpy dtype; only numbers and text are read.")


def _finish_array(target: Inline, state: Any, reader: Charging) -> None:
    match state:
        case (1, shape, dtype, bool() | 0 | 1 as fortran, raw) if target.array is None:
            target.array = inline_array(raw, dtype, shape, "F" if fortran else "C", reader)
        case _:
            raise CheckpointError(f"{reader.what} contains a numpy array in an unknown form; save it as a tensor.")
