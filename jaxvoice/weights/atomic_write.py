"""Atomic writing of files."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxvoice.errors import CheckpointError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` on success, and deleted after an error.

    Its name is random and must be unused, so that an existing link is never followed.

    **Raises:** `CheckpointError` if the file cannot be written, or if `path` is a folder or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a folder or a device; choose a file name.")
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as failure:
        raise CheckpointError(
            f"{path} cannot be written ({failure}); free disk space or choose another path."
        ) from failure
