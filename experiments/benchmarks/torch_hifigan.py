"""HiFi-GAN in torch: the reference of the benchmarks and of the tests.

Written from the paper (arXiv 2010.05646) and checked against numbers of the released implementation
(github.com/jik876/hifi-gan) in `tests/reference`. Tensors of a state dict carry the names of the released checkpoints,
so one set of arrays serves both libraries.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

PERIODS = (2, 3, 5, 7, 11)

PRESETS: dict[str, dict[str, Any]] = {
    "v1": {},
    "v2": {"upsample_initial_channel": 128},
    "v3": {
        "resblock": "2",
        "upsample_rates": (8, 8, 4),
        "upsample_kernel_sizes": (16, 16, 8),
        "upsample_initial_channel": 256,
        "resblock_kernel_sizes": (3, 5, 7),
        "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
    },
}
"""Arguments of `Generator` for the three published sizes (paper, section 4.1 and appendix A.1)."""


def weight_norm(layer: nn.Module) -> nn.Module:
    """`layer` with its weight split into `weight_g` and `weight_v`, under the names of the released checkpoints."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r".*torch\.nn\.utils\.weight_norm.*deprecated", category=FutureWarning
        )
        return nn.utils.weight_norm(layer)


def fold_weight_norm(model: nn.Module) -> nn.Module:
    """Replace every `weight_g`, `weight_v` pair inside `model` by the weight; returns `model`."""
    for layer in model.modules():
        if hasattr(layer, "weight_g"):
            nn.utils.remove_weight_norm(layer)
    return model


def load_arrays(model: nn.Module, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> nn.Module:
    """Load numpy arrays by their state-dict names, all of them and no others; returns `model`.

    **Raises:** `RuntimeError` (torch's) naming missing, unknown and misshapen tensors.
    """
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return model


def arrays_of(model: nn.Module) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Copies of the tensors of a state dict as numpy arrays."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def _same(channels: int, kernel: int, dilation: int) -> nn.Module:
    return weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2))


class ResBlock1(nn.Module):
    """Pairs of a dilated and a plain convolution with a shortcut around each pair (`resblock` "1" of the configs)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(functional.leaky_relu(dilated(functional.leaky_relu(x, 0.1)), 0.1))
        return x


class ResBlock2(nn.Module):
    """Dilated convolutions, at most two, with a shortcut around each (`resblock` "2" of the configs)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations[:2])

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        for conv in self.convs:
            x = x + conv(functional.leaky_relu(x, 0.1))
        return x


class Generator(nn.Module):
    """Mel spectrogram to waveform; paper section 2.2. The conditioning of coqui's and XTTS's generators is optional.

    Arguments carry the names of the released `config.json`. `cond_channels` adds a projection of a conditioning vector
    after `conv_pre`, which is called `cond_name`, and `cond_in_each_up_layer` one more after each upsampling.
    """

    def __init__(
        self,
        *,
        in_channels: int = 80,
        resblock: str = "1",
        upsample_rates: Sequence[int] = (8, 8, 2, 2),
        upsample_kernel_sizes: Sequence[int] = (16, 16, 4, 4),
        upsample_initial_channel: int = 512,
        resblock_kernel_sizes: Sequence[int] = (3, 7, 11),
        resblock_dilation_sizes: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        cond_channels: int = 0,
        cond_in_each_up_layer: bool = False,
        cond_name: str = "cond_layer",
        conv_pre_weight_norm: bool = True,
        conv_post_weight_norm: bool = True,
        conv_post_bias: bool = True,
    ) -> None:
        super().__init__()
        block = {"1": ResBlock1, "2": ResBlock2}[resblock]
        widths = [upsample_initial_channel >> stage for stage in range(len(upsample_rates) + 1)]
        self.blocks_per_stage = len(resblock_kernel_sizes)
        conv_pre = nn.Conv1d(in_channels, widths[0], 7, padding=3)
        self.conv_pre = weight_norm(conv_pre) if conv_pre_weight_norm else conv_pre
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))
            for wide, narrow, kernel, rate in zip(
                widths, widths[1:], upsample_kernel_sizes, upsample_rates, strict=False
            )
        )
        self.resblocks = nn.ModuleList(
            block(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True)
        )
        conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=conv_post_bias)
        self.conv_post = weight_norm(conv_post) if conv_post_weight_norm else conv_post
        self.cond_name = cond_name
        if cond_channels:
            setattr(self, cond_name, nn.Conv1d(cond_channels, widths[0], 1))
        if cond_channels and cond_in_each_up_layer:
            self.conds = nn.ModuleList(nn.Conv1d(cond_channels, width, 1) for width in widths[1:])

    def forward(
        self, mel: Float[Tensor, "batch mels frames"], condition: Float[Tensor, "batch condition 1"] | None = None
    ) -> Float[Tensor, "batch 1 samples"]:
        x = self.conv_pre(mel)
        if condition is not None:
            x = x + getattr(self, self.cond_name)(condition)
        for stage, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            if condition is not None and hasattr(self, "conds"):
                x = x + self.conds[stage](condition)
            first, *others = self.resblocks[stage * self.blocks_per_stage : (stage + 1) * self.blocks_per_stage]
            mixed = first(x)
            for block in others:
                mixed = mixed + block(x)
            x = mixed / self.blocks_per_stage
        # The slope of this layer is torch's default, unlike that of all others, as in the released models.
        return torch.tanh(self.conv_post(functional.leaky_relu(x, 0.01)))


DiscriminatorOutput = tuple[Float[Tensor, "batch positions"], list[Tensor]]
"""Scores of one discriminator, and its feature maps from the first layer to the scores."""


def _widths(released: Sequence[int], width: float) -> list[int]:
    """Numbers of channels from the waveform on: `width` times the released ones, in multiples of the 16 groups."""
    return [released[0], *(max(16, round(channels * width / 16) * 16) for channels in released[1:])]


class PeriodDiscriminator(nn.Module):
    """Discriminates the waveform folded into rows of `period` samples; paper section 2.3."""

    def __init__(self, period: int, *, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        widths, strides = _widths((1, 32, 128, 512, 1024, 1024), width), (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(narrow, wide, (5, 1), (stride, 1), padding=(2, 0)))
            for narrow, wide, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.conv_post = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        audio = functional.pad(audio, (0, -audio.shape[-1] % self.period), "reflect")
        x = audio.unflatten(-1, (-1, self.period))
        return _discriminate(self.convs, self.conv_post, x)


class ScaleDiscriminator(nn.Module):
    """Strided grouped convolutions over the waveform; paper section 2.3."""

    def __init__(self, *, spectral: bool, width: float = 1.0) -> None:
        super().__init__()
        norm = nn.utils.spectral_norm if spectral else weight_norm
        widths = _widths((1, 128, 128, 256, 512, 1024, 1024, 1024), width)
        kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(narrow, wide, kernel, stride, groups=group, padding=kernel // 2))
            for narrow, wide, kernel, stride, group in zip(widths, widths[1:], kernels, strides, groups, strict=False)
        )
        self.conv_post = norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        return _discriminate(self.convs, self.conv_post, audio)


def _discriminate(convs: nn.ModuleList, last: nn.Module, x: Tensor) -> DiscriminatorOutput:
    features = []
    for conv in convs:
        x = functional.leaky_relu(conv(x), 0.1)
        features.append(x)
    scores = last(x)
    return scores.flatten(1), [*features, scores]


class MultiPeriodDiscriminator(nn.Module):
    """The five period discriminators; `width` scales their channels."""

    def __init__(self, periods: Sequence[int] = PERIODS, *, width: float = 1.0) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, width=width) for period in periods)

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> list[DiscriminatorOutput]:
        return [discriminator(audio) for discriminator in self.discriminators]


class MultiScaleDiscriminator(nn.Module):
    """Three scale discriminators, each at half the rate of the previous one; the first has spectral norm.

    `width` scales their channels.
    """

    def __init__(self, scales: int = 3, *, width: float = 1.0) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(spectral=scale == 0, width=width) for scale in range(scales)
        )

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> list[DiscriminatorOutput]:
        outputs = []
        for scale, discriminator in enumerate(self.discriminators):
            if scale:
                audio = functional.avg_pool1d(audio, 4, 2, padding=2)
            outputs.append(cast(DiscriminatorOutput, discriminator(audio)))
        return outputs
