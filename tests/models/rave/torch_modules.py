"""v2 of RAVE as torch modules with the names of the release, for checkpoints, exports and comparisons.

Weights are loaded from a network of jaxvoice. Noise branches, codebooks and discriminators are missing.
"""

from collections.abc import Mapping

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxvoice.models.rave import RaveConfig


class Conv(nn.Module):
    """A convolution whose weight has a norm (`weight_g`, `weight_v`) or none (`weight`)."""

    def __init__(self, outputs: int, inputs: int, taps: int, *, stride=1, dilation=1, causal=False, norm=True):
        super().__init__()
        if norm:
            self.weight_g = nn.Parameter(torch.ones(outputs, 1, 1))
            self.weight_v = nn.Parameter(torch.zeros(outputs, inputs, taps))
        else:
            self.weight = nn.Parameter(torch.zeros(outputs, inputs, taps))
        reach = (taps - 1) * dilation
        self.left, self.right = (reach, 0) if causal else (reach // 2, reach - reach // 2)
        self.stride, self.dilation, self.norm = stride, dilation, norm

    def kernel(self) -> torch.Tensor:
        if self.norm:
            length = torch.sqrt(torch.sum(self.weight_v**2, dim=(1, 2), keepdim=True))
            return self.weight_g * self.weight_v / length
        return self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, (self.left, self.right))
        return functional.conv1d(x, self.kernel(), None, self.stride, 0, self.dilation)


class FoldedConv(nn.Conv1d):
    """A convolution without a norm, which can be scripted. Its stride and its dilation are constants of the code."""

    def __init__(self, outputs: int, inputs: int, taps: int, *, stride=1, dilation=1, causal=False, norm=False):
        super().__init__(inputs, outputs, taps, stride, dilation=dilation, bias=False)
        reach = (taps - 1) * dilation
        self.left: int = reach if causal else reach // 2
        self.right: int = reach - self.left

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, [self.left, self.right])
        return functional.conv1d(x, self.weight, None, self.stride, [0], self.dilation)


class Up(nn.Module):
    def __init__(self, channels: int, ratio: int, *, norm=True):
        super().__init__()
        if norm:
            self.weight_g = nn.Parameter(torch.ones(channels, 1, 1))
            self.weight_v = nn.Parameter(torch.zeros(channels, channels // 2, 2 * ratio))
        else:
            self.weight = nn.Parameter(torch.zeros(channels, channels // 2, 2 * ratio))
        self.ratio, self.norm = ratio, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = torch.sqrt(torch.sum(self.weight_v**2, dim=(1, 2), keepdim=True))
        kernel = self.weight_g * self.weight_v / length
        return functional.conv_transpose1d(x, kernel, None, self.ratio, self.ratio // 2)


class FoldedUp(nn.Module):
    def __init__(self, channels: int, ratio: int, *, norm=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels // 2, 2 * ratio))
        self.ratio: int = ratio

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv_transpose1d(x, self.weight, None, self.ratio, self.ratio // 2)


class Snake(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(self.alpha * x) ** 2 / self.alpha


class Body(nn.Module):
    def __init__(self, channels: int, dilation: int, conv, causal: bool):
        super().__init__()
        first = conv(channels, channels, 3, dilation=dilation, causal=causal)
        self.net = nn.Sequential(nn.LeakyReLU(0.2), first, nn.LeakyReLU(0.2), conv(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Branches(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList([body, nn.Identity()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        for branch in self.branches:
            y = y + branch(x)
        return y


class Residual(nn.Module):
    def __init__(self, channels: int, dilation: int, conv, causal: bool):
        super().__init__()
        self.aligned = Branches(Body(channels, dilation, conv, causal))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.aligned(x)


class AdaIN(nn.Module):
    """Adaptive instance norm whose statistics are known."""

    def __init__(self, channels: int):
        super().__init__()
        for side in "xy":
            self.register_buffer(f"mean_{side}", torch.zeros(64, channels, 1))
            self.register_buffer(f"std_{side}", torch.ones(64, channels, 1))
            self.register_buffer(f"learn_{side}", torch.zeros(1))
            self.register_buffer(f"num_update_{side}", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        y = (x - self.mean_x[:n]) / (self.std_x[:n] + 1e-5) * self.std_y[:n] + self.mean_y[:n]
        return y if bool(self.num_update_x > 0) and bool(self.num_update_y > 0) else x


class Gru(nn.Module):
    def __init__(self, channels: int, layers: int):
        super().__init__()
        self.gru = nn.GRU(channels, channels, layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x.transpose(1, 2))[0].transpose(1, 2)


def stage(channels: int, dilations: tuple[int, ...], part, conv, causal: bool) -> list[nn.Module]:
    layers = []
    for dilation in dilations:
        layers += [AdaIN(channels)] if part.adain else []
        layers.append(Residual(channels, dilation, conv, causal))
    return layers


def act(channels: int, snake: bool) -> nn.Module:
    return Snake(channels) if snake else nn.LeakyReLU(0.2)


class Encoder(nn.Module):
    def __init__(self, config: RaveConfig, conv):
        super().__init__()
        part, causal, channels = config.encoder, config.padding == "causal", config.encoder.capacity
        net = [conv(channels, config.encoder_inputs, 7, causal=causal)]
        for ratio, dilations in zip(part.ratios, part.dilations, strict=True):
            net += stage(channels, dilations, part, conv, causal)
            net.append(act(channels, part.snake))
            # Strided convolutions are padded as if they had no stride.
            net.append(conv(2 * channels, channels, 2 * ratio, stride=ratio, causal=causal))
            channels *= 2
        net += [act(channels, part.snake), conv(config.bottleneck.encoder_channels, channels, 3, causal=causal)]
        self.net = nn.Sequential(*net)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Bottleneck(nn.Module):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("warmed_up", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)


class Generator(nn.Module):
    def __init__(self, config: RaveConfig, conv, up):
        super().__init__()
        part, causal = config.generator, config.padding == "causal"
        channels = part.capacity * 2 ** len(part.ratios)
        net = [Gru(config.bottleneck.decoder_channels, part.recurrent_layers)] if part.recurrent_layers else []
        net.append(conv(channels, config.bottleneck.decoder_channels, 3, causal=causal))
        for ratio, dilations in zip(part.ratios[::-1], part.dilations[::-1], strict=True):
            net += [act(channels, part.snake), up(channels, ratio)]
            channels //= 2
            net += stage(channels, dilations, part, conv, causal)
        net += [act(channels, part.snake), conv(2 * config.generator_outputs, channels, 7, causal=causal)]
        self.net = nn.Sequential(*net)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        wave, amplitude = self.net(z).chunk(2, 1)
        return torch.tanh(wave * torch.sigmoid(amplitude))


class FilterBank(nn.Module):
    """Analysis and synthesis of one channel of audio."""

    def __init__(self, config: RaveConfig, taps: tuple[int, int]):
        super().__init__()
        bands, (prototype, padded) = config.pqmf.num_bands, taps
        self.register_buffer("h", torch.zeros(prototype))
        self.register_buffer("hk", torch.zeros(bands, padded))
        causal = config.padding == "causal"
        self.forward_conv = FoldedConv(bands, 1, padded + 1, stride=bands, causal=causal)
        self.inverse_conv = FoldedConv(bands, bands, padded // bands + 1, causal=causal)
        self.bands: int = bands

    def signs(self, x: torch.Tensor) -> torch.Tensor:
        signs = torch.ones_like(x)
        signs[:, 1::2, ::2] = -1.0
        return x * signs

    def analysis(self, x: torch.Tensor) -> torch.Tensor:
        return self.signs(self.forward_conv(x))

    def synthesis(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inverse_conv(self.signs(x)) * self.bands
        return y.flip(1).transpose(1, 2).reshape(x.shape[0], 1, -1)


class Model(nn.Module):
    """The whole model. `folded` replaces weight norm by its product, as exports do."""

    def __init__(self, config: RaveConfig, taps: tuple[int, int], *, folded: bool = False):
        super().__init__()
        conv, up = (FoldedConv, FoldedUp) if folded else (Conv, Up)
        self.pqmf = FilterBank(config, taps)
        self.encoder = Bottleneck(Encoder(config, conv))
        self.decoder = Generator(config, conv, up)
        size = config.bottleneck.latent_size
        self.register_buffer("latent_pca", torch.eye(size))
        self.register_buffer("latent_mean", torch.zeros(size))
        self.register_buffer("fidelity", torch.zeros(size))
        self.register_buffer("receptive_field", torch.zeros(2, dtype=torch.int64))
        if folded:
            # What the host of an export reads.
            self.register_buffer("encode_params", torch.tensor([1, 1, size, config.hop_length]), persistent=False)
            self.register_buffer("latent_size", torch.tensor(size), persistent=False)
        self.subbands: bool = config.generator.output == "pqmf"
        self.latents: int = size
        self.sampling_rate: int = config.sample_rate

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The means of the latents, in principal components, as an export computes them without sampling."""
        z = self.encoder(self.pqmf.analysis(x))[:, : self.latents]
        z = z - self.latent_mean.unsqueeze(-1)
        return functional.conv1d(z, self.latent_pca.unsqueeze(-1))

    @torch.jit.export
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        z = functional.conv1d(z, self.latent_pca.t().unsqueeze(-1)) + self.latent_mean.unsqueeze(-1)
        y = self.decoder(z)
        return self.pqmf.synthesis(y) if self.subbands else y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


def folded_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`arrays` with products in the place of weight norm."""
    folded = {}
    for name, array in arrays.items():
        layer, _, last = name.rpartition(".")
        if last == "weight_v":
            length = np.sqrt((array.astype(np.float64) ** 2).sum((1, 2), keepdims=True))
            folded[f"{layer}.weight"] = (arrays[f"{layer}.weight_g"] * array / length).astype(np.float32)
        elif last != "weight_g":
            folded[name] = array
    return folded


def load(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """`model` with `arrays`, which are all of its tensors."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def mel_spectrogram(audio: np.ndarray, sample_rate: int, n_fft: int, hop: int, mels: int) -> np.ndarray:
    """`log(1 + mel)` of librosa without the last frame."""
    options = {"n_fft": n_fft, "hop_length": hop, "n_mels": mels, "htk": True, "norm": None, "pad_mode": "reflect"}
    return np.log1p(librosa.feature.melspectrogram(y=audio, sr=sample_rate, **options))[:, :-1]


class Cache(nn.Module):
    """The last samples of the previous block."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.register_buffer("pad", torch.zeros(4, channels, size))


def with_caches(model: nn.Module) -> nn.Module:
    """`model` with the buffers of an export for streaming, whose convolutions do not pad."""
    for module in list(model.modules()):
        if isinstance(module, Branches):
            body = module.branches[0].net[1]
            # The branch without convolutions waits for those with convolutions.
            module.paddings = nn.ModuleList([Cache(body.in_channels, size) for size in (0, body.right)])
        if isinstance(module, FoldedConv):
            module.cache = Cache(module.in_channels, module.left + module.right)
            module.left = module.right = 0
    return model
