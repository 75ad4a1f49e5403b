"""Concatenation, repetition and reordering of elements, and indexing by tensors.

An index out of range raises an error in torch. JAX cannot check indices while it traces: such an index reads NaN (for
integers, the smallest number) and writes nothing.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import result_type
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.operators.views import axis_of
from jaxvoice.torchscript.tensors import OperatorError, traced


@register_operator("torch.cat")
def cat(tensors: list[Array], dim: int = 0) -> Array:
    """Concatenate tensors along an axis, ignoring tensors of shape (0,)."""
    dtype = result_type(*tensors)
    parts = [part for part in tensors if part.shape != (0,)] or tensors[:1]
    return jnp.concatenate([part.astype(dtype) for part in parts], axis_of(dim, parts[0].ndim))


@register_operator("torch.stack")
def stack(tensors: list[Array], dim: int = 0) -> Array:
    """Stack tensors along a new axis."""
    dtype = result_type(*tensors)
    return jnp.stack([part.astype(dtype) for part in tensors], axis_of(dim, tensors[0].ndim + 1))


@register_operator("torch.repeat_interleave")
def repeat_interleave(x: Array, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Repeat each index of an axis. `repeats` must be known unless `output_size` is given."""
    if dim is None:
        x, dim = x.reshape(-1), 0
    if isinstance(repeats, int):
        return jnp.repeat(x, repeats, axis_of(dim, x.ndim))
    if output_size is None and traced(repeats):
        raise OperatorError("the length of the result depends on the inputs; pass output_size")
    total = int(np.asarray(repeats).sum()) if output_size is None else output_size
    return jnp.repeat(x, repeats, axis_of(dim, x.ndim), total_repeat_length=total)


@register_operator("torch.roll")
def roll(x: Array, shifts: Any, dims: Any = ()) -> Array:
    """Roll elements along axes."""
    shifts = shifts if isinstance(shifts, list) else [shifts]
    dims = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    return jnp.roll(x, shifts, dims) if dims else jnp.roll(x.reshape(-1), shifts[0]).reshape(x.shape)


@register_operator("torch.pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Rearrange channels to a finer grid."""
    *batch, channels, height, width = x.shape
    r = upscale_factor
    y = jnp.moveaxis(x.reshape(*batch, channels // r**2, r, r, height, width), (-4, -3), (-3, -1))
    return y.reshape(*batch, channels // r**2, height * r, width * r)


register_operator("torch.tril")(lambda x, diagonal=0: jnp.tril(x, diagonal))
register_operator("torch.triu")(lambda x, diagonal=0: jnp.triu(x, diagonal))
register_operator("torch.repeat", "torch.tile")(lambda x, repeats: jnp.tile(x, tuple(repeats)))
register_operator("torch.flip")(lambda x, dims: jnp.flip(x, tuple(dims)))


# Indices that are tensors


def _check_index(index: Array, length: int) -> Array:
    """Check an index of integers; raises `IndexError` for known values out of range."""
    if jnp.issubdtype(index.dtype, jnp.floating):
        raise OperatorError(f"an index of {index.dtype}")
    if not traced(index) and index.size:
        values = np.asarray(index)
        if values.min() < -length or values.max() >= length:
            raise IndexError(
                f"indices from {values.min()} to {values.max()} are out of range for an axis with {length} elements"
            )
    return index


def _indices(x: Array, indices: list[Array | None]) -> tuple[Any, ...]:
    """Convert indices to JAX's form; masks of known values become indices."""
    found: list[Any] = []
    for index in indices:
        if index is None:
            found.append(slice(None))
        elif index.dtype in (jnp.bool_, jnp.uint8):
            if traced(index):
                raise OperatorError("a mask that depends on the inputs selects an unknown number of elements")
            found.extend(np.nonzero(np.asarray(index)))
        else:
            found.append(_check_index(index, x.shape[len(found)]))
    return tuple(found)


@register_operator("torch.index")
def index(x: Array, indices: list[Array | None]) -> Array:
    """`x[indices]`."""
    return x.at[_indices(x, indices)].get(mode="fill", fill_value=None)


@register_operator("torch.index_put")
def index_put(x: Array, indices: list[Array | None], values: Array, accumulate: bool = False) -> Array:
    """`x` after `x[indices] = values`, or `x[indices] += values` with `accumulate`."""
    values = cast(values, x.dtype)
    masks = [i for i in indices if i is not None and i.dtype in (jnp.bool_, jnp.uint8)]
    if len(masks) == 1 and traced(masks[0]) and len(indices) == 1 and not accumulate:
        mask = masks[0].astype(bool)
        if values.size != 1:
            raise OperatorError("several values are assigned to a mask that depends on the inputs")
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(mask, values.reshape(()), x)
    where = _indices(x, indices)
    target = jax.eval_shape(lambda a: a[where], x).shape
    values = jnp.broadcast_to(values.reshape((1,) * (len(target) - values.ndim) + values.shape), target)
    return x.at[where].add(values) if accumulate else x.at[where].set(values)


@register_operator("torch.index_select")
def index_select(x: Array, dim: int, index: Array) -> Array:
    """Select indices of an axis."""
    dim = axis_of(dim, x.ndim)
    return jnp.take(x, _check_index(index.reshape(-1), x.shape[dim]), dim, mode="fill")


@register_operator("torch.embedding")
def embedding(
    weight: Array, indices: Array, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Array:
    """Select rows of a table."""
    return jnp.take(weight, _check_index(indices, weight.shape[0]), 0, mode="fill")


@register_operator("torch.gather")
def gather(x: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    """Gather elements along an axis; `index` has the shape of the result."""
    dim = axis_of(dim, x.ndim)
    # In torch, the other axes of the index may be shorter.
    x = x[tuple(slice(None) if d == dim else slice(0, n) for d, n in enumerate(index.shape))]
    return jnp.take_along_axis(x, _check_index(index, x.shape[dim]), dim, mode="fill")


def _scatter_indices(x: Array, dim: int, index: Array) -> tuple[Array, ...]:
    dim = axis_of(dim, x.ndim)
    indices = list(jnp.indices(index.shape, sparse=True))
    indices[dim] = _check_index(index, x.shape[dim])
    return tuple(indices)


@register_operator("torch.scatter")
def scatter(x: Array, dim: int, index: Array, src: Any = None, *, value: Any = None) -> Array:
    """`x` with elements of `src`, or one value, at indices of an axis."""
    src = value if src is None else src
    if hasattr(src, "shape") and src.ndim:
        src = src[tuple(slice(0, n) for n in index.shape)]
    return x.at[_scatter_indices(x, dim, index)].set(cast(src, x.dtype))
