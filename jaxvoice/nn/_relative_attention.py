"""Self-attention with relative positions on `(*batch, time, channels)`, with the names of NVIDIA NeMo."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn._inputs import check_input, check_mask, check_rate, masked
from jaxvoice.nn._linear import Linear
from jaxvoice.nn._module import Module
from jaxvoice.nn._random import dropout

_MASKED = -1e4  # logit of padding


def relative_positions(time: int, dim: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "2*{time}-1 {dim}"]:
    """Sinusoids for the distances `time - 1` down to `1 - time` of a query from a key (arXiv 1901.02860, 3.3).

    Even columns are sines, odd columns are cosines of the distance divided by `10000 ** (2 i / dim)`.

    **Raises:** `ShapeError` for a `time` below 1 or an odd `dim`.
    """
    if time < 1 or dim < 2 or dim % 2:
        raise ShapeError(f"time is {time} and dim is {dim}; they should be at least 1, and dim should be even.")
    distance = (time - 1) - jnp.arange(2 * time - 1, dtype=jnp.float32)
    rates = jnp.exp(jnp.arange(0, dim, 2, dtype=jnp.float32) * (-math.log(10000.0) / dim))
    angles = distance[:, None] * rates[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(2 * time - 1, dim).astype(dtype)


def _shift(logits: Float[Array, "*batch time 2*time"]) -> Float[Array, "*batch time time"]:
    """Entry `(i, j)` of the result is entry `(i, time - i + j)` of `logits` (arXiv 1901.02860, appendix B)."""
    *batch, time, width = logits.shape
    moved = logits.reshape(*batch, width * time)[..., time:]
    return moved.reshape(*batch, time, width - 1)[..., :time]


class RelativeAttention(Module):
    """Multi-head self-attention whose logits depend on the distance of positions (arXiv 1901.02860, 3.3).

    The logit of query i and key j is `((q_i + u) . k_j + (q_i + v) . p_(i - j)) / sqrt(dim / heads)`, where `p` are
    projected sinusoids, and `u` and `v` are learned. The names are those of NeMo's `RelPositionMultiHeadAttention`.
    """

    no_streaming_form: ClassVar[str] = (
        "its attention is global, so that each output position depends on all later input positions. Pass the whole "
        "signal, or windows of it."
    )

    linear_q: Linear
    linear_k: Linear
    linear_v: Linear
    linear_out: Linear
    linear_pos: Linear
    pos_bias_u: Float[Array, "heads head_dim"]
    pos_bias_v: Float[Array, "heads head_dim"]
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0, key: PRNGKeyArray):
        """**Arguments:** channels `dim`, number of `heads`, and the rate of `dropout` on the attention probabilities.
        `u` and `v` are initialised to zero.

        **Raises:** `ConfigError` if `dim` is not a multiple of `heads`, or for `dropout` outside [0, 1).
        """
        check_rate(dropout)
        if heads < 1 or dim % heads:
            raise ConfigError(f"dim is {dim}; it should be a multiple of heads, which is {heads}.")
        keys = jax.random.split(key, 5)
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (Linear(dim, dim, key=k) for k in keys[:4])
        self.linear_pos = Linear(dim, dim, use_bias=False, key=keys[4])
        self.pos_bias_u = jnp.zeros((heads, dim // heads))
        self.pos_bias_v = jnp.zeros((heads, dim // heads))
        self.dropout = dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        positions: Float[Array, "2*time-1 dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """**Arguments:**

        - `x`: `(*batch, time, dim)`; products are computed in its dtype, logits and softmax in float32.
        - `positions`: the result of `relative_positions(time, dim)`.
        - `mask`: true at valid positions, false at padding. Padding is not attended to, and attends to nothing: its
            output is the bias of `linear_out`.

        **Raises:** `ShapeError` for a wrong number of channels or positions, or a mask whose shape does not match `x`;
        `ConfigError` for dropout without `key` unless `inference`.
        """
        heads, head_dim = self.pos_bias_u.shape
        check_input(x, heads * head_dim, "time")
        check_mask(mask, x.shape[:-1])
        time = x.shape[-2]
        if positions.shape != (2 * time - 1, x.shape[-1]):
            expected = (2 * time - 1, x.shape[-1])
            raise ShapeError(f"The shape of positions is {positions.shape}; it should be {expected} for this input.")

        def split(y: Array) -> Array:
            # Heads before time, so that each head is contiguous in memory, which is faster on CPUs.
            return jnp.moveaxis(y.reshape(*y.shape[:-1], heads, head_dim), -2, -3)

        def biased(query: Array, bias: Array) -> Array:
            shape = (1,) * (query.ndim - 3) + (heads, 1, head_dim)
            return query + bias.astype(query.dtype).reshape(shape)

        query, keys, values = (split(linear(x)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        # The shift needs a first column of arbitrary logits.
        distances = split(self.linear_pos(jnp.pad(positions.astype(x.dtype), ((1, 0), (0, 0)))))
        # Without an own copy for each example, XLA transposes the logits.
        distances = jnp.broadcast_to(distances, (*query.shape[:-2], *distances.shape[-2:]))
        content = jnp.einsum(
            "...qd,...kd->...qk", biased(query, self.pos_bias_u), keys, preferred_element_type=jnp.float32
        )
        relative = jnp.einsum(
            "...qd,...pd->...qp", biased(query, self.pos_bias_v), distances, preferred_element_type=jnp.float32
        )
        logits = (content + _shift(relative)) * (1 / math.sqrt(head_dim))
        if mask is not None:
            logits = jnp.where(mask[..., None, None, :], logits, jnp.float32(_MASKED))
        probabilities = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
        probabilities = dropout(probabilities, self.dropout, inference=inference, key=key)
        attended = jnp.moveaxis(jnp.einsum("...qk,...kd->...qd", probabilities, values), -3, -2)
        return self.linear_out(masked(attended.reshape(x.shape), mask))
