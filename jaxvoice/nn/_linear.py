"""Layers over channels: linear maps, tables of vectors, layer and group norm; with torch's names and layouts."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.nn._conv import add_bias
from jaxvoice.nn._inputs import check_at_least, check_channels, check_input, check_mask
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


class Embedding(Module):
    """A table with a vector for each id, as `torch.nn.Embedding`."""

    no_streaming_form: ClassVar[str] = "its input is ids, not a signal. Stream the vectors."

    weight: Float[Array, "rows channels"]

    def __init__(self, rows: int, channels: int, *, scale: float = 1.0, uniform: bool = False, key: PRNGKeyArray):
        """Draw the table from a normal distribution with the standard deviation `scale`, or with `uniform` from U(-b,
        b) with b = `scale` times the square root of three, which has the same."""
        if uniform:
            bound = math.sqrt(3) * scale
            self.weight = jax.random.uniform(key, (rows, channels), minval=-bound, maxval=bound)
        else:
            self.weight = scale * jax.random.normal(key, (rows, channels))

    def __call__(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape channels"]:
        """The vectors of `ids`; NaN for ids outside the table, also for negative ones."""
        return self.weight.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


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


class GroupNorm(Module):
    """Normalises groups of channels over all positions, as `torch.nn.GroupNorm` (arXiv 1803.08494).

    Statistics are computed in float32.
    """

    no_streaming_form: ClassVar[str] = "its statistics are those of the whole signal. Pass the whole signal."

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    groups: int = eqx.field(static=True)
    eps: float = eqx.field(static=True)

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5):
        """**Raises:** `ConfigError` unless `channels` is a multiple of `groups`."""
        check_at_least(1, groups=groups, channels=channels)
        check_channels(channels, channels, groups)
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)
        self.groups, self.eps = groups, eps

    def __call__(
        self, x: Float[Array, "*batch time channels"], *, mask: Bool[Array, "*batch time"] | None = None
    ) -> Float[Array, "*batch time channels"]:
        """Normalise `x`; the output has the dtype of `x`.

        **Arguments:** `mask`, true at valid positions, which alone have a part in the statistics; by default all.

        **Raises:** `ShapeError` for a wrong number of channels, or a mask of another shape.
        """
        check_input(x, self.weight.shape[0], "time")
        check_mask(mask, x.shape[:-1])
        y = x.astype(jnp.float32).reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups)
        y = y - self._mean(y, mask)
        y = y * lax.rsqrt(self._mean(jnp.square(y), mask) + self.eps)
        scale = self.weight.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
        return add_bias(y.reshape(x.shape) * scale, self.bias).astype(x.dtype)

    @staticmethod
    def _mean(
        y: Float[Array, "*batch time groups size"], mask: Bool[Array, "*batch time"] | None
    ) -> Float[Array, "*batch 1 groups 1"]:
        if mask is None:
            return jnp.mean(y, (-3, -1), keepdims=True)
        valid = mask[..., None, None]
        count = (jnp.maximum(jnp.sum(mask, -1), 1) * y.shape[-1]).astype(y.dtype)[..., None, None, None]
        return jnp.sum(jnp.where(valid, y, jnp.zeros((), y.dtype)), (-3, -1), keepdims=True) / count
