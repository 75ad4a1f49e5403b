"""Convolutions, by the kernels that `jaxvoice.nn` picks for one axis of time."""

from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.nn._ops import conv1d as conv_over_time, conv_transpose1d as conv_transpose_over_time
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused

Sizes = int | Sequence[int]


def each(value: Sizes, rank: int) -> tuple[int, ...]:
    """One number for every axis of space."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _dimension_numbers(rank: int, kernel: str) -> Any:
    space = "DHW"[3 - rank :]
    return (f"N{space}C", kernel.replace("*", space), f"N{space}C")


def _convolve(x: Array, kernel: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """A convolution of `(batch, channels, ...)`; `padding` is a pair for each axis."""
    rank = kernel.ndim - 2
    x = jnp.moveaxis(x, 1, -1)
    if rank == 1:
        y = conv_over_time(x, kernel, stride=stride[0], padding=padding[0], dilation=dilation[0], groups=groups)
    else:
        y = lax.conv_general_dilated(
            x,
            jnp.moveaxis(kernel, (0, 1), (-1, -2)),
            stride,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=_dimension_numbers(rank, "*IO"),
            feature_group_count=groups,
        )
    return jnp.moveaxis(y, -1, 1)


def _convolve_transposed(
    x: Array, kernel: Array, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int
) -> Array:
    rank = kernel.ndim - 2
    x = jnp.moveaxis(x, 1, -1)
    if rank == 1 and dilation == (1,):
        y = conv_transpose_over_time(
            x, kernel, stride=stride[0], padding=padding[0], output_padding=output_padding[0], groups=groups
        )
        return jnp.moveaxis(y, -1, 1)
    inputs, out, *taps = kernel.shape
    # As a convolution of the input with zeros between its elements: taps backwards, channels swapped in each group.
    kernel = jnp.flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, inputs // groups, out, *taps)
    kernel = kernel.swapaxes(1, 2).reshape(groups * out, inputs // groups, *taps)
    reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    edges = [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)]
    y = lax.conv_general_dilated(
        x,
        jnp.moveaxis(kernel, (0, 1), (-1, -2)),
        (1,) * rank,
        edges,
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=_dimension_numbers(rank, "*IO"),
        feature_group_count=groups,
    )
    return jnp.moveaxis(y, -1, 1)


def convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Array:
    """Torch's convolution of `(batch, channels, ...)` or `(channels, ...)`, plain or transposed."""
    rank = weight.ndim - 2
    stride, dilation = each(stride, rank), each(dilation, rank)
    alone = x.ndim == rank + 1
    x = x[None] if alone else x
    if transposed:
        if isinstance(padding, str):
            raise Refused(f"padding {padding!r} of a transposed convolution")
        y = _convolve_transposed(x, weight, stride, each(padding, rank), each(output_padding, rank), dilation, groups)
    else:
        edges = _edges(padding, weight.shape[2:], dilation)
        for length, taps, gap, edge in zip(x.shape[2:], weight.shape[2:], dilation, edges, strict=True):
            if length + sum(edge) < gap * (taps - 1) + 1:
                raise ValueError(f"a kernel that spans {gap * (taps - 1) + 1} elements on {length + sum(edge)}")
        y = _convolve(x, weight, stride, edges, dilation, groups)
    if bias is not None:
        y = y + bias.astype(y.dtype).reshape((1, -1) + (1,) * rank)
    return y[0] if alone else y


def _edges(padding: Sizes | str, taps: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each axis."""
    if padding == "valid":
        return ((0, 0),) * len(taps)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise Refused(f"padding {padding!r}")
    return tuple((p, p) for p in each(padding, len(taps)))


@register_operator("torch.conv1d", "torch.conv2d", "torch.conv3d")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """Convolution over one, two or three axes."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)


@register_operator("torch.conv_transpose1d", "torch.conv_transpose2d", "torch.conv_transpose3d")
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Array:
    """Transposed convolution over one, two or three axes."""
    return convolution(x, weight, bias, stride, padding, dilation, True, output_padding, groups)


@register_operator("torch._convolution", "torch.convolution", "torch._convolution_nogroup")
def _convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    *flags: bool,
) -> Array:
    """What traces call for every convolution; the flags choose kernels on GPUs."""
    return convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


def _windows(size: Any, taps: Any, dilation: Any, padding: Any, stride: Any) -> tuple[list[tuple[int, int]], list[int]]:
    """Where each tap of the first window lies in a padded picture, and how many windows there are on each axis."""
    counts = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, taps, dilation, padding, stride, strict=True)
    ]
    if min(counts) < 1:
        raise ValueError(f"windows of {list(taps)} on {list(size)} elements")
    return [(i * dilation[0], j * dilation[1]) for i in range(taps[0]) for j in range(taps[1])], counts


@register_operator("torch.im2col")
def im2col(x: Array, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Array:
    """The windows of a picture as columns, `(batch, channels * taps, windows)`."""
    taps, dilation, padding, stride = (each(value, 2) for value in (kernel_size, dilation, padding, stride))
    alone = x.ndim == 3
    x = x[None] if alone else x
    starts, counts = _windows(x.shape[2:], taps, dilation, padding, stride)
    padded = jnp.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    reach = [(n - 1) * s + 1 for n, s in zip(counts, stride, strict=True)]
    parts = [padded[:, :, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]] for i, j in starts]
    y = jnp.stack(parts, 2).reshape(x.shape[0], x.shape[1] * len(starts), -1)
    return y[0] if alone else y


@register_operator("torch.col2im")
def col2im(x: Array, output_size: Sizes, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Array:
    """The picture whose windows are columns; where windows overlap they add."""
    size, taps, dilation, padding, stride = (
        each(value, 2) for value in (output_size, kernel_size, dilation, padding, stride)
    )
    alone = x.ndim == 2
    x = x[None] if alone else x
    starts, counts = _windows(size, taps, dilation, padding, stride)
    parts = x.reshape(x.shape[0], -1, len(starts), *counts)
    y = jnp.zeros((*parts.shape[:2], *(n + 2 * p for n, p in zip(size, padding, strict=True))), x.dtype)
    reach = [(n - 1) * s + 1 for n, s in zip(counts, stride, strict=True)]
    for part, (i, j) in enumerate(starts):
        y = y.at[:, :, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]].add(parts[:, :, part])
    y = y[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return y[0] if alone else y


@register_operator("torch._convolution_mode")
def _convolution_mode(
    x: Array, weight: Array, bias: Array | None, stride: Sizes, padding: str, dilation: Sizes, groups: int
) -> Array:
    """What traces call for padding that is given in words."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)
