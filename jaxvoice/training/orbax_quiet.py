"""Orbax and TensorStore without what they print on their own; what matters of it comes back as exceptions."""

import inspect
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """While open, drop Orbax's narration through absl's logger and its complaints about abandoned operations.

    When reading or writing one array fails, the operations on the others are abandoned, and each would print a
    traceback ("Event loop is closed") from another thread or from the garbage collector.
    """
    absl, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _is_abandoned(unraisable):
            before(unraisable)

    absl.addFilter(_not_from_orbax)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        absl.removeFilter(_not_from_orbax)


def _is_abandoned(unraisable: Any) -> bool:
    if str(unraisable.exc_value) == "Event loop is closed":
        return True
    task = unraisable.object
    return inspect.iscoroutine(task) and "orbax" in task.cr_code.co_filename


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
