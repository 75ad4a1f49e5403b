"""Grouped convolution with a derivative of its own.

XLA's CPU backend lowers the gradients of strided grouped convolutions to loops ten times slower than the forward pass.
Here the input gradient is a stride-1 grouped convolution to all phases of the input at once, and the weight gradient
one small batched matrix product per tap. Other platforms take XLA's own derivative.
"""

import functools as ft

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float


def grouped_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "out in_per_group taps"],
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` without dilation, for `groups` > 1.

    The batch is an axis of its own, not a `jax.vmap`, which would make one kernel gradient an example and add them up.
    """
    convolve = _conv if jax.default_backend() == "cpu" else _forward
    return convolve(x, kernel, stride, padding, groups)


@ft.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, stride, padding, groups):
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


def _remember(x, kernel, stride, padding, groups):
    return _forward(x, kernel, stride, padding, groups), (x, kernel)


def _backward(stride, padding, groups, residuals, dy):
    x, kernel = residuals
    return _input_gradient(dy, kernel, x.shape[1], stride, padding, groups), _kernel_gradient(
        dy, x, kernel.shape, stride, padding, groups
    )


_conv.defvjp(_remember, _backward)


def _input_gradient(dy, kernel, time, stride, padding, groups):
    out, per_group, taps = kernel.shape
    phases = -(-taps // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, phases * stride - taps)))
    kernel = kernel.reshape(groups, out // groups, per_group, phases, stride)
    kernel = jnp.flip(kernel, 3).transpose(0, 4, 2, 1, 3).reshape(groups * stride * per_group, out // groups, phases)
    dx = _forward(dy, kernel, 1, (phases - 1, phases - 1), groups)
    batch = dx.shape[0]
    dx = dx.reshape(batch, -1, groups, stride, per_group).swapaxes(2, 3).reshape(batch, -1, groups * per_group)
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
    dy = dy.reshape(batch, frames, groups, out // groups).transpose(2, 3, 0, 1).reshape(groups, out // groups, -1)

    def of_tap(tap):
        read = lax.dynamic_index_in_dim(x, tap % stride, 0, keepdims=False)
        read = lax.dynamic_slice_in_dim(read, tap // stride, frames, axis=-1).reshape(groups, per_group, -1)
        return lax.dot_general(dy, read, (((2,), (2,)), ((0,), (0,))))

    # A loop over taps: unrolled, a training step of HiFi-GAN would take minutes to compile.
    gradients = lax.map(of_tap, jnp.arange(taps))
    return gradients.reshape(taps, out, per_group).transpose(1, 2, 0)
