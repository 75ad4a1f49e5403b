"""The Conformer: a speech recogniser whose encoder computes content features."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.conformer.config import (
        PRESETS as PRESETS,
        ConformerConfig as ConformerConfig,
        preset as preset,
    )
    from jaxvoice.models.conformer.family import FAMILY as FAMILY
    from jaxvoice.models.conformer.layers import (
        ConformerLayer as ConformerLayer,
        ConvolutionModule as ConvolutionModule,
        ConvSubsampling as ConvSubsampling,
        FeedForward as FeedForward,
    )
    from jaxvoice.models.conformer.network import (
        Conformer as Conformer,
        ConformerEncoder as ConformerEncoder,
        ConformerOutput as ConformerOutput,
        ConformerState as ConformerState,
        ConvClassifier as ConvClassifier,
        EncoderState as EncoderState,
        fold_batch_norm as fold_batch_norm,
        mask_padding as mask_padding,
        with_state as with_state,
        without_state as without_state,
    )
    from jaxvoice.models.conformer.training import (
        ConformerTask as ConformerTask,
        MaskingConfig as MaskingConfig,
        TrainingConfig as TrainingConfig,
        conformer_optimizer as conformer_optimizer,
        mask_features as mask_features,
        with_phonemes as with_phonemes,
    )
    from jaxvoice.models.conformer.validation import Validation as Validation
    from jaxvoice.models.conformer.weights import content_identity as content_identity

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": ("PRESETS", "ConformerConfig", "preset"),
        "family": ("FAMILY",),
        "layers": ("ConformerLayer", "ConvSubsampling", "ConvolutionModule", "FeedForward"),
        "network": (
            "Conformer",
            "ConformerEncoder",
            "ConformerOutput",
            "ConformerState",
            "ConvClassifier",
            "EncoderState",
            "fold_batch_norm",
            "mask_padding",
            "with_state",
            "without_state",
        ),
        "training": (
            "ConformerTask",
            "MaskingConfig",
            "TrainingConfig",
            "conformer_optimizer",
            "mask_features",
            "with_phonemes",
        ),
        "validation": ("Validation",),
        "weights": ("content_identity",),
    },
)
