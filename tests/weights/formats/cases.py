"""Hostile files: their bytes, and the messages with which the readers refuse them."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.weights.formats.forge import call, table, tensor, text, torch_zip

MARKER = "something_ran"
"""A file that appears when a hostile one gets what it wants."""
RUN = text(f"echo > {MARKER}")
WRITE = text(f"open({MARKER!r}, 'w')")
EVIL = call("posix.system", RUN)


@dataclass(frozen=True)
class Case:
    """A file that must be refused."""

    make: Callable[[], bytes]
    """Returns the bytes of the file."""
    says: str
    """A regular expression that matches the message."""
    read: bool = False
    """Whether the file may be opened, and reading its tensor `weight` is refused."""
    costly: bool = False
    """Whether it takes long to create or to refuse the file."""


CASES: dict[str, Case] = {}
"""All of them by title; filled by the modules `hostile_...`."""


def add(title: str, make: Callable[[], bytes], says: str, *, read: bool = False, costly: bool = False) -> None:
    """Add a hostile file."""
    assert title not in CASES
    CASES[title] = Case(make, says, read, costly)


def add_pickle(title: str, value: Callable[[], bytes] | bytes, says: str) -> None:
    """Add a torch zip file with a hostile pickle."""
    add(
        title, lambda: torch_zip(table({"weight": tensor(), "x": value if isinstance(value, bytes) else value()})), says
    )
