"""The speaker encoder H/ASP in torch, with the names of coqui's weights, for comparisons with jaxvoice.

The architecture is that of Heo et al. 2020, "Clova baseline system for the VoxCeleb Speaker Recognition Challenge
2020", with coqui's front end, which is computed with gradients here.
"""

from collections.abc import Sequence

import torch
from torch import nn

_LAYERS = (3, 4, 6, 3)


class SELayer(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        hidden = channels // reduction
        self.fc = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` `(batch, channels, mels, frames)` with scaled channels."""
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Block(nn.Module):
    """A residual block, whose first batch norm follows the ReLU."""

    def __init__(self, inputs: int, channels: int, stride: int, reduction: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SELayer(channels, reduction)
        self.downsample = None
        if stride != 1 or inputs != channels:
            shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output of the block."""
        y = self.bn1(torch.relu(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class FrontEnd(nn.Module):
    """Waveforms `(batch, samples)` to mel power spectrograms `(batch, mels, frames)`."""

    def __init__(self, n_fft: int, hop_length: int, win_length: int, mels: int):
        super().__init__()
        emphasis, spectrum = nn.Module(), nn.Module()
        emphasis.register_buffer("filter", torch.zeros(1, 1, 2))
        spectrum.spectrogram, spectrum.mel_scale = nn.Module(), nn.Module()
        spectrum.spectrogram.register_buffer("window", torch.zeros(win_length))
        spectrum.mel_scale.register_buffer("fb", torch.zeros(n_fft // 2 + 1, mels))
        self.add_module("0", emphasis)
        self.add_module("1", spectrum)
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """The mel power spectrogram."""
        emphasis, spectrum = self.get_submodule("0"), self.get_submodule("1")
        padded = nn.functional.pad(audio[:, None], (1, 0), "reflect")
        emphasised = nn.functional.conv1d(padded, emphasis.get_buffer("filter"))[:, 0]
        found = torch.stft(
            emphasised,
            self.n_fft,
            self.hop_length,
            self.win_length,
            spectrum.get_buffer("spectrogram.window"),
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = found.real.square() + found.imag.square()
        return (power.transpose(1, 2) @ spectrum.get_buffer("mel_scale.fb")).transpose(1, 2)


class HASP(nn.Module):
    """Waveforms to embeddings, which are not normalised; all sizes are arguments."""

    def __init__(
        self,
        blocks: Sequence[int] = _LAYERS,
        channels: Sequence[int] = (32, 64, 128, 256),
        *,
        reduction: int = 8,
        attention: int = 128,
        dim: int = 512,
        mels: int = 64,
        n_fft: int = 512,
        hop_length: int = 160,
        win_length: int = 400,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(channels[0])
        inputs = channels[0]
        for group, (count, width) in enumerate(zip(blocks, channels, strict=True)):
            layers = []
            for number in range(count):
                layers.append(Block(inputs, width, 2 if group and not number else 1, reduction))
                inputs = width
            self.add_module(f"layer{group + 1}", nn.Sequential(*layers))
        self.torch_spec = FrontEnd(n_fft, hop_length, win_length, mels)
        features = inputs * -(-mels // 8)
        self.attention = nn.Sequential(
            nn.Conv1d(features, attention, 1),
            nn.ReLU(),
            nn.BatchNorm1d(attention),
            nn.Conv1d(attention, features, 1),
            nn.Softmax(dim=2),
        )
        self.fc = nn.Linear(2 * features, dim)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """The embeddings `(batch, dim)` of waveforms `(batch, samples)`."""
        x = nn.functional.instance_norm(torch.log(self.torch_spec(audio) + 1e-6))[:, None]
        x = self.bn1(torch.relu(self.conv1(x)))
        for group in range(1, 5):
            x = self.get_submodule(f"layer{group}")(x)
        x = x.flatten(1, 2)
        weights = self.attention(x)
        mean = (weights * x).sum(2)
        deviation = ((weights * x.square()).sum(2) - mean.square()).clamp(min=1e-5).sqrt()
        return self.fc(torch.cat([mean, deviation], 1))
