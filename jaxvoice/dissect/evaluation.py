"""Evaluation of a program in parts: from given values, up to captured values, with values replaced."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jaxtyping import Array, Shaped

from jaxvoice.dissect.programs import Body, Node, Program, Value
from jaxvoice.errors import ConfigError, ShapeError

Edit = Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]]


def evaluate(
    program: Program,
    captures: Collection[Value] = (),
    edits: Mapping[Value, Sequence[Edit]] | None = None,
    given: Mapping[Value, Array] | None = None,
    *,
    results: bool = True,
) -> tuple[list[Array], dict[Value, Array]]:
    """Compute the results of `program` and the captured values.

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
    needed = run.mark(program.body, [results] * len(program.body.jaxpr.outvars))
    for value in given or {}:
        if value not in run.used:
            raise ConfigError(
                f"The activation {value.name!r} is given, but nothing that is computed depends on it. Remove it, "
                "or the activations that are computed from it."
            )
    for label, argument, is_needed in zip(program.labels, program.arguments, needed, strict=True):
        if is_needed and isinstance(argument, jax.ShapeDtypeStruct):
            raise ConfigError(
                f"The argument {label} is a ShapeDtypeStruct; it should be an array, since the requested values depend "
                "on it. Pass an array, or give activations that replace all that is computed from it."
            )
    outputs = run.evaluate(program.body, program.body.constants, program.arguments)
    if not results:
        return [], run.captured
    atoms = program.body.jaxpr.outvars
    return [_as_array(output, atom) for output, atom in zip(outputs, atoms, strict=True)], run.captured


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
        self._live: dict[Node, bool] = {}  # whether the equation is run, or all that is needed of it is given
        self._entered: dict[Node, bool] = {}

    def _enters(self, node: Node) -> bool:
        """Whether something in the body of a call is captured, edited or given, so that the body is interpreted."""
        if node.body is None:
            return False
        if node not in self._entered:
            self._entered[node] = any(
                self._enters(inner) or any(value in self._selected for value in inner.values)
                for inner in node.body.nodes
            )
        return self._entered[node]

    def mark(self, body: Body, wanted: Sequence[bool]) -> list[bool]:
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

    def evaluate(self, body: Body, constants: Iterable[Any], arguments: Iterable[Any]) -> list[Any]:
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

    def _apply(self, node: Node, inputs: list[Any], jaxpr: Jaxpr) -> list[Any]:
        equation, outputs = node.equation, list[Any]()
        is_name = equation.primitive.name == "name"
        if not self._live[node]:
            outputs = [self._given.get(value) for value in node.values]
        elif is_name:
            outputs = [_as_array(inputs[0], equation.invars[0])]
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
            self.captured[value] = _as_array(array, equation.outvars[value.index])
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


def _as_array(value: Any, atom: Any) -> Array:
    """`value` as a JAX array; constants of a jaxpr may be Python numbers or NumPy arrays."""
    return value if eqx.is_array(value) else jax.numpy.asarray(value, atom.aval.dtype)
