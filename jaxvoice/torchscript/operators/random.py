"""Random numbers, from a key. They follow torch's distributions and cannot equal its numbers."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxvoice.torchscript.dtypes import FLOAT, default_int, dtype_of_code, is_inexact
from jaxvoice.torchscript.operators.arithmetic import aligned, cast
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator
from jaxvoice.torchscript.tensors import Refused, Tensor


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


def _drawn(x: Tensor, new: Array) -> Tensor:
    x.assign(new)
    return x


def _draws_into(x: Tensor) -> np.dtype:
    """The type of random real numbers for `x`."""
    if not is_inexact(x.dtype):
        raise Refused(f"real random numbers in a tensor of {x.dtype}")
    return x.dtype


@on_tensors("torch.normal_")
def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Normal numbers in the place of the elements."""
    dtype = _draws_into(x)
    return _drawn(x, jax.random.normal(key, x.shape, dtype) * cast(std, dtype) + cast(mean, dtype))


@on_tensors("torch.log_normal_")
def log_normal_(x: Tensor, mean: float = 1.0, std: float = 2.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Numbers whose logarithms are normal."""
    dtype = _draws_into(x)
    return _drawn(x, jnp.exp(jax.random.normal(key, x.shape, dtype) * cast(std, dtype) + cast(mean, dtype)))


@on_tensors("torch.uniform_")
def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Uniform numbers between two bounds."""
    dtype = _draws_into(x)
    return _drawn(x, jax.random.uniform(key, x.shape, dtype, cast(low, dtype), cast(high, dtype)))


@on_tensors("torch.exponential_")
def exponential_(x: Tensor, lambd: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Numbers of the exponential distribution of a rate."""
    dtype = _draws_into(x)
    return _drawn(x, jax.random.exponential(key, x.shape, dtype) / cast(lambd, dtype))


@on_tensors("torch.cauchy_")
def cauchy_(x: Tensor, median: float = 0.0, sigma: float = 1.0, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Numbers of the Cauchy distribution."""
    dtype = _draws_into(x)
    return _drawn(x, jax.random.cauchy(key, x.shape, dtype) * cast(sigma, dtype) + cast(median, dtype))


@on_tensors("torch.geometric_")
def geometric_(x: Tensor, p: float, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """How many trials it takes until one succeeds."""
    draws = jax.random.geometric(key, cast(p, FLOAT), x.shape)
    return _drawn(x, draws.astype(x.dtype))


@on_tensors("torch.bernoulli_")
def bernoulli_(x: Tensor, p: Any = 0.5, *, key: PRNGKeyArray, **_: Any) -> Tensor:
    """1 with the probability `p`, or that of each element of it, else 0."""
    chances = p.values.astype(FLOAT) if isinstance(p, Tensor) else cast(p, FLOAT)
    return _drawn(x, jax.random.bernoulli(key, aligned(chances, x.values)[0], x.shape).astype(x.dtype))


@on_tensors("torch.random_")
def random_(x: Tensor, *bounds: int | None, key: PRNGKeyArray, **_: Any) -> Tensor:
    """Whole numbers from a bound, 0 if none is given, to below another, or as many as the type holds."""
    low, high = (0, None) if not bounds else (0, bounds[0]) if len(bounds) == 1 else bounds
    # Real numbers hold as many whole ones as their mantissa has bits, one of which is implicit.
    most = 2 ** (jnp.finfo(x.dtype).nmant + 1) + 1 if is_inexact(x.dtype) else int(jnp.iinfo(x.dtype).max)
    if x.dtype == np.bool_:
        raise Refused("whole random numbers in truth values")
    wide = default_int()
    top = min(most if high is None else high, int(jnp.iinfo(wide).max))
    return _drawn(x, jax.random.randint(key, x.shape, low or 0, top, wide).astype(x.dtype))


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
