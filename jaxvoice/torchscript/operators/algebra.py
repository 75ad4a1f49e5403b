"""Linear algebra: inverses, determinants, systems of equations."""

from typing import Any

from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused


@register_operator("torch.linalg_inv", "torch.inverse")
def linalg_inv(a: Array) -> Array:
    """Inverse of a matrix."""
    return jnp.linalg.inv(a)


@register_operator("torch.linalg_pinv", "torch.pinverse")
def linalg_pinv(a: Array, rcond: Any = None, hermitian: bool = False) -> Array:
    """Pseudo-inverse of a matrix."""
    if rcond is not None or hermitian:
        raise Refused("a pseudo-inverse with a threshold of its own, or of a Hermitian matrix")
    return jnp.linalg.pinv(a)


@register_operator("torch.linalg_det", "torch.det")
def linalg_det(a: Array) -> Array:
    """Determinant."""
    return jnp.linalg.det(a)


@register_operator("torch.slogdet", "torch.linalg_slogdet")
def slogdet(a: Array) -> tuple[Array, Array]:
    """Sign of the determinant, and the logarithm of its magnitude."""
    sign, logarithm = jnp.linalg.slogdet(a)
    return sign, logarithm


@register_operator("torch.logdet")
def logdet(a: Array) -> Array:
    """Logarithm of the determinant: NaN where it is negative."""
    sign, logarithm = jnp.linalg.slogdet(a)
    return jnp.where(sign < 0, jnp.asarray(jnp.nan, logarithm.dtype), logarithm)


@register_operator("torch.linalg_solve")
def linalg_solve(a: Array, b: Array, *, left: bool = True) -> Array:
    """x of a x = b, or of x a = b."""
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if not left:
        if vector:
            raise Refused("a system with the unknown vector on the left")
        return jnp.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)
    return jnp.linalg.solve(a, b[..., None])[..., 0] if vector else jnp.linalg.solve(a, b)


@register_operator("torch.linalg_cholesky", "torch.cholesky")
def linalg_cholesky(a: Array, upper: bool = False) -> Array:
    """Triangular root of a positive definite matrix; NaN, where torch raises, of any other."""
    return jnp.linalg.cholesky(a, upper=upper)


@register_operator("torch.trace")
def trace(a: Array) -> Array:
    """Sum of the diagonal."""
    return jnp.trace(a)


@register_operator("torch.linalg_matrix_power", "torch.matrix_power")
def matrix_power(a: Array, n: int) -> Array:
    """A matrix times itself so often."""
    return jnp.linalg.matrix_power(a, n)
