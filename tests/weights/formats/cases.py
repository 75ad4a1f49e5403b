"""What every hostile file is: how it is made, and what its refusal says."""

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
    """Its bytes."""
    says: str
    """A regular expression that the message fits."""
    read: bool = False
    """Whether opening may pass and reading the tensor `weight` is refused."""
    costly: bool = False
    """Whether it takes long to make or to refuse."""


CASES: dict[str, Case] = {}
"""All of them by title; filled by the modules `hostile_...`."""


def add(title: str, make: Callable[[], bytes], says: str, *, read: bool = False, costly: bool = False) -> None:
    """Note a hostile file."""
    assert title not in CASES
    CASES[title] = Case(make, says, read, costly)


def add_pickle(title: str, value: Callable[[], bytes] | bytes, says: str) -> None:
    """Note a hostile pickle, in a zip file of torch."""
    add(
        title, lambda: torch_zip(table({"weight": tensor(), "x": value if isinstance(value, bytes) else value()})), says
    )
