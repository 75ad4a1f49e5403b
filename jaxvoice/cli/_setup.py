"""Shared by the commands: output folders, the compilation cache, and warnings on stderr."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import tyro

from jaxvoice.console import print_message
from jaxvoice.errors import ConfigError, JaxvoiceWarning


def option_names(command: Any) -> set[str]:
    """The names of the fields of `command` that are flags."""
    return {option.name for option in fields(command) if tyro.conf.Positional not in get_args(option.type)}


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


def check_folder(folder: Path) -> None:
    """Check that `folder` can be written, or created with its parents, without creating it.

    **Raises:** `ConfigError` if it cannot.
    """
    absolute = folder.absolute()
    existing = next((path for path in (absolute, *absolute.parents) if os.path.lexists(path)), absolute)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "is not writable" if existing.is_dir() else "is not a folder"
        raise ConfigError(f"The folder {folder} cannot be written: {existing} {problem}. Choose another OUTPUT.")


def use_compilation_cache() -> None:
    """Cache compiled programs on disk; print a warning if the cache cannot be used."""
    from jaxvoice.training.process import enable_compilation_cache

    try:
        enable_compilation_cache()
    except ConfigError as failure:
        print_message("warning", f"{failure} Compiled programs are not cached.")


@contextlib.contextmanager
def printed_warnings(shown: set[str] | None = None) -> Iterator[None]:
    """A context that prints its `JaxvoiceWarning`s as single lines on stderr when it ends without an error.

    Warnings in `shown` are not printed, and those that are printed are added to it.
    """
    shown = set() if shown is None else shown
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", JaxvoiceWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        if text not in shown:
            print_message("warning", text)
            shown.add(text)
