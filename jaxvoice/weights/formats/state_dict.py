"""Conversion of the value of a pickle to named tensors, a module tree and plain values.

Pickled modules are named as in torch's `state_dict`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from itertools import accumulate
from typing import Any
from uuid import UUID

import numpy as np

from jaxvoice.errors import RefusedError
from jaxvoice.weights.archive import ModuleNode, TensorInfo, TensorKind
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import safe_text
from jaxvoice.weights.formats.limits import CONTAINER, ITEM, Budget
from jaxvoice.weights.formats.pickle_objects import Global, InlineArray, Record, StorageRef, TensorRef

_NAMELESS = (TensorRef, StorageRef, InlineArray, Record)
NOTHING = object()
"""Placeholder for a value that contains only tensors."""

Members = Callable[[Record], "list[tuple[Any, Any, TensorKind | None]] | None"]
"""Returns the members of a record as names, values and kinds; `None` if the record is not a module."""


@dataclass
class Contents:
    """The contents of an archive."""

    tensors: dict[str, TensorRef | np.ndarray] = field(default_factory=dict)
    """References to tensors, or arrays stored in the pickle, by dotted name."""
    kinds: dict[str, TensorKind] = field(default_factory=dict)
    """Kind of each tensor, by dotted name."""
    metadata: Any = None
    """The plain values, nested as in the file."""
    nodes: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Class and plain attributes of modules by dotted name, if the file contains them."""

    def infos(self) -> dict[str, TensorInfo]:
        """Shape, dtype, storage and kind of all tensors."""
        return {name: _tensor_info(name, value, self.kinds[name]) for name, value in self.tensors.items()}

    def modules(self, budget: Budget) -> ModuleNode:
        """The module tree."""
        return module_tree(self.tensors, budget, self.nodes)


def walk(content: Any, members: Members, what: str, budget: Budget) -> Contents:
    """Name the tensors, modules and plain values in `content`.

    **Raises:** `RefusedError` if `content` is too large, too deep or contains itself, or if two tensors have one name.
    """
    walker = _Walker(members, what, budget)
    plain = walker.visit(content, "", 0)
    walker.found.metadata = {} if plain is NOTHING else plain if isinstance(plain, dict) else {"value": plain}
    return walker.found


class _Walker:
    """Visits the values of a pickle and collects its contents."""

    def __init__(self, members: Members, what: str, budget: Budget):
        self.found, self._members, self._what, self._budget = Contents(), members, what, budget
        self._open: set[int] = set()

    def visit(self, value: Any, name: str, depth: int, kind: TensorKind | None = None) -> Any:
        """The plain values in `value`, or `NOTHING`; its tensors and modules are recorded under `name`."""
        self._budget.nodes -= 1
        if self._budget.nodes < 0:
            raise self._refused(f"has more than {limits.NODES:,} values, counting repeated ones at each position")
        if value is None or isinstance(value, bool | int | float | str | bytes | complex):
            return value
        if isinstance(value, TensorRef):
            return self._tensor(name, value, kind or ("parameter" if value.parameter else "tensor"))
        if isinstance(value, InlineArray):
            return str(value.dtype) if value.array is None else self._array(name, value.array)
        if isinstance(value, Global):
            return value.name
        if isinstance(value, StorageRef):
            flat = TensorRef(value, 0, (value.numel,), (1,))
            return self._tensor(name, flat, "tensor")
        if id(value) in self._open:
            if isinstance(value, Record):
                return NOTHING
            raise self._refused(f"has {safe_text(value)} that contains itself, at {safe_text(name)}")
        if depth >= limits.DEPTH:
            raise self._refused(f"nests values more than {limits.DEPTH} deep, at {safe_text(name[:200])}")
        self._budget.charge(self._what, work=8, memory=CONTAINER)
        self._open.add(id(value))
        try:
            return self._inside(value, name, depth + 1)
        finally:
            self._open.discard(id(value))

    def _inside(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, dict):
            return self._dict(value, name, depth)
        if isinstance(value, list | tuple):
            return self._list(value, name, depth)
        if isinstance(value, set | frozenset):
            return [self.visit(part, name, depth) for part in value]
        if isinstance(value, Record):
            members = self._members(value)
            return self._record(value, name, depth) if members is None else self._module(value, members, name, depth)
        return safe_text(value)

    def _dict(self, value: dict[Any, Any], name: str, depth: int) -> Any:
        plain = {}
        self._budget.charge(self._what, work=4 * len(value), memory=ITEM * len(value))
        for index, (key, part) in enumerate(value.items()):
            # Keys of optimiser states are parameters; `state_dict` numbers them.
            key = index if isinstance(key, _NAMELESS) else key
            known = isinstance(key, str | int | float | None)
            inside = self._below(part, name, key, depth)
            if inside is not NOTHING:
                plain[key if known else _key_name(key)] = inside
        return plain or NOTHING

    def _list(self, value: list[Any] | tuple[Any, ...], name: str, depth: int) -> Any:
        parts = []
        self._budget.charge(self._what, work=4 * len(value), memory=8 * len(value))
        for index, part in enumerate(value):
            parts.append(self._below(part, name, index, depth))
        if parts and all(part is NOTHING for part in parts):
            return NOTHING
        return [None if part is NOTHING else part for part in parts]

    def _record(self, record: Record, name: str, depth: int) -> Any:
        simple = plain_record(record)
        if simple is not None:
            return simple
        value = omega_value(record)
        if value is not None:
            return self.visit(value[0], name, depth)
        parts: dict[str, Any] = {}
        args = record.args[0] if len(record.args) == 1 else record.args or None
        for part in (record.state, record.items, args):
            inside = NOTHING if part is None else self.visit(part, name, depth)
            if isinstance(inside, dict):
                parts |= inside
            elif inside is not NOTHING:
                parts["value"] = inside
        return parts["value"] if parts.keys() == {"value"} else parts or NOTHING

    def _module(self, record: Record, members: list[tuple[Any, Any, TensorKind | None]], name: str, depth: int) -> Any:
        attributes: dict[str, Any] = {}
        self.found.nodes[name] = (record.class_name, attributes)
        for key, value, kind in members:
            inside = self._below(value, name, key, depth, kind)
            if inside is not NOTHING:
                attributes[str(key)] = inside
        return NOTHING

    def _below(self, value: Any, name: str, key: Any, depth: int, kind: TensorKind | None = None) -> Any:
        """Visit the item `key` of the value `name`. Only values that can contain tensors get a name."""
        if value is None or isinstance(value, bool | int | float | str):
            return self.visit(value, "", depth)
        return self.visit(value, self._join(name, key), depth, kind)

    def _join(self, name: str, key: Any) -> str:
        part = key if isinstance(key, str) else str(key) if type(key) is int else _key_name(key)
        joined = f"{name}.{part}" if name else part
        self._budget.names -= len(joined)
        if len(joined) > limits.NAME_LENGTH or self._budget.names < 0:
            raise self._refused(
                f"has names of more than {limits.NAME_LENGTH} characters, or too many, at {safe_text(joined)}"
            )
        return joined

    def _tensor(self, name: str, value: TensorRef | np.ndarray, kind: TensorKind) -> Any:
        name = name or "tensor"
        if name in self.found.tensors:
            raise self._refused(f"has two tensors with the name {safe_text(name)}; rename one of them")
        self._budget.tensors -= 1
        if self._budget.tensors < 0:
            raise self._refused(f"has more than {limits.TENSORS:,} tensors")
        # The memory of its reference, kind and description, and of its module.
        self._budget.charge(self._what, work=50, memory=350 + 2 * len(name))
        self.found.tensors[name], self.found.kinds[name] = value, kind
        return NOTHING

    def _array(self, name: str, array: np.ndarray) -> Any:
        if array.dtype.kind in "SU":
            return safe_text(array.tolist()) if array.ndim == 0 else f"an array of {array.size} texts"
        return self._tensor(name, array, "tensor")

    def _refused(self, what: str) -> RefusedError:
        return RefusedError(f"{self._what} {what}.")


def _key_name(key: Any) -> str:
    return key.name if isinstance(key, Global) else safe_text(key)


def _tensor_info(name: str, value: TensorRef | np.ndarray, kind: TensorKind) -> TensorInfo:
    if isinstance(value, TensorRef):
        return TensorInfo(value.shape, value.storage.dtype, value.storage.key, kind)
    return TensorInfo(value.shape, value.dtype, f"pickle/{name}", kind)


def torch_members(record: Record) -> list[tuple[Any, Any, TensorKind | None]] | None:
    """The members of a pickled `nn.Module`, in the order of `state_dict`, without torch's internal attributes."""
    state = record.state
    if not isinstance(state, dict):
        return None
    own, buffers, below = (state.get(name) for name in ("_parameters", "_buffers", "_modules"))
    if not (isinstance(own, dict) and isinstance(buffers, dict) and isinstance(below, dict)):
        return None
    passing = state.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, set | list) else ()
    return [
        *((key, value, "parameter") for key, value in own.items() if value is not None),
        *(
            (key, value, "tensor" if key in passing else "buffer")
            for key, value in buffers.items()
            if value is not None
        ),
        *((key, value, None) for key, value in below.items() if value is not None),
        *((key, value, None) for key, value in _plain(state)),
    ]


_OWN = frozenset(("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_backend"))
_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called", "_backward_hook")


def _plain(state: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for key, value in state.items():
        if isinstance(key, str) and key not in _OWN and not key.endswith(_HOOKS):
            yield key, value


# The module tree

# Bytes of a module, including its node and the dicts of both.
_MODULE = 500


@dataclass(slots=True)
class _Node:
    class_name: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)

    def module(self) -> ModuleNode:
        return ModuleNode(self.class_name, {key: node.module() for key, node in self.children.items()}, self.attributes)


def module_tree(
    tensors: Iterable[str], budget: Budget, known: Mapping[str, tuple[str, dict[str, Any]]] | None = None
) -> ModuleNode:
    """The tree of the modules that contain tensors of these names.

    **Arguments:** `known`, class and attributes of modules by name.

    **Raises:** `RefusedError` if the tree would be too deep or too large.
    """
    root = _Node()

    def at(parts: list[str]) -> _Node:
        node = root
        budget.charge("its module tree", work=10 + 4 * len(parts))
        for part in parts:
            if part not in node.children:
                node.children[part] = _Node()
                budget.modules -= 1
                budget.charge("its module tree", work=30, memory=_MODULE)
                if budget.modules < 0 or len(parts) > limits.DEPTH:
                    raise RefusedError(f"its module tree is too large or too deep, at {safe_text(part)}.")
            node = node.children[part]
        return node

    for name in tensors:
        at(name.split(".")[:-1])
    for name, (class_name, attributes) in (known or {}).items():
        node = at(name.split(".") if name else [])
        node.class_name, node.attributes = class_name, attributes
    return root.module()


# Plain values


def plain_record(record: Record) -> str | None:
    """A date, a time or an exact number as text; `None` for any other record."""
    try:
        return _record_text(record)
    except (ValueError, OverflowError):
        return None


def _record_text(record: Record) -> str | None:
    match record:
        case Record("datetime.datetime", (bytes() as raw, *zone)) if len(raw) == 10 and len(zone) < 2:
            year, month, day, hour, minute, second, micro = _big_endian_integers(raw, 2, 1, 1, 1, 1, 1, 3)
            month &= 0x7F  # the eighth bit is `fold`
            return _isoformat(datetime(year, month, day, hour, minute, second, micro), *zone)
        case Record("datetime.time", (bytes() as raw, *zone)) if len(raw) == 6 and len(zone) < 2:
            hour, minute, second, micro = _big_endian_integers(raw, 1, 1, 1, 3)
            return _isoformat(time(hour & 0x7F, minute, second, micro), *zone)
        case Record("datetime.date", (bytes() as raw,)) if len(raw) == 4:
            return date(*_big_endian_integers(raw, 2, 1, 1)).isoformat()
        case Record("datetime.timedelta", (int() as days, int() as seconds, int() as micro)):
            return str(timedelta(days, seconds, micro))
        case Record("decimal.Decimal" | "fractions.Fraction", (str() as text,)):
            return text
        case Record("fractions.Fraction", (int() as above, int() as below)):
            return f"{safe_text(above)}/{safe_text(below)}"
        case Record("builtins.range" | "builtins.slice", args) if all(
            part is None or type(part) is int for part in args
        ):
            return f"{record.class_name.removeprefix('builtins.')}({', '.join(map(safe_text, args))})"
        case Record("uuid.UUID", (), {"int": int() as number}):
            return str(UUID(int=number))
        case _:
            return None


def _isoformat(moment: datetime | time, zone: Any = None) -> str:
    """ISO 8601. A time zone with an unknown offset is appended by the name of its class."""
    match zone:
        case None:
            return moment.isoformat()
        case Record("datetime.timezone", (Record("datetime.timedelta", (int() as d, int() as s, int() as m)), *_)):
            return moment.replace(tzinfo=timezone(timedelta(d, s, m))).isoformat()
        case Record():
            return f"{moment.isoformat()} ({zone.class_name})"
        case _:
            return moment.isoformat()


def _big_endian_integers(raw: bytes, *widths: int) -> list[int]:
    ends = list(accumulate(widths))
    return [int.from_bytes(raw[end - width : end], "big") for end, width in zip(ends, widths, strict=True)]


def omega_value(record: Record) -> tuple[Any] | None:
    """The content of an OmegaConf container or node, in a tuple; `None` for any other record."""
    if record.class_name.startswith("omegaconf.") and isinstance(record.state, dict):
        for key in ("_content", "_val"):
            if key in record.state:
                return (record.state[key],)
    return None
