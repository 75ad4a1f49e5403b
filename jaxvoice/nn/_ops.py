"""Convolutions as functions of `(..., time, channels)` arrays and kernels in torch's layout: the one place that picks
kernels.

Channels come last because XLA's CPU and GPU convolutions want them there; a stack that stays in this layout from end to
end saves two transposes a layer. On platforms other than CPUs, XLA and cuDNN choose how a convolution is computed.
"""

import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.errors import ShapeError
from jaxvoice.nn._columns import column_conv
from jaxvoice.nn._grouped import grouped_conv


def check_input(x: Array, channels: int, axes: str = "time") -> None:
    """Raise `ShapeError` unless `x` is `(*batch, axes, channels)`."""
    if x.ndim < 2 or x.shape[-1] != channels:
        raise ShapeError(f"expected an array of shape (*batch, {axes}, {channels}), channels last, got {x.shape}.")


def few_positions(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    """Whether `conv1d` would be one matrix product: on a CPU, for fewer positions in the output than channels.

    A weight norm is then better applied to the output, which is smaller than the kernel. Axes of a `jax.vmap` are not
    seen: many examples under it may be judged few.
    """
    out, _, taps = kernel_shape
    frames = (x_shape[-2] + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    positions = math.prod(x_shape[:-2]) * frames
    return groups == 1 and 0 < positions <= out and jax.default_backend() == "cpu"


def laid_out(kernel: Float[Array, "out in_per_group taps"]) -> Float[Array, "taps in_per_group out"]:
    """A kernel in torch's layout as convolutions read it."""
    return kernel.transpose(2, 1, 0)


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
    flat = x.reshape(-1, *x.shape[-2:])
    if few_positions(x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups):
        y = column_conv(flat, kernel, stride, padding, dilation)
    elif groups > 1 and dilation == 1:
        flat, padding = _padded(flat, padding, kernel.shape[-1])
        y = grouped_conv(flat, kernel, stride, padding, groups)
    else:
        return conv1d_with(x, laid_out(kernel), stride=stride, padding=padding, dilation=dilation, groups=groups)
    return y.reshape(*x.shape[:-2], *y.shape[1:])


def conv1d_with(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "taps in_per_group out"],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """`conv1d` with a kernel that is `laid_out` already."""
    flat = x.reshape(-1, *x.shape[-2:])
    flat, padding = _padded(flat, padding, dilation * (kernel.shape[0] - 1) + 1)
    y = lax.conv_general_dilated(
        flat,
        kernel,
        (stride,),
        [padding],
        rhs_dilation=(dilation,),
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=groups,
    )
    return y.reshape(*x.shape[:-2], *y.shape[1:])


def _padded(x, padding, reach):
    """`x` and what is still to pad: all of it, but where the output would be longer than `x`.

    There the weight gradient would end in XLA's naive loop for CPUs.
    """
    if sum(padding) < reach:
        return x, padding
    return jnp.pad(x, ((0, 0), padding, (0, 0))), (0, 0)


def phases_of(
    kernel: Float[Array, "in out_per_group taps"], stride: int, groups: int
) -> Float[Array, "groups_times_phases_times_out in_per_group taps_per_phase"]:
    """The kernel, in torch's layout, of the convolution that makes all `stride` phases of a transposed one's output."""
    inputs, out_per_group, taps = kernel.shape
    per_phase = -(-taps // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, per_phase * stride - taps)))
    kernel = kernel.reshape(groups, inputs // groups, out_per_group, per_phase, stride)
    # (out: group, phase, channel; in; tap, latest input first)
    kernel = jnp.flip(kernel, 3).transpose(0, 4, 2, 1, 3)
    return kernel.reshape(groups * stride * out_per_group, inputs // groups, per_phase)


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
    taps, phases = kernel.shape[-1], phases_of(kernel, stride, groups)
    y = conv1d(_with_edges(x, phases.shape[-1]), phases, groups=groups)
    return _interleaved(y, x.shape[-2], taps, stride, padding, output_padding, groups)


def conv_transpose1d_with(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "taps_per_phase in_per_group groups_times_phases_times_out"],
    taps: int,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """`conv_transpose1d` with the phases of a kernel of `taps` taps, `laid_out` already."""
    y = conv1d_with(_with_edges(x, kernel.shape[0]), kernel, groups=groups)
    return _interleaved(y, x.shape[-2], taps, stride, padding, output_padding, groups)


def _with_edges(x, per_phase):
    return jnp.pad(x, (*((0, 0) for _ in x.shape[:-2]), (per_phase - 1, per_phase - 1), (0, 0)))


def _interleaved(y, time, taps, stride, padding, output_padding, groups):
    batch = y.shape[:-2]
    y = y.reshape(math.prod(batch), y.shape[-2], groups, stride, -1).swapaxes(2, 3)
    y = y.reshape(y.shape[0], -1, groups * y.shape[-1])
    length = (time - 1) * stride - 2 * padding + taps + output_padding
    missing = max(0, padding + length - y.shape[1])
    y = jnp.pad(y, ((0, 0), (0, missing), (0, 0)))[:, padding : padding + length]
    return y.reshape(*batch, *y.shape[1:])
