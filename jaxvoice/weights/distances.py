"""Comparison of two sets of named arrays, whose prefixes and forms of weight norm may differ."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.tensor_conversions import SPELLINGS, Norm, fold_norm

_Arrays = Mapping[str, Shaped[np.ndarray, "..."]]

# Number and depth of the prefixes that are tried. Prefixes of the most names are tried first.
_MOST_PREFIXES, _DEEPEST_PREFIX = 24, 4
# Prefixes are removed if at least one in this number of the names, of the model with fewer, is then in both models with
# the same shape. Models that are not related have short names such as `bias` in common.
_LEAST_SHARE = 3

_Shapes = Mapping[str, tuple[int, ...]]


class Distance(NamedTuple):
    """Distance between two arrays of the same shape."""

    absolute: float
    """Largest absolute difference."""
    relative: float
    """Largest absolute difference, divided by the largest magnitude in the second array; infinite if that is 0."""
    equal: bool
    """Whether dtypes and values are bitwise equal."""


def distance(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."]) -> Distance:
    """The distance between two arrays of the same shape. NaN in only one array counts as an infinite difference."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return Distance(0.0, 0.0, True)
    kind = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    one, two = a.astype(kind), b.astype(kind)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0, np.abs(one - two))
    if a.dtype == b.dtype and a.dtype.kind in "iu":
        gaps = np.maximum(gaps, a != b)  # integers that are equal as floats
    absolute = float(np.where(np.isnan(gaps), np.inf, gaps).max(initial=0.0))
    scale = float(np.nanmax(np.abs(np.where(np.isfinite(two), two, np.nan)), initial=0.0))
    relative = absolute / scale if scale else float("inf") if absolute else 0.0
    return Distance(absolute, relative, False)


@dataclass(frozen=True)
class Difference:
    """The comparison of one weight of two models."""

    name: str
    """Its name, without the prefix of its model."""
    status: Literal["equal", "differs", "shape", "only A", "only B"]
    """Equal values; different values; different shapes; present in A or B only."""
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    """Shapes in A and B."""
    distance: Distance | None = None
    """The distance, if the shapes are equal."""
    remark: str = ""
    """The conversion before the comparison."""


@dataclass(frozen=True)
class CommonPrefixes:
    """The prefixes of names in A and in B without which names are equal."""

    a: str
    b: str


def common_prefixes(a: _Shapes, b: _Shapes) -> CommonPrefixes:
    """The shortest prefixes (`""` or ending in a dot) without which A and B have the most names in common.

    Prefixes are removed only if a third of the names, of the model with fewer, is then in both with the same shape.

    **Arguments:** the shapes by name.
    """
    names_a, names_b = list(a), list(b)
    least = -(-min(len(names_a), len(names_b)) // _LEAST_SHARE)
    best, most = CommonPrefixes("", ""), -1
    of_b = {prefix: _below(prefix, names_b) for prefix in _prefixes(names_b)}
    for prefix_a in _prefixes(names_a):
        below_a = _below(prefix_a, names_a)
        for prefix_b, below_b in of_b.items():
            common = below_a & below_b
            shorter = len(prefix_a + prefix_b) < len(best.a + best.b)
            if len(common) > most or (len(common) == most and shorter):
                same = sum(a[prefix_a + name] == b[prefix_b + name] for name in common)
                if same >= least or not prefix_a + prefix_b:
                    best, most = CommonPrefixes(prefix_a, prefix_b), len(common)
    return best


def _below(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _prefixes(names: list[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), _DEEPEST_PREFIX + 1)))
    return ["", *(prefix for prefix, _ in counts.most_common(_MOST_PREFIXES))]


def compare_arrays(a: _Arrays, b: _Arrays) -> list[Difference]:
    """Compare all weights of A and B. Those in A come first, in the order of A, then those that are only in B.

    Common prefixes are removed. If A and B store the norm of a layer differently, or folded, the folded weights are
    compared. Values are read one weight at a time.
    """
    prefixes = common_prefixes(_in_canonical_spelling(a), _in_canonical_spelling(b))
    names_a, outside_a = _without(prefixes.a, a)
    names_b, outside_b = _without(prefixes.b, b)
    layers = _normed_differently(names_a, names_b)
    units_a, units_b = _units(names_a, layers), _units(names_b, layers)
    rows = []
    for name, unit in units_a.items():
        if name not in units_b:
            rows += [_only("only A", whole, a) for whole in unit.names]
            continue
        values = unit.read(a), units_b[name].read(b)
        rows.append(_difference(name, *values, "" if unit.norm is None else "weight norm folded"))
    rows += [_only("only A", name, a) for name in outside_a]
    rows += [_only("only B", whole, b) for name, unit in units_b.items() if name not in units_a for whole in unit.names]
    return rows + [_only("only B", name, b) for name in outside_b]


class _Unit(NamedTuple):
    """_Arrays that are compared as one."""

    names: tuple[str, ...]
    norm: Norm | None

    def read(self, arrays: _Arrays) -> np.ndarray:
        """The array, or the weight that a normed layer computes with."""
        values = [arrays[name] for name in self.names]
        if len(values) == 1:
            return values[0]
        if self.norm == "weight":
            return fold_norm(*values)
        weight, u, v = (value.astype(np.float64) for value in values)
        return (weight / (u @ weight.reshape(len(weight), -1) @ v)).astype(values[0].dtype)


def _without(prefix: str, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Names with `prefix` by their names without it, and the names that do not start with it."""
    names = list(names)
    inside = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return inside, [name for name in names if not name.startswith(prefix)]


def _units(names: Mapping[str, str], layers: Mapping[str, Norm]) -> dict[str, _Unit]:
    """The units of comparison by name: single arrays, and the parts of each weight of `layers` together."""
    parts = {layer: _spelt(names, layer, norm) or () for layer, norm in layers.items()}
    layer_of = {f"{layer}.{part}": layer for layer in layers for part in parts[layer]}
    units = {}
    for name, whole in names.items():
        layer = layer_of.get(name)
        if layer is None:
            units[name] = _Unit((whole,), None)
        else:
            units[f"{layer}.weight"] = _Unit(tuple(names[f"{layer}.{part}"] for part in parts[layer]), layers[layer])
    return units


def _only(status: Literal["only A", "only B"], name: str, arrays: _Arrays) -> Difference:
    shape = tuple(np.shape(arrays[name]))
    return Difference(name, status, (shape, None) if status == "only A" else (None, shape))


def _difference(name: str, one: np.ndarray, two: np.ndarray, remark: str = "") -> Difference:
    shapes = (one.shape, two.shape)
    if one.shape != two.shape:
        return Difference(name, "shape", shapes, None, remark)
    found = distance(one, two)
    return Difference(name, "equal" if found.equal else "differs", shapes, found, remark)


def _in_canonical_spelling(arrays: _Arrays) -> dict[str, tuple[int, ...]]:
    """The shapes by names in which each part of a weight with a norm is called `weight`, independent of its form.

    The shape of such a weight is that of its largest part.
    """
    parts = {part for spellings in SPELLINGS.values() for names in spellings.values() for part in names}
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in _shapes(arrays).items():
        part = next((part for part in parts if name.endswith(f".{part}")), None)
        canonical = name if part is None else f"{name.removesuffix(part)}weight"
        if math.prod(shape) >= math.prod(found.get(canonical, (0,))):
            found[canonical] = shape
    return found


def _shapes(arrays: _Arrays) -> _Shapes:
    """The shapes by name; the tensors of an archive are not read."""
    if isinstance(arrays, Tensors):
        return {name: info.shape for name, info in arrays.infos().items()}
    return {name: tuple(np.shape(array)) for name, array in arrays.items()}


def _normed_differently(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, Norm]:
    """Layers whose norm is stored differently in A and B."""
    found: dict[str, Norm] = {}
    for norm, spellings in SPELLINGS.items():
        first = {parts[0] for parts in spellings.values() if parts != ("weight",)}
        layers = dict.fromkeys(
            name.removesuffix(f".{part}")
            for names in (a, b)
            for name in names
            for part in first
            if name.endswith(f".{part}")
        )
        for layer in layers:
            ways = _spelt(a, layer, norm), _spelt(b, layer, norm)
            if None not in ways and ways[0] != ways[1]:
                found[layer] = norm
    return found


def _spelt(names: Mapping[str, str], layer: str, norm: Norm) -> tuple[str, ...] | None:
    """The names of the parts of the weight of `layer`; `None` if it has no complete weight."""
    ways = (*SPELLINGS[norm].values(), ("weight",))
    return next((parts for parts in ways if all(f"{layer}.{part}" in names for part in parts)), None)
