"""JAX's persistent compilation cache in a private folder of the user, so that a second run starts at once."""

import os
import stat
from pathlib import Path

import jax

from jaxvoice.data.folders import cache_folder
from jaxvoice.errors import ConfigError


def enable_compilation_cache(folder: Path | None = None) -> Path:
    """Turn the cache on in `folder` (by default `xla` below the user's cache folder) and say where it is.

    Cached programs are run as they are, so the folder must be the user's own and closed to others.

    **Raises:** `ConfigError` when it cannot be made, belongs to someone else, or cannot be made private.
    """
    folder = cache_folder("xla") if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name == "posix":
            found = folder.stat()
            if found.st_uid != os.getuid():
                raise ConfigError(
                    f"The compilation cache {folder} belongs to another user (id {found.st_uid}) who could run code "
                    "through it; set JAXVOICE_CACHE to a folder of your own."
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                folder.chmod(0o700)
    except OSError as failure:
        raise ConfigError(
            f"The compilation cache {folder} cannot be made ({failure.strerror}); set JAXVOICE_CACHE to a folder that "
            "can be written."
        ) from failure
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
