"""Inference-only layers. They store kernels in the layout of XLA's convolutions, so that no call transposes them."""

import math
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from jaxvoice.nn._conv import Conv1d, ConvTranspose1d, add_bias, pair
from jaxvoice.nn._inputs import check_input
from jaxvoice.nn._module import Module
from jaxvoice.nn._norm import fold_weight_norm
from jaxvoice.nn._ops import check_time, conv1d_xla, conv_transpose1d_xla, polyphase_kernel, to_xla_layout
from jaxvoice.nn._streaming_forms import StreamingForm
from jaxvoice.nn._upsampled import UpsampledConv1d, freeze_upsampled
from jaxvoice.nn._window_forms import TransposedForm, WindowForm, convolution_form, with_options
from jaxvoice.nn._winograd import is_faster, taps_of, transform_kernel, winograd_conv1d

_Model = TypeVar("_Model")


class FrozenConv1d(Module):
    """The inference form of `Conv1d`."""

    kernel: Float[Array, "taps in_per_group out"]
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int | tuple[int, int] = eqx.field(static=True)
    dilation: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """Compute the output of the `Conv1d`."""
        check_input(x, self.in_channels, "time")
        y = conv1d_xla(
            x,
            self.kernel.astype(x.dtype),
            stride=self.stride,
            padding=pair(self.padding),
            dilation=self.dilation,
            groups=self.groups,
        )
        return add_bias(y, self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """As for `Conv1d`."""
        taps = self.kernel.shape[0]
        return convolution_form(self, start, taps=taps, padding=pair(self.padding), dilation=self.dilation)


class WinogradConv1d(Module):
    """The inference form of a `Conv1d` that Winograd's algorithm computes faster; results differ by rounding."""

    kernel: Float[Array, "products out in"]
    bias: Float[Array, " out"] | None
    padding: int | tuple[int, int] = eqx.field(static=True)
    dilation: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """Compute the output of the `Conv1d` in float32, and return it in `x.dtype`."""
        check_input(x, self.kernel.shape[2], "time")
        padding, span = pair(self.padding), self.dilation * (taps_of(self.kernel) - 1) + 1
        check_time(x.shape[-2], span - sum(padding), "a convolution")
        flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
        y = winograd_conv1d(flat, self.kernel, padding, self.dilation)
        return add_bias(y.reshape(*x.shape[:-2], *y.shape[1:]), self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """As for `Conv1d`."""
        span = self.dilation * (taps_of(self.kernel) - 1) + 1
        options = {"span": span, "padding": pair(self.padding), "keeps_zeros": self.bias is None}
        return WindowForm(with_options(self, padding=0), start, **options)


class FrozenConvTranspose1d(Module):
    """The inference form of `ConvTranspose1d`: a kernel of `taps` taps, split into phases."""

    kernel: Float[Array, "taps_per_phase in_per_group phases_times_out"]
    bias: Float[Array, " out"] | None
    taps: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    output_padding: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch time in"]) -> Float[Array, "*batch new_time out"]:
        """Compute the output of the `ConvTranspose1d`."""
        check_input(x, self.in_channels, "time")
        y = conv_transpose1d_xla(
            x,
            self.kernel.astype(x.dtype),
            self.taps,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
        )
        return add_bias(y, self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """As for `ConvTranspose1d`."""
        return TransposedForm(self, self.taps, start)


def freeze(model: _Model, *, winograd: bool = True) -> _Model:
    """`model` for inference: weight norm is folded, and kernels are stored in the layout of XLA's convolutions.

    No call transposes kernels, which saves time for short inputs. The outputs are the same, except for rounding: on
    CPUs, Winograd's algorithm is applied to wide layers with three or five taps, and `UpsampledConv1d` with three taps
    computes half of the products. `Conv1d`, `ConvTranspose1d` and `UpsampledConv1d` are replaced by layers that are
    called the same way and have the same attribute paths. Their weights do not have torch's names and layouts: keep the
    original model to inspect, train or save it.

    **Arguments:** `winograd`, whether Winograd's algorithm may be applied. It computes a multiple of four times the
    dilation positions and reads up to twice as many weights, so it is slow for the short blocks of a stream.

    **Raises:** `ConfigError` for layers stacked by `equinox.filter_vmap`; use `eqx.filter_vmap(freeze)`.
    """

    def frozen(layer):
        if isinstance(layer, UpsampledConv1d):
            return freeze_upsampled(layer) or eqx.tree_at(lambda one: one.conv, layer, frozen(layer.conv))
        if isinstance(layer, Conv1d):
            kernel = layer.kernel()
            options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
            if winograd and is_faster(kernel.shape, **options):
                return WinogradConv1d(
                    transform_kernel(kernel), layer.bias, layer.padding, layer.dilation, path=layer.path
                )
            return FrozenConv1d(
                to_xla_layout(kernel),
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
                to_xla_layout(polyphase_kernel(kernel, layer.stride, layer.groups)),
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

    folded, kinds = fold_weight_norm(model), Conv1d | ConvTranspose1d | UpsampledConv1d
    return jax.tree.map(frozen, folded, is_leaf=lambda node: isinstance(node, kinds))
