"""Elementwise arithmetic and comparisons with torch's type promotion."""

from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import DEFAULT_FLOAT, convert, default_int, dtype_of_code, is_inexact, result_type
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import OperatorError


def cast(value: Any, dtype: Any) -> Array:
    """Convert a number or an array to an array of `dtype`."""
    return jnp.asarray(value, dtype) if not hasattr(value, "astype") else value.astype(dtype)


def aligned(*arrays: Array) -> list[Array]:
    """Add leading axes so that all arrays have the same number of axes; scalars are not changed."""
    rank = max(array.ndim for array in arrays)
    return [a if a.ndim in (0, rank) else a.reshape((1,) * (rank - a.ndim) + a.shape) for a in arrays]


def operands(*values: Any, real: bool = False) -> list[Array]:
    """Convert operands to torch's result type and add axes for broadcasting; `real` converts integers to floats."""
    dtype = result_type(*values)
    if real and not is_inexact(dtype):
        dtype = DEFAULT_FLOAT
    return aligned(*(cast(value, dtype) for value in values))


def as_float(x: Array) -> Array:
    """Convert integers and booleans to floats."""
    return x if is_inexact(x.dtype) else x.astype(DEFAULT_FLOAT)


def as_dtype(x: Array, dtype: int | None) -> Array:
    """Convert `x` to the dtype with torch's number `dtype`; `None` keeps the dtype."""
    return x if dtype is None else convert(x, dtype_of_code(dtype))


def as_sum_dtype(x: Array, dtype: int | None) -> Array:
    """Convert `x` to the dtype of sums: `dtype`, or torch's default integer for integers and booleans."""
    return as_dtype(x, dtype) if dtype is not None or is_inexact(x.dtype) else x.astype(default_int())


def scale(x: Array, factor: Any) -> Array:
    """`x` times a number, in the dtype of `x`."""
    return x if isinstance(factor, (int, float)) and factor == 1 else x * cast(factor, x.dtype)


def _check_alpha(alpha: Any, dtype: np.dtype) -> None:
    if (isinstance(alpha, bool) and dtype != np.bool_) or (not isinstance(alpha, int) and not is_inexact(dtype)):
        raise TypeError(f"the factor {alpha} is not valid for elements of {dtype}")


@register_operator("torch.add")
def add(x: Any, other: Any, alpha: Any = 1) -> Array:
    """x + alpha * other."""
    a, b = operands(x, other)
    _check_alpha(alpha, a.dtype)
    return a + scale(b, alpha)


@register_operator("torch.sub")
def sub(x: Any, other: Any, alpha: Any = 1) -> Array:
    """x - alpha * other."""
    if any(isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_ for value in (x, other)):
        raise TypeError("booleans cannot be subtracted")
    a, b = operands(x, other)
    _check_alpha(alpha, a.dtype)
    return a - scale(b, alpha)


register_operator("torch.rsub")(lambda x, other, alpha=1: sub(other, x, alpha))


@register_operator("torch.div")
def div(x: Any, other: Any, rounding_mode: str | None = None) -> Array:
    """Quotient of the elements; optionally rounded down (`floor`) or towards zero (`trunc`)."""
    if rounding_mode is None:
        a, b = operands(x, other, real=True)
        return a / b
    a, b = operands(x, other)
    if rounding_mode == "floor":
        return jnp.floor_divide(a, b)
    return jnp.trunc(a / b) if is_inexact(a.dtype) else lax.div(*jnp.broadcast_arrays(a, b))


register_operator("torch.floor_divide", "torch.floordiv")(lambda x, other: div(x, other, "floor"))


@register_operator("torch.pow")
def power(x: Any, exponent: Any) -> Array:
    """x ** exponent."""
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        dtype = result_type(x, exponent)
        if is_inexact(dtype):
            if exponent == 0.5:
                return jnp.sqrt(cast(x, dtype))
            if float(exponent).is_integer() and abs(exponent) <= 64:
                return lax.integer_pow(cast(x, dtype), int(exponent))
        elif exponent < 0:
            raise OperatorError("integers to a negative power")
    return jnp.power(*operands(x, exponent))


@register_operator("torch.clamp")
def clamp(x: Array, min: Any = None, max: Any = None) -> Array:
    """Clip elements to two bounds."""
    bounds = [bound for bound in (min, max) if bound is not None]
    dtype = result_type(x, *bounds)
    y = x.astype(dtype)
    if min is not None:
        y = jnp.maximum(*aligned(y, cast(min, dtype)))
    return y if max is None else jnp.minimum(*aligned(y, cast(max, dtype)))


register_operator("torch.clamp_min")(lambda x, min: clamp(x, min))
register_operator("torch.clamp_max")(lambda x, max: clamp(x, None, max))


@register_operator("torch.where")
def where(condition: Array, x: Any, other: Any) -> Array:
    """`x` where the condition is true, otherwise `other`."""
    a, b = operands(x, other)
    condition, a, b = aligned(condition.astype(bool), a, b)
    return jnp.where(condition, a, b)


@register_operator("torch.masked_fill")
def masked_fill(x: Array, mask: Array, value: Any) -> Array:
    """`x` with `value` where the mask is true."""
    if mask.dtype != jnp.bool_:
        raise OperatorError(f"a mask of {mask.dtype} instead of booleans")
    mask, x = aligned(mask, x)
    return jnp.where(mask, cast(value, x.dtype), x)


for _name, _compute in {
    "mul": jnp.multiply,
    "remainder": jnp.remainder,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "__and__": jnp.bitwise_and,
    "__or__": jnp.bitwise_or,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
}.items():
    register_operator(f"torch.{_name}")(lambda x, other, _compute=_compute: _compute(*operands(x, other)))

for _name, _compute in {
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
}.items():
    register_operator(f"torch.{_name}")(lambda x, other, _compute=_compute: _compute(*aligned(x, other)))

register_operator("torch.bitwise_not")(lambda x: jnp.bitwise_not(x))
register_operator("torch.logical_not")(lambda x: jnp.logical_not(x))
register_operator("torch.atan2")(lambda x, other: jnp.arctan2(*operands(x, other, real=True)))
