"""Normalisation by mean and variance, in evaluation mode."""

import math
from collections.abc import Sequence
from typing import Any

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.elementwise import check_evaluation_mode
from jaxvoice.torchscript.operators.registry import register_operator


def _standardize(x: Array, axes: Any, eps: float) -> Array:
    centred = x - jnp.mean(x, axes, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + cast(eps, x.dtype))


def _per_channel(values: Array | None, x: Array) -> Array | None:
    return None if values is None else values.reshape((1, -1) + (1,) * (x.ndim - 2))


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@register_operator("torch.batch_norm")
def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Array:
    """Batch norm with running statistics, or with batch statistics if there are none."""
    if running_mean is None and running_var is None:
        axes = (0, *range(2, x.ndim))
        return _affine(_standardize(x, axes, eps), _per_channel(weight, x), _per_channel(bias, x))
    check_evaluation_mode(training or running_mean is None or running_var is None, "batch norm in training mode")
    assert running_mean is not None and running_var is not None
    scale = lax.rsqrt(running_var + cast(eps, running_var.dtype))
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    return _affine(x, _per_channel(scale, x), _per_channel(shift, x))


@register_operator("torch.instance_norm")
def instance_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Array:
    """Normalise each channel of each example."""
    if not use_input_stats:
        return batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn_enabled)
    check_evaluation_mode(running_mean is not None, "instance norm that would update its running statistics")
    return _affine(_standardize(x, tuple(range(2, x.ndim)), eps), _per_channel(weight, x), _per_channel(bias, x))


def _expand_front(x: Array, values: Array | None) -> Array | None:
    return None if values is None else values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


@register_operator("torch.layer_norm")
def layer_norm(
    x: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Array:
    """Normalise over the last axes."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return _affine(_standardize(x, axes, eps), _expand_front(x, weight), _expand_front(x, bias))


@register_operator("torch.rms_norm")
def rms_norm(x: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float | None = None) -> Array:
    """Divide by the root mean square over the last axes."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    floor = cast(float(jnp.finfo(x.dtype).eps) if eps is None else eps, x.dtype)
    return _affine(x * lax.rsqrt(jnp.mean(jnp.square(x), axes, keepdims=True) + floor), _expand_front(x, weight), None)


@register_operator("torch.group_norm")
def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Array:
    """Normalise over groups of channels."""
    size = math.prod(x.shape[1:]) // num_groups
    y = _standardize(x.reshape(x.shape[0], num_groups, size), 2, eps).reshape(x.shape)
    return _affine(y, _per_channel(weight, x), _per_channel(bias, x))
