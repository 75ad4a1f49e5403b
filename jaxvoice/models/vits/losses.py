"""The losses of VITS and YourTTS, and their weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvoice.config import check_not_negative, check_types
from jaxvoice.losses import feature_loss, generator_loss
from jaxvoice.models.hifigan.discriminators import DiscriminatorOutput

Losses = dict[str, Float[Array, ""]]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses of the generator (arXiv 2106.06103, section 2.3; arXiv 2112.02418, section 2.2).

    In the releases, the feature weight of 2 is part of the loss function.

    **Raises:** `ConfigError` for weights that are negative or not finite.
    """

    adversarial: float = 1.0
    """Weight of the adversarial loss."""
    feature: float = 2.0
    """Weight of the feature-matching loss."""
    mel: float = 45.0
    """Weight of the L1 distance of log-mel spectrograms."""
    kl: float = 1.0
    """Weight of the Kullback-Leibler divergence of the posterior from the prior."""
    durations: float = 1.0
    """Weight of the loss of the duration predictor."""
    speaker: float = 0.0
    """Weight of the speaker consistency loss: 9 in YourTTS; 0 disables it."""

    def __post_init__(self) -> None:
        check_types(self)
        names = ("adversarial", "feature", "mel", "kl", "durations", "speaker")
        check_not_negative(self, *names, hint="0 disables the loss")


def kl_loss(
    z_p: Float[Array, "*batch frames channels"],
    posterior_log_std: Float[Array, "*batch frames channels"],
    prior_mean: Float[Array, "*batch frames channels"],
    prior_log_std: Float[Array, "*batch frames channels"],
    *,
    mask: Bool[Array, "*batch frames"],
) -> Float[Array, ""]:
    """An estimate of the divergence of the posterior from the prior, per valid frame, from one sample, in float32.

    The sum over channels is not divided by their number. The estimate may be negative.

    **Arguments:** `z_p`, a sample of the posterior after the flow; `mask`, true at valid frames.

    arXiv 2106.06103, equation 4; jaywalnut310/vits `losses.py`, `kl_loss`.
    """
    z_p, log_q, mean, log_p = (x.astype(jnp.float32) for x in (z_p, posterior_log_std, prior_mean, prior_log_std))
    divergence = log_p - log_q - 0.5 + 0.5 * jnp.square(z_p - mean) * jnp.exp(-2 * log_p)
    return jnp.sum(jnp.where(mask[..., None], divergence, 0.0)) / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)


def adversarial_losses(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput], weights: LossWeights
) -> Losses:
    """The weighted losses `adversarial` and `feature` of the generator.

    **Arguments:** the outputs of all discriminators for recordings, which should not be differentiated, and for
    generated audio.
    """
    features = [[feature for output in outputs for feature in output.features] for outputs in (real, fake)]
    return {
        "adversarial": weights.adversarial * generator_loss([output.logits for output in fake]),
        "feature": weights.feature * feature_loss(*features),
    }
