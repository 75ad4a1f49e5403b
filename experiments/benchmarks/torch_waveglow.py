"""WaveGlow in torch: the reference of the benchmarks and of the tests.

Written from the paper (arXiv 1811.00002) and checked against numbers of the released implementation
(github.com/NVIDIA/waveglow). Tensors of a state dict carry the names of the released checkpoints, so one set of arrays
serves both libraries.
"""

import math
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from experiments.benchmarks.torch_hifigan import weight_norm


class Latents(NamedTuple):
    """The result of `WaveGlow.forward`."""

    z: Float[Tensor, "batch group positions"]
    log_scales: list[Tensor]
    """The logarithm of the scale of each flow `(batch, channels / 2, positions)`."""
    log_determinants: list[Tensor]
    """`log det W` of each flow, times the positions of the whole batch."""


class Invertible1x1Conv(nn.Module):
    """A matrix for the channels of every position, with its inverse for synthesis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        if torch.det(rotation) < 0:
            rotation[:, 0] = -rotation[:, 0]
        self.conv.weight.data = rotation[..., None].contiguous()

    def forward(self, x: Float[Tensor, "batch channels positions"]) -> Float[Tensor, "batch channels positions"]:
        return self.conv(x)

    def log_determinant(self, x: Float[Tensor, "batch channels positions"]) -> Float[Tensor, ""]:
        return x.shape[0] * x.shape[2] * torch.logdet(self.conv.weight[..., 0])

    def reverse(self, x: Float[Tensor, "batch channels positions"]) -> Float[Tensor, "batch channels positions"]:
        # Computed once, as in the release.
        if not hasattr(self, "W_inverse"):
            self.W_inverse = self.conv.weight.detach()[..., 0].float().inverse()[..., None]
        return nn.functional.conv1d(x, self.W_inverse)


class WN(nn.Module):
    """The network of an affine coupling."""

    def __init__(self, inputs: int, condition: int, channels: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.channels = channels
        self.in_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels, kernel, dilation=2**i, padding=(kernel - 1) * 2**i // 2))
            for i in range(layers)
        )
        self.res_skip_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels if i < layers - 1 else channels, 1)) for i in range(layers)
        )
        self.start = weight_norm(nn.Conv1d(inputs, channels, 1))
        self.end = nn.Conv1d(channels, 2 * inputs, 1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(cast(Tensor, self.end.bias))
        self.cond_layer = weight_norm(nn.Conv1d(condition, 2 * channels * layers, 1))

    def forward(
        self, x: Float[Tensor, "batch inputs positions"], condition: Float[Tensor, "batch condition positions"]
    ) -> Float[Tensor, "batch outputs positions"]:
        n, x, conditions = self.channels, self.start(x), self.cond_layer(condition)
        skips = torch.zeros_like(x)
        for i, (conv, res_skip) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            gate = conv(x) + conditions[:, 2 * n * i : 2 * n * (i + 1)]
            out = res_skip(torch.tanh(gate[:, :n]) * torch.sigmoid(gate[:, n:]))
            if i < len(self.in_layers) - 1:
                x, out = x + out[:, :n], out[:, n:]
            skips = skips + out
        return self.end(skips)


class WaveGlow(nn.Module):
    """Audio to latents (`forward`) and latents to audio (`infer`), conditioned on a mel spectrogram."""

    def __init__(
        self,
        *,
        mels: int = 80,
        flows: int = 12,
        group: int = 8,
        early_every: int = 4,
        early_size: int = 2,
        layers: int = 8,
        channels: int = 256,
        kernel_size: int = 3,
        upsample_kernel: int = 1024,
        hop_length: int = 256,
    ) -> None:
        super().__init__()
        self.group, self.early_size, self.hop_length = group, early_size, hop_length
        self.early = range(early_every, flows, early_every)
        self.upsample = nn.ConvTranspose1d(mels, mels, upsample_kernel, hop_length)
        widths = [group - k // early_every * early_size for k in range(flows)]
        self.WN = nn.ModuleList(WN(width // 2, mels * group, channels, layers, kernel_size) for width in widths)
        self.convinv = nn.ModuleList(Invertible1x1Conv(width) for width in widths)
        self.last = widths[-1]

    def forward(self, mel: Float[Tensor, "batch mels frames"], audio: Float[Tensor, "batch samples"]) -> Latents:
        condition = self._condition(mel, audio.shape[1])
        x = audio.unflatten(1, (-1, self.group)).transpose(1, 2)
        z, log_scales, log_determinants = [], [], []
        for k, (wn, convinv) in enumerate(zip(self.WN, self.convinv, strict=True)):
            if k in self.early:
                z.append(x[:, : self.early_size])
                x = x[:, self.early_size :]
            log_determinants.append(cast(Invertible1x1Conv, convinv).log_determinant(x))
            first, second = convinv(x).chunk(2, 1)
            shift, log_scale = wn(first, condition).chunk(2, 1)
            x = torch.cat([first, second * torch.exp(log_scale) + shift], 1)
            log_scales.append(log_scale)
        return Latents(torch.cat([*z, x], 1), log_scales, log_determinants)

    def infer(
        self, mel: Float[Tensor, "batch mels frames"], noise: Float[Tensor, "batch group positions"]
    ) -> Float[Tensor, "batch samples"]:
        """`noise` has the channels of `Latents.z`."""
        condition = self._condition(mel, mel.shape[2] * self.hop_length)
        early, x = noise[:, : -self.last], noise[:, -self.last :]
        for k in reversed(range(len(self.WN))):
            first, second = x.chunk(2, 1)
            shift, log_scale = self.WN[k](first, condition).chunk(2, 1)
            x = torch.cat([first, (second - shift) / torch.exp(log_scale)], 1)
            x = cast(Invertible1x1Conv, self.convinv[k]).reverse(x)
            if k in self.early:
                x = torch.cat([early[:, -self.early_size :], x], 1)
                early = early[:, : -self.early_size]
        return x.transpose(1, 2).flatten(1)

    def _condition(
        self, mel: Float[Tensor, "batch mels frames"], samples: int
    ) -> Float[Tensor, "batch mels_times_group positions"]:
        grouped = self.upsample(mel)[..., :samples].unflatten(2, (-1, self.group))
        return grouped.transpose(2, 3).flatten(1, 2)


def loss(latents: Latents, sigma: float = 1.0) -> Float[Tensor, ""]:
    """The training loss of the release: the negative log-likelihood per sample, without a constant."""
    squares = (latents.z * latents.z).sum() / (2 * sigma**2)
    scales = sum(scale.sum() for scale in latents.log_scales)
    return (squares - scales - sum(latents.log_determinants)) / math.prod(latents.z.shape)
