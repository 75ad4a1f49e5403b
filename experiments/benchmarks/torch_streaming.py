"""RAVE in torch with cached convolutions, block by block: the reference of the streaming benchmark.

Written from the description of cached convolutions (arXiv 2204.07064): a convolution keeps its last inputs, a
transposed convolution the outputs that the next block completes, and the input of a residual block is delayed. The
layers are made from those of a jaxvoice network, whose weights they have. Variational bottlenecks without noise, and
networks without adaptive instance norms, are included.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jaxvoice.models.rave import (
    GeneratorV1,
    LeakyReLU,
    Rave,
    RaveState,
    Residual,
    Snake,
    decoder_stream,
    encoder_stream,
)
from jaxvoice.models.rave.generators import ResidualBlock, ResidualLayer, ResidualStack, UpsampleLayer
from jaxvoice.models.rave.layers import DilatedUnit
from jaxvoice.nn import Conv1d, ConvTranspose1d, MaskedBatchNorm


def tensor(array: Any) -> Tensor:
    """A copy of a JAX array."""
    return torch.tensor(np.asarray(array))


class CachedConv(nn.Module):
    """A convolution whose last inputs are kept instead of its padding; `delay` is its padding on the right."""

    weight: Tensor
    cache: Tensor

    def __init__(self, layer: Conv1d):
        super().__init__()
        left, right = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 2
        self.delay, self.stride, self.dilation, self.groups = right, layer.stride, layer.dilation, layer.groups
        self.register_buffer("weight", tensor(layer.kernel()))
        self.register_buffer("cache", torch.zeros(1, layer.in_channels, left + right))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cache, x], -1)
        if self.cache.shape[-1]:
            self.cache = x[..., -self.cache.shape[-1] :].clone()
        # The last inputs of a block with a stride are not read: the window of an output ends at its first input.
        return F.conv1d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)


class CachedUpsampling(nn.Module):
    """A transposed convolution whose outputs are added to the rest of the block before; `delay` is its padding."""

    weight: Tensor
    rest: Tensor

    def __init__(self, layer: ConvTranspose1d):
        super().__init__()
        self.delay, self.stride = layer.padding, layer.stride
        kernel = tensor(layer.kernel())
        self.register_buffer("weight", kernel)
        self.register_buffer("rest", torch.zeros(1, kernel.shape[1], kernel.shape[2] - layer.stride))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv_transpose1d(x, self.weight, None, self.stride)
        overlap = self.rest.shape[-1]
        y[..., :overlap] += self.rest
        self.rest = y[..., -overlap:].clone()
        return y[..., : y.shape[-1] - overlap]


class Delay(nn.Module):
    """A delay by `positions`."""

    cache: Tensor

    def __init__(self, channels: int, positions: int):
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, channels, positions))

    def forward(self, x: Tensor) -> Tensor:
        positions = self.cache.shape[-1]
        if not positions:
            return x
        x = torch.cat([self.cache, x], -1)
        self.cache = x[..., -positions:].clone()
        return x[..., :-positions]


class CachedResidual(nn.Module):
    """The sum of the layers `body` and of the delayed input."""

    def __init__(self, body: list[nn.Module], channels: int):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.skip = Delay(channels, sum(getattr(layer, "delay", 0) for layer in self.body))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class TorchSnake(nn.Module):
    """The activation of `jaxvoice.models.rave.Snake`."""

    alpha: Tensor

    def __init__(self, layer: Snake):
        super().__init__()
        self.register_buffer("alpha", tensor(layer.alpha))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)


class Affine(nn.Module):
    """Batch norm in inference: a scale and a shift of each channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, layer: MaskedBatchNorm, state: Any):
        super().__init__()
        scale = tensor(layer.weight) / torch.sqrt(tensor(state.running_var) + layer.eps)
        self.register_buffer("scale", scale[:, None])
        self.register_buffer("shift", (tensor(layer.bias) - tensor(state.running_mean) * scale)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def convert(layers: Iterable[Any], states: Iterable[Any] | None = None) -> list[nn.Module]:
    """The layers of torch for layers of jaxvoice."""
    layers = list(layers)
    found: list[nn.Module] = []
    for layer, state in zip(layers, [None] * len(layers) if states is None else states, strict=True):
        if isinstance(layer, Conv1d):
            found.append(CachedConv(layer))
        elif isinstance(layer, ConvTranspose1d):
            found.append(CachedUpsampling(layer))
        elif isinstance(layer, LeakyReLU):
            found.append(nn.LeakyReLU(0.2))
        elif isinstance(layer, Snake):
            found.append(TorchSnake(layer))
        elif isinstance(layer, MaskedBatchNorm):
            found.append(Affine(layer, state))
        elif isinstance(layer, Residual):
            body = layer.aligned.branches[0]
            converted = convert(body if isinstance(body, list) else [body])
            first = next(module for module in converted if isinstance(module, CachedConv))
            found.append(CachedResidual(converted, first.weight.shape[1] * first.groups))
        elif isinstance(layer, ResidualLayer):
            found += convert([layer.net])
        elif isinstance(layer, UpsampleLayer | DilatedUnit | ResidualBlock):
            found += convert(layer.net)
        elif isinstance(layer, ResidualStack) and len(layer.net.branches) == 1:
            found += convert(layer.net.branches)
        else:
            raise TypeError(f"There is no layer of torch for {type(layer).__name__}.")
    return found


class StreamingRave(nn.Module):
    """Audio `(1, channels, samples)` to audio, delayed, without noise; latents are the means of their distributions."""

    signs: Tensor

    def __init__(self, network: Rave, state: RaveState):
        super().__init__()
        config = network.config
        self.latents, self.bands = config.bottleneck.latent_size, config.pqmf.num_bands
        self.decodes_bands = config.generator.output == "pqmf"
        self.analysis = CachedConv(network.pqmf.forward_conv)
        self.synthesis = CachedConv(network.pqmf.inverse_conv)
        norms = None if state.encoder.encoder is None else state.encoder.encoder.net
        self.encoder = nn.Sequential(*convert(network.encoder.encoder.net, norms))
        decoder = network.decoder
        self.decoder = nn.Sequential(*convert(decoder.net))
        self.wave: nn.Module = nn.Identity()
        self.loudness: nn.Sequential | None = None
        if isinstance(decoder, GeneratorV1):
            wave, loudness = convert(decoder.synth.branches[:2])
            assert isinstance(wave, CachedConv) and isinstance(loudness, CachedConv)
            later = wave.delay - loudness.delay
            self.wave, self.loudness = wave, nn.Sequential(loudness, Delay(1, later))
        elif decoder.waveform_module is not None:
            (self.wave,) = convert([decoder.waveform_module])
        self.modulated = not isinstance(decoder, GeneratorV1) and decoder.amplitude_modulation
        signs = torch.ones(self.bands, 2)
        signs[1::2, 0] = -1
        self.register_buffer("signs", signs)
        # Frames are numbered as offline, for delayed audio.
        encoder, decoder = encoder_stream(network, state), decoder_stream(network, state, noise=False)
        self.first_analysed = (encoder.input_delay - self.analysis.delay) // self.bands
        self.first_synthesised = self.synthesis.delay - decoder.output_delay // self.bands

    def invert(self, x: Tensor, first: int) -> Tensor:
        """Odd bands of even frames with the other sign; blocks from the frame `first` on have an even length."""
        return x * self.signs.roll(first % 2, 1).repeat(1, x.shape[-1] // 2)

    def encode(self, audio: Tensor) -> Tensor:
        """The latents of a block."""
        return self.encoder(self.invert(self.analysis(audio), self.first_analysed))[:, : self.latents]

    def decode(self, z: Tensor) -> Tensor:
        """The audio of a block of latents."""
        features = self.decoder(z)
        y = self.wave(features)
        if self.loudness is not None:
            y = torch.tanh(y) * (2 * torch.sigmoid(self.loudness(features)) ** 2.3 + 1e-7)
        else:
            if self.modulated:
                y, amplitude = y.chunk(2, 1)
                y = y * torch.sigmoid(amplitude)
            y = torch.tanh(y)
        if not self.decodes_bands:
            return y
        y = self.synthesis(self.invert(y, self.first_synthesised)) * self.bands
        return y.flip(1).transpose(1, 2).reshape(1, 1, -1)

    def forward(self, audio: Tensor) -> Tensor:
        return self.decode(self.encode(audio))
