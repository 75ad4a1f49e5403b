"""Floating-point operations of the benchmarked work, in units of 10^9 (GFLOP).

A multiplication and an addition count as two operations. The counts of HiFi-GAN and of the mel front end are closed
formulas of the plain algorithms: direct convolutions, and real FFTs of 2.5 N log2 N operations. `traced_gflop` sums the
matrix products and convolutions of any JAX function. Activations, norms and optimisers are not counted. The counts do
not depend on the engine, so an engine that needs fewer operations can exceed the rate of a matrix product.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig, HiFiGANConfig

GIGA = 1e9


def generator_gflop(config: GeneratorConfig, frames: int) -> float:
    """Forward pass of HiFi-GAN's generator for `frames` mel frames (arXiv 2010.05646, section 2.2)."""
    time, channels = frames, config.upsample_initial_channel
    operations = 2 * time * config.in_channels * channels * 7
    per_dilation = 2 if config.resblock == "1" else 1
    taps = per_dilation * sum(
        kernel * len(dilations)
        for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    )
    for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        operations += 2 * time * channels * (channels // 2) * kernel
        time, channels = time * rate, channels // 2
        operations += 2 * time * channels**2 * taps
    return (operations + 2 * time * channels * 7) / GIGA


def period_discriminators_gflop(config: DiscriminatorConfig, samples: int) -> float:
    """Forward pass of the multi-period discriminator on one clip (arXiv 2010.05646, section 2.3)."""
    channels = [config.channels(released) for released in (1, 32, 128, 512, 1024, 1024)]
    operations = 0
    for period in config.periods:
        frames = -(-samples // period)
        for narrow, wide, stride in zip(channels, channels[1:], (3, 3, 3, 3, 1), strict=False):
            frames = (frames - 1) // stride + 1
            operations += 2 * frames * period * narrow * wide * 5
        operations += 2 * frames * period * channels[-1] * 3
    return operations / GIGA


def scale_discriminators_gflop(config: DiscriminatorConfig, samples: int) -> float:
    """Forward pass of the multi-scale discriminator on one clip (arXiv 2010.05646, section 2.3)."""
    channels = [config.channels(released) for released in (1, 128, 128, 256, 512, 1024, 1024, 1024)]
    kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)
    operations = 0
    for scale in range(config.scales):
        samples = samples // 2 + 1 if scale else samples
        time = samples
        for narrow, wide, kernel, stride, group in zip(channels, channels[1:], kernels, strides, groups, strict=False):
            time = (time - 1) // stride + 1
            operations += 2 * time * (narrow // group) * wide * kernel
        operations += 2 * time * channels[-1] * 3
    return operations / GIGA


def train_step_gflop(config: HiFiGANConfig, batch: int, segment: int) -> float:
    """A training step of HiFi-GAN, without the unused gradients of the release (jik876/hifi-gan `train.py`).

    Generator: forward pass and both gradients, 3 times the forward pass. Discriminators, per crop: 6 forward passes'
    worth on real and generated audio in their own update, and 3 in the generator's (forward passes on both, and the
    gradient with respect to the generated audio).
    """
    generator = generator_gflop(config.generator, segment // config.mel.hop_length)
    discriminators = period_discriminators_gflop(config.discriminators, segment)
    discriminators += scale_discriminators_gflop(config.discriminators, segment)
    return batch * (3 * generator + 9 * discriminators)


def mel_gflop(config: MelConfig, samples: int) -> float:
    """Log-mel spectrogram of `samples` samples: a real FFT per frame, and the product with the filter bank."""
    frames, bins = samples // config.hop_length, config.n_fft // 2 + 1
    return frames * (2.5 * config.n_fft * math.log2(config.n_fft) + 2 * bins * config.num_mels) / GIGA


def upsampling_gflop(batch: int, phones: int, frames: int, dim: int) -> float:
    """The product of the weights of Gaussian upsampling and the hidden states of the phonemes."""
    return 2 * batch * phones * frames * dim / GIGA


def traced_gflop(function: Callable[..., Any], *arguments: Any) -> float:
    """Matrix products and convolutions of a JAX function for these arguments or shapes of arguments, loops included.

    **Raises:** `ValueError` for a `while` loop, whose number of iterations is not part of the program.
    """
    import equinox as eqx

    traced, _, _ = eqx.filter_make_jaxpr(function)(*arguments)
    return _operations(traced.jaxpr) / GIGA


def _operations(jaxpr: Any) -> float:
    return sum(_of_equation(equation.primitive.name, equation) for equation in jaxpr.eqns)


def _of_equation(name: str, equation: Any) -> float:
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out_axis = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec[0]
        per_output = math.prod(kernel) // kernel[out_axis]
        holes = math.prod(equation.params["lhs_dilation"])  # zeros between the inputs need no multiplications
        return 2 * math.prod(equation.outvars[0].aval.shape) * per_output / holes
    if name == "while":
        raise ValueError("A while loop has no fixed number of iterations; count its body separately.")
    inner = [_operations(jaxpr) for jaxpr in _jaxprs(equation.params)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def _jaxprs(params: Mapping[str, Any]) -> list[Any]:
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                found.append(jaxpr)
    return found
