"""Bending: rules that change weights and activations of a model while it runs, with controls as inputs.

Rules are data. A configuration of rules is saved as JSON, and applies to any model that has the names in it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.dissect.bending_rules import Bend, BendingConfig, Sources
from jaxvoice.dissect.controls import Controls
from jaxvoice.dissect.evaluation import Edit, evaluate
from jaxvoice.dissect.named_results import tag
from jaxvoice.dissect.patterns import (
    Aliases,
    candidates,
    find_value,
    full_match,
    nearest,
    outside_loops,
)
from jaxvoice.dissect.programs import Program, Value, is_array, renamed, trace
from jaxvoice.errors import ConfigError
from jaxvoice.weights import named_arrays


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
