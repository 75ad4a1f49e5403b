"""Properties of tensors, conversions to other dtypes and to numbers, and in-place assignments."""

import math
from typing import Any

import numpy as np
from jax import numpy as jnp

from jaxvoice.torchscript.dtypes import code_of_dtype, convert, dtype_of_code, is_complex, is_float
from jaxvoice.torchscript.operators.arithmetic import aligned, cast
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import OperatorError, Tensor, number_of

# Conversions


@on_tensors("torch.to", "torch.type_as")
def to(x: Tensor, *args: Any, dtype: int | None = None, copy: bool = False, **_: Any) -> Tensor:
    """Convert to another dtype; returns the same tensor if it has that dtype. Devices are ignored."""
    kinds = [arg for arg in args if isinstance(arg, int) and not isinstance(arg, bool)]
    flags = [arg for arg in args if isinstance(arg, bool)]
    others = [arg for arg in args if isinstance(arg, Tensor)]
    code = dtype if dtype is not None else kinds[0] if kinds else None
    target = dtype_of_code(code) if code is not None else others[0].dtype if others else x.dtype
    if copy or flags[1:] == [True] or target != x.dtype:
        return Tensor(convert(x.values, target))
    # Without x64, two dtypes of torch may be equal in JAX, in which case only torch makes a copy.
    return x if code is None and not others else x.possible_view(x.values)


@on_tensors("torch.cpu", "torch.cuda", "torch.requires_grad_")
def identity(x: Tensor, *args: Any, **_: Any) -> Tensor:
    """The same tensor; devices and `requires_grad` are ignored."""
    return x


@on_tensors("torch.clone")
def clone(x: Tensor, *, memory_format: int | None = None) -> Tensor:
    """A copy."""
    return Tensor(x.values)


@on_tensors("torch.item")
def item(x: Tensor) -> Any:
    """The single element as a number."""
    kind = complex if is_complex(x.dtype) else float if is_float(x.dtype) else bool if x.dtype == np.bool_ else int
    return number_of(x, kind)


# Properties


@on_tensors("torch.size")
def size(x: Tensor, dim: int | None = None) -> Any:
    """The shape, or the length of one axis."""
    return list(x.shape) if dim is None else x.shape[dim]


for _name, _property in {
    "torch.dim": lambda x: x.ndim,
    "torch.len": lambda x: x.shape[0],
    "torch.numel": lambda x: math.prod(x.shape),
    "torch.is_floating_point": lambda x: is_float(x.dtype),
    "torch.is_complex": lambda x: is_complex(x.dtype),
    "torch.is_contiguous": lambda x, **_: True,
    "ops.prim.dtype": lambda x: code_of_dtype(x.dtype),
    "ops.prim.device": lambda x: "cpu",
    "ops.prim.layout": lambda x: 0,
    "ops.prim.requires_grad": lambda x: True,
    "ops.prim.is_cpu": lambda x: True,
    "ops.prim.is_cuda": lambda x: False,
    "ops.prim.is_nested": lambda x: False,
}.items():
    on_tensors(_name)(_property)


# Assignments


@on_tensors("torch.copy_")
def copy_(x: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Assign the elements of `source`, broadcast to the shape of `x`."""
    new = source.values if isinstance(source, Tensor) else cast(source, x.dtype)
    x.assign(jnp.broadcast_to(convert(new, x.dtype).reshape((1,) * (x.ndim - new.ndim) + new.shape), x.shape))
    return x


on_tensors("torch.fill_")(lambda x, value: copy_(x, value))
on_tensors("torch.zero_")(lambda x: copy_(x, 0))


@on_tensors("torch.masked_fill_")
def masked_fill_(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Assign a value where the mask is true, in place."""
    if mask.dtype != jnp.bool_:
        raise OperatorError(f"a mask of {mask.dtype} instead of booleans")
    new = value.values if isinstance(value, Tensor) else value
    old, where = x.values, mask.values
    x.assign(jnp.where(aligned(where, old)[0], cast(new, x.dtype), old))
    return x
