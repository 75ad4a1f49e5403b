"""Sums, means, extremes and norms over axes; sorting."""

import math
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import default_int, is_inexact
from jaxvoice.torchscript.operators.arithmetic import as_real, cast, maximum, minimum, summable, typed
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused

Axes = int | list[int] | None


def axes_of(dim: Axes) -> tuple[int, ...] | int | None:
    """Axes as JAX takes them: none given, or an empty list, means all."""
    return (tuple(dim) or None) if isinstance(dim, (list, tuple)) else dim


@register_operator("torch.sum")
def sum_(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Sum over axes."""
    return jnp.sum(summable(x, dtype), axes_of(dim), keepdims=keepdim)


@register_operator("torch.mean")
def mean(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Mean over axes."""
    x = typed(x, dtype)
    if not is_inexact(x.dtype):
        raise Refused(f"the mean of {x.dtype}")
    return jnp.mean(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.nansum")
def nansum(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Sum over axes of what is not NaN."""
    return jnp.nansum(summable(x, dtype), axes_of(dim), keepdims=keepdim)


@register_operator("torch.nanmean")
def nanmean(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Mean over axes of what is not NaN."""
    return jnp.nanmean(typed(x, dtype), axes_of(dim), keepdims=keepdim)


@register_operator("torch.prod")
def prod(x: Array, dim: int | None = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Product over an axis."""
    return jnp.prod(summable(x, dtype), dim, keepdims=keepdim)


def _spread(args: tuple[Any, ...], unbiased: bool) -> tuple[Axes, float, bool]:
    """Axes, what is subtracted from the number of elements, and whether axes stay, of every overload."""
    if args and isinstance(args[0], bool):
        return None, float(args[0]), False
    defaults: tuple[Any, ...] = (None, unbiased, False)
    dim, subtract, keepdim = (*args, *defaults[len(args) :])
    return dim, float(subtract), keepdim


def _variance(x: Array, dim: Axes, correction: float, keepdim: bool) -> Array:
    axes = axes_of(dim)
    centred = x - jnp.mean(x, axes, keepdims=True)
    total = jnp.sum(jnp.real(centred * jnp.conj(centred)), axes, keepdims=keepdim)
    count = x.size if axes is None else math.prod(x.shape[d] for d in (axes if isinstance(axes, tuple) else (axes,)))
    return total / jnp.asarray(max(0.0, count - correction), total.dtype)


@register_operator("torch.var")
def var(
    x: Array,
    *args: Any,
    dim: Axes = None,
    unbiased: bool = True,
    correction: float | None = None,
    keepdim: bool = False,
) -> Array:
    """Variance over axes, from N - 1 elements unless told otherwise."""
    axes, subtract, keep = _spread(args, unbiased)
    axes = dim if axes is None else axes
    return _variance(x, axes, subtract if correction is None else float(correction), keep or keepdim)


@register_operator("torch.std")
def std(x: Array, *args: Any, **kwargs: Any) -> Array:
    """Standard deviation over axes, from N - 1 elements unless told otherwise."""
    return jnp.sqrt(var(x, *args, **kwargs))


def _mean_by(x: Array, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
    dim = kwargs.get("dim", args[0] if args and not isinstance(args[0], bool) else None)
    keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    return mean(x, dim, keep)


@register_operator("torch.var_mean")
def var_mean(x: Array, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
    """Variance and mean over axes."""
    return var(x, *args, **kwargs), _mean_by(x, args, kwargs)


@register_operator("torch.std_mean")
def std_mean(x: Array, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
    """Standard deviation and mean over axes."""
    return std(x, *args, **kwargs), _mean_by(x, args, kwargs)


@register_operator("torch.max")
def max_(x: Array, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest of all; or of an axis, with its index; or of each pair."""
    if hasattr(dim, "shape"):
        return maximum(x, dim)
    return jnp.max(x) if dim is None else (jnp.max(x, dim, keepdims=keepdim), argmax(x, dim, keepdim))


@register_operator("torch.min")
def min_(x: Array, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest of all; or of an axis, with its index; or of each pair."""
    if hasattr(dim, "shape"):
        return minimum(x, dim)
    return jnp.min(x) if dim is None else (jnp.min(x, dim, keepdims=keepdim), argmin(x, dim, keepdim))


@register_operator("torch.amax")
def amax(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """The largest over axes."""
    return jnp.max(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.amin")
def amin(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """The smallest over axes."""
    return jnp.min(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.aminmax")
def aminmax(x: Array, *, dim: int | None = None, keepdim: bool = False) -> tuple[Array, Array]:
    """The smallest and the largest."""
    return jnp.min(x, dim, keepdims=keepdim), jnp.max(x, dim, keepdims=keepdim)


@register_operator("torch.argmax")
def argmax(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Index of the largest; the first of several."""
    return jnp.argmax(x, dim, keepdims=keepdim).astype(default_int())


@register_operator("torch.argmin")
def argmin(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Index of the smallest; the first of several."""
    return jnp.argmin(x, dim, keepdims=keepdim).astype(default_int())


@register_operator("torch.all")
def all_(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """Whether all are true."""
    return jnp.all(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.any")
def any_(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """Whether one is true."""
    return jnp.any(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.count_nonzero")
def count_nonzero(x: Array, dim: Axes = None) -> Array:
    """How many are not zero."""
    return jnp.sum(x != cast(0, x.dtype), axes_of(dim), dtype=default_int())


@register_operator("torch.logsumexp")
def logsumexp(x: Array, dim: Axes, keepdim: bool = False) -> Array:
    """Logarithm of the sum of exponentials."""
    return jax.nn.logsumexp(x, axes_of(dim), keepdims=keepdim)


@register_operator("torch.median")
def median(x: Array, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the middle elements, with its index along an axis; NaN where there is one."""
    if dim is None:
        return median(x.reshape(-1), 0)[0]
    return _in_order(x, (x.shape[dim] - 1) // 2, dim, keepdim)


def _in_order(x: Array, rank: Any, dim: int, keepdim: bool) -> tuple[Array, Array]:
    """The element of a rank on an axis, with its index; the first NaN where there is one."""
    ranks = jnp.broadcast_to(
        jnp.asarray(rank, jnp.int32), [1 if d == dim % x.ndim else n for d, n in enumerate(x.shape)]
    )
    if is_inexact(x.dtype):
        # NaNs come last in order, the first of them after all numbers.
        empty = jnp.isnan(x)
        numbers = jnp.sum(~empty, dim, dtype=jnp.int32, keepdims=True)
        ranks = jnp.where(jnp.any(empty, dim, keepdims=True), numbers, ranks)
    values, places = sort(x, dim)
    pick = [jnp.take_along_axis(array, ranks, dim) for array in (values, places)]
    value, place = (array if keepdim else array.squeeze(dim) for array in pick)
    return value, place


@register_operator("torch.nanmedian")
def nanmedian(x: Array, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the middle elements that are not NaN, with its index along an axis."""
    if dim is None:
        return nanmedian(x.reshape(-1), 0)[0]
    numbers = jnp.sum(~jnp.isnan(as_real(x)), dim, dtype=jnp.int32, keepdims=True)
    values, places = sort(x, dim)
    pick = [jnp.take_along_axis(a, jnp.maximum(numbers - 1, 0) // 2, dim) for a in (values, places)]
    return tuple(array if keepdim else array.squeeze(dim) for array in pick)


@register_operator("torch.kthvalue")
def kthvalue(x: Array, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The k-th smallest of an axis, with its index."""
    if not 1 <= k <= x.shape[dim]:
        raise IndexError(f"element {k} of {x.shape[dim]} in order")
    values, places = sort(x, dim)
    pick = [jnp.take(array, jnp.asarray([k - 1]), dim, mode="clip") for array in (values, places)]
    value, place = (array if keepdim else array.squeeze(dim) for array in pick)
    return value, place


@register_operator("torch.sort")
def sort(x: Array, *args: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """An axis in order, with the indices of its elements."""
    given: tuple[Any, ...] = (dim, descending)
    dim, descending = (*args, *given[len(args) :])
    places = argsort(x, dim, descending)
    return jnp.take_along_axis(x, places, dim), places


@register_operator("torch.argsort")
def argsort(x: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """Indices that put an axis in order."""
    return jnp.argsort(x, dim, descending=descending, stable=True).astype(default_int())


@register_operator("torch.topk")
def topk(x: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """The largest or smallest elements of an axis, in order, with their indices."""
    values, places = sort(x, dim, largest)
    take = jnp.arange(k)
    return jnp.take(values, take, dim, mode="clip"), jnp.take(places, take, dim, mode="clip")


def vector_norm(x: Array, order: Any, axes: Any, keepdim: bool) -> Array:
    """Norm of vectors that lie along `axes`, of any order."""
    size = jnp.abs(x)
    if order == 2:
        return jnp.sqrt(jnp.sum(jnp.square(size), axes, keepdims=keepdim))
    if order == 1:
        return jnp.sum(size, axes, keepdims=keepdim)
    if math.isinf(order):
        return (jnp.max if order > 0 else jnp.min)(size, axes, keepdims=keepdim)
    if order == 0:
        return jnp.sum((size != 0).astype(size.dtype), axes, keepdims=keepdim)
    power = jnp.asarray(order, size.dtype)
    return jnp.power(jnp.sum(jnp.power(size, power), axes, keepdims=keepdim), 1 / power)


@register_operator("torch.norm")
def norm(x: Array, p: Any = 2, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Norm over axes."""
    if isinstance(p, str):
        if p != "fro":
            raise Refused(f"the norm {p!r}")
        p = 2
    return vector_norm(typed(x, dtype), 2 if p is None else p, axes_of(dim), keepdim)


@register_operator("torch.linalg_vector_norm")
def linalg_vector_norm(
    x: Array, ord: Any = 2, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None
) -> Array:
    """Norm of vectors."""
    return norm(x, ord, dim, keepdim, dtype=dtype)


@register_operator("torch.linalg_norm")
def linalg_norm(
    x: Array, ord: Any = None, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None
) -> Array:
    """Norm of vectors; of matrices only where it is the same as that of their elements."""
    vectors = isinstance(dim, int) or (isinstance(dim, list) and len(dim) == 1) or (dim is None and x.ndim == 1)
    if not vectors and ord not in (None, "fro"):
        raise Refused(f"the matrix norm {ord!r}")
    return norm(x, 2 if ord in (None, "fro") else ord, dim, keepdim, dtype=dtype)


@register_operator("torch.frobenius_norm")
def frobenius_norm(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """Root of the sum of squares over axes."""
    return norm(x, 2, dim, keepdim)


@register_operator("torch.norm_except_dim")
def norm_except_dim(v: Array, pow: int = 2, dim: int = 0) -> Array:
    """Norm over all axes but one; -1 stands for none to leave out."""
    if dim == -1:
        return vector_norm(v, pow, None, False)
    return vector_norm(v, pow, tuple(d for d in range(v.ndim) if d != dim % v.ndim), True)


@register_operator("torch._weight_norm")
def weight_norm(v: Array, g: Array, dim: int = 0) -> Array:
    """g * v / ||v||, the norm over all axes but one; no epsilon."""
    return v * (g / norm_except_dim(v, 2, dim))


@register_operator("torch._weight_norm_interface")
def weight_norm_interface(v: Array, g: Array, dim: int = 0) -> tuple[Array, Array]:
    """The same, and the norm."""
    return weight_norm(v, g, dim), norm_except_dim(v, 2, dim)


@register_operator("torch.cosine_similarity")
def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """Cosine of the angle between vectors."""
    a, b = jnp.broadcast_arrays(x1, x2)
    floor = cast(eps, a.dtype)
    lengths = [jnp.maximum(vector_norm(v, 2, dim, True), floor) for v in (a, b)]
    return jnp.sum((a / lengths[0]) * (b / lengths[1]), dim)


@register_operator("torch.pairwise_distance")
def pairwise_distance(x1: Array, x2: Array, p: float = 2, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """Distance of vectors on the last axis."""
    return vector_norm(x1 - x2 + cast(eps, x1.dtype), p, -1, keepdim)
