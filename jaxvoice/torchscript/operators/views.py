"""Operators whose results are views: in-place changes of the result change the argument, and vice versa."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_complex
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import OperatorError, Tensor, number_of


def axis_of(dim: int, ndim: int) -> int:
    """A non-negative dimension; raises `IndexError` if it is out of range."""
    rank = max(ndim, 1)
    if not -rank <= dim < rank:
        raise IndexError(f"dimension {dim} is out of range for a tensor with {ndim} dimensions")
    return dim % rank


def resolve_shape(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """Replace -1 in `shape`, for `size` elements; raises `ValueError` if the shape has another size."""
    shape = [int(n) for n in shape]
    if -1 in shape:
        rest = -math.prod(shape)
        if rest == 0 or size % rest:
            raise ValueError(f"{size} elements cannot have the shape {shape}")
        shape[shape.index(-1)] = size // rest
    if math.prod(shape) != size:
        raise ValueError(f"{size} elements cannot have the shape {shape}")
    return tuple(shape)


def _index(x: Tensor, index: tuple[Any, ...]) -> Tensor:
    return x.view(lambda a: a[index], lambda a, new: a.at[index].set(new))


def _permute(x: Tensor, order: Sequence[int]) -> Tensor:
    back = tuple(int(i) for i in np.argsort(order))
    return x.view(lambda a: a.transpose(order), lambda _, new: new.transpose(back))


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    old, new_shape = x.shape, resolve_shape(shape, math.prod(x.shape))
    return x.view(lambda a: a.reshape(new_shape), lambda _, new: new.reshape(old))


# Indices


@on_tensors("torch.select")
def select(x: Tensor, dim: int, index: Any) -> Tensor:
    """Select one index of an axis and remove the axis."""
    dim = axis_of(dim, x.ndim)
    index = number_of(index) if isinstance(index, Tensor) else int(index)
    if not -x.shape[dim] <= index < x.shape[dim]:
        raise IndexError(f"index {index} is out of range for dimension {dim} with {x.shape[dim]} elements")
    return _index(x, (slice(None),) * dim + (index,))


@on_tensors("torch.slice")
def slice_(x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """Every `step`-th index of an axis from `start` to `end`."""
    dim = axis_of(dim, x.ndim)
    bounds = slice(start, end, step).indices(x.shape[dim])
    if bounds == (0, x.shape[dim], 1):
        return x.view(lambda a: a, lambda _, new: new)
    return _index(x, (slice(None),) * dim + (slice(bounds[0], max(bounds[:2]), bounds[2]),))


@on_tensors("torch.narrow")
def narrow(x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` indices of an axis from `start`."""
    start = number_of(start) if isinstance(start, Tensor) else start
    start = start + x.shape[dim] if start < 0 else start
    if start + length > x.shape[dim]:
        raise IndexError(
            f"indices {start} to {start + length} are out of range for dimension {dim} with {x.shape[dim]} elements"
        )
    return slice_(x, dim, start, start + length)


@on_tensors("torch.split", "torch.split_with_sizes")
def split(x: Tensor, sizes: Any, dim: int = 0) -> list[Tensor]:
    """Split an axis into parts of one length or of several lengths."""
    length = x.shape[axis_of(dim, x.ndim)]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - at) for at in range(0, length, sizes)] or [0]
    elif sum(sizes) != length:
        raise ValueError(f"parts of lengths {sizes} do not add up to dimension {dim} with {length} elements")
    ends = np.cumsum(sizes).tolist()
    return [slice_(x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


@on_tensors("torch.chunk", "torch.unsafe_chunk")
def chunk(x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """Split an axis into at most `chunks` parts of equal length; the last may be shorter."""
    length = x.shape[axis_of(dim, x.ndim)]
    return split(x, max(1, -(-length // chunks)), dim)


@on_tensors("torch.unbind")
def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    """Split an axis into its indices."""
    return [select(x, dim, index) for index in range(x.shape[axis_of(dim, x.ndim)])]


@on_tensors("torch.unfold")
def unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Sliding windows of an axis; the elements of a window are the last axis."""
    dim = axis_of(dim, x.ndim)
    starts = np.arange(0, x.shape[dim] - size + 1, step)
    index = starts[:, None] + np.arange(size)[None]

    def read(a: Array) -> Array:
        return jnp.moveaxis(jnp.take(a, index, axis=dim, mode="clip"), dim + 1, -1)

    return x.view(read, None)


# Shapes


@on_tensors("torch.view", "torch.unflatten")
def view(x: Tensor, shape: Any, *more: Any) -> Tensor:
    """View with another shape (`view`), or with one axis split (`unflatten`)."""
    if more:
        dim, sizes = axis_of(shape, x.ndim), more[0]
        shape = x.shape[:dim] + resolve_shape(sizes, x.shape[dim]) + x.shape[dim + 1 :]
    if isinstance(shape, int):
        raise OperatorError("a view with another dtype")
    return _reshape(x, shape)


on_tensors("torch.view_as")(lambda x, other: _reshape(x, other.shape))


@on_tensors("torch.reshape", "torch.reshape_as")
def reshape(x: Tensor, shape: Any) -> Tensor:
    """Reshape; the result may be a view or a copy."""
    shape = resolve_shape(shape.shape if isinstance(shape, Tensor) else shape, math.prod(x.shape))
    return _reshape(x, shape) if shape == x.shape else x.possible_view(x.values.reshape(shape))


@on_tensors("torch.flatten")
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge axes."""
    first, last = axis_of(start_dim, x.ndim), axis_of(end_dim, x.ndim)
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return x if first == last and x.ndim else reshape(x, shape)


on_tensors("torch.contiguous")(lambda x, *, memory_format=None: x.possible_view(x.values))


@on_tensors("torch.unsqueeze")
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """Add an axis of length 1."""
    dim = axis_of(dim, x.ndim + 1)
    return _reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def _squeezed_shape(x: Tensor, dim: Any) -> list[int]:
    """The shape without axes of length 1, among `dim` or all axes."""
    dims = range(x.ndim) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    removed = {axis_of(d, x.ndim) for d in dims}
    return [n for d, n in enumerate(x.shape) if d not in removed or n != 1]


@on_tensors("torch.squeeze")
def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """Remove axes of length 1, among `dim` or all axes."""
    return _reshape(x, _squeezed_shape(x, dim))


def _reshape_in_place(x: Tensor, shape: Sequence[int]) -> Tensor:
    old = x.shape
    x.restructure(lambda a: a.reshape(shape), lambda _, new: new.reshape(old))
    return x


@on_tensors("torch.unsqueeze_")
def unsqueeze_(x: Tensor, dim: int) -> Tensor:
    """Add an axis of length 1 in place."""
    dim = axis_of(dim, x.ndim + 1)
    return _reshape_in_place(x, (*x.shape[:dim], 1, *x.shape[dim:]))


@on_tensors("torch.squeeze_")
def squeeze_(x: Tensor, dim: Any = None) -> Tensor:
    """Remove axes of length 1 in place."""
    return _reshape_in_place(x, _squeezed_shape(x, dim))


@on_tensors("torch.expand", "torch.broadcast_to")
def expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    """Broadcast axes of length 1; -1 keeps the length of an axis."""
    new = len(size) - x.ndim
    shape = tuple(x.shape[d - new] if n == -1 else int(n) for d, n in enumerate(size))
    ones = (1,) * new + x.shape
    return x.view(lambda a: jnp.broadcast_to(a.reshape(ones), shape), None)


on_tensors("torch.expand_as")(lambda x, other: expand(x, other.shape))


# The order of axes


@on_tensors("torch.permute")
def permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Permute axes."""
    return _permute(x, [axis_of(dim, x.ndim) for dim in dims])


@on_tensors("torch.transpose")
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes."""
    order = list(range(x.ndim))
    if order:
        a, b = axis_of(dim0, x.ndim), axis_of(dim1, x.ndim)
        order[a], order[b] = order[b], order[a]
    return _permute(x, order)


@on_tensors("torch.t")
def t(x: Tensor) -> Tensor:
    """Transpose a matrix."""
    return transpose(x, 0, 1) if x.ndim == 2 else _permute(x, range(x.ndim))


@on_tensors("torch.movedim")
def movedim(x: Tensor, source: Any, destination: Any) -> Tensor:
    """Move axes to other positions."""
    sources = [axis_of(d, x.ndim) for d in (source if isinstance(source, (list, tuple)) else [source])]
    places = [axis_of(d, x.ndim) for d in (destination if isinstance(destination, (list, tuple)) else [destination])]
    order = [d for d in range(x.ndim) if d not in sources]
    for place, dim in sorted(zip(places, sources, strict=True)):
        order.insert(place, dim)
    return _permute(x, order)


# Parts of complex numbers, and elements without a derivative


def _register_view(names: tuple[str, ...], read: Any, write: Any, only_complex: bool = False) -> None:
    @on_tensors(*names)
    def operator(x: Tensor) -> Tensor:
        return x if only_complex and not is_complex(x.dtype) else x.view(read, write)


for _names, _read, _write, _only_complex in (
    (
        ("torch.view_as_real",),
        lambda a: jnp.stack([a.real, a.imag], -1),
        lambda _, new: lax.complex(new[..., 0], new[..., 1]),
        False,
    ),
    (
        ("torch.view_as_complex",),
        lambda a: lax.complex(a[..., 0], a[..., 1]),
        lambda _, new: jnp.stack([new.real, new.imag], -1),
        False,
    ),
    (("torch.real",), lambda a: a.real, lambda a, new: lax.complex(new, a.imag), True),
    (("torch.imag",), lambda a: a.imag, lambda a, new: lax.complex(a.real, new), False),
    (("torch.conj", "torch._conj"), jnp.conj, lambda _, new: jnp.conj(new), True),
    (("torch.detach", "ops.prim.data", "torch.resolve_conj"), lax.stop_gradient, lambda _, new: new, False),
):
    _register_view(_names, _read, _write, _only_complex)
