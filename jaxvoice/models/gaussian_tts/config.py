"""Configuration of the acoustic model: sizes, phonemes, mel contract, and statistics that normalise its data."""

from dataclasses import dataclass, field, replace
from typing import Literal

from jaxvoice.config import (
    check_at_most,
    check_field,
    check_not_negative,
    check_positive,
    check_types,
    find_preset,
    format_value,
)
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.text.phonemes import ALIGNED

# Limits above the sizes of any network of this kind. Damaged or hostile files are rejected before memory is allocated.
_MOST_LAYERS, _WIDEST, _LONGEST = 64, 16384, 2**17


def _check_sizes(config: "EncoderConfig | DecoderConfig | DurationConfig", layers: tuple[str, ...], *widths: str):
    check_types(config)
    check_positive(config, *layers, *widths)
    check_at_most(config, _MOST_LAYERS, *layers)
    check_at_most(config, _WIDEST, *widths)
    check_field(config, "dropout", 0 <= config.dropout < 1, "be in [0, 1)")


def _check_odd(config: "EncoderConfig | DecoderConfig", *names: str) -> None:
    for name in names:
        check_field(config, name, getattr(config, name) % 2 == 1, "be odd", "An even kernel size changes the length")


def _check_positions(config: "EncoderConfig | DecoderConfig", name: str) -> None:
    check_positive(config, name)
    check_at_most(config, _LONGEST, name)


@dataclass(frozen=True)
class EncoderConfig:
    """Configuration of the encoder, with a transformer layer and a residual convolution in each block.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel size.
    """

    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Number of attention heads."""
    feed_forward: int = 1024
    """Hidden channels of the feed-forward networks."""
    attn_dim: int | None = None
    """Channels of the transformer layers, if different from `dim`; the convolution maps them back to `dim`."""
    kernel_size: int = 5
    """Kernel size of the residual convolutions, in positions; odd."""
    dropout: float = 0.15
    """Dropout rate of all blocks."""
    norm: Literal["post", "pre", "none"] = "post"
    """The position of the layer norms in the transformer layers."""
    max_phones: int = 150
    """Number of learned positions: the maximum number of phonemes, padding included."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "heads", "feed_forward", "attn_dim", "kernel_size")
        _check_odd(self, "kernel_size")
        _check_positions(self, "max_phones")


@dataclass(frozen=True)
class DecoderConfig:
    """Configuration of the decoder: blocks like the encoder's, and a post-net that corrects their mel spectrogram.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel size.
    """

    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Number of attention heads."""
    feed_forward: int = 1024
    """Hidden channels of the feed-forward networks."""
    attn_dim: int | None = None
    """Channels of the transformer layers, if different from `dim`; the convolution maps them back to `dim`."""
    kernel_size: int = 5
    """Kernel size of the residual convolutions, in frames; odd."""
    dropout: float = 0.1
    """Dropout rate of all blocks; the post-net has no dropout."""
    norm: Literal["post", "pre", "none"] = "post"
    """The position of the layer norms in the transformer layers."""
    max_frames: int = 1024
    """Number of learned positions: the maximum number of mel frames, padding included."""
    mask: Literal["none", "block_causal"] = "none"
    """The frames that a frame attends to: all frames, or those of its own and earlier phonemes."""
    postnet_layers: int = 5
    """Number of residual convolutions in the post-net."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers", "postnet_layers"), "heads", "feed_forward", "attn_dim", "kernel_size")
        _check_odd(self, "kernel_size")
        _check_positions(self, "max_frames")


@dataclass(frozen=True)
class DurationConfig:
    """Configuration of the duration model, a bidirectional LSTM.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    layers: int = 3
    """Number of LSTM layers."""
    hidden: int = 256
    """Channels per direction."""
    dropout: float = 0.1
    """Dropout rate between layers."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "hidden")


@dataclass(frozen=True)
class UpsamplingConfig:
    """Configuration of Gaussian upsampling: the standard deviation of the Gaussian of each phoneme.

    **Raises:** `ConfigError` for values of the wrong type, or a `sigma_init` that is not positive.
    """

    sigma_mode: Literal["global", "proportional", "predicted"] = "global"
    """A learned standard deviation in frames, a learned multiple of the duration, or one predicted per phoneme."""
    sigma_init: float | None = None
    """The initial standard deviation.

    With "proportional", a multiple of the duration; `None` means 1/sqrt(12), the standard deviation of a uniform
    distribution over the phoneme. Otherwise a number of frames; `None` means 1.
    """

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sigma_init")

    @property
    def first_sigma(self) -> float:
        """`sigma_init`, or the default for `sigma_mode` if it is `None`."""
        if self.sigma_init is not None:
            return self.sigma_init
        return 12**-0.5 if self.sigma_mode == "proportional" else 1.0


@dataclass(frozen=True)
class Statistics:
    """Statistics that normalise mels and durations.

    The defaults are those of LJ-Speech-aligned, with mels under WaveGlow's contract.

    **Raises:** `ConfigError` for values of the wrong type, a standard deviation or scale that is not positive, or a
    negative `duration_mean`.
    """

    mel_mean: float = -5.529334
    """Mean of all log-mel values."""
    mel_std: float = 2.0827525
    """Standard deviation of all log-mel values."""
    mel_max: float = 3.08
    """Upper limit of predicted log-mel values, above the largest value in the corpus."""
    duration_mean: float = 2.026
    """Mean of ln(1 + duration in frames) over all phonemes."""
    duration_std: float = 0.463
    """Standard deviation of ln(1 + duration in frames)."""
    duration_scale: float = 1.0
    """Factor for predicted durations that corrects their sum.

    Durations predicted on a logarithmic scale are too short on average.
    """

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "mel_std", "duration_std", "duration_scale")
        check_not_negative(self, "duration_mean", hint="It is a mean of ln(1 + frames)")


@dataclass(frozen=True)
class GaussianTTSConfig:
    """Configuration of a phoneme-to-mel model: its phonemes, its networks, and its mel contract.

    **Raises:** `ConfigError` for values of the wrong type or range, codes that are empty or repeated, or a width that
    is not divisible by the number of heads.
    """

    codes: tuple[str, ...]
    """The phonemes in order of their ids. The first id is 1; 0 is used for padding."""
    phone_set: str = "aligned"
    """Name of the phoneme set of `codes`."""
    dim: int = 256
    """Channels between the blocks."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Configuration of the encoder."""
    upsampling: UpsamplingConfig = field(default_factory=UpsamplingConfig)
    """Configuration of Gaussian upsampling."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """Configuration of the decoder and the post-net."""
    durations: DurationConfig = field(default_factory=DurationConfig)
    """Configuration of the duration model."""
    batch_norm_mask: bool = True
    """Exclude padding from batch statistics; torch's batch norm includes it."""
    mel: MelConfig = WAVEGLOW_MEL
    """The mel contract of predicted mel spectrograms."""
    peak_normalize: bool = True
    """Whether the training recordings were scaled to a peak of 0.95."""
    statistics: Statistics = field(default_factory=Statistics)
    """Statistics that normalise mels and durations."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "dim")
        check_at_most(self, _WIDEST, "dim")
        phonemes = len(self.codes) > 0 and all(self.codes)
        check_field(self, "codes", phonemes, "contain at least one phoneme, and no empty string")
        repeated = sorted({code for code in self.codes if self.codes.count(code) > 1})
        hint = f"Remove the duplicates of {format_value(repeated)}"
        check_field(self, "codes", not repeated, "contain each phoneme once", hint)
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            width = self.dim if part.attn_dim is None else part.attn_dim
            if width % part.heads:
                raise ConfigError(
                    f"{name}.heads is {part.heads}; it should divide {'dim' if part.attn_dim is None else 'attn_dim'}, "
                    f"which is {width}. Use {width // part.heads * part.heads or part.heads} channels or a different "
                    "number of heads."
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
"""The full size, and `tiny` with half the width, two blocks and no dropout, for training on a CPU."""


def preset(name: str) -> GaussianTTSConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
