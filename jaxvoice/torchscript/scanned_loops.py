"""Loops of a program as `jax.lax.scan`, where each iteration does the same to values of fixed shapes."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.dtypes import default_int, dtype_of_code
from jaxvoice.torchscript.frames import shown
from jaxvoice.torchscript.program import Instance
from jaxvoice.torchscript.tensors import Refused, Tensor

_SCANNED = "a tensor that comes out of a loop is changed in place, which may share its elements with another"
_VIEWED = "a view of a tensor that a loop changes is used after its iteration"


class ScanTooLong(CheckpointError):
    """A scan would take too long, so that the loop must not be unrolled either."""


class Index:
    """A whole number that is `scale * iteration + offset` in every iteration of a scanned loop."""

    def __init__(self, iteration: Any, iterations: range | None, scale: int = 1, offset: int = 0):
        """`iterations`: numbers of the iterations; None for places in axes that are not checked."""
        self.iteration, self.iterations, self.scale, self.offset = iteration, iterations, scale, offset

    def _made(self, scale: int, offset: int) -> "Index | int":
        return Index(self.iteration, self.iterations, scale, offset) if scale else offset

    def at(self, number: int) -> int:
        """Its value in the iteration of this number."""
        return self.scale * number + self.offset

    def __add__(self, other: Any) -> "Index | int":
        if isinstance(other, Index) and other.iteration is self.iteration:
            return self._made(self.scale + other.scale, self.offset + other.offset)
        return self._made(self.scale, self.offset + other) if type(other) is int else self._refuse()

    def __mul__(self, other: Any) -> "Index | int":
        return self._made(self.scale * other, self.offset * other) if type(other) is int else self._refuse()

    def __neg__(self) -> "Index | int":
        return self * -1

    def __sub__(self, other: Any) -> "Index | int":
        return self + -other

    def __rsub__(self, other: Any) -> "Index | int":
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def _refuse(self, *_: Any) -> Any:
        raise Refused("the number of an iteration decides a branch or a shape")

    __bool__ = __int__ = __index__ = __float__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __str__ = __format__ = _refuse
    __floordiv__ = __mod__ = __truediv__ = __pow__ = __abs__ = __hash__ = _refuse  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.scale} * iteration + {self.offset}"

    @property
    def array(self) -> jax.Array:
        """Its value as JAX has it."""
        return self.iteration * self.scale + self.offset

    def start(self, size: int, length: int = 1) -> jax.Array:
        """Where `length` elements of an axis begin; refused where they are not all within its `size`."""
        if self.iterations is None:
            return self.array
        ends = (self.at(self.iterations[0]), self.at(self.iterations[-1]))
        if max(ends) < 0:
            return Index(self.iteration, self.iterations, self.scale, self.offset + size).start(size, length)
        if min(ends) < 0 or max(ends) + length > size:
            raise Refused(f"elements {min(ends)} to {max(ends) + length - 1} of an axis of size {size} are used")
        return self.array


def select(x: Tensor, dim: int, index: Index) -> Tensor:
    """`torch.select` at an index that differs from iteration to iteration: a view."""
    start = index.start(x.shape[dim])
    return x.view(
        lambda a: lax.dynamic_index_in_dim(a, start, dim, keepdims=False),
        lambda a, new: lax.dynamic_update_index_in_dim(a, new, start, dim),
    )


def slice_(x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """`torch.slice` of a fixed length, from a place that differs from iteration to iteration: a view."""
    length = end - start if isinstance(start, Index) and end is not None else None
    if type(length) is not int or length < 1:
        raise Refused("the length of a slice differs from iteration to iteration")
    if step != 1:
        raise Refused(f"a slice from a place that differs from iteration to iteration has the step {step}")
    if start.iterations is not None:
        first, last = start.at(start.iterations[0]), start.at(start.iterations[-1])
        places = (first, last, first + length, last + length)
        if min(places) < 0 <= max(places):
            # Places below 0 count from the end of the axis, so that x[-1:0] has no elements.
            raise Refused(f"a slice begins or ends at {min(places)} to {max(places)}, of which only some are negative")
    first = start.start(x.shape[dim], length)
    return x.view(
        lambda a: lax.dynamic_slice_in_dim(a, first, length, dim),
        lambda a, new: lax.dynamic_update_slice_in_dim(a, new, first, dim),
    )


def item(items: Sequence[Any], index: Index) -> Tensor:
    """An item of a list at an index that differs from iteration to iteration."""
    return Tensor(lax.dynamic_index_in_dim(_stacked(items), index.start(len(items)), keepdims=False), frozen=_SCANNED)


def _stacked(items: Sequence[Any]) -> jax.Array:
    if not all(isinstance(one, Tensor) for one in items) or len({(one.shape, one.dtype) for one in items}) != 1:
        raise Refused("the items of a list differ in kind or shape")
    return jnp.stack([one.values for one in items])


def tensor(index: Index, *, dtype: int | None = None, **_: Any) -> Tensor:
    """`torch.tensor` of an index."""
    return Tensor(jnp.asarray(index.array, default_int() if dtype is None else dtype_of_code(dtype)))


OPERATORS: dict[str, Callable[..., Any]] = {
    **{"torch.select": select, "torch.slice": slice_, "torch.__getitem__": item},
    **dict.fromkeys(("torch.tensor", "torch.as_tensor", "torch.scalar_tensor", "ops.prim.NumToTensor"), tensor),
}
"""What operators do with an `Index`; others take it as a tensor."""


class _Snapshot:
    """All that an iteration may change: local names, attributes, lists, and the elements of tensors."""

    def __init__(self, run: Any, names: dict[str, Any], targets: set[str]):
        self.run, self.targets = run, targets
        self.cells: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self.lists: list[tuple[list[Any] | dict[Any, Any], Any]] = []
        self.tensors: list[tuple[Tensor, dict[str, Any]]] = []
        self.counts = {
            name: getattr(run, name) for name in ("_key", "_left", "_unrolled", "_executed", "_with_gradient")
        }
        instances = run.instances
        self.made = [(table, dict(table)) for table in (instances._made, instances._tensors, instances._lists)]
        self._seen: set[int] = set()
        self._cell(names)
        pending: list[Any] = [*names.values(), *(value for _, table in self.made for value in table.values())]
        while pending:
            pending += self._see(pending.pop())

    def _cell(self, table: dict[Any, Any]) -> None:
        self.cells.append((table, dict(table)))

    def _see(self, value: Any) -> list[Any]:
        if id(value) in self._seen or not isinstance(value, (Tensor, Instance, list, dict, tuple)):
            return []
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            self.tensors.append((value, {slot: getattr(value, slot) for slot in Tensor.__slots__}))
            return [value._base, value._possible_base and value._possible_base[0]]
        if isinstance(value, Instance):
            self._cell(value.attributes)
            return list(value.attributes.values())
        if not isinstance(value, tuple):
            self.lists.append((value, value.copy()))
        return list(value.values() if isinstance(value, dict) else value)

    def restore(self) -> None:
        """Everything as it was."""
        for table, before in [*self.cells, *self.made]:
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
        """Names and attributes that hold another value, by the number of their table and their key."""
        found = []
        for i, (table, before) in enumerate(self.cells):
            for key, value in table.items():
                if i == 0 and key in self.targets:
                    continue  # set at the beginning of every iteration
                if key in before and value is not before[key]:
                    found.append((i, key))
                elif key not in before and i == 0:
                    raise Refused(f"{key} is new in an iteration")
        return found

    def grows(self, table: int, key: Any, first: int = 0) -> tuple[int, int] | None:
        """The step and the offset of a whole number that grew in iteration `first`; None for other values."""
        before, after = self.cells[table][1][key], self.cells[table][0][key]
        if type(before) is not int or type(after) is not int or before == after:
            return None
        return after - before, before - (after - before) * first

    def changed_tensors(self) -> list[int]:
        """Tensors of elements of their own that were changed in place, by their number."""
        for tensor, slots in self.tensors:
            if tensor._base is not slots["_base"] or tensor._invalid_reason is not slots["_invalid_reason"]:
                raise Refused("an iteration changes the shape of a tensor in place, or what may share its elements")
        return [
            i for i, (tensor, slots) in enumerate(self.tensors)
            if tensor._base is None and tensor._version != slots["_version"]
        ]  # fmt: skip

    def grown_lists(self) -> list[tuple[int, list[Any]]]:
        """Lists that were appended to, by their number, and what was appended."""
        found = []
        for i, (value, before) in enumerate(self.lists):
            same = len(value) >= len(before) and all(one is other for one, other in zip(value, before, strict=False))
            if isinstance(value, list) and same:
                if not all(isinstance(one, Tensor) for one in value[len(before) :]):
                    raise Refused("something other than a tensor is appended to a list")
                found += [(i, value[len(before) :])] if len(value) > len(before) else []
            elif isinstance(value, list) or value != before:
                raise Refused("an iteration changes the items of a list")
        return found


def scan(run: Any, node: ast.For, items: Sequence[Any], first: int, names: dict[str, Any]) -> None:
    """Run the iterations of a loop from number `first` on by `lax.scan`.

    **Raises:** `Refused` or another error where that cannot be; everything is then as before.
    """
    if run._note is not None:
        raise Refused("the outputs of modules are recorded")
    iterations = range(first, len(items))
    before, growing = (run._executed, run._left), run.growing
    run._check_scanned(len(iterations), 1, 0, before)
    xs = {"iteration": jnp.arange(first, len(items), dtype=default_int())}
    if not isinstance(items, range):
        xs["item"] = _stacked(items[first:])
    targets = {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
    snapshot = _Snapshot(run, names, targets)
    plan: dict[str, Any] = {"growing": []}

    def run_iteration(x: dict[str, Any], iterations: range | None = iterations) -> None:
        value: Any = Tensor(x["item"], frozen=_SCANNED) if "item" in x else None
        if isinstance(items, range):
            value = Index(x["iteration"], iterations, items.step, items.start)
        run._assign(node.target, value, names)
        run._block(node.body, names)

    def explore(x: dict[str, Any]) -> None:
        snapshot.restore()
        for table, key, (step, offset) in plan["growing"]:
            snapshot.cells[table][0][key] = Index(x["iteration"], None, step, offset)
        run_iteration(x, None)
        plan["tensors"] = snapshot.changed_tensors()
        plan["lists"] = [(i, len(added)) for i, added in snapshot.grown_lists()]
        if run._with_gradient != snapshot.counts["_with_gradient"]:
            raise Refused("an iteration switches gradients on or off")
        changed = {id(snapshot.tensors[i][0]) for i in plan["tensors"]}
        cells = snapshot.changed_cells()
        if plan["growing"] or not any(snapshot.grows(*cell) for cell in cells):
            plan["cells"] = [(*cell, _kind(snapshot, *cell, changed, first)) for cell in cells]
        else:
            # Numbers that grow by a step of their own; others may depend on these.
            plan["growing"] = [(*cell, snapshot.grows(*cell, first)) for cell in cells if snapshot.grows(*cell)]

    def body(carry: Any, x: dict[str, Any]) -> tuple[Any, Any]:
        snapshot.restore()
        _place(snapshot, plan, carry, lambda step, offset: Index(x["iteration"], iterations, step, offset))
        lists = [snapshot.lists[i][0] for i, _ in plan["lists"]]
        run.growing = growing | {id(one): (*growing.get(id(one), ()), len(one)) for one in lists}
        run_iteration(x)
        run.growing = growing
        added = snapshot.grown_lists()
        if [(i, len(one)) for i, one in added] != plan["lists"] or snapshot.changed_tensors() != plan["tensors"]:
            raise Refused("iterations change different lists or tensors")
        changed = {id(snapshot.tensors[i][0].storage) for i in plan["tensors"]}
        if any(id(one.storage) in changed for _, new in added for one in new if isinstance(one, Tensor)):
            raise Refused(_VIEWED)
        plan["executed"] = run._executed - before[0]
        run._check_scanned(len(iterations), plan["executed"], sum(len(new) for _, new in added), before)
        return _carried(snapshot, plan, after=True), [[one.values for one in new] for _, new in added]

    try:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        while "cells" not in plan:  # twice at most
            jax.eval_shape(lambda x: explore(x), one)  # JAX would not trace the same function again
        snapshot.restore()
        start = _carried(snapshot, plan, after=False)
        last, rows = lax.scan(body, start, xs)
    finally:
        run.growing = growing
        snapshot.restore()
    run._executed += len(iterations) * plan["executed"]
    run._spend(len(iterations) * run.steps_of_row * sum(number for _, number in plan["lists"]))
    _place(snapshot, plan, last, lambda step, offset: step * len(items) + offset)
    for (i, _), arrays in zip(plan["lists"], rows, strict=True):
        for number in range(len(iterations)):
            made = [Tensor(lax.index_in_dim(array, number, keepdims=False), frozen=_SCANNED) for array in arrays]
            if len(arrays) == 1:
                run.rows[id(made[0])] = (made[0], arrays[0], number)
            snapshot.lists[i][0].extend(made)  # type: ignore[union-attr]
    run._assign(node.target, items[-1], names)


def _kind(snapshot: _Snapshot, table: int, key: Any, changed: set[int], first: int) -> Any:
    """How iterations pass a value on: `array`, `view`, `same`, or the step and offset of a whole number."""
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
    raise Refused(f"{key} is {shown(before)} in one iteration and {shown(after)} in the next")


def _carried(snapshot: _Snapshot, plan: dict[str, Any], *, after: bool) -> Any:
    """The arrays that go from iteration to iteration, as they are now: before the first, or after one."""
    cells = []
    for table, key, kind in plan["cells"]:
        value = snapshot.cells[table][0][key]
        if kind == "array":
            cells.append([one.values for one in value] if isinstance(value, tuple) else value.values)
        elif isinstance(kind, tuple) and after:
            if not isinstance(value, Index) or (value.scale, value.offset - value.scale) != kind:
                raise Refused(f"{key} does not grow by the same number in every iteration")
        elif kind == "same" and value != snapshot.cells[table][1][key]:
            raise Refused(f"{key} changes")
    return cells, [snapshot.tensors[i][0].values for i in plan["tensors"]], snapshot.run._key


def _place(snapshot: _Snapshot, plan: dict[str, Any], carry: Any, index: Callable[[int, int], Any]) -> None:
    """Put the values that come from the iteration before where the program looks for them."""
    cells, tensors, key = carry
    arrays = iter(cells)
    for table, name, kind in plan["cells"]:
        value: Any = index(*kind) if isinstance(kind, tuple) else snapshot.cells[table][1][name]
        if kind == "array":
            new = next(arrays)
            made = tuple(Tensor(one, frozen=_SCANNED) for one in (new if isinstance(new, list) else [new]))
            value = made if isinstance(new, list) else made[0]
        elif kind == "view":
            value = Tensor(np.zeros(value.shape, value.dtype), invalid_reason=_VIEWED)
        snapshot.cells[table][0][name] = value
    for i, array in zip(plan["tensors"], tensors, strict=True):
        tensor = snapshot.tensors[i][0]
        tensor._array, tensor._version, tensor._seen = array, tensor._version + 1, tensor._version + 1
    snapshot.run._key = key


def joined(rows: dict[int, Any], items: Sequence[Any], dim: int, *, stack: bool) -> Tensor | None:
    """`torch.stack` or `torch.cat` of a list that ends with all that a loop has appended, without taking it apart."""
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
