"""A convolution of a signal in which each position is repeated, and its form for inference."""

import math

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.nn._conv import Conv1d, add_bias
from jaxvoice.nn._inputs import check_input, masked
from jaxvoice.nn._kernels import computes_on_cpu, sum_dtype
from jaxvoice.nn._module import Module
from jaxvoice.nn._pointwise_forms import PointwiseForm
from jaxvoice.nn._streaming import SequenceForm
from jaxvoice.nn._streaming_forms import StreamingForm
from jaxvoice.nn._window_forms import WindowForm

_Mask = Bool[Array, "*batch time"] | None


class UpsampledConv1d(Module):
    """Each position twice, and a convolution that keeps their number.

    As `torch.nn.Upsample(scale_factor=2)`, with the nearest position, and a `torch.nn.Conv1d` with an odd number of
    taps and zeros on both sides.
    """

    conv: Conv1d

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, key: PRNGKeyArray):
        """**Raises:** `ConfigError` for sizes below 1."""
        self.conv = Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, key=key)

    def __call__(self, x: Float[Array, "*batch time in"], *, mask: _Mask = None) -> Float[Array, "*batch 2*time out"]:
        """Twice as many positions. `x` is replaced by zeros where `mask` is false."""
        return self.conv(_repeated(masked(x, mask)))

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the last inputs of the convolution as state."""
        repeated = PointwiseForm(_repeated, start, keeps_zeros=True, rate=2)
        return SequenceForm([repeated, self.conv.streaming_form(repeated.next_start)])


class FrozenUpsampledConv1d(Module):
    """The inference form of an `UpsampledConv1d` with three taps `a`, `b` and `c`; results differ by rounding.

    The outputs of the position `x[i]` are `s - a (x[i] - x[i - 1])` and `s + c (x[i + 1] - x[i])` with
    `s = (a + b + c) x[i]`: three products for each pair of channels instead of six.
    """

    kernel: Float[Array, "3 in out"]
    bias: Float[Array, " out"] | None

    def __call__(self, x: Float[Array, "*batch time in"], *, mask: _Mask = None) -> Float[Array, "*batch 2*time out"]:
        """Compute the output of the `UpsampledConv1d`, at least in float32, and return it in `x.dtype`."""
        check_input(x, self.kernel.shape[1], "time")
        return _interleaved(self._pairs(jnp.pad(masked(x, mask), [(0, 0)] * (x.ndim - 2) + [(1, 1), (0, 0)])))

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the last inputs as state."""
        pairs = WindowForm(self._pairs, start, span=3, padding=(1, 1), keeps_zeros=self.bias is None)
        return SequenceForm([pairs, PointwiseForm(_interleaved, pairs.next_start, keeps_zeros=True, rate=2)])

    def _pairs(self, padded: Float[Array, "*batch time+2 in"]) -> Float[Array, "*batch time 2*out"]:
        """The two outputs of each position, one after the other in its channels; `padded` has one more at each end."""
        dtype, padded = padded.dtype, padded.astype(sum_dtype(padded.dtype))
        x, steps = padded[..., 1:-1, :], jnp.diff(padded, axis=-2)
        factors = jnp.stack([x, -steps[..., :-1, :], steps[..., 1:, :]])
        rows = factors.reshape(3, math.prod(x.shape[:-1]), x.shape[-1])
        both, even, odd = jnp.einsum("pni,pio->pno", rows, self.kernel.astype(x.dtype))
        bias = None if self.bias is None else jnp.concatenate([self.bias, self.bias])
        y = jnp.concatenate([both + even, both + odd], axis=-1)
        return add_bias(y.reshape(*x.shape[:-1], y.shape[-1]).astype(dtype), bias)


def freeze_upsampled(layer: UpsampledConv1d) -> FrozenUpsampledConv1d | None:
    """The inference form of `layer` with the same path; `None` unless it is faster."""
    kernel = layer.conv.kernel()
    if kernel.shape[-1] != 3 or not computes_on_cpu():
        return None
    first, middle, last = jnp.moveaxis(kernel, (2, 1, 0), (0, 1, 2))
    return FrozenUpsampledConv1d(jnp.stack([first + middle + last, first, last]), layer.conv.bias, path=layer.path)


def _repeated(x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch 2*time channels"]:
    return jnp.repeat(x, 2, axis=-2)


def _interleaved(pairs: Float[Array, "*batch time 2*channels"]) -> Float[Array, "*batch 2*time channels"]:
    """The first half of the channels of each position, and then the second half."""
    return pairs.reshape(*pairs.shape[:-2], 2 * pairs.shape[-2], pairs.shape[-1] // 2)
