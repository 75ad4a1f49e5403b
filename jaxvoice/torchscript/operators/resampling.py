"""Interpolation to another length, as `torch.nn.functional.interpolate` calls it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused


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


def _register_rank(rank: int, linear_name: str) -> None:
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


_register_rank(1, "torch.upsample_linear1d")
_register_rank(2, "torch.upsample_bilinear2d")
_register_rank(3, "torch.upsample_trilinear3d")


@register_operator("torch.upsample_bicubic2d", "torch._upsample_bicubic2d_aa", "torch._upsample_bilinear2d_aa")
def _unsupported(*args: Any) -> Array:
    raise Refused("only nearest and linear interpolation are there")
