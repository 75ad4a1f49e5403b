"""The decoder of XTTS for latents that arrive in parts: audio that equals that of all latents at once."""

import math
from fractions import Fraction

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.streaming import generator_stream
from jaxvoice.models.xtts.decoder import HiFiDecoder, neighbours
from jaxvoice.nn import Stream, StreamState

_Vectors = Float32[np.ndarray, "time channels"]
_BLOCKS = (64, 16)  # frames that are decoded at once, the largest first


class Interpolation:
    """`jaxvoice.models.xtts.interpolate` of a signal that arrives in parts.

    An output that lies between an input and the next one is returned when the next one has arrived. The concatenated
    results equal that of the whole signal.
    """

    def __init__(self, scale: Fraction):
        """**Arguments:** `scale`, the ratio of output and input positions."""
        self.scale = scale
        self._held: _Vectors | None = None  # the inputs that are still needed
        self._first = 0  # the position of the first of them
        self._arrived = self._given = 0

    def push(self, x: _Vectors) -> _Vectors:
        """The outputs that are determined by the inputs so far."""
        self._held = x if self._held is None else np.concatenate([self._held, x])
        self._arrived += len(x)
        # The output i lies before the last input if (i + 1/2) / scale < inputs - 1/2.
        before_last = math.ceil((self._arrived - Fraction(1, 2)) * self.scale - Fraction(1, 2))
        return self._outputs(min(before_last, self._length))

    def finish(self) -> _Vectors:
        """The rest of the outputs, which repeat the last input where the next one would be needed.

        A signal has at least one output.
        """
        return self._outputs(max(1, self._length))

    @property
    def _length(self) -> int:
        return math.floor(self._arrived * self.scale)

    def _outputs(self, stop: int) -> _Vectors:
        """The outputs before the position `stop` that were not returned."""
        assert self._held is not None
        before, after, share = neighbours(self._arrived, self.scale, self._given, stop + 1)
        share = share.astype(np.float32)[:-1, None]
        held, first = self._held, self._first
        y = held[before[:-1] - first] * (1 - share) + held[after[:-1] - first] * share
        self._given = max(self._given, stop)
        self._held, self._first = held[before[-1] - first :], int(before[-1])
        return y


def decoder_scales(decoder: HiFiDecoder, speed: float = 1.0) -> list[Fraction]:
    """The factors by which latents are interpolated: with a `speed` other than 1 by its inverse, then to frames."""
    slower = [] if speed == 1 else [1 / Fraction(speed).limit_denominator(10**6)]
    return [*slower, *decoder.scales]


def decoder_features(latents: _Vectors, scales: list[Fraction]) -> _Vectors:
    """`latents`, interpolated by each of `scales` in turn; as `HiFiDecoder.features`, with NumPy for any length."""
    for scale in scales:
        interpolation = Interpolation(scale)
        latents = np.concatenate([interpolation.push(latents), interpolation.finish()])
    return latents


class DecoderStream:
    """The decoder of one voice for latents of the language model that arrive in parts.

    The concatenated results of `push` and `finish` equal the audio of all latents up to rounding, for any division.
    The work is proportional to the number of latents: layers keep the inputs that they need again, instead of decoding
    them again. Programs are compiled for blocks of two lengths and for the end. The audio is late by the receptive
    field of the generator, by less than 16 frames that wait for a complete block, and by the latents on which the
    interpolation depends.

    **Attributes:** `stream`, the `jaxvoice.nn.Stream` of the generator.
    """

    def __init__(
        self, decoder: HiFiDecoder, speaker: Float[Array, " dim"] | Float32[np.ndarray, " dim"], *, speed: float = 1.0
    ):
        """**Arguments:** `decoder`, whose generator may be frozen by `jaxvoice.nn.freeze`; `speaker`, the vector of
        the speaker, of norm 1; `speed`, relative speed of the speech.

        **Raises:** `ShapeError` for a vector of another size.
        """
        self.stream = generator_stream(decoder.waveform_decoder, jnp.asarray(speaker))
        self._interpolations = [Interpolation(scale) for scale in decoder_scales(decoder, speed)]
        self._hop = decoder.hop_length
        self._state: StreamState = _init(self.stream)
        self._frames = np.zeros((0, self.stream.channels), np.float32)  # that were not decoded
        self._silent = self.stream.output_delay  # samples before the audio that were not dropped
        self._empty = True

    def push(self, latents: Float[Array, "codes channels"] | _Vectors) -> Float32[np.ndarray, " samples"]:
        """The audio that is determined by the latents so far; may be empty.

        **Raises:** `ShapeError` for latents of another size.
        """
        x = np.asarray(latents, np.float32)
        if x.ndim != 2 or x.shape[1] != self.stream.channels:
            raise ShapeError(f"latents has shape {x.shape}; it should be (codes, {self.stream.channels}).")
        if not len(x):
            return np.zeros(0, np.float32)
        self._empty = False
        for interpolation in self._interpolations:
            x = interpolation.push(x)
            if not len(x):
                break
        return self._decode(x)

    def finish(self) -> Float32[np.ndarray, " samples"]:
        """The rest of the audio after the last latent.

        **Raises:** `ShapeError` if there were no latents.
        """
        if self._empty:
            raise ShapeError("The stream has no latents; it should have at least one before it ends.")
        x = np.zeros((0, self.stream.channels), np.float32)
        for interpolation in self._interpolations:
            x = np.concatenate([interpolation.push(x), interpolation.finish()])
        audio, count = self._decode(x), len(self._frames)
        last = np.zeros((_BLOCKS[-1], self.stream.channels), np.float32)
        last[:count] = self._frames
        samples = np.asarray(_finish(self.stream, self._state, jnp.asarray(last), jnp.int32(count)))[:, 0]
        return np.concatenate([audio, samples[self._silent : self.stream.rest(count)]])

    def _decode(self, frames: _Vectors) -> Float32[np.ndarray, " samples"]:
        """The audio of all complete blocks."""
        frames, parts = np.concatenate([self._frames, frames]), [np.zeros(0, np.float32)]
        for size in _BLOCKS:
            while len(frames) >= size:
                self._state, samples = _step(self.stream, self._state, jnp.asarray(frames[:size]))
                dropped = min(self._silent, len(samples))
                parts.append(np.asarray(samples)[dropped:, 0])
                self._silent -= dropped
                frames = frames[size:]
        self._frames = frames
        return np.concatenate(parts)


@eqx.filter_jit
def _init(stream: Stream) -> StreamState:
    return stream.init_state()


@eqx.filter_jit
def _step(
    stream: Stream, state: StreamState, frames: Float[Array, "frames channels"]
) -> tuple[StreamState, Float[Array, "samples 1"]]:
    return stream.step(state, frames)


@eqx.filter_jit
def _finish(
    stream: Stream, state: StreamState, frames: Float[Array, "frames channels"], count: Int[Array, ""]
) -> Float[Array, "samples 1"]:
    return stream.finish_block(state, frames, count)
