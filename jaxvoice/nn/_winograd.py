"""Convolutions of three or five taps with fewer multiplications: Winograd's minimal filtering over time.

Four outputs of five taps need 8 products per pair of channels instead of 20, and four outputs of three taps 6 instead
of 12 (arXiv 1509.09308). The rounding error is at most about twice that of XLA's convolution (3e-6 of the largest
value). The kernel is transformed in advance, so the algorithm is meant for inference.

With a dilation of d, the positions t, t + d, t + 2d, ... are the input of a convolution without dilation. A tile
contains four positions of each of these d signals.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float64

from jaxvoice.nn._kernels import computes_on_cpu

_OUTPUTS = 4
# Interpolation points, besides infinity. Small powers of two keep rounding errors low.
_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(1, 2), Fraction(-1, 2))
# By taps: with fewer channels, the additions before and after the products take longer than the products they save.
_MIN_CHANNELS = {3: 256, 5: 128}
# Signals are padded to whole tiles of four times the dilation, which costs too much for short signals.
_MAX_DILATION = 64


def is_faster(kernel_shape: tuple[int, ...], *, stride: int, dilation: int, groups: int) -> bool:
    """Whether `winograd_conv1d` supports a layer and is faster; `kernel_shape` is torch's (out, in, taps)."""
    return (
        (stride, groups) == (1, 1)
        and dilation <= _MAX_DILATION
        and min(kernel_shape[:2]) >= _MIN_CHANNELS.get(kernel_shape[2], 2**31)
        and computes_on_cpu()
    )


@lru_cache(maxsize=2)
def _matrices(
    taps: int,
) -> tuple[Float64[np.ndarray, "n taps"], Float64[np.ndarray, "n n"], Float64[np.ndarray, "4 n"]]:
    """The transforms of the kernel, the input and the products: `G`, `B^T` and `A^T` in the paper."""
    products = taps + _OUTPUTS - 1

    def evaluation(degree: int) -> np.ndarray:
        at_points = [[float(point**power) for power in range(degree)] for point in _POINTS[: products - 1]]
        return np.array([*at_points, [0.0] * (degree - 1) + [1.0]])

    kernels, inputs = evaluation(taps), np.linalg.inv(evaluation(products)).T
    # Each row of the kernel transform is divided by its sum of magnitudes, which keeps all values of similar size.
    scale = np.abs(kernels).sum(1, keepdims=True)
    inputs = inputs * scale
    inputs[np.abs(inputs) < 1e-12] = 0
    return kernels / scale, inputs, evaluation(_OUTPUTS).T


def transform_kernel(kernel: Float[Array, "out in taps"]) -> Float[Array, "products out in"]:
    """Transform a kernel in torch's layout for `winograd_conv1d`."""
    matrix = jnp.asarray(_matrices(kernel.shape[-1])[0], kernel.dtype)
    return jnp.einsum("pk,oik->poi", matrix, kernel, precision="highest")


def taps_of(kernel: Float[Array, "products out in"]) -> int:
    """The number of taps of a transformed kernel."""
    return kernel.shape[0] - _OUTPUTS + 1


def winograd_conv1d(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "products out in"],
    padding: tuple[int, int],
    dilation: int = 1,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` with a transformed kernel; computed in float32, returned in `x.dtype`."""
    taps = taps_of(kernel)
    (batch, time, channels), (_, inputs, outputs) = x.shape, _matrices(taps)
    frames, tile = time + sum(padding) - dilation * (taps - 1), _OUTPUTS * dilation
    tiles = -(-frames // tile)
    right_padding = tile * (tiles + 1) - time - padding[0]
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (padding[0], right_padding), (0, 0)))
    quadruples = padded.reshape(batch, tiles + 1, _OUTPUTS, dilation, channels)
    # A tile of n outputs needs taps - 1 more inputs, which are the first ones of the next tile.
    tile_inputs = [quadruples[:, :-1, i] for i in range(_OUTPUTS)] + [quadruples[:, 1:, i] for i in range(taps - 1)]
    factors = jnp.stack([_weighted_sum(row, tile_inputs) for row in inputs])
    # One batch of products is faster than a product for each matrix, the more so the fewer tiles there are.
    products = jnp.einsum("pni,poi->pno", factors.reshape(len(inputs), -1, channels), kernel)
    products = products.reshape(*factors.shape[:-1], kernel.shape[1])
    y = jnp.stack([_weighted_sum(row, list(products)) for row in outputs], axis=2)
    return y.reshape(batch, tiles * tile, y.shape[-1])[:, :frames].astype(x.dtype)


def _weighted_sum(weights: Float64[np.ndarray, " n"], arrays: list[Array]) -> Array:
    terms = [float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight]
    return sum(terms[1:], start=terms[0])
