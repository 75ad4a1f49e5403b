"""Random numbers, from a key. They follow torch's distributions and cannot equal its numbers."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxvoice.weights.torchscript.dtypes import FLOAT, default_int, dtype_of_code, is_inexact
from jaxvoice.weights.torchscript.operators.arithmetic import cast
from jaxvoice.weights.torchscript.operators.registry import register_operator


def _dtype(code: int | None, default: Any) -> Any:
    return default if code is None else dtype_of_code(code)


@register_operator("torch.rand")
def rand(size: Sequence[int], *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """Uniform numbers from 0 to 1."""
    return jax.random.uniform(key, tuple(size), _dtype(dtype, FLOAT))


@register_operator("torch.randn")
def randn(size: Sequence[int], *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """Normal numbers."""
    return jax.random.normal(key, tuple(size), _dtype(dtype, FLOAT))


@register_operator("torch.rand_like")
def rand_like(x: Array, *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """Uniform numbers in the shape of another tensor."""
    return jax.random.uniform(key, x.shape, _dtype(dtype, x.dtype))


@register_operator("torch.randn_like")
def randn_like(x: Array, *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """Normal numbers in the shape of another tensor."""
    return jax.random.normal(key, x.shape, _dtype(dtype, x.dtype))


@register_operator("torch.randint")
def randint(low: int, high: Any, size: Any = None, *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """Whole numbers below a bound."""
    low, high, size = (0, low, high) if size is None else (low, high, size)
    return jax.random.randint(key, tuple(size), low, high, _dtype(dtype, default_int()))


@register_operator("torch.randperm")
def randperm(n: int, *, dtype: int | None = None, key: PRNGKeyArray, **_: Any) -> Array:
    """The numbers below `n` in random order."""
    return jax.random.permutation(key, n).astype(_dtype(dtype, default_int()))


@register_operator("torch.normal")
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, key: PRNGKeyArray, **_: Any) -> Array:
    """Normal numbers of given means and deviations."""
    arrays = [a for a in (mean, std) if hasattr(a, "shape")]
    shape: Any = tuple(size) if size is not None else jnp.broadcast_shapes(*(a.shape for a in arrays))
    dtype = arrays[0].dtype if arrays and is_inexact(arrays[0].dtype) else FLOAT
    return jax.random.normal(key, shape, dtype) * cast(std, dtype) + cast(mean, dtype)


@register_operator("torch.bernoulli")
def bernoulli(x: Array, p: float | None = None, *, key: PRNGKeyArray, **_: Any) -> Array:
    """1 with the probability that each element, or `p`, says."""
    return jax.random.bernoulli(key, x if p is None else p, x.shape).astype(x.dtype)


@register_operator("torch.multinomial")
def multinomial(x: Array, num_samples: int, replacement: bool = False, *, key: PRNGKeyArray, **_: Any) -> Array:
    """Indices drawn with the probabilities of the last axis."""
    shape = (*x.shape[:-1], num_samples)
    logits = jnp.log(x)[..., None, :]
    if not replacement:
        # The largest of logits with Gumbel noise are draws without replacement.
        noisy = jnp.log(x) + jax.random.gumbel(key, x.shape, x.dtype)
        return jax.lax.top_k(noisy, num_samples)[1].astype(default_int())
    return jax.random.categorical(key, logits, -1, shape=shape).astype(default_int())
