"""Convolutions, by the kernels that `jaxvoice.nn` picks for one axis of time."""

from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.nn._ops import conv1d as conv_over_time, conv_transpose1d as conv_transpose_over_time
from jaxvoice.weights.torchscript.operators.registry import register_operator
from jaxvoice.weights.torchscript.tensors import Refused

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
        y = _convolve(x, weight, stride, _edges(padding, weight.shape[2:], dilation), dilation, groups)
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


@register_operator("torch._convolution_mode")
def _convolution_mode(
    x: Array, weight: Array, bias: Array | None, stride: Sizes, padding: str, dilation: Sizes, groups: int
) -> Array:
    """What traces call for padding that is given in words."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)
