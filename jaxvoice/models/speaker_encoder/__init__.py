"""Speaker encoders: speech to a vector of its speaker."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.speaker_encoder.config import (
        PRESETS as PRESETS,
        RESEMBLYZER_MEL as RESEMBLYZER_MEL,
        GE2EConfig as GE2EConfig,
        LSTMConfig as LSTMConfig,
        ResNetConfig as ResNetConfig,
        SpeakerEncoderConfig as SpeakerEncoderConfig,
        preset as preset,
    )
    from jaxvoice.models.speaker_encoder.embedding import (
        SpeakerNetwork as SpeakerNetwork,
        build as build,
        embed as embed,
        embed_partials as embed_partials,
        embed_windows as embed_windows,
        partial_starts as partial_starts,
        window_starts as window_starts,
    )
    from jaxvoice.models.speaker_encoder.family import FAMILY as FAMILY
    from jaxvoice.models.speaker_encoder.front_end import BUFFERS as BUFFERS
    from jaxvoice.models.speaker_encoder.lstm import (
        GE2EEncoder as GE2EEncoder,
        LSTMEncoder as LSTMEncoder,
        ProjectedLSTM as ProjectedLSTM,
        StackedLSTM as StackedLSTM,
    )
    from jaxvoice.models.speaker_encoder.resnet import (
        ResNetSE as ResNetSE,
        ResNetState as ResNetState,
        SEBasicBlock as SEBasicBlock,
        SELayer as SELayer,
        with_state as with_state,
        without_state as without_state,
    )
    from jaxvoice.models.speaker_encoder.training import (
        SpeakerTask as SpeakerTask,
        TrainedEncoder as TrainedEncoder,
        TrainingConfig as TrainingConfig,
        training_sampler as training_sampler,
        training_store as training_store,
    )
    from jaxvoice.models.speaker_encoder.validation import (
        Validation as Validation,
        Verification as Verification,
        equal_error_rate as equal_error_rate,
        error_rate_interval as error_rate_interval,
        verify as verify,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "config": (
            "PRESETS",
            "RESEMBLYZER_MEL",
            "GE2EConfig",
            "LSTMConfig",
            "ResNetConfig",
            "SpeakerEncoderConfig",
            "preset",
        ),
        "embedding": (
            "SpeakerNetwork",
            "build",
            "embed",
            "embed_partials",
            "embed_windows",
            "partial_starts",
            "window_starts",
        ),
        "family": ("FAMILY",),
        "front_end": ("BUFFERS",),
        "lstm": ("GE2EEncoder", "LSTMEncoder", "ProjectedLSTM", "StackedLSTM"),
        "resnet": ("ResNetSE", "ResNetState", "SEBasicBlock", "SELayer", "with_state", "without_state"),
        "training": ("SpeakerTask", "TrainedEncoder", "TrainingConfig", "training_sampler", "training_store"),
        "validation": ("Validation", "Verification", "equal_error_rate", "error_rate_interval", "verify"),
    },
)
