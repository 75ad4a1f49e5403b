"""Layers over the last axis: linear maps and layer norm, with torch's names, layouts and initial weights."""

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.nn._conv import add_bias
from jaxvoice.nn._inputs import check_at_least, check_input
from jaxvoice.nn._module import Module
from jaxvoice.nn._pointwise_forms import PointwiseForm
from jaxvoice.nn._random import torch_uniform
from jaxvoice.nn._streaming_forms import StreamingForm


def linear(
    x: Float[Array, "*batch in"], weight: Float[Array, "out in"], bias: Float[Array, " out"] | None = None
) -> Float[Array, "*batch out"]:
    """torch's `linear`: `x @ weight.T + bias` over the last axis, computed in `x.dtype`."""
    return add_bias(jnp.einsum("...i,oi->...o", x, weight.astype(x.dtype)), bias)


def normalize(
    x: Float[Array, "*batch channels"], weight: Float[Array, " channels"], bias: Float[Array, " channels"], eps: float
) -> Float[Array, "*batch channels"]:
    """torch's `layer_norm` over the last axis, computed in float32; the result has the dtype of `x`."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    y = y * lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + eps)
    scale = weight.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
    return add_bias(y * scale, bias).astype(x.dtype)


class Linear(Module):
    """A linear map of the last axis, as `torch.nn.Linear`."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None

    def __init__(self, in_features: int, out_features: int, *, use_bias: bool = True, key: PRNGKeyArray):
        """Draw weights and bias from torch's default distribution, U(-b, b) with b = 1/sqrt(in_features).

        **Raises:** `ConfigError` for sizes below 1.
        """
        check_at_least(1, in_features=in_features, out_features=out_features)
        weight_key, bias_key = jax.random.split(key)
        self.weight = torch_uniform((out_features, in_features), in_features, key=weight_key)
        self.bias = torch_uniform((out_features,), in_features, key=bias_key) if use_bias else None

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Apply the map to `x`, which may have any number of batch axes, in `x.dtype`.

        **Raises:** `ShapeError` for a wrong number of channels.
        """
        check_input(x, self.weight.shape[1])
        return linear(x, self.weight, self.bias)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form without state."""
        return PointwiseForm(self, start, keeps_zeros=self.bias is None)


class LayerNorm(Module):
    """Layer norm over the last axis, as `torch.nn.LayerNorm` (arXiv 1607.06450); statistics are computed in float32."""

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    eps: float = eqx.field(static=True)

    def __init__(self, channels: int, *, eps: float = 1e-5):
        check_at_least(1, channels=channels)
        self.weight, self.bias, self.eps = jnp.ones(channels), jnp.zeros(channels), eps

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Normalise `x`, which may have any number of batch axes; the output has the dtype of `x`.

        **Raises:** `ShapeError` for a wrong number of channels.
        """
        check_input(x, self.weight.shape[0])
        return normalize(x, self.weight, self.bias, self.eps)

    def streaming_form(self, start: int) -> StreamingForm:
        """The form without state: the statistics are those of each position alone."""
        return PointwiseForm(self, start)
