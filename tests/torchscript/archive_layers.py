"""The layers of `torch.nn` and the front ends that speech models are built of, each with inputs, by theme."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

AUDIO, PICTURE, ROWS = (2, 4, 12), (2, 4, 9, 8), (2, 5, 8)
TRACED, SCRIPTED, BOTH = "t", "s", "ts"

Entry = tuple[Any, tuple[Any, ...], str]
"""A module, the shapes of its inputs (or the inputs), and whether it is traced, scripted or both."""


class Calls(nn.Module):
    """A function as a module that can be traced."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def _old(norm: Callable[..., nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return norm(layer)


class Recurrent(nn.Module):
    """A recurrent layer inside another module, which gives the layer's methods their names in archives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class PackedRecurrent(nn.Module):
    """A recurrent layer over sequences of several lengths."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = self.layer(packed)
        return pad_packed_sequence(y, batch_first=True)[0]


class PaddedInput(nn.Module):
    """A transformer layer whose keys are masked where a sequence is padded, and a causal one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor, padded: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x, src_key_padding_mask=padded), self.layer(x, src_mask=later)


class MelSpectrogram(nn.Module):
    """A mel spectrogram written like torchaudio's: any axes in front, magnitudes to a power, a filterbank."""

    def __init__(self, n_fft: int = 16, hop: int = 4, mels: int = 5, power: float = 2.0, normalized: bool = False):
        super().__init__()
        self.n_fft, self.hop, self.power, self.normalized = n_fft, hop, power, normalized
        self.register_buffer("window", torch.hann_window(n_fft))
        self.register_buffer("fb", torch.rand(n_fft // 2 + 1, mels))

    def forward(self, waveform: Tensor) -> Tensor:
        shape = waveform.size()
        x = waveform.reshape(-1, shape[-1])
        spectrum = torch.stft(
            x, self.n_fft, self.hop, self.n_fft, self.window, center=True, pad_mode="reflect", normalized=False,
            onesided=True, return_complex=True,
        )  # fmt: skip
        spectrum = spectrum.reshape(shape[:-1] + spectrum.shape[-2:])
        if self.normalized:
            spectrum = spectrum / self.window.pow(2.0).sum().sqrt()
        magnitude = spectrum.abs() if self.power == 1.0 else spectrum.abs().pow(self.power)
        return torch.matmul(magnitude.transpose(-1, -2), self.fb).transpose(-1, -2)


class AmplitudeToDecibel(nn.Module):
    """Decibels of powers, not more than some below the loudest of each example."""

    def __init__(self, top: float | None = 80.0) -> None:
        super().__init__()
        self.multiplier, self.floor, self.offset, self.top = 10.0, 1e-10, math.log10(max(1e-10, 1.0)), top

    def forward(self, x: Tensor) -> Tensor:
        y = self.multiplier * torch.log10(torch.clamp(x, min=self.floor)) - self.multiplier * self.offset
        if self.top is not None:
            shape = y.size()
            channels = shape[-3] if y.dim() > 2 else 1
            y = y.reshape(-1, channels, shape[-2], shape[-1])
            y = torch.max(y, (y.amax(dim=(-3, -2, -1)) - self.top).view(-1, 1, 1, 1))
            y = y.reshape(shape)
        return y


class Cepstrum(nn.Module):
    """MFCC: a cosine transform of mel decibels, or of logarithms."""

    def __init__(self, logarithm: bool = False) -> None:
        super().__init__()
        self.mel, self.decibel, self.logarithm = MelSpectrogram(), AmplitudeToDecibel(), logarithm
        places, orders = torch.arange(5.0), torch.arange(3.0).unsqueeze(1)
        self.register_buffer("dct", torch.cos(math.pi / 5 * (places + 0.5) * orders).t() * math.sqrt(2 / 5))

    def forward(self, waveform: Tensor) -> Tensor:
        mel = self.mel(waveform)
        mel = torch.log(mel + 1e-6) if self.logarithm else self.decibel(mel)
        return torch.matmul(mel.transpose(-1, -2), self.dct).transpose(-1, -2)


class RealSpectrogram(nn.Module):
    """A spectrogram as it was written before complex tensors; samples back from it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.stft(x, 16, 4, 16, self.window, return_complex=True)
        parts = torch.view_as_real(spectrum)
        magnitude = torch.sqrt(parts.pow(2).sum(-1) + 1e-9)
        phase = torch.atan2(parts[..., 1], parts[..., 0])
        made = torch.polar(magnitude, phase)
        also = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
        return magnitude, torch.istft(made + also, 16, 4, 16, self.window)


class Masks(nn.Module):
    """Masks of lengths and causal masks, sinusoidal positions, durations spread over frames."""

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps = torch.arange(x.size(1), device=x.device)
        mask = (steps.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(-1).to(x.dtype)
        causal = torch.triu(torch.full((x.size(1), x.size(1)), float("-inf")), diagonal=1)
        also = torch.ones(x.size(1), x.size(1), dtype=torch.bool).tril()
        rates = torch.exp(torch.arange(0, x.size(2), 2).float() * (-math.log(10000.0) / x.size(2)))
        angles = steps.float().unsqueeze(1) * rates
        table = torch.zeros(x.size(1), x.size(2))
        table[:, 0::2] = torch.sin(angles)
        table[:, 1::2] = torch.cos(angles)
        scores = torch.matmul(x, x.transpose(-2, -1)) + causal
        scores = scores.masked_fill(also == 0, -1e4)
        return (x + table) * mask, torch.softmax(scores, -1), torch.cumsum(mask, 1)


CONVOLUTIONS: list[Entry] = [
    (nn.Conv1d(4, 6, 3, 2, 1), (AUDIO,), BOTH),
    (nn.Conv1d(4, 6, 3, padding="same", dilation=2, groups=2), (AUDIO,), BOTH),
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect", bias=False), (AUDIO,), BOTH),
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="replicate"), (AUDIO,), TRACED),
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), (AUDIO,), TRACED),
    (nn.Conv2d(4, 6, 3, (2, 1), 1), (PICTURE,), BOTH),
    (nn.Conv2d(4, 6, 3, padding="same"), (PICTURE,), BOTH),
    (nn.ConvTranspose1d(4, 6, 4, 2, 1), (AUDIO,), BOTH),
    (nn.ConvTranspose2d(4, 6, 4, 2, 1), (PICTURE,), BOTH),
    (nn.Linear(8, 3), (ROWS,), BOTH),
    (nn.Embedding(7, 3, padding_idx=0), (torch.tensor([[1, 5, 0]]),), BOTH),
]
NORMS: list[Entry] = [
    (nn.BatchNorm1d(4), (AUDIO,), BOTH),
    (nn.BatchNorm2d(4), (PICTURE,), BOTH),
    (nn.InstanceNorm1d(4), (AUDIO,), BOTH),
    (nn.InstanceNorm1d(4, affine=True, track_running_stats=True), (AUDIO,), BOTH),
    (nn.InstanceNorm2d(4, affine=True), (PICTURE,), BOTH),
    (nn.LayerNorm(8), (ROWS,), BOTH),
    (nn.GroupNorm(2, 4), (AUDIO,), BOTH),
    (nn.RMSNorm(8), (ROWS,), BOTH),
    (Calls(functional.normalize), (ROWS,), TRACED),
    (_old(nn.utils.weight_norm, nn.Conv1d(4, 6, 3)), (AUDIO,), TRACED),
    (_old(nn.utils.weight_norm, nn.ConvTranspose1d(4, 6, 4, 2)), (AUDIO,), TRACED),
    (parametrizations.weight_norm(nn.Conv1d(4, 6, 3)), (AUDIO,), TRACED),
    (parametrizations.weight_norm(nn.Linear(8, 3)), (ROWS,), TRACED),
    (Calls(lambda v, g: v * (g / torch.norm_except_dim(v, 2, 0))), ((6, 4, 3), (6, 1, 1)), TRACED),
    (_old(nn.utils.spectral_norm, nn.Conv1d(4, 6, 3)), (AUDIO,), TRACED),
    (parametrizations.spectral_norm(nn.Conv1d(4, 6, 3)), (AUDIO,), TRACED),
]
ACTIVATIONS: list[Entry] = [
    (layer, (AUDIO,), BOTH)
    for layer in (
        nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.1, inplace=True), nn.PReLU(4),
        nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.SiLU(inplace=True), nn.Mish(),
        nn.Softplus(), nn.Softsign(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(), nn.Hardswish(), nn.Hardsigmoid(),
        nn.LogSigmoid(), nn.GLU(1), nn.Softmax(-1), nn.LogSoftmax(-1), nn.Tanhshrink(), nn.Threshold(0.1, 0.2),
        nn.Hardshrink(), nn.Softshrink(),
    )
]  # fmt: skip
POOLING: list[Entry] = [
    (nn.AvgPool1d(2), (AUDIO,), BOTH),
    (nn.AvgPool1d(4, 2, 2), (AUDIO,), BOTH),
    (nn.AvgPool2d(2), (PICTURE,), BOTH),
    (nn.MaxPool1d(2), (AUDIO,), BOTH),
    (nn.MaxPool2d((2, 1)), (PICTURE,), BOTH),
    (nn.AdaptiveAvgPool1d(3), (AUDIO,), BOTH),
    (nn.AdaptiveAvgPool2d(1), (PICTURE,), BOTH),
    (nn.AdaptiveMaxPool1d(1), (AUDIO,), BOTH),
    (nn.ConstantPad1d((1, 2), 0.5), (AUDIO,), BOTH),
    (nn.ZeroPad1d((1, 2)), (AUDIO,), BOTH),
    (nn.ReflectionPad1d((3, 2)), (AUDIO,), BOTH),
    (nn.ReflectionPad2d(1), (PICTURE,), BOTH),
    (nn.ReplicationPad1d((3, 2)), (AUDIO,), BOTH),
    (nn.CircularPad1d((3, 2)), (AUDIO,), TRACED),
    (nn.Upsample(scale_factor=2.0), (AUDIO,), BOTH),
    (nn.Upsample(scale_factor=2.0, mode="linear"), (AUDIO,), BOTH),
    (nn.Upsample(scale_factor=2.0), (PICTURE,), BOTH),
    (nn.Upsample(scale_factor=2.0, mode="bilinear"), (PICTURE,), TRACED),
    (Calls(lambda x: functional.interpolate(x, size=7, mode="nearest-exact")), (AUDIO,), TRACED),
    (Calls(lambda x: functional.interpolate(x, scale_factor=0.5, mode="area")), (AUDIO,), TRACED),
    (nn.PixelShuffle(2), (PICTURE,), BOTH),
    (nn.Dropout(0.5), (AUDIO,), BOTH),
    (nn.Dropout1d(0.5), (AUDIO,), BOTH),
    (nn.Dropout(0.5, inplace=True), (AUDIO,), BOTH),
    (nn.AlphaDropout(0.5), (AUDIO,), TRACED),
    (nn.Flatten(), (AUDIO,), BOTH),
    (nn.Unflatten(1, (2, 2)), (AUDIO,), TRACED),
    (nn.Identity(), (AUDIO,), BOTH),
    (nn.CosineSimilarity(), ((3, 4), (3, 4)), BOTH),
]
RECURRENT: list[Entry] = [
    (Recurrent(nn.LSTM(8, 3, 2, batch_first=True, bidirectional=True)), (ROWS,), BOTH),
    (Recurrent(nn.LSTM(8, 3)), (ROWS,), BOTH),
    (Recurrent(nn.LSTM(8, 4, proj_size=2)), (ROWS,), TRACED),
    (Recurrent(nn.GRU(8, 3, 2, batch_first=True, bidirectional=True)), (ROWS,), BOTH),
    (Recurrent(nn.RNN(8, 3)), (ROWS,), TRACED),
    (nn.LSTMCell(8, 3), ((2, 8),), BOTH),
    (nn.GRUCell(8, 3), ((2, 8),), BOTH),
    (PackedRecurrent(nn.LSTM(8, 3, batch_first=True)), (ROWS, torch.tensor([3, 5])), BOTH),
    (PackedRecurrent(nn.GRU(8, 3, batch_first=True)), (ROWS, torch.tensor([3, 5])), TRACED),
]
ATTENTION: list[Entry] = [
    (nn.MultiheadAttention(8, 2, batch_first=True), (ROWS, ROWS, ROWS), BOTH),
    (nn.MultiheadAttention(8, 2), (ROWS, ROWS, ROWS), TRACED),
    (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (ROWS,), BOTH),
    (nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, activation="gelu"), (ROWS,), TRACED),
    (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2), (ROWS,), TRACED),
    (PaddedInput(), (ROWS, torch.arange(5) >= torch.tensor([[3], [5]]), torch.ones(5, 5).triu(1) > 0), BOTH),
    (nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), (ROWS, ROWS), TRACED),
    (Calls(functional.scaled_dot_product_attention), (ROWS, ROWS, ROWS), TRACED),
    (Calls(lambda q, k: torch.einsum("btc,bsc->bts", q, k)), (ROWS, ROWS), TRACED),
    (Masks(), (ROWS, torch.tensor([3, 5])), BOTH),
]
FRONT_ENDS: list[Entry] = [
    (MelSpectrogram(), ((2, 64),), BOTH),
    (MelSpectrogram(power=1.0, normalized=True), ((2, 64),), BOTH),
    (AmplitudeToDecibel(), (AUDIO,), BOTH),
    (AmplitudeToDecibel(None), (AUDIO,), BOTH),
    (Cepstrum(), ((2, 64),), BOTH),
    (Cepstrum(True), ((2, 64),), BOTH),
    (RealSpectrogram(), ((2, 64),), BOTH),
]
