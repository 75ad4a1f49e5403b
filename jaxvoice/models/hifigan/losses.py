"""The losses of HiFi-GAN: adversarial, feature-matching, mel and multi-resolution STFT losses.

Families that train a generator against HiFi-GAN's discriminators share them.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.config import check_field, check_not_negative, check_types
from jaxvoice.dsp.measures import stft_distance
from jaxvoice.losses import discriminator_loss, feature_loss, generator_loss
from jaxvoice.models.hifigan.discriminators import DiscriminatorOutput, Discriminators, MultiScaleState
from jaxvoice.training.training_state import Precision

Losses = dict[str, Float[Array, ""]]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's losses (arXiv 2010.05646, section 2.3).

    In the release, the feature weight of 2 is part of the loss function.

    **Raises:** `ConfigError` for weights that are negative or not finite.
    """

    adversarial: float = 1.0
    """Weight of the adversarial loss."""
    feature: float = 2.0
    """Weight of the feature-matching loss."""
    mel: float = 45.0
    """Weight of the L1 distance of log-mel spectrograms."""
    stft: float = 0.0
    """Weight of the multi-resolution STFT loss (spectral convergence plus log-magnitude distance; arXiv 1910.11480,
    equation 3), which is not part of HiFi-GAN; 0 disables it."""
    stft_sizes: tuple[int, ...] = (2048, 1024, 512, 256)
    """FFT sizes of the multi-resolution STFT loss in samples; the hop lengths are a quarter of them."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "adversarial", "feature", "mel", "stft", hint="0 disables the loss")
        check_field(
            self,
            "stft_sizes",
            all(size >= 4 and size % 4 == 0 for size in self.stft_sizes) and bool(self.stft_sizes),
            "be multiples of 4",
        )


def discriminators_loss(
    discriminators: Discriminators,
    state: MultiScaleState,
    real: Float[Array, "batch samples"],
    fake: Float[Array, "batch samples"],
    *,
    precision: Precision,
) -> tuple[Float[Array, ""], Losses, MultiScaleState]:
    """The loss of the discriminators, its parts, and the state after two power iterations."""
    # Real and generated audio are stacked on a second batch axis, so that each device keeps its own examples.
    both, states = jnp.stack([real, fake], 1), _two_iterations(discriminators, state)
    outputs = _discriminate(discriminators, both, jax.tree.map(lambda *pair: jnp.stack(pair), *states), precision)
    losses = []
    for of_kind in outputs:
        logits = [output.logits for output in of_kind]
        losses.append(discriminator_loss([x[:, 0] for x in logits], [x[:, 1] for x in logits]))
    return losses[0] + losses[1], {"disc_period": losses[0], "disc_scale": losses[1]}, states[1]


def adversarial_losses(
    discriminators: Discriminators,
    state: MultiScaleState,
    real: Float[Array, "batch samples"],
    fake: Float[Array, "batch samples"],
    weights: LossWeights,
    *,
    precision: Precision,
) -> tuple[Losses, MultiScaleState]:
    """The weighted adversarial and feature-matching losses of the generator, by name, and the new state."""
    first, state = _two_iterations(discriminators, state)
    of_real = jax.lax.stop_gradient(_discriminate(discriminators, real, first, precision))
    of_fake = _discriminate(discriminators, fake, state, precision)
    losses: Losses = {}
    for name, r, f in zip(("period", "scale"), of_real, of_fake, strict=True):
        losses[f"adv_{name}"] = weights.adversarial * generator_loss([output.logits for output in f])
        losses[f"feature_{name}"] = weights.feature * feature_loss(_features(r), _features(f))
    return losses, state


def stft_loss(real: Float[Array, "batch samples"], fake: Float[Array, "batch samples"], weights: LossWeights) -> Losses:
    """The weighted multi-resolution STFT loss under the name `stft`; empty if its weight is 0."""
    if not weights.stft:
        return {}
    resolutions = tuple((size, size // 4, size) for size in weights.stft_sizes)
    return {"stft": weights.stft * stft_distance(real, fake, resolutions).total}


def _discriminate(
    discriminators: Discriminators, audio: Float[Array, "*batch samples"], state: Any, precision: Precision
) -> tuple[list[DiscriminatorOutput], list[DiscriminatorOutput]]:
    # `_two_iterations` has already advanced the state; with inference=True it is used unchanged.
    return discriminators(audio.astype(precision)[..., None], state, inference=True)[0]


def _two_iterations(discriminators: Discriminators, state: MultiScaleState) -> tuple[MultiScaleState, MultiScaleState]:
    """The states after one and after two power iterations, for real and for generated audio.

    The release runs one iteration in each of the four forward passes of a step.
    """
    first = discriminators.msd.power_iteration(state)
    return first, discriminators.msd.power_iteration(first)


def _features(outputs: list[DiscriminatorOutput]) -> list[Array]:
    return [feature for output in outputs for feature in output.features]
