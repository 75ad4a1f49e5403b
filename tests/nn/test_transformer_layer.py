"""The transformer layer against torch's on the same weights; padding, masks and dropout."""

import re

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import GroupNorm, LayerNorm, Linear, MultiHeadAttention, TransformerLayer, dropout, length_mask
from jaxvoice.training.training_state import to_compute
from jaxvoice.weights.array_names import count_parameters, load_state, named_arrays

COUNT = np.array([13, 9, 1], np.int32)
VALID = np.arange(13) < COUNT[:, None]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layer_of(*sizes, **options) -> TransformerLayer:
    """A layer with small random weights, including those of biases and norms."""
    skeleton = eqx.filter_eval_shape(lambda: TransformerLayer(*sizes, key=jax.random.key(0), **options))
    random = np.random.default_rng(1)
    arrays = {
        name: random.normal(float(name in ("norm1.weight", "norm2.weight")), 0.5 * leaf.shape[-1] ** -0.5, leaf.shape)
        for name, leaf in named_arrays(skeleton).items()
    }
    return load_state(skeleton, arrays)


def torch_layer(layer: TransformerLayer, dim: int, heads: int, feed_forward: int) -> torch.nn.Module:
    reference = torch.nn.TransformerEncoderLayer(
        dim, heads, feed_forward, dropout=0.0, batch_first=True, norm_first=layer.norm == "pre"
    )
    if layer.norm == "none":
        reference.norm1 = reference.norm2 = torch.nn.Identity()
    reference.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in named_arrays(layer).items()})
    return reference


@eqx.filter_jit
def call(layer, x, mask=None, attention_mask=None):
    return layer(x, mask=mask, attention_mask=attention_mask)


@pytest.mark.parametrize("norm", ["post", "pre", "none"])
def test_outputs_and_gradients_of_256_channels_equal_torch(norm):
    layer, x = layer_of(256, 4, 1024, norm=norm), draw(3, 13, 256)
    attention_mask = np.tril(np.ones((13, 13), bool)) if norm == "pre" else None
    reference = torch_layer(layer, 256, 4, 1024)
    torch_x = torch.tensor(x, requires_grad=True)
    expected = reference(
        torch_x,
        src_mask=None if attention_mask is None else torch.tensor(~attention_mask),
        src_key_padding_mask=torch.tensor(~VALID),
    )
    cotangent = draw(3, 13, 256, seed=2) * VALID[..., None]
    expected.backward(torch.tensor(cotangent))

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradients(pair):
        layer, x = pair
        y = layer(
            x,
            mask=jnp.asarray(VALID),
            attention_mask=None if attention_mask is None else jnp.broadcast_to(attention_mask, (3, 13, 13)),
        )
        return jnp.sum(y * cotangent), y

    (of_layer, of_x), y = gradients((layer, jnp.asarray(x)))
    np.testing.assert_allclose(np.asarray(y)[VALID], expected.detach().numpy()[VALID], atol=1e-5)
    np.testing.assert_allclose(of_x, torch_x.grad, atol=1e-5 * float(torch_x.grad.abs().max()))
    for name, theirs in reference.named_parameters():
        ours, scale = named_arrays(of_layer)[name], float(theirs.grad.abs().max())
        np.testing.assert_allclose(ours, theirs.grad, atol=2e-5 * scale, err_msg=name)


def test_a_layer_has_as_many_parameters_as_published():
    layer = eqx.filter_eval_shape(lambda: TransformerLayer(256, 4, 1024, key=jax.random.key(0)))
    assert count_parameters(layer) == 789_760
    assert set(named_arrays(layer)) == set(torch.nn.TransformerEncoderLayer(256, 4, 1024).state_dict())


def test_padding_is_attended_to_only_without_a_mask():
    layer, x = layer_of(16, 2, 32), draw(3, 13, 16)
    other = np.where(VALID[..., None], x, 1e3 * draw(3, 13, 16, seed=5))
    kept, changed = (np.asarray(call(layer, jnp.asarray(y), jnp.asarray(VALID))) for y in (x, other))
    np.testing.assert_array_equal(kept[VALID], changed[VALID])
    unmasked = [np.asarray(call(layer, jnp.asarray(y))) for y in (x, other)]
    assert np.abs(unmasked[0] - unmasked[1])[VALID].max() > 1e-2


def test_mask_and_attention_mask_are_combined():
    layer, x = layer_of(16, 2, 32), draw(3, 13, 16)
    other = np.where(VALID[..., None], x, 1e3 * draw(3, 13, 16, seed=5))
    everything = jnp.ones((3, 13, 13), bool)
    kept, changed = (np.asarray(call(layer, jnp.asarray(y), jnp.asarray(VALID), everything)) for y in (x, other))
    np.testing.assert_array_equal(kept[VALID], changed[VALID])
    np.testing.assert_allclose(kept, call(layer, jnp.asarray(x), jnp.asarray(VALID)), atol=1e-6)


def test_a_position_with_nothing_to_attend_to_is_finite():
    layer = layer_of(16, 2, 32)
    nothing = jnp.zeros((1, 5), bool)
    value, gradient = eqx.filter_jit(
        eqx.filter_value_and_grad(lambda layer, x: jnp.sum(jnp.square(layer(x, mask=nothing))))
    )(layer, jnp.asarray(draw(1, 5, 16)))
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_bfloat16_keeps_softmax_and_norms_in_float32():
    layer, x = layer_of(64, 4, 128), jnp.asarray(draw(2, 40, 64))
    low, low_x = to_compute((layer, x), "bfloat16")
    y = call(low, low_x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), call(layer, x), atol=0.06)
    program = str(jax.make_jaxpr(lambda x: low(x))(low_x))
    assert re.search(r"f32\[[\d,]*\] = exp", program) and re.search(r"f32\[[\d,]*\] = rsqrt", program)
    assert not re.search(r"bf16\[[\d,]*\] = (exp|rsqrt|div)\b", program)


def test_dropout_rate_and_scale(key):
    x = jnp.ones((3, 41, 101))
    apply = eqx.filter_jit(dropout)
    y = np.asarray(apply(x, 0.15, inference=False, key=key))
    zeros, kept = y == 0, y[y != 0]
    assert abs(zeros.mean() - 0.15) < 5 * (0.15 * 0.85 / y.size) ** 0.5
    np.testing.assert_allclose(kept, 1 / 0.85, rtol=1e-4)
    along = np.corrcoef(zeros[..., :-1:2].ravel(), zeros[..., 1::2].ravel())[0, 1]
    assert abs(along) < 0.05, "two numbers share a draw"
    assert (y != np.asarray(apply(x, 0.15, inference=False, key=jax.random.key(1)))).any()
    assert dropout(x, 0.15, inference=True, key=None) is x and dropout(x, 0.0, inference=False, key=None) is x
    with pytest.raises(ConfigError, match=r"the dropout rate is 0\.15.*inference=True"):
        dropout(x, 0.15, inference=False, key=None)


def test_dropout_is_on_both_branches_in_training_only(key):
    layer, x = layer_of(16, 2, 32, dropout=0.5), jnp.asarray(draw(2, 7, 16))
    run = eqx.filter_jit(lambda layer, x, key, inference: layer(x, inference=inference, key=key))
    still = run(layer, x, None, True)
    np.testing.assert_array_equal(still, call(layer_of(16, 2, 32), x))
    assert np.abs(run(layer, x, key, False) - still).min() > 0
    with pytest.raises(ConfigError, match="Pass key="):
        layer(x)


def test_initial_weights_have_torchs_distribution(key):
    layer = eqx.filter_jit(lambda key: TransformerLayer(64, 4, 128, key=key))(key)
    attention = layer.self_attn
    bound = (6 / (64 + 3 * 64)) ** 0.5
    assert 0.98 * bound < np.abs(attention.in_proj_weight).max() <= bound
    assert not np.any(attention.in_proj_bias) and not np.any(attention.out_proj.bias)
    assert 0.98 / 8 < np.abs(attention.out_proj.weight).max() <= 1 / 8 and np.any(layer.linear2.bias)
    assert layer.norm1 is not None and np.all(layer.norm1.weight == 1)


def test_wrong_sizes_raise_an_error(key):
    with pytest.raises(ConfigError, match="dim is 16; it should be a multiple of heads, which is 3"):
        MultiHeadAttention(16, 3, key=key)
    with pytest.raises(ShapeError, match=r"is \(5, 8\); it should be \(\*batch, time, 16\), with channels last"):
        layer_of(16, 2, 32).self_attn(jnp.zeros((5, 8)))


def test_linear_and_layer_norm_accept_any_batch_axes():
    x = draw(2, 3, 8)
    linear = Linear(8, 5, key=jax.random.key(0))
    expected = x.astype(np.float64) @ np.asarray(linear.weight, np.float64).T + np.asarray(linear.bias, np.float64)
    np.testing.assert_allclose(linear(jnp.asarray(x)), expected, atol=1e-6)
    np.testing.assert_allclose(linear(jnp.asarray(x[0, 0])), expected[0, 0], atol=1e-6)
    normed = LayerNorm(8)(jnp.asarray(x))
    np.testing.assert_allclose(normed, torch.nn.functional.layer_norm(torch.tensor(x), (8,)), atol=1e-6)


def test_group_norm_equals_torch_and_ignores_padding():
    x, norm = draw(2, 7, 8), GroupNorm(4, 8)
    norm = eqx.tree_at(lambda norm: (norm.weight, norm.bias), norm, (jnp.arange(8.0), jnp.arange(8.0) / 8))
    weights = [torch.arange(8.0), torch.arange(8.0) / 8]
    expected = torch.nn.functional.group_norm(torch.tensor(x).mT, 4, *weights).mT
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, atol=2e-5)
    mask = length_mask(jnp.asarray([5, 7]), 7)
    np.testing.assert_allclose(norm(jnp.asarray(x), mask=mask)[1], expected[1], atol=2e-5)
    short = torch.nn.functional.group_norm(torch.tensor(x[:1, :5]).mT, 4, *weights).mT
    np.testing.assert_allclose(norm(jnp.asarray(x), mask=mask)[0, :5], short[0], atol=2e-5)


def test_a_length_mask_is_true_at_the_first_positions():
    np.testing.assert_array_equal(length_mask(jnp.asarray(COUNT), 13), VALID)
    np.testing.assert_array_equal(length_mask(jnp.asarray(2), 4), [True, True, False, False])
