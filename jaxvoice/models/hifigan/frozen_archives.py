"""Generators in frozen TorchScript archives (`torch.jit.freeze`), which have lost the names of their weights.

The weights are constants in the code. The order of the convolutions in the code, and their strides and dilations,
determine the layers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jaxvoice.weights.archive import Archive, TensorInfo, Tensors

_LONGEST_CODE = 2 * 2**20
_NUMBER = r"\[([0-9]{1,6})\]"
_CONVOLUTION = re.compile(
    r"torch\.(_convolution|conv1d|conv_transpose1d)\(\s*\w+,\s*CONSTANTS\.(c[0-9]+),\s*(?:CONSTANTS\.(c[0-9]+)|None),\s*"
    rf"{_NUMBER},\s*{_NUMBER},\s*{_NUMBER},\s*(True|False|[0-9]+)"
)


@dataclass(frozen=True)
class _Convolution:
    weight: str
    bias: str | None
    stride: int
    dilation: int
    transposed: bool
    kernel: int


@dataclass(frozen=True)
class FrozenGenerator:
    """A generator whose weights are constants."""

    names: Mapping[str, str]
    """The name of the constant for each tensor, by its name in files of jik876/hifi-gan."""
    sizes: Mapping[str, Any]
    """Fields of `GeneratorConfig` that the code determines: strides and dilations."""

    def tensors(self, tensors: Tensors) -> Tensors:
        """The constants under the names of jik876/hifi-gan, followed by the other tensors."""
        used = set(self.names.values())
        names = {**self.names, **{name: name for name in tensors if name not in used}}
        renamed = tensors.renamed(names)
        infos = {
            name: TensorInfo(info.shape, info.dtype, info.storage) if name in self.names else info
            for name, info in renamed.infos().items()
        }
        return Tensors(infos, lambda name: renamed[name])


def frozen_generator(archive: Archive) -> FrozenGenerator | None:
    """The generator in a frozen archive; `None` if the code is not that of a HiFi-GAN."""
    code = getattr(archive, "code", None)
    if not code or "CONSTANTS.c0" not in archive.tensors:
        return None
    texts = [text for text in (code[name] for name in code) if "CONSTANTS.c" in text]
    if len(texts) != 1 or len(texts[0]) > _LONGEST_CODE:
        return None
    found = _convolutions(texts[0], archive.tensors.infos())
    ups = [index for index, layer in enumerate(found) if layer.transposed]
    if len(found) < 4 or not ups or ups[0] != 1:
        return None
    layers = {"conv_pre": found[0], "conv_post": found[-1]}
    blocks: list[list[_Convolution]] = []
    for stage, index in enumerate(ups):
        layers[f"ups.{stage}"] = found[index]
        end = ups[stage + 1] if stage + 1 < len(ups) else len(found) - 1
        blocks += [list(group) for _, group in groupby(found[index + 1 : end], key=lambda layer: layer.kernel)]
    kernels = len(blocks) // len(ups)
    if not kernels or any(len(block) != len(blocks[n % kernels]) for n, block in enumerate(blocks)):
        return None
    paired = all(len(block) % 2 == 0 and all(layer.dilation == 1 for layer in block[1::2]) for block in blocks)
    for n, block in enumerate(blocks):
        for j, layer in enumerate(block):
            name = f"convs{1 + j % 2}.{j // 2}" if paired else f"convs.{j}"
            layers[f"resblocks.{n}.{name}"] = layer
    names = {f"{name}.weight": f"CONSTANTS.{layer.weight}" for name, layer in layers.items()}
    names |= {f"{name}.bias": f"CONSTANTS.{layer.bias}" for name, layer in layers.items() if layer.bias}
    sizes = {
        "upsample_rates": tuple(found[index].stride for index in ups),
        "resblock_dilation_sizes": tuple(
            tuple(layer.dilation for layer in (block[::2] if paired else block)) for block in blocks[:kernels]
        ),
    }
    return FrozenGenerator(names, sizes)


def _convolutions(code: str, infos: Mapping[str, TensorInfo]) -> list[_Convolution]:
    found = []
    for match in _CONVOLUTION.finditer(code):
        kind, weight, bias, stride, _, third, fourth = match.groups()
        info = infos.get(f"CONSTANTS.{weight}")
        if info is None or len(info.shape) != 3 or (bias and f"CONSTANTS.{bias}" not in infos):
            return []
        transposed = kind == "conv_transpose1d" or fourth == "True"
        # The third list of conv_transpose1d is the padding of the output.
        dilation = 1 if kind == "conv_transpose1d" else int(third)
        found.append(_Convolution(weight, bias, int(stride), dilation, transposed, info.shape[-1]))
    return found
