"""Functions of each element."""

from typing import Any

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_complex, is_float, is_inexact
from jaxvoice.torchscript.operators.arithmetic import as_real, cast, operands
from jaxvoice.torchscript.operators.registry import register_operator


def _trunc(x: Array) -> Array:
    return x if not is_inexact(x.dtype) else jnp.trunc(x)


def _sign(x: Array) -> Array:
    y = jnp.sign(x)
    # Of NaN, torch has 0.
    return jnp.where(jnp.isnan(x), jnp.zeros_like(y), y) if is_float(x.dtype) else y


# Functions that keep the type of whole numbers.
for _name, _compute in {
    "neg": jnp.negative,
    "negative": jnp.negative,
    "abs": jnp.abs,
    "absolute": jnp.abs,
    "sign": _sign,
    "sgn": _sign,
    "square": jnp.square,
    "relu": jax.nn.relu,
    "floor": lambda x: jnp.floor(x) if is_inexact(x.dtype) else x,
    "ceil": lambda x: jnp.ceil(x) if is_inexact(x.dtype) else x,
    "trunc": _trunc,
    "fix": _trunc,
    "frac": lambda x: x - _trunc(x),
    "conj_physical": jnp.conj,
}.items():
    register_operator(f"torch.{_name}")(lambda x, _compute=_compute: _compute(x))


@register_operator("torch.round")
def round_(x: Array, *, decimals: int = 0) -> Array:
    """The nearest whole number, the even one of two."""
    if not is_inexact(x.dtype):
        return x
    factor = jnp.asarray(10.0**decimals, x.dtype)
    return jnp.round(x * factor) / factor if decimals else jnp.round(x)


# Functions that make floats of whole numbers.
for _name, _compute in {
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": jnp.tanh,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "sigmoid": jax.nn.sigmoid,
    "reciprocal": jnp.reciprocal,
    "sinc": jnp.sinc,
    "deg2rad": jnp.deg2rad,
    "rad2deg": jnp.rad2deg,
    "lgamma": lax.lgamma,
    "digamma": lax.digamma,
    "erfinv": lax.erf_inv,
    "i0": jax.scipy.special.i0,
    "special_i0e": jax.scipy.special.i0e,
    "special_i1": jax.scipy.special.i1,
    "special_expit": jax.nn.sigmoid,
    "special_erfinv": lax.erf_inv,
}.items():
    register_operator(f"torch.{_name}", *([f"torch.arc{_name[1:]}"] if _name[:1] == "a" else []))(
        lambda x, _compute=_compute: _compute(as_real(x))
    )

register_operator("torch.isnan")(lambda x: jnp.isnan(as_real(x)))
register_operator("torch.isinf")(lambda x: jnp.isinf(as_real(x)))
register_operator("torch.isfinite")(lambda x: jnp.isfinite(as_real(x)))
register_operator("torch.angle")(lambda x: jnp.angle(as_real(x)))
register_operator("torch.signbit")(lambda x: jnp.signbit(x) if is_inexact(x.dtype) else x < cast(0, x.dtype))


@register_operator("torch.nan_to_num")
def nan_to_num(x: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Array:
    """`x` with numbers in the place of NaN and infinity."""
    return jnp.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@register_operator("torch.logit", "torch.special_logit")
def logit(x: Array, eps: float | None = None) -> Array:
    """log(x / (1 - x)), of numbers at least `eps` from 0 and 1."""
    x = as_real(x)
    if eps is not None:
        x = jnp.clip(x, cast(eps, x.dtype), cast(1 - eps, x.dtype))
    return jnp.log(x / (1 - x))


@register_operator("torch.xlogy", "torch.special_xlogy")
def xlogy(x: Any, other: Any) -> Array:
    """x * log(other), 0 where x is."""
    a, b = operands(x, other, real=True)
    none = (a == 0) & ~jnp.isnan(b)
    return jnp.where(none, cast(0, a.dtype), a * jnp.log(jnp.where(none, cast(1, b.dtype), b)))


@register_operator("torch.logaddexp")
def logaddexp(x: Array, other: Array) -> Array:
    """Logarithm of the sum of two exponentials."""
    return jnp.logaddexp(*operands(x, other))


@register_operator("torch.logaddexp2")
def logaddexp2(x: Array, other: Array) -> Array:
    """The same to base 2."""
    return jnp.logaddexp2(*operands(x, other))


@register_operator("torch.copysign")
def copysign(x: Array, other: Any) -> Array:
    """The magnitude of x with the sign of another."""
    return jnp.copysign(*operands(x, other, real=True))


@register_operator("torch.heaviside")
def heaviside(x: Array, values: Array) -> Array:
    """0 below 0, 1 above, and a value at 0."""
    a, b = operands(x, values)
    return jnp.where(a == 0, b, (a > 0).astype(a.dtype))


@register_operator("torch.complex")
def complex_(real: Array, imag: Array) -> Array:
    """Complex numbers from their two parts."""
    return lax.complex(*jnp.broadcast_arrays(*operands(real, imag)))


@register_operator("torch.polar")
def polar(magnitude: Array, angle: Array) -> Array:
    """Complex numbers from magnitude and angle."""
    magnitude, angle = operands(magnitude, angle)
    return lax.complex(*jnp.broadcast_arrays(magnitude * jnp.cos(angle), magnitude * jnp.sin(angle)))


@register_operator("torch.is_complex")
def is_complex_(x: Array) -> bool:
    """Whether the elements are complex."""
    return is_complex(x.dtype)
