"""Winograd convolutions against torch's in double precision, and the layers for which they are used."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.nn import Conv1d, freeze
from jaxvoice.nn._frozen import WinogradConv1d
from jaxvoice.nn._winograd import transform_kernel, winograd_conv1d

fast = jax.jit(lambda x, kernel, padding: winograd_conv1d(x, transform_kernel(kernel), padding), static_argnums=2)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def exact(x: np.ndarray, kernel: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    padded = torch.nn.functional.pad(torch.tensor(x, dtype=torch.float64).mT, padding)
    return torch.nn.functional.conv1d(padded, torch.tensor(kernel, dtype=torch.float64)).mT.numpy()


@pytest.mark.parametrize(
    ("time", "padding"), [(1, (2, 2)), (4, (2, 2)), (5, (0, 0)), (6, (4, 0)), (19, (2, 2)), (21, (0, 3))]
)
def test_equals_the_convolution_at_every_length(time, padding):
    x, kernel = draw(2, time, 3), draw(4, 3, 5)
    expected = exact(x, kernel, padding)
    y = fast(x, kernel, padding)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_rounding_error_is_small_with_many_channels():
    x, kernel = draw(1, 120, 256), draw(256, 256, 5) / 36
    expected = exact(x, kernel, (2, 2))
    assert np.abs(np.asarray(fast(x, kernel, (2, 2))) - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_comparison_detects_another_order_of_taps():
    x, kernel = draw(1, 20, 3), draw(3, 3, 5)
    assert np.abs(np.asarray(fast(x, kernel[..., ::-1].copy(), (2, 2))) - exact(x, kernel, (2, 2))).max() > 0.1


@pytest.mark.parametrize(
    ("channels", "taps", "options", "chosen"),
    [
        (128, 5, {"padding": 2}, True),
        (128, 5, {"padding": 2, "weight_norm": True, "use_bias": False}, True),
        (64, 5, {"padding": 2}, False),
        (128, 3, {"padding": 1}, False),
        (128, 5, {"dilation": 2}, False),
        (128, 5, {"stride": 2}, False),
        (128, 5, {"groups": 2}, False),
    ],
)
def test_freeze_uses_winograd_where_it_is_faster(channels, taps, options, chosen, key):
    @eqx.filter_jit
    def both(key, x):
        layer = Conv1d(channels, channels, taps, **options, key=key)
        return layer(x), freeze(layer)(x), jax.vmap(freeze(layer))(x)

    plain, frozen, mapped = both(key, draw(1, 23, channels))
    for y in (frozen, mapped):
        np.testing.assert_allclose(y, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    layer = eqx.filter_eval_shape(Conv1d, channels, channels, taps, **options, key=key)
    assert isinstance(eqx.filter_eval_shape(freeze, layer), WinogradConv1d) == chosen


def test_output_has_the_dtype_of_the_input(key):
    @eqx.filter_jit
    def run(key, x):
        return freeze(Conv1d(128, 128, 5, padding=2, key=key))(x)

    x = draw(2, 9, 128)
    low = run(key, jnp.asarray(x, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), run(key, x), atol=0.03)
