"""HiFi-GAN block by block: the streaming form of its generator."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import equinox as eqx
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.hifigan.generator import FINAL_SLOPE, SLOPE, Generator, ResBlock1, ResBlock2, normalised
from jaxvoice.nn import (
    Module,
    ParallelForm,
    PointwiseForm,
    SequenceForm,
    Stream,
    StreamingForm,
    residual_form,
    streaming_form,
)


def generator_stream(generator: Generator, cond: Float[Array, "*batch cond"] | None = None) -> Stream:
    """The generator as a `jaxvoice.nn.Stream` of mel frames to samples.

    The output is delayed by the receptive field to the right, `output_delay` samples. No frame is decoded twice.

    **Arguments:** `generator`, also after `jaxvoice.nn.freeze`; `cond`, the conditioning vector, if it has one.

    **Raises:** `ShapeError` if the generator has a conditioning vector and `cond` is `None`, or vice versa.
    """
    batch = () if cond is None else cond.shape[:-1]
    generator.check_condition(cond, batch)
    vector = None if cond is None else cond[..., None, :]

    def build(start: int) -> StreamingForm:
        return _generator_form(generator, vector, start)

    return Stream(build, generator.config.in_channels, input_delay=0)


def _generator_form(generator: Generator, cond: Array | None, start: int) -> StreamingForm:
    forms: list[StreamingForm] = []

    def add(layer: object) -> None:
        forms.append(streaming_form(layer, forms[-1].next_start if forms else start))

    if generator.config.input_mean:
        add(_Normalisation(generator.config))
    add(generator.conv_pre)
    if generator.cond_layer is not None and cond is not None:
        add(_Conditioning(generator.cond_layer, cond))
    kernels = len(generator.resblocks) // len(generator.ups)
    for i, up in enumerate(generator.ups):
        add(_LeakyReLU(SLOPE))
        add(up)
        if generator.conds is not None and cond is not None:
            add(_Conditioning(generator.conds[i], cond))
        blocks = generator.resblocks[i * kernels : (i + 1) * kernels]
        branches = [_block_form(block, forms[-1].next_start) for block in blocks]
        forms.append(ParallelForm(branches, _mean, keeps_zeros=True))
    add(_AtLeastFloat32())
    add(_LeakyReLU(FINAL_SLOPE))
    add(generator.conv_post)
    add(_Tanh())
    return SequenceForm(forms)


def _block_form(block: ResBlock1 | ResBlock2, start: int) -> StreamingForm:
    """The form of a residual block without conditioning."""
    forms: list[StreamingForm] = []
    if isinstance(block, ResBlock1):
        bodies = [
            [_LeakyReLU(SLOPE), dilated, _LeakyReLU(SLOPE), plain]
            for dilated, plain in zip(block.convs1, block.convs2, strict=True)
        ]
    else:
        bodies = [[_LeakyReLU(SLOPE), conv] for conv in block.convs]
    for body in bodies:
        forms.append(residual_form(body, start))
        start = forms[-1].next_start
    return SequenceForm(forms, path=block.path)


def _mean(outputs: Sequence[Array]) -> Array:
    return sum(outputs[1:], outputs[0]) * jnp.asarray(1 / len(outputs), outputs[0].dtype)


class _Pointwise(Module):
    """A function of each position alone; subclasses define `__call__`."""

    def streaming_form(self, start: int) -> StreamingForm:
        return PointwiseForm(cast(Callable[[Array], Array], self), start)


class _LeakyReLU(_Pointwise):
    slope: float = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, jnp.asarray(self.slope, x.dtype) * x)


class _Normalisation(_Pointwise):
    config: GeneratorConfig = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return normalised(self.config, x)


class _Conditioning(_Pointwise):
    layer: Any
    cond: Array

    def __call__(self, x: Array) -> Array:
        return x + self.layer(self.cond.astype(x.dtype))


class _AtLeastFloat32(_Pointwise):
    def __call__(self, x: Array) -> Array:
        return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


class _Tanh(_Pointwise):
    def __call__(self, x: Array) -> Array:
        return jnp.tanh(x)
