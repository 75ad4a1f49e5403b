"""The program of a function as a list of values with names.

A function is traced to a jaxpr. The results of tagged modules are equations `name` in it; every other equation is an
operation of JAX. Both have names.
"""

import functools as ft
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

from jaxvoice.errors import ConfigError

# Calls whose body is interpreted in place of the call. Every other primitive with a body is a loop, a branch or a
# separate program, whose values are computed a varying number of times.
_INLINED = (
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call"),
)
_NAME = re.compile(r"(?P<path>[^\[#]*)(?P<suffix>.*)", re.DOTALL)
_CLASS, _TRANSFORMED = re.compile(r"(\w+)\(\)"), re.compile(r"\w+\((.*)\)")


@dataclass(frozen=True, eq=False)
class Value:
    """An array that a program computes."""

    name: str
    """The path of its module, or the operation with a number (`add`, `add_1`)."""
    op: str
    """The class of its module, or the operation."""
    is_module: bool
    """Whether it is the result of a tagged module."""
    equation: JaxprEqn
    index: int
    """Its place among the results of `equation`."""
    scope: tuple[str, ...]
    """The names of the enclosing scopes."""
    in_loop: bool
    """Whether it is computed in the body of a loop or branch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.equation.outvars[self.index].aval.shape  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def dtype(self) -> Any:
        """Its dtype."""
        return self.equation.outvars[self.index].aval.dtype  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True, eq=False)
class Node:
    """An equation, with the names of its results."""

    equation: JaxprEqn
    """The equation."""
    values: tuple[Value, ...]
    """One for each result; empty for a call whose body is interpreted."""
    body: "Body | None" = None
    """The body of a call that is interpreted."""
    loops: "tuple[Body, ...]" = ()
    """The bodies of a loop or branch."""


@dataclass(frozen=True, eq=False)
class Body:
    """A jaxpr with the names of its values."""

    jaxpr: Jaxpr
    """The jaxpr."""
    constants: Sequence[Any]
    """Its constants."""
    nodes: list[Node]
    """Its equations."""


class Program:
    """A traced function."""

    def __init__(self, closed: ClosedJaxpr, arguments: Sequence[Any], labels: Sequence[str]):
        """**Arguments:** `closed`: the jaxpr; `arguments`: its arrays, or their shapes; `labels`: names of the
        arguments, `1.ups.0.bias` for an array in the first.
        """
        builder = _Builder()
        self.body = builder.body(closed.jaxpr, closed.consts, (), in_loop=False)
        self.arguments, self.labels = arguments, labels
        self.values: list[Value] = builder.values
        """Every value, in the order in which they are computed."""

    @property
    def modules(self) -> list[Value]:
        """The results of tagged modules."""
        return [value for value in self.values if value.is_module]

    @ft.cached_property
    def module_of(self) -> Mapping[Value, str]:
        """The path of the innermost tagged module, or of its method, in which each value is computed."""
        known = {split_name(value.name)[0] for value in self.modules}
        resolve = ft.cache(lambda scope: _resolve(scope, known))
        return {value: split_name(value.name)[0] if value.is_module else resolve(value.scope) for value in self.values}

    @ft.cached_property
    def local_names(self) -> Mapping[str, list[Value]]:
        """The operations by module and number in this module: `net.4/square`, `net.4/mul_1`."""
        counts, names = Counter[str](), dict[str, list[Value]]()
        equation, name = None, ""
        for value in self.values:
            if value.is_module:
                continue
            if value.equation is not equation or not value.index:
                equation, name = value.equation, _numbered(f"{self.module_of[value]}/{value.op}", counts)
            names.setdefault(name, []).append(value)
        return names

    @ft.cached_property
    def operands(self) -> Mapping[Value, tuple[str, ...]]:
        """The names of the values from which each value is computed; literals as text, inputs of loops as `input`."""
        return dict(_operands(self.body, dict(zip(self.body.jaxpr.invars, self.labels, strict=True))))


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Program, Callable[[Iterable[Array]], Any]]:
    """The program of `function(*args, **kwargs)`, and a function that assembles its result from arrays.

    Arrays among the arguments may be `jax.ShapeDtypeStruct`.

    **Raises:** `ConfigError` for a function that converts an array to NumPy.
    """
    arrays, rebuild = arrays_of((args, dict(kwargs)))
    assemble: list[Callable[[Iterable[Array]], Any]] = []

    def flat(*arrays: Array) -> list[Array]:
        args, kwargs = rebuild(arrays)
        results, rebuild_result = arrays_of(function(*args, **kwargs))
        assemble.append(rebuild_result)
        return results

    try:
        closed = jax.make_jaxpr(flat)(*arrays)
    except jax.errors.TracerArrayConversionError as failure:
        raise ConfigError(
            f"The function {getattr(function, '__name__', function)!r} converts an array to NumPy, so that it cannot "
            "be traced, as methods of pipelines. Pass a function of a network, such as the attribute network of a "
            "pipeline."
        ) from failure
    return Program(closed, arrays, _labels(args, kwargs)), assemble[-1]


def renamed(new: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`new` with the name of `function`, whose arguments are others."""
    ft.update_wrapper(new, function, assigned=("__module__", "__name__", "__qualname__"), updated=())
    del new.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    return new


def is_array(leaf: Any) -> bool:
    """Whether `leaf` is an array or the shape of one."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def arrays_of(tree: Any) -> tuple[list[Array], Callable[[Iterable[Array]], Any]]:
    """The arrays among the leaves of `tree`, and a function that rebuilds the tree with other arrays."""
    leaves, structure = jax.tree.flatten(tree)
    is_one = [is_array(leaf) for leaf in leaves]
    rest = [None if array else leaf for leaf, array in zip(leaves, is_one, strict=True)]

    def rebuild(arrays: Iterable[Array]) -> Any:
        remaining = iter(arrays)
        return structure.unflatten([next(remaining) if a else leaf for leaf, a in zip(rest, is_one, strict=True)])

    return [leaf for leaf, array in zip(leaves, is_one, strict=True) if array], rebuild


def _labels(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """The names of the arrays of the arguments: `1` for the first, `x.weight` for one in the argument `x`."""
    labels = []
    for path, leaf in jax.tree_util.tree_leaves_with_path((args, dict(kwargs))):
        if is_array(leaf):
            kind, name, *rest = (jax.tree_util.keystr((entry,), simple=True) for entry in path)
            name = str(int(name) + 1) if kind == "0" else name
            labels.append(".".join([name, *rest]))
    return labels


def split_name(name: str) -> tuple[str, str]:
    """The path in a name, and the rest: the number of the call, and the place among several results."""
    found = _NAME.fullmatch(name)
    assert found is not None
    return found["path"], found["suffix"]


def _numbered(name: str, counts: Counter[str]) -> str:
    """`name`, `name_1`, `name_2`, ... in successive calls."""
    counts[name] += 1
    return f"{name}_{counts[name] - 1}" if counts[name] > 1 else name


def _inlined_body(equation: JaxprEqn) -> ClosedJaxpr | Jaxpr | None:
    """The body of a call that is interpreted, or None for other equations."""
    if equation.primitive.name not in _INLINED:
        return None
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def _bodies(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item.jaxpr if isinstance(item, ClosedJaxpr) else item


def _scopes(equation: JaxprEqn) -> tuple[str, ...]:
    """The scopes of an equation, without the transformations that are written around them."""
    scopes = []
    for scope in str(equation.source_info.name_stack).split("/"):
        while not _CLASS.fullmatch(scope) and (found := _TRANSFORMED.fullmatch(scope)):
            scope = found[1]
        scopes.append(scope)
    return tuple(filter(None, scopes))


def _resolve(scope: Sequence[str], known: Collection[str]) -> str:
    """The path in `known` to which the scopes lead.

    A scope is a path relative to the calling module, or the whole path. The scope of a method is `inner.step`, and
    that of a module which it calls is relative to `inner`.
    """
    path = ""
    for name in scope:
        parts = path.split(".") if path else []
        for count in range(len(parts), -1, -1):
            if (candidate := ".".join([*parts[:count], name])) in known:
                path = candidate
                break
    return path


class _Builder:
    """Names the values of a jaxpr. Calls of modules are numbered, so that every value has a name of its own."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._calls, self._operations = Counter[str](), Counter[str]()

    def body(self, jaxpr: Jaxpr, constants: Sequence[Any], scope: tuple[str, ...], *, in_loop: bool) -> Body:
        return Body(jaxpr, constants, [self._node(equation, scope, in_loop) for equation in jaxpr.eqns])

    def _node(self, equation: JaxprEqn, scope: tuple[str, ...], in_loop: bool) -> Node:
        scope = (*scope, *_scopes(equation))
        op, inner = equation.primitive.name, _inlined_body(equation)
        if op == "name":
            path, suffix = split_name(equation.params["name"])
            name = path + suffix
            self._calls[name] += 1
            if self._calls[name] > 1:
                name = f"{path}#{self._calls[name]}{suffix}"
            of_class = _CLASS.fullmatch(scope[-1]) if scope else None
            value = Value(name, of_class[1] if of_class else op, True, equation, 0, scope, in_loop)
            self.values.append(value)
            return Node(equation, (value,))
        if inner is not None:
            closed = isinstance(inner, ClosedJaxpr)
            jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
            return Node(equation, (), self.body(jaxpr, constants, scope, in_loop=in_loop))
        loops = tuple(self.body(jaxpr, (), scope, in_loop=True) for jaxpr in _bodies(equation))
        name, several = _numbered(op, self._operations), len(equation.outvars) > 1
        values = tuple(
            Value(f"{name}[{i}]" if several else name, op, False, equation, i, scope, in_loop)
            for i in range(len(equation.outvars))
        )
        self.values += values
        return Node(equation, values, loops=loops)


def _operands(body: Body, names: dict[Any, str]) -> Iterator[tuple[Value, tuple[str, ...]]]:
    """Each value with the names of its operands. `names` are those of the inputs, and gets those of all variables."""
    names.update(dict.fromkeys(body.jaxpr.constvars, "constant"))

    def name_of(atom: Any) -> str:
        return _literal(atom.val) if isinstance(atom, Literal) else names.get(atom, "input")

    for node in body.nodes:
        inputs = tuple(map(name_of, node.equation.invars))
        for loop in node.loops:
            yield from _operands(loop, {})
        if node.body is not None:
            inner = dict(zip(node.body.jaxpr.invars, inputs, strict=True))
            yield from _operands(node.body, inner)
            for variable, atom in zip(node.equation.outvars, node.body.jaxpr.outvars, strict=True):
                names[variable] = _literal(atom.val) if isinstance(atom, Literal) else inner.get(atom, "input")
        for value in node.values:
            names[node.equation.outvars[value.index]] = value.name
            yield value, inputs


def _literal(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.item():.6g}" if array.dtype.kind in "iuf" else str(array)
