"""Configuration of the Conformer: front end, sizes of the encoder, and the recogniser's classes."""

from dataclasses import dataclass, field
from typing import Literal

from jaxvoice.config import check_at_most, check_field, check_positive, check_types, find_preset, format_value
from jaxvoice.dsp.mel_config import NemoMelConfig
from jaxvoice.errors import ConfigError

SUBSAMPLING = 4
"""Mel frames per frame of the encoder."""

# Limits above the sizes of any network of this kind. Damaged or hostile files are rejected before memory is allocated.
_MOST_LAYERS, _WIDEST = 64, 16384

PIECE, OVERLAP = 30.0, 2.0
"""The length of windows in seconds, and of the longest recording that is encoded whole; the seconds discarded at each
inner end."""


@dataclass(frozen=True)
class ConformerConfig:
    """Configuration of a Conformer encoder, by default the large size of NVIDIA's Conformer-CTC (arXiv 2005.08100).

    **Raises:** `ConfigError` for values of the wrong type or range, a `dim` that is not a multiple of `heads` or odd,
    an even kernel size, or symbols that do not match the classes.
    """

    mel: NemoMelConfig = field(default_factory=NemoMelConfig)
    """The log-mel features that the encoder reads."""
    layers: int = 18
    """Number of Conformer layers."""
    dim: int = 512
    """Channels between the layers, and of the output."""
    heads: int = 8
    """Number of attention heads."""
    feed_forward: int = 2048
    """Hidden channels of the feed-forward networks."""
    kernel_size: int = 31
    """Kernel size of the depthwise convolutions, in frames; odd."""
    subsampling_channels: int = 512
    """Channels of the convolutions that reduce the frame rate to a quarter."""
    xscaling: bool = True
    """Whether the output of the subsampling is multiplied by the square root of `dim`."""
    dropout: float = 0.1
    """Dropout rate of the input, of the feed-forward networks and of all branches."""
    attention_dropout: float = 0.1
    """Dropout rate of the attention probabilities."""
    nemo_release: Literal["1.7", "2.6"] = "2.6"
    """The release of NeMo whose padding is used: "1.7" for releases until 2.4, "2.6" for releases since 2.5."""
    classes: int | None = None
    """Outputs of the recogniser; `None` means no recogniser."""
    symbols: tuple[str, ...] = ()
    """The symbols of the classes, if they are known. With one symbol less than classes, the last class is the blank of
    CTC."""

    def __post_init__(self) -> None:
        check_types(self)
        sizes = ("dim", "heads", "feed_forward", "kernel_size", "subsampling_channels")
        check_positive(self, "layers", *sizes, "classes")
        check_at_most(self, _MOST_LAYERS, "layers")
        check_at_most(self, _WIDEST, *sizes, "classes")
        check_field(self, "dim", self.dim % self.heads == 0, f"be a multiple of heads, {self.heads}")
        check_field(self, "dim", self.dim % 2 == 0, "be even, for the sines and cosines of the positions")
        check_field(self, "kernel_size", self.kernel_size % 2 == 1, "be odd", "An even kernel changes the length")
        for name in ("dropout", "attention_dropout"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "be in [0, 1)")
        if self.symbols and self.classes not in (len(self.symbols), len(self.symbols) + 1):
            raise ConfigError(
                f"ConformerConfig.symbols has {len(self.symbols)} symbols and classes is {self.classes}; classes "
                f"should be {len(self.symbols)}, or {len(self.symbols) + 1} with CTC's blank."
            )
        repeated = sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1})
        hint = f"Remove the duplicates of {format_value(repeated)}"
        check_field(self, "symbols", not repeated and all(self.symbols), "contain each symbol once, none empty", hint)

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame of the encoder."""
        return SUBSAMPLING * self.mel.hop_length

    @property
    def frame_seconds(self) -> float:
        """Time between frames of the encoder in seconds; frame t belongs to the time `t * frame_seconds`."""
        return self.hop_length / self.mel.sample_rate

    @property
    def blank(self) -> int | None:
        """The class of CTC's blank; `None` if there is none, or the symbols are unknown."""
        return len(self.symbols) if self.symbols and self.classes == len(self.symbols) + 1 else None


PRESETS: dict[str, ConformerConfig] = {
    "large": ConformerConfig(),
    "small": ConformerConfig(
        layers=8, dim=144, heads=4, feed_forward=576, kernel_size=15, subsampling_channels=144, attention_dropout=0.0
    ),
}
"""The size of `stt_en_conformer_ctc_large` with 121 million parameters, and a smaller one with 13 million, for one
GPU."""


def preset(name: str) -> ConformerConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
