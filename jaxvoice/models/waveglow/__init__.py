"""WaveGlow (arXiv 1811.00002): mel spectrogram and noise to waveform, and waveform to noise."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.waveglow.config import (
        PRESETS as PRESETS,
        WaveGlowConfig as WaveGlowConfig,
        preset as preset,
    )
    from jaxvoice.models.waveglow.denoiser import bias_spectrum as bias_spectrum, denoise as denoise
    from jaxvoice.models.waveglow.family import FAMILY as FAMILY
    from jaxvoice.models.waveglow.layers import (
        ChannelMatrix as ChannelMatrix,
        InvertibleConv1x1 as InvertibleConv1x1,
        WaveNet as WaveNet,
    )
    from jaxvoice.models.waveglow.network import (
        WaveGlow as WaveGlow,
        WaveGlowLatents as WaveGlowLatents,
        bits_per_sample as bits_per_sample,
        find_non_finite_layer as find_non_finite_layer,
        frame_noise as frame_noise,
        negative_log_likelihood as negative_log_likelihood,
        precompute_inverses as precompute_inverses,
    )
    from jaxvoice.models.waveglow.training import (
        TrainingConfig as TrainingConfig,
        WaveGlowTask as WaveGlowTask,
        waveglow_optimizer as waveglow_optimizer,
    )
    from jaxvoice.models.waveglow.validation import Validation as Validation, dequantize as dequantize

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": ("PRESETS", "WaveGlowConfig", "preset"),
        "denoiser": ("bias_spectrum", "denoise"),
        "family": ("FAMILY",),
        "layers": ("ChannelMatrix", "InvertibleConv1x1", "WaveNet"),
        "network": (
            "WaveGlow",
            "WaveGlowLatents",
            "bits_per_sample",
            "find_non_finite_layer",
            "frame_noise",
            "negative_log_likelihood",
            "precompute_inverses",
        ),
        "training": ("TrainingConfig", "WaveGlowTask", "waveglow_optimizer"),
        "validation": ("Validation", "dequantize"),
    },
)
