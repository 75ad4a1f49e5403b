"""The speaker encoder of HiFi-VC: a variational encoder of reference mel spectrograms."""

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifivc.config import SpeakerVAEConfig
from jaxvoice.nn import Conv1d, Module, average_pool1d, length_mask, masked

_SMALLEST_DEVIATION = 1e-5

_Mask = Bool[Array, "*batch time"] | None


class SpeakerPosterior(eqx.Module):
    """A normal distribution of speaker vectors with independent components."""

    mean: Float[Array, "*batch size"]
    log_variance: Float[Array, "*batch size"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*batch size"]:
        """A random speaker vector for each example."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_variance * 0.5) * noise


def kl_divergence(posterior: SpeakerPosterior) -> Float[Array, "*batch"]:
    """The Kullback-Leibler divergence from the standard normal distribution, in nats, summed over components."""
    mean, log_variance = (x.astype(jnp.float32) for x in (posterior.mean, posterior.log_variance))
    # With exp(x) - 1, a result near 0 would be rounded to a multiple of 1e-7.
    return 0.5 * jnp.sum(jnp.square(mean) + (jnp.expm1(log_variance) - log_variance), axis=-1)


class DownBlock(Module):
    """A residual block that halves the number of frames by average pooling.

    `first_conv` has the width of the input, and `second_conv` the width of the output. Without a change of width there
    is no `conv_skip`.
    """

    conv_skip: Conv1d | None
    first_conv: Conv1d
    second_conv: Conv1d
    slope: float = eqx.field(static=True)

    def __init__(self, in_channels: int, out_channels: int, config: SpeakerVAEConfig, *, key: PRNGKeyArray):
        skip_key, first_key, second_key = jax.random.split(key, 3)
        self.conv_skip = None
        if in_channels != out_channels:
            self.conv_skip = Conv1d(
                in_channels, out_channels, 1, use_bias=config.skip_bias, weight_norm=True, key=skip_key
            )
        self.first_conv = Conv1d(in_channels, in_channels, 3, padding=1, weight_norm=True, key=first_key)
        self.second_conv = Conv1d(in_channels, out_channels, 1, weight_norm=True, key=second_key)
        self.slope = config.slope

    def __call__(
        self, x: Float[Array, "*batch time in"], *, mask: _Mask = None
    ) -> Float[Array, "*batch half_time out"]:
        """The output has half as many frames as `x`, rounded down. `first_conv` reads zeros where `mask` is false."""
        # A convolution with one tap and average pooling commute. Pooling first halves the work.
        skip = _halve(x)
        skip = skip if self.conv_skip is None else self.conv_skip(skip)
        y = self.first_conv(masked(jax.nn.leaky_relu(x, self.slope), mask))
        return skip + self.second_conv(jax.nn.leaky_relu(_halve(y), self.slope))


def _halve(x: Array) -> Array:
    return average_pool1d(x, window=2, stride=2, padding=0)


class SpeakerEncoder(Module):
    """Maps a reference mel spectrogram to the distribution of its speaker vector.

    Attribute paths are the names of weights in the released archive below `_voice_conversion.speaker_encoder`.
    """

    pre_conv: Conv1d
    convs: list[DownBlock]
    mean_conv: Conv1d
    std_conv: Conv1d
    config: SpeakerVAEConfig = eqx.field(static=True)

    def __init__(self, config: SpeakerVAEConfig, *, key: PRNGKeyArray):
        """Draw weights from torch's default distribution."""
        pre_key, mean_key, deviation_key, *keys = jax.random.split(key, 2 + len(config.widths))
        self.config = config
        self.pre_conv = Conv1d(config.in_channels, config.widths[0], 3, padding=config.pre_conv_padding, key=pre_key)
        self.convs = [
            DownBlock(narrow, wide, config, key=k)
            for narrow, wide, k in zip(config.widths, config.widths[1:], keys, strict=False)
        ]
        self.mean_conv = Conv1d(config.widths[-1], config.size, 1, weight_norm=True, key=mean_key)
        self.std_conv = Conv1d(config.widths[-1], config.size, 1, weight_norm=True, key=deviation_key)

    def __call__(
        self, mel: Float[Array, "*batch frames mels"], *, length: Int[Array, "*batch"] | int | None = None
    ) -> SpeakerPosterior:
        """**Arguments:**

        - `mel`: log-mel spectrogram of the reference `(*batch, frames, mels)`.
        - `length`: number of valid frames; the rest is padding, of which the result is independent.

        **Returns:** the distribution of the speaker vector, with arrays of shape `(*batch, size)`.

        **Raises:** `ShapeError` for another number of mel bands, or fewer frames than `config.minimum_frames`. A
        `length` below this number raises it only outside `jax.jit`; inside, the result is undefined.
        """
        self._check(mel, length)
        length = None if length is None else jnp.asarray(length)
        batch = mel.shape[:-2]
        x = self.pre_conv(masked(mel, _mask(length, mel.shape[-2], batch)))
        if length is not None:
            length = length - 2 * (1 - self.config.pre_conv_padding)
        for block in self.convs:
            x = block(x, mask=_mask(length, x.shape[-2], batch))
            length = None if length is None else length // 2
        mean, deviation = self._heads(x, _mask(length, x.shape[-2], batch))
        return SpeakerPosterior(mean, self._log_variance(deviation))

    def _heads(self, x: Array, mask: _Mask) -> tuple[Array, Array]:
        if self.config.pooling == "before_heads":
            x = _mean(x, mask)[..., None, :]
        if self.config.head_slope is not None:
            x = jax.nn.leaky_relu(x, self.config.head_slope)
        mean, deviation = self.mean_conv(x), self.std_conv(x)
        if self.config.pooling == "before_heads":
            return mean[..., 0, :], deviation[..., 0, :]
        return _mean(mean, mask), _mean(deviation, mask)

    def _log_variance(self, x: Array) -> Array:
        if self.config.deviation == "log_variance":
            return x
        if self.config.deviation == "log_deviation":
            return 2 * x
        return 2 * jnp.log(jnp.maximum(jnp.abs(x), jnp.asarray(_SMALLEST_DEVIATION, x.dtype)))

    def _check(self, mel: Array, length: Array | int | None) -> None:
        mels, least = self.config.in_channels, self.config.minimum_frames
        if mel.ndim < 2 or mel.shape[-1] != mels:
            raise ShapeError(f"The shape of mel is {mel.shape}; it should be (*batch, frames, {mels}).")
        frames = mel.shape[-2]
        if length is not None and not isinstance(length, Tracer):
            frames = min([frames, *np.asarray(length).ravel().tolist()])
        if frames < least:
            raise ShapeError(
                f"The reference has {frames} mel frames; it should have at least {least}, because the speaker encoder "
                f"halves them {len(self.convs)} times. Use a longer recording of the speaker."
            )


def _mask(length: Array | None, time: int, batch: tuple[int, ...]) -> _Mask:
    return None if length is None else length_mask(length, time, batch=batch)


def _mean(x: Float[Array, "*batch time channels"], mask: _Mask) -> Float[Array, "*batch channels"]:
    """The mean over time, of the frames where `mask` is true."""
    if mask is None:
        return jnp.mean(x, axis=-2)
    count = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(x.dtype)
    return jnp.sum(masked(x, mask), axis=-2) / count
