"""Counts the work of a piece of Python, so that limits on it hold on any machine."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Work:
    """What was done: `calls` of functions, of Python's own and of built-in ones."""

    calls: int = 0


@contextmanager
def counted_work() -> Iterator[Work]:
    """Count the calls made inside by this thread."""
    work = Work()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            work.calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield work
    finally:
        sys.setprofile(before)
