"""Configuration of speaker encoders: the mels that they read, the network, and the level of recordings."""

from dataclasses import dataclass, field
from typing import Literal

from jaxvoice.config import check_at_most, check_field, check_positive, check_types, find_preset
from jaxvoice.dsp.mel_config import MelConfig, PowerMelConfig
from jaxvoice.errors import ConfigError

# Limits above the sizes of any network of this kind. Damaged or hostile files are rejected before memory is allocated.
_MOST_BLOCKS, _WIDEST = 64, 16384


@dataclass(frozen=True)
class ResNetConfig:
    """A residual network with squeeze and excitation, and attentive pooling over time; by default H/ASP.

    **Raises:** `ConfigError` for values of the wrong type or range.

    arXiv 2003.11982 and 2009.14153; coqui-ai/TTS `TTS/encoder/models/resnet.py`.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Residual blocks of each of the four groups."""
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels of each group; multiples of `reduction`."""
    reduction: int = 8
    """Ratio between the channels and the hidden units of squeeze and excitation."""
    attention: int = 128
    """Hidden channels of the attention over time."""
    pooling: Literal["ASP", "SAP"] = "ASP"
    """Attentive pooling of mean and standard deviation (ASP), or of the mean alone (SAP)."""
    dim: int = 512
    """Components of the embedding."""
    log_input: bool = True
    """Whether the network takes the logarithm of its input plus 1e-6."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "blocks", "channels", "reduction", "attention", "dim")
        check_at_most(self, _MOST_BLOCKS, "blocks")
        check_at_most(self, _WIDEST, "channels", "attention", "dim")
        divisible = all(count % self.reduction == 0 for count in self.channels)
        check_field(self, "channels", divisible, f"be multiples of reduction, {self.reduction}")


@dataclass(frozen=True)
class LSTMConfig:
    """The recurrent encoder of coqui: layers of LSTM, whose last output is the embedding.

    **Raises:** `ConfigError` for values of the wrong type or range.

    Source: coqui-ai/TTS `TTS/encoder/models/lstm.py`.
    """

    hidden: int = 768
    """Units of each LSTM."""
    layers: int = 3
    """Number of LSTMs."""
    dim: int = 256
    """Components of the embedding, and of the outputs between the layers."""
    projection: bool = True
    """Whether each layer ends with a linear map to `dim` components. Otherwise, a linear map with a ReLU follows the
    last layer."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "hidden", "layers", "dim")
        check_at_most(self, _MOST_BLOCKS, "layers")
        check_at_most(self, _WIDEST, "hidden", "dim")


@dataclass(frozen=True)
class GE2EConfig:
    """The recurrent encoder of Resemblyzer: layers of LSTM, a linear map and a ReLU.

    The embedding of a recording is the normalised mean of those of its parts of 1.6 s.

    **Raises:** `ConfigError` for values of the wrong type or range.

    arXiv 1710.10467; resemble-ai/Resemblyzer `resemblyzer/voice_encoder.py`.
    """

    units: int = 256
    """Units of each LSTM."""
    depth: int = 3
    """Number of LSTMs."""
    dim: int = 256
    """Components of the embedding."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "units", "depth", "dim")
        check_at_most(self, _MOST_BLOCKS, "depth")
        check_at_most(self, _WIDEST, "units", "dim")


RESEMBLYZER_MEL = PowerMelConfig(
    n_fft=400, num_mels=40, window="hann", mel_scale="slaney", mel_norm="slaney", preemphasis=0.0, padding="zeros"
)
"""The mel power spectrograms of Resemblyzer."""


@dataclass(frozen=True)
class SpeakerEncoderConfig:
    """A speaker encoder: a network that maps speech to a vector of its speaker.

    With a `PowerMelConfig`, the network reads waveforms and computes mels itself. With a `MelConfig`, it reads log-mels
    of this contract.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    network: ResNetConfig | LSTMConfig | GE2EConfig = field(default_factory=ResNetConfig)
    """The network after the mels."""
    mel: PowerMelConfig | MelConfig = field(default_factory=PowerMelConfig)
    """The mels that the network reads."""
    level: float | None = -27.0
    """Level in dB to which recordings are scaled, where 0 is a mean square of 1; None keeps their level."""
    only_raise: bool = False
    """Whether louder recordings keep their level."""

    def __post_init__(self) -> None:
        check_types(self)
        if isinstance(self.network, GE2EConfig) and isinstance(self.mel, PowerMelConfig) and self.mel.preemphasis:
            raise ConfigError(f"mel.preemphasis is {self.mel.preemphasis}; it should be 0 for a GE2EConfig.")
        check_field(self, "level", self.level is None or -100 <= self.level <= 0, "lie between -100 and 0")

    @property
    def dim(self) -> int:
        """Components of the embedding."""
        return self.network.dim

    @property
    def reads_audio(self) -> bool:
        """Whether the network reads waveforms, not mels."""
        return isinstance(self.mel, PowerMelConfig)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.mel.sample_rate


PRESETS: dict[str, SpeakerEncoderConfig] = {
    "hasp": SpeakerEncoderConfig(),
    "lstm": SpeakerEncoderConfig(LSTMConfig(), PowerMelConfig(num_mels=80)),
    "resemblyzer": SpeakerEncoderConfig(GE2EConfig(), RESEMBLYZER_MEL, level=-30.0, only_raise=True),
    "tiny": SpeakerEncoderConfig(
        ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 16, 32, 64), attention=32, dim=64), PowerMelConfig(num_mels=40)
    ),
}
"""H/ASP with 8 million parameters, the LSTM of coqui, the encoder of Resemblyzer, and a small network that is trained
in minutes on a CPU."""


def preset(name: str) -> SpeakerEncoderConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
