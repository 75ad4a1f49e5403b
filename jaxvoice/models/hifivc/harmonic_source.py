"""A harmonic source for the decoder: a signal with the F0 of the source, from which it shapes the voice."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.models.hifivc.config import source_kernel
from jaxvoice.nn import Conv1d, Module

_SMALLEST_SINE = 1e-3


class HarmonicSource(Module):
    """All harmonics of F0 up to the Nyquist frequency, as an input of every stage of the decoder.

    The signal has a power of 1 in voiced frames, and is 0 in unvoiced ones and for F0 above the Nyquist frequency. A
    strided convolution per stage brings it to the sample rate of the stage. It is not part of HiFi-VC; the idea is that
    of neural source-filter models (arXiv 1904.12088), with a fixed sum of harmonics.
    """

    convs: list[Conv1d]
    sample_rate: int = eqx.field(static=True)
    subframe: int = eqx.field(static=True)

    def __init__(
        self,
        widths: Sequence[int],
        rates: Sequence[int],
        *,
        sample_rate: int,
        subframe: int,
        key: PRNGKeyArray,
    ):
        """**Arguments:** `widths` and `rates`, the channels and upsampling factors of the stages; `sample_rate` of the
        output in Hz; `subframe`, the number of samples for which a value of F0 holds."""
        strides = [math.prod(rates[i + 1 :]) for i in range(len(rates))]
        keys = jax.random.split(key, len(strides))
        self.convs = []
        for width, stride, conv_key in zip(widths, strides, keys, strict=True):
            kernel = source_kernel(stride)
            self.convs.append(Conv1d(1, width, kernel, stride=stride, padding=(kernel - stride) // 2, key=conv_key))
        self.sample_rate, self.subframe = sample_rate, subframe

    def __call__(self, pitch: Float[Array, "*batch subframes 3"]) -> list[Float[Array, "*batch time channels"]]:
        """The input of each stage from log F0, voicing flag, and the phase at the start of each subframe in cycles."""
        signal = self.signal(pitch)
        return [conv(signal) for conv in self.convs]

    def signal(self, pitch: Float[Array, "*batch subframes 3"]) -> Float[Array, "*batch samples 1"]:
        """The harmonics at the sample rate, in float32."""
        log_f0, voiced, phase = (pitch[..., i, None].astype(jnp.float32) for i in range(3))
        f0 = jnp.exp(log_f0)
        time = (jnp.arange(self.subframe, dtype=jnp.float32) / self.sample_rate).reshape(
            *(1 for _ in log_f0.shape[1:]), -1
        )
        cycles = phase + f0 * time
        angle = jnp.pi * (cycles - jnp.floor(cycles))
        count = jnp.floor(self.sample_rate / 2 / f0)
        # The sum of cosines is that of a geometric series; near a multiple of a cycle, all of them are 1.
        sine = jnp.sin(angle)
        small = jnp.abs(sine) < _SMALLEST_SINE
        total = (jnp.sin((2 * count + 1) * angle) / jnp.where(small, jnp.float32(1), sine) - 1) / 2
        total = jnp.where(small, count, total) * jnp.sqrt(2 / jnp.maximum(count, 1))
        return (total * voiced).reshape(*pitch.shape[:-2], -1, 1)
