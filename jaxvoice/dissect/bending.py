"""Bending: rules that change weights and activations of a model while it runs, with controls as inputs.

Rules are data. A configuration of rules is saved as JSON, and applies to any model that has the names in it.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Shaped

from jaxvoice.config import check_field, format_value, from_dict, read_json, to_dict
from jaxvoice.dissect.controls import Control, Controls, Number, controls_of, value_of
from jaxvoice.dissect.evaluation import Edit, check_replacement, evaluate
from jaxvoice.dissect.named_results import tag
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
    Aliases,
    as_tuple,
    candidates,
    compiled,
    find_value,
    full_match,
    nearest,
    outside_loops,
)
from jaxvoice.dissect.programs import Program, Value, is_array, renamed, trace
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


def bend_weights(
    model: Any,
    config: BendingConfig | Sequence[Bend],
    controls: Controls | None = None,
    sources: Sources | None = None,
    *,
    merged: Sequence[str] = (),
) -> Any:
    """A copy of `model` whose weights are changed by the rules; `model` itself is not changed.

    Rules for activations are ignored. Other arguments are those of a function that `bend` returns. With weight norm,
    names are those of `weight_v` and `weight_g`; `fold_weight_norm(model)` has `weight` instead. A change of the length
    of `weight_v` has no effect, unless it becomes zero: the kernel is then zero.

    **Raises:** `ConfigError` for a pattern that matches neither a weight nor, in a rule for all, may match an
    activation; the errors of `bend`.
    """
    config, model = _config(config), _on_device(model)
    arrays = named_arrays(model, merged=merged)
    bent, matched = _bent_arrays(arrays, config, config.values(controls), sources)
    for i, rule in enumerate(config.rules):
        for pattern in rule.names:
            if rule.on == "weights" and (i, pattern) not in matched:
                raise _unmatched(pattern, arrays)
    return _with_arrays(model, bent)


def bend(
    function: Callable[..., Any],
    config: BendingConfig | Sequence[Bend],
    *,
    aliases: Aliases | None = None,
    merged: Sequence[str] = (),
) -> Callable[..., Any]:
    """A function that runs `function` with bent weights and activations.

    ```python
    def decode(rave, z, state):
        return rave.decode(z, state)

    config = BendingConfig((
        Bend(Scale(Control("gain", low=-2, high=2)), "decoder.net.[26].weight_g"),
        Bend(Mask(0.3), "decoder.net.10"),
    ))
    run = equinox.filter_jit(dissect.bend(decode, config))
    audio, state = run(rave, z, state, controls=config.values({"gain": -1}))
    ```

    Rules are applied in order. Several rules for one name are composed, for weights too. Weights are changed before
    activations. The model of the caller is not changed, and nothing is recompiled for other values of the controls,
    which are inputs of the function in exports too. State that the function takes and returns is passed through, so
    that a streaming step is bent like any other function.

    **Arguments:**

    - `function`: its first argument is the model, or a dictionary of weights. It need not be tagged. The function of a
        TorchScript archive is tagged by the caller: `bend(tag(encode), config)`.
    - `config`: the rules.
    - `aliases`: other names of activations.
    - `merged`: attributes of the model whose names are left out, such as `Family.merged`.

    **Returns:** a function `bent(model, *args, controls=None, sources=None, **kwargs)`. `controls` are values by name;
    those that are missing have their defaults. Pass the result of `BendingConfig.values` to a compiled function, which
    cannot check values. `sources` are the other arrays of `Mix`, by source: each a dictionary of arrays by name, such
    as captured activations, or a model.

    **Raises:** the returned function raises `ConfigError` for a pattern that matches no weight and no activation, with
    the nearest names, or an activation inside a loop, and for wrong values of controls; `ShapeError` for an operation
    that does not fit an array.
    """
    config = _config(config)

    def bent(
        model: Any, *args: Any, controls: Controls | None = None, sources: Sources | None = None, **kwargs: Any
    ) -> Any:
        values, model = config.values(controls), _on_device(model)
        arrays = named_arrays(model, merged=merged)
        changed, matched = _bent_arrays(arrays, config, values, sources)
        program, assemble = trace(function, (tag(_with_arrays(model, changed), merged=merged), *args), kwargs)
        sources = _by_result(sources, program, aliases)
        edits: dict[Value, list[Edit]] = {}
        for i, rule in enumerate(config.rules):
            for pattern in rule.names if rule.on != "weights" else ():
                of_weight = (i, pattern) in matched
                found = candidates(program, full_match(pattern), aliases, operations=not of_weight)
                if found:
                    matched.add((i, pattern))
                    found = outside_loops(pattern, found, every=True)
                for value in dict.fromkeys(found.values()):
                    edits.setdefault(value, []).append(_edit(rule, value.name, values, sources))
            for pattern in rule.names:
                if (i, pattern) not in matched:
                    known = [*arrays, *(aliases or ()), *(value.name for value in program.modules)]
                    raise _unmatched(pattern, known, (value.name for value in program.values))
        return assemble(evaluate(program, (), edits)[0])

    return renamed(bent, function)


def _edit(rule: Bend, name: str, controls: Controls, sources: Sources | None) -> Edit:
    return lambda x: rule.apply(name, x, controls, sources)


def _by_result(sources: Sources | None, program: Program, aliases: Aliases | None) -> Sources:
    """The sources with arrays under the names of results too, if they have aliases as names."""
    names = {
        alias: value.name
        for alias, target in (aliases or {}).items()
        if (value := find_value(program, target)) is not None
    }
    return {
        source: {**arrays, **{names[name]: array for name, array in arrays.items() if name in names}}
        if isinstance(arrays, Mapping)
        else arrays
        for source, arrays in (sources or {}).items()
    }


def _config(config: BendingConfig | Sequence[Bend]) -> BendingConfig:
    return config if isinstance(config, BendingConfig) else BendingConfig(tuple(config))


def _bent_arrays(
    arrays: Mapping[str, Array], config: BendingConfig, controls: Controls, sources: Sources | None
) -> tuple[dict[str, Array], set[tuple[int, str]]]:
    """The changed arrays, and the patterns of rules that match an array of real numbers."""
    changed, matched = dict(arrays), set[tuple[int, str]]()
    real = [name for name, array in arrays.items() if jnp.issubdtype(array.dtype, jnp.floating)]
    for i, rule in enumerate(config.rules):
        for pattern in rule.names if rule.on != "activations" else ():
            matches = full_match(pattern)
            for name in filter(matches, real):
                matched.add((i, pattern))
                changed[name] = rule.apply(name, changed[name], controls, sources)
    for name in arrays:
        if name.endswith("weight_v") and changed[name] is not arrays[name]:
            _keep_zero_kernels(name, changed)
    return changed, matched


def _keep_zero_kernels(name: str, arrays: dict[str, Array]) -> None:
    """Make kernels of weight norm zero whose direction, the array `name`, is zero; their norm would give NaN."""
    scale = f"{name.removesuffix('weight_v')}weight_g"
    direction, norm = arrays[name], arrays.get(scale)
    if norm is None or norm.ndim != direction.ndim:
        return
    axes = tuple(i for i, length in enumerate(norm.shape) if length == 1)
    is_zero = jnp.all(direction == 0, axis=axes, keepdims=True)
    arrays[name] = jnp.where(is_zero, jnp.ones_like(direction), direction)
    arrays[scale] = jnp.where(is_zero, jnp.zeros_like(norm), norm)


def _with_arrays(model: Any, arrays: Mapping[str, Array]) -> Any:
    """`model` with other arrays, by the names of `named_arrays`."""
    remaining = iter(arrays.values())
    return jax.tree.map(lambda leaf: next(remaining) if is_array(leaf) else leaf, model)


def _on_device(model: Any) -> Any:
    """`model` with JAX arrays instead of NumPy arrays, which the weights of archives are."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)


def _unmatched(pattern: str, *known: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"The pattern {pattern!r} matches no weight and no activation; {nearest(pattern, *known)}. Patterns are "
        "regular expressions for whole names, which the tables of weights and activations list."
    )
