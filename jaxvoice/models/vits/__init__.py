"""VITS and YourTTS (arXiv 2106.06103, 2112.02418): text to audio with one network, and voice conversion."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.vits.attention import WindowedAttention as WindowedAttention
    from jaxvoice.models.vits.config import (
        PRESETS as PRESETS,
        DurationConfig as DurationConfig,
        SamplingConfig as SamplingConfig,
        TextEncoderConfig as TextEncoderConfig,
        VITSConfig as VITSConfig,
        WaveNetConfig as WaveNetConfig,
        decoder_config as decoder_config,
        preset as preset,
    )
    from jaxvoice.models.vits.discriminators import (
        VITSDiscriminators as VITSDiscriminators,
        WaveformDiscriminator as WaveformDiscriminator,
    )
    from jaxvoice.models.vits.duration_predictors import (
        DurationPredictor as DurationPredictor,
        StochasticDurationPredictor as StochasticDurationPredictor,
    )
    from jaxvoice.models.vits.family import FAMILY as FAMILY
    from jaxvoice.models.vits.flow import MeanCoupling as MeanCoupling, ResidualCouplings as ResidualCouplings
    from jaxvoice.models.vits.layers import ChannelNorm as ChannelNorm, WaveNet as WaveNet
    from jaxvoice.models.vits.network import (
        VITS as VITS,
        Conditions as Conditions,
        Conversion as Conversion,
        Encoded as Encoded,
        Latents as Latents,
        whole_durations as whole_durations,
    )
    from jaxvoice.models.vits.posterior_encoder import PosteriorEncoder as PosteriorEncoder
    from jaxvoice.models.vits.segments import (
        random_starts as random_starts,
        segment_starts as segment_starts,
        take_segments as take_segments,
    )
    from jaxvoice.models.vits.splines import rational_quadratic_spline as rational_quadratic_spline
    from jaxvoice.models.vits.text_encoder import (
        Gaussian as Gaussian,
        TextEncoder as TextEncoder,
        TextEncoding as TextEncoding,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "attention": ("WindowedAttention",),
        "config": (
            "PRESETS",
            "DurationConfig",
            "SamplingConfig",
            "TextEncoderConfig",
            "VITSConfig",
            "WaveNetConfig",
            "decoder_config",
            "preset",
        ),
        "discriminators": ("VITSDiscriminators", "WaveformDiscriminator"),
        "duration_predictors": ("DurationPredictor", "StochasticDurationPredictor"),
        "family": ("FAMILY",),
        "flow": ("MeanCoupling", "ResidualCouplings"),
        "layers": ("ChannelNorm", "WaveNet"),
        "network": ("VITS", "Conditions", "Conversion", "Encoded", "Latents", "whole_durations"),
        "posterior_encoder": ("PosteriorEncoder",),
        "segments": ("random_starts", "segment_starts", "take_segments"),
        "splines": ("rational_quadratic_spline",),
        "text_encoder": ("Gaussian", "TextEncoder", "TextEncoding"),
    },
)
