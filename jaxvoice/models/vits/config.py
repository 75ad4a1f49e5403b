"""Configuration of VITS and YourTTS: sizes of the networks, symbols, mel contract, and presets."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxvoice.config import (
    check_at_most,
    check_field,
    check_not_negative,
    check_positive,
    check_types,
    find_preset,
    format_value,
)
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig
from jaxvoice.text.symbol_table import ENGLISH_CHARACTERS, VITS_SYMBOLS, YOURTTS_SYMBOLS, SymbolTable

# Far above every network that was ever trained; larger values, as in damaged or hostile files, are rejected.
_MOST_LAYERS, _WIDEST, _LONGEST_KERNEL, _MOST_ROWS = 64, 2**14, 255, 2**20


def _check_sizes(config: object, layers: tuple[str, ...], *widths: str) -> None:
    check_types(config)
    check_positive(config, *layers, *widths)
    check_at_most(config, _MOST_LAYERS, *layers)
    check_at_most(config, _WIDEST, *widths)


def _check_odd_kernel(config: "WaveNetConfig | DurationConfig") -> None:
    check_positive(config, "kernel_size")
    check_at_most(config, _LONGEST_KERNEL, "kernel_size")
    check_field(config, "kernel_size", config.kernel_size % 2 == 1, "be odd, so that the length is kept")


def _check_dropout(config: "TextEncoderConfig | DurationConfig") -> None:
    check_field(config, "dropout", 0 <= config.dropout < 1, "be in [0, 1)", "0 means no dropout")


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes of the text encoder, a transformer with windowed relative positions.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    layers: int = 6
    """Number of transformer layers; YourTTS has 10."""
    heads: int = 2
    """Number of attention heads."""
    feed_forward: int = 768
    """Channels between the two convolutions of each layer."""
    kernel_size: int = 3
    """Kernel size of these convolutions, in tokens."""
    window: int = 4
    """Largest distance of tokens, to either side, that has a learned relative position."""
    dropout: float = 0.1
    """Dropout rate."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "heads", "feed_forward", "kernel_size", "window")
        check_at_most(self, _LONGEST_KERNEL, "kernel_size", "window")
        _check_dropout(self)


@dataclass(frozen=True)
class WaveNetConfig:
    """Sizes of a stack of gated convolutions.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel size.
    """

    layers: int
    """Number of convolutions."""
    kernel_size: int = 5
    """Kernel size in frames; odd."""
    dilation_rate: int = 1
    """Layer `i` has the dilation `dilation_rate ** i`."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("layers",), "kernel_size", "dilation_rate")
        _check_odd_kernel(self)
        farthest = self.dilation_rate ** (self.layers - 1)
        check_field(self, "dilation_rate", farthest <= 2**20, "give dilations of at most 2**20")

    @property
    def reach(self) -> int:
        """Number of frames on each side that a frame of the output depends on."""
        return self.kernel_size // 2 * sum(self.dilation_rate**i for i in range(self.layers))


ORIGINAL_NORMS: dict[str, Any] = {"norm_eps": 1e-5, "norm_gain": 1.0}
"""The fields of `DurationConfig` in jaywalnut310/vits; the defaults are those of coqui."""


@dataclass(frozen=True)
class DurationConfig:
    """Sizes of the duration predictor.

    **Raises:** `ConfigError` for values of the wrong type or range, or an even kernel size.
    """

    kind: Literal["stochastic", "deterministic"] = "stochastic"
    """A normalising flow of durations (VITS, section 2.2.2), or convolutions that predict the logarithm of each."""
    channels: int = 192
    """Hidden channels: in the releases 192 if stochastic, 256 if deterministic."""
    kernel_size: int = 3
    """Kernel size in tokens; odd."""
    flows: int = 4
    """Number of spline couplings of the stochastic predictor, the first of which is not used in synthesis."""
    bins: int = 10
    """Number of segments of each spline of the stochastic predictor."""
    dropout: float = 0.5
    """Dropout rate."""
    norm_eps: float = 1e-4
    """Constant in the norms of the deterministic predictor: 1e-4 in coqui's, 1e-5 in the original's. The stochastic one
    has 1e-5."""
    norm_gain: float = 0.1
    """Initial gain of the norms of the deterministic predictor: 0.1 in coqui's, 1 in the original's. That of the
    stochastic one is 1."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("flows",), "channels", "kernel_size", "bins")
        _check_odd_kernel(self)
        _check_dropout(self)
        check_positive(self, "norm_eps", "norm_gain")
        check_field(self, "flows", self.flows > 1, "be at least 2, since synthesis leaves out one of the flows")
        check_field(self, "bins", self.bins * 1e-3 < 0.5, "be below 500, so that each segment has a least width")


@dataclass(frozen=True)
class SamplingConfig:
    """The defaults of synthesis.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    noise_scale: float = 0.667
    """Standard deviation of the latents relative to that of the prior, at most 100; 0 gives its mean."""
    duration_noise_scale: float = 0.8
    """Standard deviation of the noise of the stochastic duration predictor, at most 100."""
    length_scale: float = 1.0
    """Factor of the durations; 2 is half as fast."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "noise_scale", "duration_noise_scale")
        check_at_most(self, 100, "noise_scale", "duration_noise_scale")
        check_positive(self, "length_scale")
        scale = self.length_scale
        check_field(self, "length_scale", 1e-6 <= scale <= 1e6, "be from 1e-6 to 1e6", "2 is half as fast")


def decoder_config(
    channels: int = 192, speaker_channels: int = 0, *, resblock: Literal["1", "2"] = "1"
) -> GeneratorConfig:
    """The HiFi-GAN decoder of the releases, which reads latents with `channels` and a speaker vector.

    Its first and last convolutions have no weight norm, and the last has no bias. Of the three dilations in coqui's
    configurations, residual blocks of kind 2 use the first two.
    """
    dilations = (1, 3, 5) if resblock == "1" else (1, 3)
    return GeneratorConfig(
        in_channels=channels,
        resblock=resblock,
        resblock_dilation_sizes=(dilations,) * 3,
        cond_channels=speaker_channels,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
    )


MEL = MelConfig(fmax=None, magnitude_floor=1e-6)
"""The spectrograms of VITS at 22.05 kHz: 513 linear bins for the posterior encoder, 80 mel bands for the loss."""


@dataclass(frozen=True)
class VITSConfig:
    """Configuration of VITS (arXiv 2106.06103) and YourTTS (arXiv 2112.02418).

    The defaults of the networks and the mel contract are those of the releases for LJSpeech, and those of `sampling`
    are the original's; coqui's `sampling.duration_noise_scale` is 1.

    **Raises:** `ConfigError` for values of the wrong type or range, or if the parts do not fit together.
    """

    symbols: SymbolTable = VITS_SYMBOLS
    """The symbols that the text encoder reads."""
    channels: int = 192
    """Channels of the latents and of all encoders; even."""
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """The text encoder."""
    posterior: WaveNetConfig = field(default_factory=lambda: WaveNetConfig(layers=16))
    """The posterior encoder."""
    flow: WaveNetConfig = field(default_factory=lambda: WaveNetConfig(layers=4))
    """The network of each coupling of the flow."""
    flows: int = 4
    """Number of couplings of the flow."""
    durations: DurationConfig = field(default_factory=DurationConfig)
    """The duration predictor."""
    decoder: GeneratorConfig = field(default_factory=decoder_config)
    """The decoder of the latents, a HiFi-GAN generator."""
    speaker_channels: int = 0
    """Size of the speaker vector: 256 in VITS, 512 in YourTTS; 0 for one voice without a vector."""
    num_speakers: int = 0
    """Rows of the table of speaker vectors; 0 if vectors are inputs, as in YourTTS."""
    languages: tuple[str, ...] = ()
    """Names of the languages in the order of their ids; empty for a model without language embeddings."""
    language_channels: int = 4
    """Size of the language embeddings."""
    mel: MelConfig = MEL
    """The mel contract of the loss. Its sizes are also those of the linear spectrogram of the posterior encoder."""
    segment_frames: int = 32
    """Frames of latents that are decoded in a training step."""
    discriminators: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(scales=1))
    """The discriminators: one of the waveform, and one for each period."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """The defaults of synthesis."""

    def __post_init__(self) -> None:
        _check_sizes(self, ("flows",), "channels", "language_channels", "segment_frames")
        check_not_negative(self, "speaker_channels", "num_speakers")
        check_at_most(self, _WIDEST, "speaker_channels")
        check_at_most(self, _MOST_ROWS, "num_speakers")
        check_field(self, "channels", self.channels % 2 == 0, "be even, because each coupling halves the channels")
        self._check_conditions()
        self._check_decoder()

    def _check_conditions(self) -> None:
        if self.num_speakers and not self.speaker_channels:
            raise ConfigError(
                f"num_speakers is {self.num_speakers} and speaker_channels is 0; set speaker_channels to the size of "
                "the speaker vectors, such as 256."
            )
        if len(set(self.languages)) != len(self.languages) or "" in self.languages:
            raise ConfigError(
                f"languages is {format_value(self.languages)}; it should contain different names, none of them empty."
            )
        if self.text_channels % self.text.heads:
            raise ConfigError(
                f"The text encoder has {self.text_channels} channels and text.heads is {self.text.heads}; the channels "
                "should be a multiple of the heads. Change channels, language_channels or text.heads."
            )
        if self.discriminators.scales != 1:
            raise ConfigError(
                f"discriminators.scales is {self.discriminators.scales}; it should be 1, because VITS has one "
                "discriminator of the waveform."
            )

    def _check_decoder(self) -> None:
        expected = {
            "in_channels": ("channels", self.channels),
            "cond_channels": ("speaker_channels", self.speaker_channels),
            "hop_length": ("mel.hop_length", self.mel.hop_length),
        }
        for name, (ours, value) in expected.items():
            found = getattr(self.decoder, name)
            if found != value:
                advice = "Change the upsample_rates" if name == "hop_length" else f"Set decoder.{name} to {value}"
                raise ConfigError(f"decoder.{name} is {found}; it should be {ours}, {value}. {advice}.")
        if self.decoder.cond_in_each_stage:
            raise ConfigError("decoder.cond_in_each_stage is True; it should be False in VITS.")
        if self.mel.center:
            raise ConfigError("mel.center is True; it should be False, so that a frame has hop_length samples.")

    @property
    def text_channels(self) -> int:
        """Channels of the text encoder: those of the latents, and of the language embedding if there is one."""
        return self.channels + (self.language_channels if self.languages else 0)

    @property
    def reads_vectors(self) -> bool:
        """Whether the model reads vectors of a speaker encoder, and has no table of speakers."""
        return self.speaker_channels > 0 and not self.num_speakers

    @property
    def spectrogram_bins(self) -> int:
        """Number of bins of the linear spectrogram."""
        return self.mel.n_fft // 2 + 1

    @property
    def segment_samples(self) -> int:
        """Samples of audio that are decoded in a training step."""
        return self.segment_frames * self.mel.hop_length


_CHANNELS = (1, 16, 64, 256, 1024, 1024, 1024)
_KERNELS = ((15, 1), (41, 4), (41, 4), (41, 4), (41, 4), (5, 1))
"""Taps and strides of the convolutions of the waveform; those with 41 taps have groups of four input channels."""


def waveform_layers(config: DiscriminatorConfig) -> list[tuple[int, int, int, int, int]]:
    """Input channels, output channels, taps, stride and groups of the convolutions of a `WaveformDiscriminator`."""
    channels = [config.channels(width) for width in _CHANNELS]
    layers = []
    for inputs, outputs, (taps, stride) in zip(channels, channels[1:], _KERNELS, strict=False):
        groups = math.gcd(inputs // 4, outputs) if stride > 1 else 1
        layers.append((inputs, outputs, taps, stride, groups))
    return layers


_LJSPEECH = VITSConfig(sampling=SamplingConfig(duration_noise_scale=1.0))
_VCTK = dataclasses.replace(_LJSPEECH, speaker_channels=256, num_speakers=109, decoder=decoder_config(192, 256))
_ORIGINAL: dict[str, Any] = {
    "durations": DurationConfig(**ORIGINAL_NORMS),
    "sampling": SamplingConfig(duration_noise_scale=0.8),
}
_YOURTTS = VITSConfig(
    symbols=YOURTTS_SYMBOLS,
    text=TextEncoderConfig(layers=10),
    decoder=decoder_config(192, 512, resblock="2"),
    speaker_channels=512,
    languages=("en", "fr-fr", "pt-br"),
    mel=dataclasses.replace(MEL, sample_rate=16000),
    sampling=SamplingConfig(noise_scale=0.333, duration_noise_scale=0.333),
)
# Learns to speak in minutes on a CPU. Dropout and stochastic durations would take a third of each step. A symbol has
# about two frames, and its duration is rounded up; `length_scale` compensates for this.
_TINY = VITSConfig(
    symbols=ENGLISH_CHARACTERS,
    channels=64,
    text=TextEncoderConfig(layers=3, feed_forward=256, dropout=0.0),
    posterior=WaveNetConfig(layers=4),
    flow=WaveNetConfig(layers=2),
    durations=DurationConfig(kind="deterministic", channels=128, dropout=0.1),
    decoder=dataclasses.replace(
        decoder_config(64),
        resblock="2",
        upsample_rates=(8, 8, 4),
        upsample_kernel_sizes=(16, 16, 8),
        upsample_initial_channel=128,
        resblock_kernel_sizes=(3, 5, 7),
        resblock_dilation_sizes=((1,), (2,), (3,)),
    ),
    mel=dataclasses.replace(MEL, sample_rate=16000),
    discriminators=DiscriminatorConfig(periods=(2, 3, 5), scales=1, width=1 / 8),
    sampling=SamplingConfig(length_scale=0.8),
)

PRESETS: dict[str, VITSConfig] = {
    "ljspeech": _LJSPEECH,
    "vctk": _VCTK,
    "yourtts": _YOURTTS,
    "yourtts_resblock1": dataclasses.replace(_YOURTTS, decoder=decoder_config(192, 512)),
    "original_ljspeech": dataclasses.replace(_LJSPEECH, **_ORIGINAL),
    "original_vctk": dataclasses.replace(_VCTK, **_ORIGINAL),
    "tiny": _TINY,
}
"""The sizes of coqui's models of LJSpeech, VCTK and of YourTTS, with residual blocks of kind 2 as released, or of kind
1; those of jaywalnut310/vits, which differ in the noise of synthesis and in the norms of the deterministic duration
predictor; and `tiny`, for training on a CPU."""


def preset(name: str) -> VITSConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    return find_preset(PRESETS, name)
