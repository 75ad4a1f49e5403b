"""Matrix products and attention, including the fused operators in traces of torch's layers."""

import math
import string
from typing import Any

from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.arithmetic import aligned, cast, scale
from jaxvoice.torchscript.operators.elementwise import check_evaluation_mode, gelu, softmax
from jaxvoice.torchscript.operators.normalization import layer_norm
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.tensors import OperatorError, Tensor


@register_operator("torch.linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x @ weight.T + bias."""
    y = jnp.matmul(x, weight.T) if weight.ndim == 2 else jnp.matmul(x, weight)
    return y if bias is None else jnp.add(*aligned(y, bias))


@register_operator("torch.matmul", "torch.mm", "torch.bmm", "torch.mv")
def matmul(a: Array, b: Array) -> Array:
    """Product of matrices, of matrices and vectors, or of batches of them."""
    batch = max(a.ndim, b.ndim)
    if min(a.ndim, b.ndim) > 1:
        a, b = (m.reshape((1,) * (batch - m.ndim) + m.shape) for m in (a, b))
    return jnp.matmul(a, b)


@register_operator("torch.dot", "torch.vdot")
def dot(a: Array, b: Array) -> Array:
    """Product of real vectors."""
    if a.ndim != 1 or jnp.issubdtype(a.dtype, jnp.complexfloating):
        raise OperatorError("a dot product of other arrays than real vectors")
    return jnp.dot(a, b)


register_operator("torch.outer")(lambda a, b: a[:, None] * b[None])


@register_operator("torch.addmm", "torch.baddbmm")
def addmm(x: Array, a: Array, b: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """beta * x + alpha * a @ b."""
    product = scale(jnp.matmul(a, b), alpha)
    # In torch, NaN in x does not propagate if beta is 0.
    return product if beta == 0 else jnp.add(*aligned(scale(x, beta), product))


@on_tensors("torch.einsum")
def einsum(equation: str, tensors: list[Tensor], *, path: Any = None) -> Tensor:
    """Sums of products over named axes."""
    if len(equation) > 200 or not set(equation) <= set(string.ascii_letters + ",.-> "):
        raise OperatorError(f"the equation {equation[:40]!r}")
    y = jnp.einsum(equation, *(tensor.values for tensor in tensors))
    # In torch, the result for a single tensor may share its elements.
    return tensors[0].possible_view(y) if len(tensors) == 1 else Tensor(y)


# Attention


@register_operator("torch.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Array,
    key_: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """softmax(query key^T / sqrt(width) + mask) value. A boolean mask is true where attention is allowed."""
    check_evaluation_mode(dropout_p, "dropout in training mode")
    if enable_gqa:
        key_, value = (jnp.repeat(x, query.shape[-3] // x.shape[-3], -3) for x in (key_, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = jnp.matmul(query * cast(factor, query.dtype), key_.swapaxes(-1, -2))
    if is_causal:
        if attn_mask is not None:
            raise ValueError("attn_mask and is_causal cannot be combined")
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    empty = None
    if attn_mask is not None:
        mask, scores = aligned(attn_mask, scores)
        if mask.dtype == jnp.bool_:
            empty = ~jnp.any(mask, -1, keepdims=True)
            scores = jnp.where(mask, scores, cast(-jnp.inf, scores.dtype))
        else:
            scores = scores + mask.astype(scores.dtype)
            empty = jnp.all(jnp.isneginf(scores), -1, keepdims=True)
    if empty is None:
        return jnp.matmul(softmax(scores, -1), value)
    # In torch, the result of a query with all keys masked is 0, not NaN.
    weights = softmax(jnp.where(empty, cast(0, scores.dtype), scores), -1)
    return jnp.matmul(jnp.where(empty, cast(0, scores.dtype), weights), value)


def _heads(x: Array, heads: int) -> Array:
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)


@register_operator("torch._native_multi_head_attention")
def native_multi_head_attention(
    query: Array,
    key_: Array,
    value: Array,
    embed_dim: int,
    num_head: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    mask: Array | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Array, Array | None]:
    """Multi-head self-attention on `(batch, time, channels)`; returns the output and the attention weights."""
    parts = zip((query, key_, value), jnp.split(qkv_weight, 3), jnp.split(qkv_bias, 3), strict=True)
    q, k, v = (_heads(linear(x, w, b), num_head) for x, w, b in parts)
    scores = jnp.matmul(q * cast(1 / math.sqrt(q.shape[-1]), q.dtype), k.swapaxes(-1, -2))
    if mask is not None:
        # torch's fused operator masks positions where an additive mask is not 0, for any value.
        mask = mask.astype(bool)[:, None, None, :] if mask_type == 1 else mask.astype(bool)
        mask, scores = aligned(mask, scores)
        scores = jnp.where(mask, cast(-jnp.inf, scores.dtype), scores)
    weights = softmax(scores, -1)
    y = jnp.matmul(weights, v).swapaxes(1, 2).reshape(query.shape[0], query.shape[1], embed_dim)
    returned = None if not need_weights else jnp.mean(weights, 1) if average_attn_weights else weights
    return linear(y, proj_weight, proj_bias), returned


@register_operator("torch._transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    src: Array,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Array,
    norm_bias_1: Array,
    norm_weight_2: Array,
    norm_bias_2: Array,
    ffn_weight_1: Array,
    ffn_bias_1: Array,
    ffn_weight_2: Array,
    ffn_bias_2: Array,
    mask: Array | None = None,
    mask_type: int | None = None,
) -> Array:
    """A layer of torch's transformer encoder on `(batch, time, channels)`."""

    def attend(x: Array) -> Array:
        return native_multi_head_attention(
            x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, False, True, mask_type
        )[0]

    def feed_forward(x: Array) -> Array:
        hidden: Any = linear(x, ffn_weight_1, ffn_bias_1)
        hidden = gelu(hidden) if use_gelu else jnp.maximum(hidden, cast(0, hidden.dtype))
        return linear(hidden, ffn_weight_2, ffn_bias_2)

    def norm(x: Array, weight: Array, bias: Array) -> Array:
        return layer_norm(x, [embed_dim], weight, bias, eps)

    if norm_first:
        src = src + attend(norm(src, norm_weight_1, norm_bias_1))
        return src + feed_forward(norm(src, norm_weight_2, norm_bias_2))
    src = norm(src + attend(src), norm_weight_1, norm_bias_1)
    return norm(src + feed_forward(src), norm_weight_2, norm_bias_2)
