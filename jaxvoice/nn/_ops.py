"""Convolutions as functions of `(..., time, channels)` arrays and kernels in torch's layout: the one place that picks
kernels.

Channels come last because XLA's CPU and GPU convolutions want them there; a stack that stays in this layout from end to
end saves two transposes a layer. On platforms other than CPUs, XLA and cuDNN choose how a convolution is computed.
"""

import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.nn._columns import column_conv
from jaxvoice.nn._grouped import grouped_conv


def few_positions(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, int, int],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    """Whether `conv1d` would be one matrix product: on a CPU, for fewer positions in the output than channels.

    A weight norm is then better applied to the output, which is smaller than the kernel.
    """
    out, _, taps = kernel_shape
    frames = (x_shape[-2] + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    positions = math.prod(x_shape[:-2]) * frames
    return groups == 1 and 0 < positions <= out and jax.default_backend() == "cpu"


def conv1d(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "out in_per_group taps"],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """Torch's `conv1d`: cross-correlate `x`, padded with zeros by `padding` on the left and right, with `kernel`."""
    batch, (time, channels), taps = x.shape[:-2], x.shape[-2:], kernel.shape[-1]
    few = few_positions(x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = x.reshape(-1, time, channels)
    if few:
        y = column_conv(x, kernel, stride, padding, dilation)
        return y.reshape(*batch, *y.shape[1:])
    if sum(padding) > dilation * (taps - 1):
        # Padding first keeps the weight gradient off XLA's naive CPU loop, where an output longer than its input ends.
        x, padding = jnp.pad(x, ((0, 0), padding, (0, 0))), (0, 0)
    if groups > 1 and dilation == 1:
        y = grouped_conv(x, kernel, stride, padding, groups)
    else:
        y = lax.conv_general_dilated(
            x,
            kernel.transpose(2, 1, 0),
            (stride,),
            [padding],
            rhs_dilation=(dilation,),
            dimension_numbers=("NHC", "HIO", "NHC"),
            feature_group_count=groups,
        )
    return y.reshape(*batch, *y.shape[1:])


def conv_transpose1d(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "in out_per_group taps"],
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """Torch's `conv_transpose1d`, as one convolution that makes all `stride` phases of the output at once.

    Output sample `t * stride + s` needs only the taps `s, s + stride, ...`, so the kernel is cut into `stride` phases
    of `ceil(taps / stride)` taps and a plain convolution computes `stride * out` channels, which are then interleaved:
    no multiplication with inserted zeros, and gradients that XLA handles well.
    """
    inputs, out_per_group, taps = kernel.shape
    batch, time, per_phase = x.shape[:-2], x.shape[-2], -(-taps // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, per_phase * stride - taps)))
    kernel = kernel.reshape(groups, inputs // groups, out_per_group, per_phase, stride)
    # (out: group, phase, channel; in; tap, latest input first)
    kernel = jnp.flip(kernel, 3).transpose(0, 4, 2, 1, 3)
    kernel = kernel.reshape(groups * stride * out_per_group, inputs // groups, per_phase)
    x = jnp.pad(x.reshape(-1, time, inputs), ((0, 0), (per_phase - 1, per_phase - 1), (0, 0)))
    y = conv1d(x, kernel, groups=groups)
    y = y.reshape(y.shape[0], -1, groups, stride, out_per_group).swapaxes(2, 3)
    y = y.reshape(y.shape[0], -1, groups * out_per_group)
    length = (time - 1) * stride - 2 * padding + taps + output_padding
    missing = max(0, padding + length - y.shape[1])
    y = jnp.pad(y, ((0, 0), (0, missing), (0, 0)))[:, padding : padding + length]
    return y.reshape(*batch, *y.shape[1:])
