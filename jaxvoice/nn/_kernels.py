"""Convolutions for CPUs, dense and grouped, that avoid slow loops and transposes in XLA."""

import functools as ft

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float


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


def grouped_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "out in_per_group taps"],
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` without dilation, for `groups` > 1, with a custom derivative on CPUs.

    XLA's CPU backend lowers the gradients of strided grouped convolutions to loops ten times slower than the forward
    pass. This derivative computes the input gradient as one grouped convolution of stride 1 for all phases of the
    input, and the weight gradient as one batched matrix product per tap. On other platforms, XLA differentiates the
    convolution.

    The batch is an explicit axis. Under `jax.vmap`, a separate kernel gradient would be computed for each example.
    """
    convolve = _conv_with_vjp if jax.default_backend() == "cpu" else _forward
    return convolve(x, kernel, stride, padding, groups)


@ft.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_with_vjp(x, kernel, stride, padding, groups):
    return _forward(x, kernel, stride, padding, groups)


def _forward(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel.transpose(2, 1, 0),
        (stride,),
        [padding],
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=groups,
    )


def _forward_with_residuals(x, kernel, stride, padding, groups):
    return _forward(x, kernel, stride, padding, groups), (x, kernel)


def _backward(stride, padding, groups, residuals, dy):
    x, kernel = residuals
    return _input_gradient(dy, kernel, x.shape[1], stride, padding, groups), _kernel_gradient(
        dy, x, kernel.shape, stride, padding, groups
    )


_conv_with_vjp.defvjp(_forward_with_residuals, _backward)


def _input_gradient(dy, kernel, time, stride, padding, groups):
    out, per_group, taps = kernel.shape
    phases = -(-taps // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, phases * stride - taps)))
    kernel = kernel.reshape(groups, out // groups, per_group, phases, stride)
    kernel = jnp.flip(kernel, 3).transpose(0, 4, 2, 1, 3).reshape(groups * stride * per_group, out // groups, phases)
    dx = _forward(dy, kernel, 1, (phases - 1, phases - 1), groups)
    batch, frames, _ = dx.shape
    dx = dx.reshape(batch, frames, groups, stride, per_group).swapaxes(2, 3)
    dx = dx.reshape(batch, frames * stride, groups * per_group)
    missing = max(0, padding[0] + time - dx.shape[1])
    return jnp.pad(dx, ((0, 0), (0, missing), (0, 0)))[:, padding[0] : padding[0] + time]


def _kernel_gradient(dy, x, shape, stride, padding, groups):
    out, per_group, taps = shape
    batch, frames, _ = dy.shape
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    # Splitting time into (frame, phase) turns the strided reads of every tap into plain slices.
    blocks = frames + -(-taps // stride)
    x = jnp.pad(x, ((0, 0), (0, max(0, blocks * stride - x.shape[1])), (0, 0)))[:, : blocks * stride]
    x = x.reshape(batch, blocks, stride, groups, per_group).transpose(2, 3, 4, 0, 1)
    dy = dy.reshape(batch, frames, groups, out // groups).transpose(2, 3, 0, 1)
    dy = dy.reshape(groups, out // groups, batch * frames)

    def gradient_of_tap(tap):
        read = lax.dynamic_index_in_dim(x, tap % stride, 0, keepdims=False)
        read = lax.dynamic_slice_in_dim(read, tap // stride, frames, axis=-1)
        read = read.reshape(groups, per_group, batch * frames)
        return lax.dot_general(dy, read, (((2,), (2,)), ((0,), (0,))))

    # A loop, because a training step of HiFi-GAN with unrolled taps takes minutes to compile.
    gradients = lax.map(gradient_of_tap, jnp.arange(taps))
    return gradients.reshape(taps, out, per_group).transpose(1, 2, 0)
