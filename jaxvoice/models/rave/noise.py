"""The noise branch of RAVE's generators: white noise, filtered with predicted amplitudes of frequency bands."""

from typing import Literal

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from jaxvoice.dsp.framing import hann_window
from jaxvoice.errors import ShapeError
from jaxvoice.models.rave.config import NoiseConfig
from jaxvoice.models.rave.layers import LeakyReLU, apply_all, conv
from jaxvoice.nn import (
    Conv1d,
    IndexForm,
    Module,
    SequenceForm,
    StreamingForm,
    draw_for_positions,
    operation,
    streaming_form,
)


def scaled_sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`2 sigmoid(x)^2.3 + 1e-7`, the scale of amplitudes in DDSP (arXiv 2001.04643) and RAVE."""
    return 2 * jax.nn.sigmoid(x) ** 2.3 + 1e-7


def impulse_responses(amplitudes: Float[Array, "*batch bands"], length: int) -> Float[Array, "*batch {length}"]:
    """Filters with zero phase and the given amplitudes in bands from 0 to Nyquist.

    A filter has `2 * (bands - 1)` taps under a Hann window. The taps before time 0 are at the end of the result. If
    `length` is smaller than the number of taps, the first `length` taps are kept, as in the release.

    acids-ircam/RAVE `rave/core.py:amp_to_impulse_response`.
    """
    taps = 2 * (amplitudes.shape[-1] - 1)
    response = jnp.roll(jnp.fft.irfft(amplitudes, n=taps), taps // 2, -1)
    window = hann_window(taps, taps).astype(np.float32).reshape((1,) * (amplitudes.ndim - 1) + (-1,))
    response = (response * window)[..., :length]
    edges = [(0, 0)] * (amplitudes.ndim - 1) + [(0, max(0, length - taps))]
    return jnp.roll(jnp.pad(response, edges), -(taps // 2), -1)


def filter_frames(signal: Float[Array, "*batch length"], response: Float[Array, "*batch length"]):
    """The first `length` samples of the convolution of both arguments; frames do not overlap.

    acids-ircam/RAVE `rave/core.py:fft_convolve`.
    """
    length = signal.shape[-1]
    product = jnp.fft.rfft(signal, n=2 * length) * jnp.fft.rfft(response, n=2 * length)
    return jnp.fft.irfft(product, n=2 * length)[..., :length]


class NoiseGenerator(Module):
    """Noise whose frequency bands have amplitudes that a network computes from features.

    acids-ircam/RAVE `rave/blocks.py:NoiseGenerator` and `NoiseGeneratorV2`.
    """

    net: list[Conv1d | LeakyReLU]
    out_channels: int = eqx.field(static=True)
    frame_length: int = eqx.field(static=True)

    def __init__(
        self,
        config: NoiseConfig,
        in_channels: int,
        out_channels: int,
        *,
        version: Literal["v1", "v2"] = "v2",
        causal: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** `version`: convolutions have three taps in v1; in v2, they have twice as many taps as their
        stride, and are padded on the left. `causal`: whether those of v1 are padded on the left only.
        """
        hidden = in_channels if config.hidden_size is None else config.hidden_size
        widths = [in_channels, *[hidden] * (len(config.ratios) - 1), out_channels * config.bands]
        net: list[Conv1d | LeakyReLU] = []
        for i, (ratio, k) in enumerate(zip(config.ratios, jax.random.split(key, len(config.ratios)), strict=True)):
            net += [LeakyReLU()] if net else []
            if version == "v1":
                net.append(conv(widths[i], widths[i + 1], 3, stride=ratio, weight_norm=False, causal=causal, key=k))
            else:
                options = {"stride": ratio, "padding": (ratio, 0), "use_bias": False, "key": k}
                net.append(Conv1d(widths[i], widths[i + 1], 2 * ratio, **options))
        self.net, self.out_channels, self.frame_length = net, out_channels, config.frame_length

    @operation
    def amplitudes(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch frames out bands"]:
        """Amplitudes of the noise of each frame of `frame_length` samples, output channel and band.

        **Raises:** `ShapeError` unless the length of `x` is a multiple of `frame_length`.
        """
        if x.ndim < 2 or x.shape[-2] % self.frame_length or x.shape[-2] == 0:
            raise ShapeError(
                f"The shape of the input of the noise branch is {x.shape}; it should be (*batch, time, channels) with "
                f"a multiple of {self.frame_length} time steps."
            )
        return _amplitudes(apply_all(self.net, x), self.out_channels)

    def __call__(
        self,
        x: Float[Array, "*batch time in"],
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "*batch frames out frame_length"] | None = None,
    ) -> Float[Array, "*batch time out"]:
        """Filtered noise.

        **Arguments:**

        - `x`: features `(*batch, time, in)`.
        - `key`: draws the noise; without `key` and `noise`, the result is zero.
        - `noise`: uniform in [-1, 1), instead of noise drawn with `key`.

        **Raises:** `ShapeError` for another length of `x`, or another shape of `noise`.
        """
        amplitudes = self.amplitudes(x)
        shape = (*amplitudes.shape[:-1], self.frame_length)
        if noise is None:
            noise = jnp.zeros(shape) if key is None else jax.random.uniform(key, shape, minval=-1, maxval=1)
        if noise.shape != shape:
            raise ShapeError(f"The shape of noise is {noise.shape}; it should be {shape}.")
        return _filtered(amplitudes, noise)

    def frame_noise(
        self, key: PRNGKeyArray, numbers: Int32[Array, " frames"], *, batch: tuple[int, ...] = ()
    ) -> Float[Array, "*batch frames out frame_length"]:
        """The noise that a stream with `key` draws for frames with the given numbers.

        The noise of a frame depends on its number, and not on the blocks in which frames arrive. Frame 0 is the first
        one of the signal.
        """
        return _frame_noise(key, numbers, (*batch, self.out_channels, self.frame_length))

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the states of the layers and the number of the next frame. The noise is `frame_noise`."""
        net = streaming_form(self.net, start)
        noise = _NoiseOfFrames(self.out_channels, self.frame_length)
        return SequenceForm([net, IndexForm(noise, net.next_start, draws=True, rate=self.frame_length)], path=self.path)


class _NoiseOfFrames(Module):
    """Filtered noise from the output of the network of a `NoiseGenerator`; silence without a key."""

    out_channels: int = eqx.field(static=True)
    frame_length: int = eqx.field(static=True)

    def __call__(self, x: Array, numbers: Array, key: PRNGKeyArray | None) -> Array:
        if key is None:
            return jnp.zeros((*x.shape[:-2], x.shape[-2] * self.frame_length, self.out_channels), x.dtype)
        noise = _frame_noise(key, numbers, (*x.shape[:-2], self.out_channels, self.frame_length))
        return _filtered(_amplitudes(x, self.out_channels), noise)


def _amplitudes(x: Float[Array, "*batch frames values"], channels: int) -> Float[Array, "*batch frames out bands"]:
    y = scaled_sigmoid(x - 5)
    return y.reshape(*y.shape[:-1], channels, -1)


def _filtered(amplitudes: Array, noise: Array) -> Float[Array, "*batch time out"]:
    *batch, frames, channels, _ = amplitudes.shape
    filtered = filter_frames(noise, impulse_responses(amplitudes.astype(jnp.float32), noise.shape[-1]))
    return filtered.swapaxes(-1, -2).reshape(*batch, frames * noise.shape[-1], channels).astype(amplitudes.dtype)


def _frame_noise(key: PRNGKeyArray, numbers: Array, shape: tuple[int, ...]) -> Array:
    return draw_for_positions(
        lambda frame_key: jax.random.uniform(frame_key, shape, minval=-1, maxval=1), key, numbers, len(shape) - 2
    )
