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
from jaxvoice.nn._inputs import check_at_least
from jaxvoice.nn._kernels import column_conv, grouped_conv


def check_time(time: int, least: int, operation: str) -> None:
    """Raise `ShapeError` if an input of `time` positions is shorter than `least` or empty."""
    if time < max(least, 1):
        raise ShapeError(
            f"an input of {time} positions leaves no output of {operation}; give at least {max(least, 1)}."
        )


def _reach(taps: int, dilation: int) -> int:
    """Number of input positions that one output position depends on."""
    return dilation * (taps - 1) + 1


def _flat(x: Float[Array, "*batch time channels"]) -> Float[Array, "flat_batch time channels"]:
    """`x` with one batch axis, which may have size 0."""
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


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

    A weight norm is then better applied to the output, which is smaller than the kernel. Axes of `jax.vmap` are not
    counted.
    """
    out, _, taps = kernel_shape
    frames = (x_shape[-2] + sum(padding) - _reach(taps, dilation)) // stride + 1
    positions = math.prod(x_shape[:-2]) * frames
    return groups == 1 and 0 < positions <= out and jax.default_backend() == "cpu"


def to_xla_layout(kernel: Float[Array, "out in_per_group taps"]) -> Float[Array, "taps in_per_group out"]:
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
    """Torch's `conv1d`: cross-correlate `x`, padded with zeros by `padding` on the left and right, with `kernel`.

    **Raises:** `ShapeError` for an input too short for one output position.
    """
    check_time(x.shape[-2], _reach(kernel.shape[-1], dilation) - sum(padding), "a convolution")
    flat = _flat(x)
    if few_positions(x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups):
        y = column_conv(flat, kernel, stride, padding, dilation)
    elif groups > 1 and dilation == 1:
        flat, padding = _padded(flat, padding, kernel.shape[-1])
        y = grouped_conv(flat, kernel, stride, padding, groups)
    else:
        return conv1d_with(x, to_xla_layout(kernel), stride=stride, padding=padding, dilation=dilation, groups=groups)
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
    """`conv1d` with a kernel in the layout of `to_xla_layout`."""
    reach = _reach(kernel.shape[0], dilation)
    check_time(x.shape[-2], reach - sum(padding), "a convolution")
    flat, padding = _padded(_flat(x), padding, reach)
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
    """`x` and the padding left to the convolution: all of it, unless the output would be longer than `x`.

    XLA lowers the weight gradient of such a convolution to a slow loop on CPUs, so `x` is padded beforehand.
    """
    if sum(padding) < reach:
        return x, padding
    return jnp.pad(x, ((0, 0), padding, (0, 0))), (0, 0)


def polyphase_kernel(
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
    taps, phases = kernel.shape[-1], polyphase_kernel(kernel, stride, groups)
    _check_transposed(x.shape[-2], taps, stride, padding, output_padding)
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
    """`conv_transpose1d` with the phases of a kernel of `taps` taps, in the layout of `to_xla_layout`."""
    _check_transposed(x.shape[-2], taps, stride, padding, output_padding)
    y = conv1d_with(_with_edges(x, kernel.shape[0]), kernel, groups=groups)
    return _interleaved(y, x.shape[-2], taps, stride, padding, output_padding, groups)


def _check_transposed(time, taps, stride, padding, output_padding):
    # The shortest input has (time - 1) * stride + taps + output_padding - 2 * padding of at least 1.
    missing = 1 + 2 * padding - taps - output_padding
    check_time(time, 1 + -(-missing // stride), "a transposed convolution")


def _with_edges(x, per_phase):
    return jnp.pad(x, (*((0, 0) for _ in x.shape[:-2]), (per_phase - 1, per_phase - 1), (0, 0)))


def _interleaved(y, time, taps, stride, padding, output_padding, groups):
    batch = y.shape[:-2]
    frames, out_per_group = y.shape[-2], y.shape[-1] // (groups * stride)
    y = y.reshape(math.prod(batch), frames, groups, stride, out_per_group).swapaxes(2, 3)
    y = y.reshape(y.shape[0], frames * stride, groups * out_per_group)
    length = (time - 1) * stride - 2 * padding + taps + output_padding
    missing = max(0, padding + length - y.shape[1])
    y = jnp.pad(y, ((0, 0), (0, missing), (0, 0)))[:, padding : padding + length]
    return y.reshape(*batch, *y.shape[1:])


def average_pool1d(
    x: Float[Array, "*batch time channels"], *, window: int, stride: int, padding: int
) -> Float[Array, "*batch new_time channels"]:
    """Mean over `window` samples every `stride`, padding counted too, as torch's `AvgPool1d` does by default.

    **Arguments:** `x` of shape `(..., time, channels)`.

    **Returns:** shape `(..., (time + 2 * padding - window) // stride + 1, channels)`.

    **Raises:** `ShapeError` for an input too short for one output position, or without channels; `ConfigError` for
    `window` or `stride` below 1, or negative `padding`.
    """
    check_at_least(1, window=window, stride=stride)
    check_at_least(0, padding=padding)
    if x.ndim < 2:
        raise ShapeError(f"expected an array of shape (*batch, time, channels), got {x.shape}.")
    check_time(x.shape[-2], window - 2 * padding, "a pooling")
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((padding, padding), (0, 0)))
    length = (x.shape[-2] - window) // stride + 1
    taps = [x[..., i : i + (length - 1) * stride + 1 : stride, :] for i in range(window)]
    return sum(taps[1:], taps[0]) * jnp.asarray(1 / window, x.dtype)
