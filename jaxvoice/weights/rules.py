"""Reversible rules that convert the tensors of a file to the weights of a model.

A family defines `Rule`s. `make_plan` applies them to the names, shapes and dtypes of a file and a model. It raises an
error unless each target is written exactly once, and each source is used, or ignored with a reason. Values are read
only when the plan is executed, one tensor at a time.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.mismatches import Mismatches, format_name
from jaxvoice.weights.tensor_conversions import (
    SPELLINGS,
    Layout,
    Norm,
    Shape,
    fold_norm,
    spelling_of,
    unfold_norm,
)

Initial = Callable[[str, Shape, Callable[[str], np.ndarray]], np.ndarray]
"""Computes a tensor that the file lacks from its name, its shape, and a function that returns other targets."""

NormConversion = Literal["keep", "fold", "unfold"]
"""`keep` has no effect; `fold` computes a weight from its g and v; `unfold` computes g and v from a weight."""

_PLACE = re.compile(r"\{(\w+)(\*?)\}")


class Spec(NamedTuple):
    """Shape and dtype of a tensor."""

    shape: Shape
    dtype: np.dtype


@dataclass(frozen=True)
class Rule:
    """Conversion of the tensor `source` to `target`.

    Both are names with the same placeholders: `{i}` matches a number, and `{path*}` any text.
    With `norm`, both are names of layers, and the rule applies to the weight of the layer in any form of the norm.
    """

    source: str
    """Name in the file, without prefix."""
    target: str
    """Name in the model."""
    layout: Layout | None = None
    """Rearrangement of the elements."""
    norm: Norm | None = None
    """The norm of the layer's weight; `None` for other tensors."""

    def reversed(self) -> "Rule":
        """The rule for the opposite direction."""
        return Rule(self.target, self.source, None if self.layout is None else self.layout.inverse(), self.norm)

    def match(self, name: str) -> tuple[str, str] | None:
        """The name of the target, and the part of a weight with a norm; `None` if the rule does not match `name`."""
        suffixes = [""]
        if self.norm is not None:
            suffixes = [f".{part}" for parts in SPELLINGS[self.norm].values() for part in parts]
        for suffix in suffixes:
            found = _pattern(self.source).fullmatch(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if found:
                places = found.groupdict()
                return _PLACE.sub(lambda place, places=places: places[place[1]], self.target), suffix.removeprefix(".")
        return None


@functools.lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    parts, end = [], 0
    for place in _PLACE.finditer(template):
        parts += [re.escape(template[end : place.start()]), f"(?P<{place[1]}>{'.+' if place[2] else '[0-9]+'})"]
        end = place.end()
    return re.compile("".join(parts) + re.escape(template[end:]))


@dataclass(frozen=True)
class Ignore:
    """Tensors to ignore."""

    pattern: str
    """Regular expression that matches their full names, including the prefix."""
    reason: str
    """The reason why they are not needed."""


@dataclass(frozen=True)
class TensorMapping:
    """The conversion of one tensor, or of the parts of one weight with a norm."""

    sources: tuple[str, ...]
    """Names in the file."""
    targets: tuple[str, ...]
    """Names in the model."""
    conversion: NormConversion
    """Whether weight norm is kept, folded or unfolded."""
    layout: Layout | None
    """Rearrangement of the elements."""
    dtypes: tuple[np.dtype, ...]
    """Dtypes of the targets."""
    remark: str = ""
    """Description of the conversion."""

    def apply(self, arrays: list[Shaped[np.ndarray, "..."]]) -> list[Shaped[np.ndarray, "..."]]:
        """Compute the targets from the values of the sources.

        **Raises:** `CheckpointError` for integers beyond the dtype of the target.
        """
        if self.conversion == "fold":
            # In the precision of the sources: a rounded g would differ from the norm of v.
            wide = np.dtype(np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32)
            arrays = [fold_norm(*(array.astype(wide, copy=False) for array in arrays))]
        elif self.conversion == "unfold":
            arrays = unfold_norm(*(array.astype(self.dtypes[0], copy=False) for array in arrays))
        arrays = [_cast(array, dtype, self.sources[0]) for array, dtype in zip(arrays, self.dtypes, strict=True)]
        return arrays if self.layout is None else [self.layout.apply(array) for array in arrays]


def _cast(array: Shaped[np.ndarray, "..."], dtype: np.dtype, name: str) -> Shaped[np.ndarray, "..."]:
    if array.dtype.kind == dtype.kind == "i" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise CheckpointError(
                f"{format_name(name)} contains {array.max()}, a number that {dtype.name} cannot represent; the file is "
                "probably damaged. Download it again."
            )
    return array.astype(dtype, copy=False)


class Change(NamedTuple):
    """The conversion of one target, as a row of `Plan.table`."""

    sources: tuple[str, ...]
    """Names of the source tensors in the file; empty if the target is initialised."""
    target: str
    """Name in the model."""
    remark: str
    """Description of the conversion."""


@dataclass(frozen=True)
class Plan:
    """A planned conversion. `read` executes it."""

    rows: tuple[TensorMapping, ...]
    """Conversions of tensors."""
    wanted: Mapping[str, Spec]
    """Shape and dtype of each target, in the order of the model."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Ignored tensors, with reasons."""
    missing: tuple[str, ...] = ()
    """Targets that the file lacks and that were allowed to be missing."""
    initial: Initial | None = None
    """Computes the values of `missing`."""

    def read(
        self, tensors: Mapping[str, Shaped[np.ndarray, "..."]], called: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield names and values of the targets in the order of `wanted`. Each is computed when it is requested.

        **Arguments:** `called`, names of tensors in errors, if they differ from the keys of `tensors`.

        **Raises:** `CheckpointError` for values that are NaN or infinite.
        """
        of = {target: row for row in self.rows for target in row.targets}

        def value(name: str) -> np.ndarray:
            if name in of:
                row = of[name]
                return row.apply([_finite(tensors, source, called or {}) for source in row.sources])[
                    row.targets.index(name)
                ]
            assert self.initial is not None
            return self.initial(name, self.wanted[name].shape, value).astype(self.wanted[name].dtype)

        for name in self.wanted:
            yield name, value(name)

    def table(self) -> list[Change]:
        """The conversions, in the order of the model."""
        lines = {name: Change((), name, "not in the file: initialised") for name in self.missing}
        for row in self.rows:
            pairs = len(row.sources) == len(row.targets)
            for i, target in enumerate(row.targets):
                lines[target] = Change(row.sources[i : i + 1] if pairs else row.sources, target, row.remark)
        return [lines[name] for name in self.wanted]


def _finite(tensors: Mapping[str, np.ndarray], name: str, called: Mapping[str, str]) -> np.ndarray:
    array = tensors[name]
    if not _all_finite(array):
        bad = int(np.count_nonzero(~np.isfinite(array.astype(np.float32, copy=False))))
        raise CheckpointError(
            f"{format_name(called.get(name, name))} contains {bad} values that are NaN or infinite; the "
            "training probably diverged. Use an earlier checkpoint."
        )
    return array


def _all_finite(array: np.ndarray) -> bool:
    if array.dtype.kind in "iub":
        return True
    wide = array if array.dtype.itemsize >= 4 else array.astype(np.float32)
    return bool(np.isfinite(wide).all())


def make_plan(
    sources: Mapping[str, Spec],
    targets: Mapping[str, Spec],
    rules: Iterable[Rule],
    *,
    prefix: str = "",
    ignore: Iterable[Ignore] = (),
    left_out: Mapping[str, str] | None = None,
    allow_missing: Iterable[str] = (),
    initial: Initial | None = None,
    where: str = "the file",
    advice: str = "",
) -> Plan:
    """Plan the conversion of `sources` to `targets`.

    **Arguments:** `sources` and `targets`, shapes and dtypes by name; `prefix` of source names, which `rules` do not
    contain; `ignore`, patterns of sources to ignore; `left_out`, names of sources to ignore, with reasons;
    `allow_missing`, regular expressions that match full names of targets that `initial` may compute; `where` and
    `advice`, the name of the file and the advice in errors.

    **Raises:** `CheckpointError` if tensors are missing (`-`), unused (`+`) or have another shape or dtype (`!`), with
    the nearest names; `ValueError` for `allow_missing` without `initial`.
    """
    allowed = [regex(pattern) for pattern in allow_missing]
    if allowed and initial is None:
        raise ValueError("initial is None; it should be a function, because allow_missing is given.")
    rules, reasons = list(rules), [(regex(one.pattern), one.reason) for one in ignore]
    groups: dict[tuple[Rule, str], dict[str, str]] = {}
    ignored: dict[str, str] = {}
    mismatches = Mismatches(f"the tensors of {where}", sources, targets, prefix, advice)
    left_out = left_out or {}
    for name in sources:
        reason = left_out.get(name) or next((reason for pattern, reason in reasons if pattern.fullmatch(name)), None)
        found = None
        if name.startswith(prefix) and reason is None:
            short = name.removeprefix(prefix)
            found = next(((rule, *hit) for rule in rules if (hit := rule.match(short))), None)
        if found is not None:
            rule, target, part = found
            groups.setdefault((rule, target), {})[part] = name
        elif reason is not None:
            ignored[name] = reason
        else:
            mismatches.unused(name)
    rows: list[TensorMapping] = []
    application = _RuleApplication(sources, targets, mismatches)
    for (rule, target), found in groups.items():
        rows += application.rows(rule, target, found)
    written: dict[str, TensorMapping] = {}
    for row in rows:
        for target in row.targets:
            if target in written:
                mismatches.duplicate(target, written[target].sources, row.sources)
            written[target] = row
    missing = [name for name in targets if name not in written]
    for name in missing:
        if not any(pattern.fullmatch(name) for pattern in allowed):
            mismatches.missing(name)
    mismatches.check()
    return Plan(tuple(rows), dict(targets), ignored, tuple(missing), initial)


def regex(pattern: str) -> re.Pattern[str]:
    """Compile `pattern`, in which a dot matches any character.

    **Raises:** `CheckpointError` if it is invalid.
    """
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error as failure:
        raise CheckpointError(
            f"the pattern is {format_name(repr(pattern))}; it should be a regular expression ({failure}). Use \\. for "
            "a dot and .* for any text."
        ) from failure


class _RuleApplication:
    """Applies rules to the tensors of a file and a model."""

    def __init__(self, sources: Mapping[str, Spec], targets: Mapping[str, Spec], mismatches: Mismatches):
        self._sources, self._targets, self._mismatches = sources, targets, mismatches
        # By layer, the names of tensors that may be parts of a weight with a norm.
        self._below: dict[str, list[str]] = {}
        parts = sorted({part for spellings in SPELLINGS.values() for names in spellings.values() for part in names})
        for name in targets:
            for part in parts:
                if name.endswith(f".{part}"):
                    self._below.setdefault(name.removesuffix(f".{part}"), []).append(part)

    def rows(self, rule: Rule, target: str, found: Mapping[str, str]) -> list[TensorMapping]:
        """The conversions of one rule for one target or layer."""
        if rule.norm is None:
            return self._checked("keep", (found[""],), (target,), rule.layout)
        spellings = SPELLINGS[rule.norm]
        needed, given = spelling_of(self._below.get(target, ()), rule.norm), spelling_of(list(found), rule.norm)
        if needed is None or given is None:
            for part, name in found.items():
                lacking = [other for other in next(s for s in spellings.values() if part in s) if other not in found]
                self._mismatches.unused(name, f"without {' and '.join(lacking)}" if given is None else "")
            return []
        for part in [part for part in found if part not in spellings[given]]:
            self._mismatches.unused(found[part], f"a duplicate of {format_name(found[spellings[given][0]])}")
        ours = tuple(f"{target}.{part}" for part in spellings[needed])
        theirs = tuple(found[part] for part in spellings[given])
        if len(ours) == len(theirs):
            pairs = zip(theirs, ours, strict=True)
            return [row for source, one in pairs for row in self._checked("keep", (source,), (one,), rule.layout)]
        return self._checked("fold" if len(ours) < len(theirs) else "unfold", theirs, ours, rule.layout)

    def _checked(
        self, conversion: NormConversion, names: tuple[str, ...], ours: tuple[str, ...], layout: Layout | None
    ) -> list[TensorMapping]:
        """The conversion; if shapes or dtypes do not match, a mismatch is added instead."""
        sources, targets, mismatches = self._sources, self._targets, self._mismatches
        if any(name not in targets for name in ours):
            for name in names:
                mismatches.unused(name)
            return []
        given = [sources[name] for name in names]
        ones = tuple(1 for _ in given[-1].shape[1:])
        kept: list[Shape] = {
            "keep": [spec.shape for spec in given],
            "fold": [given[-1].shape],
            "unfold": [(*given[0].shape[:1], *ones), given[0].shape],
        }[conversion]
        shapes = [shape if layout is None else layout.shape(shape) for shape in kept]
        fits = True
        if conversion == "fold" and given[0].shape != (*given[1].shape[:1], *ones):
            mismatches.shape(names[0], given[0].shape, names[1], (*given[1].shape[:1], *ones))
            fits = False
        for name, shape in zip(ours, shapes, strict=True):
            source = names[ours.index(name)] if len(names) == len(ours) else names[-1]
            if shape != targets[name].shape:
                mismatches.shape(source, sources[source].shape, name, targets[name].shape, layout)
                fits = False
        for name in names:
            if not _castable(sources[name].dtype, targets[ours[0]].dtype):
                mismatches.dtype(name, sources[name].dtype, ours[0], targets[ours[0]].dtype)
                fits = False
        dtypes = tuple(targets[name].dtype for name in ours)
        return (
            [TensorMapping(names, ours, conversion, layout, dtypes, _remark(conversion, layout, given, dtypes))]
            if fits
            else []
        )


def _castable(source: np.dtype, target: np.dtype) -> bool:
    def is_float(dtype: np.dtype) -> bool:
        return dtype.kind == "f" or dtype.name == "bfloat16"

    return source == target or (is_float(source) and is_float(target)) or source.kind == target.kind == "i"


def _remark(conversion: NormConversion, layout: Layout | None, given: list[Spec], dtypes: tuple[np.dtype, ...]) -> str:
    parts = []
    if conversion == "fold":
        parts.append("g * v / ||v||")
    elif conversion == "unfold":
        parts.append("norm was removed: g = ||weight||, v = weight")
    if layout is not None:
        parts.append(str(layout))
    if given[0].dtype != dtypes[0]:
        parts.append(f"{given[0].dtype.name} to {dtypes[0].name}")
    return "; ".join(parts) or "as it is"


Matches = Mapping[str, Sequence[str]]
"""By pattern, the full names that it matches."""


def matches(patterns: Iterable[str], names: Iterable[str]) -> Matches:
    """The full names that each pattern matches.

    **Raises:** `CheckpointError` for an invalid regular expression.
    """
    names = list(names)
    return {one: [name for name in names if found.fullmatch(name)] for one in patterns for found in [regex(one)]}


def unmatched(option: str, found: Matches, names: Iterable[str]) -> list[str]:
    """A message for each pattern that matched none of `names`, with a similar name."""
    names, sentences = list(names), []
    for pattern in (pattern for pattern, hits in found.items() if not hits):
        meant = next((name for name in names if regex(pattern).search(name)), names[0] if names else None)
        such = "" if meant is None else f", such as {format_name(meant)}"
        sentences.append(f"{option} {format_name(pattern)} matched no name: patterns should match full names{such}")
    return sentences
