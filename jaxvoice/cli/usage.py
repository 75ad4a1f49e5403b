"""Bad usage in one line, where tyro draws boxes."""

import contextlib
import io
import re
from collections.abc import Callable
from typing import TypeVar

from jaxvoice.cli._report import report

Parsed = TypeVar("Parsed")
_BOX = re.compile("[\u2500-\u257f]+")


def one_line_usage(parse: Callable[[], Parsed]) -> Parsed:
    """What `parse`, a call of tyro, returns; its complaints become one line on stderr.

    **Raises:** `SystemExit(2)` after a complaint, `SystemExit(0)` after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parse()
    except SystemExit as end:
        if complaint.getvalue().strip():
            report("error", _BOX.sub(" ", complaint.getvalue()))
        raise SystemExit(end.code) from None
