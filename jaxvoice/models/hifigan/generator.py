"""The HiFi-GAN generator: transposed convolutions, each followed by multi-receptive-field fusion."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.nn import Conv1d, ConvTranspose1d, Module, length_mask

SLOPE = 0.1
# The released code calls the last activation without a slope, so torch's default applies.
FINAL_SLOPE = 0.01


# The mask has a channel axis of size 1, so that blocks need not reshape it.
_Mask = Bool[Array, "*batch time 1"] | None
_Block = TypeVar("_Block")


def _leaky_relu(x: Array, slope: float, mask: _Mask) -> Array:
    """Leaky ReLU, zero where `mask` is false, so that the next convolution sees zeros after the valid samples."""
    return zero_unless(mask, jnp.where(x > 0, x, jnp.asarray(slope, x.dtype) * x))


def zero_unless(mask: _Mask, x: Array) -> Array:
    """`x` with zeros where `mask` is false."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))


def valid_frames(length: Array | None, time: int, batch: tuple[int, ...]) -> _Mask:
    """A mask `(*batch, time, 1)` that is true at the first `length` positions; `None` if `length` is `None`."""
    return None if length is None else length_mask(length, time, batch=batch)[..., None]


class ResBlock1(Module):
    """Residual block of V1 and V2: a dilated convolution, a plain convolution and a residual sum for each dilation.

    With `cond_channels` > 0, a projection of a conditioning vector is added between the two convolutions of each pair,
    with a leaky ReLU before and after the sum (HiFi-VC, arXiv 2203.16937).

    jik876/hifi-gan `models.py:ResBlock1`.
    """

    convs1: list[Conv1d]
    convs2: list[Conv1d]
    conds: list[Conv1d] | None

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: tuple[int, ...],
        *,
        cond_channels: int = 0,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 2 * len(dilations))
        self.convs1 = [
            _same_length_conv(channels, kernel_size, d, key=k) for d, k in zip(dilations, keys[::2], strict=True)
        ]
        self.convs2 = [_same_length_conv(channels, kernel_size, 1, key=k) for k in keys[1::2]]
        self.conds = None
        if cond_channels:
            cond_keys = jax.random.split(jax.random.fold_in(key, 1), len(dilations))
            self.conds = [Conv1d(cond_channels, channels, 1, weight_norm=True, key=k) for k in cond_keys]

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        cond: Float[Array, "*batch 1 cond"] | None = None,
        *,
        mask: _Mask = None,
    ) -> Float[Array, "*batch time channels"]:
        """The output has the shape of `x` `(*batch, time, channels)`.

        `cond` `(*batch, 1, cond_channels)` is the conditioning vector, `None` without one. Inputs of all convolutions
        are zero where `mask` `(*batch, time, 1)` is false.
        """
        for j, (dilated, plain) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            y = dilated(_leaky_relu(x, SLOPE, mask))
            if self.conds is not None and cond is not None:
                y = _leaky_relu(y, SLOPE, None) + self.conds[j](cond)
            x = x + plain(_leaky_relu(y, SLOPE, mask))
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
            x = x + conv(_leaky_relu(x, SLOPE, mask))
        return x


def _same_length_conv(channels: int, kernel_size: int, dilation: int, *, key: PRNGKeyArray) -> Conv1d:
    """A convolution with weight norm whose output has the length of its input."""
    padding = (kernel_size - 1) * dilation // 2
    return Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding, weight_norm=True, key=key)


class WaveformStages(Protocol):
    """The layers of a generator after its first convolution."""

    @property
    def ups(self) -> Sequence[ConvTranspose1d]:
        """One transposed convolution per stage."""
        ...

    @property
    def resblocks(self) -> Sequence[ResBlock1 | ResBlock2]:
        """The residual blocks of all stages."""
        ...

    @property
    def conv_post(self) -> Conv1d:
        """The last convolution."""
        ...


def upsampling_layers(
    widths: Sequence[int],
    rates: Sequence[int],
    kernel_sizes: Sequence[int],
    *,
    first_width: int | None = None,
    key: PRNGKeyArray,
) -> list[ConvTranspose1d]:
    """The transposed convolutions `ups`, from `widths[i]` to `widths[i + 1]` channels.

    The first one reads `first_width` channels if this is not `None`.
    """
    inputs = [widths[0] if first_width is None else first_width, *widths[1:]]
    return [
        ConvTranspose1d(
            inputs[i],
            widths[i + 1],
            kernel,
            stride=rate,
            padding=(kernel - rate) // 2,
            weight_norm=True,
            key=jax.random.fold_in(key, i),
        )
        for i, (rate, kernel) in enumerate(zip(rates, kernel_sizes, strict=True))
    ]


def residual_blocks(
    make: Callable[[int, int, tuple[int, ...], PRNGKeyArray], _Block],
    widths: Sequence[int],
    kernel_sizes: Sequence[int],
    dilation_sizes: Sequence[tuple[int, ...]],
    *,
    key: PRNGKeyArray,
) -> list[_Block]:
    """The blocks `resblocks`: for each stage and each kernel, `make(channels, kernel, dilations, key)`."""
    shapes = list(zip(kernel_sizes, dilation_sizes, strict=True))
    return [
        make(width, kernel, dilations, jax.random.fold_in(key, i * len(shapes) + j))
        for i, width in enumerate(widths[1:])
        for j, (kernel, dilations) in enumerate(shapes)
    ]


def generate(
    network: WaveformStages,
    x: Float[Array, "*batch frames channels"],
    mask: _Mask,
    cond: Float[Array, "*batch 1 cond"] | None = None,
    *,
    length: Int[Array, "*batch"] | None,
    final_slope: float,
    before: Callable[[int, Array], Array] | None = None,
    after: Callable[[int, Array], Array] | None = None,
) -> Float[Array, "*batch samples 1"]:
    """The waveform, at least float32, from the output of the first convolution.

    Each transposed convolution of `network.ups` is followed by the mean of its residual blocks.

    **Arguments:** `x`, the output of the first convolution; `mask` of its valid frames and their number `length`;
    `cond`, the conditioning vector of the residual blocks; `final_slope` of the last leaky ReLU; `before(i, x)` and
    `after(i, x)`, functions applied to the input of stage `i` and to the output of its transposed convolution.
    """
    frames, rate, kernels = x.shape[-2], 1, len(network.resblocks) // len(network.ups)
    conds = () if cond is None else (cond,)
    for i, up in enumerate(network.ups):
        x = up(_leaky_relu(x if before is None else before(i, x), SLOPE, mask))
        x = x if after is None else after(i, x)
        rate *= up.stride
        mask = valid_frames(None if length is None else length * rate, frames * rate, x.shape[:-2])
        outputs = [block(x, *conds, mask=mask) for block in network.resblocks[i * kernels : (i + 1) * kernels]]
        x = sum(outputs[1:], outputs[0]) * jnp.asarray(1 / kernels, x.dtype)
    # In half precision, the waveform would be rounded, to 8 bits in bfloat16.
    x = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
    return jnp.tanh(network.conv_post(_leaky_relu(x, final_slope, mask)))


def normalised(config: GeneratorConfig, mel: Float[Array, "*batch mels"]) -> Float[Array, "*batch mels"]:
    """`mel` normalised with the statistics of the input in `config`, if there are any."""
    if not config.input_mean:
        return mel
    shape = (*(1 for _ in mel.shape[:-1]), mel.shape[-1])
    mean, scale = (
        jnp.asarray(values, jnp.float32).reshape(shape) for values in (config.input_mean, config.input_scale)
    )
    return ((mel.astype(jnp.float32) - mean) / scale).astype(mel.dtype)


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
        self.ups = upsampling_layers(channels, config.upsample_rates, config.upsample_kernel_sizes, key=ups_key)
        block = ResBlock1 if config.resblock == "1" else ResBlock2
        self.resblocks = residual_blocks(
            lambda channels, kernel, dilations, key: block(channels, kernel, dilations, key=key),
            channels,
            config.resblock_kernel_sizes,
            config.resblock_dilation_sizes,
            key=blocks_key,
        )
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
        length = None if length is None else jnp.asarray(length)
        mask = valid_frames(length, mel.shape[-2], mel.shape[:-2])
        cond = None if cond is None else cond[..., None, :].astype(mel.dtype)
        x = self.conv_pre(zero_unless(mask, normalised(self.config, mel)))
        if self.cond_layer is not None and cond is not None:
            x = x + self.cond_layer(cond)
        conds = self.conds
        after = None if conds is None or cond is None else lambda i, x: x + conds[i](cond)
        return generate(self, x, mask, length=length, final_slope=FINAL_SLOPE, after=after)

    def _check_shapes(self, mel: Array, cond: Array | None) -> None:
        mels = self.config.in_channels
        if mel.ndim < 2 or mel.shape[-1] != mels or mel.shape[-2] == 0:
            raise ShapeError(
                f"The shape of mel is {mel.shape}; it should be (*batch, frames, {mels}), with at least one frame."
            )
        self.check_condition(cond, mel.shape[:-2])

    def check_condition(self, cond: Array | None, batch: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless `cond` is a conditioning vector of this generator for the batch axes `batch`."""
        size = self.config.cond_channels
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
