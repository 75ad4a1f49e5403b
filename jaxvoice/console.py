"""The output of command lines. Errors are printed on one line of stderr."""

import contextlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated, Literal, TextIO, TypeVar

from jaxvoice.errors import JaxvoiceError

Parsed = TypeVar("Parsed")
_BOX = re.compile(r"[\u2500-\u257f]+|(?<!\S)-{3,}(?!\S)")
_FIELD = re.compile(r"Value error\s+Error parsing (?:--)?([^\s:]+):(?: [A-Z]\w*\.(\w+)(?= is ))?")


def print_text(text: object) -> None:
    """Print `text` to stdout. Characters that stdout cannot encode or that control a terminal are escaped."""
    print(_encodable("\n".join(map(printable, str(text).split("\n"))), sys.stdout))


def print_message(kind: Literal["error", "warning"], message: object, name: str = "jaxvoice") -> None:
    """Print `name: kind: message` to stderr as a single line, above a progress bar if there is one."""
    from tqdm import tqdm

    line = f"{name}: {kind}: {' '.join(str(message).split())}"
    tqdm.write(_encodable(printable(line), sys.stderr), file=sys.stderr)


def printable(text: str) -> str:
    """`text` on one line. Line breaks, control, formatting and combining characters are escaped.

    Names in untrusted files may contain such characters.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _prints(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def _prints(char: str) -> bool:
    # A terminal draws combining characters over the preceding character.
    return char.isprintable() and not unicodedata.combining(char)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def parse_command_line(parse: Callable[[], Parsed], *, name: str = "jaxvoice", unnamed: Sequence[str] = ()) -> Parsed:
    """The result of `parse`, which calls tyro. The boxed error of tyro becomes one line `name: error: ...` on stderr.

    **Arguments:** `unnamed`: names that are not part of flags: the name of the parsed class, and fields with
    `tyro.conf.arg(name="")`.

    **Raises:** `SystemExit(2)` after an error, `SystemExit(0)` after `--help`, also if its reader has closed the pipe.
    """
    stderr = io.StringIO()
    try:
        try:
            with contextlib.redirect_stderr(stderr):
                return parse()
        except SystemExit:
            sys.stdout.flush()
            raise
    except BrokenPipeError:
        _discard_stdout()
        raise SystemExit(0) from None
    except SystemExit as end:
        if stderr.getvalue().strip():
            print_message("error", _usage_error(stderr.getvalue(), unnamed), name)
        raise SystemExit(end.code) from None


def without_flags(hidden: Mapping[type, Collection[str]]) -> AbstractContextManager[None]:
    """A context in which fields of dataclasses are not flags, but keep their values.

    **Arguments:** `hidden`, the names of the fields by class.
    """
    import tyro
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

    registry, entered = ConstructorRegistry(), set[type]()

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        names: Collection[str] = hidden.get(info.type, ())
        if not names or info.type in entered:
            return None
        entered.add(info.type)
        usual = ConstructorRegistry.get_struct_spec(info)  # by the other rules
        entered.remove(info.type)
        if not isinstance(usual, StructConstructorSpec):
            return None
        shown = [
            replace(one, type=Annotated[one.type, tyro.conf.Suppress]) if one.name in names else one
            for one in usual.fields
        ]
        return replace(usual, fields=tuple(shown))

    return registry


def _usage_error(message: str, unnamed: Sequence[str]) -> str:
    """tyro's message without the box, and with flags instead of field names."""

    def flag(found: re.Match[str]) -> str:
        names = [name for i, name in enumerate(found[1].split(".")) if i or name not in unnamed]
        if found[2] is not None:
            return flag_name(*names, found[2])
        return f"{flag_name(*names)}:" if names else ""

    parts = _parts(message)
    if len(parts) > 1:
        parts = [_with_title(*parts[:2]), *parts[2:]]
    *others, last = (_FIELD.sub(flag, part).strip() for part in parts)
    return " ".join((*(part if part.endswith(".") else f"{part}." for part in others), last))


def _parts(message: str) -> list[str]:
    """The title and the parts of a message of tyro. The title is in the upper edge of the box, or a line above it."""
    parts, lines = [], []
    for line in [*message.splitlines(), ""]:
        text = _BOX.sub(" ", line).strip()
        lines += [text] if text else []
        if _BOX.search(line) and (not text or line.startswith("\u256d")):
            parts.append(" ".join(" ".join(lines).split()))
            lines = []
    parts.append(" ".join(" ".join(lines).split()))
    return [part for part in parts if part]


def _with_title(title: str, text: str) -> str:
    """The title of a box and its text as one sentence. Most texts repeat the first word of the title."""
    if title == "Value error":
        return f"{title} {text}"
    if text.startswith("Missing from "):
        return f"{title} m{text[1:]}"
    repeated = text.lower().startswith(title.split()[0].lower())
    return f"{text[:1].upper()}{text[1:]}" if repeated else f"{title}: {text[:1].lower()}{text[1:]}"


def flag_name(*path: str) -> str:
    """The flag of the field at `path`: `--model.upsample-rates` of `model` and `upsample_rates`."""
    return f"--{'.'.join(path).replace('_', '-')}"


def with_flag(message: str, names: Collection[str]) -> str:
    """`message` with a flag for the field in `names` that it begins with: `--steps is 0`, not `Loop.steps is 0`."""
    found = re.match(r"(?:[A-Z]\w*\.)?([a-z]\w*)(?= is )", message)
    return message if found is None or found[1] not in names else flag_name(found[1]) + message[found.end() :]


def run_command(
    action: Callable[[], int], *, name: str = "jaxvoice", debug: bool = False, options: Collection[str] = ()
) -> int:
    """Run `action` and return its exit code; 2 after an error, 130 after Ctrl-C.

    A `JaxvoiceError`, or an `OSError` such as a missing permission, becomes one line `name: error: ...` on stderr; with
    `debug`, it keeps its traceback. Any other exception is a bug and keeps its traceback.

    **Arguments:** `options`, names of arguments that are flags. An error about one of them names the flag.
    """
    try:
        code = action()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_stdout()
        return 0
    except JaxvoiceError as failure:
        if debug:
            raise
        print_message("error", with_flag(str(failure), options), name)
        return 2
    except OSError as failure:
        if debug:
            raise
        place = failure.filename
        if isinstance(place, bytes):
            place = os.fsdecode(place)
        print_message("error", failure if place is None else f"{place}: {failure.strerror}", name)
        return 2
    except KeyboardInterrupt:
        print_message("error", "interrupted.", name)
        return 130


def _discard_stdout() -> None:
    """Discard the output after a reader such as `head` has closed the pipe; Python would write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
