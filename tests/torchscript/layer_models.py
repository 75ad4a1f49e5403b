"""Random layers of torch with inputs, and small models like those in released archives."""

import random
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import weight_norm

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


def random_convolution(rng: random.Random) -> tuple[nn.Module, torch.Tensor]:
    """A convolution of random kind and numbers, with an input."""
    rank, groups = rng.choice([1, 1, 1, 2, 2, 3]), rng.choice([1, 1, 2, 3])
    channels = {"in_channels": groups * rng.randint(1, 3), "out_channels": groups * rng.randint(1, 3)}
    numbers = {"groups": groups, "bias": rng.random() < 0.6}

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randint(low, high) for _ in range(rank))

    if rank < 3 and rng.random() < 0.3:
        stride = each(2, 4)
        output = tuple(rng.randrange(one) for one in stride)
        layer = TRANSPOSED[rank](
            kernel_size=each(3, 6), stride=stride, padding=each(0, 1), output_padding=output, dilation=each(1, 2),
            **channels, **numbers,
        )  # fmt: skip
    else:
        mode = rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
        same = rng.random() < 0.2
        layer = CONVS[rank](
            kernel_size=each(1, 5), stride=1 if same else each(1, 3), padding="same" if same else each(0, 3),
            dilation=each(1, 2), padding_mode=mode, **channels, **numbers,
        )  # fmt: skip
    return layer, torch.randn(1, channels["in_channels"], *(14,) * rank)


def random_other(rng: random.Random) -> tuple[nn.Module, torch.Tensor]:
    """A layer other than a convolution, with an input of shape (2, 6, 12) or integers."""
    kernel = rng.randint(2, 4)
    number = round(rng.uniform(0.01, 0.9), 3)
    eps = rng.choice([1e-3, 1e-5, 1e-6, 1e-12])
    makers: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(12, rng.randint(1, 9), bias=rng.random() < 0.5),
        lambda: nn.Embedding(rng.randint(5, 9), rng.randint(1, 9), padding_idx=rng.choice([None, 0, 3])),
        lambda: nn.LayerNorm((12,), eps=eps, elementwise_affine=rng.random() < 0.5),
        lambda: nn.LayerNorm((6, 12), eps=eps),
        lambda: nn.GroupNorm(rng.choice([1, 2, 3]), 6, eps=eps, affine=rng.random() < 0.5),
        lambda: nn.BatchNorm1d(6, eps=eps, momentum=number, affine=rng.random() < 0.5),
        lambda: nn.InstanceNorm1d(6, eps=eps, momentum=number, affine=rng.random() < 0.5),
        lambda: nn.AvgPool1d(
            kernel, rng.choice([None, 1, 3]), rng.randint(0, 1), rng.random() < 0.5, rng.random() < 0.5
        ),
        lambda: nn.MaxPool1d(
            kernel, rng.randint(1, 3), rng.randint(0, 1), rng.randint(1, 2), ceil_mode=rng.random() < 0.5
        ),
        lambda: nn.AdaptiveAvgPool1d(rng.randint(1, 5)),
        lambda: nn.LeakyReLU(rng.choice([0.01, number])),
        lambda: nn.ELU(number),
        lambda: nn.GELU(rng.choice(["none", "tanh"])),
        lambda: nn.Softplus(number, 10),
        lambda: nn.Hardtanh(-number, number),
        lambda: nn.PReLU(rng.choice([1, 6])),
        lambda: nn.GLU(1),
        lambda: nn.Softmax(rng.choice([-1, 1])),
        lambda: nn.LogSoftmax(rng.choice([-1, 1])),
        lambda: nn.Dropout(number),
        lambda: nn.ReflectionPad1d((rng.randint(0, 3), rng.randint(0, 3))),
        lambda: nn.ReplicationPad1d((rng.randint(0, 3), rng.randint(0, 3))),
        lambda: nn.ConstantPad1d((rng.randint(0, 3), rng.randint(0, 3)), number),
        lambda: nn.Flatten(1, 2),
    ]
    layer = rng.choice(makers)()
    x = torch.randint(0, 5, (2, 6)) if isinstance(layer, nn.Embedding) else torch.randn(2, 6, 12)
    return layer, x


class Many(nn.Module):
    """Layers side by side, each with its own input."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        made: list[torch.Tensor] = []
        for i, layer in enumerate(self.layers):
            made.append(layer(inputs[i]))
        return made


class Recurrent(nn.Module):
    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


def random_recurrent(rng: random.Random) -> tuple[nn.Module, torch.Tensor]:
    """An LSTM, GRU or RNN in a module that gives its output only."""
    kind = rng.choice([nn.LSTM, nn.GRU, nn.RNN])
    extra = {"proj_size": rng.choice([0, 2])} if kind is nn.LSTM else {}
    layers = rng.randint(1, 3)
    rnn = kind(
        rng.randint(1, 4), rng.randint(3, 5), num_layers=layers, bias=rng.random() < 0.7,
        batch_first=rng.random() < 0.5, bidirectional=rng.random() < 0.5, dropout=0.25 if layers > 1 else 0.0, **extra,
    )  # fmt: skip
    return Recurrent(rnn), torch.randn(3, 2, rnn.input_size)


class Down(nn.Module):
    """The speaker encoder's block: everything at half the rate, pools of functional form, weight norm outside."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv_skip = weight_norm(nn.Conv1d(channels, out, 1)) if channels != out else None
        self.first_conv = weight_norm(nn.Conv1d(channels, channels, 3, padding=1))
        self.second_conv = weight_norm(nn.Conv1d(channels, out, 1))
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, x):
        skip = functional.avg_pool1d(x if self.conv_skip is None else self.conv_skip(x), 2)
        h = functional.avg_pool1d(self.first_conv(self.activation(x)), 2)
        return skip + self.second_conv(self.activation(h))


class SpeakerEncoder(nn.Module):
    def __init__(self, widths=(4, 6, 8, 8)):
        super().__init__()
        self.pre_conv = nn.Conv1d(10, widths[0], 3)
        self.convs = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.mean_conv = weight_norm(nn.Conv1d(widths[-1], 5, 1))
        self.std_conv = weight_norm(nn.Conv1d(widths[-1], 5, 1))
        self.pooling_layer = nn.AdaptiveAvgPool1d(1)

    def forward(self, x):
        x = self.pre_conv(x)
        for conv in self.convs:
            x = conv(x)
        x = self.pooling_layer(x)
        return self.mean_conv(x), self.std_conv(x)


class Scaled(nn.Module):
    """To be scripted: branches, loops, attributes."""

    def __init__(self):
        super().__init__()
        self.scale, self.names, self.flag = 0.25, ["a", "b"], True
        self.proj = nn.Linear(6, 6)
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3, padding=1, dilation=1) for _ in range(3))
        self.unused = nn.Conv1d(4, 7, 5, stride=3)

    def forward(self, x: torch.Tensor, steps: int = 2):
        x = functional.leaky_relu(self.proj(x), 0.3) if steps > 1 else self.proj(x)
        for _ in range(steps):
            x = x * self.scale
        for layer in self.layers:
            x = layer(functional.pad(x, [1, 1], "reflect"))
        return x


class Mixed(nn.Module):
    """A trace with a scripted part."""

    def __init__(self):
        super().__init__()
        self.scripted = torch.jit.script(Scaled())
        self.conv = nn.Conv1d(4, 2, 3, stride=2, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.conv(self.scripted(x) * 0.5)


def traced(model: nn.Module, *inputs, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model.eval(), inputs, check_trace=False), path)
    return path


def scripted(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model.eval()), path)
    return path


def with_code(path: Path, change: Callable[[str], str], to: Path) -> Path:
    """A copy of an archive whose code text went through `change`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            new.writestr(entry, change(data.decode()).encode() if entry.endswith(".py") else data)
    return to
