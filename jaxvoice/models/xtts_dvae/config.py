"""The configuration of the DVAE of XTTS, and its mel contract. Does not import jax."""

from dataclasses import dataclass, field
from typing import Any, overload

from jaxtyping import Int

from jaxvoice.config import check_field, check_positive, check_types
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import GeneratorConfig

DVAE_MEL = PowerMelConfig(
    sample_rate=22050,
    n_fft=1024,
    hop_length=256,
    win_length=1024,
    num_mels=80,
    fmax=8000.0,
    window="hann",
    mel_norm="slaney",
    preemphasis=0.0,
)
"""The mel spectrograms of the DVAE, whose logarithms are divided by stored statistics."""
LOG_FLOOR = 1e-5
"""The smallest value whose logarithm is taken."""


@dataclass(frozen=True)
class DVAEConfig:
    """Sizes of the discrete variational autoencoder of mel spectrograms.

    The defaults are those of XTTS v2. Its code book has 1,024 vectors, that of v1.1 8,192.

    coqui-ai/TTS `TTS/tts/layers/xtts/dvae.py`.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel.
    """

    codes: int = 1024
    """Vectors of the code book."""
    code_channels: int = 512
    """Channels of a vector of the code book."""
    hidden: int = 512
    """Channels after the first convolution of the encoder; each further layer doubles them."""
    layers: int = 2
    """Convolutions with stride 2 in the encoder, and upsampling layers of the decoder."""
    blocks: int = 3
    """Residual blocks of the encoder, and of the decoder."""
    kernel_size: int = 3
    """Taps of the convolutions; odd."""
    decay: float = 0.99
    """Share of the old averages of the code book that remains after a training step."""
    eps: float = 1e-5
    """Smoothing of the sizes of clusters."""
    mel: PowerMelConfig = DVAE_MEL
    """The mel spectrograms that are encoded and decoded."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "codes", "code_channels", "hidden", "layers", "blocks", "kernel_size", "eps")
        check_field(self, "kernel_size", self.kernel_size % 2 == 1, "be odd, so that lengths do not change")
        check_field(self, "decay", 0 <= self.decay < 1, "be in [0, 1)")
        check_field(self, "layers", self.layers <= 8, "be at most 8")

    @property
    def stride(self) -> int:
        """Mel frames of a code."""
        return 2**self.layers

    @property
    def samples_per_code(self) -> int:
        """Samples of a code at the sample rate of the mel."""
        return self.stride * self.mel.hop_length

    @overload
    def code_count(self, samples: int) -> int: ...
    @overload
    def code_count(self, samples: Int[Any, "*batch"]) -> Int[Any, "*batch"]: ...
    def code_count(self, samples: Any) -> Any:
        """The number of codes of recordings of `samples` samples: one for each `stride` mel frames or part of them.

        Frames are centred, so a recording has `samples // mel.hop_length + 1` of them.
        """
        return -(-(samples // self.mel.hop_length + 1) // self.stride)


@dataclass(frozen=True)
class CodecConfig:
    """The model in a folder of the family `xtts_dvae`: the autoencoder, and a vocoder if one was trained.

    **Raises:** `ConfigError` for values of the wrong type, or a vocoder that does not fit the mel spectrograms.
    """

    dvae: DVAEConfig = field(default_factory=DVAEConfig)
    """The autoencoder."""
    vocoder: GeneratorConfig | None = None
    """The HiFi-GAN generator that converts decoded mel spectrograms to audio; the release has None."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.vocoder is None:
            return
        for name, value, wanted in (
            ("in_channels", self.vocoder.in_channels, self.mel.num_mels),
            ("hop_length, the product of upsample_rates,", self.vocoder.hop_length, self.mel.hop_length),
            ("cond_channels", self.vocoder.cond_channels, 0),
        ):
            if value != wanted:
                raise ConfigError(f"vocoder.{name} is {value}; it should be {wanted}, to fit the mel of the DVAE.")

    @property
    def mel(self) -> PowerMelConfig:
        """The mel spectrograms that are encoded and decoded."""
        return self.dvae.mel
