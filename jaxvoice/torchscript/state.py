"""Values that enter and leave a program, and the state that calls of a method pass on to the next."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.operators.registry import items_in
from jaxvoice.torchscript.program import EnumMember, Instance, NamedTuple, tensors_within
from jaxvoice.torchscript.tensors import SMALL, Tensor, needs_64_bits

MAX_ITEMS = 1_000_000
"""How many items the lists of a state may have, and letters its text."""
_STATIC = (bool, int, float, complex, str, EnumMember)


@jax.tree_util.register_pytree_with_keys_class
class State(Mapping[str, Any]):
    """Buffers and attributes that calls have changed, by dotted name: arrays, numbers, text, None, lists of these.

    What is not in a state is as the archive holds it; `State()` is the archive's own state. As a pytree its leaves are
    its arrays. Numbers and text belong to the structure, since programs branch on them: under `jax.jit` another number
    compiles anew, and in `jax.lax.scan` they must stay the same. A number that only counts may become an array,
    `state | {"steps": jnp.asarray(0)}`, as long as the program does not branch on it.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        same: tuple[tuple[str, ...], ...] = (),
        frozen: tuple[str, ...] = (),
    ):
        """**Arguments:** `values` by dotted name; `same`: groups of names that are one tensor; `frozen`: names of
        tensors that share elements with others in a way that a state cannot hold, so that they must not be changed in
        place."""
        self._values = dict(values or {})
        self.same, self.frozen = same, frozen

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, other: Mapping[str, Any]) -> "State":
        """This state with some values replaced."""
        kept = tuple(group for group in self.same if not set(group) & set(other))
        return State({**self._values, **other}, same=kept, frozen=self.frozen)

    def __repr__(self) -> str:
        return f"State({self._values!r})"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], Any]:
        """Arrays as leaves; everything else is structure."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(self._values)
        static = tuple((i, _Static(leaf)) for i, (_, leaf) in enumerate(leaves) if isinstance(leaf, _STATIC))
        arrays = [(jax.tree_util.DictKey(_name(path)), leaf) for path, leaf in leaves if not isinstance(leaf, _STATIC)]
        return arrays, (structure, static, self.same, self.frozen)

    @classmethod
    def tree_unflatten(cls, structure: Any, arrays: Any) -> "State":
        """The state of this structure with other arrays."""
        tree, static, same, frozen = structure
        leaves = list(arrays)
        for i, leaf in static:
            leaves.insert(i, leaf.value)
        return cls(jax.tree_util.tree_unflatten(tree, leaves), same=same, frozen=frozen)


class _Static:
    """A number or text, equal to others of its type only: `1`, `1.0` and `True` are three values."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return repr(self.value)


def _name(path: tuple[Any, ...]) -> str:
    """`cache[0]`: the dotted name, and the place in a list."""
    return f"{path[0].key}{jax.tree_util.keystr(path[1:])}"


def to_program(value: Any) -> Any:
    """An input as the program sees it.

    **Raises:** `CheckpointError` for what programs do not take.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biufcV":
            raise CheckpointError(
                f"arrays of {array.dtype} cannot be given to a program; pass numbers or truth values."
            )
        if needs_64_bits(array):
            raise CheckpointError("an input holds whole numbers of 64 bits; set jax_enable_x64 to compute with them.")
        # Whole numbers in numpy stay known under jax.jit, so that they may decide shapes.
        few = array.dtype.kind in "biu" and array.size <= SMALL
        return Tensor(array.astype(jax.dtypes.canonicalize_dtype(array.dtype)) if few else jnp.asarray(array))
    if isinstance(value, jax.Array):
        return Tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_program, value)) if type(value) in (list, tuple) else tuple(map(to_program, value))
    if isinstance(value, dict):
        return {key: to_program(item) for key, item in value.items()}
    if value is None or isinstance(value, _STATIC):
        return value
    what = type(value).__module__.partition(".")[0] + "." + type(value).__name__
    raise CheckpointError(f"a {what} cannot be given to a program; pass arrays of numpy or JAX, numbers and text.")


def from_program(value: Any, what: str = "the method returns") -> Any:
    """A result as the caller sees it; `what` begins the message for objects, which JAX cannot hold.

    **Raises:** `CheckpointError` for objects of classes.
    """
    if isinstance(value, Tensor):
        return jnp.asarray(value.array)
    if isinstance(value, list):
        return [from_program(item, what) for item in value]
    if isinstance(value, tuple):
        return tuple(from_program(item, what) for item in value)
    if isinstance(value, dict):
        return {key: from_program(item, what) for key, item in value.items()}
    if isinstance(value, Instance):
        raise CheckpointError(f"{what} an object of {value.code.original_name}, which JAX cannot hold.")
    return value


def state_of(slots: Mapping[str, Any]) -> State:
    """The state of these attributes, by dotted name, as the program has them.

    **Raises:** `CheckpointError` where attributes hold what a state cannot hold, or too much.
    """
    if items_in(slots.values(), MAX_ITEMS) > MAX_ITEMS:
        raise CheckpointError(f"the method gives its attributes more than {MAX_ITEMS:,} items, which no state holds.")
    same: dict[int, list[str]] = {}
    holders: dict[int, set[Any]] = {}
    for name, value in slots.items():
        if isinstance(value, (Tensor, list, dict)):
            same.setdefault(id(value), []).append(name)
        if isinstance(value, NamedTuple) or (isinstance(value, (list, dict)) and len(same[id(value)]) > 1):
            what = "a tuple with names" if isinstance(value, NamedTuple) else f"the list of {same[id(value)][0]}"
            raise CheckpointError(f"the method gives {name} {what}, which a state cannot hold.")
        for i, tensor in enumerate(tensors_within(value)):
            # Attributes that are one tensor stay one; a tensor in a list cannot.
            holders.setdefault(id(tensor.storage), set()).add(id(tensor) if tensor is value else (name, i))
    frozen = tuple(
        name
        for name, value in slots.items()
        if any(len(holders[id(tensor.storage)]) > 1 for tensor in tensors_within(value))
    )
    values = {name: from_program(value, f"the method gives {name}") for name, value in slots.items()}
    return State(values, same=tuple(tuple(names) for names in same.values() if len(names) > 1), frozen=frozen)


def slots_of(state: State) -> dict[str, Any]:
    """The values of a state as the program sees them, by dotted name."""
    slots = {name: to_program(value) for name, value in state.items()}
    for group in state.same:
        slots |= dict.fromkeys(group, slots[group[0]])
    for name in state.frozen:
        for tensor in tensors_within(slots[name]):
            tensor.freeze(f"{name} is changed in place, and shared elements with another attribute in an earlier call")
    return slots
