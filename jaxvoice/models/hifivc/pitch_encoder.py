"""The pitch encoder of HiFi-VC: from 100 frames of F0 per second to the frames of the content features."""

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifivc.config import PitchEncoderConfig
from jaxvoice.nn import Conv1d, Module, length_mask, masked

_EPS = 1e-5


class PitchEncoder(Module):
    """Maps log F0 and the voicing flag to a code at the frame rate of the content features.

    A convolution with one tap is followed by one strided convolution per stride; a leaky ReLU and, with
    `instance_norm`, a normalisation of each channel over time follow each of them.
    """

    convs: list[Conv1d]
    config: PitchEncoderConfig = eqx.field(static=True)
    keeps_input: bool = eqx.field(static=True)

    def __init__(self, config: PitchEncoderConfig, *, keeps_input: bool = False, key: PRNGKeyArray):
        """Draw weights from torch's default distribution.

        With `keeps_input`, the input has the phase as a third channel, and the values of a frame are appended to its
        code, for the decoder's harmonic source.
        """
        first_key, *keys = jax.random.split(key, 1 + len(config.strides))
        self.config, self.keeps_input = config, keeps_input
        self.convs = [
            Conv1d(2, config.channels, 1, use_bias=False, key=first_key),
            *(
                Conv1d(
                    config.channels,
                    config.channels,
                    kernel,
                    stride=stride,
                    padding=(kernel - stride) // 2,
                    key=k,
                )
                for stride, kernel, k in zip(config.strides, config.kernel_sizes, keys, strict=True)
            ),
        ]

    def __call__(
        self,
        pitch: Float[Array, "*batch subframes rows"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch frames channels"]:
        """**Arguments:**

        - `pitch`: log F0 and voicing flag `(*batch, subframes, 2)`, with `config.downsampling` subframes per frame;
            with `keeps_input`, also the phase `(*batch, subframes, 3)`.
        - `length`: number of valid frames of the output; the rest is padding, of which the valid frames are
            independent.

        **Returns:** the code `(*batch, subframes // config.downsampling, channels)`; with `keeps_input`, three values
        of each subframe are appended to the channels.

        **Raises:** `ShapeError` for another number of channels, or a number of subframes that is not a positive
        multiple of `config.downsampling`.
        """
        ratio, rows = self.config.downsampling, 3 if self.keeps_input else 2
        if pitch.ndim < 2 or pitch.shape[-1] != rows or pitch.shape[-2] == 0 or pitch.shape[-2] % ratio:
            raise ShapeError(
                f"The shape of pitch is {pitch.shape}; it should be (*batch, {ratio} * frames, {rows}), with at least "
                "one frame."
            )
        count = None if length is None else jnp.asarray(length) * ratio
        x = pitch[..., :2]
        for conv in self.convs:
            x = conv(masked(x, _mask(count, x)))
            count = None if count is None else count // conv.stride
            x = jax.nn.leaky_relu(x, self.config.slope)
            if self.config.instance_norm:
                x = _normalise(x, count)
        return self.with_input(x, pitch) if self.keeps_input else x

    def with_input(
        self, code: Float[Array, "*batch frames channels"], pitch: Float[Array, "*batch subframes 3"]
    ) -> Float[Array, "*batch frames more"]:
        """`code` with the values of each frame's subframes as further channels."""
        kept = pitch.reshape(*code.shape[:-1], -1).astype(code.dtype)
        return jnp.concatenate([code, kept], axis=-1)


def _mask(count: Array | None, x: Array):
    return None if count is None else length_mask(count, x.shape[-2], batch=x.shape[:-2])


def _normalise(x: Float[Array, "*batch time channels"], count: Array | None) -> Float[Array, "*batch time channels"]:
    """`x` with mean 0 and variance 1 over the first `count` frames, as `torch.nn.InstanceNorm1d`; in float32."""
    y, mask = x.astype(jnp.float32), _mask(count, x)
    number = y.shape[-2] if mask is None else jnp.maximum(jnp.sum(mask, -1), 1)[..., None, None].astype(jnp.float32)
    y = y - jnp.sum(masked(y, mask), axis=-2, keepdims=True) / number
    variance = jnp.sum(jnp.square(masked(y, mask)), axis=-2, keepdims=True) / number
    return (y * lax.rsqrt(variance + _EPS)).astype(x.dtype)
