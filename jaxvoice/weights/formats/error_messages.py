"""Parts of the readers' error messages: the name of the file, and values from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.errors import CheckpointError

DAMAGED = "the file is damaged or cut short; download or copy it again"
MALICIOUS = "the file may be malicious, so do not load it with torch.load either"


@contextmanager
def error_prefix(path: Path | str) -> Iterator[None]:
    """Prefix the message of a `CheckpointError` that is raised in the block with `path`."""
    try:
        yield
    except CheckpointError as problem:
        raise type(problem)(f"{path}: {problem}") from problem


def safe_text(value: Any) -> str:
    """Format a value from a file for a message. The text is short and ASCII, and the function never raises."""
    if isinstance(value, bool | float | None):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        return ascii(value) if len(value) <= 100 else f"{value[:80]!a}... ({len(value)} long)"
    if isinstance(value, tuple | list) and len(value) <= 10 and all(type(part) is int for part in value):
        return f"({', '.join(map(safe_text, value))})"
    if isinstance(value, np.dtype):
        return str(value)
    name = getattr(value, "name", None) or getattr(value, "class_name", None)
    return f"{type(value).__name__} {safe_text(name)}" if isinstance(name, str) else f"a {type(value).__name__}"
