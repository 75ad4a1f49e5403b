"""Layers for inference alone: kernels stay as convolutions read them, so that no call moves them there."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from jaxvoice.nn._conv import Conv1d, ConvTranspose1d, add_bias, check_input
from jaxvoice.nn._fast_conv import fast_conv, pays, transformed
from jaxvoice.nn._norm import fold_weight_norm
from jaxvoice.nn._ops import conv1d_with, conv_transpose1d_with, laid_out, phases_of

Model = TypeVar("Model")


class FrozenConv1d(eqx.Module):
    """What `freeze` makes of a `Conv1d`; the same convolution, `(in_channels, time)` to `(out_channels, new_time)`."""

    kernel: Float[Array, "taps in_per_group out"]
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    dilation: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    @jax.named_scope("Conv1d")
    def __call__(self, x: Float[Array, "in time"]) -> Float[Array, "out new_time"]:
        """As `Conv1d`."""
        check_input(x, 2, self.in_channels, "time")
        return self.time_major(x.T).T

    def time_major(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `Conv1d.time_major`."""
        y = conv1d_with(
            x,
            self.kernel.astype(x.dtype),
            stride=self.stride,
            padding=(self.padding, self.padding),
            dilation=self.dilation,
            groups=self.groups,
        )
        return add_bias(y, self.bias)


class FastConv1d(eqx.Module):
    """What `freeze` makes of a `Conv1d` that minimal filtering is faster for; the same convolution but for rounding."""

    kernel: Float[Array, "products in out"]
    bias: Float[Array, " out"] | None
    padding: int = eqx.field(static=True)

    @jax.named_scope("Conv1d")
    def __call__(self, x: Float[Array, "in time"]) -> Float[Array, "out new_time"]:
        """As `Conv1d`."""
        check_input(x, 2, self.kernel.shape[1], "time")
        return self.time_major(x.T).T

    def time_major(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `Conv1d.time_major`; computes in float32, and gives `x.dtype`."""
        y = fast_conv(x.reshape(-1, *x.shape[-2:]), self.kernel, (self.padding, self.padding))
        return add_bias(y.reshape(*x.shape[:-2], *y.shape[1:]), self.bias)


class FrozenConvTranspose1d(eqx.Module):
    """What `freeze` makes of a `ConvTranspose1d`: its kernel cut into phases, `taps` long before that."""

    kernel: Float[Array, "taps_per_phase in_per_group phases_times_out"]
    bias: Float[Array, " out"] | None
    taps: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    output_padding: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    @jax.named_scope("ConvTranspose1d")
    def __call__(self, x: Float[Array, "in time"]) -> Float[Array, "out new_time"]:
        """As `ConvTranspose1d`."""
        check_input(x, 2, self.in_channels, "time")
        return self.time_major(x.T).T

    def time_major(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """As `ConvTranspose1d.time_major`."""
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
    kernel first, which matters for short inputs. `Conv1d` and
    `ConvTranspose1d` become layers with the same two methods whose weights no longer have torch's names and layouts:
    keep the model itself to look at, train or save.
    """

    def frozen(layer):
        if isinstance(layer, Conv1d):
            kernel = layer.kernel()
            if pays(kernel.shape, stride=layer.stride, dilation=layer.dilation, groups=layer.groups):
                return FastConv1d(transformed(kernel), layer.bias, layer.padding)
            return FrozenConv1d(
                laid_out(kernel),
                layer.bias,
                layer.in_channels,
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
                padding=layer.padding,
                output_padding=layer.output_padding,
                groups=layer.groups,
            )
        return layer

    folded = fold_weight_norm(model)
    return jax.tree.map(frozen, folded, is_leaf=lambda node: isinstance(node, Conv1d | ConvTranspose1d))
