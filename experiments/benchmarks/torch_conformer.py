"""The Conformer encoder in torch: the reference of the benchmarks and of the tests.

Written from the papers (arXiv 2005.08100, arXiv 1901.02860); the state dict has the names of NVIDIA NeMo. Inputs are
single recordings without padding, with time first.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jaxvoice.dsp.mel_config import NemoMelConfig, mel_filterbank
from jaxvoice.models.conformer.config import ConformerConfig


class LogMel(nn.Module):
    """The normalised log-mel features of NeMo since release 2.5."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: NemoMelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("filterbank", torch.tensor(mel_filterbank(config.spectrum)), persistent=False)
        self.register_buffer("window", torch.hann_window(config.win_length, periodic=False), persistent=False)

    def forward(self, audio: Float[Tensor, " samples"]) -> Float[Tensor, "frames mels"]:
        config = self.config
        emphasised = torch.cat([audio[:1], audio[1:] - config.preemphasis * audio[:-1]])
        spectrum = torch.stft(
            emphasised,
            config.n_fft,
            config.hop_length,
            config.win_length,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )[:, : len(audio) // config.hop_length]
        power = spectrum.real**2 + spectrum.imag**2
        features = torch.log(self.filterbank @ power + config.log_guard)
        centred = features - features.mean(1, keepdim=True)
        return (centred / (features.std(1, keepdim=True) + 1e-5)).T


def sinusoids(distance: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape dim"]:
    """Sines in even, cosines in odd columns, of `distance` divided by `10000 ** (2 i / dim)`."""
    angles = distance[..., None] / 10000 ** (torch.arange(0, dim, 2) / dim)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


class Attention(nn.Module):
    """Self-attention with relative positions, whose logits are shifted by a view of the padded matrix."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(dim, dim) for _ in range(4))
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.randn(heads, dim // heads))
        self.pos_bias_v = nn.Parameter(torch.randn(heads, dim // heads))

    def forward(self, x: Float[Tensor, "time dim"]) -> Float[Tensor, "time dim"]:
        (time, dim), (heads, size) = x.shape, self.pos_bias_u.shape
        query, key, value = (f(x).view(time, heads, size) for f in (self.linear_q, self.linear_k, self.linear_v))
        table = sinusoids(torch.arange(time - 1, -time, -1.0, dtype=x.dtype), dim)
        places = self.linear_pos(table).view(2 * time - 1, heads, size).permute(1, 2, 0)
        relative = functional.pad((query + self.pos_bias_v).transpose(0, 1) @ places, (1, 0))
        relative = relative.view(heads, 2 * time, time)[:, 1:].view(heads, time, 2 * time - 1)[..., :time]
        attended = functional.scaled_dot_product_attention(
            (query + self.pos_bias_u).transpose(0, 1)[None],
            key.transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            attn_mask=relative[None] / math.sqrt(size),
        )
        return self.linear_out(attended[0].transpose(0, 1).reshape(time, dim))


class FeedForward(nn.Module):
    """Two linear maps with SiLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "time dim"]) -> Float[Tensor, "time dim"]:
        return self.linear2(functional.silu(self.linear1(x)))


class Convolution(nn.Module):
    """GLU, depthwise convolution, batch norm, SiLU."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.batch_norm: nn.Module = nn.BatchNorm1d(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Float[Tensor, "time dim"]) -> Float[Tensor, "time dim"]:
        y = self.depthwise_conv(functional.glu(self.pointwise_conv1(x.T[None]), 1))
        return self.pointwise_conv2(functional.silu(self.batch_norm(y)))[0].T


class Layer(nn.Module):
    """Half a feed-forward network, attention, the convolution module, and half a feed-forward network."""

    def __init__(self, config: ConformerConfig, attention: type[Attention]) -> None:
        super().__init__()
        dim = config.dim
        self.norm_feed_forward1, self.norm_conv, self.norm_self_att, self.norm_feed_forward2, self.norm_out = (
            nn.LayerNorm(dim) for _ in range(5)
        )
        self.feed_forward1 = FeedForward(dim, config.feed_forward)
        self.feed_forward2 = FeedForward(dim, config.feed_forward)
        self.conv, self.self_attn = Convolution(dim, config.kernel_size), attention(dim, config.heads)

    def forward(self, x: Float[Tensor, "time dim"]) -> Float[Tensor, "time dim"]:
        x = x + self.feed_forward1(self.norm_feed_forward1(x)) / 2
        x = x + self.self_attn(self.norm_self_att(x))
        x = x + self.conv(self.norm_conv(x))
        return self.norm_out(x + self.feed_forward2(self.norm_feed_forward2(x)) / 2)


class Subsampling(nn.Module):
    """Two convolutions with stride 2, and a linear map."""

    def __init__(self, mels: int, channels: int, dim: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, 2, 1)
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.out = nn.Linear(channels * math.ceil(mels / 4), dim)

    def forward(self, features: Float[Tensor, "frames mels"]) -> Float[Tensor, "time dim"]:
        return self.out(self.conv(features[None]).transpose(0, 1).flatten(1))


class Encoder(nn.Module):
    """`(frames, mels)` of one recording without padding to `(time, dim)`; `attention` is the class of the attention."""

    def __init__(self, config: ConformerConfig, attention: type[Attention] = Attention) -> None:
        super().__init__()
        self.pre_encode = Subsampling(config.mel.num_mels, config.subsampling_channels, config.dim)
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))
        self.scale = math.sqrt(config.dim) if config.xscaling else 1.0

    def forward(self, features: Float[Tensor, "frames mels"]) -> Float[Tensor, "time dim"]:
        x = self.pre_encode(features) * self.scale
        for layer in self.layers:
            x = layer(x)
        return x


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """Fold the batch norms of an encoder in evaluation mode into its depthwise convolutions; returns `encoder`."""
    for layer in encoder.modules():
        if isinstance(layer, Convolution) and isinstance(layer.batch_norm, nn.BatchNorm1d):
            layer.depthwise_conv = fuse_conv_bn_eval(layer.depthwise_conv, layer.batch_norm)
            layer.batch_norm = nn.Identity()
    return encoder
