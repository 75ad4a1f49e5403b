"""The program of a function as a list of values with names, and its evaluation with changes.

A function is traced to a jaxpr. The results of tagged modules are equations `name` in it; every other equation is an
operation of JAX. Both have names. A program can be evaluated in parts: from given values, and up to captured values.
"""

import functools as ft
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jaxtyping import Array, Shaped

from jaxvoice.errors import ConfigError, ShapeError

Edit = Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]]

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
class _Node:
    equation: JaxprEqn
    values: tuple[Value, ...]
    """One for each result; empty for a call whose body is interpreted."""
    body: "_Body | None" = None


@dataclass(frozen=True, eq=False)
class _Body:
    jaxpr: Jaxpr
    constants: Sequence[Any]
    nodes: list[_Node]


class Program:
    """A traced function."""

    def __init__(self, closed: ClosedJaxpr, arguments: Sequence[Any], labels: Sequence[str]):
        """**Arguments:** `closed`: the jaxpr; `arguments`: its arrays, or their shapes; `labels`: what errors call the
        arguments.
        """
        builder = _Builder()
        self._body = builder.body(closed.jaxpr, closed.consts, (), in_loop=False)
        self._arguments, self._labels = arguments, labels
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
        """The names of the values from which each value is computed; literals as text, inputs as `input`."""
        return dict(_operands(self._body, {}))

    def evaluate(
        self,
        captures: Collection[Value] = (),
        edits: Mapping[Value, Sequence[Edit]] | None = None,
        given: Mapping[Value, Array] | None = None,
        *,
        results: bool = True,
    ) -> tuple[list[Array], dict[Value, Array]]:
        """Compute the results and the captured values.

        Only equations that are needed are evaluated; those with side effects are also evaluated if the results are
        computed without given values.

        **Arguments:**

        - `captures`: values to return, after edits.
        - `edits`: functions that replace values, applied in order.
        - `given`: values that are not computed.
        - `results`: whether the results of the function are computed. Otherwise, the list is empty.

        **Raises:** `ConfigError` if an argument is needed of which only the shape is known, or a given value is not
        used; `ShapeError` for an edit or a given value of another shape or dtype.
        """
        run = _Evaluation(set(captures), edits or {}, given or {}, keep_effects=results and not given)
        needed = run.mark(self._body, [results] * len(self._body.jaxpr.outvars))
        for value in given or {}:
            if value not in run.used:
                raise ConfigError(
                    f"The activation {value.name!r} is given, but nothing that is computed depends on it. Remove it, "
                    "or the activations that are computed from it."
                )
        for label, argument, is_needed in zip(self._labels, self._arguments, needed, strict=True):
            if is_needed and isinstance(argument, jax.ShapeDtypeStruct):
                raise ConfigError(
                    f"{label} is a ShapeDtypeStruct; it should be an array, since the requested values depend on it. "
                    "Pass an array, or give activations that replace all that is computed from it."
                )
        outputs = run.evaluate(self._body, self._body.constants, self._arguments)
        if not results:
            return [], run.captured
        atoms = self._body.jaxpr.outvars
        return [as_array(output, atom) for output, atom in zip(outputs, atoms, strict=True)], run.captured


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Program, Callable[[Iterable[Array]], Any]]:
    """The program of `function(*args, **kwargs)`, and a function that assembles its result from arrays.

    Arrays among the arguments may be `jax.ShapeDtypeStruct`.
    """
    arrays, rebuild = arrays_of((args, dict(kwargs)))
    assemble: list[Callable[[Iterable[Array]], Any]] = []

    def flat(*arrays: Array) -> list[Array]:
        args, kwargs = rebuild(arrays)
        results, rebuild_result = arrays_of(function(*args, **kwargs))
        assemble.append(rebuild_result)
        return results

    closed = jax.make_jaxpr(flat)(*arrays)
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
    """What messages call the arrays of the arguments: `Argument 1`, `Argument x.weight`."""
    labels = []
    for path, leaf in jax.tree_util.tree_leaves_with_path((args, dict(kwargs))):
        if is_array(leaf):
            kind, name, *rest = (jax.tree_util.keystr((entry,), simple=True) for entry in path)
            name = str(int(name) + 1) if kind == "0" else name
            labels.append(f"Argument {'.'.join([name, *rest])}")
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

    def body(self, jaxpr: Jaxpr, constants: Sequence[Any], scope: tuple[str, ...], *, in_loop: bool) -> _Body:
        return _Body(jaxpr, constants, [self._node(equation, scope, in_loop) for equation in jaxpr.eqns])

    def _node(self, equation: JaxprEqn, scope: tuple[str, ...], in_loop: bool) -> _Node:
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
            return _Node(equation, (value,))
        if inner is not None:
            closed = isinstance(inner, ClosedJaxpr)
            jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
            return _Node(equation, (), self.body(jaxpr, constants, scope, in_loop=in_loop))
        for jaxpr in _bodies(equation):
            self.body(jaxpr, (), scope, in_loop=True)
        name, several = _numbered(op, self._operations), len(equation.outvars) > 1
        values = tuple(
            Value(f"{name}[{i}]" if several else name, op, False, equation, i, scope, in_loop)
            for i in range(len(equation.outvars))
        )
        self.values += values
        return _Node(equation, values)


def _operands(body: _Body, names: dict[Any, str]) -> Iterator[tuple[Value, tuple[str, ...]]]:
    names.update(dict.fromkeys(body.jaxpr.constvars, "constant"))
    for node in body.nodes:
        inputs = tuple(
            str(atom.val) if isinstance(atom, Literal) else names.get(atom, "input") for atom in node.equation.invars
        )
        if node.body is not None:
            inner = dict(zip(node.body.jaxpr.invars, inputs, strict=True))
            yield from _operands(node.body, inner)
            outputs = [
                str(atom.val) if isinstance(atom, Literal) else inner.get(atom, "input")
                for atom in node.body.jaxpr.outvars
            ]
            names.update(zip(node.equation.outvars, outputs, strict=True))
        for value in node.values:
            names[node.equation.outvars[value.index]] = value.name
            yield value, inputs


class _Evaluation:
    """Evaluates the equations of a program that are needed for the results and the captured values."""

    def __init__(
        self,
        captures: set[Value],
        edits: Mapping[Value, Sequence[Edit]],
        given: Mapping[Value, Array],
        *,
        keep_effects: bool,
    ):
        self.captured: dict[Value, Array] = {}
        self.used: set[Value] = set()
        """The given values on which something depends."""
        self._captures, self._edits, self._given, self._keep_effects = captures, edits, given, keep_effects
        self._selected = {*captures, *edits, *given}
        self._live: dict[_Node, bool] = {}  # whether the equation is run, or all that is needed of it is given
        self._entered: dict[_Node, bool] = {}

    def _enters(self, node: _Node) -> bool:
        """Whether something in the body of a call is captured, edited or given, so that the body is interpreted."""
        if node.body is None:
            return False
        if node not in self._entered:
            self._entered[node] = any(
                self._enters(inner) or any(value in self._selected for value in inner.values)
                for inner in node.body.nodes
            )
        return self._entered[node]

    def mark(self, body: _Body, wanted: Sequence[bool]) -> list[bool]:
        """Find the equations that are needed for the `wanted` results; whether each input of `body` is needed."""
        needed = {
            atom for atom, is_wanted in zip(body.jaxpr.outvars, wanted, strict=True) if is_wanted and _is_var(atom)
        }
        for node in reversed(body.nodes):
            equation = node.equation
            outputs = [variable in needed for variable in equation.outvars]
            if self._enters(node):
                assert node.body is not None
                inputs = self.mark(node.body, outputs)
                if any(outputs) or any(inner in self._live for inner in node.body.nodes):
                    self._live[node] = True
            else:
                wanted_values = [value for value in node.values if outputs[value.index] or value in self._captures]
                self.used.update(value for value in wanted_values if value in self._given)
                computed = [value for value in wanted_values if value not in self._given]
                is_run = bool(computed) or (not node.values and any(outputs))
                is_run = is_run or (self._keep_effects and bool(equation.effects))
                if is_run or wanted_values:
                    self._live[node] = is_run
                inputs = [is_run] * len(equation.invars)
            needed.update(
                atom for atom, is_needed in zip(equation.invars, inputs, strict=True) if is_needed and _is_var(atom)
            )
        return [variable in needed for variable in body.jaxpr.invars]

    def evaluate(self, body: _Body, constants: Iterable[Any], arguments: Iterable[Any]) -> list[Any]:
        """The results of a body; those that are not needed may be None."""
        values = dict(zip(body.jaxpr.constvars, constants, strict=True))
        values.update(zip(body.jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values.get(atom)

        for node in body.nodes:
            if node not in self._live:
                continue
            inputs = [read(atom) for atom in node.equation.invars]
            if self._enters(node):
                assert node.body is not None
                outputs = self.evaluate(node.body, node.body.constants, inputs)
            else:
                outputs = self._apply(node, inputs, body.jaxpr)
            values.update(zip(node.equation.outvars, outputs, strict=True))
        return [read(atom) for atom in body.jaxpr.outvars]

    def _apply(self, node: _Node, inputs: list[Any], jaxpr: Jaxpr) -> list[Any]:
        equation, outputs = node.equation, list[Any]()
        is_name = equation.primitive.name == "name"
        if not self._live[node]:
            outputs = [self._given.get(value) for value in node.values]
        elif is_name:
            outputs = [as_array(inputs[0], equation.invars[0])]
        else:
            outputs = _run(equation, inputs, jaxpr)
        for value in node.values:
            if value in self._selected and outputs[value.index] is not None:
                outputs[value.index] = self._changed(value, outputs[value.index], equation)
        # The name is kept for an enclosing capture and for policies of jax.checkpoint.
        return [checkpoint_name(outputs[0], equation.params["name"])] if is_name else outputs

    def _changed(self, value: Value, array: Any, equation: JaxprEqn) -> Any:
        if value in self._given:
            array = self._given[value]
        for edit in self._edits.get(value, ()):
            array = check_replacement(f"The result of the edit of {value.name!r}", edit(array), array)
        if value in self._captures:
            self.captured[value] = as_array(array, equation.outvars[value.index])
        return array


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, Literal)


def _run(equation: JaxprEqn, inputs: list[Any], jaxpr: Jaxpr) -> list[Any]:
    """The results of one equation."""
    # A program of this equation alone, which JAX evaluates with the scope and context that the primitive needs.
    variables = [atom for atom in equation.invars if _is_var(atom)]
    program = jaxpr.replace(
        constvars=(),
        invars=variables,
        outvars=equation.outvars,
        eqns=[equation],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    values = [value for value, atom in zip(inputs, equation.invars, strict=True) if _is_var(atom)]
    return list(jaxpr_as_fun(ClosedJaxpr(program, ()))(*values))


def as_array(value: Any, atom: Any) -> Array:
    """`value` as a JAX array; constants of a jaxpr may be Python numbers or NumPy arrays."""
    return value if eqx.is_array(value) else jax.numpy.asarray(value, atom.aval.dtype)


def check_replacement(what: str, new: Any, old: Any) -> Array:
    """`new` as an array; raises `ShapeError` unless it has the shape and dtype of `old`."""
    if not eqx.is_array_like(new):
        raise ShapeError(f"{what} is of type {type(new).__name__}; it should be an array.")
    new = jax.numpy.asarray(new)
    if new.shape != old.shape or new.dtype != old.dtype:
        raise ShapeError(
            f"{what} is {new.dtype}{list(new.shape)}; it should be {old.dtype}{list(old.shape)}, as the original."
        )
    return new
