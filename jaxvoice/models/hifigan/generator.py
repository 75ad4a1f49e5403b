"""The HiFi-GAN generator: transposed convolutions, each followed by multi-receptive-field fusion."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.nn import Conv1d, ConvTranspose1d, Module, length_mask

_SLOPE = 0.1
# The released code calls the last activation without a slope, so torch's default applies.
_FINAL_SLOPE = 0.01


# The mask has a channel axis of size 1, so that blocks need not reshape it.
_Mask = Bool[Array, "*batch time 1"] | None


def _leaky_relu(x: Array, slope: float, mask: _Mask) -> Array:
    """Leaky ReLU, zero where `mask` is false, so that the next convolution sees zeros after the valid samples."""
    return _zero_unless(mask, jnp.where(x > 0, x, jnp.asarray(slope, x.dtype) * x))


def _zero_unless(mask: _Mask, x: Array) -> Array:
    return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))


class ResBlock1(Module):
    """Residual block of V1 and V2: a dilated convolution, a plain convolution and a residual sum for each dilation.

    jik876/hifi-gan `models.py:ResBlock1`.
    """

    convs1: list[Conv1d]
    convs2: list[Conv1d]

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], *, key: PRNGKeyArray):
        keys = jax.random.split(key, 2 * len(dilations))
        self.convs1 = [
            _same_length_conv(channels, kernel_size, d, key=k) for d, k in zip(dilations, keys[::2], strict=True)
        ]
        self.convs2 = [_same_length_conv(channels, kernel_size, 1, key=k) for k in keys[1::2]]

    def __call__(
        self, x: Float[Array, "*batch time channels"], *, mask: _Mask = None
    ) -> Float[Array, "*batch time channels"]:
        """The output has the shape of `x` `(*batch, time, channels)`.

        Inputs of all convolutions are zero where `mask` `(*batch, time, 1)` is false.
        """
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            y = dilated(_leaky_relu(x, _SLOPE, mask))
            x = x + plain(_leaky_relu(y, _SLOPE, mask))
        return x


class ResBlock2(Module):
    """Residual block of V3: one convolution per dilation. jik876/hifi-gan `models.py:ResBlock2`."""

    convs: list[Conv1d]

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(dilations))
        self.convs = [_same_length_conv(channels, kernel_size, d, key=k) for d, k in zip(dilations, keys, strict=True)]

    def __call__(
        self, x: Float[Array, "*batch time channels"], *, mask: _Mask = None
    ) -> Float[Array, "*batch time channels"]:
        """The output has the shape of `x` `(*batch, time, channels)`.

        Inputs of all convolutions are zero where `mask` `(*batch, time, 1)` is false.
        """
        for conv in self.convs:
            x = x + conv(_leaky_relu(x, _SLOPE, mask))
        return x


def _same_length_conv(channels: int, kernel_size: int, dilation: int, *, key: PRNGKeyArray) -> Conv1d:
    """A convolution with weight norm whose output has the length of its input."""
    padding = (kernel_size - 1) * dilation // 2
    return Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding, weight_norm=True, key=key)


class Generator(Module):
    """Maps a mel spectrogram to a waveform, with `config.hop_length` samples per frame (arXiv 2010.05646, section 2.2).

    Attribute paths are the names of weights in released `g_` files, such as `ups.0.weight_v` or
    `resblocks.3.convs1.0.bias`. The residual block of stage `i` and kernel `j` is
    `resblocks[i * number_of_kernels + j]`.
    """

    conv_pre: Conv1d
    ups: list[ConvTranspose1d]
    resblocks: list[ResBlock1 | ResBlock2]
    conv_post: Conv1d
    cond_layer: Conv1d | None
    conds: list[Conv1d] | None
    config: GeneratorConfig = eqx.field(static=True)

    def __init__(self, config: GeneratorConfig, *, key: PRNGKeyArray):
        """Draw weights from torch's default distribution.

        The N(0, 0.01) of the released code has no effect, since weight norm overwrites it.
        """
        pre_key, ups_key, blocks_key, post_key, cond_key = jax.random.split(key, 5)
        initial, stages = config.upsample_initial_channel, len(config.upsample_rates)
        channels = [initial // 2**i for i in range(stages + 1)]
        self.config = config
        self.conv_pre = Conv1d(
            config.in_channels, initial, 7, padding=3, weight_norm=config.conv_pre_weight_norm, key=pre_key
        )
        self.ups = [
            ConvTranspose1d(
                channels[i],
                channels[i + 1],
                kernel,
                stride=rate,
                padding=(kernel - rate) // 2,
                weight_norm=True,
                key=jax.random.fold_in(ups_key, i),
            )
            for i, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))
        ]
        block = ResBlock1 if config.resblock == "1" else ResBlock2
        shapes = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
        self.resblocks = [
            block(channels[i + 1], kernel, dilations, key=jax.random.fold_in(blocks_key, i * len(shapes) + j))
            for i in range(stages)
            for j, (kernel, dilations) in enumerate(shapes)
        ]
        self.conv_post = Conv1d(
            channels[-1],
            1,
            7,
            padding=3,
            use_bias=config.conv_post_bias,
            weight_norm=config.conv_post_weight_norm,
            key=post_key,
        )
        self.cond_layer = Conv1d(config.cond_channels, initial, 1, key=cond_key) if config.cond_channels else None
        self.conds = None
        if config.cond_in_each_stage:
            keys = jax.random.split(jax.random.fold_in(cond_key, 1), stages)
            self.conds = [Conv1d(config.cond_channels, c, 1, key=k) for c, k in zip(channels[1:], keys, strict=True)]

    def __call__(
        self,
        mel: Float[Array, "*batch frames mels"],
        cond: Float[Array, "*batch cond"] | None = None,
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch samples 1"]:
        """**Arguments:**

        - `mel`: log-mel spectrogram `(*batch, frames, mels)`; its dtype is the precision of the computation.
        - `cond`: conditioning vector `(*batch, cond_channels)`, or `None` if `cond_channels` is 0.
        - `length`: number of valid frames; the rest is padding. The samples of the valid frames do not depend on the
            padding.

        **Returns:** waveform `(*batch, frames * hop_length, 1)` in [-1, 1], at least float32.

        **Raises:** `ShapeError` if the shape of `mel` or `cond` does not match the configuration, or if the shape of
        `cond` or `length` does not match the batch of `mel`.
        """
        self._check_shapes(mel, cond)
        frames, rate, kernels = mel.shape[-2], 1, len(self.config.resblock_kernel_sizes)
        length = None if length is None else jnp.asarray(length)
        mask = _valid(length, frames, mel.shape[:-2])
        cond = None if cond is None else cond[..., None, :].astype(mel.dtype)
        x = self.conv_pre(_zero_unless(mask, self._normalised(mel)))
        if self.cond_layer is not None and cond is not None:
            x = x + self.cond_layer(cond)
        for i, up in enumerate(self.ups):
            x = up(_leaky_relu(x, _SLOPE, mask))
            if self.conds is not None and cond is not None:
                x = x + self.conds[i](cond)
            rate *= up.stride
            mask = _valid(None if length is None else length * rate, frames * rate, mel.shape[:-2])
            outputs = [block(x, mask=mask) for block in self.resblocks[i * kernels : (i + 1) * kernels]]
            x = sum(outputs[1:], outputs[0]) * jnp.asarray(1 / kernels, x.dtype)
        # In half precision, the waveform would be rounded, to 8 bits in bfloat16.
        x = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
        return jnp.tanh(self.conv_post(_leaky_relu(x, _FINAL_SLOPE, mask)))

    def _normalised(self, mel: Array) -> Array:
        if not self.config.input_mean:
            return mel
        shape = (*(1 for _ in mel.shape[:-1]), mel.shape[-1])
        mean, scale = (
            jnp.asarray(values, jnp.float32).reshape(shape)
            for values in (self.config.input_mean, self.config.input_scale)
        )
        return ((mel.astype(jnp.float32) - mean) / scale).astype(mel.dtype)

    def _check_shapes(self, mel: Array, cond: Array | None) -> None:
        mels, size = self.config.in_channels, self.config.cond_channels
        if mel.ndim < 2 or mel.shape[-1] != mels or mel.shape[-2] == 0:
            raise ShapeError(
                f"The shape of mel is {mel.shape}; it should be (*batch, frames, {mels}), with at least one frame."
            )
        batch = mel.shape[:-2]
        given = "None" if cond is None else f"an array of shape {cond.shape}"
        if not size and cond is not None:
            raise ShapeError(f"cond is {given}; it should be None, because this generator has no conditioning vector.")
        if size and (
            cond is None
            or cond.ndim != len(batch) + 1
            or cond.shape[-1] != size
            or any(n not in (1, m) for n, m in zip(cond.shape, batch, strict=False))
        ):
            raise ShapeError(f"cond is {given}; it should be an array of shape {(*batch, size)}, a vector per example.")


def _valid(length: Array | None, time: int, batch: tuple[int, ...]) -> _Mask:
    return None if length is None else length_mask(length, time, batch=batch)[..., None]
