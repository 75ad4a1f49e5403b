"""Folders that commands write into."""

from pathlib import Path

from jaxvoice.errors import ConfigError


def make_folder(folder: Path) -> None:
    """Make `folder`, and those above it, where they are not there yet.

    **Raises:** `ConfigError` if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ConfigError(
            f"The folder {folder} cannot be made ({failure.strerror}); choose another OUTPUT."
        ) from failure
