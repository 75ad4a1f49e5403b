"""Convolutions over one axis, with the kernels of `jaxvoice.nn`, or two; and padding."""

from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.nn._ops import conv1d as conv_over_time, conv_transpose1d as conv_transpose_over_time
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused

Sizes = int | Sequence[int]


def each(value: Sizes, rank: int) -> tuple[int, ...]:
    """One number for each of `rank` axes."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _dimension_numbers(rank: int, kernel: str) -> Any:
    space = "HW"[2 - rank :]
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


@register_operator("torch.conv1d", "torch.conv2d")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """Convolution over one or two axes."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)


@register_operator("torch.conv_transpose1d", "torch.conv_transpose2d")
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
    """Transposed convolution over one or two axes."""
    return convolution(x, weight, bias, stride, padding, dilation, True, output_padding, groups)


@register_operator("torch._convolution", "torch.convolution")
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
    """Any convolution, as traces call it; the flags choose kernels on GPUs."""
    return convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


@register_operator("torch._convolution_mode")
def _convolution_mode(
    x: Array, weight: Array, bias: Array | None, stride: Sizes, padding: str, dilation: Sizes, groups: int
) -> Array:
    """A convolution whose padding is a word, as traces call it."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)


# Padding


def _pairs(x: Array, pad: Sequence[int]) -> list[tuple[int, int]]:
    """Before and after each axis; torch lists the last axis first."""
    given = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return [(0, 0)] * (x.ndim - len(given)) + given


@register_operator("torch.constant_pad_nd")
def constant_pad_nd(x: Array, pad: Sequence[int], value: Any = 0) -> Array:
    """Padding with a value; negative numbers remove elements."""
    return lax.pad(x, cast(value, x.dtype), [(before, after, 0) for before, after in _pairs(x, pad)])


def _mirrored(x: Array, pad: Sequence[int], mode: str) -> Array:
    pairs = _pairs(x, pad)
    for length, (before, after) in zip(x.shape, pairs, strict=True):
        limit = length - 1 if mode == "reflect" else max(before, after, 0)
        if max(before, after) > limit:
            raise ValueError(f"{mode} padding of {before} and {after} of an axis with {length} elements")
    y = jnp.pad(x, [(max(0, a), max(0, b)) for a, b in pairs], mode=mode)
    cuts = [(min(0, a), min(0, b), 0) for a, b in pairs]
    return lax.pad(y, cast(0, y.dtype), cuts) if any(a or b for a, b, _ in cuts) else y


@register_operator("torch.reflection_pad1d", "torch.reflection_pad2d")
def reflection_pad(x: Array, padding: Sequence[int]) -> Array:
    """Padding by reflection, the edge itself once."""
    return _mirrored(x, padding, "reflect")


@register_operator("torch.replication_pad1d", "torch.replication_pad2d")
def replication_pad(x: Array, padding: Sequence[int]) -> Array:
    """Padding by repeating the edge."""
    return _mirrored(x, padding, "edge")


@register_operator("torch._pad_circular")
def pad_circular(x: Array, pad: Sequence[int]) -> Array:
    """Padding by the elements of the other end."""
    pairs = _pairs(x, pad)
    if min(pad, default=0) < 0:
        raise Refused(f"circular padding {list(pad)} that removes elements")
    if any(max(pair) > length for length, pair in zip(x.shape, pairs, strict=True)):
        raise ValueError(f"circular padding {list(pad)} of axes with {list(x.shape)} elements")
    return jnp.pad(x, pairs, mode="wrap")


@register_operator("torch.pad")
def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Array:
    """Padding in any mode."""
    if mode == "constant":
        return constant_pad_nd(x, pad, 0 if value is None else value)
    if mode == "circular":
        return pad_circular(x, pad)
    modes = {"reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise Refused(f"padding mode {mode!r}")
    return _mirrored(x, pad, modes[mode])
