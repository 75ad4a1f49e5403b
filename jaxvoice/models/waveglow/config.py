"""Configuration of WaveGlow: network sizes, mel contract, and presets."""

import dataclasses
from dataclasses import dataclass

from jaxvoice.config import check_positive, check_types, format_value
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig
from jaxvoice.errors import ConfigError

# Far above every network that was ever trained; larger values, as in damaged or hostile files, are rejected.
_LARGEST = {"flows": 64, "group": 1024, "early_size": 1024, "layers": 16, "channels": 2**14, "kernel_size": 255}
_LONGEST_UPSAMPLE_KERNEL = 2**17


@dataclass(frozen=True)
class WaveGlowConfig:
    """Sizes of the network and its mel contract; the defaults are those of `waveglow_256channels`.

    `group` consecutive samples form one position, with one channel for each sample. Every `early_every` flows, the
    first `early_size` channels become latents and leave the flow.

    **Raises:** `ConfigError` for values of the wrong type or range, if `group` does not divide the hop length, if the
    kernel of the upsampling is shorter than the hop, or if a flow would have an odd number of channels or none.

    Source: arXiv 1811.00002; NVIDIA/waveglow `config.json`.
    """

    flows: int = 12
    """Number of flows: invertible convolutions, each with an affine coupling."""
    group: int = 8
    """Samples per position; even."""
    early_every: int = 4
    """Number of flows between early outputs."""
    early_size: int = 2
    """Channels of each early output; even."""
    layers: int = 8
    """Dilated convolutions in the coupling network of each flow; layer `i` has the dilation `2**i` in positions."""
    channels: int = 256
    """Channels of the coupling networks."""
    kernel_size: int = 3
    """Kernel size of the dilated convolutions in positions; odd."""
    upsample_kernel: int = 1024
    """Kernel size in samples of the transposed convolution that upsamples the mel; its stride is the hop length."""
    mel: MelConfig = WAVEGLOW_MEL
    """The mel contract of the condition."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, *_LARGEST, "early_every", "upsample_kernel")
        for name, most in {**_LARGEST, "upsample_kernel": _LONGEST_UPSAMPLE_KERNEL}.items():
            if getattr(self, name) > most:
                raise ConfigError(
                    f"WaveGlowConfig.{name} is {format_value(getattr(self, name))}; it should be at most {most}."
                )
        if self.kernel_size % 2 == 0:
            raise ConfigError(
                f"WaveGlowConfig.kernel_size is {self.kernel_size}; it should be odd, so that the convolutions keep "
                f"the length. Use {self.kernel_size + 1}."
            )
        hop = self.mel.hop_length
        if hop % self.group:
            raise ConfigError(
                f"WaveGlowConfig.group is {self.group}; it should divide the hop length of the mel, {hop}. 8 is usual."
            )
        if self.upsample_kernel < hop:
            raise ConfigError(
                f"WaveGlowConfig.upsample_kernel is {self.upsample_kernel}; it should be at least the hop length of "
                f"the mel, {hop}, so that every sample depends on a frame. Use {4 * hop}."
            )
        self._check_channels()

    def _check_channels(self) -> None:
        if self.group % 2 or (self.early_size % 2 and self.early_outputs):
            raise ConfigError(
                f"WaveGlowConfig.group is {self.group} and early_size is {self.early_size}; both should be even, "
                "because each coupling divides the channels into halves."
            )
        if self.latent_channels[-1] < 2:
            raise ConfigError(
                f"WaveGlowConfig.early_size is {self.early_size}: {len(self.early_outputs)} early outputs of this size "
                f"leave {self.latent_channels[-1]} of {self.group} channels; they should leave at least 2. Reduce "
                "early_size, or increase early_every."
            )

    @property
    def early_outputs(self) -> tuple[int, ...]:
        """The indices of the flows before which channels become latents."""
        return tuple(range(self.early_every, self.flows, self.early_every))

    @property
    def latent_channels(self) -> tuple[int, ...]:
        """The number of channels of each flow."""
        return tuple(self.group - k // self.early_every * self.early_size for k in range(self.flows))

    @property
    def positions_per_frame(self) -> int:
        """Number of positions per mel frame."""
        return self.mel.hop_length // self.group

    @property
    def receptive_field(self) -> tuple[int, int]:
        """The numbers of mel frames before and after a frame that influence its samples in synthesis."""
        positions = self.flows * (self.kernel_size // 2) * (2**self.layers - 1)
        samples, hop = positions * self.group, self.mel.hop_length
        return (samples + self.upsample_kernel - 1) // hop, (samples + hop - 1) // hop


PRESETS: dict[str, WaveGlowConfig] = {
    "256channels": WaveGlowConfig(),
    "512channels": dataclasses.replace(WaveGlowConfig(), channels=512),
    # The condition of each layer is most of the products of a small network, so it has few layers with wide kernels.
    "tiny": WaveGlowConfig(
        flows=6, group=16, early_every=3, early_size=4, layers=3, channels=64, kernel_size=7, upsample_kernel=512
    ),
}
"""The released sizes, 256 channels and 512 as in the paper, and `tiny`, for training on a CPU for ten minutes."""


def preset(name: str) -> WaveGlowConfig:
    """The preset `name`; raises `ConfigError` if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"preset is {format_value(name)}; it should be one of {', '.join(PRESETS)}.")
    return PRESETS[name]
