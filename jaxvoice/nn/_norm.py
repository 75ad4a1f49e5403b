"""Weight norm (arXiv 1602.07868) and spectral norm (arXiv 1802.05957), as torch.nn.utils applies them."""

import math
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn._inputs import check_at_least, check_channels, check_input
from jaxvoice.nn._module import Module
from jaxvoice.nn._ops import conv1d
from jaxvoice.nn._pointwise_forms import Inference
from jaxvoice.nn._random import torch_uniform
from jaxvoice.nn._streaming_forms import StreamingForm
from jaxvoice.nn._window_forms import convolution_form, with_options

_Model = TypeVar("_Model")


def norm_over_all_but_first(v: Float[Array, "first *rest"]) -> Float[Array, "first *ones"]:
    """Euclidean norm over all axes except the first; the reduced axes have size 1."""
    return jnp.sqrt(_squares(v))


def _squares(v: Float[Array, "first *rest"]) -> Float[Array, "first *ones"]:
    return jnp.sum(jnp.square(v), axis=tuple(range(1, v.ndim)), keepdims=True)


def weight_norm(v: Float[Array, "first *rest"], g: Float[Array, "first *ones"]) -> Float[Array, "first *rest"]:
    """`g * v / ||v||`, with the norm over all axes except the first, as `torch.nn.utils.weight_norm` with `dim=0`."""
    return v * (g * lax.rsqrt(_squares(v)))


class AbstractConv(Module):
    """A layer whose kernel is either `weight`, or is computed from `weight_g` and `weight_v` by weight norm.

    `kernel_rank` is the number of axes of the kernel. Kernels stacked by `equinox.filter_vmap` have an additional axis;
    methods of such a layer raise `ConfigError` outside `equinox.filter_vmap`.
    """

    kernel_rank: ClassVar[int] = 3

    weight: eqx.AbstractVar[Array | None]
    weight_g: eqx.AbstractVar[Array | None]
    weight_v: eqx.AbstractVar[Array | None]
    bias: eqx.AbstractVar[Array | None]

    @property
    def taps(self) -> int:
        """Number of taps along the first axis of the input."""
        weight = self.weight if self.weight_v is None else self.weight_v
        assert weight is not None
        return weight.shape[2]

    def kernel(self, dtype: jnp.dtype | None = None) -> Array:
        """The kernel in torch's layout, cast to `dtype`. The norm is computed in the precision of the parameters."""
        self._check_rank()
        if self.weight_g is not None and self.weight_v is not None:
            kernel = weight_norm(self.weight_v, self.weight_g)
        else:
            assert self.weight is not None
            kernel = self.weight
        return kernel if dtype is None else kernel.astype(dtype)

    def factors(self, dtype: jnp.dtype) -> tuple[Array, Array | None]:
        """The unscaled kernel in torch's layout and a scale for each index of axis 0 (`None` without weight norm)."""
        self._check_rank()
        if self.weight_g is not None and self.weight_v is not None:
            scale = self.weight_g * lax.rsqrt(_squares(self.weight_v))
            return self.weight_v.astype(dtype), scale.reshape(-1).astype(dtype)
        return self.kernel(dtype), None

    def _check_rank(self) -> None:
        weight = self.weight if self.weight_v is None else self.weight_v
        if weight is not None and weight.ndim != self.kernel_rank:
            raise ConfigError(
                f"The kernel shape of this {type(self).__name__} is {weight.shape}; it should have {self.kernel_rank} "
                "axes. Map functions over stacked layers with eqx.filter_vmap(fold_weight_norm), "
                "eqx.filter_vmap(freeze), or eqx.filter_vmap of a function that calls the layer."
            )


def fold_weight_norm(model: _Model) -> _Model:
    """`model` with `weight_g` and `weight_v` of every weight-normed layer replaced by `weight`, the kernel.

    Outputs stay the same, and inference does not compute norms. Layers without weight norm are not changed.

    **Raises:** `ConfigError` for layers stacked by `equinox.filter_vmap`; use `eqx.filter_vmap(fold_weight_norm)`.
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


class SpectralNormState(eqx.Module):
    """The state of a layer with spectral norm: estimates of the first left and right singular vectors of its kernel.

    The vectors may have batch axes, which correspond to the last batch axes of the layer's input. Each of these
    examples then has its own estimates.
    """

    weight_u: Float[Array, "*batch out"]
    weight_v: Float[Array, "*batch in_times_taps"]


def spectral_norm(weight: Float[Array, "out in taps"], state: SpectralNormState) -> Float[Array, "*batch"]:
    """`u^T W v`, the estimate of the largest singular value of `weight` as an `(out, in * taps)` matrix.

    The vectors are treated as constants in differentiation.
    """
    matrix = weight.reshape(weight.shape[0], -1)
    u, v = lax.stop_gradient((state.weight_u, state.weight_v))
    if u.ndim == 1:
        return u @ (matrix @ v)
    # One matrix-vector product per state: on CPUs, XLA transposes the matrix before a product with several vectors.
    number = math.prod(u.shape[:-1])
    pairs = zip(u.reshape(number, u.shape[-1]), v.reshape(number, v.shape[-1]), strict=True)
    norms = [u @ (matrix @ v) for u, v in pairs]
    return jnp.stack(norms).reshape(u.shape[:-1]) if norms else jnp.zeros(u.shape[:-1], weight.dtype)


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


class SpectralConv1d(Module):
    """One-dimensional convolution under spectral norm, as `torch.nn.utils.spectral_norm(torch.nn.Conv1d(...))`.

    The vectors of the power iteration are state: `init_state` draws them, and a call takes and returns them.
    """

    weight_orig: Float[Array, "out in_per_group taps"]
    bias: Float[Array, " out"]
    in_channels: int = eqx.field(static=True)
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
        """**Arguments:** as in torch. Weights and bias are drawn from torch's default distribution.

        **Raises:** `ConfigError` unless `groups` divides both channel counts, or for sizes below 1 or negative
        padding.
        """
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        check_at_least(1, stride=stride, groups=groups)
        check_at_least(0, padding=padding)
        check_channels(in_channels, out_channels, groups)
        weight_key, bias_key = jax.random.split(key)
        fan_in = in_channels // groups * kernel_size
        self.weight_orig = torch_uniform((out_channels, in_channels // groups, kernel_size), fan_in, key=weight_key)
        self.bias = torch_uniform((out_channels,), fan_in, key=bias_key)
        self.in_channels, self.stride, self.padding, self.groups = in_channels, stride, padding, groups

    def init_state(self, *, key: PRNGKeyArray) -> SpectralNormState:
        """The initial state: random unit vectors."""
        u_key, v_key = jax.random.split(key)
        out = self.weight_orig.shape[0]
        return SpectralNormState(
            _unit(jax.random.normal(u_key, (out,))), _unit(jax.random.normal(v_key, (self.weight_orig.size // out,)))
        )

    def power_iteration(self, state: SpectralNormState) -> SpectralNormState:
        """One power iteration: `v <- W^T u`, then `u <- W v`, each scaled to unit length."""
        matrix = lax.stop_gradient(self.weight_orig).reshape(self.weight_orig.shape[0], -1)

        def advance(u: Array) -> tuple[Array, Array]:
            v = _unit(u @ matrix)
            return _unit(matrix @ v), v

        return SpectralNormState(*jnp.vectorize(advance, signature="(m)->(m),(n)")(state.weight_u))

    def __call__(
        self, x: Float[Array, "*batch time in"], state: SpectralNormState, *, inference: bool = False
    ) -> tuple[Float[Array, "*batch new_time out"], SpectralNormState]:
        """Convolve `x` of shape `(*batch, time, in_channels)` with `weight_orig` divided by its spectral norm.

        **Arguments:** `state` is advanced by one power iteration before it is used, as in torch's training mode. With
        `inference`, it is used and returned unchanged. Batch axes of its vectors must be the last batch axes of `x`.

        **Raises:** `ShapeError` for a wrong number of channels, an input too short for one output position, or batch
        axes of `state` that `x` does not have.
        """
        check_input(x, self.in_channels, "time")
        batch = state.weight_u.shape[:-1]
        if batch != x.shape[max(0, x.ndim - 2 - len(batch)) : -2]:
            raise ShapeError(
                f"The batch axes of state are {batch}; they should be the last batch axes of the input, whose shape is "
                f"{x.shape}."
            )
        state = state if inference else self.power_iteration(state)
        # The output is scaled instead of the kernel, so that examples of a batch can have different norms.
        scale = (1 / spectral_norm(self.weight_orig, state)).astype(x.dtype)
        padding = (self.padding, self.padding)
        y = conv1d(x, self.weight_orig.astype(x.dtype), stride=self.stride, padding=padding, groups=self.groups)
        y = y * scale.reshape(*(1,) * (y.ndim - scale.ndim - 2), *scale.shape, 1, 1)
        return y + self.bias.astype(x.dtype).reshape((1,) * (y.ndim - 1) + (-1,)), state

    def streaming_form(self, start: int, state: SpectralNormState) -> StreamingForm:
        """The form with the last inputs as state, and the spectral norm of `state`."""
        taps, padding = self.weight_orig.shape[-1], (self.padding, self.padding)
        form = convolution_form(self, start, taps=taps, padding=padding)
        return eqx.tree_at(lambda f: f.function, form, Inference(with_options(self, padding=0), state))
