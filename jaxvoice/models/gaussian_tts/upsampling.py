"""Gaussian upsampling: each frame is a mean of phonemes, weighted by normal densities around their centres.

Non-Attentive Tacotron (arXiv 2010.04301), section 3.1. Densities are evaluated at the centres of frames, t + 0.5. By
default, all phonemes have the same learned standard deviation.
"""

import math

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.losses.masked import masked_mean
from jaxvoice.models.gaussian_tts.config import UpsamplingConfig
from jaxvoice.nn import Linear, Module, length_mask, operation

# The smallest standard deviation in frames, for which squared distances divided by its square are finite in float32.
_NARROWEST = 1e-3


@jax.named_scope("upsampling_weights")
def upsampling_weights(
    durations: Float[Array, "*batch phones"],
    sigma: Float[Array, ""] | Float[Array, "*batch phones"],
    *,
    phone_count: Int[Array, "*batch"] | int,
    frame_count: Int[Array, "*batch"] | int,
    frames: int,
) -> Float32[Array, "*batch {frames} phones"]:
    """The weight of each phoneme in each frame.

    With centres `c_i = d_i / 2 + sum_{j<i} d_j`, the weight of phoneme `i` in frame `t` is the normal density at
    `t + 0.5` with mean `c_i` and standard deviation `sigma_i`, divided by the sum over phonemes. Phonemes of duration 0
    get weight 0.

    **Arguments:**

    - `durations`: in frames, `(*batch, phones)`; fractions are allowed. Durations and `sigma` are cast to float32; pass
        them in float32 to avoid rounding.
    - `sigma`: standard deviations in frames, one for all or one for each phoneme.
    - `phone_count`, `frame_count`: number of valid phonemes and frames of each example, or one number for all.
    - `frames`: number of frames of the result; frames after the first `frame_count` are padding.

    **Returns:** `(*batch, frames, phones)`; rows sum to 1, and are zero in padding.

    **Raises:** `ShapeError` if `sigma` is neither a scalar nor of the shape of `durations`.
    """
    if sigma.ndim and sigma.shape != durations.shape:
        raise ShapeError(
            f"The shape of sigma is {sigma.shape}; it should be () or {durations.shape}, as that of durations."
        )
    durations, sigma = durations.astype(jnp.float32), sigma.astype(jnp.float32)
    batch = durations.shape[:-1]
    valid = length_mask(phone_count, durations.shape[-1], batch=batch) & (durations > 0)
    durations = jnp.where(valid, durations, 0.0)
    # In padding, the reciprocal of sigma could be infinite and its gradient NaN.
    sigma = jnp.where(
        valid, jnp.broadcast_to(sigma.reshape(sigma.shape or (1,) * durations.ndim), durations.shape), 1.0
    )
    centres = jnp.cumsum(durations, axis=-1) - durations / 2
    distances = (_column(jnp.arange(frames, dtype=jnp.float32) + 0.5, durations) - centres[..., None, :]) / sigma[
        ..., None, :
    ]
    logits = -0.5 * jnp.square(distances) - jnp.log(sigma)[..., None, :]
    weights = jax.nn.softmax(jnp.where(valid[..., None, :], logits, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.where(length_mask(frame_count, frames, batch=batch)[..., None] & valid[..., None, :], weights, 0.0)


def _column(times: Float[Array, " frames"], durations: Float[Array, "*batch phones"]) -> Float[Array, "*ones frames 1"]:
    return times.reshape(*(1,) * (durations.ndim - 1), -1, 1)


def block_causal(durations: Float[Array, "*batch phones"], frames: int) -> Bool[Array, "*batch {frames} {frames}"]:
    """The attention mask with which each frame attends to the frames of its own and earlier phonemes.

    **Arguments:** `durations` in frames, `(*batch, phones)`; `frames`, the number of frames of the result.

    **Returns:** an array `(*batch, frames, frames)`; the last axis is that of keys, the axis before it that of queries.
    """
    # The index of a frame's phoneme is the number of phonemes that have ended at or before the frame.
    ends = jnp.cumsum(durations.astype(jnp.float32), axis=-1)
    times = _column(jnp.arange(frames, dtype=jnp.float32), durations)
    phoneme = jnp.sum((ends[..., None, :] <= times).astype(jnp.int32), axis=-1)
    return phoneme[..., None, :] <= phoneme[..., :, None]


class GaussianUpsampling(Module):
    """Maps hidden states of phonemes to hidden states of frames, with learned standard deviations.

    The standard deviation depends on `sigma_mode`: exp(`log_sigma`) frames for all phonemes ("global"),
    exp(`log_sigma`) times the duration ("proportional"), or softplus of a linear map of the hidden state and
    ln(1 + duration) ("predicted").
    """

    log_sigma: Float[Array, ""] | None
    predictor: Linear | None
    config: UpsamplingConfig = eqx.field(static=True)

    def __init__(self, dim: int, config: UpsamplingConfig, *, key: PRNGKeyArray):
        """The initial standard deviation is `config.first_sigma` for every phoneme."""
        self.config, self.log_sigma, self.predictor = config, None, None
        if config.sigma_mode == "predicted":
            # softplus(start) is first_sigma - _NARROWEST
            start = math.log(math.expm1(max(config.first_sigma - _NARROWEST, _NARROWEST)))
            self.predictor = eqx.tree_at(
                lambda layer: (layer.weight, layer.bias),
                Linear(dim + 1, 1, key=key),
                (jnp.zeros((1, dim + 1)), jnp.full((1,), start)),
            )
        else:
            self.log_sigma = jnp.full((), math.log(config.first_sigma))

    @operation
    def sigma(
        self, hidden: Float[Array, "*batch phones dim"], durations: Float[Array, "*batch phones"]
    ) -> Float32[Array, ""] | Float32[Array, "*batch phones"]:
        """Standard deviations in frames."""
        durations = durations.astype(jnp.float32)
        if self.predictor is not None:
            # In half precision, durations of several hundred frames would be rounded.
            features = jnp.concatenate([hidden.astype(jnp.float32), jnp.log1p(durations)[..., None]], axis=-1)
            return jax.nn.softplus(self.predictor(features)[..., 0]) + _NARROWEST
        assert self.log_sigma is not None
        factor = jnp.exp(self.log_sigma.astype(jnp.float32))
        if self.config.sigma_mode == "proportional":
            return jnp.maximum(factor * durations, _NARROWEST)
        return jnp.maximum(factor, _NARROWEST)

    def mean_sigma(
        self,
        hidden: Float[Array, "*batch phones dim"],
        durations: Float[Array, "*batch phones"],
        *,
        phone_count: Int[Array, "*batch"] | int,
    ) -> Float32[Array, ""]:
        """The mean of `sigma` over valid phonemes, in frames."""
        sigma = self.sigma(hidden, durations)
        return (
            masked_mean(sigma, length_mask(phone_count, durations.shape[-1], batch=durations.shape[:-1]))
            if sigma.ndim
            else sigma
        )

    def __call__(
        self,
        hidden: Float[Array, "*batch phones dim"],
        durations: Float[Array, "*batch phones"],
        *,
        phone_count: Int[Array, "*batch"] | int,
        frame_count: Int[Array, "*batch"] | int,
        frames: int,
    ) -> tuple[Float[Array, "*batch {frames} dim"], Float32[Array, "*batch {frames} phones"]]:
        """Hidden states of `frames` frames, in `hidden.dtype`, and the weights of the phonemes, in float32.

        `hidden` is `(*batch, phones, dim)` and must be finite in padding too. The other arguments are those of
        `upsampling_weights`.
        """
        counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
        weights = upsampling_weights(durations, self.sigma(hidden, durations), **counts)
        return jnp.einsum("...tn,...nd->...td", weights.astype(hidden.dtype), hidden), weights
