"""Streaming forms of single layers: how a layer computes a long signal block by block."""

import abc
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Int, Int32, PRNGKeyArray, Shaped

from jaxvoice.nn._module import Module

_Layer = TypeVar("_Layer")

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


class StreamingForm(Module):
    """A layer that computes a signal block by block.

    A position is numbered as in the call of the layer on a whole signal, from 0. `start` is the number of the first
    position of the stream at the input, and `next_start` the same at the output. If `start` is positive, the signal
    begins with `start` values that are known in advance, such as the zeros of a delay. If it is negative, the stream
    begins with `-start` positions before the signal, whose values are arbitrary. Layers that read more than one
    position replace them by zeros, which is the padding in a call.

    `state, block = form.step(state, block)` is a pure function; the first state is that of `init_state`.
    """

    start: eqx.AbstractVar[int]
    """Number of the first position of the stream at the input."""
    next_start: eqx.AbstractVar[int]
    """Number of the first position of the stream at the output."""
    ratio: eqx.AbstractVar[Fraction]
    """Output positions per input position."""
    multiple: eqx.AbstractVar[int]
    """The length of a block is a multiple of this number."""
    lookahead: eqx.AbstractVar[Fraction]
    """Input positions by which the output is late."""
    settled: eqx.AbstractVar[Fraction]
    """Input positions after which no layer sees positions before the signal any more."""

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


class PointwiseForm(StreamingForm):
    """A function of each position alone, which computes `rate` positions from each."""

    function: Callable[[Array], Array]
    keeps_zeros: bool = eqx.field(static=True)
    rate: int = eqx.field(static=True)
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(self, function: Callable[[Array], Array], start: int, *, keeps_zeros: bool = False, rate: int = 1):
        """**Arguments:** `keeps_zeros`, whether the result for zeros is zero; `rate`, output positions per position.
        The time axis is the second to last.
        """
        self.function, self.keeps_zeros, self.rate = function, keeps_zeros, rate
        self.start, self.next_start, self.multiple, self.ratio = start, start * rate, 1, Fraction(rate)
        self.lookahead = self.settled = Fraction(0)

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[None, Prefix]:
        """No state."""
        if isinstance(prefix, jax.ShapeDtypeStruct) and (self.keeps_zeros or self.start <= 0):
            return None, resized(shape_of(self.function, resized(prefix, 1)), max(0, self.next_start))
        return None, self.function(materialised(prefix))

    def step(self, state: None, block: Block) -> tuple[None, Block]:
        """Apply the function."""
        return None, Block(self.function(block.values), block.elapsed * self.rate, self.end(block.remaining))

    def end(self, remaining: Any) -> Any:
        """`rate` times as many positions remain."""
        return None if remaining is None else remaining * self.rate


class StatefulForm(StreamingForm):
    """A layer of each position alone whose own state may change from block to block: `layer(x, state, inference=True)`.

    Whether the result depends on the division into blocks depends on the layer.
    """

    layer: Any
    state: Any
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(self, layer: Any, state: Any, start: int):
        """**Arguments:** `state`, the first state of the layer."""
        self.layer, self.state, self.start, self.next_start = layer, state, start, start
        self.ratio, self.multiple = Fraction(1), 1
        self.lookahead = self.settled = Fraction(0)

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Any, Prefix]:
        """The first state, which the prefix does not change."""
        if isinstance(prefix, jax.ShapeDtypeStruct) and self.start <= 0:
            return self.state, prefix
        return self.state, self.layer(materialised(prefix), self.state, inference=True)[0]

    def step(self, state: Any, block: Block) -> tuple[Any, Block]:
        """Apply the layer in inference."""
        values, state = self.layer(block.values, state, inference=True)
        return state, block._replace(values=values)

    def end(self, remaining: Any) -> Any:
        """As many positions remain."""
        return remaining


class WindowForm(StreamingForm):
    """A function of a sliding window, such as a convolution: the state contains the inputs that are still needed."""

    function: Callable[[Array], Array]
    span: int = eqx.field(static=True)
    padding: tuple[int, int] = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    axis: int = eqx.field(static=True)
    keeps_zeros: bool = eqx.field(static=True)
    context: int = eqx.field(static=True)
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[[Array], Array],
        start: int,
        *,
        span: int,
        padding: tuple[int, int],
        stride: int = 1,
        axis: int = -2,
        keeps_zeros: bool = False,
    ):
        """**Arguments:**

        - `function`: the layer without padding. It computes `(length - span) // stride + 1` positions.
        - `span`: input positions of a window; `stride`: positions between windows.
        - `padding`: zeros that the layer adds on the left and on the right of a whole signal.
        - `axis`: the time axis.
        - `keeps_zeros`: whether the result for zeros is zero.
        """
        self.function, self.span, self.padding, self.stride, self.axis = function, span, padding, stride, axis
        self.keeps_zeros, self.start = keeps_zeros, start
        # Output j reads the inputs from j * stride - left to j * stride + reach. Every `stride` inputs give one output,
        # the latest one whose window has arrived with them.
        reach = span - 1 - padding[0]
        next_start = -((reach - start) // stride)
        context = start + padding[0] - stride * next_start
        if context < 0:
            # The window is shorter than the stride. Its inputs are kept, instead of dropping those before it.
            next_start, context = next_start - 1, context + stride
        self.next_start, self.context = next_start, context
        self.ratio, self.multiple = Fraction(1, stride), stride
        self.lookahead, self.settled = Fraction(reach), Fraction(max(0, -start))

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Array | None, Prefix]:
        """The inputs before the first block that the first window reads."""
        state, count = last_positions(prefix, self.context, self.axis), max(0, self.next_start)
        if count == 0 or (self.keeps_zeros and isinstance(prefix, jax.ShapeDtypeStruct)):
            out = shape_of(self.function, resized(prefix, self.span, self.axis))
            return state, resized(out, count, self.axis)
        values = materialised(prefix)
        padded = last_positions(values, values.shape[self.axis] + self.padding[0], self.axis)
        assert padded is not None
        return state, _sliced(self.function(padded), count, self.axis)

    def step(self, state: Array | None, block: Block) -> tuple[Array | None, Block]:
        """Compute the windows that end in the block."""
        x, length = inside_signal(block, self.start, self.axis), block.values.shape[self.axis]
        if state is not None:
            x = jnp.concatenate([state, x], self.axis)
        y = _sliced(self.function(x), length // self.stride, self.axis)
        state = last_positions(x, self.context, self.axis)
        return state, Block(y, block.elapsed // self.stride, self.end(block.remaining))

    def end(self, remaining: Any) -> Any:
        """The number of windows in the padded signal, from the first one of the block."""
        if remaining is None:
            return None
        return (remaining + self.padding[1] + self.context - self.span) // self.stride + 1


class TransposedForm(StreamingForm):
    """A transposed convolution: the state contains the inputs whose taps reach into the next block."""

    function: Callable[[Array], Array]
    taps: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    output_padding: int = eqx.field(static=True)
    keeps_zeros: bool = eqx.field(static=True)
    context: int = eqx.field(static=True)
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(self, layer: Any, taps: int, start: int):
        """**Arguments:** `layer`, a transposed convolution with `taps` taps."""
        self.taps, self.stride, self.padding = taps, layer.stride, layer.padding
        self.output_padding, self.keeps_zeros = layer.output_padding, layer.bias is None
        self.context = -(-taps // layer.stride) - 1
        # With the context before the block, this padding leaves the outputs that the block completes.
        self.function = with_options(
            layer,
            padding=self.context * layer.stride,
            output_padding=(self.context + 1) * layer.stride - taps,
        )
        self.start, self.next_start = start, start * layer.stride - layer.padding
        self.ratio, self.multiple = Fraction(layer.stride), 1
        self.lookahead, self.settled = Fraction(layer.padding, layer.stride), Fraction(max(0, -start))

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Array | None, Prefix]:
        """The last inputs before the first block."""
        state, count = last_positions(prefix, self.context), max(0, self.next_start)
        if count == 0 or (self.keeps_zeros and isinstance(prefix, jax.ShapeDtypeStruct)):
            return state, resized(shape_of(self.function, resized(prefix, self.context + 1)), count)
        padded = last_positions(materialised(prefix), self.start + self.context)
        assert padded is not None
        return state, self.function(padded)[..., self.padding :, :]

    def step(self, state: Array | None, block: Block) -> tuple[Array | None, Block]:
        """Compute the outputs that later blocks do not change."""
        x = inside_signal(block, self.start)
        if state is not None:
            x = jnp.concatenate([state, x], -2)
        y = Block(self.function(x), block.elapsed * self.stride, self.end(block.remaining))
        return last_positions(x, self.context), y

    def end(self, remaining: Any) -> Any:
        """The number of outputs of the remaining inputs."""
        if remaining is None:
            return None
        return (remaining - 1) * self.stride - self.padding + self.taps + self.output_padding


class DelayForm(StreamingForm):
    """A delay: the state contains the last `positions` positions."""

    positions: int = eqx.field(static=True)
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(self, positions: int, start: int):
        self.positions, self.start, self.next_start = positions, start, start - positions
        self.ratio, self.multiple, self.lookahead = Fraction(1), 1, Fraction(positions)
        self.settled = Fraction(0)

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


class IndexState(eqx.Module):
    """The state of an `IndexForm`."""

    index: Int32[Array, ""]
    """Number of the first position of the next block."""
    key: Shaped[Array, " words"] | None
    """Data of the random key."""


class IndexForm(StreamingForm):
    """A function of each position and of its number, such as noise that is drawn for each position.

    The result does not depend on how the signal is divided into blocks.
    """

    function: Callable[[Array, Int32[Array, " time"], PRNGKeyArray | None], Array]
    draws: bool = eqx.field(static=True)
    keeps_zeros: bool = eqx.field(static=True)
    rate: int = eqx.field(static=True)
    start: int = eqx.field(static=True)
    next_start: int = eqx.field(static=True)
    ratio: Fraction = eqx.field(static=True)
    multiple: int = eqx.field(static=True)
    lookahead: Fraction = eqx.field(static=True)
    settled: Fraction = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[[Array, Int32[Array, " time"], PRNGKeyArray | None], Array],
        start: int,
        *,
        draws: bool = False,
        keeps_zeros: bool = False,
        rate: int = 1,
    ):
        """**Arguments:** `function(x, numbers, key)`, where `numbers` are those of the positions; `draws`, whether it
        draws random numbers, otherwise `key` is `None`; `rate`, output positions per position; `keeps_zeros`, whether
        the result for zeros is zero.
        """
        self.function, self.draws, self.keeps_zeros, self.rate = function, draws, keeps_zeros, rate
        self.start, self.next_start, self.multiple, self.ratio = start, start * rate, 1, Fraction(rate)
        self.lookahead = self.settled = Fraction(0)

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[IndexState, Prefix]:
        """The number of the first position, and the key."""
        key = key if self.draws else None
        data = None if key is None else jax.random.key_data(key)
        state = IndexState(jnp.asarray(self.start, jnp.int32), data)
        if isinstance(prefix, jax.ShapeDtypeStruct) and (self.keeps_zeros or self.start <= 0):
            out = shape_of(lambda x: self._apply(x, state.index, key), resized(prefix, 1))
            return state, resized(out, max(0, self.next_start))
        return state, self._apply(materialised(prefix), jnp.zeros((), jnp.int32), key)

    def step(self, state: IndexState, block: Block) -> tuple[IndexState, Block]:
        """Apply the function."""
        key = None if state.key is None else jax.random.wrap_key_data(state.key)
        y = self._apply(block.values, state.index, key)
        state = IndexState(state.index + block.values.shape[-2], state.key)
        return state, Block(y, block.elapsed * self.rate, self.end(block.remaining))

    def _apply(self, x: Array, first: Array, key: PRNGKeyArray | None) -> Array:
        return self.function(x, first + jnp.arange(x.shape[-2], dtype=jnp.int32), key)

    def end(self, remaining: Any) -> Any:
        """`rate` times as many positions remain."""
        return None if remaining is None else remaining * self.rate


class Inference(eqx.Module):
    """A layer in inference with its state, as a function of the input."""

    layer: Any
    state: Any

    def __call__(self, x: Array) -> Array:
        """The result of the layer without its state, which does not change."""
        return self.layer(x, self.state, inference=True)[0]


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


def with_options(layer: _Layer, **options: Any) -> _Layer:
    """A copy of the module `layer` with other values of static fields."""
    copy = object.__new__(type(layer))
    for name, value in (vars(layer) | options).items():
        object.__setattr__(copy, name, value)
    return copy


def convolution_form(
    layer: Any,
    start: int,
    *,
    taps: int,
    padding: tuple[int, int],
    dilation: int = 1,
    axis: int = -2,
    unpadded: Any = 0,
) -> StreamingForm:
    """The form of a convolution with `taps` taps and the attributes of `Conv1d`.

    `unpadded` is its field `padding` for no padding in time.
    """
    stride = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
    span, keeps_zeros = dilation * (taps - 1) + 1, layer.bias is None
    valid = with_options(layer, padding=unpadded)
    if span == 1 and stride == 1 and padding == (0, 0) and axis == -2:
        return PointwiseForm(valid, start, keeps_zeros=keeps_zeros)
    options = {"span": span, "padding": padding, "stride": stride, "axis": axis}
    return WindowForm(valid, start, keeps_zeros=keeps_zeros, **options)


def common_multiple(rates: list[tuple[Fraction, int]]) -> int:
    """The smallest block length whose product with every rate is a multiple of the number beside it."""
    least = 1
    for rate, multiple in rates:
        denominator = rate.denominator * multiple
        least = math.lcm(least, denominator // math.gcd(rate.numerator, denominator))
    return least


def _sliced(x: Array, count: int, axis: int) -> Array:
    return x if x.shape[axis] == count else jax.lax.slice_in_dim(x, 0, count, axis=axis % x.ndim)


def draw_for_positions(
    draw: Callable[[PRNGKeyArray], Array], key: PRNGKeyArray, numbers: Int32[Array, " time"], axis: int
) -> Array:
    """`draw(key)` for each position with a key that depends on its number, stacked along a new `axis`."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers.astype(jnp.uint32))
    return jax.vmap(draw, out_axes=axis)(keys)
