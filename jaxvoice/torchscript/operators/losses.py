"""What programs measure themselves by; a reduction is 0 for none, 1 for the mean, 2 for the sum."""

from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_inexact
from jaxvoice.torchscript.operators.arithmetic import aligned, cast, operands
from jaxvoice.torchscript.operators.functions import xlogy
from jaxvoice.torchscript.operators.registry import register_operator


def reduced(x: Array, reduction: int) -> Array:
    """`x`, its mean or its sum."""
    return x if reduction == 0 else jnp.mean(x) if reduction == 1 else jnp.sum(x)


@register_operator("torch.mse_loss")
def mse_loss(x: Array, target: Array, reduction: int = 1) -> Array:
    """Squared differences."""
    a, b = operands(x, target)
    return reduced(jnp.square(a - b), reduction)


@register_operator("torch.l1_loss")
def l1_loss(x: Array, target: Array, reduction: int = 1) -> Array:
    """Absolute differences."""
    a, b = operands(x, target)
    return reduced(jnp.abs(a - b), reduction)


@register_operator("torch.huber_loss")
def huber_loss(x: Array, target: Array, reduction: int = 1, delta: float = 1.0) -> Array:
    """Squared differences, and absolute ones from a bound."""
    a, b = operands(x, target)
    gap, bound = jnp.abs(a - b), cast(delta, a.dtype)
    return reduced(jnp.where(gap < bound, 0.5 * jnp.square(gap), bound * (gap - 0.5 * bound)), reduction)


@register_operator("torch.smooth_l1_loss")
def smooth_l1_loss(x: Array, target: Array, reduction: int = 1, beta: float = 1.0) -> Array:
    """Absolute differences, and squared ones below a bound."""
    if beta == 0:
        return l1_loss(x, target, reduction)
    return huber_loss(x, target, reduction, beta) / cast(beta, x.dtype)


@register_operator("torch.kl_div")
def kl_div(x: Array, target: Array, reduction: int = 1, *, log_target: bool = False) -> Array:
    """Divergence of log probabilities from a distribution."""
    a, b = operands(x, target)
    return reduced(jnp.exp(b) * (b - a) if log_target else xlogy(b, b) - b * a, reduction)


@register_operator("torch.binary_cross_entropy")
def binary_cross_entropy(x: Array, target: Array, weight: Array | None = None, reduction: int = 1) -> Array:
    """Cross entropy of probabilities, logarithms not below -100."""
    a, b = operands(x, target)
    floor = cast(-100, a.dtype)
    loss = -(b * jnp.maximum(jnp.log(a), floor) + (1 - b) * jnp.maximum(jnp.log1p(-a), floor))
    return reduced(loss if weight is None else jnp.multiply(*aligned(loss, weight)), reduction)


@register_operator("torch.binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array | None = None, pos_weight: Array | None = None, reduction: int = 1
) -> Array:
    """Cross entropy of the sigmoid of `x`."""
    a, b = operands(x, target)
    positive = jax.nn.softplus(-a)
    if pos_weight is not None:
        factor, b_of = aligned(pos_weight, b)
        positive = positive * (1 + (factor - 1) * b_of)
    loss = (1 - b) * a + positive
    return reduced(loss if weight is None else jnp.multiply(*aligned(loss, weight)), reduction)


def _of_classes(weight: Array, x: Array) -> Array:
    """A factor for each class beside `(batch, classes, ...)`."""
    return weight.reshape((1, -1) + (1,) * (x.ndim - 2))


def _nll(x: Array, target: Array, weight: Array | None, ignored: int) -> tuple[Array, Array]:
    """Each loss times its factor, and the factors."""
    kept = target != cast(ignored, target.dtype)
    classes = jnp.where(kept, target, cast(0, target.dtype))
    factors = kept.astype(x.dtype)
    if weight is not None:
        factors = factors * jnp.take(weight, classes, mode="fill")
    picked = jnp.take_along_axis(x, classes[:, None], 1, mode="fill")[:, 0]
    return jnp.where(kept, -picked * factors, cast(0, x.dtype)), factors


@register_operator("torch.nll_loss", "torch.nll_loss_nd", "torch.nll_loss2d")
def nll_loss(
    x: Array, target: Array, weight: Array | None = None, reduction: int = 1, ignore_index: int = -100
) -> Array:
    """Minus the log probabilities, classes on axis 1, of what was right."""
    alone = x.ndim == 1
    if alone:
        x, target = x[None], target[None]
    losses, factors = _nll(x, target, weight, ignore_index)
    if reduction == 1:
        return jnp.sum(losses) / jnp.sum(factors)
    return jnp.sum(losses) if reduction == 2 else losses[0] if alone else losses


@register_operator("torch.cross_entropy_loss")
def cross_entropy_loss(
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Array:
    """Cross entropy of logits, classes on axis 1, with classes or their probabilities."""
    alone = x.ndim == 1
    if alone:
        x, target = x[None], target[None]
    logs, count, smooth = jax.nn.log_softmax(x, 1), x.shape[1], cast(label_smoothing, x.dtype)
    weighed = logs if weight is None else logs * _of_classes(weight, logs)
    if is_inexact(target.dtype):
        chances = target * (1 - smooth) + smooth / count
        losses: Any = -jnp.sum(weighed * chances, 1)
        return reduced(losses[0] if alone and reduction == 0 else losses, reduction)
    losses, factors = _nll(logs, target, weight, ignore_index)
    if label_smoothing:
        kept = target != cast(ignore_index, target.dtype)
        spread = jnp.where(kept, -jnp.sum(weighed, 1), cast(0, x.dtype))
        losses = (1 - smooth) * losses + spread * (smooth / count)
    if reduction == 1:
        return jnp.sum(losses) / jnp.sum(factors)
    return jnp.sum(losses) if reduction == 2 else losses[0] if alone else losses
