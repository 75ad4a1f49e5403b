"""Where values lie: in sorted numbers, among others, in bins, in order."""

from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import FLOAT, default_int, is_inexact, result_type
from jaxvoice.torchscript.operators.arithmetic import aligned, as_real, cast, operands
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.tensors import Refused, Tensor, number_of, traced


@register_operator("torch.searchsorted")
def searchsorted(
    sorted_sequence: Array,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array | None = None,
) -> Array:
    """Where values would go in the last axis of sorted numbers, before or after equal ones."""
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, -1)
    dtype = result_type(sorted_sequence, values)
    rows, wanted = sorted_sequence.astype(dtype), cast(values, dtype)
    after = side == "right" if side is not None else right

    def places(row: Array, these: Array) -> Array:
        return jnp.searchsorted(row, these, side="right" if after else "left")

    if rows.ndim == 1:
        found = places(rows, wanted.reshape(-1)).reshape(wanted.shape)
    else:
        flat = rows.reshape(-1, rows.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
        found = jax.vmap(places)(*flat).reshape(wanted.shape)
    return found.astype(jnp.int32 if out_int32 else default_int())


@register_operator("torch.bucketize")
def bucketize(values: Any, boundaries: Array, *, out_int32: bool = False, right: bool = False) -> Array:
    """The bin of each value between sorted bounds."""
    return searchsorted(boundaries, values, out_int32=out_int32, right=right)


@register_operator("torch.isin")
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Array:
    """Whether each element is among others."""
    dtype = result_type(elements, test_elements)
    values, others = cast(elements, dtype), cast(test_elements, dtype).reshape(-1)
    found = jnp.any(values[..., None] == others.reshape((1,) * values.ndim + (-1,)), -1)
    return ~found if invert else found


@register_operator("torch.isclose")
def isclose(a: Array, b: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether two numbers are as good as equal."""
    a, b = operands(a, b)
    x, y = as_real(a), as_real(b)
    near = jnp.isfinite(y) & (jnp.abs(x - y) <= cast(atol, x.dtype) + cast(rtol, x.dtype) * jnp.abs(y))
    same = (a == b) | near
    return same | (jnp.isnan(x) & jnp.isnan(y)) if equal_nan else same


@on_tensors("torch.allclose")
def allclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all numbers are as good as equal, where the values are known."""
    return number_of(Tensor(jnp.all(isclose(a.values, b.values, rtol, atol, equal_nan))), bool)


@on_tensors("torch.equal")
def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape and the same elements, where the values are known."""
    return a.shape == b.shape and number_of(Tensor(jnp.all(jnp.equal(*operands(a.values, b.values)))), bool)


@register_operator("torch.bincount")
def bincount(x: Array, weights: Array | None = None, minlength: int = 0) -> Array:
    """How often each whole number comes, where the values are known."""
    if traced(x):
        raise Refused("the largest of the values decides the length of the result")
    length = max(minlength, int(np.asarray(x).max(initial=-1)) + 1)
    if weights is None:
        return jnp.zeros(length, default_int()).at[x].add(1)
    dtype = weights.dtype if weights.dtype == FLOAT else jax.dtypes.canonicalize_dtype(np.float64)
    return jnp.zeros(length, dtype).at[x].add(weights.astype(dtype))


@register_operator("torch.histc")
def histc(x: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """How many elements fall into bins of one width, from the smallest to the largest where no bounds are given."""
    x = x.reshape(-1)
    low, high = (cast(bound, x.dtype) for bound in (min, max))
    if min == max:
        low, high = jnp.min(x), jnp.max(x)
        flat = low == high
        low, high = jnp.where(flat, low - 1, low), jnp.where(flat, high + 1, high)
    inside = (x >= low) & (x <= high)
    places = jnp.floor((x - low) / (high - low) * cast(bins, x.dtype)).astype(jnp.int32)
    return jnp.zeros(bins, x.dtype).at[jnp.clip(places, 0, bins - 1)].add(inside.astype(x.dtype))


def _at_nearest_rank(x: Array, q: Array, dim: int | None, *, skip: bool) -> Array:
    """The quantile of the nearest rank, of two the even one; `skip` leaves NaN out."""
    rows = jnp.sort(x.reshape(-1) if dim is None else jnp.moveaxis(x, dim, -1), -1)
    last = rows.shape[-1] - 1
    holes = jnp.sum(jnp.isnan(rows), -1, dtype=jnp.int32)  # NaN is sorted to the end
    top = jnp.maximum(last - holes, 0) if skip else jnp.full_like(holes, last)
    ranks = q.reshape(q.shape + (1,) * top.ndim) * top.astype(x.dtype).reshape((1,) * q.ndim + top.shape)
    places = jnp.round(ranks).astype(jnp.int32)
    if not skip:
        places = jnp.where((holes > 0).reshape((1,) * q.ndim + top.shape), last, places)
    wide = jnp.broadcast_to(rows.reshape((1,) * q.ndim + rows.shape), q.shape + rows.shape)
    return jnp.take_along_axis(wide, places[..., None], -1)[..., 0]


def _register_quantile(name: str, compute: Any) -> None:
    @register_operator(f"torch.{name}")
    def quantile(
        x: Array, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Array:
        """What so large a part of an axis lies below."""
        part = cast(q, x.dtype)
        if interpolation == "nearest":
            y = _at_nearest_rank(x, part, dim, skip=name == "nanquantile")
        else:
            y = compute(x, part, axis=dim, method=interpolation)
        if not keepdim:
            return y
        shape = [1] * x.ndim if dim is None else [1 if d == dim % x.ndim else n for d, n in enumerate(x.shape)]
        return y.reshape((*getattr(q, "shape", ()), *shape))


_register_quantile("quantile", jnp.quantile)
_register_quantile("nanquantile", jnp.nanquantile)


def _register_extreme(name: str, wins: Any) -> None:
    @register_operator(f"torch.{name}")
    def cumulative(x: Array, dim: int) -> tuple[Array, Array]:
        """The most extreme up to each index of an axis, with the last index it is at."""
        if not x.ndim:
            return x, jnp.zeros((), default_int())
        dim = dim % x.ndim

        def later(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
            taken = wins(b[0], a[0])
            if is_inexact(x.dtype):
                taken = (taken & ~jnp.isnan(a[0])) | jnp.isnan(b[0])
            return jnp.where(taken, b[0], a[0]), jnp.where(taken, b[1], a[1])

        return lax.associative_scan(later, (x, lax.broadcasted_iota(default_int(), x.shape, dim)), axis=dim)


_register_extreme("cummax", jnp.greater_equal)
_register_extreme("cummin", jnp.less_equal)


@register_operator("torch.logcumsumexp")
def logcumsumexp(x: Array, dim: int) -> Array:
    """Logarithm of the sums of exponentials up to each index of an axis."""
    return lax.cumlogsumexp(x, dim % x.ndim) if x.ndim else x


@register_operator("torch.masked_scatter")
def masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    """`x` with the elements of `source`, one after another, where the mask holds."""
    if not traced(mask) and int(np.asarray(mask).sum()) * (x.size // max(mask.size, 1)) > source.size:
        raise ValueError(f"a mask that holds more often than there are elements, {source.size}")
    where = jnp.broadcast_to(aligned(mask, x)[0] if mask.ndim else mask, jnp.broadcast_shapes(mask.shape, x.shape))
    x = jnp.broadcast_to(x, where.shape)
    places = (jnp.cumsum(where.reshape(-1), dtype=jnp.int32) - 1).reshape(where.shape)
    return jnp.where(where, jnp.take(source.reshape(-1).astype(x.dtype), jnp.maximum(places, 0), mode="fill"), x)
