"""RAVE (arXiv 2111.05011): audio to latents at a low rate, and latents to audio."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.rave.bottlenecks import (
        Bottleneck as Bottleneck,
        EncoderState as EncoderState,
        Latents as Latents,
        from_angles as from_angles,
        to_angles as to_angles,
    )
    from jaxvoice.models.rave.config import (
        ADD_ONS as ADD_ONS,
        PRESETS as PRESETS,
        BottleneckConfig as BottleneckConfig,
        DiscriminatorConfig as DiscriminatorConfig,
        EncoderConfig as EncoderConfig,
        GeneratorConfig as GeneratorConfig,
        MelInputConfig as MelInputConfig,
        NoiseConfig as NoiseConfig,
        PQMFConfig as PQMFConfig,
        RaveConfig as RaveConfig,
        preset as preset,
    )
    from jaxvoice.models.rave.discriminators import (
        DescriptDiscriminator as DescriptDiscriminator,
        DiscriminatorOutput as DiscriminatorOutput,
        Discriminators as Discriminators,
        MultiPeriodDiscriminator as MultiPeriodDiscriminator,
        MultiScaleDiscriminator as MultiScaleDiscriminator,
        MultiScaleSpectralDiscriminator as MultiScaleSpectralDiscriminator,
        build_discriminators as build_discriminators,
    )
    from jaxvoice.models.rave.encoder import Encoder as Encoder
    from jaxvoice.models.rave.family import FAMILY as FAMILY
    from jaxvoice.models.rave.fx_names import torch_names as torch_names
    from jaxvoice.models.rave.generators import (
        GeneratorState as GeneratorState,
        GeneratorV1 as GeneratorV1,
        GeneratorV2 as GeneratorV2,
        RecurrentLayer as RecurrentLayer,
    )
    from jaxvoice.models.rave.latent_pca import LatentPCA as LatentPCA
    from jaxvoice.models.rave.layers import (
        PQMF as PQMF,
        AdaIN as AdaIN,
        AdaINState as AdaINState,
        DilatedUnit as DilatedUnit,
        LeakyReLU as LeakyReLU,
        NetState as NetState,
        Residual as Residual,
        Snake as Snake,
    )
    from jaxvoice.models.rave.mel_input import MelInput as MelInput
    from jaxvoice.models.rave.network import Rave as Rave, RaveState as RaveState
    from jaxvoice.models.rave.noise import NoiseGenerator as NoiseGenerator
    from jaxvoice.models.rave.quantizer import (
        CodebookState as CodebookState,
        Quantized as Quantized,
        QuantizerState as QuantizerState,
        ResidualQuantizer as ResidualQuantizer,
        ResidualQuantizerState as ResidualQuantizerState,
    )
    from jaxvoice.models.rave.receptive_fields import (
        ReceptiveField as ReceptiveField,
        encoder_receptive_field as encoder_receptive_field,
        generator_receptive_field as generator_receptive_field,
        receptive_field as receptive_field,
    )
    from jaxvoice.models.rave.streaming import (
        audio_latency as audio_latency,
        autoencoder_stream as autoencoder_stream,
        decoder_stream as decoder_stream,
        encoder_stream as encoder_stream,
        trained_stream as trained_stream,
    )
    from jaxvoice.models.rave.trained import TrainedRave as TrainedRave, fold_batch_norm as fold_batch_norm
    from jaxvoice.models.rave.training import RaveTask as RaveTask, RaveTrainingState as RaveTrainingState
    from jaxvoice.models.rave.training_config import (
        BetaSchedule as BetaSchedule,
        LossWeights as LossWeights,
        RaveTrainingConfig as RaveTrainingConfig,
        StepKind as StepKind,
        training_preset as training_preset,
    )
    from jaxvoice.models.rave.validation import Validation as Validation
    from jaxvoice.models.rave.warm_start import (
        load_discriminators as load_discriminators,
        save_discriminators as save_discriminators,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "bottlenecks": ("Bottleneck", "EncoderState", "Latents", "from_angles", "to_angles"),
        "config": (
            "ADD_ONS",
            "PRESETS",
            "BottleneckConfig",
            "DiscriminatorConfig",
            "EncoderConfig",
            "GeneratorConfig",
            "MelInputConfig",
            "NoiseConfig",
            "PQMFConfig",
            "RaveConfig",
            "preset",
        ),
        "discriminators": (
            "DescriptDiscriminator",
            "DiscriminatorOutput",
            "Discriminators",
            "MultiPeriodDiscriminator",
            "MultiScaleDiscriminator",
            "MultiScaleSpectralDiscriminator",
            "build_discriminators",
        ),
        "encoder": ("Encoder",),
        "family": ("FAMILY",),
        "generators": ("GeneratorState", "GeneratorV1", "GeneratorV2", "RecurrentLayer"),
        "layers": (
            "PQMF",
            "AdaIN",
            "AdaINState",
            "DilatedUnit",
            "LeakyReLU",
            "NetState",
            "Residual",
            "Snake",
        ),
        "latent_pca": ("LatentPCA",),
        "mel_input": ("MelInput",),
        "network": ("Rave", "RaveState"),
        "noise": ("NoiseGenerator",),
        "quantizer": (
            "CodebookState",
            "Quantized",
            "QuantizerState",
            "ResidualQuantizer",
            "ResidualQuantizerState",
        ),
        "receptive_fields": (
            "ReceptiveField",
            "encoder_receptive_field",
            "generator_receptive_field",
            "receptive_field",
        ),
        "streaming": ("audio_latency", "autoencoder_stream", "decoder_stream", "encoder_stream", "trained_stream"),
        "trained": ("TrainedRave", "fold_batch_norm"),
        "fx_names": ("torch_names",),
        "training": ("RaveTask", "RaveTrainingState"),
        "training_config": ("BetaSchedule", "LossWeights", "RaveTrainingConfig", "StepKind", "training_preset"),
        "validation": ("Validation",),
        "warm_start": ("load_discriminators", "save_discriminators"),
    },
)
