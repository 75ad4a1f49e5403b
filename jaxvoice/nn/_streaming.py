"""Streaming: sequences and branches of layers with state, and the stream of a whole network."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn._inputs import check_at_least
from jaxvoice.nn._module import Module
from jaxvoice.nn._ops import average_pool1d
from jaxvoice.nn._streaming_forms import (
    Block,
    DelayForm,
    Prefix,
    StreamingForm,
    Timing,
    along_time,
    common_multiple,
    materialised,
    shape_of,
)
from jaxvoice.nn._window_forms import WindowForm


def streaming_form(layer: Any, start: int = 0, state: Any = None, *, path: str | None = None) -> StreamingForm:
    """The streaming form of a layer, of a list of layers, or of a form that is already made.

    **Arguments:** `layer`; `start`, the number of the first position of the stream (see `StreamingForm`); `state`, the
    state of a layer that takes one, such as the statistics of batch norm, or a list of states for a list of layers;
    `path`, the name of the result of a list for `jaxvoice.dissect`.

    **Raises:** `ConfigError` for a layer that cannot be computed block by block.
    """
    if isinstance(layer, list | tuple):
        states = [None] * len(layer) if state is None else list(state)
        forms: list[StreamingForm] = []
        for one, its_state in zip(layer, states, strict=True):
            forms.append(streaming_form(one, start, its_state))
            start = forms[-1].next_start
        return SequenceForm(forms, path=path)
    if not isinstance(layer, Module):
        raise ConfigError(
            f"The layer has type {type(layer).__name__}; it should be a jaxvoice.nn.Module or a list of these. Use "
            "PointwiseForm or WindowForm for functions."
        )
    return layer.streaming_form(start) if state is None else layer.streaming_form(start, state)


class SequenceForm(StreamingForm):
    """Layers one after another. `start` of each is `next_start` of the one before."""

    forms: list[StreamingForm]
    timing: Timing = eqx.field(static=True)

    def __init__(self, forms: Sequence[StreamingForm], *, path: str | None = None):
        """**Arguments:** `path`, the name of the result for `jaxvoice.dissect`."""
        self.forms, self.path = list(forms), path
        ratio, lookahead, settled, rates = Fraction(1), Fraction(0), Fraction(0), []
        for before, form in zip([None, *self.forms], self.forms, strict=False):
            if before is not None and before.next_start != form.start:
                raise ConfigError(
                    f"start of a form is {form.start}; it should be {before.next_start}, next_start of the form before."
                )
            timing = form.timing
            rates.append((ratio, timing.multiple))
            lookahead += timing.lookahead / ratio
            settled = max(settled, timing.settled / ratio)
            ratio *= timing.ratio
        start, next_start = self.forms[0].start, self.forms[-1].next_start
        self.timing = Timing(start, next_start, ratio, common_multiple(rates), lookahead, settled)

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[list[Any], Prefix]:
        """The states of all layers."""
        states = []
        for form in self.forms:
            state, prefix = form.init_state(prefix, key=key)
            states.append(state)
        return states, prefix

    def step(self, state: list[Any], block: Block) -> tuple[list[Any], Block]:
        """Apply all layers."""
        states = []
        for form, form_state in zip(self.forms, state, strict=True):
            form_state, block = form.step(form_state, block)
            states.append(form_state)
        return states, _named_block(self.path, block)

    def end(self, remaining: Any) -> Any:
        """As for each layer."""
        for form in self.forms:
            remaining = form.end(remaining)
        return remaining


class ParallelForm(StreamingForm):
    """Branches with the same input, whose results are combined. Branches that are earlier than others are delayed."""

    branches: list[StreamingForm]
    combine: Callable[[list[Array]], Array]
    keeps_zeros: bool = eqx.field(static=True)
    timing: Timing = eqx.field(static=True)

    def __init__(
        self,
        branches: Sequence[StreamingForm],
        combine: Callable[[list[Array]], Array],
        *,
        keeps_zeros: bool = False,
        path: str | None = None,
    ):
        """**Arguments:** `branches` with the same `start`; `combine`, a function of their results; `keeps_zeros`,
        whether it maps zeros to zeros; `path`, the name of the result for `jaxvoice.dissect`.

        **Raises:** `ConfigError` for branches with different rates.
        """
        timings = [branch.timing for branch in branches]
        latest = min(timing.next_start for timing in timings)
        if len({timing.ratio for timing in timings}) > 1:
            rates = ", ".join(str(timing.ratio) for timing in timings)
            raise ConfigError(f"The rates of the branches are {rates}; they should be equal.")
        self.branches = [
            branch
            if branch.next_start == latest
            else SequenceForm([branch, DelayForm(branch.next_start - latest, branch.next_start)])
            for branch in branches
        ]
        self.combine, self.keeps_zeros, self.path = combine, keeps_zeros, path
        self.timing = Timing(
            timings[0].start,
            latest,
            ratio=timings[0].ratio,
            multiple=math.lcm(*(timing.multiple for timing in timings)),
            lookahead=max(timing.lookahead for timing in timings),
            settled=max(timing.settled for timing in timings),
        )

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[list[Any], Prefix]:
        """The states of all branches."""
        results = [branch.init_state(prefix, key=key) for branch in self.branches]
        states, prefixes = [state for state, _ in results], [known for _, known in results]
        if all(isinstance(known, jax.ShapeDtypeStruct) for known in prefixes) and (
            self.keeps_zeros or self.next_start <= 0
        ):
            return states, shape_of(self.combine, prefixes)
        return states, self.combine([materialised(known) for known in prefixes])

    def step(self, state: list[Any], block: Block) -> tuple[list[Any], Block]:
        """Apply all branches, and combine their results."""
        results = [branch.step(s, block) for branch, s in zip(self.branches, state, strict=True)]
        blocks = [result for _, result in results]
        values = self.combine([result.values for result in blocks])
        return [new for new, _ in results], _named_block(self.path, blocks[0]._replace(values=values))

    def end(self, remaining: Any) -> Any:
        """As for the first branch."""
        return self.branches[0].end(remaining)


def add_all(values: list[Array]) -> Array:
    """The sum of `values`."""
    return sum(values[1:], values[0])


def residual_form(body: Any, start: int, *, path: str | None = None) -> ParallelForm:
    """The sum of the input and of the layers `body`."""
    branch = streaming_form(body, start)
    return ParallelForm([branch, DelayForm(0, start)], add_all, keeps_zeros=True, path=path)


def average_pool_form(start: int = 0, *, window: int, stride: int, padding: int) -> WindowForm:
    """The streaming form of `average_pool1d`, with its arguments and errors."""
    check_at_least(1, window=window, stride=stride)
    check_at_least(0, padding=padding)

    def pool(x: Array) -> Array:
        return average_pool1d(x, window=window, stride=stride, padding=0)

    return WindowForm(pool, start, span=window, padding=(padding, padding), stride=stride, keeps_zeros=True)


def _named_block(path: str | None, block: Block) -> Block:
    return block if path is None else block._replace(values=checkpoint_name(block.values, path))


class StreamState(eqx.Module):
    """The state of a `Stream`."""

    elapsed: Int32[Array, ""]
    """Positions of the input so far, up to a number from which nothing depends on it."""
    layers: Any
    """The states of the layers."""
    batch: tuple[int, ...] = eqx.field(static=True)
    """The batch axes of blocks."""
    dtype: jnp.dtype = eqx.field(static=True)
    """The dtype of blocks."""


class Stream(Module):
    """A network that computes a long signal block by block, with the weights of the offline network.

    The result equals that of the network for the whole signal, for any division into blocks:

    ```python
    stream = nn.Stream(network, channels=16)
    state = stream.init_state()
    state, y = stream.step(state, x)  # pure, also under jax.jit and jax.lax.scan
    ```

    `y` is the output of the network for an input that is delayed by `input_delay` positions, and is itself delayed by
    `output_delay` positions; its first `output_delay` positions are zero. Between its layers, the delayed input and the
    positions before the signal are what they are offline, also with biases.
    """

    form: StreamingForm
    channels: int = eqx.field(static=True)
    input_delay: int = eqx.field(static=True)
    _cap: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        channels: int,
        *,
        input_delay: int | None = None,
    ):
        """**Arguments:**

        - `network`: a layer, a list of layers, or a function that makes the streaming form for a `start`.
        - `channels`: channels of the input.
        - `input_delay`: positions by which the input is delayed. By default, networks that reduce the rate have the
            smallest delay that leaves none at the output; the positions of their output are then those of the release
            of RAVE. Other networks have none. With a smaller delay, the rest is at the output, rounded up to positions
            of the output.

        **Raises:** `ConfigError` for a layer that cannot be computed block by block, or a negative delay.
        """
        build: Callable[[int], StreamingForm] = (
            network if not isinstance(network, Module | list | tuple) else lambda start: streaming_form(network, start)
        )
        if input_delay is None:
            form = build(0)
            input_delay = max(0, math.ceil(form.timing.lookahead)) if form.timing.ratio < 1 else 0
        check_at_least(0, input_delay=input_delay)
        form = build(input_delay)
        if form.next_start > 0:
            # The delay is longer than the network needs; the rest delays the output.
            form = SequenceForm([form, DelayForm(form.next_start, form.next_start)])
        self.form, self.channels, self.input_delay = form, channels, input_delay
        timing = form.timing
        settled = max(timing.settled, -timing.next_start / timing.ratio)
        self._cap = timing.multiple * math.ceil(settled / timing.multiple)

    @property
    def output_delay(self) -> int:
        """Positions by which the output is delayed."""
        return -self.form.next_start

    @property
    def latency(self) -> Fraction:
        """The sum of both delays in positions of the input."""
        return self.input_delay + self.output_delay / self.ratio

    @property
    def ratio(self) -> Fraction:
        """Output positions per input position."""
        return self.form.timing.ratio

    @property
    def multiple(self) -> int:
        """The length of a block is a multiple of this number of positions."""
        return self.form.timing.multiple

    def init_state(
        self, *, batch: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32, key: PRNGKeyArray | None = None
    ) -> StreamState:
        """The first state.

        **Arguments:** `batch` and `dtype` of blocks; `key` for networks that draw random numbers, which draw none
        without it.
        """
        prefix = jax.ShapeDtypeStruct((*batch, self.input_delay, self.channels), jnp.dtype(dtype))
        layers, _ = self.form.init_state(prefix, key=key)
        return StreamState(jnp.zeros((), jnp.int32), layers, batch, prefix.dtype)

    def step(
        self, state: StreamState, x: Float[Array, "*batch time in"]
    ) -> tuple[StreamState, Float[Array, "*batch new_time out"]]:
        """The next state, and the output of `ratio` positions for each of the block `x`.

        **Raises:** `ShapeError` for another shape of `x`, or a length that is no multiple of `multiple`.
        """
        self.check_block(x, state.batch, state.dtype)
        layers, block = self.form.step(state.layers, Block(x, state.elapsed))
        elapsed = jnp.minimum(state.elapsed + x.shape[-2], self._cap)
        return StreamState(elapsed, layers, state.batch, state.dtype), self._silent_at_first(block)

    def finish(self, state: StreamState) -> Float[Array, "*batch rest out"]:
        """The rest of the output, after the last block: the stream then has the length of the offline output.

        At the end, the layers see the padding that they have offline.
        """
        zeros = jnp.zeros((*state.batch, 0, self.channels), state.dtype)
        return self._end(state, zeros, 0)[..., : self.rest(0), :]

    def finish_block(
        self, state: StreamState, x: Float[Array, "*batch time in"], count: Int[Array, ""] | int
    ) -> Float[Array, "*batch new_time out"]:
        """The output of a last block `x`, of which only the first `count` positions belong to the signal.

        It ends as `finish`, and saves a program for each length of the last block: the array has more positions than
        the signal. The first `rest(count)` are valid.

        **Raises:** `ShapeError` as `step`.
        """
        self.check_block(x, state.batch, state.dtype)
        return self._end(state, x, jnp.asarray(count, jnp.int32))

    def rest(self, count: int) -> int:
        """The number of positions of the output that end the stream, if `count` positions of the input remain."""
        return max(0, self.form.end(count))

    def _end(self, state: StreamState, x: Array, remaining: Array | int) -> Array:
        """The output for `x` and all of what follows it, in a signal that ends after `remaining` of its positions."""
        given = x.shape[-2]
        length = self.multiple * math.ceil(max(1, self.latency + self.form.timing.lookahead) / self.multiple)
        while (given + length) * self.ratio < self.form.end(given):
            length += self.multiple
        zeros = jnp.zeros((*state.batch, length, self.channels), state.dtype)
        block = Block(jnp.concatenate([x, zeros], -2), state.elapsed, remaining)
        return self._silent_at_first(self.form.step(state.layers, block)[1])

    def _silent_at_first(self, block: Block) -> Array:
        y = block.values
        if not self.output_delay:
            return y
        valid = jnp.arange(y.shape[-2], dtype=jnp.int32) >= self.output_delay - block.elapsed
        return jnp.where(along_time(valid, y.ndim), y, jnp.zeros((), y.dtype))

    def check_block(self, x: Any, batch: tuple[int, ...], dtype: jnp.dtype) -> None:
        """Raise `ShapeError` unless `x` is a block `(*batch, time, channels)` of `dtype` and of a valid length."""
        length = x.shape[-2] if x.ndim >= 2 else 0
        if x.ndim < 2 or x.shape[-1] != self.channels or x.shape[:-2] != batch or x.dtype != dtype:
            shape = ", ".join((*map(str, batch), "time", str(self.channels)))
            raise ShapeError(
                f"The block is {x.dtype} of shape {x.shape}; it should be {dtype} of shape ({shape}), as the state."
            )
        if length == 0 or length % self.multiple:
            raise ShapeError(
                f"The block has {length} positions; it should have a multiple of {self.multiple}. Collect positions "
                "until there are enough."
            )
