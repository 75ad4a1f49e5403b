"""Gradients of large batches, computed on one part of the batch at a time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from jaxvoice.errors import ConfigError


def accumulate_gradient(
    function: Callable[[Any, Any, PRNGKeyArray], tuple[Float[Array, ""], PyTree]],
    params: PyTree,
    batch: PyTree,
    *,
    parts: int,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], PyTree, PyTree]:
    """The sum of a loss over the rows of a batch, other sums, and the gradient, with the activations of one part only.

    The result is that of the whole batch up to rounding, if `function` returns sums over rows. For a mean, divide by
    the count of the whole batch in `function`, not by that of the part: means of parts of different counts would weight
    rows differently.

    **Arguments:**

    - `function`: takes `params`, some rows of `batch` and a random key, and returns the loss and other sums.
    - `params`: the arrays that are differentiated, such as `Learner.params`.
    - `batch`: arrays with the batch axis first.
    - `parts`: number of parts, which are processed one after the other. 1 computes the whole batch at once.
    - `key`: random key, of which each part gets its own.

    **Raises:** `ConfigError` if the number of rows is not a multiple of `parts`.
    """
    compute = eqx.filter_value_and_grad(function, has_aux=True)
    if parts == 1:
        (loss, sums), gradient = compute(params, batch, key)
        return loss, sums, gradient
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % parts:
        raise ConfigError(f"The batch has {rows} rows; it should have a multiple of {parts}, the number of parts.")
    divided, keys = jax.tree.map(lambda array: _divided(array, parts), batch), jax.random.split(key, parts)

    def of_part(total: PyTree, given: tuple[PyTree, PRNGKeyArray]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, compute(params, *given)), None

    first = jax.tree.map(lambda array: array[0], (divided, keys))
    shapes = eqx.filter_eval_shape(compute, params, *first)
    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
    ((loss, sums), gradient), _ = lax.scan(of_part, zeros, (divided, keys))
    return loss, sums, gradient


def _divided(array: Shaped[Array, "rows ..."], parts: int) -> Shaped[Array, "parts part_rows ..."]:
    """The rows of each part. A part has rows of every device, so that a batch that is split over devices stays so."""
    return array.reshape(array.shape[0] // parts, parts, *array.shape[1:]).swapaxes(0, 1)
