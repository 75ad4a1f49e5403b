"""HiFi-VC in torch: the reference of the benchmarks and of the tests.

Written from the paper (arXiv 2203.16937). The networks have the names of the released archive where these are known.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks import torch_conformer
from experiments.benchmarks.torch_hifigan import fold_weight_norm, weight_norm
from jaxvoice.models.hifivc.config import DecoderConfig, HiFiVCConfig, PitchEncoderConfig, SpeakerVAEConfig


class DownBlockSpeaker(nn.Module):
    """Half the frames: two convolutions with a pooling between, beside a pooled shortcut."""

    def __init__(self, width: int, out: int, config: SpeakerVAEConfig) -> None:
        super().__init__()
        self.conv_skip = weight_norm(nn.Conv1d(width, out, 1, bias=config.skip_bias)) if out != width else None
        self.first_conv = weight_norm(nn.Conv1d(width, width, 3, padding=1))
        self.second_conv = weight_norm(nn.Conv1d(width, out, 1))
        self.activation = nn.LeakyReLU(config.slope)

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.avg_pool1d(x if self.conv_skip is None else self.conv_skip(x), 2)
        h = functional.avg_pool1d(self.first_conv(self.activation(x)), 2)
        return skip + self.second_conv(self.activation(h))


class SpeakerEncoder(nn.Module):
    """Reference mel spectrogram to the mean and the output of `std_conv`, both `(batch, size, 1)`."""

    def __init__(self, config: SpeakerVAEConfig) -> None:
        super().__init__()
        self.pre_conv = nn.Conv1d(config.in_channels, config.widths[0], 3, padding=config.pre_conv_padding)
        self.convs = nn.ModuleList(DownBlockSpeaker(a, b, config) for a, b in itertools.pairwise(config.widths))
        self.mean_conv = weight_norm(nn.Conv1d(config.widths[-1], config.size, 1))
        self.std_conv = weight_norm(nn.Conv1d(config.widths[-1], config.size, 1))
        self.pooling_layer = nn.AdaptiveAvgPool1d(1)
        self.head_slope, self.pool_last = config.head_slope, config.pooling == "after_heads"

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pre_conv(mel)
        for block in self.convs:
            x = block(x)
        x = x if self.pool_last else self.pooling_layer(x)
        x = x if self.head_slope is None else functional.leaky_relu(x, self.head_slope)
        mean, deviation = self.mean_conv(x), self.std_conv(x)
        return (self.pooling_layer(mean), self.pooling_layer(deviation)) if self.pool_last else (mean, deviation)


class PitchEncoder(nn.Sequential):
    """Log F0 and voicing flag `(batch, 2, subframes)` to a code at the rate of the content features."""

    def __init__(self, config: PitchEncoderConfig) -> None:
        layers: list[nn.Module] = []
        for index, (stride, kernel) in enumerate(zip((1, *config.strides), (1, *config.kernel_sizes), strict=True)):
            inputs = config.channels if index else 2
            layers += [
                nn.Conv1d(inputs, config.channels, kernel, stride, (kernel - stride) // 2, bias=index > 0),
                nn.LeakyReLU(config.slope),
                nn.InstanceNorm1d(config.channels) if config.instance_norm else nn.Identity(),
            ]
        super().__init__(*layers)


class ConditionedResBlock(nn.Module):
    """Pairs of convolutions; a projection of the speaker is added between the two of each pair."""

    def __init__(self, width: int, kernel: int, dilations: Sequence[int], speaker: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in dilations
        )
        self.convs2 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2)) for _ in dilations
        )
        self.speaker_convs = nn.ModuleList(weight_norm(nn.Conv1d(speaker, width, 1)) for _ in dilations if speaker)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        for index, (first, second) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            h = functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1)
            if len(self.speaker_convs):
                h = functional.leaky_relu(h + self.speaker_convs[index](speaker), 0.1)
            x = x + second(h)
        return x


class HarmonicSource(nn.Module):
    """Log F0, voicing flag and phase `(batch, 3, subframes)` to an input of every stage: the sum of all harmonics."""

    def __init__(self, config: DecoderConfig, subframes: int, sample_rate: int) -> None:
        super().__init__()
        self.rate, self.subframe, self.convs = sample_rate, config.hop_length // subframes, nn.ModuleList()
        for stage in range(len(config.upsample_rates)):
            stride = math.prod(config.upsample_rates[stage + 1 :])
            kernel = 1 if stride == 1 else 2 * stride + stride % 2
            width = config.upsample_initial_channel >> (stage + 1)
            self.convs.append(nn.Conv1d(1, width, kernel, stride, (kernel - stride) // 2))

    def forward(self, pitch: Tensor) -> list[Tensor]:
        log_f0, voiced, phase = pitch.repeat_interleave(self.subframe, dim=-1).unbind(1)
        f0 = log_f0.exp()
        time = torch.arange(f0.shape[-1]) % self.subframe / self.rate
        angle = math.pi * ((phase + f0 * time) % 1)
        count = torch.floor(self.rate / 2 / f0)
        quotient = torch.sin((2 * count + 1) * angle) / torch.sin(angle).clamp(min=1e-3)
        total = torch.where(torch.sin(angle) < 1e-3, count, (quotient - 1) / 2) * torch.sqrt(2 / count) * voiced
        return [conv(total[:, None]) for conv in self.convs]


class Decoder(nn.Module):
    """Content features `(batch, channels, frames)`, pitch code and speaker `(batch, size, 1)` to a waveform.

    `signals` are the outputs of `source`, if there is one.
    """

    def __init__(
        self, config: DecoderConfig, content: int, pitch: int, speaker: int, *, subframes: int = 4, rate: int = 24000
    ) -> None:
        super().__init__()
        self.config = config
        self.source = HarmonicSource(config, subframes, rate) if config.harmonic_source else None
        if config.input_norm:
            self.input_norm = nn.LayerNorm(content)
        kernel = config.pre_kernel_size
        self.conv_pre = weight_norm(nn.Conv1d(content, config.pre_channels, kernel, padding=kernel // 2))
        width = config.pre_channels + (pitch if config.fusion == "concat" else 0)
        self.ups, self.resblocks, self.stage_conds = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inside = speaker if config.conditioning == "resblocks" else 0
        for stage, (rate, size) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
            if config.conditioning == "stage_inputs":
                self.stage_conds.append(nn.Linear(speaker, width))
            out = config.upsample_initial_channel >> (stage + 1)
            self.ups.append(weight_norm(nn.ConvTranspose1d(width, out, size, rate, padding=(size - rate) // 2)))
            width = out
            self.resblocks.extend(
                ConditionedResBlock(width, k, dilations, inside)
                for k, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
            )
        self.conv_post = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, content: Tensor, pitch: Tensor | None, speaker: Tensor, signals: Sequence[Tensor] = ()) -> Tensor:
        config, kernels = self.config, len(self.config.resblock_kernel_sizes)
        if config.input_norm:
            content = self.input_norm(content.transpose(1, 2)).transpose(1, 2)
        x = self.conv_pre(content)
        if pitch is not None:
            x = x + pitch if config.fusion == "sum" else torch.cat([x, pitch], dim=1)
        for stage, up in enumerate(self.ups):
            if len(self.stage_conds):
                x = x + self.stage_conds[stage](speaker[..., 0]).unsqueeze(-1)
            x = up(functional.leaky_relu(x, 0.1))
            x = x + signals[stage] if signals else x
            first, *others = self.resblocks[kernels * stage : kernels * (stage + 1)]
            mixed = first(x, speaker)
            for block in others:
                mixed = mixed + block(x, speaker)
            x = mixed / kernels
        return torch.tanh(self.conv_post(functional.leaky_relu(x, config.final_slope)))


class HiFiVC(nn.Module):
    """All networks, under the names of jaxvoice."""

    def __init__(self, config: HiFiVCConfig) -> None:
        super().__init__()
        self.content_encoder = torch_conformer.Encoder(config.content)
        self.speaker_encoder = SpeakerEncoder(config.speaker)
        self.pitch_encoder = None if config.pitch_encoder is None else PitchEncoder(config.pitch_encoder)
        self.decoder = Decoder(
            config.decoder,
            config.content.dim,
            config.pitch_channels,
            config.speaker.size,
            subframes=0 if config.pitch_encoder is None else config.pitch_encoder.downsampling,
            rate=config.mel.sample_rate,
        )

    def decode(
        self,
        content: Float[Tensor, "batch channels frames"],
        pitch: Float[Tensor, "batch rows subframes"] | None,
        speaker: Float[Tensor, "batch size 1"],
    ) -> Float[Tensor, "batch samples"]:
        """The waveform of content features, F0 and speaker vectors."""
        if self.pitch_encoder is None or pitch is None:
            return self.decoder(content, None, speaker)[:, 0]
        signals = () if self.decoder.source is None else self.decoder.source(pitch)
        return self.decoder(content, self.pitch_encoder(pitch[:, :2]), speaker, signals)[:, 0]

    def forward(
        self,
        features: Float[Tensor, "frames mels"],
        pitch: Float[Tensor, "1 rows subframes"] | None,
        speaker: Float[Tensor, "1 size 1"],
    ) -> Float[Tensor, " samples"]:
        """The waveform of one recording."""
        return self.decode(self.content_encoder(features).T[None], pitch, speaker)[0]


def fold_norms(networks: HiFiVC) -> HiFiVC:
    """Fold weight norms and batch norms for inference; returns `networks`."""
    torch_conformer.fold_batch_norm(networks.content_encoder)
    fold_weight_norm(networks)
    return networks


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """The weights of `module` under the names of jaxvoice."""
    named = {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
    if isinstance(module, HiFiVC):
        parts = {part: arrays(child) for part, child in module.named_children()}
        return {f"{part}.{name}": array for part, found in parts.items() for name, array in found.items()}
    if isinstance(module, PitchEncoder):
        return {f"convs.{int(name.split('.')[0]) // 3}.{name.split('.')[1]}": array for name, array in named.items()}
    return {name.replace(".speaker_convs.", ".conds."): array for name, array in named.items()}


def randomised(module: nn.Module) -> nn.Module:
    """`module` with scales of weight norms and biases other than their initial ones, so that errors are detected."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if name.endswith(("weight_g", "bias")):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return module.eval()
