"""Calls of operators by the interpreter, the limits of a run, and error messages."""

import ast
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax import lax

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript import scanned_loops
from jaxvoice.torchscript.dtypes import is_inexact
from jaxvoice.torchscript.frames import Frame, describe_value
from jaxvoice.torchscript.operators import find_operator, operator_names
from jaxvoice.torchscript.operators.registry import IGNORED, count_items, find_tensors
from jaxvoice.torchscript.scanned_loops import Index, ScanTooLong
from jaxvoice.torchscript.tensors import OperatorError, Tensor, number_of, traced

_HOW_TO_ADD = (
    "decorate a function of JAX arrays with "
    '@jaxvoice.torchscript.register_operator("{name}") before running the archive.'
)


STEPS_PER_TENSOR = 4
"""Steps for each tensor that an operator returns, in addition to 1 for the call.

Without `jax.jit`, this corresponds to half a millisecond.
"""
MIN_SCANNED = 4_000
"""Loops that add more operators than this to the traced program become `jax.lax.scan` if possible."""
MAX_UNROLLED = 20_000
"""Maximum number of operators that unrolled loops may add to the traced program.

For a recurrent cell on a CPU, XLA compiles 4,000 operators in 5 s, 8,500 in 11 s, 17,000 in 30 s with 1.8 GB of memory,
and 34,000 in more than 7 minutes.
"""
MAX_SCANNED = 100_000_000
"""Maximum number of operators that the scans of a run may execute: iterations times operators, nested loops multiplied.

A scan is traced in the same time for any number of iterations, so only this limit stops nested loops that would run for
years. On a CPU, an operator in a scan takes a microsecond or more, so this number of operators takes minutes. Ten
seconds of audio at 22050 Hz, with 100 operators per sample, are 22 million.
"""
ITEMS_PER_STEP = 8
"""Number of list items or characters in the arguments of an operator that are one step."""
# Operators whose time hardly depends on the length of a list.
_CONSTANT_TIME = {
    f"torch.{name}"
    for name in ("append", "len", "__getitem__", "_set_item", "get", "setdefault", "popitem", "__is__", "__isnot__")
}
_RUN_STATE_OPERATORS = {
    *("ops.prim.RaiseException", "torch.is_grad_enabled"),
    *("torch.set_grad_enabled", "torch._set_grad_enabled"),
}
_LIST_SHIFTS = {"torch.insert", "torch.pop", "torch.Delete"}


class OperatorCalls:
    """Base class of the interpreter that calls operators and counts steps.

    **Arguments:** `key`: a random key or None; `steps`: the maximum number of steps.
    """

    steps_per_row = 1 + STEPS_PER_TENSOR
    """Steps for each tensor that a scan appends to a list: one operator selects it from the array of all rows."""

    def __init__(self, key: jax.Array | None, steps: int):
        self._key = key
        self._steps_left = self._max_steps = steps
        self._frames: list[Frame] = []
        self._grad_enabled = True
        self._loops = self._unrolled = self._executed = 0
        self.growing: dict[int, tuple[int, ...]] = {}
        """Lists to which traced scans append, by identity, with their lengths before each of these loops."""
        self.rows: dict[int, tuple[Tensor, jax.Array, int]] = {}
        """Tensors that scans have appended to lists, by identity: the tensor, the array of all rows, its index."""

    def _check_read(self, value: Any, index: Any = None) -> None:
        """Raise `OperatorError` for reading items of a list that are unknown while a scan is traced.

        While a scan is traced, a list to which it appends contains the items before the loop and the items that the
        current iteration has appended. Only these can be read: the former by an index from the start, the latter by an
        index from the end.
        """
        for length in self.growing.get(id(value), ()):
            first = -(len(value) - length) if type(index) is int and index < 0 else 0
            if type(index) is not int or not first <= index < length:
                raise OperatorError("a list to which the loop appends is read")

    def _check_lists(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Apply `_check_read` to the lists in the arguments of an operator."""
        if name in ("torch.__is__", "torch.__isnot__"):
            return
        if name == "torch.__getitem__" and len(args) == 2:
            self._check_read(*args)
        pending, seen = [*args[name in ("torch.append", "torch.__getitem__") :], *kwargs.values()], set()
        while pending:
            value = pending.pop()
            if isinstance(value, (list, tuple, dict)) and id(value) not in seen:
                seen.add(id(value))
                self._check_read(value)
                pending += value.values() if isinstance(value, dict) else value

    def _as_number(self, value: Tensor, kind: type) -> Any:
        try:
            return number_of(value, kind)
        except OperatorError as reason:
            raise self._unsupported(kind.__name__, f"{reason}") from reason

    def _count_steps(self, steps: int) -> None:
        """Count steps; raise `CheckpointError` above the limit."""
        self._steps_left -= steps
        if self._steps_left < 0:
            at = f" ({self._frames[-1]})" if self._frames else ""
            raise CheckpointError(
                f"the archive's code takes more than {self._max_steps:,} steps, which is the maximum{at}."
            )

    @contextmanager
    def _in_loop(self) -> Iterator[None]:
        self._loops += 1
        try:
            yield
        finally:
            self._loops -= 1

    @property
    def _cost(self) -> tuple[int, int]:
        """Number of steps, and number of operators that loops have added to the traced program."""
        return self._max_steps - self._steps_left, self._unrolled

    def _check_loop(self, iterations: int, left: int, cost: tuple[int, int], *, can_scan: bool) -> bool:
        """Whether the remaining iterations of a loop, at `cost` each, are too long to be unrolled.

        Raises `CheckpointError` if they take too many steps, unless the loop can become a scan.
        """
        steps, unrolled = cost[0] * left, cost[1] * left
        long = unrolled > MIN_SCANNED or (unrolled > 0 and not self._can_unroll(unrolled))
        if steps > self._steps_left and not long and not can_scan:
            raise CheckpointError(
                f"a loop of {iterations:,} iterations takes more than {self._max_steps:,} steps, which is the maximum "
                f"({self._frames[-1]})."
            )
        return long

    def _can_unroll(self, operators: int) -> bool:
        return self._unrolled + operators <= MAX_UNROLLED

    def _check_scanned(self, iterations: int, operators: int, rows: int, before: tuple[int, int]) -> None:
        """Raise `ScanTooLong` if a scan would execute too many operators or append too many tensors to lists.

        `operators` and `rows` are the numbers of one iteration. `before` contains the number of executed operators and
        of remaining steps at the start of the loop.
        """
        if before[0] + iterations * max(operators, 1) > MAX_SCANNED:
            raise ScanTooLong(
                f"loops of {iterations:,} iterations execute more than {MAX_SCANNED:,} operators, which is the "
                f"maximum ({self._frames[-1]})."
            )
        if iterations * rows * self.steps_per_row > before[1]:
            raise ScanTooLong(
                f"a loop of {iterations:,} iterations that appends to lists takes more than {self._max_steps:,} steps, "
                f"which is the maximum ({self._frames[-1]})."
            )

    def _unroll(self) -> None:
        """Count an operator that a loop adds to the traced program."""
        self._unrolled += 1
        self._executed += 1
        if self._unrolled > MAX_UNROLLED:
            raise self._too_long(f"loops become more than {MAX_UNROLLED:,}")

    def _too_long(self, what: str, why: str = "") -> CheckpointError:
        return CheckpointError(
            f"{what} operators under jax.jit, whose compilation takes minutes; the maximum is {MAX_UNROLLED:,}. {why}"
            f"Call the function without jax.jit or with a shorter input ({self._frames[-1]})."
        )

    def _count_items(self, values: Any) -> None:
        """Count the steps for iterating over lists and text."""
        most = (self._steps_left + 1) * ITEMS_PER_STEP
        self._count_steps(count_items(values, most) // ITEMS_PER_STEP)

    def require(self, name: str, place: Frame) -> None:
        """Raise `UnsupportedOperatorError` for an unknown operator before the program is run."""
        known = operator_names()
        if name not in known and name.removesuffix("_") not in known and name not in _RUN_STATE_OPERATORS:
            self._frames.append(place)
            raise self._missing_operator(name, [])

    def _operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        self._count_steps(1)
        if self.growing:
            try:
                self._check_lists(name, args, kwargs)
            except OperatorError as reason:
                raise self._unsupported(name, str(reason)) from reason
        if name in _CONSTANT_TIME:
            self._count_items([key for key in args[1:2] if isinstance(key, tuple)])
        else:
            if name not in _LIST_SHIFTS:
                self._count_items([*args, *kwargs.values()])
            elif args and isinstance(args[0], (list, str)):
                self._count_steps(len(args[0]) // (8 * ITEMS_PER_STEP))
        if name == "ops.prim.RaiseException":
            self._raise_from_program(*args)
        if name == "torch.is_grad_enabled":
            return self._grad_enabled
        if name in ("torch.set_grad_enabled", "torch._set_grad_enabled") and len(args) == 1:
            self._grad_enabled = bool(args[0])
            return None
        if any(isinstance(arg, Index) for arg in args) and name in scanned_loops.OPERATORS:
            return self._call_with_index(name, args, kwargs)
        operator = find_operator(name, tuple(args))
        if operator is None:
            raise self._missing_operator(name, args)
        meant = {key: value for key, value in kwargs.items() if key not in IGNORED}
        kwargs = kwargs if operator.accepts(tuple(args), kwargs) else meant
        if not operator.accepts(tuple(args), kwargs):
            given = ", ".join(
                [*map(describe_value, args), *(f"{key}={describe_value(value)}" for key, value in kwargs.items())]
            )
            raise self._unsupported(name, f"the overload with arguments ({given}) is not implemented")
        if not operator.plain:
            args = [Tensor(arg.array) if isinstance(arg, Index) else arg for arg in args]
            if name in ("torch.stack", "torch.cat") and self.rows and args and isinstance(args[0], list) and args[0]:
                dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
                found = scanned_loops.join_rows(self.rows, args[0], dim, stack=name == "torch.stack")
                if found is not None:
                    return found
        try:
            result = operator(tuple(args), kwargs, self._new_key)
            if isinstance(result, Tensor) or (not operator.plain and isinstance(result, (list, tuple))):
                made = find_tensors(result)
                self._count_steps(STEPS_PER_TENSOR * len(made))
                if self._loops and any(traced(tensor._array) for tensor in made):
                    self._unroll()
            return result if self._grad_enabled else _detached(result, args)
        except OperatorError as reason:
            raise self._unsupported(name, str(reason)) from reason
        except CheckpointError:
            raise
        except Exception as failure:
            given = ", ".join(
                [*map(describe_value, args), *(f"{key}={describe_value(value)}" for key, value in kwargs.items())]
            )
            raise CheckpointError(f"{name} failed for ({given}): {failure} ({self._frames[-1]}).") from failure

    def _call_with_index(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return scanned_loops.OPERATORS[name](*args, **kwargs)
        except OperatorError as reason:
            raise self._unsupported(name, str(reason)) from reason

    def _new_key(self) -> jax.Array:
        if self._key is None:
            raise OperatorError("it draws random numbers; pass key=..., for example key=jax.random.key(0)")
        self._key, key = jax.random.split(self._key)
        return key

    # Errors

    def _raise_from_program(self, message: Any = "", kind: Any = "") -> None:
        self._count_items([message, kind])
        kind = str(kind).removeprefix("builtins.")
        raise CheckpointError(f"the archive's program raised {kind or 'an error'}: {message} ({self._frames[-1]}).")

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(f"the archive's code cannot be run: {what} ({self._frames[-1]}).")

    def _unsupported_syntax(self, node: ast.AST) -> CheckpointError:
        return self._error(f"{ast.unparse(node)[:80]!r} is not TorchScript syntax that jaxvoice supports")

    def _unsupported(self, name: str, reason: str) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(f"{name} is not supported: {reason} ({self._frames[-1]}).")

    def _missing_operator(self, name: str, args: list[Any]) -> UnsupportedOperatorError:
        if args and isinstance(args[0], (dict, str)):
            return self._unsupported(
                name, f"it is not implemented for {describe_value(args[0])} and cannot be registered"
            )
        if name in operator_names():
            what = describe_value(args[0]) if args else "nothing"
            return self._unsupported(
                name, f"it is not implemented for {what}. To add it, {_HOW_TO_ADD.format(name=name)}"
            )
        # In-place operators are derived from operators that return a new tensor.
        if name.endswith("_") and not name.endswith("__") and find_operator(name[:-1], tuple(args)) is None:
            name = name[:-1]
        near = difflib.get_close_matches(name, operator_names(), n=1, cutoff=0.8)
        hint = f" The nearest implemented operator is {near[0]}." if near else ""
        return UnsupportedOperatorError(
            f"the operator {name} is not implemented ({self._frames[-1]}).{hint} To add it, "
            f"{_HOW_TO_ADD.format(name=name)}"
        )


def _detached(result: Any, args: list[Any]) -> Any:
    """Stop the gradient of the results of an operator. Tensors that it changed in place stay the same objects."""
    if isinstance(result, Tensor):
        kept = not is_inexact(result.dtype) or any(result is tensor for tensor in find_tensors(args))
        return result if kept else result.view(lax.stop_gradient, lambda _, new: new)
    if type(result) in (list, tuple):
        return type(result)(_detached(part, args) for part in result)
    return result
