"""How a file of another implementation holds the tensors of a model, so that `export` can write such a file again."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

from jaxvoice.config import format_value
from jaxvoice.errors import ConfigError
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.formats.pickle_objects import Record, TensorRef
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Plan, Rule, Spec, make_plan
from jaxvoice.weights.tensor_layouts import SPELLINGS, Shape

Keys = tuple[str | int, ...]
"""Keys of tables and places in lists."""
TYPES = ("float32", "float16", "bfloat16", "float64")
"""Types of weights that are kept."""
_DEEPEST, _LONGEST_LIST, _LONGEST_NAME = 100, 1000, 4000
_WHERE = "{where} has info.layout{name} {value}, which no import writes; restore it, or leave `layout` out."


@dataclass(frozen=True)
class FileLayout:
    """Names, nesting, spelling of norms and types."""

    nesting: Keys = ()
    """Tables that the tensors lie in, outermost first: keys, or places in lists."""
    prefix: str = ""
    """What their names begin with in the innermost one."""
    norms: str = "hooks"
    """How weight norms are spelt: `hooks`, `parametrizations` or `folded`."""
    norms_of: Mapping[str, str] = field(default_factory=dict)
    """The same for layers that are spelt otherwise."""
    dtype: str = "float32"
    """Type of the elements."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """The same for tensors, by their names below the prefix, that are of another."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The names in the file of layers that have another name in the model, by that name."""

    def table(self) -> dict[str, Any]:
        """As JSON values, without what is empty."""
        values = {**vars(self), "nesting": list(self.nesting)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items() if value}


def read_layout(info: Any, where: str) -> FileLayout | None:
    """The layout in the `info` of a model folder's `config.json`, called `where`; `None` if it has none.

    **Raises:** `ConfigError` for anything that `FileLayout.table` did not write.
    """
    if not info:
        return None
    if not isinstance(info, Mapping):
        raise ConfigError(f"{where} has info {format_value(info)}, which should be a table; restore it.")
    table = info.get("layout")
    if not table:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError(_WHERE.format(where=where, name="", value=format_value(table)))
    spellings = SPELLINGS["weight"]
    checks = {
        "nesting": _is_nesting,
        "prefix": _is_name,
        "norms": lambda value: _is_name(value) and value in spellings,
        "norms_of": lambda value: _is_choice(value, spellings),
        "dtype": lambda value: _is_name(value) and value in TYPES,
        "dtypes": lambda value: _is_choice(value, TYPES),
        "aliases": lambda value: isinstance(value, Mapping) and all(map(_is_name, (*value, *value.values()))),
    }
    for name, value in table.items():
        if name not in checks or not checks[name](value):
            raise ConfigError(_WHERE.format(where=where, name=f".{format_name(str(name))}", value=format_value(value)))
    return FileLayout(**{**table, "nesting": tuple(table.get("nesting", ()))})


def kept_when_trained(info: Any, where: str) -> dict[str, Any]:
    """What a model that is trained on keeps of the `info` of the one it began with: licence, and layout in float32.

    **Raises:** `ConfigError` as `read_layout` does.
    """
    if not isinstance(info, Mapping):
        return {}
    kept = {"licence": info["licence"]} if isinstance(info.get("licence"), str) else {}
    layout = read_layout(info, where)
    if layout is not None:
        kept["layout"] = replace(layout, dtype="float32", dtypes={}).table()
    return kept


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _is_nesting(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _DEEPEST
        and all(_is_name(key) or (type(key) is int and 0 <= key < _LONGEST_LIST) for key in value)
    )


def _is_choice(value: Any, known: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) and one in known for one in value.values())


def measure_layout(archive: Archive, prefix: str, plan: Plan) -> tuple[FileLayout, tuple[str, ...]]:
    """The layout of the model at `prefix` of `archive`, and the differences of an export from it, in words."""
    norms: dict[str, str] = {}
    dtypes: dict[str, str] = {}
    aliases: dict[str, str] = {}
    differs, folded = [], []
    for row in plan.rows:
        for source in row.sources:
            name, info = source.removeprefix(prefix), archive.tensors.info(source)
            dtypes[name] = info.dtype.name
            layers = _layer_of(row.targets[0]), _layer_of(name)
            if layers[0] != layers[1]:
                aliases[layers[0]] = layers[1]
        if row.does == "fold":
            folded.append(row.targets[0].removesuffix(".weight"))
        elif row.targets[0].endswith((".weight_g", ".weight_v")):
            norms[row.targets[0].rpartition(".")[0]] = _spelling(row.sources[0])
    spelling, type_of = _most(norms.values(), "hooks"), _most(dtypes.values(), "float32")
    names = [source for row in plan.rows for source in row.sources]
    nesting, rest, losses = _nesting(archive, prefix, names)
    differs += losses
    if folded:
        differs.append(f"{', '.join(folded)} without weight norm, as this library has these layers")
    if "float64" in dtypes.values():
        differs.append("float64 rounded to float32 and cast back")
    layout = FileLayout(
        nesting,
        rest,
        spelling,
        {layer: one for layer, one in norms.items() if one != spelling},
        type_of,
        {name: one for name, one in dtypes.items() if one != type_of},
        aliases,
    )
    return layout, tuple(differs)


def plan_export(
    shapes: Mapping[str, Shape],
    rules: Sequence[Rule],
    layout: FileLayout,
    given: Mapping[str, Spec],
    where: str = "the model folder",
) -> Plan:
    """How the arrays of a model get the names of the implementation it came from: the rules of the import, reversed.

    **Arguments:** `shapes` of the model's arrays by name; `layout` as an import measured it; `given`, shape and type of
    the arrays in `where`.

    **Raises:** `CheckpointError` if those are not the arrays of the model.
    """
    wanted: dict[str, Spec] = {}
    for ours, shape in shapes.items():
        layer, _, last = ours.rpartition(".")
        norms = SPELLINGS["weight"][layout.norms_of.get(layer, layout.norms)]
        if last == "weight_g" and len(norms) == 1:
            continue
        place = {"weight_g": norms[0], "weight_v": norms[-1]}.get(last, last)
        name = f"{layout.aliases.get(layer, layer)}.{place}"
        wanted[name] = Spec(shape, _dtype(layout.dtypes.get(name, layout.dtype)))
    layers = {_layer_of(name) for name in wanted}
    reversed_rules = [rule for rule in (rule.reversed() for rule in rules) if _gives(rule, shapes, layers)]
    return make_plan(given, wanted, reversed_rules, where=where, advice="Copy the model folder again")


def _gives(rule: Rule, names: Iterable[str], layers: set[str]) -> bool:
    """Whether all that `rule` makes of `names` belongs to `layers`; of rules for one layer, only one does."""
    hits = (rule.match(name) for name in names)
    return all(hit is None or (hit[0] if rule.norm else _layer_of(hit[0])) in layers for hit in hits)


def _layer_of(name: str) -> str:
    """The name of a tensor's layer: without the tensor's own, whatever norm it is part of."""
    for parts in SPELLINGS.values():
        for part in (part for spelling in parts.values() for part in spelling):
            if name.endswith(f".{part}"):
                return name.removesuffix(f".{part}")
    return name.rpartition(".")[0]


def _dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def _spelling(name: str) -> str:
    parts = {part: spelling for spelling, parts in SPELLINGS["weight"].items() for part in parts}
    return next(spelling for part, spelling in parts.items() if name.endswith(f".{part}"))


def _most(values: Any, default: str) -> str:
    found = Counter(values).most_common(1)
    return found[0][0] if found else default


def _nesting(archive: Archive, prefix: str, names: list[str]) -> tuple[Keys, str, list[str]]:
    """Keys of the tables that all of `names` lie in, what is left of `prefix` below them, and what cannot be kept."""
    losses = []
    if archive.source.format in ("TorchScript", "NeMo"):
        losses.append(f"a state dict, not a {archive.source.format} archive")
    content = getattr(archive, "content", None)
    if content is None or archive.source.format == "TorchScript":
        return (), prefix, losses
    path = _path(content, names[0], prefix, set())
    if path is None:
        return (), prefix, [*losses, "one flat table of tensors"]
    table, keys, rest = path
    if isinstance(table, Record):
        losses.append(f"a state dict where the file has a whole {format_name(table.class_name)}")
    elif any(f"{rest}{name.removeprefix(prefix)}" not in table for name in names):
        return (), prefix, [*losses, "one flat table of tensors"]
    if any(type(key) is int for key in keys):
        losses.append("lists with nothing else in them")
    return keys, rest, losses


def _path(value: Any, name: str, prefix: str, failed: set[tuple[int, int]]) -> tuple[Any, Keys, str] | None:
    """The innermost table above the tensor `name`, keys that lead there, and what of `prefix` is left in it.

    Keys may hold dots, so that several ways may begin with the same characters; `failed` keeps those that did not end.
    """
    if (id(value), len(name)) in failed:
        return None
    table = value.items if isinstance(value, Record) else value
    if isinstance(value, Record) and not isinstance(table, Mapping):
        # A module: its names are those of its state dict.
        return value, (), prefix
    if isinstance(table, Mapping) and name in table and _is_tensor(table[name]):
        return table, (), prefix
    for end in (i for i, char in enumerate(prefix) if char == "."):
        child = _child(table, prefix[:end])
        if child is None:
            continue
        key, below = child
        found = _path(below, name[end + 1 :], prefix[end + 1 :], failed)
        if found is not None:
            return found[0], (key, *found[1]), found[2]
    failed.add((id(value), len(name)))
    return None


def _child(table: Any, name: str) -> tuple[str | int, Any] | None:
    """What `table` holds under a part of a dotted name: its key, or place in a list, and itself."""
    if isinstance(table, Mapping) and name in table:
        return name, table[name]
    if isinstance(table, list | tuple) and name.isdecimal() and len(name) < 4 and int(name) < len(table):
        return int(name), table[int(name)]
    return None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorRef) or not isinstance(value, Mapping | list | tuple | str | Record)
