"""A Conformer encoder in torch, written for the tests, whose state dict has the names of NVIDIA NeMo.

Relative positions are looked up in a table for each pair of positions, and padding is cut off instead of masked.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(dim, dim) for _ in range(4))
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.randn(heads, dim // heads))
        self.pos_bias_v = nn.Parameter(torch.randn(heads, dim // heads))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (time, dim), (heads, size) = x.shape, self.pos_bias_u.shape
        query, key, value = (f(x).view(time, heads, size) for f in (self.linear_q, self.linear_k, self.linear_v))
        distance = torch.arange(time)[:, None] - torch.arange(time)[None]
        angles = distance[..., None] / 10000 ** (torch.arange(0, dim, 2) / dim)
        table = torch.stack([angles.sin(), angles.cos()], -1).reshape(time, time, dim)
        places = self.linear_pos(table.to(x.dtype)).view(time, time, heads, size)
        logits = torch.einsum("qhd,khd->hqk", query + self.pos_bias_u, key)
        logits = logits + torch.einsum("qhd,qkhd->hqk", query + self.pos_bias_v, places)
        weights = torch.softmax(logits / math.sqrt(size), -1)
        return self.linear_out(torch.einsum("hqk,khd->qhd", weights, value).reshape(time, dim))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear2(F.silu(self.linear1(x)))


class Convolution(nn.Module):
    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise_conv(F.glu(self.pointwise_conv1(x.T[None]), 1))
        return self.pointwise_conv2(F.silu(self.batch_norm(y)))[0].T


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, kernel: int):
        super().__init__()
        for name in ("feed_forward1", "conv", "self_att", "feed_forward2", "out"):
            self.add_module(f"norm_{name}", nn.LayerNorm(dim))
        self.feed_forward1, self.feed_forward2 = FeedForward(dim, hidden), FeedForward(dim, hidden)
        self.conv, self.self_attn = Convolution(dim, kernel), Attention(dim, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.feed_forward1(self.norm_feed_forward1(x)) / 2
        x = x + self.self_attn(self.norm_self_att(x))
        x = x + self.conv(self.norm_conv(x))
        return self.norm_out(x + self.feed_forward2(self.norm_feed_forward2(x)) / 2)


class Subsampling(nn.Module):
    def __init__(self, mels: int, channels: int, dim: int):
        super().__init__()
        first, second = nn.Conv2d(1, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, 2, 1)
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.out = nn.Linear(channels * math.ceil(mels / 4), dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.out(self.conv(features[None]).transpose(0, 1).flatten(1))


class Encoder(nn.Module):
    """`(frames, mels)` of one recording without padding to `(time, dim)`."""

    def __init__(self, config: Any):
        super().__init__()
        self.pre_encode = Subsampling(config.mel.num_mels, config.subsampling_channels, config.dim)
        sizes = (config.dim, config.heads, config.feed_forward, config.kernel_size)
        self.layers = nn.ModuleList([Layer(*sizes) for _ in range(config.layers)])
        self.scale = math.sqrt(config.dim) if config.xscaling else 1.0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.pre_encode(features) * self.scale
        for layer in self.layers:
            x = layer(x)
        return x


class Recogniser(nn.Module):
    """An encoder and CTC's classifier: the networks of a `.nemo` file of NeMo's `EncDecCTCModel`."""

    def __init__(self, config: Any):
        super().__init__()
        self.encoder = Encoder(config)
        if config.classes is not None:
            self.decoder = nn.Module()
            self.decoder.decoder_layers = nn.Sequential(nn.Conv1d(config.dim, config.classes, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.decoder.decoder_layers(self.encoder(features).T[None])[0].T


def recogniser(config: Any, seed: int = 0) -> Recogniser:
    """A recogniser in evaluation mode with random weights, also in norms and their running statistics."""
    torch.manual_seed(seed)
    model = Recogniser(config).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(1 + torch.rand_like(tensor))
        elif "norm" in name and tensor.ndim == 1:
            tensor.add_(0.2 * torch.randn_like(tensor))
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
    return model
