"""Elementwise mathematical functions and activation functions."""

from typing import Any

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_float, is_inexact
from jaxvoice.torchscript.operators.arithmetic import as_dtype, as_float, cast, operands
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.tensors import OperatorError, Tensor


def check_evaluation_mode(active: Any, what: str = "training mode") -> None:
    """Raise `OperatorError` if `active`, for example the rate of dropout in training mode, is true."""
    if active:
        raise OperatorError(f"{what}; save the archive after eval()")


def _sign(x: Array) -> Array:
    y = jnp.sign(x)
    # In torch, the sign of NaN is 0.
    return jnp.where(jnp.isnan(x), jnp.zeros_like(y), y) if is_float(x.dtype) else y


# Functions that return integers for integers.
for _name, _compute in {
    "neg": jnp.negative,
    "abs": jnp.abs,
    "sign": _sign,
    "square": jnp.square,
    "relu": jax.nn.relu,
    "floor": lambda x: jnp.floor(x) if is_inexact(x.dtype) else x,
    "ceil": lambda x: jnp.ceil(x) if is_inexact(x.dtype) else x,
    "trunc": lambda x: jnp.trunc(x) if is_inexact(x.dtype) else x,
}.items():
    register_operator(f"torch.{_name}")(lambda x, _compute=_compute: _compute(x))

# Functions that convert integers to floats.
for _name, _compute in {
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "exp": jnp.exp,
    "log": jnp.log,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "tanh": jnp.tanh,
    "erf": lax.erf,
    "sigmoid": jax.nn.sigmoid,
    "angle": jnp.angle,
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "isfinite": jnp.isfinite,
}.items():
    register_operator(f"torch.{_name}")(lambda x, _compute=_compute: _compute(as_float(x)))


@register_operator("torch.round")
def round_(x: Array, *, decimals: int = 0) -> Array:
    """Round to the nearest integer, ties to even."""
    if not is_inexact(x.dtype):
        return x
    factor = jnp.asarray(10.0**decimals, x.dtype)
    return jnp.round(x * factor) / factor if decimals else jnp.round(x)


@register_operator("torch.complex")
def complex_(real: Array, imag: Array) -> Array:
    """Complex numbers from real and imaginary parts."""
    return lax.complex(*jnp.broadcast_arrays(*operands(real, imag)))


@register_operator("torch.polar")
def polar(magnitude: Array, angle: Array) -> Array:
    """Complex numbers from magnitude and angle."""
    magnitude, angle = operands(magnitude, angle)
    return lax.complex(*jnp.broadcast_arrays(magnitude * jnp.cos(angle), magnitude * jnp.sin(angle)))


# Activation functions


@register_operator("torch.leaky_relu")
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Leaky ReLU."""
    return jnp.where(x > 0, x, x * cast(negative_slope, x.dtype))


@register_operator("torch.prelu")
def prelu(x: Array, weight: Array) -> Array:
    """Leaky ReLU with a slope for each channel, on axis 1."""
    if weight.size > 1:
        weight = weight.reshape((1, -1) + (1,) * (x.ndim - 2)) if x.ndim > 1 else weight
    else:
        weight = weight.reshape(())
    return jnp.where(x > 0, x, x * weight)


@register_operator("torch.elu")
def elu(x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    """Exponential linear unit."""
    negative = jnp.expm1(jnp.minimum(x, cast(0, x.dtype)) * cast(input_scale, x.dtype)) * cast(alpha, x.dtype)
    return jnp.where(x > 0, x, negative) * cast(scale, x.dtype)


register_operator("torch.celu")(lambda x, alpha=1.0: elu(x, alpha, 1.0, 1.0 / alpha))
register_operator("torch.selu")(lambda x: elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946))


@register_operator("torch.gelu")
def gelu(x: Array, *, approximate: str = "none") -> Array:
    """GELU, exact or approximated with tanh."""
    return jax.nn.gelu(x, approximate=approximate == "tanh")


@register_operator("torch.softplus")
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta; x where beta x exceeds the threshold."""
    z = x * cast(beta, x.dtype)
    return jnp.where(z > threshold, x, jax.nn.softplus(jnp.minimum(z, cast(threshold, x.dtype))) / cast(beta, x.dtype))


for _name, _compute in {
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "hardsigmoid": lambda x: jax.nn.relu6(x + cast(3, x.dtype)) / cast(6, x.dtype),
    "hardswish": lambda x: x * (jax.nn.relu6(x + cast(3, x.dtype)) / cast(6, x.dtype)),
    "log_sigmoid": jax.nn.log_sigmoid,
}.items():
    register_operator(f"torch.{_name}")(lambda x, _compute=_compute: _compute(x))

for _name, _compute in {
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: jnp.clip(x, cast(min_val, x.dtype), cast(max_val, x.dtype)),
    "threshold": lambda x, threshold, value: jnp.where(x <= threshold, cast(value, x.dtype), x),
    "hardshrink": lambda x, lambd=0.5: jnp.where(jnp.abs(x) <= lambd, cast(0, x.dtype), x),
    "softshrink": lambda x, lambd=0.5: jnp.sign(x) * jnp.maximum(jnp.abs(x) - cast(lambd, x.dtype), cast(0, x.dtype)),
}.items():
    register_operator(f"torch.{_name}")(_compute)


@register_operator("torch.glu")
def glu(x: Array, dim: int = -1) -> Array:
    """The first half of an axis times the sigmoid of the second."""
    a, b = jnp.split(x, 2, dim)
    return a * jax.nn.sigmoid(b)


@register_operator("torch.softmax")
def softmax(x: Array, dim: int, dtype: int | None = None) -> Array:
    """Softmax along an axis. A row of minus infinity results in NaN, as in torch."""
    x = as_dtype(x, dtype)
    maximum = lax.stop_gradient(jnp.max(x, dim, keepdims=True))
    y = jnp.exp(x - maximum)
    return y / jnp.sum(y, dim, keepdims=True)


@register_operator("torch.log_softmax")
def log_softmax(x: Array, dim: int, dtype: int | None = None) -> Array:
    """Logarithm of the softmax along an axis."""
    return jax.nn.log_softmax(as_dtype(x, dtype), dim)


_DROPOUTS = ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")


@on_tensors(*(f"torch.{name}" for name in _DROPOUTS))
def dropout(x: Tensor, p: float, train: bool) -> Tensor:
    """The same elements, in evaluation mode. In torch, the result may share them with the input."""
    check_evaluation_mode(train and p)
    return x.possible_view(x.array)


@on_tensors(*(f"torch.{name}_" for name in _DROPOUTS))
def dropout_(x: Tensor, p: float, train: bool) -> Tensor:
    """The same tensor, in evaluation mode."""
    check_evaluation_mode(train and p)
    return x
