"""The Conformer encoder of the benchmarks with another attention, and its recogniser with random weights.

The relative position of each pair of frames is looked up in a table. Padding is cut off instead of masked.
"""

import math
from typing import Any

import torch
from torch import nn

from experiments.benchmarks import torch_conformer
from experiments.benchmarks.torch_conformer import Encoder, sinusoids


class Attention(torch_conformer.Attention):
    """Attention without a shift of the logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (time, dim), (heads, size) = x.shape, self.pos_bias_u.shape
        query, key, value = (f(x).view(time, heads, size) for f in (self.linear_q, self.linear_k, self.linear_v))
        table = sinusoids(torch.arange(time)[:, None] - torch.arange(time)[None], dim)
        places = self.linear_pos(table.to(x.dtype)).view(time, time, heads, size)
        logits = torch.einsum("qhd,khd->hqk", query + self.pos_bias_u, key)
        logits = logits + torch.einsum("qhd,qkhd->hqk", query + self.pos_bias_v, places)
        weights = torch.softmax(logits / math.sqrt(size), -1)
        return self.linear_out(torch.einsum("hqk,khd->qhd", weights, value).reshape(time, dim))


class Recogniser(nn.Module):
    """An encoder and CTC's classifier: the networks of a `.nemo` file of NeMo's `EncDecCTCModel`."""

    def __init__(self, config: Any):
        super().__init__()
        self.encoder = Encoder(config, Attention)
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
