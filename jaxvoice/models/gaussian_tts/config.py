"""What the acoustic model is made of: sizes, phonemes, mel contract and the statistics its numbers are scaled by."""

from dataclasses import dataclass, field, replace
from typing import Literal

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types, format_value
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.text.phonemes import ALIGNED

# Far above every network of this kind; what a damaged or hostile file asks for beyond is refused at once.
_MOST_LAYERS, _WIDEST, _LONGEST = 64, 16384, 2**17


def _check_sizes(config: "EncoderConfig | DecoderConfig | DurationConfig", layers: tuple[str, ...], *widths: str):
    check_types(config)
    check_positive(config, *layers, *widths)
    for names, most in ((layers, _MOST_LAYERS), (widths, _WIDEST)):
        for name in names:
            value = getattr(config, name)
            if value is not None and value > most:
                raise ConfigError(f"{type(config).__name__}.{name} is {format_value(value)}; use at most {most}.")
    check_field(config, "dropout", 0 <= config.dropout < 1, "lie in [0, 1)")


def _check_odd(config: "EncoderConfig | DecoderConfig", *names: str) -> None:
    for name in names:
        if getattr(config, name) % 2 == 0:
            raise ConfigError(
                f"{type(config).__name__}.{name} must be odd to keep the length, got "
                f"{format_value(getattr(config, name))}."
            )


def _check_positions(config: "EncoderConfig | DecoderConfig", name: str) -> None:
    check_positive(config, name)
    if getattr(config, name) > _LONGEST:
        raise ConfigError(
            f"{type(config).__name__}.{name} is {format_value(getattr(config, name))}; use at most {_LONGEST}."
        )


@dataclass(frozen=True)
class EncoderConfig:
    """Phonemes to hidden states: a transformer layer and a residual convolution in each block.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel.
    """

    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Heads of each attention."""
    feed_forward: int = 1024
    """Channels inside the feed-forward networks."""
    attn_dim: int | None = None
    """Channels of the transformer layers where other than those of the model; the convolution narrows them again."""
    kernel_size: int = 5
    """Kernel of the residual convolutions, in positions; odd."""
    dropout: float = 0.15
    """Rate of dropout in all blocks."""
    norm: Literal["post", "pre", "none"] = "post"
    """Where the transformer layers have their layer norms."""
    max_phones: int = 150
    """Learned positions: the longest sequence of phonemes, padding included."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "heads", "feed_forward", "attn_dim", "kernel_size")
        _check_odd(self, "kernel_size")
        _check_positions(self, "max_phones")


@dataclass(frozen=True)
class DecoderConfig:
    """Frames of hidden states to mel frames: blocks like the encoder's, then a post-net that corrects.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel.
    """

    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Heads of each attention."""
    feed_forward: int = 1024
    """Channels inside the feed-forward networks."""
    attn_dim: int | None = None
    """Channels of the transformer layers where other than those of the model; the convolution narrows them again."""
    kernel_size: int = 5
    """Kernel of the residual convolutions, in frames; odd."""
    dropout: float = 0.1
    """Rate of dropout in all blocks; the post-net has none."""
    norm: Literal["post", "pre", "none"] = "post"
    """Where the transformer layers have their layer norms."""
    max_frames: int = 1024
    """Learned positions: the longest mel spectrogram in frames, padding included."""
    mask: Literal["none", "block_causal"] = "none"
    """What a frame may attend to: all frames, or those of its own and earlier phonemes."""
    postnet_layers: int = 5
    """Residual convolutions of the post-net."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers", "postnet_layers"), "heads", "feed_forward", "attn_dim", "kernel_size")
        _check_odd(self, "kernel_size")
        _check_positions(self, "max_frames")


@dataclass(frozen=True)
class DurationConfig:
    """Hidden states to durations: a bidirectional LSTM.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    layers: int = 3
    """Layers of the LSTM."""
    hidden: int = 256
    """Channels of each direction."""
    dropout: float = 0.1
    """Rate of dropout between layers."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "hidden")


@dataclass(frozen=True)
class UpsamplingConfig:
    """How wide each phoneme's Gaussian is.

    **Raises:** `ConfigError` for values of the wrong type, or a width that is not positive.
    """

    sigma_mode: Literal["global", "proportional", "predicted"] = "global"
    """One learned width in frames; a learned multiple of each phoneme's duration; or one predicted for each."""
    sigma_init: float | None = None
    """The width to begin with, in frames (1 if None), or as a multiple of the duration (1/sqrt(12) if None, the
    standard deviation of times spread evenly over the phoneme)."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sigma_init")

    @property
    def first_sigma(self) -> float:
        """`sigma_init`, or what stands for it."""
        if self.sigma_init is not None:
            return self.sigma_init
        return 12**-0.5 if self.sigma_mode == "proportional" else 1.0


@dataclass(frozen=True)
class Statistics:
    """What mels and durations are normalised by; the defaults are of LJ-Speech-aligned, its mels those of WaveGlow.

    **Raises:** `ConfigError` for values of the wrong type, or deviations or a scale that are not positive.
    """

    mel_mean: float = -5.529334
    """Mean of all log-mel values."""
    mel_std: float = 2.0827525
    """Their standard deviation."""
    mel_max: float = 3.08
    """Highest value a mel may have: a little above the loudest of the corpus."""
    duration_mean: float = 2.026
    """Mean of ln(1 + duration in frames) over phonemes."""
    duration_std: float = 0.463
    """Its standard deviation."""
    duration_scale: float = 1.0
    """Factor of predicted durations that makes their sum right: a prediction of logarithms comes out short."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "mel_std", "duration_std", "duration_scale")
        check_not_negative(self, "duration_mean", hint="It is a mean of ln(1 + frames)")


@dataclass(frozen=True)
class GaussianTTSConfig:
    """A phoneme-to-mel model: its phonemes, its networks, and the mel spectrograms it makes.

    **Raises:** `ConfigError` for values of the wrong type or range, codes that are empty or repeat, or a width that the
    heads do not divide.
    """

    codes: tuple[str, ...]
    """The phonemes in order: the first has id 1, since 0 is padding."""
    phone_set: str = "aligned"
    """Name of the phoneme set that the codes come from."""
    dim: int = 256
    """Channels between the blocks."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Phonemes to hidden states."""
    upsampling: UpsamplingConfig = field(default_factory=UpsamplingConfig)
    """Hidden states of phonemes to those of frames."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """Hidden states of frames to mel frames."""
    durations: DurationConfig = field(default_factory=DurationConfig)
    """Hidden states to durations."""
    batch_norm_mask: bool = True
    """Leave padding out of batch statistics; torch's batch norm counts it."""
    mel: MelConfig = WAVEGLOW_MEL
    """The mel spectrograms that the model makes."""
    peak_normalize: bool = True
    """Whether the recordings whose mels it learned from had been scaled to a peak of 0.95."""
    statistics: Statistics = field(default_factory=Statistics)
    """What mels and durations are normalised by."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "dim")
        if self.dim > _WIDEST:
            raise ConfigError(f"GaussianTTSConfig.dim is {format_value(self.dim)}; use at most {_WIDEST}.")
        if not self.codes or not all(self.codes):
            raise ConfigError(
                f"codes should name at least one phoneme and none of them empty, got {format_value(self.codes)}."
            )
        repeated = sorted({code for code in self.codes if self.codes.count(code) > 1})
        if repeated:
            raise ConfigError(
                f"codes should name each phoneme once, but {format_value(repeated)} come again; remove them."
            )
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            width = self.dim if part.attn_dim is None else part.attn_dim
            if width % part.heads:
                raise ConfigError(
                    f"{name}.heads ({part.heads}) must divide {'dim' if part.attn_dim is None else 'attn_dim'} "
                    f"({width}); use {width // part.heads * part.heads or part.heads} channels or another number of "
                    "heads."
                )


_FULL = GaussianTTSConfig(ALIGNED.codes, encoder=EncoderConfig(max_phones=160), mel=MelConfig())
PRESETS: dict[str, GaussianTTSConfig] = {
    "full": _FULL,
    "tiny": replace(
        _FULL,
        dim=128,
        encoder=EncoderConfig(layers=2, heads=2, feed_forward=384, dropout=0.0, max_phones=160),
        decoder=DecoderConfig(layers=2, heads=2, feed_forward=384, dropout=0.0, postnet_layers=2),
        durations=DurationConfig(layers=1, hidden=64, dropout=0.0),
    ),
}
"""The full size, and `tiny`: half the width, two blocks and no dropout, for training on a CPU."""
