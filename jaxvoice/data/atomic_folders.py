"""The user's cache folder, and atomic creation and removal of folders."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """The user's cache folder, or the folder `parts` below it. The folder may not exist.

    The environment variable `JAXVOICE_CACHE` sets the folder. By default, it is `jaxvoice` below `%LOCALAPPDATA%` on
    Windows, `~/Library/Caches` on macOS, and `$XDG_CACHE_HOME` or `~/.cache` elsewhere.
    """
    chosen = os.environ.get("JAXVOICE_CACHE")
    if chosen:
        return Path(chosen).expanduser().joinpath(*parts)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base.joinpath("jaxvoice", *parts)


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """A context with a temporary folder beside `final`, which is moved to `final` when the block ends without an error.

    If another process has created `final` in the meantime, the temporary folder is removed instead. It is also removed
    after an error.

    **Raises:** `OSError` if the folder cannot be created.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent, ignore_cleanup_errors=True) as scratch:
        making = Path(scratch) / final.name
        making.mkdir()
        yield making
        try:
            making.rename(final)
        except OSError:
            if not final.is_dir() or not any(final.iterdir()):
                raise


def remove_folder(folder: Path) -> None:
    """Rename `folder`, then delete it, so that no other process finds an incomplete folder."""
    with (
        contextlib.suppress(FileNotFoundError),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as aside,
    ):
        shutil.move(folder, Path(aside) / folder.name)
