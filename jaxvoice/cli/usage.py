"""Bad usage in one line, where tyro draws boxes."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from jaxvoice.cli._report import report

Parsed = TypeVar("Parsed")
_BOX = re.compile(r"[\u2500-\u257f]+|(?<!\S)-{3,}(?!\S)")
_PLACE = re.compile(r"Value error\s+Error parsing (?:--)?([^\s:]+):")


def one_line_usage(parse: Callable[[], Parsed], *, name: str = "jaxvoice", unnamed: Sequence[str] = ()) -> Parsed:
    """What `parse`, a call of tyro, returns; its complaints become one line `name: error: ...` on stderr.

    `unnamed` are what stands in no flag: the class that is parsed, and fields with `tyro.conf.arg(name="")`.

    **Raises:** `SystemExit(2)` after a complaint, `SystemExit(0)` after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parse()
    except SystemExit as end:
        if complaint.getvalue().strip():
            report("error", _told(complaint.getvalue(), unnamed), name)
        raise SystemExit(end.code) from None


def _told(complaint: str, unnamed: Sequence[str]) -> str:
    """The complaint without its box, and with the flag where tyro names a field."""

    def flag(found: re.Match[str]) -> str:
        names = [name for i, name in enumerate(found[1].split(".")) if i or name not in unnamed]
        return f"--{'.'.join(names)}:" if names else ""

    return _PLACE.sub(flag, " ".join(_BOX.sub(" ", complaint).split())).strip()
