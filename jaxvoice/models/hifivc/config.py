"""Configuration of HiFi-VC: sizes of its encoders and decoder, mel contract, and presets.

The training code of HiFi-VC was not released. Settings that are unknown are fields; their defaults are stated as such.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from jaxvoice.config import check_at_most, check_field, check_positive, check_types, find_preset, format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.pitch_tracking import PitchConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig

PITCH_RATE = 100
"""Frames of F0 per second."""

_LARGEST = 10**5
_MOST_LAYERS = 16


def _check_sizes(config: object, *names: str) -> None:
    check_at_most(config, _LARGEST, *names)
    for name in names:
        value = getattr(config, name)
        short = not isinstance(value, tuple) or len(value) <= _MOST_LAYERS
        check_field(config, name, short, f"contain at most {_MOST_LAYERS} numbers")


@dataclass(frozen=True)
class SpeakerVAEConfig:
    """Sizes of the speaker encoder.

    The kernels, the slope, and the first and last widths are those of the released archive; the other widths are those
    of a reimplementation whose author read it. Whether `pre_conv` pads, whether `conv_skip` has a bias, what happens
    between the blocks and the heads, and what `std_conv` computes, are assumptions.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    in_channels: int = 80
    """Mel bands of the reference."""
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 512)
    """Channels after `pre_conv` and after each block; each block halves the number of frames."""
    size: int = 128
    """Size of the speaker vector."""
    slope: float = 0.1
    """Slope of the leaky ReLUs in the blocks."""
    pre_conv_padding: Literal[0, 1] = 0
    """Zeros on each side of the input of `pre_conv`; an assumption."""
    skip_bias: bool = True
    """Whether `conv_skip` has a bias; an assumption."""
    head_slope: float | None = None
    """Slope of a leaky ReLU before the heads `mean_conv` and `std_conv`; None, an assumption, for none."""
    pooling: Literal["before_heads", "after_heads"] = "before_heads"
    """Whether frames are averaged before the leaky ReLU and the heads, or after them; without a leaky ReLU, both are
    equal."""
    deviation: Literal["log_variance", "log_deviation", "deviation"] = "log_variance"
    """What `std_conv` computes: the logarithm of the variance or of the standard deviation, or the standard deviation
    up to its sign; an assumption."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "in_channels", "widths", "size")
        _check_sizes(self, "in_channels", "widths", "size")
        check_field(self, "widths", len(self.widths) > 1, "contain at least two numbers, the ends of a block")

    @property
    def minimum_frames(self) -> int:
        """The smallest number of frames of a reference, for which the last block has one frame."""
        return 2 ** (len(self.widths) - 1) + 2 * (1 - self.pre_conv_padding)


@dataclass(frozen=True)
class PitchEncoderConfig:
    """Sizes of the pitch encoder. That of the released archive is unknown; this one follows PPG-VC's `pitch_convs`.

    **Raises:** `ConfigError` for values of the wrong type or range, or if lists differ in length, or `kernel - stride`
    is negative or odd.
    """

    channels: int = 256
    """Channels of all convolutions and of the code."""
    strides: tuple[int, ...] = (2, 2)
    """Strides of the convolutions after the first one; their product is the number of F0 values per frame."""
    kernel_sizes: tuple[int, ...] = (4, 4)
    """Kernel sizes of these convolutions, usually twice the stride."""
    slope: float = 0.1
    """Slope of the leaky ReLUs."""
    instance_norm: bool = True
    """Whether channels are normalised over time after each leaky ReLU."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "channels", "strides", "kernel_sizes")
        _check_sizes(self, "channels", "strides", "kernel_sizes")
        if len(self.strides) != len(self.kernel_sizes):
            raise ConfigError(
                f"strides is {format_value(self.strides)} and kernel_sizes is {format_value(self.kernel_sizes)}; they "
                "should have the same length. Kernels of twice the strides are usual."
            )
        for stride, kernel in zip(self.strides, self.kernel_sizes, strict=True):
            if kernel < stride or (kernel - stride) % 2:
                raise ConfigError(
                    f"kernel_sizes contains {kernel} for the stride {stride}; kernel - stride should be even and not "
                    f"negative, so that each layer divides the length by its stride. Use {2 * stride}."
                )

    @property
    def downsampling(self) -> int:
        """The number of F0 values per frame of the code."""
        return math.prod(self.strides)


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder. The defaults are those of a reimplementation whose author read the released archive.

    The kernel and width of `conv_pre`, `input_norm` and `final_slope` are assumptions.

    **Raises:** `ConfigError` for the values that `GeneratorConfig` excludes, and an even `pre_kernel_size`.
    """

    upsample_rates: tuple[int, ...] = (10, 8, 6, 2)
    """Upsampling factors; their product is the number of samples per frame of content features."""
    upsample_kernel_sizes: tuple[int, ...] = (20, 16, 12, 4)
    """Kernel sizes of the upsampling layers in samples of their output, usually twice the factor."""
    upsample_initial_channel: int = 512
    """Twice the channels after the first upsampling; each further upsampling halves them."""
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    """Kernel sizes of the parallel residual blocks after each upsampling, in samples; odd."""
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    """Dilations of each parallel residual block, in samples; a block has two convolutions per dilation."""
    pre_channels: int = 512
    """Output channels of `conv_pre`, the convolution of the content features; an assumption."""
    pre_kernel_size: int = 7
    """Kernel size of `conv_pre` in frames; odd; an assumption."""
    fusion: Literal["concat", "sum"] = "concat"
    """How the pitch code is combined with the output of `conv_pre`: concatenated, as in the archive, or added."""
    conditioning: Literal["resblocks", "stage_inputs", "none"] = "resblocks"
    """Where the speaker vector is added: in every pair of convolutions of the residual blocks, as in the archive; to
    the input of each stage, as the paper describes; or nowhere, as in HiFi-GAN."""
    input_norm: bool = False
    """Whether content features pass through a layer norm; an assumption."""
    harmonic_source: bool = False
    """Whether every stage also reads the harmonics of F0, so that the decoder need not learn to synthesise F0. HiFi-VC
    does not do this."""
    final_slope: float = 0.01
    """Slope of the leaky ReLU before the last convolution; 0.01, that of HiFi-GAN, is an assumption."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "pre_channels", "pre_kernel_size")
        _check_sizes(self, "pre_channels", "pre_kernel_size")
        check_field(self, "pre_kernel_size", self.pre_kernel_size % 2 == 1, "be odd, so that the length is kept")
        self._stages()

    def _stages(self) -> GeneratorConfig:
        """The same stages in HiFi-GAN; this checks their sizes."""
        return GeneratorConfig(
            upsample_rates=self.upsample_rates,
            upsample_kernel_sizes=self.upsample_kernel_sizes,
            upsample_initial_channel=self.upsample_initial_channel,
            resblock_kernel_sizes=self.resblock_kernel_sizes,
            resblock_dilation_sizes=self.resblock_dilation_sizes,
        )

    @property
    def hop_length(self) -> int:
        """Number of samples per frame of content features."""
        return math.prod(self.upsample_rates)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """The numbers of frames before and after a frame that influence its samples."""
        before, after = self._stages().receptive_field
        # The field of HiFi-GAN counts the three frames on each side that a first convolution of seven taps reads.
        reach = self.pre_kernel_size // 2 - 3 + (1 if self.harmonic_source else 0)
        return before + reach, after + reach

    @property
    def widths(self) -> tuple[int, ...]:
        """`upsample_initial_channel`, and the channels after each upsampling."""
        return tuple(self.upsample_initial_channel // 2**i for i in range(len(self.upsample_rates) + 1))

    def first_width(self, pitch_channels: int) -> int:
        """Input channels of the first upsampling for a pitch code with `pitch_channels`, 0 without one."""
        return self.pre_channels + (pitch_channels if self.fusion == "concat" else 0)


def source_kernel(stride: int) -> int:
    """The kernel size of the convolution to a stage with this stride: twice the stride, so that windows overlap."""
    return 1 if stride == 1 else 2 * stride + stride % 2


REFERENCE_MEL = MelConfig(
    sample_rate=24000,
    n_fft=2048,
    hop_length=240,
    win_length=1024,
    fmin=50.0,
    fmax=11025.0,
)
"""The mel spectrograms of references: 80 bands from 50 to 11025 Hz, 100 frames per second at 24 kHz."""


@dataclass(frozen=True)
class HiFiVCConfig:
    """Configuration of HiFi-VC (arXiv 2203.16937): its encoders, decoder, mel contract, and discriminators.

    **Raises:** `ConfigError` for values of the wrong type, or if the parts do not fit together: numbers of mel bands,
    frame rates, or channels that are added.
    """

    content: ConformerConfig = field(default_factory=ConformerConfig)
    """The encoder of the content, which is not trained."""
    speaker: SpeakerVAEConfig = field(default_factory=SpeakerVAEConfig)
    """The speaker encoder."""
    pitch: PitchConfig = field(default_factory=PitchConfig)
    """The tracker of F0."""
    pitch_encoder: PitchEncoderConfig | None = field(default_factory=PitchEncoderConfig)
    """The pitch encoder; `None` for a decoder that reads no F0."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The decoder."""
    mel: MelConfig = REFERENCE_MEL
    """The mel contract of the references and of the loss; its sample rate is that of the output."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators for training; those of HiFi-GAN, an assumption."""

    def __post_init__(self) -> None:
        check_types(self)
        content, mel = self.content, self.mel
        if self.speaker.in_channels != mel.num_mels:
            raise ConfigError(
                f"speaker.in_channels is {self.speaker.in_channels}; it should be mel.num_mels, {mel.num_mels}."
            )
        if self.decoder.hop_length * content.mel.sample_rate != content.hop_length * mel.sample_rate:
            seconds = content.hop_length / content.mel.sample_rate
            raise ConfigError(
                f"The product of decoder.upsample_rates {self.decoder.upsample_rates} is {self.decoder.hop_length}; it "
                f"should be {seconds * mel.sample_rate:g}, the samples of a content frame of {1000 * seconds:g} ms at "
                f"mel.sample_rate, {mel.sample_rate} Hz."
            )
        encoder = self.pitch_encoder
        if encoder is None:
            if self.decoder.harmonic_source:
                raise ConfigError("pitch_encoder is None; decoder.harmonic_source needs F0. Set it to False.")
            return
        if encoder.downsampling * content.mel.sample_rate != content.hop_length * PITCH_RATE:
            raise ConfigError(
                f"The product of pitch_encoder.strides {encoder.strides} is {encoder.downsampling}; it should be "
                f"{content.hop_length * PITCH_RATE / content.mel.sample_rate:g}, the values of F0 per content frame."
            )
        if self.decoder.harmonic_source and self.decoder.hop_length % encoder.downsampling:
            raise ConfigError(
                f"decoder.harmonic_source is True, and the product of decoder.upsample_rates is "
                f"{self.decoder.hop_length}; it should then be a multiple of {encoder.downsampling}, the values of F0 "
                "per content frame."
            )
        if self.decoder.fusion == "sum" and encoder.channels != self.decoder.pre_channels:
            raise ConfigError(
                f"pitch_encoder.channels is {encoder.channels}; it should be decoder.pre_channels, "
                f'{self.decoder.pre_channels}, because decoder.fusion is "sum".'
            )

    @property
    def minimum_reference(self) -> int:
        """Samples of the shortest reference, at the sample rate of `mel`."""
        mel, frames = self.mel, self.speaker.minimum_frames
        return max((frames - 1) * mel.hop_length + mel.n_fft - 2 * mel.pad, mel.min_samples)

    @property
    def pitch_channels(self) -> int:
        """Channels of the pitch code; 0 without a pitch encoder."""
        return 0 if self.pitch_encoder is None else self.pitch_encoder.channels

    @property
    def pitch_rows(self) -> int:
        """Values of F0 per subframe that the model reads: log F0, voicing and, for a harmonic source, the phase."""
        return 3 if self.decoder.harmonic_source else 2


PRESETS: dict[str, HiFiVCConfig] = {
    # The released code computes F0 with Praat, which this tracker follows. pYIN is several times slower.
    "full": HiFiVCConfig(pitch=PitchConfig("autocorrelation")),
    "tiny": HiFiVCConfig(
        content=ConformerConfig(
            layers=4, dim=96, heads=4, feed_forward=384, kernel_size=15, subsampling_channels=96, attention_dropout=0.0
        ),
        speaker=SpeakerVAEConfig(widths=(16, 32, 48, 64, 96, 96), size=64),
        pitch=PitchConfig("autocorrelation"),
        # Trained on crops of less than a second, whose mean F0 is not that of the whole utterance.
        pitch_encoder=PitchEncoderConfig(channels=32, instance_norm=False),
        decoder=DecoderConfig(
            upsample_rates=(12, 10, 8),
            upsample_kernel_sizes=(24, 20, 16),
            upsample_initial_channel=128,
            resblock_kernel_sizes=(3, 5, 7),
            resblock_dilation_sizes=((1,), (2,), (3,)),
            pre_channels=96,
            harmonic_source=True,
        ),
        discriminators=DiscriminatorConfig(periods=(2, 3, 5), scales=1, width=1 / 8),
    ),
}
"""The sizes of the released archive as far as they are known (`full`), and a small network for a CPU (`tiny`)."""


def preset(name: str) -> HiFiVCConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
