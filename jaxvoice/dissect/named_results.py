"""Capture or replace the intermediate results of any function that calls tagged modules.

The function is traced to a jaxpr, and the jaxpr is interpreted. Named results are returned beside the function's
result, or replaced. Modules are not wrapped, so a captured function can be compiled, batched and differentiated
like any other function.
"""

import functools as ft
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Shaped

from jaxvoice.dissect.evaluation import Edit, evaluate
from jaxvoice.dissect.patterns import Aliases, as_tuple, glob, select
from jaxvoice.dissect.programs import Program, Value, trace
from jaxvoice.nn import Module

_Model = TypeVar("_Model")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# An ordered dictionary, because JAX sorts the keys of other dictionaries under transformations.
Captured = OrderedDict[str, Shaped[Array, "..."]]


class NamedValue(NamedTuple):
    """A named intermediate result of a function."""

    name: str
    """The path of its module. If the module returns several arrays: `path[0]`, `path[logits]`, ... The module's second
    call is `path#2`."""
    shape: tuple[int, ...]
    """Its shape."""
    dtype: jax.numpy.dtype
    """Its dtype."""
    in_loop: bool
    """Whether it is computed in the body of a loop or branch. Such values are listed, but cannot be captured."""


def tag(model: _Model, prefix: str = "", *, merged: Sequence[str] = ()) -> _Model:
    """A copy of the pytree `model` in which `path` of every `jaxvoice.nn.Module` is its dotted path (`ups.0`).

    Paths are part of the tree structure. Tag a model where its results are captured, and use the untagged model for
    training, saving and loading. Modules are found in fields of Equinox modules, dictionaries, lists, tuples, partial
    functions and bound methods. A function made from a TorchScript archive names the outputs of its modules too.

    **Arguments:** `prefix` is prepended to every path, and is the path of `model` itself. Without a prefix, the result
    of `model` has no name, since it is the result of the captured function. `merged` are attributes of `model`, or of
    the module whose method it is, whose names are left out of paths, such as `Family.merged`.
    """
    if isinstance(model, types.MethodType) or type(model).__name__ == "BoundMethod":
        return getattr(tag(model.__self__, prefix, merged=merged), model.__name__)  # pyright: ignore
    if isinstance(model, ft.partial):
        keywords = {name: tag(value, _join(prefix, name)) for name, value in model.keywords.items()}
        args = (tag(value, _join(prefix, i)) for i, value in enumerate(model.args))
        return type(model)(tag(model.func, prefix), *args, **keywords)
    if callable(with_names := getattr(type(model), "with_names", None)):
        return with_names(model, prefix)  # a function of a TorchScript archive, whose package imports slowly
    if isinstance(model, eqx.Module):
        copy = object.__new__(type(model))
        for name, value in vars(model).items():
            object.__setattr__(copy, name, tag(value, prefix if name in merged else _join(prefix, name)))
        if isinstance(model, Module):
            object.__setattr__(copy, "path", prefix or None)
        return copy
    if isinstance(model, dict):
        table = model.copy()
        table.update({name: tag(value, _join(prefix, name)) for name, value in model.items()})
        return table  # pyright: ignore
    if isinstance(model, tuple) and hasattr(model, "_fields"):
        return type(model)(*(tag(getattr(model, name), _join(prefix, name)) for name in model._fields))  # pyright: ignore
    if isinstance(model, list | tuple):
        return type(model)(tag(value, _join(prefix, i)) for i, value in enumerate(model))
    return model


def _join(prefix: str, name: object) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


def named_values(
    function: Callable[_Parameters, Any], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> list[NamedValue]:
    """List the results of all modules in `function(*args, **kwargs)` in order, without computing them.

    Arrays among the arguments may be `jax.ShapeDtypeStruct`. `activations` also lists the operations inside modules.
    """
    program, _ = trace(function, args, kwargs)
    return [NamedValue(value.name, value.shape, value.dtype, value.in_loop) for value in program.modules]


def capture(
    function: Callable[_Parameters, _Result],
    names: str | Iterable[str] | None = None,
    *,
    edit: Mapping[str, Edit] | None = None,
    aliases: Aliases | None = None,
) -> Callable[_Parameters, tuple[_Result, Captured]]:
    """A function that returns named intermediate results beside the result of `function`, and applies edits.

    ```python
    generator = dissect.tag(generator)
    run = dissect.capture(generator, ["conv_pre", "resblocks.*"], edit={"ups.0": lambda x: 0.5 * x})
    audio, captured = run(mel)
    ```

    The captured function works under `jax.jit`, `jax.vmap` and `jax.grad`; an edit changes gradients too. Without these
    transformations, it returns bit for bit what `function` returns. There are four limits:

    - The function is traced, so its Python control flow cannot depend on values of arrays.
    - Calls of `jax.jit`, `jax.checkpoint` and custom derivatives inside the function are evaluated operation by
        operation if they contain a captured or edited result. Their results may then differ by rounding, nothing is
        rematerialised, and the derivative is that of the body. Other calls are not changed.
    - If the function itself computes gradients, an edit changes only the values of its forward pass. Capture the
        function inside `jax.grad` instead.
    - Results inside loops and branches cannot be captured or edited.

    **Arguments:**

    - `function`: calls modules of a tagged model, or `jax.ad_checkpoint.checkpoint_name`.
    - `names`: the results to return, by the names that `named_values` lists. `*` matches any characters, and a path
        without `[...]` matches all arrays of its call. A pattern that matches no module may match operations of JAX, by
        the names that `activations` lists: `conv_general_dilated_3`, or `ups.0/mul_1` for the second product in a
        module. They are valid for one trace: kernels differ between platforms and shapes. `None` returns the results of
        all modules that can be captured.
    - `edit`: maps a name or pattern to a function of the result, which returns an array of the same shape and dtype.
        This array replaces the result in the computation and among the returned results.
    - `aliases`: other names, each mapped to the name of a result.

    **Returns:** a function of the same arguments that returns the result of `function` and an ordered dictionary of
    arrays by name, in the order in which they are computed. Results that were requested by an alias have this name.

    **Raises:** the returned function raises `ConfigError` for a name or pattern that matches no result or only results
    in loops, and for an edit that matches any result in a loop; `ShapeError` for an edit that returns another shape or
    dtype.
    """
    patterns = None if names is None else as_tuple(names)
    edits = dict(edit or {})

    @ft.wraps(function, updated=())
    def captured(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> tuple[_Result, Captured]:
        program, assemble = trace(function, args, kwargs)
        requested = chosen(program, patterns, aliases)
        edited: dict[Value, list[Edit]] = {}
        for pattern, one in edits.items():
            for value in select(program, pattern, glob(pattern), aliases, every=True).values():
                edited.setdefault(value, []).append(one)
        results, found = evaluate(program, requested, edited)
        return assemble(results), by_name(program, requested, found)

    return captured


def chosen(
    program: Program, patterns: Iterable[str] | None, aliases: Aliases | None = None
) -> Mapping[Value, list[str]]:
    """The values that the patterns match, with the names under which they are returned; None matches all modules.

    **Raises:** `ConfigError` for a pattern that matches no value outside loops.
    """
    if patterns is None:
        return {value: [value.name] for value in program.modules if not value.in_loop}
    requested: dict[Value, list[str]] = {}
    for pattern in patterns:
        for name, value in select(program, pattern, glob(pattern), aliases).items():
            names = requested.setdefault(value, [])
            names += [] if name in names else [name]
    return requested


def by_name(program: Program, requested: Mapping[Value, list[str]], found: Mapping[Value, Array]) -> Captured:
    """Captured values by name, in the order in which they are computed."""
    return OrderedDict((name, found[value]) for value in program.values for name in requested.get(value, ()))
