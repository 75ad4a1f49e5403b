"""What does not fit between a file and a model, told in one error."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.layouts import Layout, Shape

_SHOWN = 12
_ADVICE = (
    "Check that the configuration is theirs; --ignore REGEX leaves tensors of the file out, --allow-missing REGEX "
    "begins with initial values"
)


class Misfits:
    """Collects them; `refuse` raises if there is any."""

    def __init__(
        self, where: str, sources: Mapping[str, Any], targets: Mapping[str, Any], prefix: str = "", advice: str = ""
    ):
        self._where, self._sources, self._targets = where, sources, targets
        self._prefix, self._advice = prefix, advice
        self._lines: list[tuple[str, str, str]] = []
        self._there: set[str] = set()  # targets that the file has, in another shape or type

    def unused(self, name: str, why: str = "") -> None:
        """`name` of the file is used by no rule."""
        self._lines.append(("+", name, why))

    def missing(self, name: str) -> None:
        """`name` of the model is given by no tensor of the file."""
        self._lines.append(("-", name, ""))

    def twice(self, target: str, first: Sequence[str], second: Sequence[str]) -> None:
        """Two tensors stand for one."""
        self._lines.append(("!", target, f"would be written by {' + '.join(first)} and by {' + '.join(second)}"))

    def shape(self, name: str, shape: Shape, target: str, wanted: Shape, layout: Layout | None = None) -> None:
        """`name` has a shape that does not become the wanted one."""
        self._there.add(target)
        how = "" if layout is None else f" (after {layout})"
        transposed = " (transposed?)" if shape != wanted and sorted(shape) == sorted(wanted) else ""
        self._lines.append(("!", name, f"has shape {shape}, {target} wants {wanted}{how}{transposed}"))

    def dtype(self, name: str, dtype: np.dtype, target: str, wanted: np.dtype) -> None:
        """`name` holds numbers that cannot become the wanted ones."""
        self._there.add(target)
        self._lines.append(("!", name, f"holds {dtype.name}, {target} wants {wanted.name}"))

    def refuse(self) -> None:
        """**Raises:** `CheckpointError` if anything was noted."""
        if not self._lines:
            return
        missing = [name for mark, name, _ in self._lines if mark == "-"]
        unused = [name for mark, name, _ in self._lines if mark == "+"]
        lines = []
        for mark, name, text in self._lines:
            if mark == "-":
                if name in self._there:
                    continue
                near = _nearest(name, [one.removeprefix(self._prefix) for one in unused])
                text = _hint("the file has", near and self._prefix + near)
                lines.append(f"- {name} {tuple(self._targets[name][0])}{text}")
            elif mark == "+":
                hint = (
                    f" ({text})" if text else _hint("did you mean", _nearest(name.removeprefix(self._prefix), missing))
                )
                lines.append(f"+ {name} {tuple(self._sources[name][0])}{hint}")
            else:
                lines.append(f"! {name} {text}")
        lines.sort(key=lambda line: "!-+".index(line[0]))
        shown = lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} more"]
        raise CheckpointError(
            f"the tensors of {self._where} do not fit (- missing, + unused, ! wrong). {self._advice or _ADVICE}:\n  "
            + "\n  ".join(shown)
        )


def _nearest(name: str, known: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return found[0] if found else None


def _hint(words: str, near: str | None) -> str:
    return f" ({words} {near}?)" if near else ""
