"""Losses over the valid part of padded batches: sums over valid positions, divided by their number."""

from typing import Literal

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxvoice.nn import length_mask

DurationLoss = Literal["huber", "mse"]


def masked_mean(values: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of `values` where `mask` is true, in float32; 0 if `mask` is true nowhere.

    If the batch is sharded over devices, both sums are over the global batch.
    """
    kept = jnp.where(mask, values.astype(jnp.float32), 0.0)  # a product would pass on NaN in padding
    return jnp.sum(kept) / jnp.maximum(jnp.sum(mask.astype(jnp.float32)), 1.0)


def mel_loss(
    predicted: Float[Array, "batch frames mels"],
    target: Float[Array, "batch frames mels"],
    frame_count: Int[Array, " batch"],
) -> Float[Array, ""]:
    """Mean over valid frames and mel bands of |p - t| + (p - t)^2."""
    mask = jnp.broadcast_to(length_mask(frame_count, target.shape[1])[:, :, None], target.shape)
    distance = _distance(predicted, target, mask)
    return masked_mean(jnp.abs(distance) + jnp.square(distance), mask)


def duration_loss(
    predicted: Float[Array, "batch phones"],
    target: Float[Array, "batch phones"],
    phone_count: Int[Array, " batch"],
    *,
    kind: DurationLoss = "huber",
) -> Float[Array, ""]:
    """Mean over valid phonemes of the Huber loss with delta 1, or of the squared error with `kind="mse"`."""
    mask = length_mask(phone_count, target.shape[1])
    distance = jnp.abs(_distance(predicted, target, mask))
    squared = jnp.square(distance)
    return masked_mean(squared if kind == "mse" else jnp.where(distance < 1, 0.5 * squared, distance - 0.5), mask)


def _distance(predicted: Array, target: Array, mask: Array) -> Array:
    """The difference, 0 in padding. Because it is masked first, NaN in padding reaches no gradient."""
    return jnp.where(mask, predicted.astype(jnp.float32) - target.astype(jnp.float32), 0.0)
