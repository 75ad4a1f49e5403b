"""Self-attention with learned relative positions inside a window, on `(*batch, time, channels)`."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.nn import Conv1d, Module, dropout
from jaxvoice.nn._inputs import check_input, check_mask, check_rate
from jaxvoice.nn._random import torch_uniform

_MASKED = -1e4  # logit of padding


def spread(values: Float[Array, "*batch time span"]) -> Float[Array, "*batch time time"]:
    """A square matrix with `values` around its diagonal, and zeros elsewhere.

    Entry `(i, j)` is `values[i, j - i + span // 2]` where this exists. `span` is odd.
    """
    *batch, time, span = values.shape
    width = time + span - 1
    # Rows of one more column than the result, read without the end, move by one column from row to row.
    flat = jnp.pad(values, (*[(0, 0)] * (len(batch) + 1), (0, width + 1 - span))).reshape(*batch, time * (width + 1))
    return flat[..., : time * width].reshape(*batch, time, width)[..., span // 2 : span // 2 + time]


def gather(matrix: Float[Array, "*batch time time"], span: int) -> Float[Array, "*batch time {span}"]:
    """The inverse of `spread`: the `span` values around the diagonal of `matrix` in each row, zero outside it."""
    *batch, time, _ = matrix.shape
    width, front = time + span - 1, [(0, 0)] * len(batch)
    padded = jnp.pad(matrix, (*front, (0, 0), (span // 2, span // 2))).reshape(*batch, time * width)
    return jnp.pad(padded, (*front, (0, time))).reshape(*batch, time, width + 1)[..., :span]


class WindowedAttention(Module):
    """Multi-head self-attention whose logits and outputs depend on the distance of near positions (arXiv 1803.02155).

    The logit of query i and key j is `q_i . (k_j + r_(j-i)) / sqrt(dim / heads)`, and the output of i is the sum over j
    of `p_ij (v_j + s_(j-i))`. `r` is `emb_rel_k` and `s` is `emb_rel_v`, which all heads share. They are zero for
    distances of more than `window` positions.

    jaywalnut310/vits `attentions.py:MultiHeadAttention`; coqui-ai/TTS `layers/glow_tts/transformer.py`.
    """

    no_streaming_form: ClassVar[str] = (
        "its attention is global, so that each output position depends on all later input positions. Pass the whole "
        "text."
    )

    conv_q: Conv1d
    conv_k: Conv1d
    conv_v: Conv1d
    conv_o: Conv1d
    emb_rel_k: Float[Array, "1 span head_dim"]
    emb_rel_v: Float[Array, "1 span head_dim"]
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, window: int, *, dropout: float = 0.0, key: PRNGKeyArray):
        """**Arguments:** channels `dim`, number of `heads`, largest distance `window`, and the rate of `dropout` on the
        attention probabilities.

        **Raises:** `ConfigError` if `dim` is not a multiple of `heads`, or for `dropout` outside [0, 1).
        """
        check_rate(dropout)
        if heads < 1 or dim % heads:
            raise ConfigError(f"dim is {dim}; it should be a multiple of heads, which is {heads}.")
        *keys, rel_k_key, rel_v_key = jax.random.split(key, 6)
        convs = [Conv1d(dim, dim, 1, key=k) for k in keys]
        for i in range(3):
            # Xavier-uniform weights, as in the releases.
            weight = torch_uniform((dim, dim, 1), 1, key=jax.random.fold_in(keys[i], 1)) * math.sqrt(3 / dim)
            convs[i] = eqx.tree_at(lambda conv: conv.weight, convs[i], weight)
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = convs
        shape = (1, 2 * window + 1, dim // heads)
        self.emb_rel_k = jax.random.normal(rel_k_key, shape) / math.sqrt(dim // heads)
        self.emb_rel_v = jax.random.normal(rel_v_key, shape) / math.sqrt(dim // heads)
        self.heads, self.dropout = heads, dropout

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time dim"]:
        """**Arguments:**

        - `x`: `(*batch, time, dim)`; products are computed in its dtype, logits and softmax in float32.
        - `mask`: true at valid positions. Padding is not attended to, and its output is arbitrary.

        **Raises:** `ShapeError` for a wrong number of channels, or a mask whose shape does not match `x`; `ConfigError`
        for dropout without `key` unless `inference`.
        """
        check_input(x, self.heads * self.emb_rel_k.shape[-1], "time")
        check_mask(mask, x.shape[:-1])

        def split(y: Array) -> Array:
            # Heads before time, so that each head is contiguous in memory, which is faster on CPUs.
            return jnp.moveaxis(y.reshape(*y.shape[:-1], self.heads, -1), -2, -3)

        query, keys, values = (split(conv(x)) for conv in (self.conv_q, self.conv_k, self.conv_v))
        near_keys, near_values = self.emb_rel_k[0].astype(x.dtype), self.emb_rel_v[0].astype(x.dtype)
        logits = jnp.einsum("...qd,...kd->...qk", query, keys, preferred_element_type=jnp.float32)
        near = jnp.einsum("...qd,rd->...qr", query, near_keys, preferred_element_type=jnp.float32)
        logits = (logits + spread(near)) * (1 / math.sqrt(query.shape[-1]))
        if mask is not None:
            logits = jnp.where(mask[..., None, None, :], logits, jnp.asarray(_MASKED, logits.dtype))
        probabilities = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
        probabilities = dropout(probabilities, self.dropout, inference=inference, key=key)
        attended = jnp.einsum("...qk,...kd->...qd", probabilities, values)
        attended = attended + jnp.einsum("...qr,rd->...qd", gather(probabilities, len(near_values)), near_values)
        return self.conv_o(jnp.moveaxis(attended, -3, -2).reshape(x.shape))
