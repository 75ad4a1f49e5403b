"""The values of a pickle. Names are not imported, and no instances of classes are created."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Global:
    """A class or a function that the file refers to. Only the name is stored; nothing is imported."""

    name: str
    """Dotted name, for example `torch.float32`."""


@dataclass(eq=False, slots=True)
class Record:
    """The description of an instance in the file. The instance itself is not created."""

    class_name: str
    """Dotted name of its class, for example `torch.nn.modules.conv.Conv1d`."""
    args: tuple[Any, ...] = ()
    """Arguments for the class."""
    state: Any = None
    """Its state, usually a dict of its attributes."""
    items: dict[Any, Any] | list[Any] | None = None
    """Its items, if the class is a kind of dict or list."""

    def __repr__(self) -> str:
        return f"<record of {self.class_name}>"


@dataclass(frozen=True, eq=False, slots=True)
class StorageRef:
    """A storage in the file, which is not read yet."""

    key: str
    """Its name in the file."""
    dtype: np.dtype
    """Dtype of the elements."""
    numel: int
    """Number of elements."""


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A tensor in the file, which is not read yet. All its elements are in its storage."""

    storage: StorageRef
    """Storage of its elements."""
    offset: int
    """Offset of the first element, in elements."""
    shape: tuple[int, ...]
    """Shape, as in torch."""
    stride: tuple[int, ...]
    """Stride of each axis, in elements."""
    requires_grad: bool = False
    """Whether torch computes its gradient."""
    parameter: bool = False
    """Whether it is an `nn.Parameter` in the file."""


class DictWithState(dict[Any, Any]):
    """An `OrderedDict` of the file. `extra` is its state without the items, for example torch's `_metadata`."""

    extra: Any = None


@dataclass(eq=False)
class InlineArray:
    """A numpy array stored in the pickle, or a dtype while the pickle is being read."""

    array: np.ndarray | None = None
    """The array, read-only; `None` until the pickle has defined its elements."""
    dtype: np.dtype | None = None
    """The dtype, if this is not an array."""
