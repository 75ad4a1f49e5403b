"""torch's dtypes in JAX, and torch's rules of type promotion.

Without `jax_enable_x64`, 64-bit types become 32-bit types: `int64` is `int32`, `float64` is `float32`.
"""

import functools as ft
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

Number = bool | int | float | complex

_TYPES: dict[int, Any] = {
    0: np.uint8,
    1: np.int8,
    2: np.int16,
    3: np.int32,
    4: np.int64,
    5: np.float16,
    6: np.float32,
    7: np.float64,
    9: np.complex64,
    10: np.complex128,
    11: np.bool_,
    15: ml_dtypes.bfloat16,
}
_NAMES = {"torch.uint8": 0, "torch.int64": 4, "torch.float32": 6, "torch.float64": 7, "torch.bool": 11}


def dtype_of_code(code: int) -> np.dtype:
    """The dtype of TorchScript's number `code`; raises `KeyError` for dtypes that JAX does not have."""
    return jax.dtypes.canonicalize_dtype(np.dtype(_TYPES[code]))


def code_of_dtype(dtype: np.dtype) -> int:
    """TorchScript's number of `dtype`. Without `jax_enable_x64`, `int32` has the number of torch's `int64`."""
    if np.dtype(dtype) == np.int32 and not jax.config.read("jax_enable_x64"):
        return 4
    return next(code for code, known in _TYPES.items() if np.dtype(known) == np.dtype(dtype))


def default_int() -> np.dtype:
    """torch's dtype of integers."""
    return jax.dtypes.canonicalize_dtype(np.dtype(np.int64))


DEFAULT_FLOAT = np.dtype(np.float32)
"""torch's default dtype of real numbers."""


def is_float(dtype: Any) -> bool:
    """Whether elements are real numbers."""
    return jnp.issubdtype(dtype, jnp.floating)


def is_complex(dtype: Any) -> bool:
    """Whether elements are complex numbers."""
    return jnp.issubdtype(dtype, jnp.complexfloating)


def is_inexact(dtype: Any) -> bool:
    """Whether elements are real or complex numbers, not integers or booleans."""
    return jnp.issubdtype(dtype, jnp.inexact)


@ft.lru_cache(maxsize=256)
def _promote(a: np.dtype, b: np.dtype) -> np.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return np.dtype(jnp.promote_types(a, b))


def promote(a: np.dtype | None, b: np.dtype | None) -> np.dtype | None:
    """The smallest dtype that represents both, by torch's table; `None` means no operand."""
    if a is None or b is None:
        return b if a is None else a
    return _promote(np.dtype(a), np.dtype(b))


def _combine(higher: np.dtype | None, lower: np.dtype | None) -> np.dtype | None:
    """Combine the dtypes of two categories (arrays, scalar arrays, numbers; highest first).

    The result is the dtype of the higher category, unless the lower category is complex or real and the higher is not.
    """
    if higher is None or lower is None or is_complex(higher):
        return higher if lower is None else lower if higher is None else higher
    if is_float(higher):
        return (_promote(higher, np.dtype(np.complex64))) if is_complex(lower) else higher
    return _promote(higher, lower) if higher == np.bool_ or is_inexact(lower) else higher


def convert(array: Array, dtype: Any) -> Array:
    """Convert `array` to `dtype`. The conversion of complex to real numbers keeps the real part.

    Real numbers are converted to integers of 8 and 16 bits as torch does on x86: they are converted to 32 bits, and the
    upper bits are dropped. NaN and numbers outside the range of 32 bits become 0. In conversions to 32 bits, NaN
    becomes the smallest integer, and numbers out of range become the nearest integer. torch's result is the smallest
    integer for `int32` and the exact number for `int64`, which is `int32` without `jax_enable_x64`.
    """
    if is_complex(array.dtype) and not is_complex(dtype):
        array = array.real
    dtype = np.dtype(dtype)
    if not is_float(array.dtype) or dtype.kind not in "iu":
        return array.astype(dtype)
    if dtype.itemsize > 2:
        return jnp.where(jnp.isnan(array), np.iinfo(dtype).min, array.astype(dtype)).astype(dtype)
    # Compared in float32, because 2**31 is out of the range of float16.
    kept = jnp.where(jnp.abs(array.astype(jnp.float32)) < 2.0**31, array, jnp.zeros_like(array))
    return kept.astype(jnp.int32).astype(dtype)


def number_dtype(value: Number) -> np.dtype:
    """The dtype of a Python number in torch."""
    if isinstance(value, bool):
        return np.dtype(np.bool_)
    if isinstance(value, int):
        return default_int()
    return DEFAULT_FLOAT if isinstance(value, float) else np.dtype(np.complex64)


def result_type(*operands: Any) -> np.dtype:
    """The dtype of the result of an operator on arrays and numbers, as `torch.result_type`."""
    axes: np.dtype | None = None
    scalar: np.dtype | None = None
    number: np.dtype | None = None
    for operand in operands:
        if isinstance(operand, (bool, int, float, complex)):
            number = promote(number, number_dtype(operand))
        elif operand.ndim:
            axes = promote(axes, operand.dtype)
        else:
            scalar = promote(scalar, operand.dtype)
    found = _combine(axes, _combine(scalar, number))
    assert found is not None
    return found
