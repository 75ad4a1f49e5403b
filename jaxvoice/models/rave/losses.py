"""The losses of RAVE: spectral distances of audio and of sub-bands, and the losses of its discriminators."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax import lax, numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.losses import (
    discriminator_loss,
    feature_distance,
    generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
    spectral_distance,
)
from jaxvoice.models.rave.discriminators import DiscriminatorOutput
from jaxvoice.models.rave.layers import PQMF
from jaxvoice.models.rave.training_config import RaveTrainingConfig

_DISCRIMINATOR_LOSSES = {
    "hinge": hinge_discriminator_loss,
    "least_squares": discriminator_loss,
    "nonsaturating": nonsaturating_discriminator_loss,
}
_GENERATOR_LOSSES = {
    "hinge": hinge_generator_loss,
    "least_squares": generator_loss,
    "nonsaturating": nonsaturating_generator_loss,
}
Losses = dict[str, Float[Array, ""]]


class Signals(NamedTuple):
    """Audio and its sub-bands."""

    audio: Float[Array, "*batch samples channels"]
    bands: Float[Array, "*batch frames bands"]


def recorded_signals(config: RaveTrainingConfig, pqmf: PQMF, audio: Float[Array, "*batch samples channels"]) -> Signals:
    """The recording and its sub-bands, which the reconstruction should equal.

    The sub-bands are those of the audio. For models that read mel spectrograms, the release computes them from the mel
    spectrogram, which is an error.
    """
    bands = pqmf.analysis(audio)
    return Signals(audio if config.fullband_target == "audio" else pqmf.synthesis(bands), bands)


def generated_signals(config: RaveTrainingConfig, pqmf: PQMF, output: Float[Array, "*batch time out"]) -> Signals:
    """The audio and the sub-bands of the output of the generator, of which it computes one."""
    if config.model.generator.output == "pqmf":
        return Signals(pqmf.synthesis(output), output)
    return Signals(output, pqmf.analysis(output))


def spectral_losses(
    config: RaveTrainingConfig, real: Signals, fake: Signals, crop: tuple[int, int] | None = None
) -> Losses:
    """The spectral distances `fullband` and `multiband`, without their weights.

    **Arguments:** `crop`, the frames of the sub-bands that are not compared, at the start and at the end; by default
    those of `config`.

    acids-ircam/RAVE `rave/model.py:training_step`.
    """
    first, last = config.crop if crop is None else crop
    kept = slice(first, real.bands.shape[-2] - last)
    options = {"log_epsilon": config.log_epsilon}
    return {
        "fullband": spectral_distance(real.audio, fake.audio, scales=config.scales, **options),
        "multiband": spectral_distance(
            real.bands[..., kept, :], fake.bands[..., kept, :], scales=config.multiband_scales, **options
        ),
    }


def reconstruction_loss(
    config: RaveTrainingConfig,
    losses: Losses,
    regularization: Float[Array, ""],
    beta: Float[Array, ""],
) -> Float[Array, ""]:
    """The weighted sum of the losses of `spectral_losses` and of the regularisation of the latents."""
    weights = config.weights
    return weights.fullband * losses["fullband"] + weights.multiband * losses["multiband"] + beta * regularization


def judge(
    discriminators: Any, real: Float[Array, "*batch samples channels"], fake: Float[Array, "*batch samples channels"]
) -> tuple[list[DiscriminatorOutput], list[DiscriminatorOutput]]:
    """The outputs of the discriminators for recordings, whose gradients with respect to audio are not computed, and for
    reconstructions.
    """
    return discriminators(lax.stop_gradient(real)), discriminators(fake)


def discriminators_loss(
    config: RaveTrainingConfig, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> tuple[Float[Array, ""], Losses]:
    """The loss of the discriminators, and the means of their logits, `logit_real` and `logit_fake`."""
    loss = _DISCRIMINATOR_LOSSES[config.adversarial_loss]([one.logits for one in real], [one.logits for one in fake])
    return loss, {"logit_real": _mean_logit(real), "logit_fake": _mean_logit(fake)}


def adversarial_losses(
    config: RaveTrainingConfig, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> tuple[Float[Array, ""], Losses]:
    """The weighted sum of the losses `adversarial` and `feature_matching`, and both without their weights."""
    losses = {
        "adversarial": _GENERATOR_LOSSES[config.adversarial_loss]([one.logits for one in fake]),
        "feature_matching": feature_distance(
            [one.features for one in real],
            [one.features for one in fake],
            relative=config.relative_features,
            skip=config.skipped_features,
        ),
    }
    weights = config.weights.effective
    total = weights.adversarial * losses["adversarial"] + weights.feature_matching * losses["feature_matching"]
    return total, losses


def _mean_logit(outputs: Sequence[DiscriminatorOutput]) -> Float[Array, ""]:
    return jnp.mean(jnp.stack([jnp.mean(one.logits) for one in outputs]))
