"""The interface of streaming forms, with which a layer computes a long signal block by block, and delays."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Int, Int32, PRNGKeyArray, Shaped

from jaxvoice.nn._module import Module

Prefix = Shaped[Array, "..."] | jax.ShapeDtypeStruct
"""Values of a signal that are known before its first block; `jax.ShapeDtypeStruct` if they are all zero."""


class Block(NamedTuple):
    """A block of a signal, and its place in the signal."""

    values: Shaped[Array, "..."]
    """The values, with the time axis of the layer."""
    elapsed: Int32[Array, ""]
    """Positions of the stream before this block. The number stops growing when no layer depends on it any more."""
    remaining: Int[Array, ""] | int | None = None
    """Positions from the first one of the block to the end of the signal, which may be negative; `None` while the
    signal goes on."""


@dataclass(frozen=True)
class Timing:
    """Which positions of its input and of its output a streaming form computes, and in which blocks.

    A position is numbered as in the call of the layer on a whole signal, from 0. If `start` is positive, the signal
    begins with `start` values that are known in advance, such as the zeros of a delay. If it is negative, the stream
    begins with `-start` positions before the signal, whose values are arbitrary. Layers that read more than one
    position replace them by zeros, which is the padding in a call.
    """

    start: int
    """Number of the first position of the stream at the input."""
    next_start: int
    """Number of the first position of the stream at the output."""
    ratio: Fraction = Fraction(1)
    """Output positions per input position."""
    multiple: int = 1
    """The length of a block is a multiple of this number."""
    lookahead: Fraction = Fraction(0)
    """Input positions by which the output is late."""
    settled: Fraction = Fraction(0)
    """Input positions after which no layer sees positions before the signal any more."""


class StreamingForm(Module):
    """A layer that computes a signal block by block.

    `state, block = form.step(state, block)` is a pure function; the first state is that of `init_state`.
    """

    timing: eqx.AbstractVar[Timing]

    @property
    def start(self) -> int:
        """`timing.start`, the number of the first position of the stream at the input."""
        return self.timing.start

    @property
    def next_start(self) -> int:
        """`timing.next_start`, the number of the first position of the stream at the output."""
        return self.timing.next_start

    @abc.abstractmethod
    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Any, Prefix]:
        """The first state, and the values at the output that are known in advance.

        **Arguments:** `prefix`, the `max(start, 0)` values before the first block, whose shape and dtype are also those
        of blocks; `key`, for layers that draw random numbers.
        """

    @abc.abstractmethod
    def step(self, state: Any, block: Block) -> tuple[Any, Block]:
        """The next state, and the block at the output."""

    @abc.abstractmethod
    def end(self, remaining: Any) -> Any:
        """`remaining` of the output of a block, from that of the block."""


class DelayForm(StreamingForm):
    """A delay: the state contains the last `positions` positions."""

    positions: int = eqx.field(static=True)
    timing: Timing = eqx.field(static=True)

    def __init__(self, positions: int, start: int):
        self.positions = positions
        self.timing = Timing(start, start - positions, lookahead=Fraction(positions))

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Array | None, Prefix]:
        """The last positions before the first block."""
        state, count = last_positions(prefix, self.positions), max(0, self.next_start)
        if isinstance(prefix, jax.ShapeDtypeStruct):
            return state, resized(prefix, count)
        return state, prefix[..., :count, :]

    def step(self, state: Array | None, block: Block) -> tuple[Array | None, Block]:
        """Exchange the oldest positions of the state for those of the block."""
        if state is None:
            return None, block
        x = jnp.concatenate([state, block.values], -2)
        y = x[..., : block.values.shape[-2], :]
        return last_positions(x, self.positions), Block(y, block.elapsed, self.end(block.remaining))

    def end(self, remaining: Any) -> Any:
        """The delayed signal ends later."""
        return None if remaining is None else remaining + self.positions


def inside_signal(block: Block, start: int, axis: int = -2) -> Array:
    """The values of `block` with zeros at positions before and after the signal."""
    x, inside = block.values, None
    positions = jnp.arange(x.shape[axis], dtype=jnp.int32)
    if start < 0:
        inside = positions >= -start - block.elapsed
    if block.remaining is not None:
        before_end = positions < block.remaining
        inside = before_end if inside is None else inside & before_end
    if inside is None:
        return x
    return jnp.where(along_time(inside, x.ndim, axis), x, jnp.zeros((), x.dtype))


def along_time(mask: Array, rank: int, axis: int = -2) -> Array:
    """`mask` `(time,)` with axes of size 1 around the time axis."""
    return mask.reshape((1,) * (rank + axis) + (-1,) + (1,) * (-axis - 1))


def last_positions(x: Prefix, count: int, axis: int = -2) -> Array | None:
    """The last `count` positions of `x`, with zeros before it if it is shorter; `None` if there are none."""
    if count == 0:
        return None
    length = x.shape[axis]
    if isinstance(x, jax.ShapeDtypeStruct) or length == 0:
        return materialised(resized(x, count, axis))
    if length >= count:
        return jax.lax.slice_in_dim(x, length - count, length, axis=axis % x.ndim)
    edges = [(0, 0)] * x.ndim
    edges[axis] = (count - length, 0)
    return jnp.pad(x, edges)


def resized(x: Prefix, length: int, axis: int = -2) -> jax.ShapeDtypeStruct:
    """Zeros with the shape of `x`, except for `length` positions."""
    shape = list(x.shape)
    shape[axis] = length
    return jax.ShapeDtypeStruct(tuple(shape), x.dtype)


def materialised(x: Prefix) -> Array:
    """`x` as an array."""
    return jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x


def shape_of(function: Callable[..., Array], x: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of `function(x)`; `x` may also be a list of shapes."""
    return eqx.filter_eval_shape(function, x)


def common_multiple(rates: list[tuple[Fraction, int]]) -> int:
    """The smallest block length whose product with every rate is a multiple of the number beside it."""
    least = 1
    for rate, multiple in rates:
        denominator = rate.denominator * multiple
        least = math.lcm(least, denominator // math.gcd(rate.numerator, denominator))
    return least
