"""Archives of a pickle and storages."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Archive, Source, TensorInfo, Tensors
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import error_prefix, safe_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.pickle_objects import Record, TensorRef
from jaxvoice.weights.formats.state_dict import Contents
from jaxvoice.weights.formats.strided_views import strided_view


class PickleArchive(Archive):
    """An archive whose structure is a pickle: torch's zip and legacy files, NeMo.

    - `content`: the value of the pickle, made of plain values, `Record` and `TensorRef`.
    """

    content: Any

    def __init__(
        self,
        content: Any,
        found: Contents,
        source: Source,
        *,
        budget: Budget,
        block: Callable[[str], memoryview],
        swap: bool = False,
        close: Callable[[], None] = lambda: None,
    ):
        self.content = content
        self._block, self._swap = block, swap
        infos = found.infos()
        _check_views(found, infos)

        def read(name: str) -> np.ndarray:
            value = found.tensors[name]
            return self.read(value) if isinstance(value, TensorRef) else value

        super().__init__(Tensors(infos, read), found.metadata, found.modules(budget), source, close)

    def read(self, ref: TensorRef) -> Shaped[np.ndarray, "..."]:
        """The elements of a tensor in `content`, read-only.

        **Raises:** `CheckpointError` after `close`.
        """
        with error_prefix(self.source.path):
            return strided_view(ref, self._block(ref.storage.key), swap=self._swap)


class TorchScriptArchive(PickleArchive):
    """A module saved by `torch.jit.save`. Its code is available as text and is not executed.

    - `content`: the record of the module. Its `state` is a dict of all attributes; child modules are records.
    - `code`: source text by path, for example `__torch__/pkg/mod.py`; read on access.
    - `constants`: the values of `CONSTANTS.c0`, `CONSTANTS.c1` and so on in the code: `TensorRef` or plain values.
    """

    content: Record
    code: Mapping[str, str]
    constants: tuple[Any, ...]


class Texts(Mapping[str, str]):
    """Texts by name, read on access."""

    def __init__(self, names: Mapping[str, str], read: Callable[[str], str]):
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> str:
        return self._read(self._names[name])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_STORAGE_MEMORY = 200
"""Bytes of memory for each storage while a pickle is read."""


class Storages:
    """The storages that a pickle refers to. Each has one dtype and one size."""

    def __init__(self, what: str, budget: Budget):
        self._known: dict[str, Any] = {}
        self._what, self._budget, self._reserved = what, budget, 0

    def release(self) -> None:
        """Release the memory of this object. Call it when the pickle has been read."""
        self._known.clear()
        self._budget.memory += self._reserved
        self._reserved = 0

    def get(self, key: str, make: Callable[[], Any], *facts: Any) -> Any:
        """The storage `key`, created on first use.

        **Raises:** `RefusedError` if `facts` differ between uses.
        """
        if key not in self._known:
            self._reserved += _STORAGE_MEMORY
            self._budget.charge(self._what, work=40, memory=400 + 4 * len(key))
            self._known[key] = (facts, make())
        before, storage = self._known[key]
        if before != facts:
            first, second = (" of ".join(map(safe_text, reversed(side))) for side in (before, facts))
            raise RefusedError(
                f"{self._what} describes the storage {safe_text(key)} as {first} elements, and elsewhere as {second}."
            )
        return storage


def _check_views(found: Contents, infos: Mapping[str, TensorInfo]) -> None:
    """Raise `RefusedError` if the tensors would take far more memory than their storages."""
    storages = {ref.storage.key: ref.storage for ref in found.tensors.values() if isinstance(ref, TensorRef)}
    stored = sum(storage.numel * storage.dtype.itemsize for storage in storages.values())
    claimed = sum(info.nbytes for info in infos.values())
    if claimed > limits.VIEWS * stored + limits.EXPANDED:
        raise RefusedError(
            f"its tensors would take {claimed} bytes although the file has {stored} bytes of elements; "
            "save the tensors without `expand`."
        )


def unknown_storage(persistent_id: Any) -> CheckpointError:
    """The error for a persistent id that does not refer to a storage."""
    return RefusedError(
        f"its pickle refers to {type(persistent_id).__name__} outside the file; such references are not read."
    )
