"""Padding with a value, by reflection, by repeating the edge, or around the circle."""

from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import Refused


def _pairs(x: Array, pad: Sequence[int]) -> list[tuple[int, int]]:
    """Before and after each axis; torch lists the last axis first."""
    given = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return [(0, 0)] * (x.ndim - len(given)) + given


@register_operator("torch.constant_pad_nd")
def constant_pad_nd(x: Array, pad: Sequence[int], value: Any = 0) -> Array:
    """Padding with a value; less than nothing cuts off."""
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


@register_operator("torch.reflection_pad1d", "torch.reflection_pad2d", "torch.reflection_pad3d")
def reflection_pad(x: Array, padding: Sequence[int]) -> Array:
    """Padding by reflection, the edge itself once."""
    return _mirrored(x, padding, "reflect")


@register_operator("torch.replication_pad1d", "torch.replication_pad2d", "torch.replication_pad3d")
def replication_pad(x: Array, padding: Sequence[int]) -> Array:
    """Padding by repeating the edge."""
    return _mirrored(x, padding, "edge")


@register_operator("torch._pad_circular")
def pad_circular(x: Array, pad: Sequence[int]) -> Array:
    """Padding around the circle; less than nothing cuts off first, and what is left goes around."""
    pairs = _pairs(x, pad)
    if any(max(pair) > length for length, pair in zip(x.shape, pairs, strict=True)):
        raise ValueError(f"circular padding {list(pad)} of axes with {list(x.shape)} elements")
    cut = lax.pad(x, cast(0, x.dtype), [(min(0, a), min(0, b), 0) for a, b in pairs])
    if any(max(pair) > length for length, pair in zip(cut.shape, pairs, strict=True)):
        raise Refused(f"circular padding {list(pad)} that is more than what it leaves")
    return jnp.pad(cut, [(max(0, a), max(0, b)) for a, b in pairs], mode="wrap")


@register_operator("torch.pad")
def pad_(x: Array, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Array:
    """Padding in any mode."""
    if mode == "constant":
        return constant_pad_nd(x, pad, 0 if value is None else value)
    if mode == "circular":
        return pad_circular(x, pad)
    modes = {"reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise Refused(f"padding mode {mode!r}")
    return _mirrored(x, pad, modes[mode])
