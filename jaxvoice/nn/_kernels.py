"""Convolutions for CPUs in the forms that XLA computes fastest: dense, grouped, of images, and as one matrix product.

XLA passes two-dimensional convolutions of channels-last arrays to YNNPACK, except those with groups, with a dilated
input, or with an output longer than the input. They are faster than XLA's one-dimensional convolutions. A signal is
therefore convolved as an image with one row.
"""

import contextlib
import contextvars
import functools as ft
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# With fewer channels, a training step with image convolutions takes longer than one with XLA's own.
_LEAST_CHANNELS = 32

# Output positions per row of the matrices of `_kernel_gradient`. With fewer positions, the matrices are narrow. With
# more, the product contains more inputs that a position does not depend on.
_BLOCK = 8

_portable = contextvars.ContextVar("portable", default=False)


def computes_on_cpu() -> bool:
    """Whether to use the forms for CPUs."""
    return not _portable.get() and jax.default_backend() == "cpu"


@contextlib.contextmanager
def portable_kernels() -> Iterator[None]:
    """A context in which functions are traced with JAX's own convolutions, for other platforms and programs."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def dense_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "taps in out"],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` without groups, with a kernel in the layout of XLA's convolutions."""
    if not computes_on_cpu() or min(kernel.shape[1:]) < _LEAST_CHANNELS:
        return _convolve(x, kernel, stride, padding, dilation)
    return _dense_conv(x, kernel, stride, padding, dilation)


@ft.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _dense_conv(x, kernel, stride, padding, dilation):
    return _image_conv(x, kernel, stride, padding, dilation)


def _dense_conv_jvp(stride, padding, dilation, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _dense_conv(x, kernel, stride, padding, dilation)
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_image_conv(dx, kernel, stride, padding, dilation))
    if not isinstance(dkernel, SymbolicZero):
        # The transpose of this form, the kernel gradient, is faster than that of an image convolution.
        terms.append(_convolve(x, dkernel, stride, padding, dilation))
    return y, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(y)


_dense_conv.defjvp(_dense_conv_jvp, symbolic_zeros=True)


def _convolve(x, kernel, stride, padding, dilation, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [padding],
        rhs_dilation=(dilation,),
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=groups,
    )


def _image_conv(x, kernel, stride, padding, dilation):
    """The convolution of images with one row."""
    y = lax.conv_general_dilated(
        x[:, None],
        kernel[None],
        (1, stride),
        [(0, 0), padding],
        rhs_dilation=(1, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y[:, 0]


def grouped_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "taps in_per_group out"],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    groups: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` with groups, with a kernel in the layout of XLA's convolutions.

    XLA's CPU backend has no fast grouped convolution, and lowers the gradients of strided ones to loops ten times
    slower than the forward pass. The groups are therefore convolved one after the other.

    The batch is an explicit axis. Under `jax.vmap`, a separate kernel gradient would be computed for each example.
    Forward and reverse mode work, and derivatives of any order.
    """
    if not computes_on_cpu():
        return _convolve(x, kernel, stride, padding, dilation, groups)
    if kernel.shape[1] == 1:
        return _depthwise_conv(x, kernel, stride, padding, dilation)
    # In torch's layout: those of one group are transposed faster, because they fit into a cache.
    kernels = kernel.transpose(2, 1, 0).reshape(groups, -1, *kernel.shape[1::-1])
    split = _split_groups(x, groups)
    if dilation == 1:
        return _join_groups(_conv.bind(*_varying(split, kernels), stride=stride, padding=padding))
    return _join_groups(_map_image_conv(split, kernels, stride, padding, dilation))


def _split_groups(x, groups):
    return x.reshape(*x.shape[:2], groups, x.shape[2] // groups).transpose(2, 0, 1, 3)


def _varying(*arrays):
    """`arrays`, all of which vary over the mesh axes that one of them varies over in a `jax.shard_map`.

    The transpose then sums over the devices, as for JAX's own convolutions.
    """
    types = [jax.typeof(array) for array in arrays]
    # The name of the attribute depends on the version of JAX.
    varying = [kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying for kind in types]
    missing = [tuple(varying[0].union(*varying) - axes) for axes in varying]
    return [lax.pcast(a, axes, to="varying") if axes else a for a, axes in zip(arrays, missing, strict=True)]


def _join_groups(y):
    return y.transpose(1, 2, 0, 3).reshape(*y.shape[1:3], y.shape[0] * y.shape[3])


def _map_image_conv(x, kernels, stride, padding, dilation):
    """Convolutions of the signals with the kernels `(out, in, taps)` of the groups."""
    return lax.map(lambda group: _image_conv(group[0], group[1].T, stride, padding, dilation), (x, kernels))


def _input_gradient(dy, kernel, time, stride, padding):
    """The gradient of an input of length `time`, for a kernel `(out, in, taps)`.

    XLA lowers the transpose of a convolution with a stride to a slow loop. The gradient is therefore computed for all
    phases of the input at once, and its phases are then interleaved.
    """
    out, channels, taps = kernel.shape
    phase_taps = -(-taps // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, phase_taps * stride - taps)))
    kernel = jnp.flip(kernel.reshape(out, channels, phase_taps, stride), 2).transpose(2, 0, 3, 1)
    # YNNPACK computes no convolution whose padding makes the output longer than the input.
    padded = jnp.pad(dy, ((0, 0), (phase_taps - 1, phase_taps - 1), (0, 0)))
    dx = _image_conv(padded, kernel.reshape(phase_taps, out, stride * channels), 1, (0, 0), 1)
    dx = dx.reshape(dx.shape[0], dx.shape[1] * stride, channels)
    missing = max(0, padding[0] + time - dx.shape[1])
    return jnp.pad(dx, ((0, 0), (0, missing), (0, 0)))[:, padding[0] : padding[0] + time]


def _kernel_gradient(x, dy, taps, stride, padding):
    """The gradient of a convolution's kernel as one matrix product.

    A row of both matrices is a block of `_BLOCK` output positions. Its columns are the output's gradient at these
    positions, and the inputs that they depend on. The product contains the gradient of every tap once per position.
    Sums are computed in float32 if the arrays are narrower.
    """
    (batch, time, channels), (_, frames, out) = x.shape, dy.shape
    blocks, step, window = -(-frames // _BLOCK), _BLOCK * stride, stride * (_BLOCK - 1) + taps
    shifts = -(-window // step)
    dy = jnp.pad(dy, ((0, 0), (0, blocks * _BLOCK - frames), (0, 0))).reshape(batch * blocks, _BLOCK * out)
    length = (blocks + shifts - 1) * step
    x = jnp.pad(x, ((0, 0), (padding[0], max(0, length - time - padding[0])), (0, 0)))
    x = x[:, :length].reshape(batch, blocks + shifts - 1, step * channels)
    x = jnp.concatenate([x[:, shift : shift + blocks] for shift in range(shifts)], -1)[..., : window * channels]
    product = lax.dot_general(
        x.reshape(batch * blocks, window * channels),
        dy,
        (((0,), (0,)), ((), ())),
        preferred_element_type=sum_dtype(dy.dtype),
    )
    product = product.reshape(window, channels, _BLOCK, out)
    gradient = product[:taps, :, 0]
    for position in range(1, _BLOCK):
        gradient = gradient + product[position * stride : position * stride + taps, :, position]
    return gradient.astype(dy.dtype)


def sum_dtype(dtype: np.dtype) -> DTypeLike:
    """The dtype in which sums over arrays of `dtype` are computed: `dtype` itself, at least float32."""
    return dtype if dtype.itemsize >= 4 else jnp.float32


# The convolution of all groups, its input gradient and its kernel gradient are bilinear. The transposes of each are the
# other two. They are primitives because a function with a custom VJP has no forward mode, and a custom JVP does not
# change the transpose. Signals have the shape `(groups, batch, time, channels)`, kernels `(groups, out, in, taps)`.


def _convolve_groups(x, kernels, *, stride, padding):
    return _map_image_conv(x, kernels, stride, padding, 1)


# One loop for each gradient, because a training step needs only the input gradient of some layers.
def _input_gradients(dy, kernels, *, time, stride, padding):
    return lax.map(lambda group: _input_gradient(group[0], group[1], time, stride, padding), (dy, kernels))


def _kernel_gradients(x, dy, *, taps, stride, padding):
    # In the loop, the transpose would be fused with the sum over positions, and be slow.
    gradients = lax.map(lambda group: _kernel_gradient(group[0], group[1], taps, stride, padding), (x, dy))
    return gradients.transpose(0, 3, 2, 1)


def _bilinear_primitive(name: str, compute: Callable[..., Array], *static: str) -> Primitive:
    """A primitive for `compute(signals, kernels or signals, **static)`, without its transposes."""
    primitive = Primitive(f"grouped_conv_{name}")
    primitive.def_impl(jax.jit(compute, static_argnames=static))
    primitive.def_abstract_eval(
        lambda *args, **options: jax.make_jaxpr(ft.partial(compute, **options))(*args).out_avals[0]
    )
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = ft.partial(_batched, primitive)
    return primitive


def _batched(
    primitive: Primitive, args: tuple[Array, Array], axes: tuple[Any, Any], **options: Any
) -> tuple[Array, int]:
    """Merge an axis of `jax.vmap` with the batch if only the signals have it, and with the groups otherwise."""
    left, right = args
    if axes[1] is None and primitive is not _kernel_gradient_of:
        signals = jnp.moveaxis(left, axes[0], 1)
        groups, size, batch, *shape = signals.shape
        y = primitive.bind(signals.reshape(groups, size * batch, *shape), right, **options)
        return y.reshape(groups, size, batch, *y.shape[2:]), 1
    (size,) = {array.shape[axis] for array, axis in zip(args, axes, strict=True) if axis is not None}
    merged = [
        jnp.broadcast_to(array, (size, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(args, axes, strict=True)
    ]
    groups = merged[0].shape[1]
    y = primitive.bind(*(array.reshape(size * groups, *array.shape[2:]) for array in merged), **options)
    return y.reshape(size, groups, *y.shape[1:]), 0


_conv = _bilinear_primitive("output", _convolve_groups, "stride", "padding")
_input_gradient_of = _bilinear_primitive("input_gradient", _input_gradients, "time", "stride", "padding")
_kernel_gradient_of = _bilinear_primitive("kernel_gradient", _kernel_gradients, "taps", "stride", "padding")

# The rules get the cotangent and both arguments; the one whose gradient is computed has only a shape.
ad.defbilinear(
    _conv,
    lambda dy, x, kernels, **options: _input_gradient_of.bind(dy, kernels, time=x.aval.shape[2], **options),
    lambda dy, x, kernels, **options: _kernel_gradient_of.bind(x, dy, taps=kernels.aval.shape[3], **options),
)
ad.defbilinear(
    _input_gradient_of,
    lambda dx, dy, kernels, time, **options: _conv.bind(dx, kernels, **options),
    lambda dx, dy, kernels, time, **options: _kernel_gradient_of.bind(dx, dy, taps=kernels.aval.shape[3], **options),
)
ad.defbilinear(
    _kernel_gradient_of,
    lambda dk, x, dy, taps, **options: _input_gradient_of.bind(dy, dk, time=x.aval.shape[2], **options),
    lambda dk, x, dy, taps, **options: _conv.bind(x, dk, **options),
)


def _depthwise_conv(x, kernel, stride, padding, dilation):
    """A convolution with one input channel per group: a sum of shifted products, which XLA fuses.

    If the arrays are narrower than float32, this sum and those of the gradients are computed in float32.
    """
    (batch, _, groups), taps, dtype = x.shape, kernel.shape[0], x.dtype
    x, kernel = x.astype(sum_dtype(dtype)), kernel.astype(sum_dtype(dtype))
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    span = (x.shape[1] - dilation * (taps - 1) - 1) // stride * stride + 1
    kernel = kernel.reshape(taps, 1, 1, groups, -1)
    reads = [lax.slice_in_dim(x, tap * dilation, tap * dilation + span, stride, axis=1) for tap in range(taps)]
    y = reads[0][..., None] * kernel[0]
    for read, weights in zip(reads[1:], kernel[1:], strict=True):
        y = y + read[..., None] * weights
    return y.reshape(batch, y.shape[1], groups * kernel.shape[-1]).astype(dtype)


def im2col_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "out in taps"],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` without groups, as one matrix product (im2col).

    XLA's CPU convolutions need kernels as `(tap, in, out)`. For the last layers of the discriminators, transposing
    five million weights and their gradient takes longer than the convolution of a small batch. This function keeps the
    layout of the kernel and rearranges the activations instead.
    """
    (batch, time, channels), (out, _, taps) = x.shape, kernel.shape
    span = dilation * (taps - 1) + 1
    frames = (time + sum(padding) - span) // stride + 1
    # Splitting time into (frame, phase) turns the strided reads of every tap into plain slices.
    blocks = frames + (span - 1) // stride
    x = jnp.pad(x, ((0, 0), (padding[0], max(0, blocks * stride - time - padding[0])), (0, 0)))
    x = x[:, : blocks * stride].reshape(batch, blocks, stride, channels)
    reads = [divmod(tap * dilation, stride) for tap in range(taps)]
    slices = [lax.slice_in_dim(x[:, :, phase], start, start + frames, axis=1) for start, phase in reads]
    columns = jnp.stack(slices, -1)
    columns = columns.reshape(batch * frames, channels * taps)
    y = lax.dot_general(columns, kernel.reshape(out, channels * taps), (((1,), (1,)), ((), ())))
    return y.reshape(batch, frames, out)


def xla_conv2d(
    x: Float[Array, "n height width in"],
    kernel: Float[Array, "out in taps_high taps_wide"],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Float[Array, "n new_height new_width out"]:
    """`jaxvoice.nn._ops.conv2d` by XLA's convolution."""
    return lax.conv_general_dilated(
        x,
        kernel.transpose(2, 3, 1, 0),
        stride,
        [(added, added) for added in padding],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def strided_conv2d(
    x: Float[Array, "n height width in"],
    kernel: Float[Array, "out in taps_high taps_wide"],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Float[Array, "n new_height new_width out"]:
    """`jaxvoice.nn._ops.conv2d` with a stride.

    XLA's convolution of images is twice as fast as a product with the values under all taps, and needs no memory for
    them. But XLA lowers its gradients to slow loops, so derivatives are those of the product.
    """
    if kernel.shape[1] < _LEAST_CHANNELS:
        return _columns_conv2d(x, kernel, stride, padding, dilation)
    return _strided_conv2d(x, kernel, stride, padding, dilation)


@ft.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _strided_conv2d(x, kernel, stride, padding, dilation):
    return xla_conv2d(x, kernel, stride, padding, dilation)


def _strided_conv2d_jvp(stride, padding, dilation, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _strided_conv2d(x, kernel, stride, padding, dilation)
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_columns_conv2d(dx, kernel, stride, padding, dilation))
    if not isinstance(dkernel, SymbolicZero):
        terms.append(_columns_conv2d(x, dkernel, stride, padding, dilation))
    return y, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(y)


_strided_conv2d.defjvp(_strided_conv2d_jvp, symbolic_zeros=True)


def _columns_conv2d(x, kernel, stride, padding, dilation):
    """A convolution with a stride as one product with the values under all taps."""
    out, _, *taps = kernel.shape
    x = jnp.pad(x, ((0, 0), *((added, added) for added in padding), (0, 0)))
    spans = [spacing * (count - 1) + 1 for spacing, count in zip(dilation, taps, strict=True)]
    axes = list(zip(x.shape[1:3], spans, stride, strict=True))
    sizes = [(size - span) // step + 1 for size, span, step in axes]
    # Positions of the same remainder form a grid of their own, of which each tap reads a contiguous part.
    cells = [size + -(-span // step) - 1 for size, (_, span, step) in zip(sizes, axes, strict=True)]
    high, wide = (cell * step for cell, step in zip(cells, stride, strict=True))
    x = jnp.pad(x[:, :high, :wide], ((0, 0), (0, max(0, high - x.shape[1])), (0, max(0, wide - x.shape[2])), (0, 0)))
    grids = x.reshape(x.shape[0], cells[0], stride[0], cells[1], stride[1], x.shape[3])
    parts = [
        grids[:, i // stride[0] :, i % stride[0], j // stride[1] :, j % stride[1]][:, : sizes[0], : sizes[1]]
        for i in range(0, spans[0], dilation[0])
        for j in range(0, spans[1], dilation[1])
    ]
    return jnp.concatenate(parts, axis=-1) @ kernel.transpose(2, 3, 1, 0).reshape(-1, out)
