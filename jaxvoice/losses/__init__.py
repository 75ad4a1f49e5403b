"""Pure functions from arrays to scalars that networks are trained on."""

from jaxvoice.losses.adversarial import (
    discriminator_loss as discriminator_loss,
    feature_loss as feature_loss,
    generator_loss as generator_loss,
)
