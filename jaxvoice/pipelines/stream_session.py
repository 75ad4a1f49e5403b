"""Streams for numpy arrays: blocks of any length, with few compiled programs and little work in Python per block."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray, Shaped

from jaxvoice.errors import ConfigError
from jaxvoice.nn import Stream, StreamState

_Leaves = list[Array]


class StreamSession:
    """A running `Stream` of arrays `(*batch, time, channels)`; the state is kept between calls.

    Blocks are divided into blocks of a few lengths, powers of `factor` times the shortest length, so that few programs
    are compiled. Sessions of streams with equal structure share their programs.

    **Attributes:** `stream`; `batch`, the batch axes of blocks.
    """

    def __init__(
        self,
        stream: Stream,
        longest: int | None = None,
        *,
        factor: int = 4,
        batch: tuple[int, ...] = (),
        dtype: DTypeLike = jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:** `longest`, the largest length of a block that is computed at once, by default 256 times the
        shortest; `factor`, the ratio of successive lengths, 2 for blocks that are short and of equal lengths; `batch`,
        `dtype` and `key` as for `Stream.init_state`.

        **Raises:** `ConfigError` if `longest` is smaller than the shortest length, or `factor` is smaller than 2.
        """
        self.stream, self.batch, self._dtype, self._key = stream, batch, jnp.dtype(dtype), key
        longest = 256 * stream.multiple if longest is None else longest
        if longest < stream.multiple:
            raise ConfigError(f"longest is {longest}; it should be at least {stream.multiple} positions.")
        if factor < 2:
            raise ConfigError(f"factor is {factor}; it should be at least 2.")
        self._lengths = [stream.multiple]
        while factor * self._lengths[-1] <= longest:
            self._lengths.append(factor * self._lengths[-1])
        arrays, static = eqx.partition(stream, eqx.is_array)
        self._weights, weights_tree = jax.tree.flatten(arrays)
        rest, rest_tree = jax.tree.flatten(static)
        self._init = _init_program(weights_tree, tuple(rest), rest_tree, batch, self._dtype)
        self.reset()
        self._step, self._finish = _programs(weights_tree, tuple(rest), rest_tree, self._state_tree)

    def reset(self) -> None:
        """Start again, with the first state."""
        self._state, self._state_tree = jax.tree.flatten(self._init(self._weights, self._key))

    def __call__(self, x: Shaped[np.ndarray, "*batch time channels"]) -> Shaped[np.ndarray, "*batch time out"]:
        """The output of a block, an array of its own that may be changed.

        **Raises:** `ShapeError` for another shape, or a length that is no multiple of `stream.multiple`.
        """
        self.stream.check_block(x, self.batch, self._dtype)
        outputs, done = [], 0
        for length in reversed(self._lengths):
            while x.shape[-2] - done >= length:
                self._state, y = self._step(self._weights, self._state, x[..., done : done + length, :])
                outputs.append(y)
                done += length
        # Arrays of JAX are read-only without a copy.
        return np.array(outputs[0]) if len(outputs) == 1 else np.concatenate(outputs, axis=-2)

    def finish(self) -> Shaped[np.ndarray, "*batch time out"]:
        """The rest of the output after the last block; see `Stream.finish`. The session starts again."""
        rest = np.array(self._finish(self._weights, self._state))
        self.reset()
        return rest


def _rebuild(weights_tree: Any, weights: _Leaves, rest: tuple[Any, ...], rest_tree: Any) -> Stream:
    return eqx.combine(weights_tree.unflatten(weights), rest_tree.unflatten(rest))


@functools.lru_cache(maxsize=64)
def _init_program(
    weights_tree: Any, rest: tuple[Any, ...], rest_tree: Any, batch: tuple[int, ...], dtype: jnp.dtype
) -> Callable[[_Leaves, PRNGKeyArray | None], StreamState]:
    @jax.jit
    def init(weights: _Leaves, key: PRNGKeyArray | None) -> StreamState:
        return _rebuild(weights_tree, weights, rest, rest_tree).init_state(batch=batch, dtype=dtype, key=key)

    return init


@functools.lru_cache(maxsize=64)
def _programs(
    weights_tree: Any, rest: tuple[Any, ...], rest_tree: Any, state_tree: Any
) -> tuple[Callable[..., tuple[_Leaves, Array]], Callable[..., Array]]:
    """Compiled functions of flat lists of arrays, which cost less per call than trees of modules."""

    @jax.jit
    def step(weights: _Leaves, state: _Leaves, x: Array) -> tuple[_Leaves, Array]:
        stream = _rebuild(weights_tree, weights, rest, rest_tree)
        new, y = stream.step(state_tree.unflatten(state), x)
        return jax.tree.leaves(new), y

    @jax.jit
    def finish(weights: _Leaves, state: _Leaves) -> Array:
        return _rebuild(weights_tree, weights, rest, rest_tree).finish(state_tree.unflatten(state))

    return step, finish
