"""Running a command to its exit code: errors become one line."""

import os
import sys
from collections.abc import Callable

from jaxvoice.cli._report import report
from jaxvoice.errors import JaxvoiceError


def run_command(action: Callable[[], int], *, name: str = "jaxvoice", debug: bool = False) -> int:
    """The exit code that `action` returns; 2 after an error, 130 after Ctrl-C.

    A `JaxvoiceError`, or an `OSError` such as a lack of permission, becomes one line `name: error: ...` on stderr,
    unless `debug` asks for its traceback. Any other exception is a bug and keeps its traceback.
    """
    try:
        code = action()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output, `head` say, has had enough of it. What is still buffered must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except JaxvoiceError as failure:
        if debug:
            raise
        report("error", failure, name)
        return 2
    except OSError as failure:
        if debug:
            raise
        place = failure.filename
        if isinstance(place, bytes):
            place = os.fsdecode(place)
        report("error", failure if place is None else f"{place}: {failure.strerror}", name)
        return 2
    except KeyboardInterrupt:
        report("error", "interrupted.", name)
        return 130
