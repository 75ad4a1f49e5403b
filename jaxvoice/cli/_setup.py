"""Output folders of commands, and the compilation cache."""

from pathlib import Path

from jaxvoice.console import print_message
from jaxvoice.errors import ConfigError


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents if they do not exist.

    **Raises:** `ConfigError` if it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ConfigError(
            f"The folder {folder} cannot be created ({failure.strerror}); choose another OUTPUT."
        ) from failure


def use_compilation_cache() -> None:
    """Cache compiled programs on disk; print a warning if that is not possible."""
    from jaxvoice.training.process import enable_compilation_cache

    try:
        enable_compilation_cache()
    except ConfigError as failure:
        print_message("warning", f"{failure} Compiled programs are not cached.")
