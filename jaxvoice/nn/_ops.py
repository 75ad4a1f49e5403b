"""Convolutions of `(*batch, time, channels)` arrays with kernels in torch's layout. This module chooses the algorithm.

Channels are last because XLA's convolutions on CPUs and GPUs take them last; a network that uses this layout throughout
saves two transposes per layer. On platforms other than CPUs, XLA and cuDNN choose how a convolution is computed.
"""

import math

from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.errors import ShapeError
from jaxvoice.nn._inputs import check_at_least
from jaxvoice.nn._kernels import computes_on_cpu, dense_conv, grouped_conv, im2col_conv, strided_conv2d, xla_conv2d


def check_time(time: int, least: int, operation: str) -> None:
    """Raise `ShapeError` if an input of length `time` is shorter than `least` or empty."""
    if time < max(least, 1):
        raise ShapeError(f"The length of the input is {time}; it should be at least {max(least, 1)} for {operation}.")


def _kernel_span(taps: int, dilation: int) -> int:
    """Number of input positions that one output position depends on."""
    return dilation * (taps - 1) + 1


def _flat(x: Float[Array, "*batch time channels"]) -> Float[Array, "flat_batch time channels"]:
    """`x` with one batch axis, which may have size 0."""
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def uses_im2col(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    """Whether `conv1d` is computed as one matrix product: on a CPU, if the output has no more positions than channels.

    The scale of a weight norm is then applied to the output, which is smaller than the kernel. Axes of `jax.vmap` are
    not counted as positions.
    """
    out, _, taps = kernel_shape
    frames = (x_shape[-2] + sum(padding) - _kernel_span(taps, dilation)) // stride + 1
    positions = math.prod(x_shape[:-2]) * frames
    return groups == 1 and 0 < positions <= out and computes_on_cpu()


def _is_product(kernel_shape: tuple[int, ...], *, stride: int, padding: tuple[int, int], groups: int) -> bool:
    """Whether a convolution is a product of a matrix and the channels of every position, on a CPU.

    XLA computes the product with the kernel in torch's layout, and the kernel gradient as a product, which is a slow
    convolution otherwise.
    """
    return (kernel_shape[2], stride, *padding, groups) == (1, 1, 0, 0, 1) and computes_on_cpu()


def to_xla_layout(kernel: Float[Array, "out in_per_group taps"]) -> Float[Array, "taps in_per_group out"]:
    """A kernel in torch's layout, transposed to the layout of XLA's convolutions."""
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
    """torch's `conv1d`: cross-correlate `x`, padded with `padding` zeros on the left and right, with `kernel`.

    Negative padding removes positions of `x`.

    **Raises:** `ShapeError` for an input too short for one output position.
    """
    check_time(x.shape[-2], _kernel_span(kernel.shape[-1], dilation) - sum(padding), "a convolution")
    x, padding = _crop(x, padding)
    options = {"stride": stride, "padding": padding, "groups": groups}
    if _is_product(kernel.shape, **options) or uses_im2col(x.shape, kernel.shape, dilation=dilation, **options):
        y = im2col_conv(_flat(x), kernel, stride, padding, dilation)
        return y.reshape(*x.shape[:-2], *y.shape[1:])
    return conv1d_xla(x, to_xla_layout(kernel), stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv1d_xla(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "taps in_per_group out"],
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """`conv1d` with a kernel in the layout of `to_xla_layout`."""
    span = _kernel_span(kernel.shape[0], dilation)
    check_time(x.shape[-2], span - sum(padding), "a convolution")
    x, padding = _crop(x, padding)
    flat, padding = _pad_explicitly(_flat(x), padding, span, kernel.shape[0])
    if _is_product(kernel.shape[::-1], stride=stride, padding=padding, groups=groups):
        y = flat @ kernel[0]
    elif groups == 1:
        y = dense_conv(flat, kernel, stride, padding, dilation)
    else:
        y = grouped_conv(flat, kernel, stride, padding, dilation, groups)
    return y.reshape(*x.shape[:-2], *y.shape[1:])


def conv2d(
    x: Float[Array, "*batch height width in"],
    kernel: Float[Array, "out in taps_high taps_wide"],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "*batch new_height new_width out"]:
    """torch's `conv2d` of arrays with channels last. Pairs are along the height and along the width.

    **Raises:** `ShapeError` for an input too small for one output position.
    """
    for size, taps, added, spacing in zip(x.shape[-3:-1], kernel.shape[-2:], padding, dilation, strict=True):
        check_time(size, _kernel_span(taps, spacing) - 2 * added, "a convolution")
    flat = x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
    convolve = strided_conv2d if max(stride) > 1 and computes_on_cpu() else xla_conv2d
    y = convolve(flat, kernel, stride, padding, dilation)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _crop(x, padding):
    """`x` without the positions that negative padding removes, and the rest of the padding."""
    left, right = padding
    if min(padding) >= 0:
        return x, padding
    return x[..., max(0, -left) : x.shape[-2] - max(0, -right), :], (max(0, left), max(0, right))


def _pad_explicitly(x, padding, span, taps):
    """`x` and the padding that the convolution adds. Pads `x` here if XLA's convolution would be slow.

    On CPUs, XLA lowers the weight gradient to a slow loop if the padding has `span` positions or more: without a
    stride, the output is then longer than `x`. If the kernel has more taps than `x` has positions, XLA exchanges them,
    and its convolutions are slow in the layout that results.
    """
    if sum(padding) < span and taps <= x.shape[1]:
        return x, padding
    return jnp.pad(x, ((0, 0), padding, (0, 0))), (0, 0)


def polyphase_kernel(
    kernel: Float[Array, "in out_per_group taps"], stride: int, groups: int
) -> Float[Array, "groups_times_phases_times_out in_per_group taps_per_phase"]:
    """The kernel, in torch's layout, of a convolution that computes all `stride` phases of a transposed convolution."""
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
    """torch's `conv_transpose1d`, computed as one convolution for all `stride` phases of the output.

    Output sample `t * stride + s` depends only on the taps `s, s + stride, ...`. The kernel is therefore split into
    `stride` phases of `ceil(taps / stride)` taps. A plain convolution computes `stride * out` channels, which are then
    interleaved. This needs no multiplication with inserted zeros, and XLA lowers its gradients to fast code.
    """
    taps, phases = kernel.shape[-1], polyphase_kernel(kernel, stride, groups)
    length = _transposed_length(x.shape[-2], taps, stride, padding, output_padding)
    edges, cropped = _edges(x.shape[-2], phases.shape[-1], stride, padding, length)
    y = conv1d(_pad_edges(x, edges), phases, groups=groups)
    return _interleave(y, stride, cropped, length, groups)


def conv_transpose1d_xla(
    x: Float[Array, "*batch time in"],
    kernel: Float[Array, "taps_per_phase in_per_group groups_times_phases_times_out"],
    taps: int,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
) -> Float[Array, "*batch new_time out"]:
    """`conv_transpose1d` with a polyphase kernel, of `taps` taps in all, in the layout of `to_xla_layout`."""
    length = _transposed_length(x.shape[-2], taps, stride, padding, output_padding)
    edges, cropped = _edges(x.shape[-2], kernel.shape[0], stride, padding, length)
    y = conv1d_xla(_pad_edges(x, edges), kernel, groups=groups)
    return _interleave(y, stride, cropped, length, groups)


def _transposed_length(time, taps, stride, padding, output_padding):
    """The output length; raises `ShapeError` if it is below 1."""
    missing = 1 + 2 * padding - taps - output_padding
    check_time(time, 1 + -(-missing // stride), "a transposed convolution")
    return (time - 1) * stride - 2 * padding + taps + output_padding


def _edges(time, per_phase, stride, padding, length):
    """Zeros before and after the input of the convolution, and output samples to remove at the start.

    Frames of `stride` samples that padding removes completely are not computed.
    """
    skipped = min(per_phase - 1, padding // stride)
    before, cropped = per_phase - 1 - skipped, padding - skipped * stride
    frames = -(-(cropped + length) // stride)
    after = min(max(0, frames - time - before + per_phase - 1), per_phase - 1)
    return (before, after), cropped


def _pad_edges(x, edges):
    return jnp.pad(x, (*((0, 0) for _ in x.shape[:-2]), edges, (0, 0))) if any(edges) else x


def _interleave(y, stride, padding, length, groups):
    batch = y.shape[:-2]
    frames, out_per_group = y.shape[-2], y.shape[-1] // (groups * stride)
    y = y.reshape(math.prod(batch), frames, groups, stride, out_per_group).swapaxes(2, 3)
    y = y.reshape(y.shape[0], frames * stride, groups * out_per_group)
    missing = max(0, padding + length - y.shape[1])
    y = jnp.pad(y, ((0, 0), (0, missing), (0, 0)))[:, padding : padding + length]
    return y.reshape(*batch, *y.shape[1:])


def average_pool1d(
    x: Float[Array, "*batch time channels"], *, window: int, stride: int, padding: int
) -> Float[Array, "*batch new_time channels"]:
    """Average pooling. Padding is part of the averages, as in torch's `AvgPool1d` by default.

    **Arguments:** `x` of shape `(*batch, time, channels)`; `window`, `stride` and `padding` in samples.

    **Returns:** an array of shape `(*batch, (time + 2 * padding - window) // stride + 1, channels)`.

    **Raises:** `ShapeError` for an input too short for one output position, or without channels; `ConfigError` for
    `window` or `stride` below 1, or negative `padding`.
    """
    check_at_least(1, window=window, stride=stride)
    check_at_least(0, padding=padding)
    if x.ndim < 2:
        raise ShapeError(f"The shape of the input is {x.shape}; it should be (*batch, time, channels).")
    check_time(x.shape[-2], window - 2 * padding, "pooling")
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((padding, padding), (0, 0)))
    length = (x.shape[-2] - window) // stride + 1
    taps = [x[..., i : i + (length - 1) * stride + 1 : stride, :] for i in range(window)]
    return sum(taps[1:], taps[0]) * jnp.asarray(1 / window, x.dtype)
