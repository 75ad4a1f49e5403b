"""HiFi-GAN (arXiv 2010.05646): mel spectrogram to waveform."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.hifigan.config import (
        PRESETS as PRESETS,
        DiscriminatorConfig as DiscriminatorConfig,
        GeneratorConfig as GeneratorConfig,
        HiFiGANConfig as HiFiGANConfig,
        LatentConfig as LatentConfig,
        preset as preset,
    )
    from jaxvoice.models.hifigan.discriminators import (
        DiscriminatorOutput as DiscriminatorOutput,
        Discriminators as Discriminators,
        MultiPeriodDiscriminator as MultiPeriodDiscriminator,
        MultiScaleDiscriminator as MultiScaleDiscriminator,
        MultiScaleState as MultiScaleState,
        PeriodDiscriminator as PeriodDiscriminator,
        ScaleDiscriminator as ScaleDiscriminator,
        ScaleState as ScaleState,
    )
    from jaxvoice.models.hifigan.family import FAMILY as FAMILY
    from jaxvoice.models.hifigan.generator import Generator as Generator, ResBlock1 as ResBlock1, ResBlock2 as ResBlock2
    from jaxvoice.models.hifigan.streaming import generator_stream as generator_stream
    from jaxvoice.models.hifigan.training import HiFiGANTask as HiFiGANTask, TrainingConfig as TrainingConfig

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": ("PRESETS", "DiscriminatorConfig", "GeneratorConfig", "HiFiGANConfig", "LatentConfig", "preset"),
        "discriminators": (
            "Discriminators",
            "DiscriminatorOutput",
            "MultiPeriodDiscriminator",
            "MultiScaleDiscriminator",
            "MultiScaleState",
            "PeriodDiscriminator",
            "ScaleDiscriminator",
            "ScaleState",
        ),
        "family": ("FAMILY",),
        "generator": ("Generator", "ResBlock1", "ResBlock2"),
        "streaming": ("generator_stream",),
        "training": ("HiFiGANTask", "TrainingConfig"),
    },
)
