"""Torch's types of elements in JAX, and torch's rules of which one a result has.

Without `jax_enable_x64`, 64-bit types become the 32-bit ones: `int64` is `int32`, `float64` is `float32`.
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
    """The type that TorchScript writes as the number `code`; raises `KeyError` for types that JAX lacks."""
    return jax.dtypes.canonicalize_dtype(np.dtype(_TYPES[code]))


def code_of_dtype(dtype: np.dtype) -> int:
    """The number TorchScript writes for `dtype`; where 64 bits are off, 32-bit integers count as torch's `int64`."""
    if np.dtype(dtype) == np.int32 and not jax.config.read("jax_enable_x64"):
        return 4
    return next(code for code, known in _TYPES.items() if np.dtype(known) == np.dtype(dtype))


def default_int() -> np.dtype:
    """Torch's type of whole numbers."""
    return jax.dtypes.canonicalize_dtype(np.dtype(np.int64))


FLOAT = np.dtype(np.float32)
"""Torch's default type of real numbers."""


def is_float(dtype: Any) -> bool:
    """Whether elements are real numbers."""
    return jnp.issubdtype(dtype, jnp.floating)


def is_complex(dtype: Any) -> bool:
    """Whether elements are complex numbers."""
    return jnp.issubdtype(dtype, jnp.complexfloating)


def is_inexact(dtype: Any) -> bool:
    """Whether elements are real or complex numbers, not whole ones or truth values."""
    return jnp.issubdtype(dtype, jnp.inexact)


@ft.lru_cache(maxsize=256)
def _promoted(a: np.dtype, b: np.dtype) -> np.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return np.dtype(jnp.promote_types(a, b))


def promoted(a: np.dtype | None, b: np.dtype | None) -> np.dtype | None:
    """The smallest type that holds both, by torch's table; `None` stands for nothing."""
    if a is None or b is None:
        return b if a is None else a
    return _promoted(np.dtype(a), np.dtype(b))


def _combined(higher: np.dtype | None, lower: np.dtype | None) -> np.dtype | None:
    """A type of a higher category (tensors with axes, without, numbers) wins, unless the lower is of a wider kind."""
    if higher is None or lower is None or is_complex(higher):
        return higher if lower is None else lower if higher is None else higher
    if is_float(higher):
        return (_promoted(higher, np.dtype(np.complex64))) if is_complex(lower) else higher
    return _promoted(higher, lower) if higher == np.bool_ or is_inexact(lower) else higher


def converted(array: Array, dtype: Any) -> Array:
    """`array` as `dtype`; of complex numbers only the real part where that is asked.

    Real numbers become whole ones of 8 and 16 bits as in torch on x86: of 32 bits the upper ones are dropped, and NaN
    and what 32 bits cannot hold are 0. Of 32 bits, NaN is the smallest number, and what is out of range the nearest
    one: torch has the smallest for `int32`, and right numbers for `int64`, which without `jax_enable_x64` is `int32`.
    """
    if is_complex(array.dtype) and not is_complex(dtype):
        array = array.real
    dtype = np.dtype(dtype)
    if not is_float(array.dtype) or dtype.kind not in "iu":
        return array.astype(dtype)
    if dtype.itemsize > 2:
        return jnp.where(jnp.isnan(array), np.iinfo(dtype).min, array.astype(dtype)).astype(dtype)
    # In the type of the array: 2**31 is beyond a float16, where nothing finite is.
    kept = jnp.where(jnp.abs(array.astype(jnp.float32)) < 2.0**31, array, jnp.zeros_like(array))
    return kept.astype(jnp.int32).astype(dtype)


def type_of_number(value: Number) -> np.dtype:
    """The type that a number has in torch."""
    if isinstance(value, bool):
        return np.dtype(np.bool_)
    if isinstance(value, int):
        return default_int()
    return FLOAT if isinstance(value, float) else np.dtype(np.complex64)


def result_type(*operands: Any) -> np.dtype:
    """The type of the result of an operator on arrays and numbers, as `torch.result_type` has it."""
    axes: np.dtype | None = None
    scalar: np.dtype | None = None
    number: np.dtype | None = None
    for operand in operands:
        if isinstance(operand, (bool, int, float, complex)):
            number = promoted(number, type_of_number(operand))
        elif operand.ndim:
            axes = promoted(axes, operand.dtype)
        else:
            scalar = promoted(scalar, operand.dtype)
    found = _combined(axes, _combined(scalar, number))
    assert found is not None
    return found
