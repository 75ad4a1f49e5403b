"""Attention with relative positions compared with torch, where each pair of positions has its own sinusoid."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import RelativeAttention, relative_positions
from jaxvoice.weights.array_names import load_state
from tests.reference.conformer_torch import Attention

DIM, HEADS = 12, 3


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = Attention(DIM, HEADS)
    skeleton = eqx.filter_eval_shape(RelativeAttention, DIM, HEADS, key=jax.random.key(0))
    return load_state(skeleton, {name: value.numpy() for name, value in theirs.state_dict().items()}), theirs


def inputs(*shape):
    return np.random.default_rng(1).normal(size=(*shape, DIM)).astype(np.float32)


@eqx.filter_jit
def attend(layer, x, mask=None, **options):
    return layer(x, relative_positions(x.shape[-2], DIM), mask=mask, **{"inference": True, **options})


@pytest.mark.parametrize("time", [1, 2, 7])
def test_output_equals_torch(pair, time):
    layer, theirs = pair
    x = inputs(time)
    with torch.no_grad():
        np.testing.assert_allclose(attend(layer, x), theirs(torch.from_numpy(x)), atol=1e-5)


def test_padding_is_not_attended_to(pair):
    layer, theirs = pair
    x, mask = inputs(2, 6), np.arange(6) < np.array([[6], [4]])
    found = attend(layer, x, mask)
    with torch.no_grad():
        for row, length in enumerate((6, 4)):
            expected = theirs(torch.from_numpy(x[row, :length]))
            np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)
    np.testing.assert_array_equal(found[1, 4:], np.broadcast_to(layer.linear_out.bias, (2, DIM)))
    assert np.isfinite(attend(layer, x, np.zeros((2, 6), bool))).all()


def test_vmap_equals_the_batch(pair):
    x = inputs(2, 3, 5)
    expected = attend(pair[0], x)
    np.testing.assert_allclose(jax.vmap(jax.vmap(lambda y: attend(pair[0], y)))(x), expected, atol=1e-6)


def test_bfloat16_keeps_the_softmax_in_float32(pair):
    x = inputs(20)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), pair[0])
    found = attend(narrow, x.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32), attend(pair[0], x), atol=0.05)


def test_dropout_needs_a_key(key):
    layer = RelativeAttention(DIM, HEADS, dropout=0.5, key=key)
    x = inputs(6)
    dropped = attend(layer, x, inference=False, key=key)
    assert np.abs(dropped - attend(layer, x)).max() > 1e-3
    with pytest.raises(ConfigError, match="key is None"):
        attend(layer, x, inference=False)


def test_wrong_arguments_raise_an_error(pair, key):
    with pytest.raises(ConfigError, match="dim is 12; it should be a multiple of heads, which is 5"):
        RelativeAttention(DIM, 5, key=key)
    with pytest.raises(ShapeError, match=r"positions is \(7, 12\); it should be \(9, 12\)"):
        pair[0](inputs(5), relative_positions(4, DIM), inference=True)
    with pytest.raises(ShapeError, match=r"mask is \(4,\); it should be \(5,\)"):
        attend(pair[0], inputs(5), np.ones(4, bool))
    with pytest.raises(ShapeError, match="dim should be even"):
        relative_positions(4, 3)
