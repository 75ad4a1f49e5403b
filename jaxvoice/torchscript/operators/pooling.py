"""Pooling, and interpolation to another length, over one or two axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.convolution import Sizes, each
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused


class _Windows:
    """Where windows lie on the last axes of `x`."""

    def __init__(self, x: Array, rank: int, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool):
        self.size, self.padding, self.dilation = each(size, rank), each(padding, rank), each(dilation, rank)
        self.stride = each(stride, rank) if isinstance(stride, int) or stride else self.size
        self.outer = x.ndim - rank
        self.after = []
        for n, k, s, p, d in zip(
            x.shape[self.outer :], self.size, self.stride, self.padding, self.dilation, strict=True
        ):
            if p > k // 2:
                raise Refused(f"padding {p} is more than half the window {k}")
            free = n + 2 * p - d * (k - 1) - 1
            count = (-(-free // s) if ceil else free // s) + 1
            # With ceil_mode the last window must still begin inside the input or its left padding.
            count -= ceil and (count - 1) * s >= n + p
            self.after.append((count - 1) * s + d * (k - 1) + 1 - n - p)

    def reduce(self, x: Array, initial: Any, compute: Any) -> Array:
        """One value of every window."""
        ones = (1,) * self.outer
        edges = [(0, 0)] * self.outer + [(p, max(0, a)) for p, a in zip(self.padding, self.after, strict=True)]
        return lax.reduce_window(
            x, initial, compute, ones + self.size, ones + self.stride, edges, window_dilation=ones + self.dilation
        )

    def counted(self, x: Array, counts: bool) -> np.ndarray | Array:
        """How many elements each window covers; padding given by the user counts or not, that of ceil_mode never."""
        shape = x.shape[self.outer :]
        here = jnp.ones(shape, x.dtype)
        if counts:
            here = jnp.pad(here, [(p, p) for p in self.padding], constant_values=1)
        after = [max(0, a - p * counts) for a, p in zip(self.after, self.padding, strict=True)]
        edges = [(0 if counts else p, a) for p, a in zip(self.padding, after, strict=True)]
        return lax.reduce_window(here, 0.0, lax.add, self.size, self.stride, edges)


def _avg_pool(x: Array, windows: _Windows, counts: bool, divisor: int | None) -> Array:
    if (
        windows.size == windows.stride
        and divisor is None
        and not (any(windows.padding) or any(a > 0 for a in windows.after))
    ):
        # Windows side by side: a mean over a new axis, much faster than a window that slides.
        for axis, size in zip(range(windows.outer, x.ndim), windows.size, strict=True):
            x = lax.slice_in_dim(x, 0, x.shape[axis] // size * size, axis=axis)
            x = jnp.mean(x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :]), axis + 1)
        return x
    total = windows.reduce(x, 0.0, lax.add)
    if divisor is not None:
        return total / jnp.asarray(divisor, x.dtype)
    if not any(windows.padding) and all(a <= 0 for a in windows.after):
        return total / jnp.asarray(math.prod(windows.size), x.dtype)
    count = windows.counted(x, counts)
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
        """Mean of windows."""
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
        """Largest of windows."""
        windows = _Windows(x, rank, kernel_size, stride, padding, dilation, ceil_mode)
        return windows.reduce(x, -jnp.inf, lax.max)

    @register_operator(f"torch.adaptive_avg_pool{rank}d")
    def adaptive_avg_pool(x: Array, output_size: Any) -> Array:
        """Means of `output_size` windows of nearly equal length."""
        return _adaptive(x, rank, output_size, jnp.mean)

    @register_operator(f"torch.adaptive_max_pool{rank}d")
    def adaptive_max_pool(x: Array, output_size: Any) -> tuple[Array, None]:
        """Largest of `output_size` windows of nearly equal length; without their indices."""
        return _adaptive(x, rank, output_size, jnp.max), None


def _adaptive(x: Array, rank: int, output_size: Any, compute: Any) -> Array:
    sizes = each(output_size, rank)
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


# Interpolation, as `torch.nn.functional.interpolate` calls it


def _targets(
    x: Array, rank: int, output_size: Sequence[int] | None, scales: tuple[Any, ...]
) -> tuple[list[int], list[float]]:
    """New lengths of the last axes, and how many old elements one new one spans."""
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
    # Torch computes places in single precision; so must this, for where they fall between two elements.
    places = np.floor((np.arange(new, dtype=np.float32) + np.float32(shift)) * np.float32(step))
    index = np.minimum(places.astype(np.int64), length - 1)
    if new % length == 0 and np.array_equal(index, np.repeat(np.arange(length), new // length)):
        return jnp.repeat(x, new // length, axis)
    return jnp.take(x, jnp.asarray(index.astype(np.int32)), axis, mode="clip")


def _linear(x: Array, axis: int, new: int, step: float, align_corners: bool) -> Array:
    length = x.shape[axis]
    at = np.arange(new, dtype=np.float32)
    if align_corners:
        places = at * np.float32((length - 1) / (new - 1) if new > 1 else 0)
    else:
        places = np.maximum((at + np.float32(0.5)) * np.float32(step) - np.float32(0.5), np.float32(0))
    left = np.minimum(np.floor(places).astype(np.int32), length - 1)
    right = np.minimum(left + 1, length - 1)
    shape = (1,) * axis + (new,) + (1,) * (x.ndim - axis - 1)
    weight = jnp.asarray((places - left).reshape(shape).astype(np.float32)).astype(x.dtype)
    a, b = (jnp.take(x, jnp.asarray(index), axis, mode="clip") for index in (left, right))
    return a * (1 - weight) + b * weight


def _register_interpolation(rank: int, linear_name: str) -> None:
    def nearest(shift: float) -> Any:
        def upsample_nearest(x: Array, output_size: Any, *scales: Any) -> Array:
            """Each new element is the old one at its place."""
            new, steps = _targets(x, rank, output_size, scales)
            for axis, (length, step) in enumerate(zip(new, steps, strict=True), x.ndim - rank):
                x = _nearest(x, axis, length, step, shift)
            return x

        return upsample_nearest

    register_operator(f"torch.upsample_nearest{rank}d")(nearest(0.0))
    register_operator(f"torch._upsample_nearest_exact{rank}d")(nearest(0.5))

    @register_operator(linear_name)
    def upsample_linear(x: Array, output_size: Any, align_corners: bool, *scales: Any) -> Array:
        """Each new element lies on the line between two old ones."""
        new, steps = _targets(x, rank, output_size, scales)
        for axis, (length, step) in enumerate(zip(new, steps, strict=True), x.ndim - rank):
            x = _linear(x, axis, length, step, align_corners)
        return x


_register_interpolation(1, "torch.upsample_linear1d")
_register_interpolation(2, "torch.upsample_bilinear2d")
