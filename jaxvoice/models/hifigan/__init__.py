"""HiFi-GAN (arXiv 2010.05646): mel spectrogram to waveform."""

from jaxvoice.models.hifigan.config import (
    PRESETS as PRESETS,
    DiscriminatorConfig as DiscriminatorConfig,
    GeneratorConfig as GeneratorConfig,
    HiFiGANConfig as HiFiGANConfig,
    preset as preset,
)
from jaxvoice.models.hifigan.discriminators import (
    Discriminators as Discriminators,
    Judgement as Judgement,
    MultiPeriodDiscriminator as MultiPeriodDiscriminator,
    MultiScaleDiscriminator as MultiScaleDiscriminator,
    PeriodDiscriminator as PeriodDiscriminator,
    ScaleDiscriminator as ScaleDiscriminator,
)
from jaxvoice.models.hifigan.generator import Generator as Generator, ResBlock1 as ResBlock1, ResBlock2 as ResBlock2
