"""Weight norm (arXiv 1602.07868) and spectral norm (arXiv 1802.05957), as torch.nn.utils applies them."""

from typing import TypeVar

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.nn._init import torch_uniform
from jaxvoice.nn._ops import conv1d

Model = TypeVar("Model")


def norm_over_all_but_first(v: Float[Array, "first *rest"]) -> Float[Array, "first *ones"]:
    """Euclidean norm over every axis but the first, which stays; the others become 1."""
    return jnp.sqrt(_squares(v))


def _squares(v: Float[Array, "first *rest"]) -> Float[Array, "first *ones"]:
    return jnp.sum(jnp.square(v), axis=tuple(range(1, v.ndim)), keepdims=True)


def weight_norm(v: Float[Array, "first *rest"], g: Float[Array, "first *ones"]) -> Float[Array, "first *rest"]:
    """`g * v / ||v||`, norm over every axis but the first (torch.nn.utils.weight_norm with dim=0, no epsilon)."""
    return v * (g * lax.rsqrt(_squares(v)))


class AbstractConv(eqx.Module):
    """A layer whose kernel is either `weight`, or weight-normed `weight_g` and `weight_v`."""

    weight: eqx.AbstractVar[Array | None]
    weight_g: eqx.AbstractVar[Array | None]
    weight_v: eqx.AbstractVar[Array | None]
    bias: eqx.AbstractVar[Array | None]

    def kernel(self, dtype: jnp.dtype | None = None) -> Array:
        """The kernel in torch's layout, norm applied in the precision of the parameters, then cast to `dtype`."""
        if self.weight_g is not None and self.weight_v is not None:
            kernel = weight_norm(self.weight_v, self.weight_g)
        else:
            assert self.weight is not None
            kernel = self.weight
        return kernel if dtype is None else kernel.astype(dtype)

    def factors(self, dtype: jnp.dtype) -> tuple[Array, Array | None]:
        """A kernel in torch's layout and what to multiply it with, one number for each index of its first axis."""
        if self.weight_g is not None and self.weight_v is not None:
            scale = self.weight_g * lax.rsqrt(_squares(self.weight_v))
            return self.weight_v.astype(dtype), scale.reshape(-1).astype(dtype)
        return self.kernel(dtype), None


def fold_weight_norm(model: Model) -> Model:
    """`model` with every weight-normed layer's `weight_g` and `weight_v` replaced by the `weight` they stand for.

    The outputs stay the same; inference saves the norms. Layers without weight norm are left as they are.
    """

    def fold(layer):
        if isinstance(layer, AbstractConv) and layer.weight_g is not None:
            return eqx.tree_at(
                lambda conv: (conv.weight, conv.weight_g, conv.weight_v),
                layer,
                (layer.kernel(), None, None),
                is_leaf=lambda leaf: leaf is None,
            )
        return layer

    return jax.tree.map(fold, model, is_leaf=lambda node: isinstance(node, AbstractConv))


class SpectralVectors(eqx.Module):
    """The state of one spectrally normed layer: estimates of the kernel matrix's first singular vectors."""

    weight_u: Float[Array, " out"]
    weight_v: Float[Array, " in_times_taps"]


def spectral_sigma(weight: Float[Array, "out in taps"], vectors: SpectralVectors) -> Float[Array, ""]:
    """`u^T W v`, the estimate of the largest singular value of `weight` as an `(out, in * taps)` matrix.

    The vectors count as constants when this is differentiated.
    """
    u, v = jax.lax.stop_gradient((vectors.weight_u, vectors.weight_v))
    return u @ (weight.reshape(weight.shape[0], -1) @ v)


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


class SpectralConv1d(eqx.Module):
    """One-dimensional convolution under spectral norm, as `torch.nn.utils.spectral_norm(torch.nn.Conv1d(...))`.

    The power iteration's vectors are state: make them with `vectors`, turn them by one iteration with `advance` (torch
    does so in every forward pass in training mode), and pass the resulting `sigma` to the call.
    """

    weight_orig: Float[Array, "out in_per_group taps"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        key: PRNGKeyArray,
    ):
        """**Arguments:** as torch's; weights and bias drawn from torch's default distribution."""
        weight_key, bias_key = jax.random.split(key)
        fan_in = in_channels // groups * kernel_size
        self.weight_orig = torch_uniform((out_channels, in_channels // groups, kernel_size), fan_in, key=weight_key)
        self.bias = torch_uniform((out_channels,), fan_in, key=bias_key)
        self.stride, self.padding, self.groups = stride, padding, groups

    def vectors(self, *, key: PRNGKeyArray) -> SpectralVectors:
        """Random unit vectors to begin with."""
        u_key, v_key = jax.random.split(key)
        out = self.weight_orig.shape[0]
        return SpectralVectors(
            _unit(jax.random.normal(u_key, (out,))), _unit(jax.random.normal(v_key, (self.weight_orig.size // out,)))
        )

    def advance(self, vectors: SpectralVectors) -> SpectralVectors:
        """One power iteration: `v <- W^T u`, then `u <- W v`, each scaled to unit length."""
        matrix = jax.lax.stop_gradient(self.weight_orig).reshape(self.weight_orig.shape[0], -1)
        v = _unit(vectors.weight_u @ matrix)
        return SpectralVectors(_unit(matrix @ v), v)

    def sigma(self, vectors: SpectralVectors) -> Float[Array, ""]:
        """The kernel's spectral norm as estimated by `vectors`."""
        return spectral_sigma(self.weight_orig, vectors)

    @jax.named_scope("SpectralConv1d")
    def __call__(self, x: Float[Array, "in time"], sigma: Float[Array, ""]) -> Float[Array, "out new_time"]:
        """Convolve `x` of shape `(in_channels, time)` with `weight_orig / sigma` and add the bias."""
        return self.time_major(x.T, sigma).T

    def time_major(
        self, x: Float[Array, "*batch time in"], sigma: Float[Array, "*batch"]
    ) -> Float[Array, "*batch new_time out"]:
        """The same for `(..., time, channels)`; `sigma` may have the batch axes of `x`.

        The output is scaled instead of the kernel, so that examples of one batch may have different `sigma`.
        """
        padding = (self.padding, self.padding)
        y = conv1d(x, self.weight_orig.astype(x.dtype), stride=self.stride, padding=padding, groups=self.groups)
        scale = (1 / sigma).astype(x.dtype).reshape(*sigma.shape, *(1,) * (y.ndim - sigma.ndim))
        return y * scale + self.bias.astype(x.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
