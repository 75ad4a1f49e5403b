"""Reading and writing elements by indices that are tensors.

An index beyond the end, which torch refuses, reads NaN (the smallest number, for whole ones) and writes nothing, for
JAX cannot look at an index while it traces.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_inexact
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.operators.views import axis_of
from jaxvoice.torchscript.tensors import Refused, traced


def _checked(index: Array, length: int) -> Array:
    """An index of whole numbers; known values beyond the end are refused."""
    if jnp.issubdtype(index.dtype, jnp.floating):
        raise Refused(f"an index of {index.dtype}")
    if not traced(index) and index.size:
        values = np.asarray(index)
        if values.min() < -length or values.max() >= length:
            raise IndexError(f"an index from {values.min()} to {values.max()} of an axis with {length} elements")
    return index


def _whole(x: Array, indices: list[Array | None]) -> tuple[Any, ...]:
    """Indices as JAX takes them; masks of known values become indices."""
    found: list[Any] = []
    for index in indices:
        if index is None:
            found.append(slice(None))
        elif index.dtype in (jnp.bool_, jnp.uint8):
            if traced(index):
                raise Refused("a mask that depends on the inputs selects elements, so their number is not known")
            found.extend(np.nonzero(np.asarray(index)))
        else:
            found.append(_checked(index, x.shape[len(found)]))
    return tuple(found)


@register_operator("torch.index")
def index(x: Array, indices: list[Array | None]) -> Array:
    """`x[indices]`."""
    return x.at[_whole(x, indices)].get(mode="fill", fill_value=None)


@register_operator("torch.index_put")
def index_put(x: Array, indices: list[Array | None], values: Array, accumulate: bool = False) -> Array:
    """`x` with `x[indices] = values`, or with the values added."""
    values = cast(values, x.dtype)
    masks = [i for i in indices if i is not None and i.dtype in (jnp.bool_, jnp.uint8)]
    if len(masks) == 1 and traced(masks[0]) and len(indices) == 1 and not accumulate:
        mask = masks[0].astype(bool)
        if values.size != 1:
            raise Refused("several values go where a mask that depends on the inputs holds; how many is not known")
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(mask, values.reshape(()), x)
    where = _whole(x, indices)
    target = jax.eval_shape(lambda a: a[where], x).shape
    values = jnp.broadcast_to(values.reshape((1,) * (len(target) - values.ndim) + values.shape), target)
    return x.at[where].add(values) if accumulate else x.at[where].set(values)


@register_operator("torch.index_select")
def index_select(x: Array, dim: int, index: Array) -> Array:
    """The indices of an axis that a list names."""
    dim = axis_of(dim, x.ndim)
    return jnp.take(x, _checked(index.reshape(-1), x.shape[dim]), dim, mode="fill")


@register_operator("torch.embedding")
def embedding(
    weight: Array, indices: Array, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Array:
    """Rows of a table."""
    return jnp.take(weight, _checked(indices, weight.shape[0]), 0, mode="fill")


@register_operator("torch.take")
def take(x: Array, index: Array) -> Array:
    """The elements that an index into all of them names."""
    return jnp.take(x.reshape(-1), _checked(index, x.size), mode="fill")


@register_operator("torch.embedding_bag")
def embedding_bag(
    weight: Array,
    indices: Array,
    offsets: Array,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Array, None, None, None]:
    """Sum, mean or largest of the rows of a table in each bag; what torch keeps for derivatives is left out."""
    count = offsets.shape[0] - include_last_offset
    bags = jnp.searchsorted(offsets[:count], jnp.arange(indices.shape[0], dtype=offsets.dtype), side="right") - 1
    rows = jnp.take(weight, _checked(indices, weight.shape[0]), 0, mode="fill")
    rows = rows if per_sample_weights is None else rows * per_sample_weights[:, None]
    kept = jnp.ones(indices.shape, bool) if padding_idx is None else indices != padding_idx % weight.shape[0]
    sizes = jnp.zeros(count, rows.dtype).at[bags].add(kept.astype(rows.dtype))[:, None]
    if mode == 2:
        low = jnp.full((count, rows.shape[1]), -jnp.inf, rows.dtype)
        tops = low.at[bags].max(jnp.where(kept[:, None], rows, cast(-jnp.inf, rows.dtype)))
        return jnp.where(sizes > 0, tops, cast(0, rows.dtype)), None, None, None
    sums = (
        jnp.zeros((count, rows.shape[1]), rows.dtype).at[bags].add(jnp.where(kept[:, None], rows, cast(0, rows.dtype)))
    )
    return sums if mode == 0 else sums / jnp.maximum(sizes, cast(1, sizes.dtype)), None, None, None


@register_operator("torch.gather")
def gather(x: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    """Along an axis, the element that an index of the result's shape names."""
    dim = axis_of(dim, x.ndim)
    # torch lets the other axes of the index be shorter.
    x = x[tuple(slice(None) if d == dim else slice(0, n) for d, n in enumerate(index.shape))]
    return jnp.take_along_axis(x, _checked(index, x.shape[dim]), dim, mode="fill")


@register_operator("torch.take_along_dim")
def take_along_dim(x: Array, indices: Array, dim: int | None = None) -> Array:
    """Along an axis, the elements that indices name; other axes broadcast."""
    if dim is None:
        return jnp.take_along_axis(x.reshape(-1), _checked(indices.reshape(-1), x.size), 0, mode="fill")
    return jnp.take_along_axis(x, _checked(indices, x.shape[dim]), axis_of(dim, x.ndim), mode="fill")


def _places(x: Array, dim: int, index: Array) -> tuple[Array, ...]:
    dim = axis_of(dim, x.ndim)
    places = list(jnp.indices(index.shape, sparse=True))
    places[dim] = _checked(index, x.shape[dim])
    return tuple(places)


@register_operator("torch.scatter")
def scatter(
    x: Array, dim: int, index: Array, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Array:
    """`x` with elements of `src`, or one value, where an index along an axis says."""
    if reduce is not None:
        raise Refused(f"reduction by {reduce!r}")
    src = value if src is None else src
    if hasattr(src, "shape") and src.ndim:
        src = src[tuple(slice(0, n) for n in index.shape)]
    return x.at[_places(x, dim, index)].set(cast(src, x.dtype))


@register_operator("torch.scatter_add")
def scatter_add(x: Array, dim: int, index: Array, src: Array) -> Array:
    """`x` with elements of `src` added where an index along an axis says."""
    return x.at[_places(x, dim, index)].add(src[tuple(slice(0, n) for n in index.shape)])


@register_operator("torch.scatter_reduce")
def scatter_reduce(x: Array, dim: int, index: Array, src: Array, reduce: str, *, include_self: bool = True) -> Array:
    """`x` reduced with the elements of `src` that an index along an axis sends to each place."""
    places = _places(x, dim, index)
    src = src[tuple(slice(0, n) for n in index.shape)]
    hits = jnp.zeros(x.shape, jnp.int32).at[places].add(1)
    kind = jnp.finfo if is_inexact(x.dtype) else jnp.iinfo
    starts: dict[str, Any] = {"sum": 0, "mean": 0, "prod": 1}
    if reduce in ("amax", "amin"):
        infinite = -jnp.inf if reduce == "amax" else jnp.inf
        edge = kind(x.dtype).min if reduce == "amax" else kind(x.dtype).max
        starts[reduce] = infinite if is_inexact(x.dtype) else edge
    if reduce not in starts:
        raise Refused(f"reduction by {reduce!r}")
    start = x if include_self else jnp.where(hits > 0, cast(starts[reduce], x.dtype), x)
    at = start.at[places]
    methods = {"sum": at.add, "mean": at.add, "prod": at.multiply, "amax": at.max, "amin": at.min}
    y = methods[reduce](src)
    if reduce != "mean":
        return y
    counts = cast(jnp.maximum(hits + int(include_self), 1), x.dtype)
    return y / counts if is_inexact(x.dtype) else jnp.floor_divide(y, counts)


@register_operator("torch.index_add")
def index_add(x: Array, dim: int, index: Array, source: Array, *, alpha: Any = 1) -> Array:
    """`x` with slices of `source` added at the indices of an axis."""
    where = (slice(None),) * axis_of(dim, x.ndim) + (_checked(index, x.shape[dim]),)
    return x.at[where].add(source * cast(alpha, x.dtype))


@register_operator("torch.index_copy")
def index_copy(x: Array, dim: int, index: Array, source: Array) -> Array:
    """`x` with slices of `source` at the indices of an axis."""
    return x.at[(slice(None),) * axis_of(dim, x.ndim) + (_checked(index, x.shape[dim]),)].set(source)


@register_operator("torch.index_fill")
def index_fill(x: Array, dim: int, index: Array, value: Any) -> Array:
    """`x` with one value at the indices of an axis."""
    where = (slice(None),) * axis_of(dim, x.ndim) + (_checked(index, x.shape[dim]),)
    return x.at[where].set(cast(value, x.dtype))


@register_operator("torch.masked_select")
def masked_select(x: Array, mask: Array) -> Array:
    """The elements where a mask of known values holds."""
    if traced(mask):
        raise Refused("a mask that depends on the inputs selects elements, so their number is not known")
    shape = np.broadcast_shapes(x.shape, mask.shape)
    return jnp.broadcast_to(x, shape)[np.nonzero(np.broadcast_to(np.asarray(mask), shape))]


@register_operator("torch.nonzero")
def nonzero(x: Array) -> Array:
    """Indices of the elements that are not zero, where the values are known."""
    if traced(x):
        raise Refused("it depends on the inputs how many elements are not zero")
    return jnp.argwhere(x)
