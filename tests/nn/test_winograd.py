"""Winograd convolutions against torch's in double precision, and the layers for which they are used."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.nn import Conv1d, freeze
from jaxvoice.nn._frozen import WinogradConv1d
from jaxvoice.nn._winograd import transform_kernel, winograd_conv1d


@eqx.filter_jit
def fast(x, kernel, padding, dilation=1):
    return winograd_conv1d(x, transform_kernel(kernel), padding, dilation)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def exact(x: np.ndarray, kernel: np.ndarray, padding: tuple[int, int], dilation: int = 1) -> np.ndarray:
    padded = torch.nn.functional.pad(torch.tensor(x, dtype=torch.float64).mT, padding)
    return torch.nn.functional.conv1d(padded, torch.tensor(kernel, dtype=torch.float64), dilation=dilation).mT.numpy()


@pytest.mark.parametrize(
    ("time", "taps", "padding", "dilation"),
    [
        (1, 5, (2, 2), 1),
        (4, 5, (2, 2), 1),
        (5, 5, (0, 0), 1),
        (6, 5, (4, 0), 1),
        (19, 5, (2, 2), 1),
        (21, 5, (0, 3), 1),
        (1, 3, (1, 1), 1),
        (23, 3, (1, 1), 1),
        (24, 3, (2, 0), 1),
        (1, 3, (4, 4), 4),
        (16, 3, (4, 4), 4),
        (37, 3, (3, 3), 3),
        (41, 5, (4, 4), 2),
        (9, 3, (0, 0), 4),
        (70, 3, (0, 5), 8),
    ],
)
def test_equals_the_convolution_at_every_length(time, taps, padding, dilation):
    x, kernel = draw(2, time, 3), draw(4, 3, taps)
    expected = exact(x, kernel, padding, dilation)
    y = fast(x, kernel, padding, dilation)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("taps", "dilation"), [(5, 1), (3, 1), (3, 16)])
def test_rounding_error_is_small_with_many_channels(taps, dilation):
    x, kernel, pad = draw(1, 120, 256), draw(256, 256, taps) / 36, dilation * (taps - 1) // 2
    expected = exact(x, kernel, (pad, pad), dilation)
    assert np.abs(np.asarray(fast(x, kernel, (pad, pad), dilation)) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("taps", [3, 5])
def test_the_comparison_detects_another_order_of_taps(taps):
    x, kernel = draw(1, 20, 3), draw(3, 3, taps)
    assert np.abs(np.asarray(fast(x, kernel[..., ::-1].copy(), (2, 2))) - exact(x, kernel, (2, 2))).max() > 0.1


@pytest.mark.parametrize(
    ("channels", "taps", "options", "chosen"),
    [
        ((128, 128), 5, {"padding": 2}, True),
        ((128, 128), 5, {"padding": 2, "weight_norm": True, "use_bias": False}, True),
        ((128, 128), 5, {"dilation": 2}, True),
        ((64, 64), 5, {"padding": 2}, False),
        ((256, 512), 3, {"padding": 8, "dilation": 8, "weight_norm": True}, True),
        ((256, 256), 3, {"padding": 1}, True),
        ((256, 256), 3, {"padding": 128, "dilation": 128}, False),
        ((128, 512), 3, {"padding": 1}, False),
        ((256, 256), 1, {}, False),
        ((128, 128), 7, {"padding": 3}, False),
        ((128, 128), 5, {"stride": 2}, False),
        ((128, 128), 5, {"groups": 2}, False),
    ],
)
def test_freeze_uses_winograd_where_it_is_faster(channels, taps, options, chosen, key):
    @eqx.filter_jit
    def both(key, x):
        layer = Conv1d(*channels, taps, **options, key=key)
        return layer(x), freeze(layer)(x), jax.vmap(freeze(layer))(x)

    plain, frozen, mapped = both(key, draw(1, 23, channels[0]))
    for y in (frozen, mapped):
        np.testing.assert_allclose(y, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    layer = eqx.filter_eval_shape(Conv1d, *channels, taps, **options, key=key)
    assert isinstance(eqx.filter_eval_shape(freeze, layer), WinogradConv1d) == chosen


def test_inputs_that_are_too_short_raise(key):
    layer = eqx.filter_jit(freeze)(Conv1d(256, 256, 3, padding=1, dilation=4, key=key))
    with pytest.raises(ShapeError, match="length of the input is 6; it should be at least 7 for a convolution"):
        layer(jnp.zeros((6, 256)))


def test_output_has_the_dtype_of_the_input(key):
    @eqx.filter_jit
    def run(key, x):
        return freeze(Conv1d(128, 128, 5, padding=2, key=key))(x)

    x = draw(2, 9, 128)
    low = run(key, jnp.asarray(x, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), run(key, x), atol=0.03)
