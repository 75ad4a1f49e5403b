"""Tensors that in-place operators may change, and views that see the change, over immutable arrays.

A view knows how to read itself from what it views and how to write itself back. Where it depends on torch's
memory layout whether two tensors share their elements (`reshape`, `contiguous`), both may be read, and as soon as one
of them is changed the other is refused.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Shaped

SMALL = 2**16
"""Tensors of up to this many elements that depend on no input are computed while tracing, so that they may decide
shapes."""

Read = Callable[[Any], Any]
Write = Callable[[Any, Any], Any]


def traced(array: Any) -> bool:
    """Whether the values of `array` are unknown because JAX is tracing them."""
    return isinstance(array, Tracer)


def needs_64_bits(array: Any) -> bool:
    """Whether whole numbers would not survive in 32 bits, while JAX has no wider ones."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or not array.size:
        return False
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    return kept != array.dtype and (array.min() < np.iinfo(kept).min or array.max() > np.iinfo(kept).max)


class Refused(Exception):
    """An operator cannot compute this correctly. The interpreter adds its name and the place."""


class Tensor:
    """A tensor of the program that is interpreted."""

    __slots__ = (
        "_array",
        "_base",
        "_frozen",
        "_invalid_reason",
        "_possible_base",
        "_read",
        "_seen",
        "_version",
        "_viewed",
        "_write",
    )

    def __init__(self, array: Any, *, frozen: str | None = None, invalid_reason: str | None = None):
        """A tensor with elements of its own.

        `frozen` says why in-place operators must not touch it, `invalid_reason` why its elements must not be used.
        """
        self._array = array
        self._base: Tensor | None = None
        self._read: Read | None = None
        self._write: Write | None = None
        self._version = self._seen = 0
        self._possible_base: tuple[Tensor, int] | None = None
        self._invalid_reason = invalid_reason
        self._frozen = frozen
        self._viewed = False

    def view(self, read: Read, write: Write | None) -> "Tensor":
        """A tensor that shares elements with this one.

        `read` makes its array from this one's; `write` makes this one's from itself and the view's new array.
        """
        made = Tensor(read(self.values))
        self._viewed = True
        made._base, made._read, made._write = self, read, write
        made._seen = self._root._version
        return made

    def possible_view(self, array: Any) -> "Tensor":
        """A tensor that shares elements with this one or not, as torch's memory layout would decide."""
        made = Tensor(array)
        self._viewed = self._root._viewed = True
        made._possible_base = (self._root, self._root._version)
        return made

    def freeze(self, reason: str) -> None:
        """Refuse in-place operators from now on."""
        self._root._frozen = reason

    def restructure(self, read: Read, write: Write) -> None:
        """Turn this very tensor into a view of what it was, of another shape."""
        if self._viewed:
            raise Refused("it changes the shape in place of a tensor that others view")
        before = Tensor(self.values, frozen=self._frozen)
        for slot in ("_base", "_possible_base", "_read", "_seen", "_version", "_write"):
            setattr(before, slot, getattr(self, slot))
        self._base, self._read, self._write, self._possible_base = before, read, write, None
        self._array, self._seen = read(before.values), before._root._version

    @property
    def _root(self) -> "Tensor":
        root = self
        while root._base is not None:
            root = root._base
        return root

    @property
    def storage(self) -> "Tensor":
        """The tensor that this one shares its elements with, or may share them with; equal for all that do."""
        root = self._root
        while root._possible_base is not None:
            root = root._possible_base[0]._root
        return root

    @property
    def changed(self) -> bool:
        """Whether its elements or its shape were changed in place; not of views."""
        return self._version > 0 or self._base is not None

    @property
    def array(self) -> Shaped[Array | np.ndarray, "..."]:
        """The elements as they are now."""
        self._check()
        root = self._root
        if self._base is not None and self._seen != root._version:
            assert self._read is not None
            self._array = self._read(self._base.values)
            self._seen = root._version
        return self._array

    @property
    def values(self) -> jax.Array:
        """The elements as JAX computes with them; refused where whole numbers would need 64 bits that are off."""
        array = self.array
        if needs_64_bits(array):
            raise Refused("whole numbers of 64 bits; set jax_enable_x64 to compute with them")
        if isinstance(array, np.ndarray):
            # Under jax.jit too, so that operators may look at them.
            with jax.ensure_compile_time_eval():
                return jnp.asarray(array)
        return jnp.asarray(array)

    def _check(self) -> None:
        root: Tensor | None = self._root
        while root is not None:
            if root._invalid_reason is not None:
                raise Refused(root._invalid_reason)
            if root._possible_base is None:
                return
            other, version = root._possible_base
            if other._version != version:
                raise Refused(
                    "a tensor was changed in place, and another that torch may have let share its elements "
                    "(by reshape, flatten or contiguous) is used afterwards"
                )
            root = other

    def assign(self, array: Any) -> None:
        """Change the elements in place: all views, and what this is a view of, see it."""
        if tuple(array.shape) != self.shape:
            raise Refused(f"an in-place operator would change the shape {self.shape} to {tuple(array.shape)}")
        root = self._root
        self._check()
        if root._frozen is not None:
            raise Refused(root._frozen)
        self._set(array.astype(self.dtype))
        root._version += 1
        node: Tensor | None = self
        while node is not None:
            node._seen = root._version
            node = node._base
        others, root._possible_base = root._possible_base, None
        while others is not None:
            other, others = others[0], others[0]._possible_base
            other._invalid_reason = (
                "a tensor was changed in place through another that torch may have let share its elements "
                "(by reshape, flatten or contiguous), and is used afterwards"
            )

    def _set(self, array: Any) -> None:
        if self._base is not None:
            if self._write is None:
                raise Refused("in-place changes of this kind of view are not supported")
            self._base._set(self._write(self._base.values, array))
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""
        return tuple(self._array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return jax.dtypes.canonicalize_dtype(self._array.dtype)

    @property
    def known(self) -> bool:
        """Whether the values are there while tracing, and few."""
        root = self._root
        return not traced(root._array) and math.prod(root.shape) <= SMALL

    def __repr__(self) -> str:
        return f"<tensor {self.dtype}{list(self.shape)}>"


def number_of(tensor: Tensor, kind: type = int) -> Any:
    """The single element of `tensor` as a Python number of `kind`.

    Raises `Refused` where it depends on an input under `jax.jit`, `jax.grad` or `jax.vmap`.
    """
    array = tensor.array
    if math.prod(array.shape) != 1:
        raise Refused(f"a tensor of shape {tuple(array.shape)} is used as a number")
    if traced(array):
        raise Refused(
            f"a value that depends on the inputs is used as a Python {kind.__name__}, which decides shapes or "
            "branches; call the function without jax.jit, or pass what it depends on as a number and not as an array"
        )
    return kind(np.asarray(array).reshape(()).item())
