"""Configuration of HiFi-GAN: network sizes, mel contract, and presets."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from jaxvoice.config import (
    check_at_most,
    check_not_negative,
    check_positive,
    check_types,
    find_preset,
    format_value,
)
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError

# Far above every network that was ever trained; larger values, as in damaged or hostile files, are rejected.
_MOST_STAGES, _MOST_BLOCKS, _MOST_DISCRIMINATORS, _LARGEST = 16, 32, 32, 10**6
_LONGEST_SEGMENT, _HIGHEST_RATE = 2**28, 10**7


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the generator; the defaults are V1 (arXiv 2010.05646, appendix A.1; jik876/hifi-gan `config_v1.json`).

    With `cond_channels` > 0, a projection of a conditioning vector, such as a speaker embedding, is added after
    `conv_pre`, and with `cond_in_each_stage` also after every upsampling (coqui-ai/TTS `hifigan_generator.py`,
    `xtts/hifigan_decoder.py`). With `input_mean` and `input_scale`, the input of `conv_pre` is
    `(mel - input_mean) / input_scale` (Hugging Face transformers, `SpeechT5HifiGan`).

    **Raises:** `ConfigError` for values of the wrong type or range, or if lists differ in length, `kernel - rate` is
    negative or odd, a kernel of the residual blocks is even, or the channels cannot be halved.
    """

    in_channels: int = 80
    """Channels of the input: mel bands, or the size of the latents."""
    resblock: Literal["1", "2"] = "1"
    """Kind of residual block: 1 as in V1 and V2, 2 as in V3."""
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    """Upsampling factors; their product is the hop length in samples."""
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    """Kernel sizes of the upsampling layers in samples of their output, usually twice the factor."""
    upsample_initial_channel: int = 512
    """Channels before the first upsampling; each upsampling halves them."""
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    """Kernel sizes of the parallel residual blocks after each upsampling, in samples; odd."""
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    """Dilations of each parallel residual block, in samples."""
    cond_channels: int = 0
    """Size of the conditioning vector; 0 if there is none."""
    cond_in_each_stage: bool = False
    """Whether the conditioning vector is added after every upsampling, not only after the first layer."""
    conv_pre_weight_norm: bool = True
    """Whether the first convolution has weight norm."""
    conv_post_weight_norm: bool = True
    """Whether the last convolution has weight norm."""
    conv_post_bias: bool = True
    """Whether the last convolution has a bias."""
    input_mean: tuple[float, ...] = ()
    """Value subtracted from each input channel; empty for an input that is not normalised."""
    input_scale: tuple[float, ...] = ()
    """Divisor of each input channel after `input_mean` was subtracted."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.input_scale:
            check_positive(self, "input_scale")
        if not len(self.input_mean) == len(self.input_scale) in (0, self.in_channels):
            raise ConfigError(
                f"input_mean and input_scale have {len(self.input_mean)} and {len(self.input_scale)} numbers; both "
                f"should have one for each of the {format_value(self.in_channels)} input channels, or none."
            )
        check_positive(self, "in_channels", "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")
        check_positive(self, "resblock_kernel_sizes", "resblock_dilation_sizes")
        check_not_negative(self, "cond_channels", hint="0 means no conditioning vector")
        self._check_upsampling()
        self._check_resblocks()
        if self.cond_in_each_stage and not self.cond_channels:
            raise ConfigError(
                "cond_in_each_stage needs cond_channels > 0; set cond_channels to the size of the conditioning vector."
            )

    def _check_upsampling(self) -> None:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        if len(rates) > _MOST_STAGES:
            raise ConfigError(f"upsample_rates has {len(rates)} stages; it should have at most {_MOST_STAGES}.")
        check_at_most(self, _LARGEST, "upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes")
        check_at_most(
            self, _LARGEST, "in_channels", "upsample_initial_channel", "cond_channels", "resblock_dilation_sizes"
        )
        if len(rates) != len(kernels):
            raise ConfigError(
                f"upsample_rates is {format_value(rates)} and upsample_kernel_sizes is {format_value(kernels)}; they "
                "should have the same length. Kernels of twice the rates are usual."
            )
        for rate, kernel in zip(rates, kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                nearest = max(kernel, rate) + (max(kernel, rate) - rate) % 2
                raise ConfigError(
                    f"upsample_kernel_sizes contains {kernel} for the rate {rate}; kernel - rate should be even and "
                    "not negative, so that the output length is a multiple of the rate. Use "
                    f"{' or '.join(map(str, sorted({2 * rate, nearest})))}."
                )
        if self.upsample_initial_channel % 2 ** len(rates):
            raise ConfigError(
                f"upsample_initial_channel is {self.upsample_initial_channel}; it should be a multiple of "
                f"{2 ** len(rates)}, because each of the {len(rates)} upsamplings halves it."
            )

    def _check_resblocks(self) -> None:
        blocks = [self.resblock_kernel_sizes, *self.resblock_dilation_sizes]
        if max(map(len, blocks)) > _MOST_BLOCKS:
            raise ConfigError(
                f"resblock_kernel_sizes and resblock_dilation_sizes have up to {max(map(len, blocks))} numbers; "
                f"they should have at most {_MOST_BLOCKS}."
            )
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ConfigError(
                f"resblock_dilation_sizes is {format_value(self.resblock_dilation_sizes)}; it should have one tuple "
                f"of dilations for each of the {len(self.resblock_kernel_sizes)} resblock_kernel_sizes."
            )
        if any(kernel % 2 == 0 for kernel in self.resblock_kernel_sizes):
            raise ConfigError(
                f"resblock_kernel_sizes is {format_value(self.resblock_kernel_sizes)}; it should contain odd numbers "
                "only, so that the blocks keep the length."
            )

    @property
    def hop_length(self) -> int:
        """Number of samples per mel frame."""
        return math.prod(self.upsample_rates)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """The numbers of mel frames before and after a frame that influence its samples."""
        first, last = -3, self.hop_length - 1 + 3
        reach = max(
            self._reach(*block) for block in zip(self.resblock_kernel_sizes, self.resblock_dilation_sizes, strict=True)
        )
        for rate, kernel in zip(reversed(self.upsample_rates), reversed(self.upsample_kernel_sizes), strict=True):
            first, last, padding = first - reach, last + reach, (kernel - rate) // 2
            first, last = -((kernel - 1 - padding - first) // rate), (last + padding) // rate
        return 3 - first, last + 3

    def _reach(self, kernel: int, dilations: tuple[int, ...]) -> int:
        dilated = sum((kernel - 1) * dilation // 2 for dilation in dilations)
        return dilated + (len(dilations) * (kernel - 1) // 2 if self.resblock == "1" else 0)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the multi-period and multi-scale discriminators (arXiv 2010.05646, section 2.3; sizes of the release).

    `width` scales the channels of all discriminators: 1 gives the released sizes; small runs can use 1/8. Channels are
    rounded to a multiple of 16, the number of groups.

    **Raises:** `ConfigError` for values of the wrong type or range, or for repeated periods.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods of the period discriminators, in samples, one per discriminator."""
    scales: int = 3
    """Number of scale discriminators, each at half the sample rate of the one before."""
    width: float = 1.0
    """Channels relative to the released sizes."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "periods", "scales")
        check_positive(self, "width", hint="1 is the released size")
        check_at_most(self, _LARGEST, "periods", "width")
        if max(len(self.periods), self.scales) > _MOST_DISCRIMINATORS:
            raise ConfigError(
                f"There are {len(self.periods)} periods and {format_value(self.scales)} scales; there should be at "
                f"most {_MOST_DISCRIMINATORS} of each."
            )
        if len(set(self.periods)) != len(self.periods):
            raise ConfigError(f"periods is {format_value(self.periods)}; it should contain different numbers.")

    def channels(self, released: int) -> int:
        """The scaled number of channels of a layer that has `released` channels in the release."""
        if released == 1:
            return 1
        return max(16, round(released * self.width / 16) * 16)


@dataclass(frozen=True)
class LatentConfig:
    """Input of a generator that was trained as part of a larger model: latents instead of mel spectrograms.

    Latents cannot be computed from a recording. VITS samples them from its flow; XTTS takes them from its
    language model.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    sample_rate: int
    """Sample rate of the audio in Hz."""
    hop_length: int
    """Samples of audio per frame of latents."""
    channels: int
    """Number of channels."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sample_rate", "hop_length", "channels")
        check_at_most(self, _LARGEST, "hop_length", "channels")
        check_at_most(self, _HIGHEST_RATE, "sample_rate")


@dataclass(frozen=True)
class HiFiGANConfig:
    """Configuration of a vocoder: its mel contract, its generator, and the discriminators for training.

    `segment_size` is the number of samples of a training crop. A generator from a larger model reads latents: its
    `mel` is a `LatentConfig`.

    **Raises:** `ConfigError` for values of the wrong type, or if the upsampling rates do not multiply to the hop
    length, the numbers of mel bands differ, or the segment is not a multiple of the hop length.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators for training."""
    mel: MelConfig | LatentConfig = field(default_factory=MelConfig)
    """The mel contract of the generator's input, or the format of its latents."""
    segment_size: int = 8192
    """Number of samples in a training crop."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "segment_size")
        if self.segment_size > _LONGEST_SEGMENT:
            raise ConfigError(
                f"segment_size is {format_value(self.segment_size)}; it should be at most {_LONGEST_SEGMENT} samples."
            )
        hop, generator = self.mel.hop_length, self.generator
        if generator.hop_length != hop:
            raise ConfigError(
                f"The product of upsample_rates {generator.upsample_rates} is {generator.hop_length}; it should be "
                f"mel.hop_length, {hop}. Use other rates, or set hop_length to {generator.hop_length}."
            )
        if isinstance(self.mel, LatentConfig):
            if generator.in_channels != self.mel.channels:
                raise ConfigError(
                    f"generator.in_channels is {generator.in_channels}; it should be mel.channels, "
                    f"{self.mel.channels}. Set both to the size of the latents."
                )
            return
        if generator.in_channels != self.mel.num_mels:
            raise ConfigError(
                f"generator.in_channels is {generator.in_channels}; it should be mel.num_mels, {self.mel.num_mels}. "
                "Set both to the number of bands of your mel spectrograms."
            )
        if self.segment_size % hop or self.segment_size < self.mel.n_fft:
            nearest = max(-(-self.mel.n_fft // hop), round(self.segment_size / hop)) * hop
            raise ConfigError(
                f"segment_size is {self.segment_size}; it should be a multiple of the hop length, {hop}, and at least "
                f"n_fft, {self.mel.n_fft}. The nearest such size is {nearest}."
            )

    @property
    def mel_contract(self) -> MelConfig:
        """`mel` of a generator that reads mel spectrograms.

        **Raises:** `ConfigError` if the generator reads latents.
        """
        if isinstance(self.mel, LatentConfig):
            raise ConfigError(
                f"This generator reads latents with {self.mel.channels} channels, which cannot be computed from "
                "recordings. Use a configuration whose mel is a MelConfig, such as a preset."
            )
        return self.mel


_V2 = GeneratorConfig(upsample_initial_channel=128)
_V3 = GeneratorConfig(
    resblock="2",
    upsample_rates=(8, 8, 4),
    upsample_kernel_sizes=(16, 16, 8),
    upsample_initial_channel=256,
    resblock_kernel_sizes=(3, 5, 7),
    resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
)
# At twice the sample rate, twice the hop keeps the frame duration of the released models.
_FIVE_STAGES = GeneratorConfig(
    in_channels=128,
    upsample_rates=(8, 8, 2, 2, 2),
    upsample_kernel_sizes=(16, 16, 4, 4, 4),
    upsample_initial_channel=512,
)
_FULL_BAND = MelConfig(num_mels=128, n_fft=2048, win_length=2048, hop_length=512, fmax=None)

_TINY = HiFiGANConfig(
    # Half the convolutions of V3: in a few minutes, more steps teach more than deeper residual blocks.
    generator=dataclasses.replace(_V3, upsample_initial_channel=128, resblock_dilation_sizes=((1,), (2,), (3,))),
    discriminators=DiscriminatorConfig(periods=(2, 3, 5), scales=1, width=1 / 8),
)

PRESETS: dict[str, HiFiGANConfig] = {
    "v1": HiFiGANConfig(),
    "v2": HiFiGANConfig(generator=_V2),
    "v3": HiFiGANConfig(generator=_V3),
    "v1_16k": HiFiGANConfig(mel=MelConfig(sample_rate=16000)),
    "v1_24k": HiFiGANConfig(
        generator=GeneratorConfig(in_channels=100), mel=MelConfig(sample_rate=24000, num_mels=100, fmax=None)
    ),
    "v1_44k": HiFiGANConfig(
        generator=_FIVE_STAGES, mel=dataclasses.replace(_FULL_BAND, sample_rate=44100), segment_size=16384
    ),
    "v1_48k": HiFiGANConfig(
        generator=_FIVE_STAGES, mel=dataclasses.replace(_FULL_BAND, sample_rate=48000), segment_size=16384
    ),
    "tiny": _TINY,
}
"""The released sizes (`v1`, `v2`, `v3`, all at 22.05 kHz), V1 at 16, 24, 44.1 and 48 kHz, and `tiny`: V3 at half the
width and depth with a few narrow discriminators, for training on a CPU. The release's code cannot load `tiny`, because
it builds two convolutions per residual block."""


def preset(name: str) -> HiFiGANConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
