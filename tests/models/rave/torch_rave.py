"""v2 of RAVE in torch, as functions of arrays with the names of the release: without a filter bank and noise."""

from collections.abc import Mapping

import torch
from torch.nn.functional import conv1d, conv_transpose1d, leaky_relu, pad

from jaxvoice.models.rave import EncoderConfig, GeneratorConfig


class Reference:
    """The encoder and the generator of v2 with the arrays of a network and of its state."""

    def __init__(self, arrays: Mapping[str, torch.Tensor], *, causal: bool):
        self.arrays, self.causal = arrays, causal

    def conv(self, x: torch.Tensor, name: str, *, dilation: int = 1) -> torch.Tensor:
        kernel = self.kernel(name)
        reach = (kernel.shape[-1] - 1) * dilation
        sides = (reach, 0) if self.causal else (reach // 2, reach - reach // 2)
        return conv1d(pad(x, sides), kernel, None, 1, 0, dilation)

    def kernel(self, name: str) -> torch.Tensor:
        v, g = self.arrays[f"{name}.weight_v"], self.arrays[f"{name}.weight_g"]
        return g * v / torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)

    def activation(self, x: torch.Tensor, name: str) -> torch.Tensor:
        if f"{name}.alpha" not in self.arrays:
            return leaky_relu(x, 0.2)
        alpha = self.arrays[f"{name}.alpha"]
        return x + torch.sin(alpha * x) ** 2 / alpha

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean_x, std_x, mean_y, std_y = (
            self.arrays[f"{name}.{statistic}"][: len(x)] for statistic in ("mean_x", "std_x", "mean_y", "std_y")
        )
        return (x - mean_x) / (std_x + 1e-5) * std_y + mean_y

    def blocks(self, x: torch.Tensor, net: str, i: int, dilations: tuple[int, ...]) -> tuple[torch.Tensor, int]:
        for dilation in dilations:
            if f"{net}.{i}.mean_x" in self.arrays:
                x, i = self.norm(x, f"{net}.{i}"), i + 1
            body = f"{net}.{i}.aligned.branches.0.net"
            y = self.conv(leaky_relu(x, 0.2), f"{body}.1", dilation=dilation)
            x, i = x + self.conv(leaky_relu(y, 0.2), f"{body}.3"), i + 1
        return x, i

    def encode(self, x: torch.Tensor, config: EncoderConfig) -> torch.Tensor:
        net = "encoder.encoder.net"
        x, i = self.conv(x, f"{net}.0"), 1
        for ratio, dilations in zip(config.ratios, config.dilations, strict=True):
            x, i = self.blocks(x, net, i, dilations)
            kernel = self.kernel(f"{net}.{i + 1}")
            reach = 2 * ratio - 1
            sides = (reach, 0) if self.causal else (ratio - 1, ratio)
            x = conv1d(pad(self.activation(x, f"{net}.{i}"), sides), kernel, None, ratio)
            i += 2
        return self.conv(self.activation(x, f"{net}.{i}"), f"{net}.{i + 1}")

    def decode(self, z: torch.Tensor, config: GeneratorConfig) -> torch.Tensor:
        net = "decoder.net"
        x, i = self.conv(z, f"{net}.0"), 1
        for ratio, dilations in zip(config.ratios[::-1], config.dilations[::-1], strict=True):
            up = self.kernel(f"{net}.{i + 1}")
            x = conv_transpose1d(self.activation(x, f"{net}.{i}"), up, None, ratio, ratio // 2)
            x, i = self.blocks(x, net, i + 2, dilations)
        wave, amplitude = self.conv(self.activation(x, f"{net}.{i}"), f"{net}.{i + 1}").chunk(2, 1)
        return torch.tanh(wave * torch.sigmoid(amplitude))
