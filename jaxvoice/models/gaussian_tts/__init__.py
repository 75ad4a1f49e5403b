"""Phonemes to mel spectrogram with Gaussian upsampling, after Non-Attentive Tacotron (arXiv 2010.04301)."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.gaussian_tts.acoustic import (
        AcousticModel as AcousticModel,
        BatchNormStates as BatchNormStates,
        Block as Block,
        ConvRes as ConvRes,
        Decoded as Decoded,
    )
    from jaxvoice.models.gaussian_tts.config import (
        PRESETS as PRESETS,
        WAVEGLOW_MEL as WAVEGLOW_MEL,
        DecoderConfig as DecoderConfig,
        DurationConfig as DurationConfig,
        EncoderConfig as EncoderConfig,
        GaussianTTSConfig as GaussianTTSConfig,
        Statistics as Statistics,
        UpsamplingConfig as UpsamplingConfig,
        preset as preset,
    )
    from jaxvoice.models.gaussian_tts.family import FAMILY as FAMILY
    from jaxvoice.models.gaussian_tts.networks import (
        DurationModel as DurationModel,
        GaussianTTS as GaussianTTS,
        InferenceModel as InferenceModel,
    )
    from jaxvoice.models.gaussian_tts.statistics import (
        config_for_corpus as config_for_corpus,
        denormalise_durations as denormalise_durations,
        normalise_durations as normalise_durations,
    )
    from jaxvoice.models.gaussian_tts.training import (
        GaussianTTSTask as GaussianTTSTask,
        TrainingConfig as TrainingConfig,
    )
    from jaxvoice.models.gaussian_tts.upsampling import (
        GaussianUpsampling as GaussianUpsampling,
        block_causal as block_causal,
        upsampling_weights as upsampling_weights,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "acoustic": ("AcousticModel", "BatchNormStates", "Block", "ConvRes", "Decoded"),
        "config": (
            "PRESETS",
            "WAVEGLOW_MEL",
            "DecoderConfig",
            "DurationConfig",
            "EncoderConfig",
            "GaussianTTSConfig",
            "Statistics",
            "UpsamplingConfig",
            "preset",
        ),
        "family": ("FAMILY",),
        "networks": ("DurationModel", "GaussianTTS", "InferenceModel"),
        "statistics": ("config_for_corpus", "denormalise_durations", "normalise_durations"),
        "training": ("GaussianTTSTask", "TrainingConfig"),
        "upsampling": ("GaussianUpsampling", "block_causal", "upsampling_weights"),
    },
)
