"""Convolutions whose weights have torch's names and layouts, with optional weight norm."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.nn._inputs import check_at_least, check_channels, check_input
from jaxvoice.nn._kernels import sum_dtype
from jaxvoice.nn._norm import AbstractConv, norm_over_all_but_first
from jaxvoice.nn._ops import conv1d, conv2d, conv_transpose1d, uses_im2col
from jaxvoice.nn._random import torch_uniform
from jaxvoice.nn._streaming_forms import StreamingForm
from jaxvoice.nn._window_forms import TransposedForm, convolution_form


def _parameters(
    shape: tuple[int, ...], outputs: int, use_bias: bool, weight_norm: bool, key: PRNGKeyArray
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """`(weight, weight_g, weight_v, bias)` as torch initialises them: `weight` alone, or `weight_g` and `weight_v`.

    `shape` is that of the kernel, and `outputs` the number of output channels. The bound of the uniform distribution
    depends on the number of values in `shape` after the first axis.
    """
    weight_key, bias_key = jax.random.split(key)
    fan_in = math.prod(shape[1:])
    weight = torch_uniform(shape, fan_in, key=weight_key)
    bias = torch_uniform((outputs,), fan_in, key=bias_key) if use_bias else None
    return (None, norm_over_all_but_first(weight), weight, bias) if weight_norm else (weight, None, None, bias)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """`value` twice, or `value` itself if it is a pair: of both sides of a signal, or of both axes of an image."""
    return (value, value) if isinstance(value, int) else value


def _row(numbers: Array, rank: int, dtype: DTypeLike) -> Array:
    return numbers.astype(dtype).reshape((1,) * (rank - 1) + (-1,))


def _convolve(layer: "Conv1d | ColumnConv", x: Array, **options) -> Array:
    """Apply the kernel and the bias of `layer` to `x` of shape `(*batch, time, channels)`.

    The last axis of a kernel of rank 4 has size 1.
    """
    weight, scale = layer.factors(x.dtype)
    weight = weight.reshape(weight.shape[:3])
    positions = math.prod(x.shape[:-1]) // options["stride"]
    # The scale is applied to the smaller of kernel and output. Its gradient is a sum over all positions of the output,
    # which takes XLA longer than one over the rows of the kernel.
    if scale is not None and positions <= math.prod(weight.shape[1:]) and uses_im2col(x.shape, weight.shape, **options):
        y = conv1d(x, weight, **options)
        y = y * _row(scale, y.ndim, y.dtype)
    else:
        kernel = layer.kernel(x.dtype)
        y = conv1d(x, kernel.reshape(kernel.shape[:3]), **options)
    return add_bias(y, layer.bias)


def add_bias(y: Float[Array, "*batch out"], bias: Float[Array, " out"] | None) -> Float[Array, "*batch out"]:
    """`y + bias` in the dtype of `y`; `y` itself if `bias` is `None`.

    If `y` is narrower than float32, the sum is computed in float32 and rounded afterwards. The gradient of the bias is
    a sum over all positions, and is then computed in float32 too. In bfloat16, a sum of thousands of terms stops
    growing before all terms are added.
    """
    if bias is None:
        return y
    dtype = sum_dtype(y.dtype)
    return (y.astype(dtype) + _row(bias, y.ndim, dtype)).astype(y.dtype)


class Conv1d(AbstractConv):
    """One-dimensional convolution, as `torch.nn.Conv1d`, with optional weight norm (`torch.nn.utils.weight_norm`).

    The kernel is `weight`, or `weight_g * weight_v / ||weight_v||` with one norm per output channel.
    """

    weight: Float[Array, "out in_per_group taps"] | None
    weight_g: Float[Array, "out 1 1"] | None
    weight_v: Float[Array, "out in_per_group taps"] | None
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int | tuple[int, int] = eqx.field(static=True)
    dilation: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = True,
        weight_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** as in torch. `padding` is the number of zeros added on each side, or a pair of the numbers on
        the left and on the right. Weights and bias are drawn with `key` from torch's default distribution, U(-b, b)
        with b = 1/sqrt(in_channels / groups * kernel_size).

        **Raises:** `ConfigError` unless `groups` divides both channel counts, or for sizes below 1 or negative
        padding.
        """
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        check_at_least(1, stride=stride, dilation=dilation, groups=groups)
        check_at_least(0, padding=min(pair(padding)))
        check_channels(in_channels, out_channels, groups)
        shape = (out_channels, in_channels // groups, kernel_size)
        self.weight, self.weight_g, self.weight_v, self.bias = _parameters(
            shape, out_channels, use_bias, weight_norm, key
        )
        self.in_channels, self.stride, self.padding = in_channels, stride, padding
        self.dilation, self.groups = dilation, groups

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """Convolve `x` of shape `(*batch, time, in_channels)` over time, in `x.dtype`.

        **Raises:** `ShapeError` for a wrong number of channels, or an input too short for one output position.
        """
        check_input(x, self.in_channels, "time")
        padding = pair(self.padding)
        return _convolve(self, x, stride=self.stride, padding=padding, dilation=self.dilation, groups=self.groups)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the last inputs as state."""
        return convolution_form(self, start, taps=self.taps, padding=pair(self.padding), dilation=self.dilation)


class ConvTranspose1d(AbstractConv):
    """One-dimensional transposed convolution, as `torch.nn.ConvTranspose1d`, with weights in torch's layout.

    With `weight_norm=True` there is one norm per *input* channel, axis 0 of torch's layout, as in
    `torch.nn.utils.weight_norm`.
    """

    weight: Float[Array, "in out_per_group taps"] | None
    weight_g: Float[Array, "in 1 1"] | None
    weight_v: Float[Array, "in out_per_group taps"] | None
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    output_padding: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        groups: int = 1,
        use_bias: bool = True,
        weight_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** as in torch. The output has `(time - 1) * stride - 2 * padding + kernel_size + output_padding`
        samples. Weights and bias are drawn from U(-b, b) with b = 1/sqrt(out_channels / groups * kernel_size).

        **Raises:** `ConfigError` unless `groups` divides both channel counts and `output_padding` is below `stride`, or
        for sizes below 1 or negative padding.
        """
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        check_at_least(1, stride=stride, groups=groups)
        check_at_least(0, padding=padding, output_padding=output_padding)
        check_channels(in_channels, out_channels, groups)
        if output_padding >= stride:
            raise ConfigError(f"output_padding is {output_padding}; it should be below stride, which is {stride}.")
        shape = (in_channels, out_channels // groups, kernel_size)
        self.weight, self.weight_g, self.weight_v, self.bias = _parameters(
            shape, out_channels, use_bias, weight_norm, key
        )
        self.in_channels, self.stride, self.padding = in_channels, stride, padding
        self.output_padding, self.groups = output_padding, groups

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """Upsample `x` of shape `(*batch, time, in_channels)` over time, in `x.dtype`.

        **Raises:** `ShapeError` for a wrong number of channels, or an input too short for one output position.
        """
        check_input(x, self.in_channels, "time")
        y = conv_transpose1d(
            x,
            self.kernel(x.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
        )
        return add_bias(y, self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the last inputs as state."""
        return TransposedForm(self, self.taps, start)


class ColumnConv(AbstractConv):
    """A `torch.nn.Conv2d` with kernels of shape `(taps, 1)`; the weights have torch's two-dimensional layout.

    Such a kernel convolves each column of a `(height, width)` input separately. The layer therefore takes columns as a
    batch axis: torch's input `(batch, channels, height, width)` is passed as `(batch, width, height, channels)`. This
    is faster than a two-dimensional convolution with a kernel of width 1, or than moving the columns to the front in
    every layer.
    """

    kernel_rank: ClassVar[int] = 4

    weight: Float[Array, "out in taps 1"] | None
    weight_g: Float[Array, "out 1 1 1"] | None
    weight_v: Float[Array, "out in taps 1"] | None
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        use_bias: bool = True,
        weight_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** those of `torch.nn.Conv2d` along the height. Weights and bias are drawn from torch's default
        distribution.

        **Raises:** `ConfigError` for sizes below 1 or negative padding.
        """
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride)
        check_at_least(0, padding=padding)
        shape = (out_channels, in_channels, kernel_size, 1)
        self.weight, self.weight_g, self.weight_v, self.bias = _parameters(
            shape, out_channels, use_bias, weight_norm, key
        )
        self.in_channels, self.stride, self.padding = in_channels, stride, padding

    def __call__(self, x: Float[Array, "*batch height in"]) -> Float[Array, "*batch new_height out"]:
        """Convolve `x` of shape `(*batch, height, in_channels)` over its height, in `x.dtype`.

        **Raises:** `ShapeError` for a wrong number of channels, or an input too short for one output position.
        """
        check_input(x, self.in_channels, "height")
        return _convolve(self, x, stride=self.stride, padding=(self.padding, self.padding))

    def streaming_form(self, start: int) -> StreamingForm:
        """The form along the height, with the last rows as state."""
        return convolution_form(self, start, taps=self.taps, padding=pair(self.padding))


class Conv2d(AbstractConv):
    """Two-dimensional convolution, as `torch.nn.Conv2d`, of arrays with channels last, with optional weight norm."""

    kernel_rank: ClassVar[int] = 4

    weight: Float[Array, "out in taps_high taps_wide"] | None
    weight_g: Float[Array, "out 1 1 1"] | None
    weight_v: Float[Array, "out in taps_high taps_wide"] | None
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int | tuple[int, int] = eqx.field(static=True)
    padding: int | tuple[int, int] = eqx.field(static=True)
    dilation: int | tuple[int, int] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        use_bias: bool = True,
        weight_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** as in torch. Pairs are along the height and along the width. Weights and bias are drawn from
        torch's default distribution.

        **Raises:** `ConfigError` for sizes below 1 or negative padding.
        """
        taps = pair(kernel_size)
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=min(taps))
        check_at_least(1, stride=min(pair(stride)), dilation=min(pair(dilation)))
        check_at_least(0, padding=min(pair(padding)))
        shape = (out_channels, in_channels, *taps)
        self.weight, self.weight_g, self.weight_v, self.bias = _parameters(
            shape, out_channels, use_bias, weight_norm, key
        )
        self.in_channels, self.stride, self.padding, self.dilation = in_channels, stride, padding, dilation

    def __call__(self, x: Float[Array, "*batch height width in"]) -> Float[Array, "*batch new_height new_width out"]:
        """Convolve `x` of shape `(*batch, height, width, in_channels)`, in `x.dtype`.

        **Raises:** `ShapeError` for a wrong number of channels, or an input too small for one output position.
        """
        check_input(x, self.in_channels, "height", "width")
        options = {"stride": pair(self.stride), "padding": pair(self.padding), "dilation": pair(self.dilation)}
        return add_bias(conv2d(x, self.kernel(x.dtype), **options), self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form along the height, with the last rows as state; blocks are `(*batch, height, width, channels)`."""
        high, wide = pair(self.padding)
        return convolution_form(
            self,
            start,
            taps=self.taps,
            padding=(high, high),
            dilation=pair(self.dilation)[0],
            axis=-3,
            unpadded=(0, wide),
        )
