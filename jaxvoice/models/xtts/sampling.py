"""The choice of the next code from logits, in the order of `transformers`."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from jaxvoice.models.xtts.config import SamplingConfig


def remaining_scores(
    logits: Float32[Array, "*batch ids"], seen: Bool[Array, "*batch ids"], sampling: SamplingConfig
) -> Float32[Array, "*batch ids"]:
    """The scores of the ids that remain, and minus infinity for the others.

    The logits of `seen` ids are divided by the repetition penalty, or multiplied by it if they are negative. All are
    divided by the temperature. The `top_k` largest remain, and of these the most likely ones whose probabilities sum to
    at least `top_p`.

    huggingface/transformers `generation/logits_process.py`.
    """
    penalty = sampling.repetition_penalty
    scores = jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
    scores = scores / sampling.temperature
    count = scores.shape[-1]
    if 0 < sampling.top_k < count:
        least = jax.lax.top_k(scores, sampling.top_k)[0][..., -1:]
        scores = jnp.where(scores < least, -jnp.inf, scores)
    if sampling.top_p < 1:
        order = jnp.argsort(scores, axis=-1)
        ascending = jnp.take_along_axis(scores, order, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1) <= 1 - sampling.top_p
        below = below.at[..., -1].set(False)
        removed = jnp.take_along_axis(below, jnp.argsort(order, axis=-1), axis=-1)
        scores = jnp.where(removed, -jnp.inf, scores)
    return scores


def draw(scores: Float32[Array, "*batch ids"], *, key: PRNGKeyArray | None = None) -> Int32[Array, "*batch"]:
    """An id by the probabilities of `scores`; without `key`, the id with the largest score."""
    ids = jnp.argmax(scores, axis=-1) if key is None else jax.random.categorical(key, scores, axis=-1)
    return ids.astype(jnp.int32)


def initial_seen(batch: tuple[int, ...], ids: int, start: int, sampling: SamplingConfig) -> Bool[Array, "*batch ids"]:
    """The ids that are penalised before the first code: none, or 1 and `start` (`penalize_prefix`)."""
    seen = jnp.zeros((*batch, ids), bool)
    return seen.at[..., jnp.asarray([1, start])].set(True) if sampling.penalize_prefix else seen


def add_seen(seen: Bool[Array, "*batch ids"], codes: Int32[Array, "*batch"]) -> Bool[Array, "*batch ids"]:
    """`seen` with `codes`."""
    return seen | jax.nn.one_hot(codes, seen.shape[-1], dtype=bool)
