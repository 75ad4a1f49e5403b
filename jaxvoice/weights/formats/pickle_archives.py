"""Archives that are pickles beside blocks of bytes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Archive, Source, TensorInfo, Tensors
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import naming, shown
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.pickle_objects import Record, TensorRef
from jaxvoice.weights.formats.state_dict import Found
from jaxvoice.weights.formats.strided_views import view


class PickleArchive(Archive):
    """An archive whose table of contents is a pickle: torch's zip and legacy files, NeMo.

    - `content`: what the pickle holds: plain values, `Record`, `TensorRef`.
    """

    content: Any

    def __init__(
        self,
        content: Any,
        found: Found,
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
        """The elements of a tensor of `content`, read-only; raises `CheckpointError` after `close`."""
        with naming(self.source.path):
            return view(ref, self._block(ref.storage.key), swap=self._swap)


class TorchScriptArchive(PickleArchive):
    """A module saved by `torch.jit.save`; its code is text here and is never run.

    - `content`: the record of the module, its `state` a dict of all attributes, its children records too.
    - `code`: text of the code by its place, `__torch__/pkg/mod.py` say; read when asked for.
    - `constants`: what the code calls `CONSTANTS.c0` and so on: `TensorRef` or plain values.
    """

    content: Record
    code: Mapping[str, str]
    constants: tuple[Any, ...]


class Texts(Mapping[str, str]):
    """Texts by name, read when asked for."""

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


_BESIDE = 200
"""Bytes that are noted of a storage while a pickle is read."""


class Storages:
    """The storages that a pickle refers to, each of one type and size."""

    def __init__(self, what: str, budget: Budget):
        self._known: dict[str, Any] = {}
        self._what, self._budget, self._given = what, budget, 0

    def forget(self) -> None:
        """Give back the memory of what was noted of them, when the pickle was read."""
        self._known.clear()
        self._budget.memory += self._given
        self._given = 0

    def once(self, key: str, make: Callable[[], Any], *facts: Any) -> Any:
        """The storage `key`, made on first use; raises `RefusedError` when later uses say otherwise."""
        if key not in self._known:
            self._given += _BESIDE
            self._budget.charge(self._what, work=40, memory=400 + 4 * len(key))
            self._known[key] = (facts, make())
        before, storage = self._known[key]
        if before != facts:
            was, says = (" of ".join(map(shown, reversed(side))) for side in (before, facts))
            raise RefusedError(
                f"{self._what} says that the storage {shown(key)} has {was} elements, and {says} elsewhere."
            )
        return storage


def _check_views(found: Found, infos: Mapping[str, TensorInfo]) -> None:
    """Raise `RefusedError` when tensors would take far more memory than the storages that they look into."""
    storages = {ref.storage.key: ref.storage for ref in found.tensors.values() if isinstance(ref, TensorRef)}
    there = sum(storage.numel * storage.dtype.itemsize for storage in storages.values())
    claimed = sum(info.nbytes for info in infos.values())
    if claimed > limits.VIEWS * there + limits.EXPANDED:
        raise RefusedError(
            f"its tensors would take {claimed} bytes although the file has {there} bytes of elements; "
            "save the tensors that are meant, without `expand`."
        )


def no_such_storage(persistent_id: Any) -> CheckpointError:
    """What to raise for a persistent id that is not a storage's."""
    return RefusedError(f"its pickle refers to {type(persistent_id).__name__} outside the file, which is not followed.")
