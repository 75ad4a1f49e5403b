"""Monotonic rational-quadratic splines (Durkan et al., arXiv 1906.04032), the bijections of the duration predictor."""

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

_LEAST_SIZE = 1e-3
"""Smallest width and height of a segment, relative to the range, and smallest slope at a knot."""


class _Knots(NamedTuple):
    """The ends of the segments along one axis."""

    positions: Float[Array, "*shape bins+1"]
    sizes: Float[Array, "*shape bins"]


def rational_quadratic_spline(
    x: Float[Array, "*shape"],
    widths: Float[Array, "*shape bins"],
    heights: Float[Array, "*shape bins"],
    slopes: Float[Array, "*shape bins-1"],
    *,
    bound: float,
    inverse: bool = False,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """A spline that maps [-bound, bound] to itself and is the identity outside.

    **Arguments:** `x`, the values; `widths` and `heights`, logits of the sizes of the segments; `slopes`, slopes at the
    inner knots before a softplus, for each value; `inverse`, whether the inverse is computed. The slopes at the ends
    are 1.

    **Returns:** the results, and the logarithms of the absolute derivatives, both in float32 or, for float64 values, in
    float64.

    Source: jaywalnut310/vits `transforms.py`, `unconstrained_rational_quadratic_spline`.
    """
    dtype = np.promote_types(x.dtype, np.float32)
    x, widths, heights, slopes = (values.astype(dtype) for values in (x, widths, heights, slopes))
    inside = (x >= -bound) & (x <= bound)
    # The gradient of the branch that is not selected should be finite, so the spline never sees values outside.
    safe = jnp.where(inside, x, jnp.zeros((), dtype))
    across, along = _knots(widths, bound), _knots(heights, bound)
    ones = jnp.ones((*slopes.shape[:-1], 1), dtype)
    slopes = jnp.concatenate([ones, _LEAST_SIZE + jax.nn.softplus(slopes), ones], -1)
    segment = _segment((along if inverse else across).positions, safe)
    x0, width, y0, height, slope0, slope1 = (
        jnp.sum(jnp.where(segment, values, jnp.zeros((), dtype)), -1)
        for values in (
            across.positions[..., :-1],
            across.sizes,
            along.positions[..., :-1],
            along.sizes,
            slopes[..., :-1],
            slopes[..., 1:],
        )
    )
    mean = height / width
    bend = slope0 + slope1 - 2 * mean
    if inverse:
        rise = safe - y0
        a = rise * bend + height * (mean - slope0)
        b = height * slope0 - rise * bend
        # Rounding can make the discriminant negative. The root of zero has no gradient.
        root = jnp.sqrt(jnp.maximum(b * b + 4 * a * mean * rise, jnp.finfo(dtype).tiny))
        place = 2 * mean * rise / (b + root)
        y = place * width + x0
    else:
        place = (safe - x0) / width
        rise = height * (mean * place**2 + slope0 * place * (1 - place))
        y = y0 + rise / (mean + bend * place * (1 - place))
    denominator = mean + bend * place * (1 - place)
    slope = mean**2 * (slope1 * place**2 + 2 * mean * place * (1 - place) + slope0 * (1 - place) ** 2)
    log_slope = jnp.log(slope) - 2 * jnp.log(denominator)
    y = jnp.where(inside, y, x)
    return y, jnp.where(inside, -log_slope if inverse else log_slope, jnp.zeros((), dtype))


def _knots(logits: Float[Array, "*shape bins"], bound: float) -> _Knots:
    """The knots of segments whose sizes have these logits; the first is `-bound` and the last `bound`, exactly."""
    bins = logits.shape[-1]
    shares = _LEAST_SIZE + (1 - _LEAST_SIZE * bins) * jax.nn.softmax(logits, -1)
    inner = 2 * bound * jnp.cumsum(shares, -1)[..., :-1] - bound
    end = jnp.full((*logits.shape[:-1], 1), bound, logits.dtype)
    positions = jnp.concatenate([-end, inner, end], -1)
    return _Knots(positions, jnp.diff(positions, axis=-1))


def _segment(positions: Float[Array, "*shape bins+1"], x: Float[Array, "*shape"]) -> Array:
    """Whether `x` is in each of the segments; true for one of them. A value at a knot is in the segment after it."""
    reached = x[..., None] >= positions
    # The last segment includes its end.
    return reached[..., :-1] & jnp.concatenate([~reached[..., 1:-1], jnp.ones((*x.shape, 1), bool)], -1)
