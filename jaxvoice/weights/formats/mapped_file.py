"""Files mapped into memory, read-only."""

import mmap
from pathlib import Path
from typing import BinaryIO, Protocol

from jaxvoice.errors import CheckpointError


class Bytes(Protocol):
    """Bytes that can be read as long as the archive is open."""

    @property
    def view(self) -> memoryview:
        """The bytes, read-only.

        **Raises:** `CheckpointError` if the archive was closed.
        """
        ...


class FileSlice:
    """The bytes of `whole` from `start` to `stop`."""

    def __init__(self, whole: Bytes, start: int, stop: int):
        self._whole, self._range = whole, slice(start, stop)

    @property
    def view(self) -> memoryview:
        """The bytes.

        **Raises:** `CheckpointError` if the archive was closed.
        """
        return self._whole.view[self._range]


class Mapped:
    """The bytes of a file, mapped into memory. Pages are read on first access."""

    def __init__(self, file: BinaryIO):
        file.seek(0, 2)
        if not file.tell():
            raise CheckpointError("the file is empty; download or copy it again.")
        try:
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as failure:
            raise CheckpointError(f"the file cannot be mapped into memory ({failure}).") from failure

    @classmethod
    def open(cls, path: Path) -> "Mapped":
        """Map the file at `path`.

        **Raises:** `CheckpointError` if it is missing, a folder or empty.
        """
        try:
            if not path.is_file() and path.exists():  # reading a pipe would block
                raise CheckpointError("it is not a file; pass the path of the weight file.")
            with path.open("rb") as file:
                return cls(file)
        except OSError as failure:
            raise CheckpointError(
                f"the file cannot be opened ({failure.strerror or failure}); check the path."
            ) from failure

    @property
    def view(self) -> memoryview:
        """All bytes.

        **Raises:** `CheckpointError` after `close`.
        """
        if self._map is None:
            raise CheckpointError("the archive is closed; read its tensors before closing it, or open it again.")
        return memoryview(self._map)

    def release(self) -> None:
        """Release the pages that were read; the next access reads them again.

        The method does nothing on systems without `madvise`.
        """
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Release the mapping. Views of it keep it alive."""
        self._map = None
