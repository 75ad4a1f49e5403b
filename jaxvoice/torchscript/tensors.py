"""Mutable tensors and views, implemented with immutable arrays.

A view has a function that reads its array from its base, and one that writes a new array back to the base. For some
operators (`reshape`, `contiguous`), torch's memory layout determines whether two tensors share their elements. Both
can be read until one of them is changed in place; using the other afterwards is an error.
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
"""Maximum size of tensors that are computed while tracing if they do not depend on inputs, so that they may determine
shapes; in elements."""

Read = Callable[[Any], Any]
Write = Callable[[Any, Any], Any]


def traced(array: Any) -> bool:
    """Whether the values of `array` are unknown because JAX traces them."""
    return isinstance(array, Tracer)


def needs_64_bits(array: Any) -> bool:
    """Whether `array` contains integers that need 64 bits while `jax_enable_x64` is off."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or not array.size:
        return False
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    return kept != array.dtype and (array.min() < np.iinfo(kept).min or array.max() > np.iinfo(kept).max)


class OperatorError(Exception):
    """An operator cannot compute a correct result. The interpreter adds the name and the position in the code."""


class Tensor:
    """A tensor of the interpreted program."""

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
        """A tensor that is not a view.

        **Arguments:** `frozen`: the reason why in-place operators must not change it; `invalid_reason`: the reason why
        its elements must not be used.
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

        `read` computes the array of the view from that of this tensor. `write` computes the array of this tensor from
        its old array and the new array of the view.
        """
        made = Tensor(read(self.values))
        self._viewed = True
        made._base, made._read, made._write = self, read, write
        made._seen = self._root._version
        return made

    def possible_view(self, array: Any) -> "Tensor":
        """A tensor that may share elements with this one, depending on torch's memory layout."""
        made = Tensor(array)
        self._viewed = self._root._viewed = True
        made._possible_base = (self._root, self._root._version)
        return made

    def freeze(self, reason: str) -> None:
        """Disallow in-place operators."""
        self._root._frozen = reason

    def restructure(self, read: Read, write: Write) -> None:
        """Turn this tensor into a view of its old value with another shape."""
        if self._viewed:
            raise OperatorError("it changes the shape of a tensor that has views in place")
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
        """The base of all tensors that share elements, or may share elements, with this one."""
        root = self._root
        while root._possible_base is not None:
            root = root._possible_base[0]._root
        return root

    @property
    def changed(self) -> bool:
        """Whether the elements or the shape were changed in place; for tensors that are not views."""
        return self._version > 0 or self._base is not None

    @property
    def array(self) -> Shaped[Array | np.ndarray, "..."]:
        """The current elements."""
        self._check()
        root = self._root
        if self._base is not None and self._seen != root._version:
            assert self._read is not None
            self._array = self._read(self._base.values)
            self._seen = root._version
        return self._array

    @property
    def values(self) -> jax.Array:
        """The current elements as a JAX array; raises `OperatorError` for integers that need 64 bits without x64."""
        array = self.array
        if needs_64_bits(array):
            raise OperatorError("integers of 64 bits; set jax_enable_x64 to compute with them")
        if isinstance(array, np.ndarray):
            # Also under jax.jit, so that operators can read the values.
            with jax.ensure_compile_time_eval():
                return jnp.asarray(array)
        return jnp.asarray(array)

    def _check(self) -> None:
        root: Tensor | None = self._root
        while root is not None:
            if root._invalid_reason is not None:
                raise OperatorError(root._invalid_reason)
            if root._possible_base is None:
                return
            other, version = root._possible_base
            if other._version != version:
                raise OperatorError(
                    "a tensor was changed in place, and another tensor that may share its elements in torch "
                    "(by reshape, flatten or contiguous) is used afterwards"
                )
            root = other

    def assign(self, array: Any) -> None:
        """Change the elements in place, also those of views and of the base."""
        if tuple(array.shape) != self.shape:
            raise OperatorError(f"an in-place operator would change the shape {self.shape} to {tuple(array.shape)}")
        root = self._root
        self._check()
        if root._frozen is not None:
            raise OperatorError(root._frozen)
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
                "a tensor is used after another tensor that may share its elements in torch "
                "(by reshape, flatten or contiguous) was changed in place"
            )

    def _set(self, array: Any) -> None:
        if self._base is not None:
            if self._write is None:
                raise OperatorError("in-place changes of this kind of view are not supported")
            self._base._set(self._write(self._base.values, array))
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self._array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the elements."""
        return jax.dtypes.canonicalize_dtype(self._array.dtype)

    @property
    def known(self) -> bool:
        """Whether the values are concrete while tracing, and the tensor is small."""
        root = self._root
        return not traced(root._array) and math.prod(root.shape) <= SMALL

    def __repr__(self) -> str:
        return f"<tensor {self.dtype}{list(self.shape)}>"


def number_of(tensor: Tensor, kind: type = int) -> Any:
    """The single element of `tensor` as a Python number of `kind`.

    Raises `OperatorError` if it depends on an input under `jax.jit`, `jax.grad` or `jax.vmap`.
    """
    array = tensor.array
    if math.prod(array.shape) != 1:
        raise OperatorError(f"a tensor of shape {tuple(array.shape)} is used as a number")
    if traced(array):
        raise OperatorError(
            f"a value that depends on the inputs is used as a Python {kind.__name__}, which determines shapes or "
            "branches; call the function without jax.jit, or pass the input as a number instead of an array"
        )
    return kind(np.asarray(array).reshape(()).item())
