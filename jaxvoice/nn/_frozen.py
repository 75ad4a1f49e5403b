"""Layers for inference alone: kernels stay as convolutions read them, so that no call moves them there."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from jaxvoice.nn._conv import Conv1d, ConvTranspose1d, add_bias
from jaxvoice.nn._fast_conv import fast_conv, pays, transformed
from jaxvoice.nn._module import Module
from jaxvoice.nn._norm import fold_weight_norm
from jaxvoice.nn._ops import check_input, conv1d_with, conv_transpose1d_with, laid_out, phases_of

Model = TypeVar("Model")


class FrozenConv1d(Module):
    """What `freeze` makes of a `Conv1d`: the same convolution, called the same way."""

    kernel: Float[Array, "taps in_per_group out"]
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    dilation: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `Conv1d`."""
        check_input(x, self.in_channels)
        y = conv1d_with(
            x,
            self.kernel.astype(x.dtype),
            stride=self.stride,
            padding=(self.padding, self.padding),
            dilation=self.dilation,
            groups=self.groups,
        )
        return add_bias(y, self.bias)


class FastConv1d(Module):
    """What `freeze` makes of a `Conv1d` that minimal filtering is faster for; the same convolution but for rounding."""

    kernel: Float[Array, "products in out"]
    bias: Float[Array, " out"] | None
    padding: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `Conv1d`, but computed in float32 and returned in `x.dtype`."""
        check_input(x, self.kernel.shape[1])
        y = fast_conv(x.reshape(-1, *x.shape[-2:]), self.kernel, (self.padding, self.padding))
        return add_bias(y.reshape(*x.shape[:-2], *y.shape[1:]), self.bias)


class FrozenConvTranspose1d(Module):
    """What `freeze` makes of a `ConvTranspose1d`: its kernel cut into phases, `taps` long before that."""

    kernel: Float[Array, "taps_per_phase in_per_group phases_times_out"]
    bias: Float[Array, " out"] | None
    taps: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    output_padding: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `ConvTranspose1d`."""
        check_input(x, self.in_channels)
        y = conv_transpose1d_with(
            x,
            self.kernel.astype(x.dtype),
            self.taps,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
        )
        return add_bias(y, self.bias)


def freeze(model: Model) -> Model:
    """`model` for inference: weight norm folded, and kernels rearranged as convolutions read them.

    A call computes the same (but for rounding, where a kernel of five taps is transformed) and saves moving every
    kernel first, which matters for short inputs. `Conv1d` and `ConvTranspose1d` become layers that are called the same
    way and whose weights no longer have torch's names and layouts: keep the model itself to inspect, train or save.
    Attribute paths of layers stay.
    """

    def frozen(layer):
        if isinstance(layer, Conv1d):
            kernel = layer.kernel()
            if pays(kernel.shape, stride=layer.stride, dilation=layer.dilation, groups=layer.groups):
                return FastConv1d(transformed(kernel), layer.bias, layer.padding, path=layer.path)
            return FrozenConv1d(
                laid_out(kernel),
                layer.bias,
                layer.in_channels,
                path=layer.path,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
            )
        if isinstance(layer, ConvTranspose1d):
            kernel = layer.kernel()
            return FrozenConvTranspose1d(
                laid_out(phases_of(kernel, layer.stride, layer.groups)),
                layer.bias,
                kernel.shape[-1],
                layer.stride,
                layer.in_channels,
                path=layer.path,
                padding=layer.padding,
                output_padding=layer.output_padding,
                groups=layer.groups,
            )
        return layer

    folded = fold_weight_norm(model)
    return jax.tree.map(frozen, folded, is_leaf=lambda node: isinstance(node, Conv1d | ConvTranspose1d))
