"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxvoice.errors import CheckpointError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` to write into; it becomes `path` when all went well, and is gone when not.

    Its name is one that nothing has, so that no other file is written through a link that lies in wait.

    **Raises:** `CheckpointError` if it cannot be written, or if `path` is a folder or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a folder or a device, which no file may replace; name a file.")
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as failure:
        raise CheckpointError(f"{path} cannot be written ({failure}); free space or choose another place.") from failure
