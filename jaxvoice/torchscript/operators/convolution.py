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


def _general(
    x: Array, kernel: Array, stride: Any, edges: Any, dilation: Any, groups: int, spacing: Any = None
) -> Array:
    """XLA's convolution of `(batch, ..., channels)`; `spacing` puts zeros between the elements of `x`."""
    axes = "HW"[4 - kernel.ndim :]
    return lax.conv_general_dilated(
        x, jnp.moveaxis(kernel, (0, 1), (-1, -2)), stride, edges, lhs_dilation=spacing, rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"), feature_group_count=groups,
    )  # fmt: skip


def _convolve(x: Array, kernel: Array, stride: Any, edges: Any, dilation: Any, groups: int) -> Array:
    if kernel.ndim > 3:
        return _general(x, kernel, stride, edges, dilation, groups)
    return conv_over_time(x, kernel, stride=stride[0], padding=edges[0], dilation=dilation[0], groups=groups)


def _convolve_transposed(
    x: Array, kernel: Array, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int
) -> Array:
    if dilation == (1,):
        return conv_transpose_over_time(
            x, kernel, stride=stride[0], padding=padding[0], output_padding=output_padding[0], groups=groups
        )
    inputs, out, *taps = kernel.shape
    # As a convolution of the input with zeros between its elements: taps backwards, channels swapped in each group.
    kernel = jnp.flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, inputs // groups, out, *taps)
    kernel = kernel.swapaxes(1, 2).reshape(groups * out, inputs // groups, *taps)
    reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    edges = [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)]
    return _general(x, kernel, (1,) * len(taps), edges, dilation, groups, stride)


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
    """A convolution of `(batch, channels, ...)` or `(channels, ...)`, plain or transposed."""
    rank = weight.ndim - 2
    stride, dilation = each(stride, rank), each(dilation, rank)
    alone = x.ndim == rank + 1
    x = jnp.moveaxis(x[None] if alone else x, 1, -1)
    if transposed:
        if isinstance(padding, str):
            raise Refused(f"padding {padding!r} of a transposed convolution")
        y = _convolve_transposed(x, weight, stride, each(padding, rank), each(output_padding, rank), dilation, groups)
    else:
        edges = _edges(padding, weight.shape[2:], dilation)
        for length, taps, gap, edge in zip(x.shape[1:-1], weight.shape[2:], dilation, edges, strict=True):
            if length + sum(edge) < gap * (taps - 1) + 1:
                raise ValueError(f"a kernel that spans {gap * (taps - 1) + 1} elements on {length + sum(edge)}")
        y = _convolve(x, weight, stride, edges, dilation, groups)
    if bias is not None:
        y = y + bias.astype(y.dtype).reshape((1,) * (rank + 1) + (-1,))
    y = jnp.moveaxis(y, -1, 1)
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
def any_convolution(x: Array, *args: Any) -> Array:
    """A convolution as traces call it; the flags after the nine first arguments choose kernels on GPUs."""
    return convolution(x, *args[:8])


@register_operator("torch._convolution_mode")
def convolution_with_mode(
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


_KINDS = {"reflect": ("reflection_pad", "reflect"), "replicate": ("replication_pad", "edge")}
for _operator, _mode in _KINDS.values():
    register_operator(f"torch.{_operator}1d", f"torch.{_operator}2d")(
        lambda x, padding, _mode=_mode: _mirrored(x, padding, _mode)
    )


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
    if mode not in _KINDS:
        raise Refused(f"padding mode {mode!r}")
    return _mirrored(x, pad, _KINDS[mode][1])
