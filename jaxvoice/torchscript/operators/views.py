"""Operators whose results share elements with their argument, so that a change in place of one reaches the other."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_complex
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import Refused, Tensor, number_of


def axis_of(dim: int, ndim: int) -> int:
    """A dimension counted from the front; raises `IndexError` for a tensor without it."""
    rank = max(ndim, 1)
    if not -rank <= dim < rank:
        raise IndexError(f"dimension {dim} of a tensor with {ndim}")
    return dim % rank


def resolved(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """`shape` of `size` elements with the number that -1 stands for; raises `ValueError` where they do not fit."""
    shape = [int(n) for n in shape]
    if -1 in shape:
        rest = -math.prod(shape)
        if rest == 0 or size % rest:
            raise ValueError(f"{size} elements do not fit the shape {shape}")
        shape[shape.index(-1)] = size // rest
    if math.prod(shape) != size:
        raise ValueError(f"{size} elements do not fit the shape {shape}")
    return tuple(shape)


def _indexed(x: Tensor, index: tuple[Any, ...]) -> Tensor:
    return x.view(lambda a: a[index], lambda a, new: a.at[index].set(new))


def _moved(x: Tensor, order: Sequence[int]) -> Tensor:
    back = tuple(int(i) for i in np.argsort(order))
    return x.view(lambda a: a.transpose(order), lambda _, new: new.transpose(back))


def _shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    old, new_shape = x.shape, resolved(shape, math.prod(x.shape))
    return x.view(lambda a: a.reshape(new_shape), lambda _, new: new.reshape(old))


# Indices


@on_tensors("torch.select")
def select(x: Tensor, dim: int, index: Any) -> Tensor:
    """One index of an axis, which is removed."""
    dim = axis_of(dim, x.ndim)
    index = number_of(index) if isinstance(index, Tensor) else int(index)
    if not -x.shape[dim] <= index < x.shape[dim]:
        raise IndexError(f"index {index} of dimension {dim} with {x.shape[dim]} elements")
    return _indexed(x, (slice(None),) * dim + (index,))


@on_tensors("torch.slice")
def slice_(x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """Every `step`-th index of an axis from `start` to `end`."""
    dim = axis_of(dim, x.ndim)
    bounds = slice(start, end, step).indices(x.shape[dim])
    if bounds == (0, x.shape[dim], 1):
        return x.view(lambda a: a, lambda _, new: new)
    return _indexed(x, (slice(None),) * dim + (slice(bounds[0], max(bounds[:2]), bounds[2]),))


@on_tensors("torch.narrow")
def narrow(x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` indices of an axis from `start`."""
    start = number_of(start) if isinstance(start, Tensor) else start
    start = start + x.shape[dim] if start < 0 else start
    if start + length > x.shape[dim]:
        raise IndexError(f"indices {start} to {start + length} of dimension {dim} with {x.shape[dim]} elements")
    return slice_(x, dim, start, start + length)


@on_tensors("torch.split", "torch.split_with_sizes")
def split(x: Tensor, sizes: Any, dim: int = 0) -> list[Tensor]:
    """Parts of an axis, of one length or of several."""
    length = x.shape[axis_of(dim, x.ndim)]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - at) for at in range(0, length, sizes)] or [0]
    elif sum(sizes) != length:
        raise ValueError(f"parts of {sizes} of dimension {dim} with {length} elements")
    ends = np.cumsum(sizes).tolist()
    return [slice_(x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


@on_tensors("torch.chunk", "torch.unsafe_chunk")
def chunk(x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """At most `chunks` parts of an axis, all but the last of one length."""
    length = x.shape[axis_of(dim, x.ndim)]
    return split(x, max(1, -(-length // chunks)), dim)


@on_tensors("torch.unbind")
def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    """Every index of an axis."""
    return [select(x, dim, index) for index in range(x.shape[axis_of(dim, x.ndim)])]


@on_tensors("torch.unfold")
def unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Windows of an axis, as the last axis."""
    dim = axis_of(dim, x.ndim)
    starts = np.arange(0, x.shape[dim] - size + 1, step)
    index = starts[:, None] + np.arange(size)[None]

    def read(a: Array) -> Array:
        return jnp.moveaxis(jnp.take(a, index, axis=dim, mode="clip"), dim + 1, -1)

    return x.view(read, None)


# Shapes


@on_tensors("torch.view", "torch.unflatten")
def view(x: Tensor, shape: Any, *more: Any) -> Tensor:
    """Another shape of the same elements, or the sizes of one axis."""
    if more:
        dim, sizes = axis_of(shape, x.ndim), more[0]
        shape = x.shape[:dim] + resolved(sizes, x.shape[dim]) + x.shape[dim + 1 :]
    if isinstance(shape, int):
        raise Refused("elements seen as another type")
    return _shaped(x, shape)


on_tensors("torch.view_as")(lambda x, other: _shaped(x, other.shape))


@on_tensors("torch.reshape", "torch.reshape_as")
def reshape(x: Tensor, shape: Any) -> Tensor:
    """Another shape of the same elements, or of a copy."""
    shape = resolved(shape.shape if isinstance(shape, Tensor) else shape, math.prod(x.shape))
    return _shaped(x, shape) if shape == x.shape else x.possible_view(x.values.reshape(shape))


@on_tensors("torch.flatten")
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Several axes as one."""
    first, last = axis_of(start_dim, x.ndim), axis_of(end_dim, x.ndim)
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return x if first == last and x.ndim else reshape(x, shape)


on_tensors("torch.contiguous")(lambda x, *, memory_format=None: x.possible_view(x.values))


@on_tensors("torch.unsqueeze")
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """A new axis of length 1."""
    dim = axis_of(dim, x.ndim + 1)
    return _shaped(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def _without(x: Tensor, dim: Any) -> list[int]:
    """The shape without the axes of length 1 among `dim`, or among all."""
    dims = range(x.ndim) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    removed = {axis_of(d, x.ndim) for d in dims}
    return [n for d, n in enumerate(x.shape) if d not in removed or n != 1]


@on_tensors("torch.squeeze")
def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """Without axes of length 1, or without those given where they have length 1."""
    return _shaped(x, _without(x, dim))


def _reshaped_in_place(x: Tensor, shape: Sequence[int]) -> Tensor:
    old = x.shape
    x.restructure(lambda a: a.reshape(shape), lambda _, new: new.reshape(old))
    return x


@on_tensors("torch.unsqueeze_")
def unsqueeze_(x: Tensor, dim: int) -> Tensor:
    """A new axis of length 1, in place."""
    dim = axis_of(dim, x.ndim + 1)
    return _reshaped_in_place(x, (*x.shape[:dim], 1, *x.shape[dim:]))


@on_tensors("torch.squeeze_")
def squeeze_(x: Tensor, dim: Any = None) -> Tensor:
    """Without axes of length 1, in place."""
    return _reshaped_in_place(x, _without(x, dim))


@on_tensors("torch.expand", "torch.broadcast_to")
def expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    """Axes of length 1 repeated without a copy; -1 keeps the length of an axis."""
    new = len(size) - x.ndim
    shape = tuple(x.shape[d - new] if n == -1 else int(n) for d, n in enumerate(size))
    ones = (1,) * new + x.shape
    return x.view(lambda a: jnp.broadcast_to(a.reshape(ones), shape), None)


on_tensors("torch.expand_as")(lambda x, other: expand(x, other.shape))


# The order of axes


@on_tensors("torch.permute")
def permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Axes in another order."""
    return _moved(x, [axis_of(dim, x.ndim) for dim in dims])


@on_tensors("torch.transpose")
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    order = list(range(x.ndim))
    if order:
        a, b = axis_of(dim0, x.ndim), axis_of(dim1, x.ndim)
        order[a], order[b] = order[b], order[a]
    return _moved(x, order)


@on_tensors("torch.t")
def t(x: Tensor) -> Tensor:
    """A matrix with its axes swapped."""
    return transpose(x, 0, 1) if x.ndim == 2 else _moved(x, range(x.ndim))


@on_tensors("torch.movedim")
def movedim(x: Tensor, source: Any, destination: Any) -> Tensor:
    """Axes moved to other places."""
    sources = [axis_of(d, x.ndim) for d in (source if isinstance(source, (list, tuple)) else [source])]
    places = [axis_of(d, x.ndim) for d in (destination if isinstance(destination, (list, tuple)) else [destination])]
    order = [d for d in range(x.ndim) if d not in sources]
    for place, dim in sorted(zip(places, sources, strict=True)):
        order.insert(place, dim)
    return _moved(x, order)


# Parts of complex numbers, and elements without a derivative


def _register_view(names: tuple[str, ...], read: Any, write: Any, only_complex: bool = False) -> None:
    @on_tensors(*names)
    def viewed(x: Tensor) -> Tensor:
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
