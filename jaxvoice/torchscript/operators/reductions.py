"""Sums, means, extrema and norms over axes; cumulative sums and sorting."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import default_int, is_inexact
from jaxvoice.torchscript.operators.arithmetic import as_dtype, as_sum_dtype, cast, operands
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import OperatorError

Axes = int | list[int] | None


def _axes(dim: Axes) -> tuple[int, ...] | int | None:
    """Convert axes to JAX's form; None and an empty list mean all axes."""
    return (tuple(dim) or None) if isinstance(dim, (list, tuple)) else dim


def _register_reduction(name: str, reduce: Callable[..., Array], prepare: Callable[[Array, int | None], Array]) -> None:
    @register_operator(f"torch.{name}")
    def reduction(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
        return reduce(prepare(x, dtype), _axes(dim), keepdims=keepdim)


def _inexact(x: Array, dtype: int | None) -> Array:
    x = as_dtype(x, dtype)
    if not is_inexact(x.dtype):
        raise OperatorError(f"the mean of {x.dtype}")
    return x


for _name, _reduce, _prepare in (
    ("sum", jnp.sum, as_sum_dtype),
    ("prod", jnp.prod, as_sum_dtype),
    ("mean", jnp.mean, _inexact),
    ("amax", jnp.max, as_dtype),
    ("amin", jnp.min, as_dtype),
    ("all", jnp.all, as_dtype),
    ("any", jnp.any, as_dtype),
    ("logsumexp", jax.nn.logsumexp, as_dtype),
):
    _register_reduction(_name, _reduce, _prepare)


@register_operator("torch.cumsum")
def cumsum(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    """Cumulative sum along an axis."""
    return jnp.cumsum(as_sum_dtype(x, dtype), dim)


@register_operator("torch.cumprod")
def cumprod(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    """Cumulative product along an axis."""
    return jnp.cumprod(as_sum_dtype(x, dtype), dim)


@register_operator("torch.var")
def var(
    x: Array,
    *args: Any,
    dim: Axes = None,
    unbiased: bool = True,
    correction: float | None = None,
    keepdim: bool = False,
) -> Array:
    """Variance over axes, unbiased by default. The first argument is `unbiased` or `dim`, depending on the overload."""
    if args and isinstance(args[0], bool):
        unbiased = args[0]
    else:
        defaults: tuple[Any, ...] = (dim, unbiased, keepdim)
        dim, unbiased, keepdim = (*args, *defaults[len(args) :])
    axes = _axes(dim)
    centred = x - jnp.mean(x, axes, keepdims=True)
    total = jnp.sum(jnp.real(centred * jnp.conj(centred)), axes, keepdims=keepdim)
    count = x.size if axes is None else math.prod(x.shape[d] for d in (axes if isinstance(axes, tuple) else (axes,)))
    freedom = count - (float(unbiased) if correction is None else correction)
    return total / jnp.asarray(max(0.0, freedom), total.dtype)


@register_operator("torch.std")
def std(x: Array, *args: Any, **kwargs: Any) -> Array:
    """Standard deviation over axes, unbiased by default."""
    return jnp.sqrt(var(x, *args, **kwargs))


def _register_extreme(name: str, extreme: Callable[..., Array], of_pairs: Callable[..., Array], place: Any) -> None:
    @register_operator(f"torch.arg{name}")
    def index(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
        """Index of the extremum; the first index if there are several."""
        return place(x, dim, keepdims=keepdim).astype(default_int())

    @register_operator(f"torch.{name}")
    def extreme_and_index(x: Array, dim: Any = None, keepdim: bool = False) -> Any:
        """The extremum of all elements, or of an axis with its index, or of each pair of elements."""
        if hasattr(dim, "shape"):
            return of_pairs(*operands(x, dim))
        return extreme(x) if dim is None else (extreme(x, dim, keepdims=keepdim), index(x, dim, keepdim))


_register_extreme("max", jnp.max, jnp.maximum, jnp.argmax)
_register_extreme("min", jnp.min, jnp.minimum, jnp.argmin)


@register_operator("torch.sort")
def sort(x: Array, *args: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """Sort along an axis; returns values and indices. The sort is stable."""
    given: tuple[Any, ...] = (dim, descending)
    dim, descending = (*args, *given[len(args) :])
    places = jnp.argsort(x, dim, descending=descending, stable=True).astype(default_int())
    return jnp.take_along_axis(x, places, dim), places


# Norms


def _vector_norm(x: Array, order: Any, axes: Any, keepdim: bool) -> Array:
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


@register_operator("torch.norm", "torch.linalg_vector_norm")
def norm(x: Array, ord: Any = 2, dim: Axes = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    """Norm over axes."""
    if isinstance(ord, str) and ord != "fro":
        raise OperatorError(f"the norm {ord!r}")
    return _vector_norm(as_dtype(x, dtype), 2 if ord in (None, "fro") else ord, _axes(dim), keepdim)


@register_operator("torch.norm_except_dim")
def norm_except_dim(v: Array, pow: int = 2, dim: int = 0) -> Array:
    """Norm over all axes except one; for -1, over all axes."""
    if dim == -1:
        return _vector_norm(v, pow, None, False)
    return _vector_norm(v, pow, tuple(d for d in range(v.ndim) if d != dim % v.ndim), True)


@register_operator("torch._weight_norm")
def weight_norm(v: Array, g: Array, dim: int = 0) -> Array:
    """g * v / ||v||, with the norm over all axes except one and without epsilon."""
    return v * (g / norm_except_dim(v, 2, dim))


@register_operator("torch.cosine_similarity")
def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """Cosine of the angle between vectors."""
    a, b = jnp.broadcast_arrays(x1, x2)
    floor = cast(eps, a.dtype)
    lengths = [jnp.maximum(_vector_norm(v, 2, dim, True), floor) for v in (a, b)]
    return jnp.sum((a / lengths[0]) * (b / lengths[1]), dim)
