"""Batch norm over the valid positions of a padded batch; running statistics are an argument and a result."""

import equinox as eqx
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32

from jaxvoice.nn._inputs import check_at_least, check_input, check_mask
from jaxvoice.nn._kernels import sum_dtype
from jaxvoice.nn._module import Module
from jaxvoice.nn._pointwise_forms import Inference, PointwiseForm
from jaxvoice.nn._streaming_forms import StreamingForm


class BatchNormState(eqx.Module):
    """Running statistics of a `MaskedBatchNorm`, named as in torch."""

    running_mean: Float32[Array, " channels"]
    running_var: Float32[Array, " channels"]
    num_batches_tracked: Int32[Array, ""]


class MaskedBatchNorm(Module):
    """Batch norm over the valid positions of a padded batch `(*batch, time, channels)`.

    The layer follows `torch.nn.BatchNorm1d` (arXiv 1502.03167): it normalises with the biased variance, and moves the
    running variance by `momentum` towards the unbiased variance of each batch. With `use_mask=False`, padding is part
    of the statistics, as in torch. The layer computes in the dtype of its input, at least in float32; the running
    statistics keep their dtype. If a batch is split over devices under `jax.jit`, the statistics are those of the whole
    batch.
    """

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    eps: float = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    use_mask: bool = eqx.field(static=True)

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, use_mask: bool = True):
        check_at_least(1, channels=channels)
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)
        self.eps, self.momentum, self.use_mask = eps, momentum, use_mask

    def init_state(self) -> BatchNormState:
        """The initial state: mean 0, variance 1, and a batch count of 0."""
        zeros = jnp.zeros(self.weight.shape, jnp.float32)
        return BatchNormState(zeros, jnp.ones(self.weight.shape, jnp.float32), jnp.zeros((), jnp.int32))

    def __call__(
        self,
        x: Float[Array, "*batch channels"],
        state: BatchNormState,
        *,
        mask: Bool[Array, "*batch"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch channels"], BatchNormState]:
        """**Arguments:**

        - `x`: `(*batch, time, channels)`.
        - `state`: running statistics. With `inference` they normalise `x` and are returned unchanged. Otherwise they
            are moved towards the statistics of this batch; a batch without valid positions does not change them.
        - `mask`: true at valid positions; `None` if all positions are valid.

        **Raises:** `ShapeError` for a wrong number of channels, or a mask whose shape does not match `x`.
        """
        check_input(x, self.weight.size, "time")
        check_mask(mask, x.shape[:-1])
        y = x.astype(sum_dtype(x.dtype))
        if inference:
            mean, variance = state.running_mean.astype(y.dtype), state.running_var.astype(y.dtype)
        else:
            mean, variance, state = self._statistics(y, mask if self.use_mask else None, state)
        row_shape = (1,) * (x.ndim - 1) + (-1,)
        scale = self.weight.astype(y.dtype) * lax.rsqrt(variance + self.eps)
        y = (y - mean.reshape(row_shape)) * scale.reshape(row_shape)
        y = y + self.bias.astype(y.dtype).reshape(row_shape)
        return y.astype(x.dtype), state

    def streaming_form(self, start: int, state: BatchNormState) -> StreamingForm:
        """The form in inference, with the running statistics of `state`."""
        return PointwiseForm(Inference(self, state), start)

    def _statistics(self, y: Array, mask: Array | None, state: BatchNormState) -> tuple[Array, Array, BatchNormState]:
        axes = tuple(range(y.ndim - 1))
        zero = jnp.zeros((), y.dtype)
        valid = jnp.ones((*y.shape[:-1], 1), bool) if mask is None else mask[..., None]
        count = jnp.sum(valid.astype(y.dtype))
        mean = jnp.sum(jnp.where(valid, y, zero), axes) / jnp.maximum(count, 1)
        centred = jnp.where(valid, y - mean.reshape((1,) * (y.ndim - 1) + (-1,)), zero)
        squares = jnp.sum(jnp.square(centred), axes)
        rate = self.momentum * jnp.minimum(count, 1)
        # The running statistics carry no gradient.
        new_mean, new_squares = lax.stop_gradient((mean, squares))
        unbiased = new_squares / jnp.maximum(count - 1, 1)
        state = BatchNormState(
            _moved(state.running_mean, new_mean, rate),
            _moved(state.running_var, unbiased, rate),
            state.num_batches_tracked + jnp.minimum(count, 1).astype(jnp.int32),
        )
        return mean, squares / jnp.maximum(count, 1), state


def _moved(old: Array, new: Array, rate: Array) -> Array:
    """`old` after a step of `rate` towards `new`, in the dtype of `old`."""
    start = old.astype(new.dtype)
    return (start + rate * (new - start)).astype(old.dtype)


class FixedBatchNorm(Module):
    """Batch norm in inference mode that contains its running statistics: `torch.nn.BatchNorm1d` after `eval()`."""

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    running_mean: Float32[Array, " channels"]
    running_var: Float32[Array, " channels"]
    num_batches_tracked: Int32[Array, ""]
    eps: float = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    use_mask: bool = eqx.field(static=True)

    def __init__(self, norm: MaskedBatchNorm, state: BatchNormState):
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = state.running_mean, state.running_var
        self.num_batches_tracked = state.num_batches_tracked
        self.eps, self.momentum, self.use_mask = norm.eps, norm.momentum, norm.use_mask
        self.path = norm.path

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Normalise `x` of shape `(*batch, time, channels)` with the running statistics, in its dtype, at least in
        float32.

        **Raises:** `ShapeError` for a wrong number of channels.
        """
        norm, state = self.separate()
        return norm(x, state, inference=True)[0]

    def streaming_form(self, start: int) -> StreamingForm:
        """The form without state."""
        return PointwiseForm(self, start)

    def separate(self) -> tuple[MaskedBatchNorm, BatchNormState]:
        """The layer for training, and its running statistics."""
        norm = MaskedBatchNorm(self.weight.size, eps=self.eps, momentum=self.momentum, use_mask=self.use_mask)
        norm = eqx.tree_at(lambda layer: (layer.weight, layer.bias), norm, (self.weight, self.bias))
        return norm, BatchNormState(self.running_mean, self.running_var, self.num_batches_tracked)

    def factors(self) -> tuple[Float32[Array, " channels"], Float32[Array, " channels"]]:
        """`scale` and `shift` for which the result is `x * scale + shift`."""
        scale = self.weight.astype(jnp.float32) * lax.rsqrt(self.running_var + self.eps)
        return scale, self.bias.astype(jnp.float32) - self.running_mean * scale
