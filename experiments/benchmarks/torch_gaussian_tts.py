"""The phoneme-to-mel network of `jaxvoice.models.gaussian_tts` in torch, with torch's own layers.

It consists of `TransformerEncoderLayer` (with torch's fast path in inference), `LSTM`, `Conv1d` and `BatchNorm1d`.
Parameters have the names of jaxvoice. Only the default options are supported: norms after each sum, one learned width
for all phonemes, and no attention mask besides padding. `tests/reference` compares each part with jaxvoice. Arrays are
`(batch, time, channels)`.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxvoice.models.gaussian_tts.config import DecoderConfig, EncoderConfig, GaussianTTSConfig


class Padding:
    """The valid positions of a padded batch."""

    def __init__(self, count: Int[Tensor, " batch"], length: int):
        self.count = count
        self.valid: Bool[Tensor, "batch time"] = torch.arange(length, device=count.device) < count[:, None]
        self.none = bool(self.valid.all())
        """Whether all positions are valid, so that masks are skipped."""
        self.places = self.valid.flatten().nonzero()[:, 0]

    def clear(self, x: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch time channels"]:
        """Set padded positions of `x` to zero."""
        return x if self.none else x.masked_fill(~self.valid[..., None], 0.0)


class ConvRes(nn.Module):
    """Convolution, ReLU, batch norm over valid positions and dropout, with a convolution of one tap as shortcut."""

    def __init__(self, channels: int, kernel_size: int, dropout: float):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm1d(channels)
        self.shortcut = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch time dim"], padding: Padding) -> Float[Tensor, "batch time dim"]:
        x = padding.clear(x).transpose(1, 2)
        y = self._normed(functional.relu(self.conv(x)), padding)
        return padding.clear((self.dropout(y) + self.shortcut(x)).transpose(1, 2))

    def _normed(self, y: Float[Tensor, "batch dim time"], padding: Padding) -> Float[Tensor, "batch dim time"]:
        if padding.none or not self.training:
            return self.norm(y)
        # torch's batch norm includes padding, so it is applied to the valid positions only.
        batch, channels, time = y.shape
        flat = y.transpose(1, 2).reshape(-1, channels)
        normed = self.norm(flat.index_select(0, padding.places))
        flat = torch.zeros_like(flat).index_copy(0, padding.places, normed)
        return flat.view(batch, time, channels).transpose(1, 2)


class Block(nn.Module):
    """A transformer layer, then `ConvRes`."""

    def __init__(self, dim: int, config: EncoderConfig | DecoderConfig):
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(
            dim, config.heads, config.feed_forward, dropout=config.dropout, batch_first=True
        )
        self.conv = ConvRes(dim, config.kernel_size, config.dropout)

    def forward(self, x: Float[Tensor, "batch time dim"], padding: Padding) -> Float[Tensor, "batch time dim"]:
        return self.conv(self.attention(x, src_key_padding_mask=None if padding.none else ~padding.valid), padding)


class Encoder(nn.Module):
    """Phoneme ids to hidden states."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(len(config.codes) + 1, config.dim))
        self.positions = nn.Parameter(0.02 * torch.randn(config.encoder.max_phones, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.encoder) for _ in range(config.encoder.layers))

    def forward(self, phonemes: Int[Tensor, "batch phones"], padding: Padding) -> Float[Tensor, "batch phones dim"]:
        x = padding.clear(functional.embedding(phonemes, self.embedding) + self.positions[: phonemes.shape[1]])
        for block in self.blocks:
            x = block(x, padding)
        return x


class Decoder(nn.Module):
    """Decoder blocks on hidden states of frames."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(config.decoder.max_frames, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.decoder) for _ in range(config.decoder.layers))

    def forward(self, x: Float[Tensor, "batch frames dim"], padding: Padding) -> Float[Tensor, "batch frames dim"]:
        x = padding.clear(x + self.positions[: x.shape[1]])
        for block in self.blocks:
            x = block(x, padding)
        return x


class PostNet(nn.Module):
    """Hidden states of frames to the correction of the mel spectrogram."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        taps, layers = config.decoder.kernel_size, config.decoder.postnet_layers
        self.blocks = nn.ModuleList(ConvRes(config.dim, taps, 0.0) for _ in range(layers))
        self.linear = nn.Linear(config.dim, config.mel.num_mels)

    def forward(self, x: Float[Tensor, "batch frames dim"], padding: Padding) -> Float[Tensor, "batch frames mels"]:
        for block in self.blocks:
            x = block(x, padding)
        return self.linear(x)


class Upsampling(nn.Module):
    """Gaussian upsampling: each frame is a mixture of phonemes, weighted by normal densities around their centres."""

    def __init__(self) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        hidden: Float[Tensor, "batch phones dim"],
        durations: Float[Tensor, "batch phones"],
        phones: Padding,
        frames: Padding,
    ) -> tuple[Float[Tensor, "batch frames dim"], Float[Tensor, "batch frames phones"]]:
        """Hidden states of frames, and the weights of the phonemes in them; `durations` are in frames."""
        centres = torch.cumsum(durations, 1) - durations / 2
        times = torch.arange(frames.valid.shape[1], device=hidden.device, dtype=hidden.dtype) + 0.5
        distance = (times[:, None] - centres[:, None]) / torch.exp(self.log_sigma)
        logits = -0.5 * distance**2
        if not phones.none:
            logits = logits.masked_fill(~phones.valid[:, None], -math.inf)
        weights = frames.clear(torch.softmax(logits, -1))
        return weights @ hidden, weights


class AcousticModel(nn.Module):
    """Phonemes and their durations to a normalised mel spectrogram."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.upsampling = Upsampling()
        self.decoder = Decoder(config)
        self.linear = nn.Linear(config.dim, config.mel.num_mels)
        self.postnet = PostNet(config)

    def encode(self, phonemes: Int[Tensor, "batch phones"], phones: Padding) -> Float[Tensor, "batch phones dim"]:
        """Hidden states of phonemes."""
        return self.encoder(phonemes, phones)

    def decode(
        self,
        hidden: Float[Tensor, "batch phones dim"],
        durations: Float[Tensor, "batch phones"],
        phones: Padding,
        frames: Padding,
    ) -> tuple[
        Float[Tensor, "batch frames mels"], Float[Tensor, "batch frames mels"], Float[Tensor, "batch frames phones"]
    ]:
        """Returns the mel spectrogram of the decoder, that of the post-net, and the weights of upsampling."""
        x, weights = self.upsampling(hidden, durations, phones, frames)
        x = self.decoder(x, frames)
        first = frames.clear(self.linear(x))
        return first, first + frames.clear(self.postnet(x, frames)), weights


class DurationModel(nn.Module):
    """Hidden states of phonemes to their normalised log durations."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        sizes = config.durations
        dropout = sizes.dropout if sizes.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.dim, sizes.hidden, sizes.layers, batch_first=True, bidirectional=True, dropout=dropout
        )
        self.linear = nn.Linear(2 * sizes.hidden, 1)

    def forward(self, hidden: Float[Tensor, "batch phones dim"], phones: Padding) -> Float[Tensor, "batch phones"]:
        if phones.none:
            y, _ = self.lstm(hidden)
        else:
            packed = pack_padded_sequence(hidden, phones.count.cpu(), batch_first=True, enforce_sorted=False)
            y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=hidden.shape[1])
        return phones.clear(self.linear(y))[..., 0]


class GaussianTTS(nn.Module):
    """The acoustic model and the duration model."""

    def __init__(self, config: GaussianTTSConfig):
        super().__init__()
        self.acoustic = AcousticModel(config)
        self.durations = DurationModel(config)


Arrays = dict[str, Float[Any, "..."]]


def arrays_of(networks: GaussianTTS) -> tuple[Arrays, Arrays]:
    """Weights of `networks` by jaxvoice's names, and running statistics of batch norm by those of `BatchNormStates`."""
    weights, statistics = {}, {}
    for name, tensor in networks.state_dict().items():
        place = re.fullmatch(
            r"acoustic\.(encoder|decoder|postnet)\.blocks\.(\d+)(?:\.conv)?\.norm\.(running.*|num.*)", name
        )
        kept, name = (statistics, ".".join(place.groups())) if place else (weights, name)
        kept[name] = tensor.numpy().copy()
    return weights, statistics


def load_arrays(networks: GaussianTTS, weights: Mapping[str, Any], statistics: Mapping[str, Any]) -> GaussianTTS:
    """Load arrays in the form of `arrays_of` into `networks`; raises `RuntimeError` for missing or unknown names."""
    state = {name: torch.tensor(array) for name, array in weights.items()}
    for name, array in statistics.items():
        part, number, what = name.split(".")
        middle = "norm" if part == "postnet" else "conv.norm"
        state[f"acoustic.{part}.blocks.{number}.{middle}.{what}"] = torch.tensor(array)
    networks.load_state_dict(state)
    return networks
