"""The state that one call of a program passes to the next, and the conversion of inputs and outputs."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.operators.registry import count_items
from jaxvoice.torchscript.program import EnumMember, Instance, NamedTuple, iter_tensors
from jaxvoice.torchscript.tensors import SMALL, Tensor, needs_64_bits, traced

MAX_STATE_ITEMS = 1_000_000
"""Maximum number of list items and characters in a state."""
_STATIC = (bool, int, float, complex, str, EnumMember)


@jax.tree_util.register_pytree_with_keys_class
class State(Mapping[str, Any]):
    """Buffers and attributes that calls have changed, by dotted name: arrays, numbers, text, None, lists of these.

    Attributes that are not in a state have the values of the archive; `State()` is the state of the archive. A state is
    a pytree whose leaves are its arrays. Numbers and text are part of the structure, since programs branch on them:
    under `jax.jit`, another number causes a new compilation, and in `jax.lax.scan`, they must not change. A counter on
    which the program does not branch can be replaced by an array: `state | {"steps": jnp.asarray(0)}`.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        same: tuple[tuple[str, ...], ...] = (),
        frozen: tuple[str, ...] = (),
    ):
        """**Arguments:** `values` by dotted name; `same`: groups of names that refer to one tensor; `frozen`: names of
        tensors that share elements in a way that a state cannot represent, and must not be changed in place."""
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
        """Arrays are leaves; all other values are part of the structure."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(self._values)
        static = tuple((i, _Static(leaf)) for i, (_, leaf) in enumerate(leaves) if isinstance(leaf, _STATIC))
        arrays = [(jax.tree_util.DictKey(_name(path)), leaf) for path, leaf in leaves if not isinstance(leaf, _STATIC)]
        return arrays, (structure, static, self.same, self.frozen)

    @classmethod
    def tree_unflatten(cls, structure: Any, arrays: Any) -> "State":
        """A state with this structure and these arrays."""
        tree, static, same, frozen = structure
        leaves = list(arrays)
        for i, leaf in static:
            leaves.insert(i, leaf.value)
        return cls(jax.tree_util.tree_unflatten(tree, leaves), same=same, frozen=frozen)


class _Static:
    """A number or text that is equal only to values of its type: `1`, `1.0` and `True` differ."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return repr(self.value)


def _name(path: tuple[Any, ...]) -> str:
    """The dotted name and the index in a list: `cache[0]`."""
    return f"{path[0].key}{jax.tree_util.keystr(path[1:])}"


def to_program(value: Any) -> Any:
    """Convert an input to a value of the program.

    **Raises:** `CheckpointError` for types that programs do not accept.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biufcV":
            raise CheckpointError(
                f"the dtype of an input is {array.dtype}; it should be a dtype of numbers or booleans."
            )
        if needs_64_bits(array):
            raise CheckpointError(
                "an input contains integers that need 64 bits; set jax_enable_x64 to compute with them."
            )
        # NumPy integers stay concrete under jax.jit, so that they may determine shapes.
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
    raise CheckpointError(f"an input is a {what}; it should be an array of NumPy or JAX, a number or text.")


def from_program(value: Any, what: str = "the method returns") -> Any:
    """Convert a result of the program; `what` is the start of the error message for objects.

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
        raise CheckpointError(f"{what} an object of {value.code.original_name}, which JAX cannot represent.")
    return value


def with_names(result: Any, name: str) -> Any:
    """A result of a module with its traced tensors named for `jaxvoice.dissect`; lists and dicts are changed in place.

    A named tensor is a view of the original, so that changes in place reach both.
    """
    if isinstance(result, Tensor):
        if not traced(result.array) or not jnp.issubdtype(result.dtype, jnp.inexact):
            return result
        return result.view(lambda array: checkpoint_name(array, name), lambda _, new: new)
    if isinstance(result, (list, dict)):
        for key, item in result.items() if isinstance(result, dict) else enumerate(result):
            result[key] = with_names(item, f"{name}[{key}]")
    elif isinstance(result, tuple):
        items = [with_names(item, f"{name}[{i}]") for i, item in enumerate(result)]
        if isinstance(result, NamedTuple):
            named = NamedTuple(items)
            named.names = result.names
            return named
        return tuple(items)
    return result


def state_of(slots: Mapping[str, Any]) -> State:
    """The state with these attributes of the program, by dotted name.

    **Raises:** `CheckpointError` if a state cannot represent the attributes, or they have too many items.
    """
    if count_items(slots.values(), MAX_STATE_ITEMS) > MAX_STATE_ITEMS:
        raise CheckpointError(
            f"the method assigns more than {MAX_STATE_ITEMS:,} items to its attributes, the maximum of a state."
        )
    same: dict[int, list[str]] = {}
    holders: dict[int, set[Any]] = {}
    for name, value in slots.items():
        if isinstance(value, (Tensor, list, dict)):
            same.setdefault(id(value), []).append(name)
        if isinstance(value, NamedTuple) or (isinstance(value, (list, dict)) and len(same[id(value)]) > 1):
            what = "a named tuple" if isinstance(value, NamedTuple) else f"the list of {same[id(value)][0]}"
            raise CheckpointError(f"the method assigns {what} to {name}, which a state cannot represent.")
        for i, tensor in enumerate(iter_tensors(value)):
            # Attributes that are one tensor stay one tensor. For tensors in lists, this is not possible.
            holders.setdefault(id(tensor.storage), set()).add(id(tensor) if tensor is value else (name, i))
    frozen = tuple(
        name
        for name, value in slots.items()
        if any(len(holders[id(tensor.storage)]) > 1 for tensor in iter_tensors(value))
    )
    values = {name: from_program(value, f"the method assigns to {name}") for name, value in slots.items()}
    return State(values, same=tuple(tuple(names) for names in same.values() if len(names) > 1), frozen=frozen)


def slots_of(state: State) -> dict[str, Any]:
    """Convert a state to values of the program by dotted name."""
    slots = {name: to_program(value) for name, value in state.items()}
    for group in state.same:
        slots |= dict.fromkeys(group, slots[group[0]])
    for name in state.frozen:
        for tensor in iter_tensors(slots[name]):
            tensor.freeze(f"{name} is changed in place, but shared elements with another attribute in an earlier call")
    return slots
