"""Weight norm and spectral norm against torch.nn.utils on the same weights."""

import warnings

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ConfigError
from jaxvoice.nn import (
    ColumnConv,
    Conv1d,
    ConvTranspose1d,
    SpectralConv1d,
    SpectralNormState,
    fold_weight_norm,
    freeze,
    spectral_norm as spectral_norm_of,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.nn.utils import spectral_norm, weight_norm


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


LAYERS = {
    "Conv1d": (lambda key: Conv1d(4, 6, 5, weight_norm=True, key=key), lambda: torch.nn.Conv1d(4, 6, 5), (4, 20)),
    "ConvTranspose1d": (
        lambda key: ConvTranspose1d(4, 6, 5, stride=3, weight_norm=True, key=key),
        lambda: torch.nn.ConvTranspose1d(4, 6, 5, stride=3),
        (4, 20),
    ),
    "ColumnConv": (
        lambda key: ColumnConv(4, 6, 5, weight_norm=True, key=key),
        lambda: torch.nn.Conv2d(4, 6, (5, 1)),
        (4, 20, 3),
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_norm(kind, key):
    make, make_reference, shape = LAYERS[kind]
    reference = weight_norm(make_reference())
    with torch.no_grad():
        reference.weight_g.mul_(torch.tensor(1.5))
    layer = eqx.tree_at(
        lambda conv: (conv.weight_g, conv.weight_v, conv.bias),
        make(key),
        tuple(jnp.asarray(getattr(reference, name).detach().numpy()) for name in ("weight_g", "weight_v", "bias")),
    )
    x = draw(*shape)
    expected = reference(torch.tensor(x)[None])[0]
    expected.square().sum().backward()
    x, expected = x.swapaxes(0, -1), expected.detach().numpy().swapaxes(0, -1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    np.testing.assert_allclose(fold_weight_norm(layer)(x), expected, atol=1e-5)
    gradient = eqx.filter_grad(lambda layer: jnp.sum(jnp.square(layer(x))))(layer)
    for name in ("weight_g", "weight_v", "bias"):
        theirs = getattr(reference, name).grad
        np.testing.assert_allclose(getattr(gradient, name), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    # The kernel does not depend on the length of v, so the gradient of v is orthogonal to v; that of g is not zero.
    v, g = np.asarray(layer.weight_v), np.asarray(gradient.weight_v)
    inner = np.sum(v * g, axis=tuple(range(1, v.ndim)))
    np.testing.assert_allclose(inner, 0, atol=1e-4 * np.linalg.norm(v) * np.linalg.norm(g))
    assert float(jnp.abs(gradient.weight_g).min()) > 0


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_and_folded_weight_norm_equal_the_plain_kernel(kind, key):
    make, _, _ = LAYERS[kind]
    layer = make(key)
    np.testing.assert_allclose(layer.kernel(), layer.weight_v, rtol=1e-6)
    folded = fold_weight_norm({"layers": [layer]})["layers"][0]
    assert folded.weight_g is None and folded.weight_v is None
    np.testing.assert_array_equal(folded.weight, layer.kernel())


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_spectral_norm_over_three_training_passes(key):
    reference = spectral_norm(torch.nn.Conv1d(8, 12, 5, stride=2, padding=2, groups=4))
    to_jax = lambda tensor: jnp.array(tensor.detach().numpy())  # noqa: E731 - a copy: torch changes vectors in place
    layer = eqx.tree_at(
        lambda conv: (conv.weight_orig, conv.bias),
        SpectralConv1d(8, 12, 5, stride=2, padding=2, groups=4, key=key),
        (to_jax(reference.weight_orig), to_jax(reference.bias)),
    )
    state = SpectralNormState(to_jax(reference.weight_u), to_jax(reference.weight_v))
    x = draw(8, 21)
    for _ in range(3):
        expected, before = reference(torch.tensor(x)[None])[0], state
        y, state = layer(x.T, state)
        np.testing.assert_allclose(y, expected.detach().T, atol=1e-5)
    np.testing.assert_allclose(state.weight_u, reference.weight_u, atol=1e-5)
    expected.square().sum().backward()
    gradient = eqx.filter_grad(lambda layer: jnp.sum(jnp.square(layer(x.T, before)[0])))(layer)
    np.testing.assert_allclose(gradient.weight_orig, reference.weight_orig.grad, rtol=1e-4, atol=1e-4)
    y, after = layer(x.T, state, inference=True)
    np.testing.assert_allclose(y, reference.eval()(torch.tensor(x)[None])[0].detach().T, atol=1e-5)
    assert after is state


def test_spectral_norm_converges_to_the_largest_singular_value(key):
    layer = SpectralConv1d(6, 10, 3, key=key)
    state = layer.init_state(key=key)
    for _ in range(200):
        state = layer.power_iteration(state)
    largest = np.linalg.svd(np.asarray(layer.weight_orig).reshape(10, -1), compute_uv=False)[0]
    assert float(spectral_norm_of(layer.weight_orig, state)) == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("inference", [False, True])
def test_examples_of_one_batch_can_have_different_states(inference, key):
    layer, x = SpectralConv1d(4, 4, 3, padding=1, key=key), draw(3, 2, 9, 4)
    states = [layer.power_iteration(layer.init_state(key=k)) for k in jax.random.split(key)]
    pair = jax.tree.map(lambda *vectors: jnp.stack(vectors), *states)
    together, after = layer(x, pair, inference=inference)
    mapped, _ = jax.vmap(lambda x, state: layer(x, state, inference=inference), (1, 0), (1, 0))(x, pair)
    np.testing.assert_allclose(mapped, together, rtol=1e-5, atol=1e-6)
    for i, state in enumerate(states):
        alone, new = layer(x[:, i], state, inference=inference)
        np.testing.assert_allclose(together[:, i], alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.weight_u[i], new.weight_u, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.weight_v[i], new.weight_v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_the_vectors_of_spectral_norm_are_constants(inference, key):
    """Neither the vectors passed to a call nor those it returns have a gradient, as in torch."""
    layer, x = SpectralConv1d(4, 6, 3, key=key), jnp.asarray(draw(9, 4))
    state = layer.init_state(key=key)
    of_state = eqx.filter_grad(lambda state: jnp.sum(jnp.square(layer(x, state, inference=inference)[0])))(state)
    assert not np.any(of_state.weight_u) and not np.any(of_state.weight_v)
    of_norm = eqx.filter_grad(lambda state: spectral_norm_of(layer.weight_orig, state))(state)
    assert not np.any(of_norm.weight_u) and not np.any(of_norm.weight_v)
    of_kernel = eqx.filter_grad(lambda layer: jnp.sum(layer.power_iteration(state).weight_u ** 3))(layer)
    assert not np.any(of_kernel.weight_orig)


STACKED = {
    **{name: make for name, (make, _, _) in LAYERS.items()},
    "without weight norm": lambda key: Conv1d(4, 6, 5, key=key),
}


@pytest.mark.parametrize("kind", STACKED)
@pytest.mark.parametrize("transform", [fold_weight_norm, freeze])
def test_stacked_layers_are_folded_and_frozen_only_under_vmap(kind, transform, key):
    layers = eqx.filter_vmap(STACKED[kind])(jax.random.split(key, 3))
    if layers.weight_g is not None:
        # Changed from its initial value, at which weight norm over wrong axes would be correct by chance.
        scale = jnp.arange(1.0, 4.0).reshape(3, *(1,) * (layers.weight_g.ndim - 1))
        layers = eqx.tree_at(lambda conv: conv.weight_g, layers, layers.weight_g * scale)
    call, x = eqx.filter_vmap(lambda layer, x: layer(x), in_axes=(0, None)), jnp.asarray(draw(11, 4))
    np.testing.assert_allclose(call(eqx.filter_vmap(transform)(layers), x), call(layers, x), atol=1e-5)
    if transform is fold_weight_norm and layers.weight_g is None:
        assert eqx.tree_equal(fold_weight_norm(layers), layers)
        return
    with pytest.raises(ConfigError, match=r"is \(3, .*; it should have . axes.*eqx\.filter_vmap\(fold_weight_norm\)"):
        transform({"layers": [layers]})
