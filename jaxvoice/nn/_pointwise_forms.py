"""Streaming forms of layers that compute each position alone."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Int32, PRNGKeyArray, Shaped

from jaxvoice.nn._streaming_forms import Block, Prefix, StreamingForm, Timing, materialised, resized, shape_of


class PointwiseForm(StreamingForm):
    """A function of each position alone, which computes `rate` positions from each."""

    function: Callable[[Array], Array]
    keeps_zeros: bool = eqx.field(static=True)
    rate: int = eqx.field(static=True)
    timing: Timing = eqx.field(static=True)

    def __init__(self, function: Callable[[Array], Array], start: int, *, keeps_zeros: bool = False, rate: int = 1):
        """**Arguments:** `keeps_zeros`, whether the result for zeros is zero; `rate`, output positions per position.
        The time axis is the second to last.
        """
        self.function, self.keeps_zeros, self.rate = function, keeps_zeros, rate
        self.timing = Timing(start, start * rate, ratio=Fraction(rate))

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
    timing: Timing = eqx.field(static=True)

    def __init__(self, layer: Any, state: Any, start: int):
        """**Arguments:** `state`, the first state of the layer."""
        self.layer, self.state, self.timing = layer, state, Timing(start, start)

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
    timing: Timing = eqx.field(static=True)

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
        self.timing = Timing(start, start * rate, ratio=Fraction(rate))

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


def draw_for_positions(
    draw: Callable[[PRNGKeyArray], Array], key: PRNGKeyArray, numbers: Int32[Array, " time"], axis: int
) -> Array:
    """`draw(key)` for each position with a key that depends on its number, stacked along a new `axis`."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers.astype(jnp.uint32))
    return jax.vmap(draw, out_axes=axis)(keys)
