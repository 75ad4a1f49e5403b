"""The layout of an imported file: the names, nesting, norms and dtypes with which `export` writes the file again."""

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
from jaxvoice.weights.tensor_conversions import SPELLINGS, Shape

Keys = tuple[str | int, ...]
"""Keys of dicts and indices of lists."""
TYPES = ("float32", "float16", "bfloat16", "float64")
"""Dtypes that the weights of a layout may have."""
_INTEGERS = ("int32", "int64")  # of individual tensors, such as the number of batches of a batch norm
_DEEPEST, _LONGEST_LIST, _LONGEST_NAME = 100, 1000, 4000
_INVALID = (
    "info.layout{name} of {where} is {value}; it should be part of a layout that import wrote. Restore the file, or "
    "remove `layout`."
)


@dataclass(frozen=True)
class FileLayout:
    """Names, nesting, forms of weight norm, and dtypes of a file."""

    nesting: Keys = ()
    """Keys and list indices on the path to the dict of the tensors, outermost first."""
    prefix: str = ""
    """Prefix of their names in this dict."""
    norms: str = "hooks"
    """Form of weight norm: `hooks`, `parametrizations` or `folded`."""
    norms_of: Mapping[str, str] = field(default_factory=dict)
    """The form of individual layers, if it differs from `norms`."""
    dtype: str = "float32"
    """Dtype of the tensors."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """The dtype of individual tensors, by name without prefix, if it differs from `dtype`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of layers in the file, by their names in the model, if they differ."""

    def table(self) -> dict[str, Any]:
        """The layout as JSON values, without empty fields."""
        values = {**vars(self), "nesting": list(self.nesting)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items() if value}


def read_layout(info: Any, where: str) -> FileLayout | None:
    """The layout in the `info` of the `config.json` called `where`; `None` if there is none.

    **Raises:** `ConfigError` for anything that `FileLayout.table` did not write.
    """
    if not info:
        return None
    if not isinstance(info, Mapping):
        raise ConfigError(f"info of {where} is {format_value(info)}; it should be an object. Restore the file.")
    table = info.get("layout")
    if not table:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError(_INVALID.format(where=where, name="", value=format_value(table)))
    spellings = SPELLINGS["weight"]
    checks = {
        "nesting": _is_nesting,
        "prefix": _is_name,
        "norms": lambda value: _is_name(value) and value in spellings,
        "norms_of": lambda value: _is_choice(value, spellings),
        "dtype": lambda value: _is_name(value) and value in TYPES,
        "dtypes": lambda value: _is_choice(value, (*TYPES, *_INTEGERS)),
        "aliases": lambda value: isinstance(value, Mapping) and all(map(_is_name, (*value, *value.values()))),
    }
    for name, value in table.items():
        if name not in checks or not checks[name](value):
            raise ConfigError(
                _INVALID.format(where=where, name=f".{format_name(str(name))}", value=format_value(value))
            )
    return FileLayout(**{**table, "nesting": tuple(table.get("nesting", ()))})


def inheritable_info(info: Any, where: str) -> dict[str, Any]:
    """The part of `info` that a model trained from these weights inherits: the licence, the name of the initial model,
    and the layout in float32 with its name.

    **Raises:** `ConfigError` as `read_layout` does.
    """
    if not isinstance(info, Mapping):
        return {}
    names = ("licence", "initial_model", "layout_name")
    kept = {name: info[name] for name in names if isinstance(info.get(name), str)}
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


def detect_layout(archive: Archive, prefix: str, plan: Plan) -> tuple[FileLayout, tuple[str, ...]]:
    """The layout of the model at `prefix` of `archive`, and how an export will differ from the file.

    **Arguments:** `plan` of the import.
    """
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
        if row.conversion == "fold":
            folded.append(row.targets[0].removesuffix(".weight"))
        elif row.targets[0].endswith((".weight_g", ".weight_v")):
            norms[row.targets[0].rpartition(".")[0]] = _spelling(row.sources[0])
    spelling, type_of = _most_common(norms.values(), "hooks"), _most_common(dtypes.values(), "float32")
    names = [source for row in plan.rows for source in row.sources]
    nesting, rest, losses = _nesting(archive, prefix, names)
    differs += losses
    if folded:
        differs.append(f"{', '.join(folded)} without weight norm, because jaxvoice has none on these layers")
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
    """Plan the export of a model with the reversed rules of the import.

    **Arguments:** `shapes` of the model's arrays by name; `layout` of the file to write; `given`, shapes and dtypes of
    the arrays in `where`.

    **Raises:** `CheckpointError` if these are not the arrays of the model.
    """
    wanted: dict[str, Spec] = {}
    for ours, shape in shapes.items():
        layer, _, last = ours.rpartition(".")
        norms = SPELLINGS["weight"][layout.norms_of.get(layer, layout.norms)]
        if last == "weight_g" and len(norms) == 1:
            continue
        place = {"weight_g": norms[0], "weight_v": norms[-1]}.get(last, last)
        layer = layout.aliases.get(layer, layer)
        name = f"{layer}.{place}" if layer else place
        wanted[name] = Spec(shape, _dtype(layout.dtypes.get(name, layout.dtype)))
    layers = {_layer_of(name) for name in wanted}
    reversed_rules = [rule for rule in (rule.reversed() for rule in rules) if _gives(rule, shapes, layers)]
    return make_plan(given, wanted, reversed_rules, where=where, advice="Copy the model folder again")


def _gives(rule: Rule, names: Iterable[str], layers: set[str]) -> bool:
    """Whether all targets of `rule` for `names` belong to `layers`, so that one rule for a layer applies."""
    hits = (rule.match(name) for name in names)
    return all(hit is None or (hit[0] if rule.norm else _layer_of(hit[0])) in layers for hit in hits)


def _layer_of(name: str) -> str:
    """The name of the layer of a tensor, which may be part of a weight with a norm."""
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


def _most_common(values: Any, default: str) -> str:
    found = Counter(values).most_common(1)
    return found[0][0] if found else default


def _nesting(archive: Archive, prefix: str, names: list[str]) -> tuple[Keys, str, list[str]]:
    """The keys of the dict that contains all `names`, the rest of `prefix` in it, and the differences of an export."""
    losses = []
    if archive.source.format in ("TorchScript", "NeMo"):
        losses.append(f"a state dict, not a {archive.source.format} archive")
    content = getattr(archive, "content", None)
    if content is None or archive.source.format == "TorchScript":
        return (), prefix, losses
    path = _path(content, names[0], prefix, set())
    if path is None:
        return (), prefix, [*losses, "one flat dict of tensors"]
    table, keys, rest = path
    if isinstance(table, Record):
        losses.append(f"a state dict instead of a pickled {format_name(table.class_name)}")
    elif any(f"{rest}{name.removeprefix(prefix)}" not in table for name in names):
        return (), prefix, [*losses, "one flat dict of tensors"]
    if any(type(key) is int for key in keys):
        losses.append("`None` as the other elements of lists")
    return keys, rest, losses


def _path(value: Any, name: str, prefix: str, failed: set[tuple[int, int]]) -> tuple[Any, Keys, str] | None:
    """The innermost dict that contains the tensor `name`, the keys that lead to it, and the rest of `prefix` in it.

    Keys may contain dots, so several paths may start with the same characters; `failed` stores unsuccessful ones.
    """
    if (id(value), len(name)) in failed:
        return None
    table = value.items if isinstance(value, Record) else value
    if isinstance(value, Record) and not isinstance(table, Mapping):
        # The names of a module are those of its state dict.
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
    """The key or list index of `name` in `table`, and its value."""
    if isinstance(table, Mapping) and name in table:
        return name, table[name]
    if isinstance(table, list | tuple) and name.isdecimal() and len(name) < 4 and int(name) < len(table):
        return int(name), table[int(name)]
    return None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorRef) or not isinstance(value, Mapping | list | tuple | str | Record)
