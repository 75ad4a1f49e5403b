"""Values of a program that is interpreted symbolically: known, kept in the archive, or computed."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MAX_BITS = 1024


@dataclass(frozen=True)
class Computed:
    """A value that depends on what the program is given."""

    text: str = "?"
    """Where it comes from, in short."""

    def __repr__(self) -> str:
        return f"<{self.text}>"


@dataclass(frozen=True)
class Ref:
    """An attribute of the archive: a module, a tensor, or another value that is no plain one."""

    path: str
    """Its dotted name."""

    def __repr__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Stored:
    """A plain value that is kept in the archive, as an attribute or a constant, rather than spelled in the text."""

    path: str
    """Its dotted name; `CONSTANTS.c0` is a constant."""
    value: Any
    """The value kept."""


@dataclass(frozen=True)
class Normed:
    """A weight computed from the tensors that a norm keeps instead of it."""

    norm: str
    """`weight norm` or `spectral norm`."""
    of: str
    """Dotted name of the module whose weight it is."""
    dim: int = 0
    """The axis that weight norm keeps."""


@dataclass(frozen=True)
class Padded:
    """The result of a padding, until it is used."""

    amounts: tuple[int, ...]
    """As in torch: before and after, last axis first."""
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
    """One call that a method makes."""

    kind: str
    """`operator`, `module` or `function`."""
    name: str
    """Name of the operator (`conv1d`), or dotted name of the module called."""
    method: str = ""
    """For a module: `forward`, or `forward1` for a trace's second use."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Values by name of argument; by number where the operator is not known. Not of modules."""
    within: tuple[str, ...] = ()
    """Branches and loops around it: `if k > 1`, `else`, `for each of range(k)`."""


def is_plain(value: Any) -> bool:
    """Whether `value` is a number, text, `None`, or a list of these."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, int):
        return value.bit_length() <= MAX_BITS
    return value is None or isinstance(value, (float, complex, str))


def key_of(values: Any) -> Any:
    """Equal for values that are known to be equal; all that is computed counts as one."""
    if isinstance(values, Mapping):
        return tuple((name, key_of(value)) for name, value in values.items())
    if isinstance(values, (list, tuple)):
        return tuple(map(key_of, values))
    if isinstance(values, Computed):
        return "?"
    return type(values).__name__, repr(values)


def joined(path: str, name: str) -> str:
    """The dotted name of `name` at `path`."""
    return f"{path}.{name}" if path else name


def below(path: str, top: str) -> str:
    """`path` as seen from `top`."""
    return path[len(top) + 1 :] if top and path.startswith(f"{top}.") else path


def owner_of(weight: str) -> str:
    """The module a norm's tensor belongs to: a parametrization belongs to the module that has it."""
    parts = weight.split(".")[:-1]
    return ".".join(parts[:-2] if "parametrizations" in parts[-2:-1] else parts)


def item_of(of: Any, index: Any, text: str) -> Any:
    """`of[index]` where both are known; `text` is how it is called else."""
    of = of.value if isinstance(of, Stored) else of
    if isinstance(of, (list, tuple)) and isinstance(index, int) and -len(of) <= index < len(of):
        return of[index]
    return Computed(text)


def cast(name: str, value: Any, text: str) -> Any:
    """`int(value)` and the like where the value is known."""
    value = value.value if isinstance(value, Stored) else value
    if name == "float" and value in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(value, (bool, int, float)) and abs(value) < 2**63:
        return {"int": int, "float": float, "bool": bool}[name](value)
    return Computed(text)


def format_value(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Computed):
        return value.text
    return repr(value.value if isinstance(value, Stored) else value)


def holds(value: Any, part: list[Any]) -> bool:
    """Whether `value` is the very list `part`, or has it inside."""
    return value is part or (isinstance(value, (list, tuple)) and any(holds(item, part) for item in value))


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` where `node` is that, else `None`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def short(node: ast.expr) -> str:
    """The text of an expression, cut where it is long."""
    if sum(1 for _ in islice(ast.walk(node), 60)) == 60:
        return "a long expression"
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."
