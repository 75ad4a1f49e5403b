"""Losses: pure functions from arrays to scalars."""

from jaxvoice._lazy import list_public
from jaxvoice.losses.adversarial import (
    discriminator_loss as discriminator_loss,
    feature_loss as feature_loss,
    generator_loss as generator_loss,
)
from jaxvoice.losses.masked import (
    duration_loss as duration_loss,
    masked_mean as masked_mean,
    mel_loss as mel_loss,
)

__dir__ = list_public(globals())
