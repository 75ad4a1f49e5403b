"""XTTS: text to speech in the voice of a reference, by a language model of audio codes."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.xtts.conditioning import (
        AttentionBlock as AttentionBlock,
        ConditioningEncoder as ConditioningEncoder,
        PerceiverAttention as PerceiverAttention,
        PerceiverResampler as PerceiverResampler,
        RMSNorm as RMSNorm,
    )
    from jaxvoice.models.xtts.config import (
        FRAMES_MEL as FRAMES_MEL,
        PERCEIVER_MEL as PERCEIVER_MEL,
        PRESETS as PRESETS,
        ConditioningConfig as ConditioningConfig,
        GPTConfig as GPTConfig,
        ReferenceConfig as ReferenceConfig,
        SamplingConfig as SamplingConfig,
        XTTSConfig as XTTSConfig,
        decoder_config as decoder_config,
        preset as preset,
    )
    from jaxvoice.models.xtts.decoder import HiFiDecoder as HiFiDecoder, interpolate as interpolate
    from jaxvoice.models.xtts.family import FAMILY as FAMILY
    from jaxvoice.models.xtts.generation import (
        Codes as Codes,
        GenerationState as GenerationState,
        advance as advance,
        begin as begin,
        generate as generate,
        resized as resized,
    )
    from jaxvoice.models.xtts.gpt import (
        GPT as GPT,
        Logits as Logits,
        Step as Step,
        Targets as Targets,
        masked_cross_entropy as masked_cross_entropy,
        training_targets as training_targets,
    )
    from jaxvoice.models.xtts.inference import (
        CODES_PER_CALL as CODES_PER_CALL,
        FIRST_CODES as FIRST_CODES,
        NewCodes as NewCodes,
        generate_in_parts as generate_in_parts,
    )
    from jaxvoice.models.xtts.network import XTTS as XTTS
    from jaxvoice.models.xtts.precision import (
        BytesPerCode as BytesPerCode,
        bytes_per_code as bytes_per_code,
        with_precision as with_precision,
    )
    from jaxvoice.models.xtts.references import (
        condition_on_parts as condition_on_parts,
        reference_parts as reference_parts,
        speaker_audio as speaker_audio,
    )
    from jaxvoice.models.xtts.sampling import (
        SamplingValues as SamplingValues,
        add_seen as add_seen,
        draw as draw,
        initial_seen as initial_seen,
        remaining_scores as remaining_scores,
        sampling_values as sampling_values,
    )
    from jaxvoice.models.xtts.streaming import (
        DecoderStream as DecoderStream,
        Interpolation as Interpolation,
        decoder_features as decoder_features,
        decoder_scales as decoder_scales,
    )
    from jaxvoice.models.xtts.tokenizer import CHARACTER_LIMITS as CHARACTER_LIMITS, Tokenizer as Tokenizer
    from jaxvoice.models.xtts.transformer import (
        KeyValues as KeyValues,
        Transformer as Transformer,
        freeze_projections as freeze_projections,
    )
    from jaxvoice.models.xtts.vocabulary_training import train_vocabulary as train_vocabulary
    from jaxvoice.models.xtts.voices import (
        VOICES_FILE as VOICES_FILE,
        StoredVoice as StoredVoice,
        read_voices as read_voices,
        write_voices as write_voices,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "conditioning": (
            "AttentionBlock",
            "ConditioningEncoder",
            "PerceiverAttention",
            "PerceiverResampler",
            "RMSNorm",
        ),
        "config": (
            "FRAMES_MEL",
            "PERCEIVER_MEL",
            "PRESETS",
            "ConditioningConfig",
            "GPTConfig",
            "ReferenceConfig",
            "SamplingConfig",
            "XTTSConfig",
            "decoder_config",
            "preset",
        ),
        "decoder": (
            "HiFiDecoder",
            "interpolate",
        ),
        "family": ("FAMILY",),
        "generation": ("Codes", "GenerationState", "advance", "begin", "generate", "resized"),
        "gpt": (
            "GPT",
            "Logits",
            "Step",
            "Targets",
            "masked_cross_entropy",
            "training_targets",
        ),
        "inference": ("FIRST_CODES", "CODES_PER_CALL", "NewCodes", "generate_in_parts"),
        "network": ("XTTS",),
        "precision": ("BytesPerCode", "bytes_per_code", "with_precision"),
        "references": ("condition_on_parts", "reference_parts", "speaker_audio"),
        "sampling": (
            "SamplingValues",
            "add_seen",
            "draw",
            "initial_seen",
            "remaining_scores",
            "sampling_values",
        ),
        "streaming": ("DecoderStream", "Interpolation", "decoder_features", "decoder_scales"),
        "tokenizer": ("CHARACTER_LIMITS", "Tokenizer"),
        "transformer": ("KeyValues", "Transformer", "freeze_projections"),
        "voices": ("VOICES_FILE", "StoredVoice", "read_voices", "write_voices"),
        "vocabulary_training": ("train_vocabulary",),
    },
)
