"""Hooks of MkDocs: the output of commands is inserted when the documentation is built."""

import contextlib
import io
import os
import re
import textwrap
from typing import Any

from jaxvoice.cli import main

_WIDTH = 110


def _output(command: str) -> str:
    """The standard output of `jaxvoice ... --help`, with long lines wrapped."""
    output = io.StringIO()
    os.environ["COLUMNS"] = str(_WIDTH)
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(command.split()[1:])
    lines = output.getvalue().strip().splitlines()
    return "\n".join(textwrap.fill(line, _WIDTH) if len(line) > _WIDTH else line for line in lines)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert the output below each line `$ jaxvoice ... --help`."""
    return re.sub(
        r"^\$ (jaxvoice .*--help)$",
        lambda found: f"{found[0]}\n\n{_output(found[1])}",
        markdown,
        flags=re.MULTILINE,
    )
