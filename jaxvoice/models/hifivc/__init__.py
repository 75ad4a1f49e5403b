"""HiFi-VC (arXiv 2203.16937): speech to the same speech in the voice of a reference."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.hifivc.config import (
        REFERENCE_MEL as REFERENCE_MEL,
        DecoderConfig as DecoderConfig,
        PitchEncoderConfig as PitchEncoderConfig,
        SpeakerVAEConfig as SpeakerVAEConfig,
    )
    from jaxvoice.models.hifivc.decoder import Decoder as Decoder
    from jaxvoice.models.hifivc.pitch_encoder import PitchEncoder as PitchEncoder
    from jaxvoice.models.hifivc.speaker_encoder import (
        DownBlock as DownBlock,
        SpeakerEncoder as SpeakerEncoder,
        SpeakerPosterior as SpeakerPosterior,
        kl_divergence as kl_divergence,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": ("REFERENCE_MEL", "DecoderConfig", "PitchEncoderConfig", "SpeakerVAEConfig"),
        "decoder": ("Decoder",),
        "pitch_encoder": ("PitchEncoder",),
        "speaker_encoder": ("DownBlock", "SpeakerEncoder", "SpeakerPosterior", "kl_divergence"),
    },
)
