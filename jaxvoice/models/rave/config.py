"""Configurations of RAVE: the networks, the presets of the release, and what the release combines with them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types, format_value
from jaxvoice.errors import ConfigError

_LARGEST, _MOST_BANDS = 2**20, 256
_V2_DILATIONS = ((1, 3, 9), (1, 3, 9), (1, 3, 9), (1, 3))


@dataclass(frozen=True)
class PQMFConfig:
    """The filter bank that divides audio into sub-bands.

    **Raises:** `ConfigError` for values of the wrong type or range, or a number of bands that is not a power of two.
    """

    attenuation: float = 100.0
    """Attenuation of the filters' stop band in dB."""
    num_bands: int = 16
    """Number of sub-bands."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(self, "attenuation", 30 <= self.attenuation <= 300, "be from 30 to 300")
        bands = self.num_bands
        valid = 2 <= bands <= _MOST_BANDS and bands & (bands - 1) == 0
        check_field(self, "num_bands", valid, f"be a power of two from 2 to {_MOST_BANDS}")


@dataclass(frozen=True)
class MelInputConfig:
    """The mel spectrogram that an encoder reads: `log(1 + mel)` with HTK filters from 0 to Nyquist.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    n_fft: int = 2048
    """Length of the Fourier transform and of its window in samples."""
    hop_length: int = 256
    """Distance of the frames in samples."""
    num_mels: int = 128
    """Number of mel bands."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "n_fft", "hop_length", "num_mels")
        check_field(self, "n_fft", self.n_fft % 2 == 0, "be even")
        check_field(self, "hop_length", self.hop_length <= self.n_fft, f"be at most n_fft, {self.n_fft}")


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder: strided convolutions with batch norm (v1), or with residual blocks of dilated convolutions (v2).

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    version: Literal["v1", "v2"] = "v2"
    """Kind of the network."""
    input: Literal["pqmf", "raw", "mel"] = "pqmf"
    """What the encoder reads: sub-bands, the waveform, or a mel spectrogram."""
    capacity: int = 96
    """Channels after the first convolution; each stage doubles them."""
    ratios: tuple[int, ...] = (4, 4, 4, 2)
    """Downsampling factor of each stage."""
    dilations: tuple[tuple[int, ...], ...] = _V2_DILATIONS
    """Dilations of the residual blocks of each stage; empty for v1, which has none."""
    snake: bool = False
    """Whether v2 has Snake activations between its stages, instead of leaky ReLU.

    The residual blocks have leaky ReLU in any case. `snake.gin` of the release also sets their activation, but that
    setting has no effect there.
    """
    adain: bool = False
    """Whether each residual block of v2 has an adaptive instance norm before it."""
    mel: MelInputConfig = field(default_factory=MelInputConfig)
    """The mel spectrogram, with `input="mel"`."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "capacity", "ratios")
        _check_stages(self)


@dataclass(frozen=True)
class NoiseConfig:
    """The branch of the generator that filters noise.

    The network computes amplitudes of frequency bands for each frame of `prod(ratios)` samples of the generator's
    output. In `v2_small` of the release, the 62 taps of the filters are cut to the 8 samples of a frame before they are
    centred, so that almost nothing of them is left, and the branch is practically silent. It is here too.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    ratios: tuple[int, ...] = (2, 2, 2)
    """Downsampling factor of each convolution."""
    bands: int = 5
    """Number of frequency bands, from 0 to Nyquist."""
    hidden_size: int | None = 128
    """Channels between the convolutions; `None` for those of the branch's input, as in v1."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "ratios", "bands", "hidden_size")
        check_field(self, "bands", self.bands >= 2, "be at least 2")

    @property
    def frame_length(self) -> int:
        """Samples for each set of amplitudes."""
        return math.prod(self.ratios)


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator: upsampling with residual blocks; its output is modulated in amplitude, and noise is added.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    version: Literal["v1", "v2"] = "v2"
    """Kind of the network. v1 computes a waveform, a loudness and noise in separate branches."""
    output: Literal["pqmf", "raw"] = "pqmf"
    """What the generator computes: sub-bands, or the waveform."""
    capacity: int = 96
    """Channels after the last upsampling; before the first, there are `2 ** len(ratios)` times as many."""
    ratios: tuple[int, ...] = (4, 4, 4, 2)
    """Upsampling factor of each stage; 1 or even. v2 applies them in reversed order."""
    dilations: tuple[tuple[int, ...], ...] = _V2_DILATIONS
    """Dilations of the residual blocks of each stage of v2, in the order of `ratios`; empty for v1."""
    snake: bool = False
    """Whether v2 has Snake activations between its stages; see `EncoderConfig.snake`."""
    adain: bool = False
    """Whether each residual block of v2 has an adaptive instance norm before it."""
    amplitude_modulation: bool = True
    """Whether v2 computes an amplitude beside each output channel. v1 always computes a loudness."""
    noise: NoiseConfig | None = None
    """The branch with filtered noise; `None` for none. v1 adds noise in the second phase of training only."""
    recurrent_layers: int = 0
    """Layers of a GRU over the latents, before the first convolution of v2; 0 for none."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "capacity", "ratios")
        _check_stages(self)
        even = all(ratio == 1 or ratio % 2 == 0 for ratio in self.ratios)
        check_field(self, "ratios", even, "hold even numbers, or 1")
        check_not_negative(self, "recurrent_layers")
        without = self.version == "v2" or not self.recurrent_layers
        check_field(self, "recurrent_layers", without and self.recurrent_layers <= 16, "be at most 16, and 0 for v1")
        length, step = 1 if self.noise is None else self.noise.frame_length, math.prod(self.ratios)
        check_field(
            self, "noise", step % length == 0, f"have a product of ratios that divides that of the generator, {step}"
        )


@dataclass(frozen=True)
class BottleneckConfig:
    """The latents and how they are regularised.

    `variational`: mean and deviation of a Gaussian, from which latents are drawn. `wasserstein`: the distribution of
    all latents is compared with a Gaussian. `discrete`: residual vector quantisation. `spherical`: vectors of length 1.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    kind: Literal["variational", "wasserstein", "discrete", "spherical"] = "variational"
    """Kind of the bottleneck."""
    latent_size: int = 128
    """Number of latents per frame."""
    noise_channels: int = 0
    """Channels of Gaussian noise that are appended to the latents of `wasserstein` and `discrete`."""
    num_quantizers: int = 16
    """Number of codebooks of `discrete`, each of which quantises what the ones before left."""
    codebook_size: int = 1024
    """Number of vectors in a codebook."""
    codebook_decay: float = 0.99
    """Decay of the moving averages from which the vectors of the codebooks are computed."""
    dead_code_threshold: float = 2.0
    """A vector that was used less often, in the moving average, is replaced by a random vector of the batch."""
    kmeans_iterations: int = 50
    """Iterations of k-means on the first batch, from which the codebooks start."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "latent_size", "num_quantizers", "codebook_size", "kmeans_iterations")
        check_not_negative(self, "noise_channels", "dead_code_threshold")
        check_field(self, "codebook_decay", 0 <= self.codebook_decay < 1, "be in [0, 1)")
        check_field(self, "latent_size", self.latent_size <= _LARGEST, f"be at most {_LARGEST}")
        fits = not self.noise_channels or self.kind in ("wasserstein", "discrete")
        check_field(self, "noise_channels", fits, f"be 0 with kind={self.kind!r}")

    @property
    def encoder_channels(self) -> int:
        """Output channels of the encoder."""
        return self.latent_size * (2 if self.kind == "variational" else 1)

    @property
    def decoder_channels(self) -> int:
        """Input channels of the generator."""
        return self.latent_size + self.noise_channels


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminators for training.

    `scale`: of the waveform at several sample rates. `period_scale`: also of waveforms folded at several periods.
    `spectral`: of the waveform at several rates, and of its complex spectrograms. `descript`: those of the Descript
    Audio Codec, of folded waveforms and of bands of complex spectrograms.

    **Raises:** `ConfigError` for values of the wrong type or range, or FFT sizes that are not multiples of 4.
    """

    kind: Literal["scale", "period_scale", "spectral", "descript"] = "period_scale"
    """Which discriminators."""
    capacity: int = 96
    """Channels of the first layer of the discriminators of waveforms, except those of `descript`."""
    scales: int = 3
    """Number of sample rates, each half of the one before."""
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods in samples of `period_scale` and `descript`."""
    fft_sizes: tuple[int, ...] = (4096, 2048, 1024, 512, 256)
    """Sizes of the spectrograms of `spectral` and `descript` in samples."""
    spectral_channels: int = 32
    """Channels of the discriminators of spectrograms."""
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    """Channels of the layers of the discriminators of folded waveforms of `descript`."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "capacity", "scales", "periods", "fft_sizes", "spectral_channels", "period_channels")
        check_field(self, "fft_sizes", all(n % 4 == 0 for n in self.fft_sizes), "hold multiples of 4")


@dataclass(frozen=True)
class RaveConfig:
    """Configuration of RAVE (arXiv 2111.05011; acids-ircam/RAVE 2.3.1).

    **Raises:** `ConfigError` for values of the wrong type or range, or if the encoder and the generator have different
    hop lengths.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator, also called decoder."""
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    """The latents."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators for training."""
    pqmf: PQMFConfig = field(default_factory=PQMFConfig)
    """The filter bank. Models without sub-bands use it in training."""
    sample_rate: int = 44100
    """Sample rate of the audio in Hz."""
    n_channels: int = 1
    """Channels of the audio. The release's command line has the default 0, which builds a model that cannot run."""
    padding: Literal["centered", "causal"] = "centered"
    """Where convolutions are padded: on both sides, or on the left only. Transposed convolutions are not affected."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sample_rate", "n_channels")
        encoder = math.prod(self.encoder.ratios) * self.encoder_step
        generator = math.prod(self.generator.ratios) * self.generator_step
        if encoder != generator:
            raise ConfigError(
                f"The hop length of the encoder is {encoder} samples and that of the generator {generator}; they "
                f"should be equal. Change encoder.ratios {self.encoder.ratios} or generator.ratios "
                f"{self.generator.ratios}."
            )

    @property
    def hop_length(self) -> int:
        """Samples per frame of latents."""
        return math.prod(self.encoder.ratios) * self.encoder_step

    @property
    def encoder_step(self) -> int:
        """Samples for each position of the encoder's input."""
        return {"pqmf": self.pqmf.num_bands, "raw": 1, "mel": self.encoder.mel.hop_length}[self.encoder.input]

    @property
    def encoder_inputs(self) -> int:
        """Channels of the encoder's input."""
        of_channel = {"pqmf": self.pqmf.num_bands, "raw": 1, "mel": self.encoder.mel.num_mels}
        return self.n_channels * of_channel[self.encoder.input]

    @property
    def generator_step(self) -> int:
        """Samples for each position of the generator's output."""
        return self.pqmf.num_bands if self.generator.output == "pqmf" else 1

    @property
    def generator_outputs(self) -> int:
        """Channels of the generator's output."""
        return self.n_channels * self.generator_step

    @property
    def latent_rate(self) -> float:
        """Frames of latents per second."""
        return self.sample_rate / self.hop_length


def _check_stages(config: EncoderConfig | GeneratorConfig) -> None:
    check_field(config, "ratios", len(config.ratios) <= 16 and max(config.ratios) <= 4096, "have at most 16 stages")
    check_field(config, "capacity", config.capacity <= _LARGEST, f"be at most {_LARGEST}")
    if config.version == "v1":
        check_field(config, "dilations", not config.dilations, 'be () with version="v1"')
        for name in ("snake", "adain"):
            check_field(config, name, not getattr(config, name), 'be False with version="v1"')
        return
    if len(config.dilations) != len(config.ratios):
        raise ConfigError(
            f"{type(config).__name__}.dilations is {format_value(config.dilations)}; it should have one tuple of "
            f"dilations for each of the {len(config.ratios)} ratios."
        )
    valid = all(0 < d <= _LARGEST for stage in config.dilations for d in stage)
    check_field(config, "dilations", valid, f"hold positive numbers, at most {_LARGEST}")


def _v1(capacity: int, noise: NoiseConfig | None) -> RaveConfig:
    return RaveConfig(
        EncoderConfig("v1", capacity=capacity, dilations=()),
        GeneratorConfig("v1", capacity=capacity, dilations=(), noise=noise),
        discriminators=DiscriminatorConfig("scale", capacity=capacity),
    )


def _v2(capacity: int = 96, **generator: object) -> RaveConfig:
    return RaveConfig(
        EncoderConfig(capacity=capacity),
        GeneratorConfig(capacity=capacity, **generator),  # pyright: ignore[reportArgumentType]
        discriminators=DiscriminatorConfig(capacity=capacity),
    )


def _snake(config: RaveConfig) -> RaveConfig:
    return replace(config, encoder=replace(config.encoder, snake=True), generator=replace(config.generator, snake=True))


def _adain(config: RaveConfig) -> RaveConfig:
    return replace(config, encoder=replace(config.encoder, adain=True), generator=replace(config.generator, adain=True))


def _noise(config: RaveConfig) -> RaveConfig:
    return replace(config, generator=replace(config.generator, noise=NoiseConfig()))


def _causal(config: RaveConfig) -> RaveConfig:
    return replace(config, padding="causal")


def _descript(config: RaveConfig) -> RaveConfig:
    discriminators = replace(config.discriminators, kind="descript", fft_sizes=(2048, 1024, 512))
    return replace(config, discriminators=discriminators)


def _spectral(config: RaveConfig) -> RaveConfig:
    return replace(config, discriminators=replace(config.discriminators, kind="spectral"))


def _wasserstein(config: RaveConfig) -> RaveConfig:
    return replace(config, bottleneck=BottleneckConfig("wasserstein", 16, noise_channels=128))


def _spherical(config: RaveConfig) -> RaveConfig:
    return replace(config, bottleneck=BottleneckConfig("spherical", 16))


def _with_ratios(config: RaveConfig, ratios: tuple[int, ...]) -> RaveConfig:
    encoder, generator = replace(config.encoder, ratios=ratios), replace(config.generator, ratios=ratios)
    return replace(config, encoder=encoder, generator=generator)


def _mel(config: RaveConfig, dilations: tuple[int, ...], recurrent_layers: int) -> RaveConfig:
    encoder = replace(config.encoder, input="mel", ratios=(2, 2, 2), dilations=(dilations,) * 3)
    return replace(config, encoder=encoder, generator=replace(config.generator, recurrent_layers=recurrent_layers))


_DISCRETE = replace(_with_ratios(_v2(), (4, 4, 2, 2)), bottleneck=BottleneckConfig("discrete", noise_channels=128))

PRESETS: MappingProxyType[str, RaveConfig] = MappingProxyType(
    {
        "v1": _v1(64, NoiseConfig((4, 4, 4), hidden_size=None)),
        "v2": _v2(),
        "v2_small": _with_ratios(_v2(48, noise=NoiseConfig(bands=32, hidden_size=64)), (4, 2, 2, 2)),
        "v2_nopqmf": _v2(64, output="raw", ratios=(8, 8, 8, 4)),
        "v2_with_augs": _mel(_v2(), (1, 3, 9), 0),
        "hybrid": _mel(_v2(), (1,), 2),
        "v3": _descript(_snake(_adain(_v2()))),
        "discrete": _DISCRETE,
        "discrete_v3": _descript(_snake(_DISCRETE)),
        "wasserstein": _wasserstein(_v2()),
        "spherical": _spherical(_v2()),
        "onnx": _v1(32, None),
        "raspberry": _v1(16, None),
    }
)
"""The configurations of the release. `v2_nopqmf_small` is missing: the release's code cannot build it."""

ADD_ONS: MappingProxyType[str, Callable[[RaveConfig], RaveConfig]] = MappingProxyType(
    {
        "causal": _causal,
        "noise": _noise,
        "snake": _snake,
        "adain": _adain,
        "descript_discriminator": _descript,
        "spectral_discriminator": _spectral,
        "wasserstein": _wasserstein,
        "spherical": _spherical,
    }
)
"""The configurations of the release that change another one, as functions."""


def preset(name: str, *add_ons: str) -> RaveConfig:
    """The preset `name`, changed by `add_ons` in their order: `preset("v2", "noise", "snake")`.

    **Raises:** `ConfigError` for an unknown name, or an add-on that does not fit the preset.
    """
    if name == "v2_nopqmf_small":
        raise ConfigError(
            "preset is 'v2_nopqmf_small', which the release cannot build either: its code does not accept all "
            "arguments of this configuration. Use v2_nopqmf with a smaller capacity."
        )
    if name not in PRESETS:
        raise ConfigError(f"preset is {format_value(name)}; it should be one of {', '.join(PRESETS)}.")
    config = PRESETS[name]
    for add_on in add_ons:
        if add_on not in ADD_ONS:
            raise ConfigError(f"The add-on is {format_value(add_on)}; it should be one of {', '.join(ADD_ONS)}.")
        config = ADD_ONS[add_on](config)
    return config
