"""Operators that change a tensor in place other than by computing the same out of place."""

from typing import Any

from jax import numpy as jnp

from jaxvoice.torchscript.dtypes import converted
from jaxvoice.torchscript.operators.arithmetic import aligned, cast
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import Refused, Tensor


@on_tensors("torch.copy_")
def copy_(x: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Take over the elements of `source`, repeated where its axes have length 1."""
    new = source.values if isinstance(source, Tensor) else cast(source, x.dtype)
    x.assign(jnp.broadcast_to(converted(new, x.dtype).reshape((1,) * (x.ndim - new.ndim) + new.shape), x.shape))
    return x


@on_tensors("torch.fill_")
def fill_(x: Tensor, value: Any) -> Tensor:
    """One value for all elements."""
    return copy_(x, value)


@on_tensors("torch.zero_")
def zero_(x: Tensor) -> Tensor:
    """Zero for all elements."""
    return copy_(x, 0)


@on_tensors("torch.masked_fill_")
def masked_fill_(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """A value where the mask holds."""
    if mask.dtype != jnp.bool_:
        raise Refused(f"a mask of {mask.dtype}, not of truth values")
    new = value.values if isinstance(value, Tensor) else value
    old, where = x.values, mask.values
    x.assign(jnp.where(aligned(where, old)[0], cast(new, x.dtype), old))
    return x


@on_tensors("torch.requires_grad_")
def requires_grad_(x: Tensor, requires_grad: bool = True) -> Tensor:
    """The same tensor; JAX takes derivatives with respect to arguments."""
    return x


@on_tensors(
    "torch.transpose_", "torch.t_", "torch.resize_", "torch.set_", "torch.as_strided_", "torch.swapaxes_",
    "torch.swapdims_", "torch.resize_as_",
)  # fmt: skip
def _restructure(*args: Any, **kwargs: Any) -> Tensor:
    raise Refused("it changes the shape or memory layout of a tensor in place")


@on_tensors("torch.as_strided")
def _as_strided(*args: Any, **kwargs: Any) -> Tensor:
    raise Refused("it reads elements by their places in torch's memory; write it with unfold, slices or reshape")
