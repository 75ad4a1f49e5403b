"""Other types of elements, their parts, and the same elements without a derivative."""

from typing import Any

from jax import lax, numpy as jnp

from jaxvoice.torchscript.dtypes import converted, dtype_of_code, is_complex
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import Tensor


@on_tensors("torch.view_as_real")
def view_as_real(x: Tensor) -> Tensor:
    """Real and imaginary part as a last axis."""
    return x.view(lambda a: jnp.stack([a.real, a.imag], -1), lambda _, new: lax.complex(new[..., 0], new[..., 1]))


@on_tensors("torch.view_as_complex")
def view_as_complex(x: Tensor) -> Tensor:
    """Complex numbers from a last axis of real and imaginary part."""
    return x.view(lambda a: lax.complex(a[..., 0], a[..., 1]), lambda _, new: jnp.stack([new.real, new.imag], -1))


@on_tensors("torch.real")
def real(x: Tensor) -> Tensor:
    """Real parts."""
    return x.view(lambda a: a.real, lambda a, new: lax.complex(new, a.imag)) if is_complex(x.dtype) else x


@on_tensors("torch.imag")
def imag(x: Tensor) -> Tensor:
    """Imaginary parts."""
    return x.view(lambda a: a.imag, lambda a, new: lax.complex(a.real, new))


@on_tensors("torch.conj", "torch._conj")
def conj(x: Tensor) -> Tensor:
    """Complex conjugates."""
    return x.view(jnp.conj, lambda _, new: jnp.conj(new)) if is_complex(x.dtype) else x


@on_tensors("torch.detach", "torch.alias", "ops.prim.data", "torch.resolve_conj", "torch.resolve_neg")
def detach(x: Tensor) -> Tensor:
    """The same elements, without a derivative where torch has none."""
    return x.view(lax.stop_gradient, lambda _, new: new)


@on_tensors("torch.to", "torch.type_as")
def to(x: Tensor, *args: Any, dtype: int | None = None, copy: bool = False, **_: Any) -> Tensor:
    """Another type of elements; the same tensor where it has that type already. Devices mean nothing."""
    kinds = [arg for arg in args if isinstance(arg, int) and not isinstance(arg, bool)]
    flags = [arg for arg in args if isinstance(arg, bool)]
    like = [arg for arg in args if isinstance(arg, Tensor)]
    code = dtype if dtype is not None else kinds[0] if kinds else None
    wanted = dtype_of_code(code) if code is not None else like[0].dtype if like else x.dtype
    if copy or flags[1:] == [True]:
        return Tensor(converted(x.values, wanted))
    if wanted == x.dtype:
        # Without 64 bits two types of torch may be one here, so that only torch would have made a copy.
        return x if code is None and not like else x.perhaps_view(x.values)
    return Tensor(converted(x.values, wanted))


@on_tensors("torch.cpu", "torch.cuda")
def on_device(x: Tensor, *device: Any, **_: Any) -> Tensor:
    """The same tensor; devices mean nothing."""
    return x
