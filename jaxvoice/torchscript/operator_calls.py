"""Calling operators from the code text, and what to say when that fails."""

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
from jaxvoice.torchscript.frames import Frame, shown
from jaxvoice.torchscript.operators import find_operator, operator_names
from jaxvoice.torchscript.operators.registry import IGNORED, items_in, tensors_in
from jaxvoice.torchscript.scanned_loops import Index, ScanTooLong
from jaxvoice.torchscript.tensors import Refused, Tensor, number_of, traced

_ADD = (
    "decorate a function of JAX arrays with "
    '@jaxvoice.torchscript.register_operator("{name}") before running the archive.'
)


STEPS_OF_TENSOR = 4
"""What each tensor that an operator makes counts, beside 1 for the call: half a millisecond without `jax.jit`."""
SCAN_FROM = 4_000
"""Loops that would add more operators than this to what JAX traces become `jax.lax.scan` where they can."""
MAX_UNROLLED = 20_000
"""How many operators loops may add to what JAX traces where they cannot.

Of a recurrent cell, XLA compiles 4,000 operators in 5 s on a CPU, 8,500 in 11 s, 17,000 in 30 s with 1.8 GB of memory,
and 34,000 in more than 7 minutes.
"""
MAX_SCANNED = 100_000_000
"""How many operators the `jax.lax.scan`s of a run may execute: iterations times operators, nested loops multiplied.

A scan is traced in the same time for any number of iterations, so that only this stops nested loops that would run for
years. On a CPU an operator of a scan takes a microsecond or more, so this many take minutes. Ten seconds of audio at
22050 Hz, sample by sample at 100 operators each, are 22 million.
"""
ITEMS_OF_STEP = 8
"""How many items of lists, or letters of text, an operator is given for the price of one step."""
# What takes no longer for a long list, or hardly.
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
    """Calls operators, for the run that knows where it is.

    `steps` is what the run may take.
    """

    steps_of_row = 1 + STEPS_OF_TENSOR
    """What a tensor counts that a scan appends to a list: one operator takes it from the array of all."""

    def __init__(self, key: jax.Array | None, steps: int):
        self._key = key
        self._left = self._most = steps
        self._frames: list[Frame] = []
        self._with_gradient = True
        self._loops = self._unrolled = self._executed = 0
        self.growing: dict[int, tuple[int, ...]] = {}
        """Lists that scans append to while they are traced, by identity: their lengths before each of these loops."""
        self.rows: dict[int, tuple[Tensor, jax.Array, int]] = {}
        """Tensors that a scanned loop has appended to a list: each with all of them, and its number."""

    def _check_read(self, value: Any, index: Any = None) -> None:
        """Raise `Refused` where a list is read whose items are not known while a scan is traced.

        In every iteration, a list that a scan appends to holds what was there before the loop and what the same
        iteration has appended. Of these, items may be read by an index from the beginning or from the end.
        """
        for length in self.growing.get(id(value), ()):
            first = -(len(value) - length) if type(index) is int and index < 0 else 0
            if type(index) is not int or not first <= index < length:
                raise Refused("a list that the loop appends to is read")

    def _check_lists(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """The same for the lists that an operator is given."""
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
        except Refused as reason:
            raise self._unsupported(kind.__name__, f"{reason}") from reason

    def _spend(self, steps: int) -> None:
        """Count what is done; raises `CheckpointError` where it is too much."""
        self._left -= steps
        if self._left < 0:
            at = f" ({self._frames[-1]})" if self._frames else ""
            raise CheckpointError(
                f"the archive's code takes more than {self._most:,} steps; longer loops are refused{at}."
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
        """Steps taken, and operators that loops have added to what JAX traces."""
        return self._most - self._left, self._unrolled

    def _check_loop(self, iterations: int, left: int, cost: tuple[int, int], *, may_scan: bool) -> bool:
        """Whether the iterations that are left of a loop should not be unrolled, at `cost` each.

        A loop of so many iterations is refused where they would take too many steps, unless it may become a scan.
        """
        steps, unrolled = cost[0] * left, cost[1] * left
        long = unrolled > SCAN_FROM or (unrolled > 0 and not self._may_unroll(unrolled))
        if steps > self._left and not long and not may_scan:
            raise CheckpointError(
                f"a loop of {iterations:,} iterations takes more than {self._most:,} steps; longer loops are refused "
                f"({self._frames[-1]})."
            )
        return long

    def _may_unroll(self, operators: int) -> bool:
        return self._unrolled + operators <= MAX_UNROLLED

    def _check_scanned(self, iterations: int, operators: int, rows: int, before: tuple[int, int]) -> None:
        """Raise `ScanTooLong` where a scan would execute too many operators, or append too many tensors to lists.

        `operators` and `rows` are those of one iteration; `before` is what the run had executed, and the steps that
        were left, when the loop began.
        """
        if before[0] + iterations * max(operators, 1) > MAX_SCANNED:
            raise ScanTooLong(
                f"loops of {iterations:,} iterations execute more than {MAX_SCANNED:,} operators; longer ones are "
                f"refused ({self._frames[-1]})."
            )
        if iterations * rows * self.steps_of_row > before[1]:
            raise ScanTooLong(
                f"a loop of {iterations:,} iterations that appends to lists takes more than {self._most:,} steps; "
                f"longer loops are refused ({self._frames[-1]})."
            )

    def _unroll(self) -> None:
        """Count an operator that a loop adds to what JAX traces."""
        self._unrolled += 1
        self._executed += 1
        if self._unrolled > MAX_UNROLLED:
            raise self._too_long(f"loops become more than {MAX_UNROLLED:,}")

    def _too_long(self, what: str, why: str = "") -> CheckpointError:
        return CheckpointError(
            f"{what} operators under jax.jit, which XLA would compile for minutes; the most is {MAX_UNROLLED:,}. {why}"
            f"Call the function without jax.jit or with a shorter input ({self._frames[-1]})."
        )

    def _count_items(self, values: Any) -> None:
        """Count what it takes to go through lists and text."""
        most = (self._left + 1) * ITEMS_OF_STEP
        self._spend(items_in(values, most) // ITEMS_OF_STEP)

    def require(self, name: str, place: Frame) -> None:
        """Raise `UnsupportedOperatorError` for an operator that is not known, before anything is run."""
        known = operator_names()
        if name not in known and name.removesuffix("_") not in known and name not in _RUN_STATE_OPERATORS:
            self._frames.append(place)
            raise self._missing(name, [])

    def _operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        self._spend(1)
        if self.growing:
            try:
                self._check_lists(name, args, kwargs)
            except Refused as reason:
                raise self._unsupported(name, str(reason)) from reason
        if name in _CONSTANT_TIME:
            self._count_items([key for key in args[1:2] if isinstance(key, tuple)])
        else:
            if name not in _LIST_SHIFTS:
                self._count_items([*args, *kwargs.values()])
            elif args and isinstance(args[0], (list, str)):
                self._spend(len(args[0]) // (8 * ITEMS_OF_STEP))
        if name == "ops.prim.RaiseException":
            self._raise(*args)
        if name == "torch.is_grad_enabled":
            return self._with_gradient
        if name in ("torch.set_grad_enabled", "torch._set_grad_enabled") and len(args) == 1:
            self._with_gradient = bool(args[0])
            return None
        if any(isinstance(arg, Index) for arg in args) and name in scanned_loops.OPERATORS:
            return self._indexed(name, args, kwargs)
        operator = find_operator(name, tuple(args))
        if operator is None:
            raise self._missing(name, args)
        meant = {key: value for key, value in kwargs.items() if key not in IGNORED}
        kwargs = kwargs if operator.accepts(tuple(args), kwargs) else meant
        if not operator.accepts(tuple(args), kwargs):
            given = ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])
            raise self._unsupported(name, f"this form of it, with ({given}), is not implemented")
        if not operator.plain:
            args = [Tensor(arg.array) if isinstance(arg, Index) else arg for arg in args]
            if name in ("torch.stack", "torch.cat") and self.rows and args and isinstance(args[0], list) and args[0]:
                dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
                found = scanned_loops.joined(self.rows, args[0], dim, stack=name == "torch.stack")
                if found is not None:
                    return found
        try:
            result = operator(tuple(args), kwargs, self._new_key)
            if isinstance(result, Tensor) or (not operator.plain and isinstance(result, (list, tuple))):
                made = tensors_in(result)
                self._spend(STEPS_OF_TENSOR * len(made))
                if self._loops and any(traced(tensor._array) for tensor in made):
                    self._unroll()
            return result if self._with_gradient else _detached(result, args)
        except Refused as reason:
            raise self._unsupported(name, str(reason)) from reason
        except CheckpointError:
            raise
        except Exception as failure:
            given = ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])
            raise CheckpointError(
                f"{name} cannot be computed of ({given}): {failure} ({self._frames[-1]})."
            ) from failure

    def _indexed(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return scanned_loops.OPERATORS[name](*args, **kwargs)
        except Refused as reason:
            raise self._unsupported(name, str(reason)) from reason

    def _new_key(self) -> jax.Array:
        if self._key is None:
            raise Refused("it draws random numbers; pass a key, for example key=jax.random.key(0)")
        self._key, key = jax.random.split(self._key)
        return key

    # Errors

    def _raise(self, message: Any = "", kind: Any = "") -> None:
        self._count_items([message, kind])
        kind = str(kind).removeprefix("builtins.")
        raise CheckpointError(f"the archive's program raised {kind or 'an error'}: {message} ({self._frames[-1]}).")

    def _failure(self, what: str) -> CheckpointError:
        return CheckpointError(f"the archive's code cannot be run: {what} ({self._frames[-1]}).")

    def _unknown(self, node: ast.AST) -> CheckpointError:
        return self._failure(f"{ast.unparse(node)[:80]!r} is not TorchScript syntax that jaxvoice supports")

    def _unsupported(self, name: str, reason: str) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(f"{name} is refused: {reason} ({self._frames[-1]}).")

    def _missing(self, name: str, args: list[Any]) -> UnsupportedOperatorError:
        if args and isinstance(args[0], (dict, str)):
            return self._unsupported(name, f"it is not implemented for {shown(args[0])}, and cannot be added")
        if name in operator_names():
            what = shown(args[0]) if args else "nothing"
            return self._unsupported(name, f"it is not implemented for {what}. To add it, {_ADD.format(name=name)}")
        # What an in-place operator does follows from the one that returns a new tensor.
        if name.endswith("_") and not name.endswith("__") and find_operator(name[:-1], tuple(args)) is None:
            name = name[:-1]
        near = difflib.get_close_matches(name, operator_names(), n=1, cutoff=0.8)
        hint = f" The nearest one implemented is {near[0]}." if near else ""
        return UnsupportedOperatorError(
            f"the operator {name} is not implemented ({self._frames[-1]}).{hint} To add it, {_ADD.format(name=name)}"
        )


def _detached(result: Any, args: list[Any]) -> Any:
    """What an operator returned, without a derivative; what it changed in place stays the same tensor."""
    if isinstance(result, Tensor):
        kept = not is_inexact(result.dtype) or any(result is tensor for tensor in tensors_in(args))
        return result if kept else result.view(lax.stop_gradient, lambda _, new: new)
    if type(result) in (list, tuple):
        return type(result)(_detached(part, args) for part in result)
    return result
