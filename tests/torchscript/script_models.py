"""Speech networks in plain torch for tracing and scripting, like those in released archives."""

import itertools
import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxvoice.dsp.mel import mel_filterbank
from jaxvoice.dsp.mel_config import MelConfig
from tests.torchscript.script_agreement import values


def weight_norm(layer: nn.Module) -> nn.Module:
    """The norm that keeps `weight_g` and `weight_v`; a trace passes the weight to the layer as an argument."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


class DownBlock(nn.Module):
    """Half the length: two convolutions with a pooling between, beside a pooled shortcut."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(0.1)
        self.first_conv = weight_norm(nn.Conv1d(width, width, 3, padding=1))
        self.second_conv = weight_norm(nn.Conv1d(width, out, 1))
        self.conv_skip = weight_norm(nn.Conv1d(width, out, 1)) if out != width else None

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.avg_pool1d(x if self.conv_skip is None else self.conv_skip(x), 2)
        h = functional.avg_pool1d(self.first_conv(self.activation(x)), 2)
        return skip + self.second_conv(self.activation(h))


class SpeakerEncoder(nn.Module):
    """Mel spectrogram to the mean and log variance of a speaker embedding."""

    def __init__(self, mels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.pre_conv = nn.Conv1d(mels, widths[0], 3)
        self.convs = nn.ModuleList(DownBlock(a, b) for a, b in itertools.pairwise(widths))
        self.mean_conv = weight_norm(nn.Conv1d(widths[-1], 4, 1))
        self.std_conv = weight_norm(nn.Conv1d(widths[-1], 4, 1))
        self.pooling_layer = nn.AdaptiveAvgPool1d(1)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pre_conv(mel)
        for block in self.convs:
            x = block(x)
        x = self.pooling_layer(x)
        return self.mean_conv(x), self.std_conv(x)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.activation, self.dropout = nn.SiLU(), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class RelativeAttention(nn.Module):
    """Attention with relative positions (Transformer-XL), the shift done by padding and reshaping."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.linear_q, self.linear_k, self.linear_v = (nn.Linear(width, width) for _ in range(3))
        self.linear_out, self.linear_pos = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.randn(heads, self.size) * 0.3)
        self.pos_bias_v = nn.Parameter(torch.randn(heads, self.size) * 0.3)

    def rel_shift(self, x: Tensor) -> Tensor:
        batch, heads, length, positions = x.size()
        x = functional.pad(x, [1, 0]).view(batch, heads, -1, length)
        return x[:, :, 1:].view(batch, heads, length, positions)

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        batch = x.size(0)
        q = self.linear_q(x).view(batch, -1, self.heads, self.size)
        k = self.linear_k(x).view(batch, -1, self.heads, self.size).transpose(1, 2)
        v = self.linear_v(x).view(batch, -1, self.heads, self.size).transpose(1, 2)
        p = self.linear_pos(positions).view(positions.size(0), -1, self.heads, self.size).transpose(1, 2)
        content = torch.matmul((q + self.pos_bias_u).transpose(1, 2), k.transpose(-2, -1))
        place = self.rel_shift(torch.matmul((q + self.pos_bias_v).transpose(1, 2), p.transpose(-2, -1)))
        scores = (content + place[:, :, :, : content.size(-1)]) / math.sqrt(self.size)
        scores = scores.masked_fill(mask.unsqueeze(1), -10000.0)
        weights = torch.softmax(scores, dim=-1).masked_fill(mask.unsqueeze(1), 0.0)
        y = torch.matmul(weights, v).transpose(1, 2).reshape(batch, -1, self.heads * self.size)
        return self.linear_out(y)


class ConvModule(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.batch_norm, self.activation = nn.BatchNorm1d(width), nn.SiLU()
        self.pointwise_conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        x = functional.glu(self.pointwise_conv1(x.transpose(1, 2)), dim=1)
        x = x.masked_fill(padded.unsqueeze(1), 0.0)
        return self.pointwise_conv2(self.activation(self.batch_norm(self.depthwise_conv(x)))).transpose(1, 2)


class ConformerLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_feed_forward1, self.feed_forward1 = nn.LayerNorm(width), FeedForward(width)
        self.norm_self_att, self.self_attn = nn.LayerNorm(width), RelativeAttention(width, heads)
        self.norm_conv, self.conv = nn.LayerNorm(width), ConvModule(width)
        self.norm_feed_forward2, self.feed_forward2 = nn.LayerNorm(width), FeedForward(width)
        self.norm_out, self.dropout = nn.LayerNorm(width), nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, padded: Tensor) -> Tensor:
        x = x + self.dropout(self.feed_forward1(self.norm_feed_forward1(x))) * 0.5
        x = x + self.dropout(self.self_attn(self.norm_self_att(x), mask, positions))
        x = x + self.dropout(self.conv(self.norm_conv(x), padded))
        x = x + self.dropout(self.feed_forward2(self.norm_feed_forward2(x))) * 0.5
        return self.norm_out(x)


class ConformerEncoder(nn.Module):
    """Log mel features to frames at a quarter of their rate: striding convolutions, relative positions, layers."""

    def __init__(self, features: int, width: int, heads: int, layers: int, longest: int = 50) -> None:
        super().__init__()
        self.width, self.scale = width, math.sqrt(width)
        self.pre_encode = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()
        )
        self.out = nn.Linear(width * math.ceil(math.ceil(features / 2) / 2), width)
        self.layers = nn.ModuleList(ConformerLayer(width, heads) for _ in range(layers))
        table = torch.zeros(2 * longest - 1, width)
        place = torch.arange(longest - 1, -longest, -1.0).unsqueeze(1)
        step = torch.exp(torch.arange(0, width, 2.0) * -(math.log(10000.0) / width))
        table[:, 0::2], table[:, 1::2] = torch.sin(place * step), torch.cos(place * step)
        self.register_buffer("pe", table.unsqueeze(0), persistent=False)
        self.register_buffer("seq_range", torch.arange(longest), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.pre_encode(features.transpose(1, 2).unsqueeze(1))
        batch, channels, length, bins = x.size()
        x = self.out(x.transpose(1, 2).reshape(batch, length, channels * bins)) * self.scale
        middle = self.pe.size(1) // 2 + 1
        positions = self.pe[:, middle - length : middle + length - 1]
        lengths = torch.full((batch,), length, dtype=torch.int64, device=x.device)
        valid = self.seq_range[:length].expand(batch, -1) < lengths.unsqueeze(-1)
        both = valid.unsqueeze(1).repeat([1, length, 1])
        mask = ~torch.logical_and(both, both.transpose(1, 2))
        for layer in self.layers:
            x = layer(x, mask, positions, ~valid)
        return x.transpose(1, 2)


class ConditionalResBlock(nn.Module):
    """Pairs of convolutions; a projection of the speaker enters between the two of each pair."""

    def __init__(self, width: int, kernel: int, speaker: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in (1, 3, 5)
        )
        self.convs2 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2)) for _ in range(3)
        )
        self.speaker_convs = nn.ModuleList(weight_norm(nn.Conv1d(speaker, width, 1)) for _ in range(3))

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        for first, second, project in zip(self.convs1, self.convs2, self.speaker_convs, strict=True):
            h = functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1)
            x = x + second(functional.leaky_relu(h + project(speaker), 0.1))
        return x


class ConditionalGenerator(nn.Module):
    """HiFi-GAN whose residual blocks are conditioned on the speaker."""

    def __init__(self, features: int, speaker: int, width: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_pre = weight_norm(nn.Conv1d(features, width, 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate in rates:
            self.ups.append(weight_norm(nn.ConvTranspose1d(width, width // 2, 2 * rate, rate, padding=rate // 2)))
            width //= 2
            self.resblocks.extend(ConditionalResBlock(width, kernel, speaker) for kernel in (3, 7))
        self.conv_post = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        x = self.conv_pre(x)
        for stage, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            x = sum(self.resblocks[2 * stage + index](x, speaker) for index in range(2)) / 2
        return torch.tanh(self.conv_post(functional.leaky_relu(x)))


class MelFrontEnd(nn.Module):
    """Pre-emphasis, power spectrum, slaney filterbank, logarithm, mean and deviation of each feature removed."""

    def __init__(self) -> None:
        super().__init__()
        config = MelConfig(sample_rate=16000, n_fft=512, hop_length=160, win_length=400, num_mels=20, fmax=8000.0)
        self.register_buffer("fb", torch.from_numpy(np.array(mel_filterbank(config), np.float32)).unsqueeze(0))
        self.register_buffer("window", torch.hann_window(400, periodic=False))

    def forward(self, audio: Tensor) -> Tensor:
        audio = torch.cat((audio[:, 0].unsqueeze(1), audio[:, 1:] - 0.97 * audio[:, :-1]), dim=1)
        spectrum = torch.stft(audio, 512, 160, 400, window=self.window, center=True, return_complex=True)
        power = torch.view_as_real(spectrum).pow(2).sum(-1).sqrt().pow(2.0)
        mel = torch.log(torch.matmul(self.fb, power) + 2**-24)
        mean = mel.mean(dim=2, keepdim=True)
        return (mel - mean) / (mel.std(dim=2, keepdim=True) + 1e-5)


class Recurrent(nn.Module):
    """Recurrent layers and cells of every kind, in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 4, 2, bidirectional=True)
        self.rnn, self.relu = nn.RNN(8, 3, batch_first=True), nn.RNN(3, 3, nonlinearity="relu", batch_first=True)
        self.projected = nn.LSTM(3, 4, proj_size=2, batch_first=True)
        self.gru_cell, self.lstm_cell = nn.GRUCell(2, 2), nn.LSTMCell(2, 2)
        self.rnn_cell, self.relu_cell = nn.RNNCell(2, 2), nn.RNNCell(2, 2, nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, (hidden, cell) = self.lstm(x)
        y, last = self.gru(y.transpose(0, 1))
        y, _ = self.rnn(y.transpose(0, 1))
        y, _ = self.relu(y)
        y, _ = self.projected(y)
        step = self.gru_cell(y[:, -1])
        step, other = self.lstm_cell(step, (step, step))
        return y, hidden + cell, last, self.relu_cell(self.rnn_cell(step, other))


class NormedWeight(nn.Module):
    """Convolutions under the norms whose weights a trace computes from other tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.old = weight_norm(nn.ConvTranspose1d(4, 3, 4, 2, padding=1))
        self.new = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 5, 3, padding="same"))
        self.spectral = nn.utils.spectral_norm(nn.Conv1d(5, 5, 1))
        self.spectral_new = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.spectral_new(self.spectral(self.new(self.old(x))).transpose(1, 2))


def _randomised(module: nn.Module) -> nn.Module:
    """Set statistics and norms to values other than their initial ones, so that errors are detected."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if name.endswith(("running_mean", "weight_g", "bias")):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
            elif name.endswith("running_var"):
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    return module.eval()


def make(name: str) -> tuple[nn.Module, list[Tensor]]:
    """A small network by name, and inputs for it."""
    torch.manual_seed(0)
    if name == "speaker encoder":
        return _randomised(SpeakerEncoder(10, (8, 12, 12))), values(1, (2, 10, 24))
    if name == "conformer":
        return _randomised(ConformerEncoder(16, width=8, heads=2, layers=2)), values(1, (2, 16, 21))
    if name == "conditional hifigan":
        return _randomised(ConditionalGenerator(6, 5, 16, (4, 2))), values(1, (2, 6, 7), (2, 5, 1))
    if name == "mel front end":
        return MelFrontEnd(), [values(1, (2, 4000))[0] * 0.1]
    if name == "norms":
        return _randomised(NormedWeight()), values(1, (2, 4, 6))
    assert name == "recurrent"
    return _randomised(Recurrent()), values(1, (2, 9, 6))
