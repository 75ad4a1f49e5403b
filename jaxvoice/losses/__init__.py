"""Losses: pure functions from arrays to scalars."""

from jaxvoice._lazy import list_public
from jaxvoice.losses.adversarial import (
    discriminator_loss as discriminator_loss,
    feature_distance as feature_distance,
    feature_loss as feature_loss,
    generator_loss as generator_loss,
    hinge_discriminator_loss as hinge_discriminator_loss,
    hinge_generator_loss as hinge_generator_loss,
    nonsaturating_discriminator_loss as nonsaturating_discriminator_loss,
    nonsaturating_generator_loss as nonsaturating_generator_loss,
)
from jaxvoice.losses.distances import (
    maximum_mean_discrepancy as maximum_mean_discrepancy,
    spectral_distance as spectral_distance,
)
from jaxvoice.losses.masked import (
    duration_loss as duration_loss,
    masked_mean as masked_mean,
    mel_loss as mel_loss,
)
from jaxvoice.losses.speakers import (
    angular_prototypical_loss as angular_prototypical_loss,
    ge2e_contrast_loss as ge2e_contrast_loss,
    ge2e_logits as ge2e_logits,
    ge2e_softmax_loss as ge2e_softmax_loss,
    speaker_classification_loss as speaker_classification_loss,
)

__dir__ = list_public(globals())
