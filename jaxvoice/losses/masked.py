"""Losses over the valid part of padded batches: sums over what is there, divided by how much is there."""

from typing import Literal

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxvoice.nn import length_mask

DurationLoss = Literal["huber", "mse"]


def masked_mean(values: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of `values` where `mask` is true, in float32; 0 where it is true nowhere.

    Under a batch that is sharded over devices both sums run over the global batch.
    """
    kept = jnp.where(mask, values.astype(jnp.float32), 0.0)  # a product would let NaN in padding through
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
    """Mean over valid phonemes of the Huber distance with its bend at 1, or with `kind="mse"` of the squared one."""
    mask = length_mask(phone_count, target.shape[1])
    distance = jnp.abs(_distance(predicted, target, mask))
    squared = jnp.square(distance)
    return masked_mean(squared if kind == "mse" else jnp.where(distance < 1, 0.5 * squared, distance - 0.5), mask)


def _distance(predicted: Array, target: Array, mask: Array) -> Array:
    """Their difference, 0 in padding: masked this early, NaN there reaches no gradient either."""
    return jnp.where(mask, predicted.astype(jnp.float32) - target.astype(jnp.float32), 0.0)
