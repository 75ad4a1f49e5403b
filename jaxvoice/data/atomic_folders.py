"""The user's cache folder, and folders that appear and disappear in one step."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """The folder for files that jaxvoice can make again, or the folder `parts` below it; it may not exist yet.

    It is the environment variable `JAXVOICE_CACHE` if that is set, else `jaxvoice` below `%LOCALAPPDATA%` on Windows,
    `~/Library/Caches` on macOS, and `$XDG_CACHE_HOME` or `~/.cache` elsewhere.
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
    """A temporary folder beside `final` that is moved to `final` when the block ends without an error.

    If another process has made the folder `final` in the meantime, that folder stays and the new one is removed. On an
    error, the temporary folder is removed. Raises `OSError` if the folder cannot be created.
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
    """Move `folder` aside, then delete it, so that no other process sees a part of it."""
    with (
        contextlib.suppress(FileNotFoundError),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as aside,
    ):
        shutil.move(folder, Path(aside) / folder.name)
