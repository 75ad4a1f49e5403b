"""The values of symbolic interpretation: literals, values stored in the archive, and computed values."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MAX_BITS = 1024


@dataclass(frozen=True)
class Computed:
    """A value that the program computes."""

    text: str = "?"
    """A short description of its origin."""

    def __repr__(self) -> str:
        return f"<{self.text}>"


@dataclass(frozen=True)
class Ref:
    """An attribute of the archive: a module, a tensor, or another value that is not plain."""

    path: str
    """Its dotted name."""

    def __repr__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Stored:
    """A plain value that is stored in the archive as an attribute or a constant, not as a literal in the code."""

    path: str
    """Its dotted name; `CONSTANTS.c0` is a constant."""
    value: Any
    """The stored value."""


@dataclass(frozen=True)
class NormedWeight:
    """A weight that is computed from the tensors of a norm."""

    norm: str
    """`weight norm` or `spectral norm`."""
    of: str
    """Dotted name of the module that has the weight."""
    dim: int = 0
    """The axis of weight norm."""


@dataclass(frozen=True)
class PaddedInput:
    """The result of padding."""

    amounts: tuple[int, ...]
    """Padding before and after each axis, last axis first, as in torch."""
    mode: str
    """`reflect`, `replicate`, `circular` or `zeros`."""
    by: str
    """Dotted name of the module that pads."""


@dataclass(frozen=True)
class FunctionRef:
    """A free function of the archive."""

    name: str
    """Its qualified name."""


@dataclass(frozen=True)
class Call:
    """One call in a method."""

    kind: str
    """`operator`, `module` or `function`."""
    name: str
    """Name of the operator (`conv1d`), or dotted name of the module called."""
    method: str = ""
    """The method of a module: `forward`, or `forward1` for the second call in a trace."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of an operator by name, or by position if its signature is unknown; empty for modules."""
    within: tuple[str, ...] = ()
    """The enclosing branches and loops: `if k > 1`, `if not k > 1`, `for each of range(k)`."""


def is_plain(value: Any) -> bool:
    """Whether `value` is a number, text, `None`, or a list of these."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, int):
        return value.bit_length() <= MAX_BITS
    return value is None or isinstance(value, (float, complex, str))


def cache_key(values: Any) -> Any:
    """A hashable key. Values that are known to be equal have equal keys, and so have all computed values."""
    if isinstance(values, Mapping):
        return tuple((name, cache_key(value)) for name, value in values.items())
    if isinstance(values, (list, tuple)):
        return tuple(map(cache_key, values))
    if isinstance(values, Computed):
        return "?"
    return type(values).__name__, repr(values)


def join_path(path: str, name: str) -> str:
    """Append `name` to the dotted name `path`."""
    return f"{path}.{name}" if path else name


def relative_path(path: str, top: str) -> str:
    """`path` relative to `top`."""
    return path[len(top) + 1 :] if top and path.startswith(f"{top}.") else path


def owner_path(weight: str) -> str:
    """The module of a norm's tensor. A parametrization belongs to the module that it parametrizes."""
    parts = weight.split(".")[:-1]
    return ".".join(parts[:-2] if "parametrizations" in parts[-2:-1] else parts)


def get_item(of: Any, index: Any, text: str) -> Any:
    """`of[index]` if both are known, otherwise `Computed(text)`."""
    of = of.value if isinstance(of, Stored) else of
    if isinstance(of, (list, tuple)) and isinstance(index, int) and -len(of) <= index < len(of):
        return of[index]
    return Computed(text)


def cast_number(name: str, value: Any, text: str) -> Any:
    """`int(value)`, `float(value)` or `bool(value)` if the value is known, otherwise `Computed(text)`."""
    value = value.value if isinstance(value, Stored) else value
    if name == "float" and value in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(value, (bool, int, float)) and abs(value) < 2**63:
        return {"int": int, "float": float, "bool": bool}[name](value)
    return Computed(text)


def symbolic_text(value: Any) -> str:
    """A short text for a symbolic value."""
    if isinstance(value, Computed):
        return value.text
    return repr(value.value if isinstance(value, Stored) else value)


def contains_list(value: Any, part: list[Any]) -> bool:
    """Whether `value` is the list object `part` or contains it."""
    return value is part or (isinstance(value, (list, tuple)) and any(contains_list(item, part) for item in value))


def expression_text(node: ast.expr) -> str:
    """The text of an expression, shortened if it is long."""
    if sum(1 for _ in islice(ast.walk(node), 60)) == 60:
        return "a long expression"
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."
