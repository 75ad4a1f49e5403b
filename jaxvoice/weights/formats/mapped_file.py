"""A file as one stretch of read-only memory."""

import mmap
from pathlib import Path
from typing import BinaryIO, Protocol

from jaxvoice.errors import CheckpointError


class Bytes(Protocol):
    """Where bytes can be looked at, as long as the archive is open."""

    @property
    def view(self) -> memoryview:
        """The bytes, read-only; raises `CheckpointError` when the archive was closed."""
        ...


class FileSlice:
    """The part of `whole` from byte `start` to `stop`."""

    def __init__(self, whole: Bytes, start: int, stop: int):
        self._whole, self._place = whole, slice(start, stop)

    @property
    def view(self) -> memoryview:
        """The bytes; raises `CheckpointError` when the archive was closed."""
        return self._whole.view[self._place]


class Mapped:
    """The bytes of a file, mapped into memory: nothing is read until it is looked at."""

    def __init__(self, file: BinaryIO):
        file.seek(0, 2)
        if not file.tell():
            raise CheckpointError("the file is empty; fetch or copy it again.")
        try:
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as failure:
            raise CheckpointError(f"the file cannot be mapped into memory ({failure}).") from failure

    @classmethod
    def open(cls, path: Path) -> "Mapped":
        """Map the file at `path`; raises `CheckpointError` when it is missing, a folder or empty."""
        try:
            if not path.is_file() and path.exists():  # a pipe would wait for ever
                raise CheckpointError("is not a file; give the file with the weights itself.")
            with path.open("rb") as file:
                return cls(file)
        except OSError as failure:
            raise CheckpointError(f"cannot be opened ({failure.strerror or failure}); check the path.") from failure

    @property
    def view(self) -> memoryview:
        """All bytes; raises `CheckpointError` after `close`."""
        if self._map is None:
            raise CheckpointError("the archive was closed; open it again, or read its tensors before that.")
        return memoryview(self._map)

    def forget(self) -> None:
        """Give back the memory of what was looked at, which is read again when it is looked at again; does nothing on
        systems that cannot."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the memory; arrays that look into it keep it as long as they live."""
        self._map = None
