"""`UpsampledConv1d` and its inference form against torch in double precision."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import UpsampledConv1d, freeze
from jaxvoice.nn._frozen import FrozenConv1d
from jaxvoice.nn._kernels import portable_kernels
from jaxvoice.nn._upsampled import FrozenUpsampledConv1d


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def exact(layer: UpsampledConv1d, x: np.ndarray) -> np.ndarray:
    weight, bias = (torch.tensor(np.asarray(a), dtype=torch.float64) for a in (layer.conv.weight, layer.conv.bias))
    upsampled = torch.nn.Upsample(scale_factor=2)(torch.tensor(x, dtype=torch.float64).mT)
    return torch.nn.functional.conv1d(upsampled, weight, bias, padding=weight.shape[-1] // 2).mT.numpy()


@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("time", [1, 2, 19])
def test_layer_and_frozen_layer_equal_torch(taps, time, key):
    @eqx.filter_jit
    def both(key, x):
        layer = UpsampledConv1d(5, 7, taps, key=key)
        return layer, layer(x), freeze(layer)(x), jax.vmap(freeze(layer))(x)

    x = draw(2, time, 5)
    layer, *results = both(key, x)
    expected = exact(layer, x)
    for y in results:
        assert y.shape == (2, 2 * time, 7)
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_rounding_error_is_small_with_many_channels(key):
    layer = eqx.filter_jit(UpsampledConv1d)(256, 256, 3, key=key)
    x = 3 + draw(1, 60, 256)  # small differences of large values
    expected = exact(layer, x)
    frozen = eqx.filter_jit(lambda layer, x: freeze(layer)(x))(layer, x)
    assert np.abs(np.asarray(frozen) - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("frozen", [False, True])
def test_masked_positions_have_no_influence(frozen, key):
    @eqx.filter_jit
    def run(key, x, mask):
        layer = UpsampledConv1d(4, 4, 3, key=key)
        return (freeze(layer) if frozen else layer)(x, mask=mask)

    x = draw(2, 9, 4)
    padded = np.concatenate([x, np.full_like(x, np.nan)], 1)
    mask = np.arange(18) < np.full((2, 1), 9)
    np.testing.assert_allclose(run(key, padded, mask)[:, :18], run(key, x, mask[:, :9]), atol=1e-6)


def test_frozen_layer_has_half_of_the_products_and_the_same_path(key):
    layer = UpsampledConv1d(4, 6, 3, key=key)
    object.__setattr__(layer, "path", "up")
    frozen = freeze(layer)
    assert isinstance(frozen, FrozenUpsampledConv1d) and frozen.path == "up"
    lowered = jax.jit(lambda x: frozen(x)).lower(jnp.zeros((100, 4)))
    products = lowered.cost_analysis()["flops"]
    assert products < 100 * 2 * (3 * 4 * 6 + 50)


def test_other_platforms_and_numbers_of_taps_use_convolutions(key):
    with portable_kernels():
        assert isinstance(freeze(UpsampledConv1d(4, 6, 3, key=key)).conv, FrozenConv1d)
    assert isinstance(freeze(UpsampledConv1d(4, 6, 5, key=key)).conv, FrozenConv1d)


def test_output_has_the_dtype_of_the_input(key):
    frozen = freeze(UpsampledConv1d(8, 8, 3, key=key))
    x = jnp.asarray(draw(2, 9, 8))
    low = frozen(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), frozen(x), atol=0.03)


def test_other_numbers_of_channels_and_stacked_layers_raise(key):
    frozen = freeze(UpsampledConv1d(8, 8, 3, key=key))
    with pytest.raises(ShapeError, match="channels"):
        frozen(jnp.zeros((9, 7)))
    stacked = eqx.filter_vmap(lambda key: UpsampledConv1d(2, 2, 3, key=key))(jax.random.split(key))
    with pytest.raises(ConfigError, match="stacked"):
        freeze(stacked)
