"""Names and shapes of HiFi-GAN's tensors, worked out from a configuration alone, in the order of torch's state dict."""

import itertools
from collections.abc import Sequence

from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig

Shapes = dict[str, tuple[int, ...]]

_SCALE_KERNELS, _SCALE_GROUPS = (15, 41, 41, 41, 41, 41, 5), (1, 4, 16, 16, 16, 16, 1)


def generator_shapes(config: GeneratorConfig) -> Shapes:
    """Shape of every array of a `Generator`, by name."""
    stages = len(config.upsample_rates)
    widths = [config.upsample_initial_channel // 2**i for i in range(stages + 1)]
    shapes = _conv("conv_pre", widths[0], (widths[0], config.num_mels, 7), config.conv_pre_weight_norm)
    for i, kernel in enumerate(config.upsample_kernel_sizes):
        shapes |= _conv(f"ups.{i}", widths[i + 1], (widths[i], widths[i + 1], kernel))
    names = ("convs1", "convs2") if config.resblock == "1" else ("convs",)
    blocks = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
    for n in range(stages * len(blocks)):
        width, (kernel, dilations) = widths[n // len(blocks) + 1], blocks[n % len(blocks)]
        for name in names:
            for j in range(len(dilations)):
                shapes |= _conv(f"resblocks.{n}.{name}.{j}", width, (width, width, kernel))
    bias = 1 if config.conv_post_bias else None
    shapes |= _conv("conv_post", bias, (1, widths[-1], 7), config.conv_post_weight_norm)
    if config.cond_channels:
        shapes |= _conv("cond_layer", widths[0], (widths[0], config.cond_channels, 1), weight_norm=False)
    if config.cond_in_each_stage:
        for i, width in enumerate(widths[1:]):
            shapes |= _conv(f"conds.{i}", width, (width, config.cond_channels, 1), weight_norm=False)
    return shapes


def period_shapes(config: DiscriminatorConfig) -> Shapes:
    """Shape of every array of a `MultiPeriodDiscriminator`, by name."""
    widths, shapes = _widths(config, (1, 32, 128, 512, 1024, 1024)), {}
    for n in range(len(config.periods)):
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            shapes |= _conv(f"discriminators.{n}.convs.{i}", wide, (wide, narrow, 5, 1))
        shapes |= _conv(f"discriminators.{n}.conv_post", 1, (1, widths[-1], 3, 1))
    return shapes


def scale_shapes(config: DiscriminatorConfig) -> Shapes:
    """Shape of every array of a `MultiScaleDiscriminator` and of its spectral norm's vectors, by name."""
    widths, shapes = _widths(config, (1, 128, 128, 256, 512, 1024, 1024, 1024)), {}
    for n in range(config.scales):
        make = _spectral if n == 0 else _conv
        layers = zip(widths, widths[1:], _SCALE_KERNELS, _SCALE_GROUPS, strict=False)
        for i, (narrow, wide, kernel, groups) in enumerate(layers):
            shapes |= make(f"discriminators.{n}.convs.{i}", wide, (wide, narrow // groups, kernel))
        shapes |= make(f"discriminators.{n}.conv_post", 1, (1, widths[-1], 3))
    return shapes


def is_vector(name: str) -> bool:
    """Whether `name`, below `msd`, is a vector of spectral norm: state, not a parameter.

    In the first scale `weight_v` is spectral norm's; elsewhere it is weight norm's.
    """
    return name.startswith("discriminators.0.") and name.endswith(("weight_u", "weight_v"))


def _widths(config: DiscriminatorConfig, released: Sequence[int]) -> list[int]:
    return [config.channels(width) for width in released]


def _conv(name: str, bias: int | None, weight: tuple[int, ...], weight_norm: bool = True) -> Shapes:
    if not weight_norm:
        return {f"{name}.weight": weight} | _bias(name, bias)
    norm = (weight[0], *(1 for _ in weight[1:]))
    return _bias(name, bias) | {f"{name}.weight_g": norm, f"{name}.weight_v": weight}


def _spectral(name: str, bias: int, weight: tuple[int, ...]) -> Shapes:
    vectors = {f"{name}.weight_u": weight[:1], f"{name}.weight_v": (weight[1] * weight[2],)}
    return _bias(name, bias) | {f"{name}.weight_orig": weight} | vectors


def _bias(name: str, size: int | None) -> Shapes:
    return {} if size is None else {f"{name}.bias": (size,)}
