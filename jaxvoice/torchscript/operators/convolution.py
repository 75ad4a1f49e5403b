"""Convolutions over one axis (by `jaxvoice.nn`) and over two axes, and padding."""

from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.nn._ops import conv1d as conv_over_time, conv_transpose1d as conv_transpose_over_time
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import OperatorError

Sizes = int | Sequence[int]


def per_axis(value: Sizes, rank: int) -> tuple[int, ...]:
    """Expand `value` to one number for each of `rank` axes."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _xla_convolution(
    x: Array, kernel: Array, stride: Any, edges: Any, dilation: Any, groups: int, spacing: Any = None
) -> Array:
    """XLA's convolution of `(batch, ..., channels)`; `spacing` is the dilation of `x`."""
    axes = "HW"[4 - kernel.ndim :]
    return lax.conv_general_dilated(
        x, jnp.moveaxis(kernel, (0, 1), (-1, -2)), stride, edges, lhs_dilation=spacing, rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"), feature_group_count=groups,
    )  # fmt: skip


def _convolve(x: Array, kernel: Array, stride: Any, edges: Any, dilation: Any, groups: int) -> Array:
    if kernel.ndim > 3:
        return _xla_convolution(x, kernel, stride, edges, dilation, groups)
    return conv_over_time(x, kernel, stride=stride[0], padding=edges[0], dilation=dilation[0], groups=groups)


def _convolve_transposed(
    x: Array, kernel: Array, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int
) -> Array:
    if dilation == (1,):
        return conv_transpose_over_time(
            x, kernel, stride=stride[0], padding=padding[0], output_padding=output_padding[0], groups=groups
        )
    inputs, out, *taps = kernel.shape
    # A convolution of the dilated input, with flipped taps and swapped channels in each group.
    kernel = jnp.flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, inputs // groups, out, *taps)
    kernel = kernel.swapaxes(1, 2).reshape(groups * out, inputs // groups, *taps)
    spans = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    edges = [(r - p, r - p + o) for r, p, o in zip(spans, padding, output_padding, strict=True)]
    return _xla_convolution(x, kernel, (1,) * len(taps), edges, dilation, groups, stride)


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
    """A convolution or transposed convolution of `(batch, channels, ...)` or `(channels, ...)`."""
    rank = weight.ndim - 2
    stride, dilation = per_axis(stride, rank), per_axis(dilation, rank)
    unbatched = x.ndim == rank + 1
    x = jnp.moveaxis(x[None] if unbatched else x, 1, -1)
    if transposed:
        if isinstance(padding, str):
            raise OperatorError(f"a transposed convolution with padding {padding!r}")
        y = _convolve_transposed(
            x, weight, stride, per_axis(padding, rank), per_axis(output_padding, rank), dilation, groups
        )
    else:
        edges = _edges(padding, weight.shape[2:], dilation)
        for length, taps, step, edge in zip(x.shape[1:-1], weight.shape[2:], dilation, edges, strict=True):
            if length + sum(edge) < step * (taps - 1) + 1:
                raise ValueError(f"a kernel that spans {step * (taps - 1) + 1} elements on {length + sum(edge)}")
        y = _convolve(x, weight, stride, edges, dilation, groups)
    if bias is not None:
        y = y + bias.astype(y.dtype).reshape((1,) * (rank + 1) + (-1,))
    y = jnp.moveaxis(y, -1, 1)
    return y[0] if unbatched else y


def _edges(padding: Sizes | str, taps: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The number of zeros before and after each axis."""
    if padding == "valid":
        return ((0, 0),) * len(taps)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise OperatorError(f"padding {padding!r}")
    return tuple((p, p) for p in per_axis(padding, len(taps)))


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
def traced_convolution(x: Array, *args: Any) -> Array:
    """The convolution operator of traces. Flags after the first nine arguments select kernels on GPUs."""
    return convolution(x, *args[:8])


@register_operator("torch._convolution_mode")
def convolution_with_mode(
    x: Array, weight: Array, bias: Array | None, stride: Sizes, padding: str, dilation: Sizes, groups: int
) -> Array:
    """The convolution operator of traces with `padding` as text."""
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)


# Padding


def _pairs(x: Array, pad: Sequence[int]) -> list[tuple[int, int]]:
    """Padding before and after each axis; torch lists the last axis first."""
    given = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return [(0, 0)] * (x.ndim - len(given)) + given


@register_operator("torch.constant_pad_nd")
def constant_pad_nd(x: Array, pad: Sequence[int], value: Any = 0) -> Array:
    """Pad with a value; negative padding removes elements."""
    return lax.pad(x, cast(value, x.dtype), [(before, after, 0) for before, after in _pairs(x, pad)])


def _pad_edges(x: Array, pad: Sequence[int], mode: str) -> Array:
    pairs = _pairs(x, pad)
    for length, (before, after) in zip(x.shape, pairs, strict=True):
        limit = length - 1 if mode == "reflect" else max(before, after, 0)
        if max(before, after) > limit:
            raise ValueError(f"{mode} padding of {before} and {after} is too large for an axis with {length} elements")
    y = jnp.pad(x, [(max(0, a), max(0, b)) for a, b in pairs], mode=mode)
    cuts = [(min(0, a), min(0, b), 0) for a, b in pairs]
    return lax.pad(y, cast(0, y.dtype), cuts) if any(a or b for a, b, _ in cuts) else y


_PAD_MODES = {"reflect": ("reflection_pad", "reflect"), "replicate": ("replication_pad", "edge")}
for _operator, _mode in _PAD_MODES.values():
    register_operator(f"torch.{_operator}1d", f"torch.{_operator}2d")(
        lambda x, padding, _mode=_mode: _pad_edges(x, padding, _mode)
    )


@register_operator("torch._pad_circular")
def pad_circular(x: Array, pad: Sequence[int]) -> Array:
    """Circular padding."""
    pairs = _pairs(x, pad)
    if min(pad, default=0) < 0:
        raise OperatorError(f"circular padding {list(pad)} that removes elements")
    if any(max(pair) > length for length, pair in zip(x.shape, pairs, strict=True)):
        raise ValueError(f"circular padding {list(pad)} is too large for axes with {list(x.shape)} elements")
    return jnp.pad(x, pairs, mode="wrap")


@register_operator("torch.pad")
def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Array:
    """Pad in any mode."""
    if mode == "constant":
        return constant_pad_nd(x, pad, 0 if value is None else value)
    if mode == "circular":
        return pad_circular(x, pad)
    if mode not in _PAD_MODES:
        raise OperatorError(f"padding mode {mode!r}")
    return _pad_edges(x, pad, _PAD_MODES[mode][1])
