"""The rules of bending, and their JSON files."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
from jax import numpy as jnp
from jaxtyping import Array, Shaped

from jaxvoice.config import check_field, format_value, from_dict, read_json, to_dict
from jaxvoice.dissect.controls import Control, Controls, Number, controls_of, value_of
from jaxvoice.dissect.evaluation import check_replacement
from jaxvoice.dissect.operations import (
    OPERATIONS,
    Apply,
    Channels,
    Mask,
    Mix,
    Operation,
    OrderedMask,
    Permute,
    Threshold,
    find_function,
    registered_name,
)
from jaxvoice.dissect.patterns import (
    as_tuple,
    compiled,
    nearest,
)
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.weights import named_arrays

Sources = Mapping[str, Any]
"""Other arrays for `Mix`: for each source, arrays by name, or a model."""


@dataclass(frozen=True)
class Bend:
    """A rule: an operation, and the names of the weights and activations that it changes.

    **Raises:** `ConfigError` for values of the wrong type, invalid regular expressions, or an amount outside [0, 1].
    """

    operation: Operation
    """What is done."""
    names: tuple[str, ...]
    """Regular expressions that match whole names: of weights (`decoder.net.2.weight_v`), of results of modules
    (`decoder.net.5`), of aliases, and, if they match none of these, of operations of JAX."""
    on: Literal["all", "weights", "activations"] = "all"
    """What the names may match."""
    seed: int = 0
    """Seed of the random numbers of the operation. Each name has its own numbers."""
    amount: Number = 1.0
    """The share of the changed array in the result, in [0, 1]; the rest is the original."""

    def __post_init__(self) -> None:
        valid_names = isinstance(self.names, str | tuple | list) and len(self.names) > 0
        check_field(self, "names", valid_names, "have a pattern")
        object.__setattr__(self, "names", as_tuple(self.names))
        for name in self.names:
            compiled(name)
        check_field(self, "operation", type(self.operation) in OPERATIONS.values(), f"be one of {', '.join(_KINDS)}")
        check_field(self, "on", self.on in ("all", "weights", "activations"), "be 'all', 'weights' or 'activations'")
        check_field(
            self, "seed", isinstance(self.seed, int) and 0 <= self.seed < 2**32, "be a whole number below 2**32"
        )
        amount = self.amount
        ends = (amount.low, amount.high) if isinstance(amount, Control) else (amount,)
        valid = all(isinstance(end, int | float) and 0 <= end <= 1 for end in ends)
        check_field(self, "amount", valid, "be in [0, 1], or a control with low=0 and high=1")

    @property
    def controls(self) -> list[Control]:
        """The controls of the operation and of the amount."""
        return [*controls_of(self.operation), *([self.amount] if isinstance(self.amount, Control) else [])]

    def apply(
        self, name: str, x: Shaped[Array, "*shape"], controls: Controls, sources: Sources | None = None
    ) -> Shaped[Array, "*shape"]:
        """The changed array of this name. Arguments are those of a function that `bend` returns.

        **Raises:** `ConfigError` for a source that is missing or lacks the name; `ShapeError` for an operation that
        does not fit the shape or dtype of `x`, or returns another shape or dtype.
        """
        exact = isinstance(self.operation, _FOR_WHOLE_NUMBERS) and self.amount == 1
        if not exact and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise ShapeError(
                f"The array {name!r} is {x.dtype}{list(x.shape)}; it should contain floats for "
                f"{type(self.operation).__name__} with an amount of {format_value(self.amount)}. Use other names, or "
                "Apply."
            )
        key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))
        others = []
        if isinstance(self.operation, Mix):
            others = [[_source(sources, source, name) for source in self.operation.sources]]
        try:
            new = self.operation(key, x, controls, *others)
        except ShapeError as failure:
            raise ShapeError(f"{type(self.operation).__name__} cannot change {name!r}. {failure}") from failure
        new = check_replacement(f"The result of {type(self.operation).__name__} for {name!r}", new, x)
        if self.amount == 1:
            return new
        amount = jnp.asarray(value_of(self.amount, controls), x.dtype).reshape((1,) * x.ndim)
        return x + amount * (new - x)


_FOR_WHOLE_NUMBERS = (Apply, Mask, OrderedMask, Permute, Threshold)
"""Operations whose results for whole numbers, such as codes, are whole numbers."""


def _source(sources: Sources | None, source: str, name: str) -> Array:
    given = (sources or {}).get(source)
    if given is None:
        raise ConfigError(
            f"The source {source!r} is missing; there should be one for each source of Mix. Pass "
            f"sources={{{source!r}: ...}}, with arrays by name or a model."
        )
    arrays = given if isinstance(given, Mapping) else named_arrays(given)
    if name not in arrays:
        raise ConfigError(f"The source {source!r} has no {name!r}; {nearest(name, arrays)}.")
    return arrays[name]


@dataclass(frozen=True)
class BendingConfig:
    """Rules that are applied in order. Two configurations are joined with `+`.

    **Raises:** `ConfigError` if two rules define a control differently.
    """

    rules: tuple[Bend, ...] = ()
    """The rules."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Bend):
                raise ConfigError(f"BendingConfig.rules contains {format_value(rule)}; it should contain Bend only.")
        self.controls  # noqa: B018 - raises for controls that are defined twice

    def __add__(self, other: "BendingConfig") -> "BendingConfig":
        return BendingConfig((*self.rules, *other.rules))

    def __contains__(self, rule: Bend) -> bool:
        return rule in self.rules

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def controls(self) -> dict[str, Control]:
        """The controls by name."""
        found: dict[str, Control] = {}
        for rule in self.rules:
            for control in rule.controls:
                if found.setdefault(control.name, control) != control:
                    raise ConfigError(
                        f"The control {control.name!r} is defined as {control} and as {found[control.name]}; rules "
                        "that share a control should define it equally."
                    )
        return found

    def values(self, given: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The values of all controls as arrays, for a compiled function; those that are not given have their defaults.

        **Raises:** `ConfigError` for unknown names, with the nearest, for values outside their range, NaN and infinity;
        `ShapeError` for other than scalars.
        """
        controls = self.controls
        for name in given or {}:
            if name not in controls:
                raise ConfigError(f"There is no control {name!r}; {nearest(name, controls)}.")
        return {name: control.checked((given or {}).get(name, control.default)) for name, control in controls.items()}

    def to_json(self) -> str:
        """The rules as JSON; raises `ConfigError` for a function that has no registered name."""
        return json.dumps({"rules": [_rule_table(rule) for rule in self.rules]}, indent=2)

    @classmethod
    def from_json(cls, text: str, where: str = "the bending configuration") -> "BendingConfig":
        """The rules in `text`; raises `ConfigError` for invalid JSON, and unknown keys, kinds and functions."""
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as failure:
            raise ConfigError(f"{where} is not valid JSON ({failure}); restore it or write it again.") from failure
        return cls._from_table(table, where)

    @classmethod
    def _from_table(cls, table: Any, where: str) -> "BendingConfig":
        rules = table.get("rules") if isinstance(table, dict) and set(table) == {"rules"} else None
        if not isinstance(rules, list):
            raise ConfigError(f"{where} is {format_value(table)}; it should be an object with a list of rules.")
        return cls(tuple(_read_rule(rule, f"{where}.rules[{i}]") for i, rule in enumerate(rules)))

    def save(self, path: str | Path) -> None:
        """Write the rules to a JSON file.

        **Raises:** `ConfigError` for a function that has no registered name, and a file that cannot be written.
        """
        text = self.to_json() + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as failure:
            raise ConfigError(f"{path} cannot be written ({failure.strerror}); check the path.") from failure

    @classmethod
    def load(cls, path: str | Path) -> "BendingConfig":
        """Read the rules from a JSON file; raises the errors of `from_json`."""
        return cls._from_table(read_json(Path(path)), str(path))


_KINDS = {kind.__name__: name for name, kind in OPERATIONS.items()}


def _rule_table(rule: Bend) -> dict[str, Any]:
    operation = rule.operation
    if isinstance(operation, Apply):
        function = operation.function
        name = function if isinstance(function, str) else registered_name(function)
        if name is None:
            raise ConfigError(
                f"The function {format_value(function)} has no registered name, so it cannot be saved. Decorate it "
                "with register_function."
            )
        fields: dict[str, Any] = {"function": name}
    else:
        fields = to_dict(operation)
    table: dict[str, Any] = {"operation": {"kind": _KINDS[type(operation).__name__], **fields}}
    table |= {"names": list(rule.names), "on": rule.on, "seed": rule.seed}
    return {**table, "amount": to_dict(rule.amount) if isinstance(rule.amount, Control) else rule.amount}


def _read_rule(table: Any, where: str) -> Bend:
    known = ("operation", "names", "on", "seed", "amount")
    if not isinstance(table, dict) or not {"operation", "names"} <= set(table) <= set(known):
        raise ConfigError(
            f"{where} is {format_value(table)}; it should be an object with operation and names, and optionally on, "
            "seed and amount."
        )
    names, amount = table["names"], table.get("amount", 1.0)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}.names is {format_value(names)}; it should be a list of text.")
    if isinstance(amount, dict):
        amount = from_dict(Control, amount, f"{where}.amount")
    options = {name: table[name] for name in ("on", "seed") if name in table}
    try:
        return Bend(_read_operation(table["operation"], f"{where}.operation"), tuple(names), **options, amount=amount)
    except ConfigError as failure:
        raise failure if where in str(failure) else ConfigError(f"{where}: {failure}") from failure


def _read_operation(table: Any, where: str) -> Any:
    if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
        raise ConfigError(f"{where} is {format_value(table)}; it should be an object with a kind.")
    fields = dict(table)
    kind = fields.pop("kind")
    if kind not in OPERATIONS:
        raise ConfigError(f"{where}.kind is {format_value(kind)}; it should be one of {', '.join(OPERATIONS)}.")
    if OPERATIONS[kind] is Apply:
        if set(fields) != {"function"} or not isinstance(fields["function"], str):
            raise ConfigError(f"{where} is {format_value(table)}; it should have the name of a function.")
        return Apply(find_function(fields["function"]))
    if OPERATIONS[kind] is Channels and isinstance(fields.get("factors"), list) and set(fields) <= {"factors", "axis"}:
        return Channels(tuple(fields["factors"]), fields.get("axis", -1))
    return from_dict(OPERATIONS[kind], fields, where)
