"""Joining, repeating and rearranging, always with new elements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import result_type
from jaxvoice.torchscript.operators.arithmetic import summable
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.operators.views import axis_of
from jaxvoice.torchscript.tensors import Refused, Tensor


@register_operator("torch.cat", "torch.concat", "torch.concatenate")
def cat(tensors: list[Array], dim: int = 0) -> Array:
    """Tensors one after another along an axis; empty ones of one axis are left out, as torch does."""
    dtype = result_type(*tensors)
    parts = [part for part in tensors if part.shape != (0,)] or tensors[:1]
    return jnp.concatenate([part.astype(dtype) for part in parts], axis_of(dim, parts[0].ndim))


@register_operator("torch.stack")
def stack(tensors: list[Array], dim: int = 0) -> Array:
    """Tensors along a new axis."""
    dtype = result_type(*tensors)
    return jnp.stack([part.astype(dtype) for part in tensors], axis_of(dim, tensors[0].ndim + 1))


@register_operator("torch.hstack")
def hstack(tensors: list[Array]) -> Array:
    """Tensors one after another along the second axis, or the first where there is one."""
    return cat(tensors, 0 if tensors[0].ndim < 2 else 1)


@register_operator("torch.vstack")
def vstack(tensors: list[Array]) -> Array:
    """Tensors one after another along the first axis of at least two."""
    return cat([jnp.atleast_2d(tensor) for tensor in tensors], 0)


@on_tensors("torch.clone")
def clone(x: Tensor, *, memory_format: int | None = None) -> Tensor:
    """A copy."""
    return Tensor(x.values)


@register_operator("torch.repeat", "torch.tile")
def repeat(x: Array, repeats: Sequence[int]) -> Array:
    """The whole tensor so many times along each axis."""
    return jnp.tile(x, tuple(repeats))


@register_operator("torch.repeat_interleave")
def repeat_interleave(x: Array, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Each index of an axis so many times."""
    if dim is None:
        x, dim = x.reshape(-1), 0
    if isinstance(repeats, int):
        return jnp.repeat(x, repeats, axis_of(dim, x.ndim))
    try:
        total = int(np.asarray(repeats).sum()) if output_size is None else output_size
    except Exception as failure:
        raise Refused("the length of the result depends on the inputs; pass output_size") from failure
    return jnp.repeat(x, repeats, axis_of(dim, x.ndim), total_repeat_length=total)


@register_operator("torch.roll")
def roll(x: Array, shifts: Any, dims: Any = ()) -> Array:
    """Indices of axes moved on, those beyond the end coming back at the front."""
    shifts = shifts if isinstance(shifts, list) else [shifts]
    dims = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    return jnp.roll(x, shifts, dims) if dims else jnp.roll(x.reshape(-1), shifts[0]).reshape(x.shape)


@register_operator("torch.flip")
def flip(x: Array, dims: Sequence[int]) -> Array:
    """Axes backwards."""
    return jnp.flip(x, tuple(dims))


@register_operator("torch.pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Channels turned into a finer grid."""
    *batch, channels, height, width = x.shape
    r = upscale_factor
    y = x.reshape(*batch, channels // r**2, r, r, height, width)
    y = jnp.moveaxis(y, (-4, -3), (-3, -1))
    return y.reshape(*batch, channels // r**2, height * r, width * r)


@register_operator("torch.pixel_unshuffle")
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """A grid turned into more channels of a coarser one."""
    *batch, channels, height, width = x.shape
    r = downscale_factor
    y = jnp.moveaxis(x.reshape(*batch, channels, height // r, r, width // r, r), (-3, -1), (-4, -3))
    return y.reshape(*batch, channels * r**2, height // r, width // r)


@register_operator("torch.channel_shuffle")
def channel_shuffle(x: Array, groups: int) -> Array:
    """Channels, which are axis 1, taken from the groups in turn."""
    parts = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)


@register_operator("torch.diag")
def diag(x: Array, diagonal: int = 0) -> Array:
    """The diagonal of a matrix, or a matrix of a diagonal."""
    return jnp.diag(x, diagonal)


@register_operator("torch.rot90")
def rot90(x: Array, k: int = 1, dims: Sequence[int] = (0, 1)) -> Array:
    """Quarter turns in the plane of two axes."""
    return jnp.rot90(x, k, (dims[0], dims[1]))


@register_operator("torch.fliplr")
def fliplr(x: Array) -> Array:
    """The second axis backwards."""
    return jnp.flip(x, 1)


@register_operator("torch.flipud")
def flipud(x: Array) -> Array:
    """The first axis backwards."""
    return jnp.flip(x, 0)


@register_operator("torch.column_stack")
def column_stack(tensors: list[Array]) -> Array:
    """Tensors beside each other, vectors as columns."""
    return cat([part.reshape(-1, 1) if part.ndim < 2 else part for part in tensors], 1)


@register_operator("torch.dstack")
def dstack(tensors: list[Array]) -> Array:
    """Tensors behind each other, along the third axis."""
    return cat([jnp.atleast_3d(part) for part in tensors], 2)


@register_operator("torch.diag_embed")
def diag_embed(x: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """The last axis as the diagonal of new matrices."""
    if (offset, dim1, dim2) != (0, -2, -1):
        raise Refused("other diagonals than the main one of the last two axes")
    return x[..., None] * jnp.eye(x.shape[-1], dtype=x.dtype).reshape((1,) * (x.ndim - 1) + (x.shape[-1],) * 2)


@register_operator("torch.cumsum")
def cumsum(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    """Sums up to each index of an axis."""
    return jnp.cumsum(summable(x, dtype), dim)


@register_operator("torch.cumprod")
def cumprod(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    """Products up to each index of an axis."""
    return jnp.cumprod(summable(x, dtype), dim)


@register_operator("torch.diff")
def diff(x: Array, n: int = 1, dim: int = -1, prepend: Array | None = None, append: Array | None = None) -> Array:
    """Differences of neighbours."""
    return jnp.diff(x, n, dim, prepend, append)
