"""The choice of the next code from logits, in the order of `transformers`."""

from typing import NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray

from jaxvoice.models.xtts.config import SamplingConfig


class SamplingValues(NamedTuple):
    """The values of a `SamplingConfig` as arguments of a compiled program, so that it serves all of them."""

    temperature: Float[Array, ""] | float
    """Divisor of the logits."""
    top_k: Int[Array, ""] | int
    """Number of codes that remain; 0 keeps all."""
    tail: Float[Array, ""] | float
    """`1 - top_p`: the least likely codes whose probabilities sum to at most this number are left out."""
    repetition_penalty: Float[Array, ""] | float
    """Divisor or factor of the logits of codes that were generated."""
    penalize_prefix: Bool[Array, ""] | bool
    """Whether the ids 1 and start are penalised from the first step."""


def sampling_values(config: SamplingConfig) -> SamplingValues:
    """The values of `config`, as arrays."""
    return SamplingValues(
        jnp.float32(config.temperature),
        jnp.int32(config.top_k),
        jnp.float32(1 - config.top_p),
        jnp.float32(config.repetition_penalty),
        jnp.asarray(config.penalize_prefix),
    )


def remaining_scores(
    logits: Float32[Array, "*batch ids"], seen: Bool[Array, "*batch ids"], sampling: SamplingConfig | SamplingValues
) -> Float32[Array, "*batch ids"]:
    """The scores of the ids that remain, and minus infinity for the others.

    The logits of `seen` ids are divided by the repetition penalty, or multiplied by it if they are negative. All are
    divided by the temperature. The `top_k` largest remain, and of these the most likely ones whose probabilities sum to
    at least `top_p`.

    huggingface/transformers `generation/logits_process.py`.
    """
    values = sampling if isinstance(sampling, SamplingValues) else sampling_values(sampling)
    penalty, count = values.repetition_penalty, logits.shape[-1]
    scores = jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
    scores = scores / values.temperature
    top_k = jnp.where(values.top_k == 0, count, jnp.minimum(values.top_k, count))
    order = jnp.argsort(scores, axis=-1)
    ascending = jnp.take_along_axis(scores, order, axis=-1)
    least = jnp.take(ascending, count - top_k, axis=-1)[..., None]
    ascending = jnp.where(ascending < least, -jnp.inf, ascending)
    below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1) <= values.tail
    below = (below & (values.tail > 0)).at[..., -1].set(False)
    removed = jnp.take_along_axis(below, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(removed | (scores < least), -jnp.inf, scores)


def draw(scores: Float32[Array, "*batch ids"], *, key: PRNGKeyArray | None = None) -> Int32[Array, "*batch"]:
    """An id by the probabilities of `scores`; without `key`, the id with the largest score."""
    ids = jnp.argmax(scores, axis=-1) if key is None else jax.random.categorical(key, scores, axis=-1)
    return ids.astype(jnp.int32)


def initial_seen(
    batch: tuple[int, ...], ids: int, start: int, sampling: SamplingConfig | SamplingValues
) -> Bool[Array, "*batch ids"]:
    """The ids that are penalised before the first code: none, or 1 and `start` (`penalize_prefix`)."""
    seen = jnp.zeros((*batch, ids), bool)
    return seen.at[..., jnp.asarray([1, start])].set(sampling.penalize_prefix)


def add_seen(seen: Bool[Array, "*batch ids"], codes: Int32[Array, "*batch"]) -> Bool[Array, "*batch ids"]:
    """`seen` with `codes`."""
    return seen | jax.nn.one_hot(codes, seen.shape[-1], dtype=bool)
