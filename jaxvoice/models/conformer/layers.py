"""The layers of the Conformer (arXiv 2005.08100), with the names of NVIDIA NeMo."""

from typing import overload

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.nn import (
    BatchNormState,
    Conv1d,
    Conv2d,
    FixedBatchNorm,
    LayerNorm,
    Linear,
    MaskedBatchNorm,
    Module,
    RelativeAttention,
    dropout,
    length_mask,
    masked,
    subkeys,
)


class ConvolutionState(eqx.Module):
    """The state of a `ConvolutionModule`."""

    batch_norm: BatchNormState


class LayerState(eqx.Module):
    """The state of a `ConformerLayer`."""

    conv: ConvolutionState


def subsampled(count):
    """The length after one convolution of the subsampling: half of `count`, rounded up."""
    return (count + 1) // 2


class ConvSubsampling(Module):
    """Two convolutions with stride 2 over time and frequency, which reduce the frame rate to a quarter.

    If `masks_padding` is true, padding is zeroed before and after each convolution, as in NeMo since 2.5. Earlier
    releases zero nothing, so the padding affects the last frame.
    """

    conv: tuple[Conv2d, None, Conv2d]
    out: Linear
    masks_padding: bool = eqx.field(static=True)

    def __init__(self, config: ConformerConfig, *, key: PRNGKeyArray):
        first_key, second_key, out_key = jax.random.split(key, 3)
        channels, bands = config.subsampling_channels, subsampled(subsampled(config.mel.num_mels))
        first = Conv2d(1, channels, 3, stride=2, padding=1, key=first_key)
        # As in torch's list of layers, an activation without weights is between the convolutions.
        self.conv = (first, None, Conv2d(channels, channels, 3, stride=2, padding=1, key=second_key))
        self.out = Linear(channels * bands, config.dim, key=out_key)
        self.masks_padding = config.nemo_release == "2.6"

    def __call__(
        self, features: Float[Array, "*batch frames mels"], *, length: Int[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch time dim"]:
        """The subsampled frames. `length` is the number of valid frames of each example; `None` means all."""
        x, count = features[..., None], length if self.masks_padding else None
        x = _without_padding(x, count)
        for conv in (self.conv[0], self.conv[2]):
            x = jax.nn.relu(conv(x))
            count = None if count is None else subsampled(count)
            x = _without_padding(x, count)
        # torch's order of the inputs of `out` is channel, then band.
        return self.out(x.swapaxes(-1, -2).reshape(*x.shape[:-2], -1))


def _without_padding(
    x: Float[Array, "*batch time bands channels"], count: Int[Array, "*batch"] | None
) -> Float[Array, "*batch time bands channels"]:
    if count is None:
        return x
    mask = length_mask(count, x.shape[-3], batch=x.shape[:-3])
    return jnp.where(mask[..., None, None], x, jnp.zeros((), x.dtype))


class FeedForward(Module):
    """Two linear maps with SiLU between them."""

    linear1: Linear
    linear2: Linear
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0, key: PRNGKeyArray):
        first_key, second_key = jax.random.split(key)
        self.linear1 = Linear(dim, hidden, key=first_key)
        self.linear2 = Linear(hidden, dim, key=second_key)
        self.dropout = dropout

    def __call__(
        self, x: Float[Array, "*batch dim"], *, inference: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*batch dim"]:
        """**Raises:** `ConfigError` for dropout without `key` unless `inference`."""
        hidden = dropout(jax.nn.silu(self.linear1(x)), self.dropout, inference=inference, key=key)
        return self.linear2(hidden)


class ConvolutionModule(Module):
    """The convolution module: GLU, depthwise convolution, batch norm, SiLU.

    `batch_norm` is a `MaskedBatchNorm` in training, a `FixedBatchNorm` in models that are stored, and `None` if it is
    folded into the depthwise convolution.
    """

    pointwise_conv1: Conv1d
    depthwise_conv: Conv1d
    batch_norm: MaskedBatchNorm | FixedBatchNorm | None
    pointwise_conv2: Conv1d

    def __init__(self, dim: int, kernel_size: int, *, key: PRNGKeyArray):
        first_key, depthwise_key, second_key = jax.random.split(key, 3)
        self.pointwise_conv1 = Conv1d(dim, 2 * dim, 1, key=first_key)
        self.depthwise_conv = Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, key=depthwise_key)
        self.batch_norm = MaskedBatchNorm(dim)
        self.pointwise_conv2 = Conv1d(dim, dim, 1, key=second_key)

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        state: None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
    ) -> Float[Array, "*batch time dim"]: ...

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        state: ConvolutionState,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch time dim"], ConvolutionState]: ...

    def __call__(self, x, state=None, *, mask=None, inference=False):
        """The output; with `state`, also the running statistics after this batch.

        **Raises:** `ConfigError` if `batch_norm` needs a state and `state` is `None`, or the other way round.
        """
        y = masked(jax.nn.glu(self.pointwise_conv1(x), axis=-1), mask)
        y = self.depthwise_conv(y)
        norm = self.batch_norm
        if isinstance(norm, MaskedBatchNorm) != (state is not None):
            problem = "None" if state is None else "given"
            kind = "a MaskedBatchNorm" if state is None else "a FixedBatchNorm, or folded into the convolution"
            wanted = "a state for training. Use with_state for inference" if state is None else "None"
            raise ConfigError(f"state is {problem}, but the batch norm is {kind}; state should be {wanted}.")
        if isinstance(norm, MaskedBatchNorm):
            assert state is not None
            y, normalised = norm(y, state.batch_norm, mask=mask, inference=inference)
            state = ConvolutionState(normalised)
        elif norm is not None:
            y = norm(y)
        y = self.pointwise_conv2(jax.nn.silu(y))
        return y if state is None else (y, state)


class ConformerLayer(Module):
    """Half a feed-forward network, self-attention, the convolution module, and half a feed-forward network."""

    norm_feed_forward1: LayerNorm
    feed_forward1: FeedForward
    norm_conv: LayerNorm
    conv: ConvolutionModule
    norm_self_att: LayerNorm
    self_attn: RelativeAttention
    norm_feed_forward2: LayerNorm
    feed_forward2: FeedForward
    norm_out: LayerNorm
    dropout: float = eqx.field(static=True)

    def __init__(self, config: ConformerConfig, *, key: PRNGKeyArray):
        keys, dim = jax.random.split(key, 4), config.dim
        self.norm_feed_forward1, self.norm_conv, self.norm_self_att, self.norm_feed_forward2, self.norm_out = (
            LayerNorm(dim) for _ in range(5)
        )
        self.feed_forward1 = FeedForward(dim, config.feed_forward, dropout=config.dropout, key=keys[0])
        self.conv = ConvolutionModule(dim, config.kernel_size, key=keys[1])
        self.self_attn = RelativeAttention(dim, config.heads, dropout=config.attention_dropout, key=keys[2])
        self.feed_forward2 = FeedForward(dim, config.feed_forward, dropout=config.dropout, key=keys[3])
        self.dropout = config.dropout

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        positions: Float[Array, "2*time-1 dim"],
        state: None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]: ...

    @overload
    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        positions: Float[Array, "2*time-1 dim"],
        state: LayerState,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch time dim"], LayerState]: ...

    def __call__(self, x, positions, state=None, *, mask=None, inference=False, key=None):
        """The output; with `state`, also the running statistics after this batch.

        `positions` is the result of `jaxvoice.nn.relative_positions`. Errors are those of the parts.
        """
        keys = subkeys(key, 7)

        def drop(y, number):
            return dropout(y, self.dropout, inference=inference, key=keys[number])

        y = self.feed_forward1(self.norm_feed_forward1(x), inference=inference, key=keys[0])
        x = x + 0.5 * drop(y, 1)
        y = self.self_attn(self.norm_self_att(x), positions, mask=mask, inference=inference, key=keys[2])
        x = x + drop(y, 3)
        if state is None:
            y = self.conv(self.norm_conv(x), mask=mask, inference=inference)
        else:
            y, convolved = self.conv(self.norm_conv(x), state.conv, mask=mask, inference=inference)
            state = LayerState(convolved)
        x = x + drop(y, 4)
        y = self.feed_forward2(self.norm_feed_forward2(x), inference=inference, key=keys[5])
        x = self.norm_out(x + 0.5 * drop(y, 6))
        return x if state is None else (x, state)
