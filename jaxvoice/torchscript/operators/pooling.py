"""Pooling and interpolation over one or two axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.convolution import Sizes, per_axis
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import OperatorError


class _Windows:
    """The windows of a pooling over the last axes of `x`."""

    def __init__(self, x: Array, rank: int, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool):
        self.size, self.padding, self.dilation = per_axis(size, rank), per_axis(padding, rank), per_axis(dilation, rank)
        self.stride = per_axis(stride, rank) if isinstance(stride, int) or stride else self.size
        self.outer = x.ndim - rank
        self.after = []
        for n, k, s, p, d in zip(
            x.shape[self.outer :], self.size, self.stride, self.padding, self.dilation, strict=True
        ):
            if p > k // 2:
                raise OperatorError(f"padding {p} is larger than half of the window {k}")
            free = n + 2 * p - d * (k - 1) - 1
            count = (-(-free // s) if ceil else free // s) + 1
            # With ceil_mode, the last window must start inside the input or its left padding.
            count -= ceil and (count - 1) * s >= n + p
            self.after.append((count - 1) * s + d * (k - 1) + 1 - n - p)

    def reduce(self, x: Array, initial: Any, compute: Any) -> Array:
        """Reduce every window to one value."""
        ones = (1,) * self.outer
        edges = [(0, 0)] * self.outer + [(p, max(0, a)) for p, a in zip(self.padding, self.after, strict=True)]
        return lax.reduce_window(
            x, initial, compute, ones + self.size, ones + self.stride, edges, window_dilation=ones + self.dilation
        )

    def element_counts(self, x: Array, include_padding: bool) -> np.ndarray | Array:
        """The number of elements in each window. Padding for ceil_mode is never counted."""
        shape = x.shape[self.outer :]
        ones = jnp.ones(shape, x.dtype)
        if include_padding:
            ones = jnp.pad(ones, [(p, p) for p in self.padding], constant_values=1)
        after = [max(0, a - p * include_padding) for a, p in zip(self.after, self.padding, strict=True)]
        edges = [(0 if include_padding else p, a) for p, a in zip(self.padding, after, strict=True)]
        return lax.reduce_window(ones, 0.0, lax.add, self.size, self.stride, edges)


def _avg_pool(x: Array, windows: _Windows, include_padding: bool, divisor: int | None) -> Array:
    if (
        windows.size == windows.stride
        and divisor is None
        and not (any(windows.padding) or any(a > 0 for a in windows.after))
    ):
        # Adjacent windows: a mean over a new axis is much faster than reduce_window.
        for axis, size in zip(range(windows.outer, x.ndim), windows.size, strict=True):
            x = lax.slice_in_dim(x, 0, x.shape[axis] // size * size, axis=axis)
            x = jnp.mean(x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :]), axis + 1)
        return x
    total = windows.reduce(x, 0.0, lax.add)
    if divisor is not None:
        return total / jnp.asarray(divisor, x.dtype)
    if not any(windows.padding) and all(a <= 0 for a in windows.after):
        return total / jnp.asarray(math.prod(windows.size), x.dtype)
    count = windows.element_counts(x, include_padding)
    return total / count.reshape((1,) * windows.outer + count.shape)


def _register_pooling(rank: int) -> None:
    @register_operator(f"torch.avg_pool{rank}d")
    def avg_pool(
        x: Array,
        kernel_size: Sizes,
        stride: Any = (),
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        """The mean of each window."""
        windows = _Windows(x, rank, kernel_size, stride, padding, 1, ceil_mode)
        return _avg_pool(x, windows, count_include_pad, divisor_override)

    @register_operator(f"torch.max_pool{rank}d")
    def max_pool(
        x: Array,
        kernel_size: Sizes,
        stride: Any = (),
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> Array:
        """The maximum of each window."""
        windows = _Windows(x, rank, kernel_size, stride, padding, dilation, ceil_mode)
        return windows.reduce(x, -jnp.inf, lax.max)

    @register_operator(f"torch.adaptive_avg_pool{rank}d")
    def adaptive_avg_pool(x: Array, output_size: Any) -> Array:
        """The means of `output_size` windows of nearly equal length."""
        return _adaptive(x, rank, output_size, jnp.mean)

    @register_operator(f"torch.adaptive_max_pool{rank}d")
    def adaptive_max_pool(x: Array, output_size: Any) -> tuple[Array, None]:
        """The maxima of `output_size` windows of nearly equal length, without indices."""
        return _adaptive(x, rank, output_size, jnp.max), None


def _adaptive(x: Array, rank: int, output_size: Any, compute: Any) -> Array:
    sizes = per_axis(output_size, rank)
    for axis, count in zip(range(x.ndim - rank, x.ndim), sizes, strict=True):
        length = x.shape[axis]
        if count is None or count == length:
            continue
        if length % count == 0:
            x = compute(x.reshape(*x.shape[:axis], count, length // count, *x.shape[axis + 1 :]), axis + 1)
            continue
        bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        x = jnp.concatenate(
            [compute(lax.slice_in_dim(x, a, b, axis=axis), axis, keepdims=True) for a, b in bounds], axis
        )
    return x


for _rank in (1, 2):
    _register_pooling(_rank)


# The operators of `torch.nn.functional.interpolate`


def _target_sizes(
    x: Array, rank: int, output_size: Sequence[int] | None, scales: tuple[Any, ...]
) -> tuple[list[int], list[float]]:
    """The new lengths of the last axes, and the distance of new elements in old elements."""
    old = x.shape[x.ndim - rank :]
    given = list(scales[0]) if len(scales) == 1 and isinstance(scales[0], (list, tuple)) else list(scales)
    factors: list[float | None] = given if given and given != [None] else [None] * rank
    new = [int(n) for n in output_size] if output_size is not None else [
        math.floor(n * float(factor or 1)) for n, factor in zip(old, factors, strict=True)
    ]  # fmt: skip
    steps = [1 / factor if factor else n / m for n, m, factor in zip(old, new, factors, strict=True)]
    return new, steps


def _nearest(x: Array, axis: int, new: int, step: float, shift: float) -> Array:
    length = x.shape[axis]
    # As in torch, positions are computed in float32, since rounding determines the selected element.
    positions = np.floor((np.arange(new, dtype=np.float32) + np.float32(shift)) * np.float32(step))
    index = np.minimum(positions.astype(np.int64), length - 1)
    if new % length == 0 and np.array_equal(index, np.repeat(np.arange(length), new // length)):
        return jnp.repeat(x, new // length, axis)
    return jnp.take(x, jnp.asarray(index.astype(np.int32)), axis, mode="clip")


def _linear(x: Array, axis: int, new: int, step: float, align_corners: bool) -> Array:
    length = x.shape[axis]
    index = np.arange(new, dtype=np.float32)
    if align_corners:
        positions = index * np.float32((length - 1) / (new - 1) if new > 1 else 0)
    else:
        positions = np.maximum((index + np.float32(0.5)) * np.float32(step) - np.float32(0.5), np.float32(0))
    left = np.minimum(np.floor(positions).astype(np.int32), length - 1)
    right = np.minimum(left + 1, length - 1)
    shape = (1,) * axis + (new,) + (1,) * (x.ndim - axis - 1)
    weight = jnp.asarray((positions - left).reshape(shape).astype(np.float32)).astype(x.dtype)
    a, b = (jnp.take(x, jnp.asarray(index), axis, mode="clip") for index in (left, right))
    return a * (1 - weight) + b * weight


def _register_interpolation(rank: int, linear_name: str) -> None:
    def nearest(shift: float) -> Any:
        def upsample_nearest(x: Array, output_size: Any, *scales: Any) -> Array:
            """Nearest-neighbour interpolation."""
            new, steps = _target_sizes(x, rank, output_size, scales)
            for axis, (length, step) in enumerate(zip(new, steps, strict=True), x.ndim - rank):
                x = _nearest(x, axis, length, step, shift)
            return x

        return upsample_nearest

    register_operator(f"torch.upsample_nearest{rank}d")(nearest(0.0))
    register_operator(f"torch._upsample_nearest_exact{rank}d")(nearest(0.5))

    @register_operator(linear_name)
    def upsample_linear(x: Array, output_size: Any, align_corners: bool, *scales: Any) -> Array:
        """Linear interpolation."""
        new, steps = _target_sizes(x, rank, output_size, scales)
        for axis, (length, step) in enumerate(zip(new, steps, strict=True), x.ndim - rank):
            x = _linear(x, axis, length, step, align_corners)
        return x


_register_interpolation(1, "torch.upsample_linear1d")
_register_interpolation(2, "torch.upsample_bilinear2d")
