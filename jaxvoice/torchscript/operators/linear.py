"""Matrix products."""

import string
from typing import Any

from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.arithmetic import aligned, cast, scaled
from jaxvoice.torchscript.operators.reductions import vector_norm
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.tensors import Refused, Tensor


@register_operator("torch.linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x @ weight.T + bias."""
    y = jnp.matmul(x, weight.T) if weight.ndim == 2 else jnp.matmul(x, weight)
    return y if bias is None else jnp.add(*aligned(y, bias))


@register_operator("torch.matmul", "torch.mm", "torch.bmm", "torch.mv", "torch.linalg_matmul")
def matmul(a: Array, b: Array) -> Array:
    """Product of matrices, of matrices and vectors, or of batches of them."""
    batch = max(a.ndim, b.ndim)
    if min(a.ndim, b.ndim) > 1:
        a, b = (m.reshape((1,) * (batch - m.ndim) + m.shape) for m in (a, b))
    return jnp.matmul(a, b)


@register_operator("torch.inner")
def inner(a: Array, b: Array) -> Array:
    """Products of vectors on the last axes."""
    return a * b if 0 in (a.ndim, b.ndim) else jnp.tensordot(a, b, (-1, -1))


@register_operator("torch.dot", "torch.vdot")
def dot(a: Array, b: Array) -> Array:
    """Product of vectors."""
    if a.ndim != 1 or jnp.issubdtype(a.dtype, jnp.complexfloating):
        raise Refused("products of other than real vectors")
    return jnp.dot(a, b)


@register_operator("torch.outer", "torch.ger")
def outer(a: Array, b: Array) -> Array:
    """Products of all pairs of elements of two vectors."""
    return a[:, None] * b[None]


@register_operator("torch.addmm", "torch.baddbmm", "torch.addmv")
def addmm(x: Array, a: Array, b: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """beta * x + alpha * a @ b."""
    product = scaled(jnp.matmul(a, b), alpha)
    # With beta 0 torch leaves x out, NaN and all.
    return product if beta == 0 else jnp.add(*aligned(scaled(x, beta), product))


@register_operator("torch.addbmm")
def addbmm(x: Array, a: Array, b: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """beta * x + alpha * the sum of all a @ b."""
    return scaled(x, beta) + scaled(jnp.sum(jnp.matmul(a, b), 0), alpha)


@on_tensors("torch.einsum")
def einsum(equation: str, tensors: list[Tensor], *, path: Any = None) -> Tensor:
    """Sums of products over named axes."""
    if len(equation) > 200 or not set(equation) <= set(string.ascii_letters + ",.-> "):
        raise Refused(f"the equation {equation[:40]!r}")
    y = jnp.einsum(equation, *(tensor.values for tensor in tensors))
    # A lone tensor may only have its axes moved.
    return tensors[0].perhaps_view(y) if len(tensors) == 1 else Tensor(y)


@register_operator("torch.tensordot")
def tensordot(a: Array, b: Array, dims_self: list[int], dims_other: list[int]) -> Array:
    """Sums of products over pairs of axes."""
    return jnp.tensordot(a, b, (dims_self, dims_other))


@register_operator("torch.cdist")
def cdist(x1: Array, x2: Array, p: float = 2.0, compute_mode: int | None = None) -> Array:
    """Distances of all pairs of rows."""
    x1, x2 = aligned(x1, x2)
    return vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, -1, False)


@register_operator("torch.bilinear")
def bilinear(x1: Array, x2: Array, weight: Array, bias: Array | None = None) -> Array:
    """x1 @ weight @ x2 + bias."""
    y = jnp.einsum("...i,oij,...j->...o", x1, weight, x2)
    return y if bias is None else y + cast(bias, y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
