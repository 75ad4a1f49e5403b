"""Checks of shapes and options; masks of padded batches."""

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxvoice.errors import ConfigError, ShapeError


def check_input(x: Array, channels: int, *axes: str) -> None:
    """Raise `ShapeError` unless `x` is `(*batch, *axes, channels)`."""
    if x.ndim <= len(axes) or x.shape[-1] != channels:
        expected = ", ".join(("*batch", *axes, str(channels)))
        raise ShapeError(f"The shape of the input is {x.shape}; it should be ({expected}), with channels last.")


def check_mask(mask: Array | None, shape: tuple[int, ...], name: str = "mask") -> None:
    """Raise `ShapeError` unless `mask` is `None` or has `shape`."""
    if mask is not None and mask.shape != shape:
        raise ShapeError(f"The shape of {name} is {mask.shape}; it should be {shape}, to match the input.")


def check_at_least(least: int, **options: int) -> None:
    """Raise `ConfigError` for an option below `least`."""
    for name, value in options.items():
        if value < least:
            raise ConfigError(f"{name} is {value}; it should be at least {least}.")


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Raise `ConfigError` unless `groups` divides both channel counts."""
    if in_channels % groups or out_channels % groups:
        raise ConfigError(
            f"in_channels is {in_channels} and out_channels is {out_channels}; they should be multiples of groups, "
            f"which is {groups}."
        )


def check_rate(dropout: float) -> None:
    """Raise `ConfigError` unless `dropout` is a rate in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}; it should be in [0, 1). 0 means no dropout.")


def length_mask(
    count: Int[Array, "*batch"] | int, length: int, *, batch: tuple[int, ...] | None = None
) -> Bool[Array, "*batch {length}"]:
    """A mask that is true at the first `count` of `length` positions, for each example.

    **Arguments:** `batch` is the shape of the batch axes, to which `count` is broadcast; by default the shape of
    `count`.

    **Raises:** `ShapeError` if `count` cannot be broadcast to `batch`.
    """
    count = jnp.asarray(count)
    if batch is not None and count.shape != batch:
        if count.ndim > len(batch) or any(
            n not in (1, m) for n, m in zip(count.shape[::-1], batch[::-1], strict=False)
        ):
            raise ShapeError(f"The shape of the lengths is {count.shape}; it should be () or the batch shape {batch}.")
        count = jnp.broadcast_to(count, batch)
    positions = jnp.arange(length, dtype=count.dtype).reshape(*(1 for _ in count.shape), length)
    return positions < count[..., None]


def masked(
    x: Float[Array, "*batch time channels"], mask: Bool[Array, "*batch time"] | None
) -> Float[Array, "*batch time channels"]:
    """`x` with zeros where `mask` is false. NaN in padding does not propagate, since values are not multiplied.

    **Raises:** `ShapeError` unless `mask` has the shape of `x` without the channels.
    """
    check_mask(mask, x.shape[:-1])
    return x if mask is None else jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
