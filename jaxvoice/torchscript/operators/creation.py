"""New tensors: of zeros, of numbers in a row, like others; and what a script asks of a tensor."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import (
    FLOAT,
    code_of_dtype,
    default_int,
    dtype_of_code,
    is_complex,
    is_float,
    type_of_number,
)
from jaxvoice.torchscript.operators.registry import on_tensors, on_values, register_operator
from jaxvoice.torchscript.tensors import SMALL, Refused, Tensor, number_of


def full_of(shape: Sequence[int], value: Any, dtype: Any) -> Tensor:
    """A tensor of one value. Small ones are known while tracing."""
    shape = tuple(int(n) for n in shape)
    if isinstance(value, Tensor):
        if not value.known:
            return Tensor(jnp.broadcast_to(value.values.reshape(()).astype(dtype), shape))
        value = np.asarray(value.array).reshape(()).item()
    maker = np.full if math.prod(shape) <= SMALL else jnp.full
    return Tensor(maker(shape, value, dtype))


def _dtype(code: int | None, default: Any) -> Any:
    return default if code is None else dtype_of_code(code)


def _natural(value: Any) -> Any:
    return value.dtype if isinstance(value, Tensor) else type_of_number(value)


@on_values("torch.zeros", "torch.empty")
def zeros(size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
    """Zeros; also where torch leaves the elements open."""
    return full_of(size, 0, _dtype(dtype, FLOAT))


@on_values("torch.ones")
def ones(size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
    """Ones."""
    return full_of(size, 1, _dtype(dtype, FLOAT))


@on_values("torch.full")
@on_tensors("torch.full")
def full(size: Sequence[int], fill_value: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """One value."""
    return full_of(size, fill_value, _dtype(dtype, _natural(fill_value)))


@on_tensors("torch.zeros_like", "torch.empty_like")
def zeros_like(x: Tensor, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Zeros of the shape of another tensor."""
    return full_of(x.shape, 0, _dtype(dtype, x.dtype))


@on_tensors("torch.ones_like")
def ones_like(x: Tensor, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Ones of the shape of another tensor."""
    return full_of(x.shape, 1, _dtype(dtype, x.dtype))


@on_tensors("torch.full_like")
def full_like(x: Tensor, fill_value: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """One value in the shape of another tensor."""
    return full_of(x.shape, fill_value, _dtype(dtype, x.dtype))


@on_tensors("torch.new_zeros", "torch.new_empty")
def new_zeros(x: Tensor, size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
    """Zeros of the type of another tensor."""
    return full_of(size, 0, _dtype(dtype, x.dtype))


@on_tensors("torch.new_ones")
def new_ones(x: Tensor, size: Sequence[int], *, dtype: int | None = None, **_: Any) -> Tensor:
    """Ones of the type of another tensor."""
    return full_of(size, 1, _dtype(dtype, x.dtype))


@on_tensors("torch.new_full")
def new_full(x: Tensor, size: Sequence[int], fill_value: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """One value of the type of another tensor."""
    return full_of(size, fill_value, _dtype(dtype, x.dtype))


@on_values("torch.tensor", "torch.scalar_tensor", "torch._to_tensor", "torch.as_tensor")
def tensor(data: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A tensor of a number or of nested lists of numbers."""
    array = np.asarray(data)
    natural = FLOAT if array.dtype.kind == "f" else default_int() if array.dtype.kind == "i" else array.dtype
    wanted = np.dtype(_dtype(dtype, np.complex64 if natural.kind == "c" else natural))
    if wanted.kind in "iu" and array.size:
        bounds = np.iinfo(wanted)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise Refused(f"{array.max()} does not fit {wanted}; set jax_enable_x64 for 64-bit numbers")
    return Tensor(array.astype(wanted))


@on_tensors("torch.tensor", "torch.as_tensor", "torch._to_tensor")
def tensor_of(data: Any, *, dtype: int | None = None, **_: Any) -> Tensor:
    """A new tensor from tensors."""

    def stacked(value: Any) -> Array:
        if isinstance(value, list):
            return jnp.stack([stacked(item) for item in value])
        return jnp.asarray(value.array if isinstance(value, Tensor) else value)

    array = stacked(data)
    return Tensor(array if dtype is None else array.astype(dtype_of_code(dtype)))


@on_values("ops.prim.NumToTensor")
def num_to_tensor(value: Any) -> Tensor:
    """A tensor without axes."""
    return tensor(value)


@on_values("torch.arange")
def arange(*bounds: Any, dtype: int | None = None, **_: Any) -> Tensor:
    """Numbers from a start, 0 if none is given, to an end in equal steps."""
    if len(bounds) > 3:
        # The type came by position.
        return arange(*bounds[:3], dtype=bounds[3])
    start, end, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    whole = all(isinstance(bound, int) for bound in bounds)
    wanted = _dtype(dtype, default_int() if whole else FLOAT)
    count = max(0, math.ceil((end - start) / step))
    if count <= SMALL:
        return Tensor((start + np.arange(count) * step).astype(wanted))
    return Tensor((jnp.arange(count, dtype=wanted) * jnp.asarray(step, wanted)) + jnp.asarray(start, wanted))


@on_tensors("torch.arange")
def arange_of_tensors(*bounds: Any, dtype: int | None = None, **kwargs: Any) -> Tensor:
    """The same with bounds that are tensors of known values."""
    kinds = [float if isinstance(b, Tensor) and is_float(b.dtype) else int for b in bounds]
    values = [number_of(b, kind) if isinstance(b, Tensor) else b for b, kind in zip(bounds, kinds, strict=True)]
    return arange(*values, dtype=dtype, **kwargs)


@on_values("torch.linspace")
def linspace(start: float, end: float, steps: int = 100, *, dtype: int | None = None, **_: Any) -> Tensor:
    """So many numbers from a start to an end."""
    return Tensor(np.linspace(start, end, steps).astype(_dtype(dtype, FLOAT)))


@on_values("torch.logspace")
def logspace(
    start: float, end: float, steps: int = 100, base: float = 10.0, *, dtype: int | None = None, **_: Any
) -> Tensor:
    """Powers of a base."""
    return Tensor(np.logspace(start, end, steps, base=base).astype(_dtype(dtype, FLOAT)))


@on_values("torch.eye")
def eye(n: int, m: int | None = None, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Ones on the diagonal."""
    return Tensor(np.eye(n, m if isinstance(m, int) else n, dtype=_dtype(dtype, FLOAT)))


@register_operator("torch.tril")
def tril(x: Array, diagonal: int = 0) -> Array:
    """Zeros above a diagonal."""
    return jnp.tril(x, diagonal)


@register_operator("torch.triu")
def triu(x: Array, diagonal: int = 0) -> Array:
    """Zeros below a diagonal."""
    return jnp.triu(x, diagonal)


@on_values("torch.tril_indices")
def tril_indices(row: int, col: int, offset: int = 0, **_: Any) -> Tensor:
    """Rows and columns of the elements on and below a diagonal."""
    return Tensor(np.stack(np.tril_indices(row, offset, col)).astype(default_int()))


@on_values("torch.triu_indices")
def triu_indices(row: int, col: int, offset: int = 0, **_: Any) -> Tensor:
    """Rows and columns of the elements on and above a diagonal."""
    return Tensor(np.stack(np.triu_indices(row, offset, col)).astype(default_int()))


@register_operator("torch.one_hot")
def one_hot(x: Array, num_classes: int = -1) -> Array:
    """1 at the class that an index names."""
    if num_classes < 0:
        raise Refused("the number of classes depends on the values; pass it")
    return jax.nn.one_hot(x, num_classes, dtype=default_int())


def _window(length: int, periodic: bool, terms: Sequence[float], dtype: int | None) -> Tensor:
    if length == 1:
        return Tensor(np.ones(1, _dtype(dtype, FLOAT)))
    angle = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    window = sum(((-1) ** k * term * np.cos(k * angle) for k, term in enumerate(terms)), np.zeros(length))
    return Tensor(np.asarray(window).astype(_dtype(dtype, FLOAT)))


@on_values("torch.hann_window")
def hann_window(window_length: int, periodic: bool = True, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Hann window."""
    return _window(window_length, periodic, (0.5, 0.5), dtype)


@on_values("torch.hamming_window")
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: int | None = None,
    **_: Any,
) -> Tensor:
    """Hamming window."""
    return _window(window_length, periodic, (alpha, beta), dtype)


@on_values("torch.blackman_window")
def blackman_window(window_length: int, periodic: bool = True, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Blackman window."""
    return _window(window_length, periodic, (0.42, 0.5, 0.08), dtype)


def _cut(window: Callable[[int], np.ndarray], length: int, periodic: bool, dtype: int | None) -> Tensor:
    """A window that numpy knows; a periodic one is that of one more sample without the last."""
    values = window(length + 1)[:-1] if periodic and length > 1 else window(length)
    return Tensor(values.astype(_dtype(dtype, FLOAT)))


@on_values("torch.kaiser_window")
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: int | None = None, **_: Any
) -> Tensor:
    """Kaiser window."""
    return _cut(lambda length: np.kaiser(length, beta), window_length, periodic, dtype)


@on_values("torch.bartlett_window")
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: int | None = None, **_: Any) -> Tensor:
    """Bartlett window."""
    return _cut(np.bartlett, window_length, periodic, dtype)


def _register_frequencies(name: str, compute: Callable[..., np.ndarray]) -> None:
    @on_values(f"torch.fft_{name}")
    def frequencies(n: int, d: float = 1.0, *, dtype: int | None = None, **_: Any) -> Tensor:
        """Frequencies of the bins of a Fourier transform."""
        return Tensor(compute(n, d).astype(_dtype(dtype, FLOAT)))


_register_frequencies("fftfreq", np.fft.fftfreq)
_register_frequencies("rfftfreq", np.fft.rfftfreq)


@on_tensors("torch.size", "torch.sym_size")
def size(x: Tensor, dim: int | None = None) -> Any:
    """Shape, or the length of one axis."""
    return list(x.shape) if dim is None else x.shape[dim]


on_tensors("torch.dim")(lambda x: x.ndim)
on_tensors("torch.len")(lambda x: x.shape[0])
on_tensors("torch.numel")(lambda x: math.prod(x.shape))
on_tensors("ops.prim.shape")(lambda x: list(x.shape))
on_tensors("ops.prim.dtype")(lambda x: code_of_dtype(x.dtype))
on_tensors("ops.prim.device", "torch.device")(lambda x: "cpu")
on_tensors("ops.prim.layout")(lambda x: 0)
on_tensors("ops.prim.requires_grad", "ops.prim.is_leaf")(lambda x: True)
on_tensors("ops.prim.is_cpu")(lambda x: True)
on_tensors("torch.is_floating_point")(lambda x: is_float(x.dtype))
on_tensors("torch.element_size")(lambda x: x.dtype.itemsize)
on_tensors("torch.is_same_size")(lambda x, other: x.shape == other.shape)
on_tensors("torch.is_contiguous")(lambda x, **_: True)
on_tensors(
    *(f"ops.prim.is_{kind}" for kind in ("cuda", "nested", "sparse", "quantized", "mkldnn", "meta", "mps", "xpu")),
    "torch.is_cuda", "torch.is_conj", "torch.is_neg",
)(lambda x: False)  # fmt: skip


@on_tensors("torch.item", "torch.Int", "torch.IntImplicit", "torch.ScalarImplicit")
def item(x: Tensor) -> Any:
    """The single element as a number."""
    kind = complex if is_complex(x.dtype) else float if is_float(x.dtype) else bool if x.dtype == np.bool_ else int
    return number_of(x, kind)


on_tensors("torch.Float", "torch.FloatImplicit")(lambda x: number_of(x, float))
on_tensors("torch.Bool", "torch.is_nonzero")(lambda x: number_of(x, bool))


@on_tensors("torch.tolist", "ops.prim.tolist")
def tolist(x: Tensor) -> Any:
    """Nested lists of numbers."""
    if not x.known:
        raise Refused("values that depend on the inputs are used as a list of numbers")
    return np.asarray(x.array).tolist()
