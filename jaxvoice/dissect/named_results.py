"""Capture or replace the intermediate results of any function that calls tagged modules.

The function is traced to a jaxpr, and the jaxpr is interpreted. Named results are returned beside the function's
result, or replaced. Modules are not wrapped, so a captured function can be compiled, batched and differentiated
like any other function.
"""

import difflib
import functools as ft
import re
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jaxtyping import Array, Shaped

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import Module

_Model = TypeVar("_Model")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# An ordered dictionary, because JAX sorts the keys of other dictionaries under transformations.
Captured = OrderedDict[str, Shaped[Array, "..."]]
Edit = Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]]

# Calls whose body is interpreted in place of the call. Every other primitive with a body is a loop, a branch or a
# separate program, whose values are computed a varying number of times.
_INLINED = (
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call"),
)
_NAME = re.compile(r"(?P<path>[^\[#]*)(?P<suffix>.*)", re.DOTALL)


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


def tag(model: _Model, prefix: str = "") -> _Model:
    """A copy of the pytree `model` in which `path` of every `jaxvoice.nn.Module` is its dotted path (`ups.0`).

    Paths are part of the tree structure. Tag a model where its results are captured, and use the untagged model for
    training, saving and loading. Modules are found in fields of Equinox modules, dictionaries, lists, tuples, partial
    functions and bound methods.

    **Arguments:** `prefix` is prepended to every path, and is the path of `model` itself. Without a prefix, the result
    of `model` has no name, since it is the result of the captured function.
    """
    if isinstance(model, types.MethodType) or type(model).__name__ == "BoundMethod":
        return getattr(tag(model.__self__, prefix), model.__name__)  # pyright: ignore
    if isinstance(model, ft.partial):
        keywords = {name: tag(value, _join(prefix, name)) for name, value in model.keywords.items()}
        args = (tag(value, _join(prefix, i)) for i, value in enumerate(model.args))
        return type(model)(tag(model.func, prefix), *args, **keywords)
    if isinstance(model, eqx.Module):
        copy = object.__new__(type(model))
        for name, value in vars(model).items():
            object.__setattr__(copy, name, tag(value, _join(prefix, name)))
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
    """List every named intermediate result of `function(*args, **kwargs)` in order, without computing it.

    Arrays among the arguments may be `jax.ShapeDtypeStruct`.
    """
    arrays, rebuild = _arrays_of((args, kwargs))
    program = jax.make_jaxpr(lambda *arrays: _arrays_of(_call(function, rebuild(arrays)))[0])(*arrays)
    return list(_list_values(program.jaxpr))


def capture(
    function: Callable[_Parameters, _Result],
    names: str | Iterable[str] | None = None,
    *,
    edit: Mapping[str, Edit] | None = None,
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
        without `[...]` matches all arrays of its call. `None` returns every result that can be captured.
    - `edit`: maps a name or pattern to a function of the result, which returns an array of the same shape and dtype.
        This array replaces the result in the computation and among the returned results.

    **Returns:** a function of the same arguments that returns the result of `function` and an ordered dictionary of
    arrays by name, in the order in which they are computed.

    **Raises:** the returned function raises `ConfigError` for a name or pattern that matches no result or only results
    in loops, and for an edit that matches any result in a loop; `ShapeError` for an edit that returns another shape or
    dtype.
    """
    patterns = None if names is None else [names] if isinstance(names, str) else list(names)
    edits = dict(edit or {})

    @ft.wraps(function, updated=())
    def captured(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> tuple[_Result, Captured]:
        arrays, rebuild = _arrays_of((args, kwargs))
        assemble: list[Callable[[list[Array]], _Result]] = []

        def flat(*arrays: Array) -> list[Array]:
            results, rebuild_result = _arrays_of(_call(function, rebuild(arrays)))
            assemble.append(rebuild_result)
            return results

        program = jax.make_jaxpr(flat)(*arrays)
        listed = list(_list_values(program.jaxpr))
        for pattern in patterns or []:
            _check_pattern(pattern, listed, every=False)
        for pattern in edits:
            _check_pattern(pattern, listed, every=True)
        interpreter = _Interpreter(patterns, edits)
        results = interpreter.run(program, arrays)
        return assemble[-1](results), interpreter.captured

    return captured


def _call(function: Callable[..., _Result], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> _Result:
    args, kwargs = arguments
    return function(*args, **kwargs)


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _arrays_of(tree: Any) -> tuple[list[Array], Callable[[Iterable[Array]], Any]]:
    """The arrays among the leaves of `tree`, and a function that rebuilds the tree with other arrays."""
    leaves, structure = jax.tree.flatten(tree)
    is_array = [_is_array(leaf) for leaf in leaves]
    rest = [None if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]

    def rebuild(arrays: Iterable[Array]) -> Any:
        remaining = iter(arrays)
        return structure.unflatten([next(remaining) if a else leaf for leaf, a in zip(rest, is_array, strict=True)])

    return [leaf for leaf, array in zip(leaves, is_array, strict=True) if array], rebuild


def _body(equation: JaxprEqn) -> ClosedJaxpr | Jaxpr | None:
    """The body of an inlined call, or None for other equations."""
    if equation.primitive.name not in _INLINED:
        return None
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def _as_jaxpr(body: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return body.jaxpr if isinstance(body, ClosedJaxpr) else body


def _bodies(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield _as_jaxpr(item)


def _as_array(value: Any, atom: Any) -> Array:
    """`value` as a JAX array; constants of a jaxpr may be Python numbers or NumPy arrays."""
    return value if eqx.is_array(value) else jax.numpy.asarray(value, atom.aval.dtype)


class _NameCounter:
    """Counts the calls of each module, so that every value has a unique name."""

    def __init__(self, calls: Mapping[str, int] | None = None) -> None:
        self._calls: Counter[str] = Counter(calls)

    def copy(self) -> "_NameCounter":
        return _NameCounter(self._calls)

    def next(self, name: str) -> str:
        self._calls[name] += 1
        path, suffix = _split_name(name)
        return f"{path}#{self._calls[name]}{suffix}" if self._calls[name] > 1 else name


def _split_name(name: str) -> tuple[str, str]:
    found = _NAME.fullmatch(name)
    assert found is not None
    return found["path"], found["suffix"]


def _list_values(jaxpr: Jaxpr, names: _NameCounter | None = None, *, in_loop: bool = False) -> Iterator[NamedValue]:
    names = _NameCounter() if names is None else names
    for equation in jaxpr.eqns:
        if equation.primitive.name == "name":
            aval = equation.outvars[0].aval
            yield NamedValue(names.next(equation.params["name"]), aval.shape, aval.dtype, in_loop)  # pyright: ignore
        elif (body := _body(equation)) is not None:
            yield from _list_values(_as_jaxpr(body), names, in_loop=in_loop)
        else:
            for body in _bodies(equation):
                yield from _list_values(body, names, in_loop=True)


def _matches(pattern: str, name: str) -> bool:
    """Whether `pattern` matches `name`, or `name` without `[...]`."""
    regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return bool(regex.fullmatch(name) or regex.fullmatch(name.partition("[")[0]))


def _check_pattern(pattern: str, listed: list[NamedValue], *, every: bool) -> None:
    """Raise `ConfigError` unless a match of `pattern` is outside loops; with `every`, unless all matches are."""
    found = [value for value in listed if _matches(pattern, value.name)]
    if not found:
        names = list(dict.fromkeys(value.name.partition("[")[0] for value in listed))
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3)
        hint = f"the nearest are {', '.join(near)}" if near else "none is similar"
        raise ConfigError(
            f"The pattern {pattern!r} matches none of the {len(names)} named results; {hint}. named_values lists all "
            "names. dissect.tag(model) names the results of a model."
        )
    looped = [value.name for value in found if value.in_loop]
    if len(looped) == len(found) or (every and looped):
        raise ConfigError(
            f"The pattern {pattern!r} matches {looped[0]!r}, a result inside a loop, branch or shard_map, which cannot "
            "be captured or edited. Use other names, or capture the function that is the body of the loop."
        )


class _Interpreter:
    """Evaluates a jaxpr, and captures and edits named results."""

    def __init__(self, patterns: list[str] | None, edits: Mapping[str, Edit]):
        self.captured: Captured = OrderedDict()
        self._patterns, self._edits, self._names = patterns, edits, _NameCounter()

    def run(self, program: ClosedJaxpr, arguments: Iterable[Array]) -> list[Array]:
        results = self._evaluate(program.jaxpr, program.consts, arguments)
        return [_as_array(result, atom) for result, atom in zip(results, program.jaxpr.outvars, strict=True)]

    def _evaluate(self, jaxpr: Jaxpr, constants: Iterable[Any], arguments: Iterable[Any]) -> list[Any]:
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            outputs = self._apply(equation, inputs, jaxpr)
            values.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, equation: JaxprEqn, inputs: list[Any], jaxpr: Jaxpr) -> list[Any]:
        if equation.primitive.name == "name":
            return [self._named(equation.params["name"], _as_array(inputs[0], equation.invars[0]))]
        body = _body(equation)
        names_after = self._names.copy()
        inside = [value for inner in _bodies(equation) for value in _list_values(inner, names_after)]
        if body is not None and any(self._selects(value.name) for value in inside):
            return self._evaluate(_as_jaxpr(body), body.consts if isinstance(body, ClosedJaxpr) else (), inputs)
        # Calls inside the body are counted in the order in which they are listed.
        self._names = names_after
        # A program of this equation alone, which JAX evaluates with the scope and context that the primitive needs.
        variables = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        program = jaxpr.replace(
            constvars=(),
            invars=variables,
            outvars=equation.outvars,
            eqns=[equation],
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        values = [value for value, atom in zip(inputs, equation.invars, strict=True) if not isinstance(atom, Literal)]
        return jaxpr_as_fun(ClosedJaxpr(program, ()))(*values)

    def _captures(self, name: str) -> bool:
        return self._patterns is None or any(_matches(pattern, name) for pattern in self._patterns)

    def _selects(self, name: str) -> bool:
        return self._captures(name) or any(_matches(pattern, name) for pattern in self._edits)

    def _named(self, original: str, value: Array) -> Array:
        name = self._names.next(original)
        for pattern, edit in self._edits.items():
            if _matches(pattern, name):
                value = self._edited(name, value, edit)
        if self._captures(name):
            self.captured[name] = value
        # The name is kept for an enclosing capture and for policies of jax.checkpoint.
        return checkpoint_name(value, original)

    @staticmethod
    def _edited(name: str, value: Array, edit: Edit) -> Array:
        new = edit(value)
        if not eqx.is_array_like(new):
            raise ShapeError(
                f"The result of the edit of {name!r} is of type {type(new).__name__}; it should be an array."
            )
        new = jax.numpy.asarray(new)
        if new.shape != value.shape or new.dtype != value.dtype:
            raise ShapeError(
                f"The result of the edit of {name!r} is {new.dtype}{list(new.shape)}; it should be "
                f"{value.dtype}{list(value.shape)}, as the original."
            )
        return new
