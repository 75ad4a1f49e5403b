"""HiFi-VC (arXiv 2203.16937): speech to the same speech in the voice of a reference."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.hifivc.config import (
        PRESETS as PRESETS,
        REFERENCE_MEL as REFERENCE_MEL,
        DecoderConfig as DecoderConfig,
        HiFiVCConfig as HiFiVCConfig,
        PitchEncoderConfig as PitchEncoderConfig,
        SpeakerVAEConfig as SpeakerVAEConfig,
        preset as preset,
    )
    from jaxvoice.models.hifivc.decoder import Decoder as Decoder
    from jaxvoice.models.hifivc.family import FAMILY as FAMILY
    from jaxvoice.models.hifivc.features import (
        content_features as content_features,
        training_columns as training_columns,
    )
    from jaxvoice.models.hifivc.network import HiFiVC as HiFiVC
    from jaxvoice.models.hifivc.pitch_encoder import PitchEncoder as PitchEncoder
    from jaxvoice.models.hifivc.speaker_encoder import (
        DownBlock as DownBlock,
        SpeakerEncoder as SpeakerEncoder,
        SpeakerPosterior as SpeakerPosterior,
        kl_divergence as kl_divergence,
    )
    from jaxvoice.models.hifivc.training import (
        HiFiVCTask as HiFiVCTask,
        LossWeights as LossWeights,
        TrainingConfig as TrainingConfig,
        training_sampler as training_sampler,
    )
    from jaxvoice.models.hifivc.validation import Validation as Validation

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": (
            "PRESETS",
            "REFERENCE_MEL",
            "DecoderConfig",
            "HiFiVCConfig",
            "PitchEncoderConfig",
            "SpeakerVAEConfig",
            "preset",
        ),
        "decoder": ("Decoder",),
        "family": ("FAMILY",),
        "features": ("content_features", "training_columns"),
        "network": ("HiFiVC",),
        "pitch_encoder": ("PitchEncoder",),
        "speaker_encoder": ("DownBlock", "SpeakerEncoder", "SpeakerPosterior", "kl_divergence"),
        "training": ("HiFiVCTask", "LossWeights", "TrainingConfig", "training_sampler"),
        "validation": ("Validation",),
    },
)
