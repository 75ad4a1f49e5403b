"""What the command says: results on stdout, messages on stderr, one line each."""

import sys
from typing import Literal, TextIO


def report(kind: Literal["error", "warning"], message: object, name: str = "jaxvoice") -> None:
    """Print `name: kind: message` to stderr as a single line, above a progress bar if there is one."""
    from tqdm import tqdm

    line = f"{name}: {kind}: {' '.join(str(message).split())}"
    tqdm.write(_printable(plain(line), sys.stderr), file=sys.stderr)


def show(result: object) -> None:
    """Print `result` to stdout; characters that it cannot take, or that command a terminal, are escaped."""
    print(_printable("\n".join(map(plain, str(result).split("\n"))), sys.stdout))


def plain(text: str) -> str:
    """`text` with line breaks, control and formatting characters escaped, which names in hostile files may hold."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _printable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
