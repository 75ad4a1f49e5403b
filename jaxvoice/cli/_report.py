"""Messages on stderr, one line each."""

import sys
from typing import Literal


def report(kind: Literal["error", "warning"], message: object) -> None:
    """Print `jaxvoice: kind: message` to stderr as a single line, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"jaxvoice: {kind}: {' '.join(str(message).split())}", file=sys.stderr)
