"""What a pickle holds, as plain values: names that are never imported, instances that are never made."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Global:
    """Something that the file names, a class or a function. Only the name is kept; nothing is imported."""

    name: str
    """Dotted, `torch.float32` say."""


@dataclass(eq=False, slots=True)
class Record:
    """An instance of a class that the file names; it was never made, and only what the file says of it is kept."""

    class_name: str
    """Dotted, `torch.nn.modules.conv.Conv1d` say."""
    args: tuple[Any, ...] = ()
    """What the class would have been called with."""
    state: Any = None
    """What would have become its attributes: mostly a dict of them."""
    items: dict[Any, Any] | list[Any] | None = None
    """What would have been put into it, where the class is a kind of dict or list."""

    def __repr__(self) -> str:
        return f"<record of {self.class_name}>"


@dataclass(frozen=True, eq=False, slots=True)
class StorageRef:
    """A block of elements in the file, not read yet."""

    key: str
    """What the file calls it."""
    dtype: np.dtype
    """Type of the elements."""
    numel: int
    """Number of elements."""


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A tensor in the file, not read yet; its place in the storage was checked."""

    storage: StorageRef
    """Where its elements lie."""
    offset: int
    """The first one, counted in elements."""
    shape: tuple[int, ...]
    """Shape, as torch has it."""
    stride: tuple[int, ...]
    """Steps in elements, one for each axis."""
    requires_grad: bool = False
    """Whether it was trained."""
    parameter: bool = False
    """Whether the file says that it is an `nn.Parameter`."""


class Table(dict[Any, Any]):
    """An `OrderedDict` of the file. `extra` keeps what the file sets on it beside its items (torch's `_metadata`)."""

    extra: Any = None


@dataclass(eq=False)
class Inline:
    """A numpy array that lies in the pickle itself, or its type while the pickle is still being read."""

    array: np.ndarray | None = None
    """The elements, read-only; none yet while the pickle has only named the class."""
    dtype: np.dtype | None = None
    """A numpy type, for what is not an array."""
