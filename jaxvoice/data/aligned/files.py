"""Text files of unknown origin, read whole."""

import codecs
from pathlib import Path

from jaxvoice.data.aligned.alignment import Misfit

_MOST_BYTES = 64 * 2**20


def read_text(path: Path) -> str:
    """The text of the file at `path`: UTF-16 where it begins with a byte order mark that says so, else UTF-8.

    **Raises:** `Misfit` if it cannot be read, is larger than 64 MiB, or is no such text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as failure:
        raise Misfit("broken", f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    if len(data) > _MOST_BYTES:
        raise Misfit("broken", f"{path} is larger than {_MOST_BYTES:,} bytes, which no alignment is; remove it.")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as failure:
        kind = "UTF-16" if wide else "UTF-8"
        raise Misfit("broken", f"{path} is not {kind} text ({failure.reason}); save it as UTF-8.") from failure


def number(text: str, path: Path, what: str) -> float:
    """`text` as a number; raises `Misfit` naming `what` it should be."""
    try:
        return float(text)
    except ValueError:
        raise Misfit("broken", f"{path}: {what} should be a number, got {text[:40]!r}; mend the file.") from None
