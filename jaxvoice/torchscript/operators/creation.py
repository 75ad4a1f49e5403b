"""Creation of tensors: constants, ranges, windows and random numbers."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxvoice.torchscript.dtypes import (
    DEFAULT_FLOAT,
    default_int,
    dtype_of_code,
    is_float,
    is_inexact,
    number_dtype,
)
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import on_tensors, on_values, register_operator
from jaxvoice.torchscript.tensors import SMALL, OperatorError, Tensor, number_of


def _full(shape: Sequence[int], value: Any, dtype: Any) -> Tensor:
    """A tensor filled with one value. Small tensors are concrete while an outer function is traced."""
    shape = tuple(int(n) for n in shape)
    if isinstance(value, Tensor):
        if not value.known:
            return Tensor(jnp.broadcast_to(value.values.reshape(()).astype(dtype), shape))
        value = np.asarray(value.array).reshape(()).item()
    create = np.full if math.prod(shape) <= SMALL else jnp.full
    return Tensor(create(shape, value, dtype))


def _dtype(code: int | None, default: Any) -> Any:
    return default if code is None else dtype_of_code(code)


@on_values("torch.full")
@on_tensors("torch.full")
def full(size: Sequence[int], fill_value: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A tensor filled with one value."""
    default = fill_value.dtype if isinstance(fill_value, Tensor) else number_dtype(fill_value)
    return _full(size, fill_value, _dtype(dtype, default))


on_tensors("torch.full_like")(lambda x, value, *, dtype=None, **_: _full(x.shape, value, _dtype(dtype, x.dtype)))
on_tensors("torch.new_full")(lambda x, size, value, *, dtype=None, **_: _full(size, value, _dtype(dtype, x.dtype)))


def _register_filled(name: str, value: int) -> None:
    @on_values(f"torch.{name}")
    def filled(size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
        return _full(size, value, _dtype(dtype, DEFAULT_FLOAT))

    @on_tensors(f"torch.{name}_like")
    def filled_like(x: Tensor, *, dtype: int | None = None, **_: Any) -> Tensor:
        return _full(x.shape, value, _dtype(dtype, x.dtype))

    @on_tensors(f"torch.new_{name}")
    def new_filled(x: Tensor, size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
        return _full(size, value, _dtype(dtype, x.dtype))


for _name, _value in (("zeros", 0), ("empty", 0), ("ones", 1)):
    _register_filled(_name, _value)


@on_values("torch.tensor", "torch.scalar_tensor", "torch.as_tensor", "ops.prim.NumToTensor")
def tensor(data: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A tensor from a number or nested lists of numbers."""
    array = np.asarray(data)
    if array.dtype.kind == "O":
        raise OperatorError("a tensor of a list with other items than numbers, or with the index of a loop")
    default = DEFAULT_FLOAT if array.dtype.kind == "f" else default_int() if array.dtype.kind == "i" else array.dtype
    target = np.dtype(_dtype(dtype, np.complex64 if default.kind == "c" else default))
    if target.kind in "iu" and array.size:
        bounds = np.iinfo(target)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise OperatorError(f"{array.max()} is out of the range of {target}; set jax_enable_x64 for 64-bit numbers")
    return Tensor(array.astype(target))


@on_tensors("torch.tensor", "torch.as_tensor")
def tensor_of(data: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A new tensor from tensors."""

    def stacked(value: Any) -> Array:
        if isinstance(value, list):
            return jnp.stack([stacked(item) for item in value])
        return jnp.asarray(value.array if isinstance(value, Tensor) else value)

    array = stacked(data)
    return Tensor(array if dtype is None else array.astype(dtype_of_code(dtype)))


@on_values("torch.arange")
def arange(*bounds: Any, dtype: int | None = None, **_: Any) -> Tensor:
    """Evenly spaced numbers from a start (default 0) to an end."""
    if len(bounds) > 3:
        return arange(*bounds[:3], dtype=bounds[3])
    start, end, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    whole = all(isinstance(bound, int) for bound in bounds)
    target = _dtype(dtype, default_int() if whole else DEFAULT_FLOAT)
    count = max(0, math.ceil((end - start) / step))
    if count <= SMALL:
        return Tensor((start + np.arange(count) * step).astype(target))
    return Tensor((jnp.arange(count, dtype=target) * jnp.asarray(step, target)) + jnp.asarray(start, target))


@on_tensors("torch.arange")
def arange_of_tensors(*bounds: Any, dtype: int | None = None, **kwargs: Any) -> Tensor:
    """`arange` with bounds that are tensors of known values."""
    kinds = [float if isinstance(b, Tensor) and is_float(b.dtype) else int for b in bounds]
    values = [number_of(b, kind) if isinstance(b, Tensor) else b for b, kind in zip(bounds, kinds, strict=True)]
    return arange(*values, dtype=dtype, **kwargs)


@on_values("torch.linspace")
def linspace(start: float, end: float, steps: int = 100, *, dtype: int | None = None, **_: Any) -> Tensor:
    """`steps` numbers from a start to an end."""
    return Tensor(np.linspace(start, end, steps).astype(_dtype(dtype, DEFAULT_FLOAT)))


@on_values("torch.eye")
def eye(n: int, m: int | None = None, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A matrix with ones on the diagonal."""
    return Tensor(np.eye(n, m, dtype=_dtype(dtype, DEFAULT_FLOAT)))


def _register_window(name: str, first: float) -> None:
    @on_values(f"torch.{name}")
    def window(window_length: int, periodic: bool = True, *, dtype: int | None = None, **_: Any) -> Tensor:
        if window_length == 1:
            return Tensor(np.ones(1, _dtype(dtype, DEFAULT_FLOAT)))
        angle = 2 * np.pi * np.arange(window_length) / (window_length if periodic else window_length - 1)
        return Tensor((first - (1 - first) * np.cos(angle)).astype(_dtype(dtype, DEFAULT_FLOAT)))


_register_window("hann_window", 0.5)


# Random numbers are drawn from a key. They have torch's distributions, but other values.


def _register_random(name: str, draw: Any) -> None:
    @register_operator(f"torch.{name}")
    def random(size: Sequence[int], *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
        return draw(key, tuple(size), _dtype(dtype, DEFAULT_FLOAT))

    @register_operator(f"torch.{name}_like")
    def random_like(x: Array, *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
        return draw(key, x.shape, _dtype(dtype, x.dtype))


_register_random("rand", jax.random.uniform)
_register_random("randn", jax.random.normal)


def _draw_into(x: Tensor, new: Array) -> Tensor:
    if not is_inexact(x.dtype):
        raise OperatorError(f"random real numbers in a tensor of {x.dtype}")
    x.assign(new)
    return x


@on_tensors("torch.normal_")
def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Fill with normally distributed numbers in place."""
    return _draw_into(
        x, jax.random.normal(key, x.shape, DEFAULT_FLOAT) * cast(std, DEFAULT_FLOAT) + cast(mean, DEFAULT_FLOAT)
    )


@on_tensors("torch.uniform_")
def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Fill with uniformly distributed numbers in place."""
    return _draw_into(x, jax.random.uniform(key, x.shape, DEFAULT_FLOAT, low, high))
