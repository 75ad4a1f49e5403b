"""Files of `torch.save` before torch 1.6: five pickles, then the storages one after the other.

Source of the format: `_legacy_save` in pytorch's `torch/serialization.py`. Storages are little-endian on any machine.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Source
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, safe_text
from jaxvoice.weights.formats.limits import RECORD, Budget
from jaxvoice.weights.formats.mapped_file import Bytes
from jaxvoice.weights.formats.pickle_archives import PickleArchive, Storages, unknown_storage
from jaxvoice.weights.formats.pickle_objects import StorageRef
from jaxvoice.weights.formats.state_dict import torch_members, walk
from jaxvoice.weights.formats.strided_views import StorageSlice
from jaxvoice.weights.formats.torch_dtypes import storage_dtype
from jaxvoice.weights.formats.unpickler import Unpickler

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MAGIC_BYTES = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")
_MAGIC_TEXT = f"L{_MAGIC}L\n.".encode()


def is_legacy(data: memoryview) -> bool:
    """Whether `data` starts like a legacy torch file, in any pickle protocol."""
    head = bytes(data[:64])
    return (
        head.startswith(_MAGIC_TEXT)
        or (head[:1] == b"\x80" and head[2:].startswith(_MAGIC_BYTES))
        or (head[:1] == b"\x80" and head[2:3] == b"\x95" and head[11:].startswith(_MAGIC_BYTES))
    )


def open_legacy(
    file: Bytes, path: Path, close: Callable[[], None], inert: Sequence[str], budget: Budget
) -> PickleArchive:
    """Read the structure of a legacy file.

    **Raises:** `CheckpointError` if the file is damaged; `RefusedError` as `open_archive` does.
    """
    data, position = file.view, 0
    storages = _LegacyStorages(budget)

    def pickled(what: str, persistent: Callable[[Any], Any] | None = None) -> Any:
        nonlocal position
        reader = Unpickler(data, what=what, budget=budget, position=position, persistent=persistent, inert=inert)
        value = reader.load()
        position = reader.position
        return value

    if pickled("its first pickle") != _MAGIC:
        raise CheckpointError("it is a pickle that torch did not write; save the model with torch.save.")
    version = pickled("its second pickle")
    if version != _VERSION:
        raise CheckpointError(
            f"it has version {safe_text(version)} of torch's legacy format; only {_VERSION} is supported."
        )
    pickled("its third pickle")
    content = pickled("its pickle", storages.storage)
    storages.release()
    keys = pickled("its list of storages")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError(f"its list of storages is {safe_text(keys)}; {DAMAGED}.")
    blocks = _blocks(data, position, keys, storages.known)
    source = Source(path, "torch legacy", {"version": str(version), "byte order": "little"})
    found = walk(content, torch_members, "its pickle", budget)
    return PickleArchive(content, found, source, budget=budget, block=lambda key: file.view[blocks[key]], close=close)


class _LegacyStorages:
    def __init__(self, budget: Budget) -> None:
        self.known: dict[str, StorageRef] = {}
        self._storages, self._budget = Storages("its pickle", budget), budget

    def release(self) -> None:
        """Release memory that is needed only while the pickle is read."""
        self._storages.release()

    def storage(self, persistent_id: Any) -> Any:
        """The storage, or part of one, of a persistent id. Source code of classes is skipped."""
        match persistent_id:
            case ("module", kind, *_):
                return kind
            case ("storage", kind, str() as key, str() | None, int() as numel, *part) if len(part) <= 1:
                dtype = storage_dtype(kind, "its pickle")
            case _:
                raise unknown_storage(persistent_id)
        if not 0 <= numel <= limits.ELEMENTS:
            raise RefusedError(f"its storage {safe_text(key)} has {safe_text(numel)} elements, which is out of range.")
        storage = self._storages.get(key, lambda: StorageRef(key, dtype, numel), dtype, numel)
        self.known[key] = storage
        match part:
            case [] | [None]:
                return storage
            case [(_, int() as offset, int() as count)] if offset >= 0 and count >= 0 and offset + count <= numel:
                self._budget.charge("its pickle", work=8, memory=RECORD)
                return StorageSlice(storage, offset, count)
            case _:
                raise RefusedError(
                    f"its storage {safe_text(key)} of {numel} elements has a part that reaches outside it."
                )


def _blocks(data: memoryview, position: int, keys: list[str], known: dict[str, StorageRef]) -> dict[str, slice]:
    """The byte range of each storage, in the order of `keys`."""
    if set(keys) != set(known):
        raise CheckpointError(
            f"it lists {len(keys)} storages, but its tensors refer to {len(known)}, which are different; {DAMAGED}."
        )
    blocks = {}
    for key in keys:
        storage = known[key]
        start = position + 8
        position = start + storage.numel * storage.dtype.itemsize
        if position > len(data):
            raise CheckpointError(f"it ends in the middle of the storage {safe_text(key)}; {DAMAGED}.")
        (numel,) = struct.unpack_from("<q", data, start - 8)
        if numel != storage.numel:
            raise CheckpointError(f"its storage {safe_text(key)} has {storage.numel} or {numel} elements; {DAMAGED}.")
        blocks[key] = slice(start, position)
    if position != len(data):
        raise CheckpointError(f"it has {len(data) - position} bytes after its last storage; {DAMAGED}.")
    return blocks
