"""Streaming forms of convolutions and transposed convolutions, which keep their last inputs."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxvoice.nn._pointwise_forms import PointwiseForm
from jaxvoice.nn._streaming_forms import (
    Block,
    Prefix,
    StreamingForm,
    Timing,
    inside_signal,
    last_positions,
    materialised,
    resized,
    shape_of,
)

_Layer = TypeVar("_Layer")


class WindowForm(StreamingForm):
    """A function of a sliding window, such as a convolution: the state contains the inputs that are still needed."""

    function: Callable[[Array], Array]
    span: int = eqx.field(static=True)
    padding: tuple[int, int] = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    axis: int = eqx.field(static=True)
    keeps_zeros: bool = eqx.field(static=True)
    context: int = eqx.field(static=True)
    timing: Timing = eqx.field(static=True)

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
        self.keeps_zeros = keeps_zeros
        # Output j reads the inputs from j * stride - left to j * stride + reach. Every `stride` inputs give one output,
        # the latest one whose window has arrived with them.
        reach = span - 1 - padding[0]
        next_start = -((reach - start) // stride)
        context = start + padding[0] - stride * next_start
        if context < 0:
            # The window is shorter than the stride. Its inputs are kept, instead of dropping those before it.
            next_start, context = next_start - 1, context + stride
        self.context = context
        self.timing = Timing(
            start,
            next_start,
            ratio=Fraction(1, stride),
            multiple=stride,
            lookahead=Fraction(reach),
            settled=Fraction(max(0, -start)),
        )

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
    timing: Timing = eqx.field(static=True)

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
        self.timing = Timing(
            start,
            start * layer.stride - layer.padding,
            ratio=Fraction(layer.stride),
            lookahead=Fraction(layer.padding, layer.stride),
            settled=Fraction(max(0, -start)),
        )

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


def with_options(layer: _Layer, **options: Any) -> _Layer:
    """A copy of the module `layer` with other values of static fields."""
    copy = object.__new__(type(layer))
    for name, value in (vars(layer) | options).items():
        object.__setattr__(copy, name, value)
    return copy


def _sliced(x: Array, count: int, axis: int) -> Array:
    return x if x.shape[axis] == count else jax.lax.slice_in_dim(x, 0, count, axis=axis % x.ndim)
