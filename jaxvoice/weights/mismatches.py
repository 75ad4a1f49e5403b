"""One error for all mismatches between the tensors of a file and the weights of a model."""

import difflib
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvoice.console import printable
from jaxvoice.errors import CheckpointError
from jaxvoice.weights.tensor_conversions import Layout, Shape

_SHOWN = 12
_LONGEST = 160
# Limits on the names that are compared for one hint: in large files, comparing all names is slow.
_CANDIDATES, _COMPARED = 2000, 20
ADVICE = (
    "Check that the configuration belongs to these weights; --ignore REGEX ignores tensors of the file, "
    "--allow-missing REGEX initialises missing ones"
)
"""The default remedy."""


def format_name(name: str, longest: int = _LONGEST) -> str:
    """A name from a file for a message: on one line, printable, and shortened if it is long."""
    return printable(name) if len(name) <= longest else f"{printable(name[: longest - 3])}..."


def format_names(names: Sequence[str]) -> str:
    """The first eight of `names` for a message."""
    return ", ".join(format_name(name, 60) for name in names[:8]) + (", ..." if len(names) > 8 else "")


class Mismatches:
    """A list of mismatches. `check` raises one error for all of them.

    **Arguments:** `what`, the subject of the error; `sources` and `targets`, by name, tuples that start with the shape;
    `prefix` of names in the file; `advice`, the remedy.
    """

    def __init__(
        self, what: str, sources: Mapping[str, Any], targets: Mapping[str, Any], prefix: str = "", advice: str = ""
    ):
        self._what, self._sources, self._targets = what, sources, targets
        self._prefix, self._advice = prefix, advice
        self._lines: list[tuple[str, str, str]] = []
        self._present: set[str] = set()  # targets that the file contains with another shape or dtype

    def unused(self, name: str, why: str = "") -> None:
        """Add the tensor `name` of the file, which no rule uses."""
        self._lines.append(("+", name, why))

    def missing(self, name: str) -> None:
        """Add the weight `name` of the model, which the file does not contain."""
        self._lines.append(("-", name, ""))

    def duplicate(self, target: str, first: Sequence[str], second: Sequence[str]) -> None:
        """Add the weight `target`, which two rules would write."""
        self._lines.append(("!", target, f"would be written by {_sum(first)} and by {_sum(second)}"))

    def shape(self, name: str, shape: Shape, target: str, wanted: Shape, layout: Layout | None = None) -> None:
        """Add the tensor `name`, whose shape is not that of its target."""
        self._present.add(target)
        how = "" if layout is None else f" (after {layout})"
        transposed = " (transposed?)" if shape != wanted and sorted(shape) == sorted(wanted) else ""
        self._lines.append(("!", name, f"has shape {shape}, {format_name(target)} needs {wanted}{how}{transposed}"))

    def dtype(self, name: str, dtype: np.dtype, target: str, wanted: np.dtype) -> None:
        """Add the tensor `name`, whose dtype cannot be cast to that of its target."""
        self._present.add(target)
        self._lines.append(("!", name, f"has dtype {dtype.name}, {format_name(target)} needs {wanted.name}"))

    def check(self) -> None:
        """Raise `CheckpointError` if there are mismatches."""
        if not self._lines:
            return
        lines = [line for line in self._lines if line[0] != "-" or line[1] not in self._present]
        lines.sort(key=lambda line: "!-+".index(line[0]))
        missing = [name for mark, name, _ in self._lines if mark == "-"]
        unused = [name for mark, name, _ in self._lines if mark == "+"]
        shown = [self._line(*line, missing, unused) for line in lines[:_SHOWN]]
        if len(lines) > _SHOWN:
            shown.append(f"... and {len(lines) - _SHOWN} more")
        raise CheckpointError(
            f"{self._what} do not match (- missing, + unused, ! wrong). {self._advice or ADVICE}:\n  "
            + "\n  ".join(shown)
        )

    def _line(self, mark: str, name: str, text: str, missing: Sequence[str], unused: Sequence[str]) -> str:
        if mark == "-":
            prefix = self._prefix
            near = _nearest(name, (one.removeprefix(prefix) for one in unused if one.startswith(prefix)))
            return (
                f"- {format_name(name)} {tuple(self._targets[name][0])}{_hint('the file has', near and prefix + near)}"
            )
        if mark == "+":
            hint = f" ({text})" if text else _hint("did you mean", _nearest(name.removeprefix(self._prefix), missing))
            return f"+ {format_name(name)} {tuple(self._sources[name][0])}{hint}"
        return f"! {format_name(name)} {text}"


def _sum(names: Sequence[str]) -> str:
    return " + ".join(map(format_name, names))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    if len(name) > _LONGEST:
        return None
    some = (one for one in itertools.islice(known, _CANDIDATES) if len(one) <= _LONGEST)
    close = heapq.nlargest(_COMPARED, some, key=lambda one: _shared(name, one))
    found = difflib.get_close_matches(name, close, n=1, cutoff=0.8)
    return found[0] if found else None


def _shared(first: str, second: str) -> int:
    """The number of characters in the common prefix and suffix."""

    def alike(pairs: Iterable[tuple[str, str]]) -> int:
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return alike(zip(first, second, strict=False)) + alike(zip(reversed(first), reversed(second), strict=False))


def _hint(words: str, near: str | None) -> str:
    return f" ({words} {format_name(near)}?)" if near else ""
