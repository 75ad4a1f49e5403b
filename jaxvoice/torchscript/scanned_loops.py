"""Execution of loops as `jax.lax.scan`, if every iteration applies the same operators to values of fixed shapes."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.dtypes import default_int, dtype_of_code
from jaxvoice.torchscript.frames import describe_value
from jaxvoice.torchscript.program import Instance
from jaxvoice.torchscript.tensors import OperatorError, Tensor

_SCAN_RESULT = "a tensor that a loop returns, and that may share elements with another, is changed in place"
_VIEW_IN_LOOP = "a view of a tensor that a loop changes is used in another iteration or after the loop"


class ScanTooLong(CheckpointError):
    """A scan would take too long. The loop is not unrolled either."""


class Index:
    """An integer that equals `scale * iteration + offset` in every iteration of a scanned loop."""

    def __init__(self, iteration: Any, iterations: range | None, scale: int = 1, offset: int = 0):
        """`iterations`: the range of iterations; None disables the check of indices."""
        self.iteration, self.iterations, self.scale, self.offset = iteration, iterations, scale, offset

    def _linear(self, scale: int, offset: int) -> "Index | int":
        return Index(self.iteration, self.iterations, scale, offset) if scale else offset

    def at(self, number: int) -> int:
        """The value in iteration `number`."""
        return self.scale * number + self.offset

    def __add__(self, other: Any) -> "Index | int":
        if isinstance(other, Index) and other.iteration is self.iteration:
            return self._linear(self.scale + other.scale, self.offset + other.offset)
        return self._linear(self.scale, self.offset + other) if type(other) is int else self._refuse()

    def __mul__(self, other: Any) -> "Index | int":
        return self._linear(self.scale * other, self.offset * other) if type(other) is int else self._refuse()

    def __neg__(self) -> "Index | int":
        return self * -1

    def __sub__(self, other: Any) -> "Index | int":
        return self + -other

    def __rsub__(self, other: Any) -> "Index | int":
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def _refuse(self, *_: Any) -> Any:
        raise OperatorError("the index of a loop determines a branch or a shape")

    __bool__ = __int__ = __index__ = __float__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __str__ = __format__ = _refuse
    __floordiv__ = __mod__ = __truediv__ = __pow__ = __abs__ = __hash__ = _refuse  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.scale} * iteration + {self.offset}"

    @property
    def array(self) -> jax.Array:
        """The value as a traced array."""
        return self.iteration * self.scale + self.offset

    def start(self, size: int, length: int = 1) -> jax.Array:
        """The index of the first of `length` elements; raises `OperatorError` if any is outside an axis of `size`."""
        if self.iterations is None:
            return self.array
        ends = (self.at(self.iterations[0]), self.at(self.iterations[-1]))
        if max(ends) < 0:
            return Index(self.iteration, self.iterations, self.scale, self.offset + size).start(size, length)
        if min(ends) < 0 or max(ends) + length > size:
            raise OperatorError(f"elements {min(ends)} to {max(ends) + length - 1} of an axis of size {size} are used")
        return self.array


def select_at_index(x: Tensor, dim: int, index: Index) -> Tensor:
    """`torch.select` with an index that depends on the iteration; returns a view."""
    start = index.start(x.shape[dim])
    return x.view(
        lambda a: lax.dynamic_index_in_dim(a, start, dim, keepdims=False),
        lambda a, new: lax.dynamic_update_index_in_dim(a, new, start, dim),
    )


def slice_at_index(x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """`torch.slice` of fixed length from an index that depends on the iteration; returns a view."""
    length = end - start if isinstance(start, Index) and end is not None else None
    if type(length) is not int or length < 1:
        raise OperatorError("the length of a slice depends on the iteration")
    if step != 1:
        raise OperatorError(f"a slice whose start depends on the iteration has the step {step}")
    if start.iterations is not None:
        first, last = start.at(start.iterations[0]), start.at(start.iterations[-1])
        places = (first, last, first + length, last + length)
        if min(places) < 0 <= max(places):
            # Negative bounds count from the end of the axis, so x[-1:0] has no elements.
            raise OperatorError(
                f"the bounds of a slice range from {min(places)} to {max(places)}; only some are negative"
            )
    first = start.start(x.shape[dim], length)
    return x.view(
        lambda a: lax.dynamic_slice_in_dim(a, first, length, dim),
        lambda a, new: lax.dynamic_update_slice_in_dim(a, new, first, dim),
    )


def item_at_index(items: Sequence[Any], index: Index) -> Tensor:
    """An item of a list at an index that depends on the iteration."""
    return Tensor(
        lax.dynamic_index_in_dim(_stacked(items), index.start(len(items)), keepdims=False), frozen=_SCAN_RESULT
    )


def _stacked(items: Sequence[Any]) -> jax.Array:
    if not all(isinstance(one, Tensor) for one in items) or len({(one.shape, one.dtype) for one in items}) != 1:
        raise OperatorError("the items of a list differ in type or shape")
    return jnp.stack([one.values for one in items])


def tensor_of_index(index: Index, *, dtype: int | None = None, **_: Any) -> Tensor:
    """`torch.tensor` of an index."""
    return Tensor(jnp.asarray(index.array, default_int() if dtype is None else dtype_of_code(dtype)))


OPERATORS: dict[str, Callable[..., Any]] = {
    **{"torch.select": select_at_index, "torch.slice": slice_at_index, "torch.__getitem__": item_at_index},
    **dict.fromkeys(
        ("torch.tensor", "torch.as_tensor", "torch.scalar_tensor", "ops.prim.NumToTensor"), tensor_of_index
    ),
}
"""Implementations for arguments of type `Index`; other operators receive a tensor."""


class _Snapshot:
    """All values that an iteration may change: local names, attributes, lists, and elements of tensors."""

    def __init__(self, run: Any, names: dict[str, Any], targets: set[str]):
        self.run, self.targets = run, targets
        self.cells: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self.lists: list[tuple[list[Any] | dict[Any, Any], Any]] = []
        self.tensors: list[tuple[Tensor, dict[str, Any]]] = []
        self.counts = {
            name: getattr(run, name) for name in ("_key", "_steps_left", "_unrolled", "_executed", "_grad_enabled")
        }
        instances = run.instances
        self.tables = [(table, dict(table)) for table in (instances._instances, instances._tensors, instances._lists)]
        self._seen: set[int] = set()
        self._add_cell(names)
        pending: list[Any] = [*names.values(), *(value for _, table in self.tables for value in table.values())]
        while pending:
            pending += self._visit(pending.pop())

    def _add_cell(self, table: dict[Any, Any]) -> None:
        self.cells.append((table, dict(table)))

    def _visit(self, value: Any) -> list[Any]:
        if id(value) in self._seen or not isinstance(value, (Tensor, Instance, list, dict, tuple)):
            return []
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            self.tensors.append((value, {slot: getattr(value, slot) for slot in Tensor.__slots__}))
            return [value._base, value._possible_base and value._possible_base[0]]
        if isinstance(value, Instance):
            self._add_cell(value.attributes)
            return list(value.attributes.values())
        if not isinstance(value, tuple):
            self.lists.append((value, value.copy()))
        return list(value.values() if isinstance(value, dict) else value)

    def restore(self) -> None:
        """Restore all values."""
        for table, before in [*self.cells, *self.tables]:
            table.clear()
            table.update(before)
        for value, before in self.lists:
            value.clear()
            value.update(before) if isinstance(value, dict) else value.extend(before)
        for tensor, slots in self.tensors:
            for slot, kept in slots.items():
                setattr(tensor, slot, kept)
        for name, count in self.counts.items():
            setattr(self.run, name, count)

    def changed_cells(self) -> list[tuple[int, Any]]:
        """Names and attributes with another value, as indices of their table and their keys."""
        found = []
        for i, (table, before) in enumerate(self.cells):
            for key, value in table.items():
                if i == 0 and key in self.targets:
                    continue  # assigned at the start of every iteration
                if key in before and value is not before[key]:
                    found.append((i, key))
                elif key not in before and i == 0:
                    raise OperatorError(f"{key} is not defined before the loop")
        return found

    def integer_step(self, table: int, key: Any, first: int = 0) -> tuple[int, int] | None:
        """Step and offset of an integer that iteration `first` incremented; None for other values."""
        before, after = self.cells[table][1][key], self.cells[table][0][key]
        if type(before) is not int or type(after) is not int or before == after:
            return None
        return after - before, before - (after - before) * first

    def changed_tensors(self) -> list[int]:
        """Indices of tensors that are not views and were changed in place."""
        for tensor, slots in self.tensors:
            if tensor._base is not slots["_base"] or tensor._invalid_reason is not slots["_invalid_reason"]:
                raise OperatorError(
                    "an iteration changes the shape of a tensor in place, or a tensor that may share its elements"
                )
        return [
            i for i, (tensor, slots) in enumerate(self.tensors)
            if tensor._base is None and tensor._version != slots["_version"]
        ]  # fmt: skip

    def grown_lists(self) -> list[tuple[int, list[Any]]]:
        """Indices of lists to which items were appended, with the new items."""
        found = []
        for i, (value, before) in enumerate(self.lists):
            same = len(value) >= len(before) and all(one is other for one, other in zip(value, before, strict=False))
            if isinstance(value, list) and same:
                if not all(isinstance(one, Tensor) for one in value[len(before) :]):
                    raise OperatorError("something other than a tensor is appended to a list")
                found += [(i, value[len(before) :])] if len(value) > len(before) else []
            elif isinstance(value, list) or value != before:
                raise OperatorError("an iteration changes the items of a list")
        return found


def scan(run: Any, node: ast.For, items: Sequence[Any], first: int, names: dict[str, Any]) -> None:
    """Run the iterations of a loop from `first` on by `lax.scan`.

    **Raises:** `OperatorError` or another error if the loop cannot be scanned; all values are then restored.
    """
    if run._on_output is not None:
        raise OperatorError("the outputs of modules are recorded")
    iterations = range(first, len(items))
    before, growing = (run._executed, run._steps_left), run.growing
    run._check_scanned(len(iterations), 1, 0, before)
    xs = {"iteration": jnp.arange(first, len(items), dtype=default_int())}
    if not isinstance(items, range):
        xs["item"] = _stacked(items[first:])
    targets = {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
    snapshot = _Snapshot(run, names, targets)
    plan: dict[str, Any] = {"growing": []}

    def run_iteration(x: dict[str, Any], iterations: range | None = iterations) -> None:
        value: Any = Tensor(x["item"], frozen=_SCAN_RESULT) if "item" in x else None
        if isinstance(items, range):
            value = Index(x["iteration"], iterations, items.step, items.start)
        run._assign(node.target, value, names)
        run._block(node.body, names)

    def analyse(x: dict[str, Any]) -> None:
        snapshot.restore()
        for table, key, (step, offset) in plan["growing"]:
            snapshot.cells[table][0][key] = Index(x["iteration"], None, step, offset)
        run_iteration(x, None)
        plan["tensors"] = snapshot.changed_tensors()
        plan["lists"] = [(i, len(added)) for i, added in snapshot.grown_lists()]
        if run._grad_enabled != snapshot.counts["_grad_enabled"]:
            raise OperatorError("an iteration switches gradients on or off")
        changed = {id(snapshot.tensors[i][0]) for i in plan["tensors"]}
        cells = snapshot.changed_cells()
        if plan["growing"] or not any(snapshot.integer_step(*cell) for cell in cells):
            plan["cells"] = [(*cell, _carry_kind(snapshot, *cell, changed, first)) for cell in cells]
        else:
            # Integers with a constant step; other values may depend on them.
            plan["growing"] = [
                (*cell, snapshot.integer_step(*cell, first)) for cell in cells if snapshot.integer_step(*cell)
            ]

    def body(carry: Any, x: dict[str, Any]) -> tuple[Any, Any]:
        snapshot.restore()
        _set_carry(snapshot, plan, carry, lambda step, offset: Index(x["iteration"], iterations, step, offset))
        lists = [snapshot.lists[i][0] for i, _ in plan["lists"]]
        run.growing = growing | {id(one): (*growing.get(id(one), ()), len(one)) for one in lists}
        run_iteration(x)
        run.growing = growing
        added = snapshot.grown_lists()
        if [(i, len(one)) for i, one in added] != plan["lists"] or snapshot.changed_tensors() != plan["tensors"]:
            raise OperatorError("iterations change different lists or tensors")
        changed = {id(snapshot.tensors[i][0].storage) for i in plan["tensors"]}
        if any(id(one.storage) in changed for _, new in added for one in new if isinstance(one, Tensor)):
            raise OperatorError(_VIEW_IN_LOOP)
        plan["executed"] = run._executed - before[0]
        run._check_scanned(len(iterations), plan["executed"], sum(len(new) for _, new in added), before)
        return _carry(snapshot, plan, after=True), [[one.values for one in new] for _, new in added]

    try:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        while "cells" not in plan:  # at most two passes
            jax.eval_shape(lambda x: analyse(x), one)  # a new function, since JAX caches traces
        snapshot.restore()
        start = _carry(snapshot, plan, after=False)
        last, rows = lax.scan(body, start, xs)
    finally:
        run.growing = growing
        snapshot.restore()
    run._executed += len(iterations) * plan["executed"]
    run._count_steps(len(iterations) * run.steps_per_row * sum(number for _, number in plan["lists"]))
    _set_carry(snapshot, plan, last, lambda step, offset: step * len(items) + offset)
    for (i, _), arrays in zip(plan["lists"], rows, strict=True):
        for number in range(len(iterations)):
            made = [Tensor(lax.index_in_dim(array, number, keepdims=False), frozen=_SCAN_RESULT) for array in arrays]
            if len(arrays) == 1:
                run.rows[id(made[0])] = (made[0], arrays[0], number)
            snapshot.lists[i][0].extend(made)  # type: ignore[union-attr]
    run._assign(node.target, items[-1], names)


def _carry_kind(snapshot: _Snapshot, table: int, key: Any, changed: set[int], first: int) -> Any:
    """The kind of a carried value: `array`, `view`, `same`, or step and offset of an integer."""
    before, after = snapshot.cells[table][1][key], snapshot.cells[table][0][key]
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return "view" if id(after.storage) in changed else "array"
    if type(before) is int and isinstance(after, Index) and after.at(first - 1) == before:
        return after.scale, after.offset - after.scale
    if isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        parts = (*before, *after)
        if all(isinstance(one, Tensor) for one in parts) and not any(id(one.storage) in changed for one in parts):
            return "array"
    plain = (bool, int, float, str, type(None))
    if type(before) is type(after) and isinstance(before, plain) and before == after:
        return "same"
    raise OperatorError(f"{key} is {describe_value(before)} in one iteration and {describe_value(after)} in the next")


def _carry(snapshot: _Snapshot, plan: dict[str, Any], *, after: bool) -> Any:
    """The carried arrays, before the first iteration or after an iteration."""
    cells = []
    for table, key, kind in plan["cells"]:
        value = snapshot.cells[table][0][key]
        if kind == "array":
            cells.append([one.values for one in value] if isinstance(value, tuple) else value.values)
        elif isinstance(kind, tuple) and after:
            if not isinstance(value, Index) or (value.scale, value.offset - value.scale) != kind:
                raise OperatorError(f"{key} does not change by the same number in every iteration")
        elif kind == "same" and value != snapshot.cells[table][1][key]:
            raise OperatorError(f"{key} changes")
    return cells, [snapshot.tensors[i][0].values for i in plan["tensors"]], snapshot.run._key


def _set_carry(snapshot: _Snapshot, plan: dict[str, Any], carry: Any, index: Callable[[int, int], Any]) -> None:
    """Assign carried values to the names, attributes and tensors of the program."""
    cells, tensors, key = carry
    arrays = iter(cells)
    for table, name, kind in plan["cells"]:
        value: Any = index(*kind) if isinstance(kind, tuple) else snapshot.cells[table][1][name]
        if kind == "array":
            new = next(arrays)
            made = tuple(Tensor(one, frozen=_SCAN_RESULT) for one in (new if isinstance(new, list) else [new]))
            value = made if isinstance(new, list) else made[0]
        elif kind == "view":
            value = Tensor(np.zeros(value.shape, value.dtype), invalid_reason=_VIEW_IN_LOOP)
        snapshot.cells[table][0][name] = value
    for i, array in zip(plan["tensors"], tensors, strict=True):
        tensor = snapshot.tensors[i][0]
        tensor._array, tensor._version, tensor._seen = array, tensor._version + 1, tensor._version + 1
    snapshot.run._key = key


def join_rows(rows: dict[int, Any], items: Sequence[Any], dim: int, *, stack: bool) -> Tensor | None:
    """`torch.stack` or `torch.cat` of a list that ends with all rows of a loop, without splitting their array.

    Returns None for other lists.
    """
    *_, number = rows.get(id(items[-1]), (None, None, -1))
    begin = len(items) - 1 - number
    found = [rows.get(id(one)) for one in items[max(begin, 0) :]]
    if number < 1 or begin < 0 or any(one is None or one[0]._version for one in found):
        return None
    array = found[0][1]  # type: ignore[index]
    if len(array) != len(found) or any(one[1] is not array or one[2] != i for i, one in enumerate(found)):  # type: ignore[index]
        return None
    dim += (array.ndim - (not stack)) if dim < 0 else 0
    moved = jnp.moveaxis(array, 0, dim)
    if not stack:
        moved = moved.reshape(*moved.shape[:dim], -1, *moved.shape[dim + 2 :])
    before = [one.values for one in items[:begin]]
    if not before:
        return Tensor(moved)
    join = jnp.stack if stack else jnp.concatenate
    return Tensor(jnp.concatenate([join(before, dim), moved], dim))
