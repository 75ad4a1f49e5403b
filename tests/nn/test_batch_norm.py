"""Masked batch norm against torch's batch norm of the valid positions alone."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.nn import FixedBatchNorm, MaskedBatchNorm
from jaxvoice.training.parallel import data_mesh, sharded

CHANNELS = 6
COUNT = np.array([9, 5, 1, 7])
VALID = np.arange(9) < COUNT[:, None]


def batch(seed: int) -> np.ndarray:
    """Inputs far from zero, where a variance computed from squares loses its digits, with other values in padding."""
    x = 30 + np.random.default_rng(seed).standard_normal((4, 9, CHANNELS)) * np.arange(1, CHANNELS + 1)
    return np.where(VALID[..., None], x, -500).astype(np.float32)


def layers(**options) -> tuple[MaskedBatchNorm, torch.nn.BatchNorm1d]:
    random = np.random.default_rng(9)
    weight, bias = random.normal(1, 0.3, (2, CHANNELS)).astype(np.float32)
    theirs = torch.nn.BatchNorm1d(CHANNELS)
    theirs.load_state_dict({**theirs.state_dict(), "weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    ours = eqx.tree_at(lambda n: (n.weight, n.bias), MaskedBatchNorm(CHANNELS, **options), (weight, bias))
    return jax.tree.map(jnp.asarray, ours), theirs


@eqx.filter_jit
def call(norm, x, mask, state, inference=False):
    return norm(x, state, mask=mask, inference=inference)


def same_state(state, theirs: torch.nn.BatchNorm1d) -> None:
    for name, buffer in theirs.named_buffers():
        np.testing.assert_allclose(getattr(state, name), buffer, rtol=1e-5, err_msg=name)


def test_training_and_inference_equal_torch_on_valid_positions():
    ours, theirs = layers()
    state = ours.init_state()
    same_state(state, theirs)
    for seed in range(3):
        x = batch(seed)
        y, state = call(ours, jnp.asarray(x), jnp.asarray(VALID), state)
        expected = theirs(torch.tensor(x[VALID])).detach()
        np.testing.assert_allclose(np.asarray(y)[VALID], expected, atol=1e-5)
        same_state(state, theirs)
    theirs.eval()
    x = batch(7)
    y, after = call(ours, jnp.asarray(x), jnp.asarray(VALID), state, inference=True)
    np.testing.assert_allclose(np.asarray(y)[VALID], theirs(torch.tensor(x[VALID])).detach(), atol=1e-5)
    assert all(map(np.array_equal, jax.tree.leaves(after), jax.tree.leaves(state)))


def test_gradients_equal_torch():
    ours, theirs = layers()
    x, cotangent = batch(0), np.random.default_rng(3).standard_normal((4, 9, CHANNELS)).astype(np.float32)
    torch_x = torch.tensor(x[VALID], requires_grad=True)
    theirs(torch_x).backward(torch.tensor(cotangent[VALID]))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(both):
        norm, x = both
        y, _ = norm(x, norm.init_state(), mask=jnp.asarray(VALID))
        return jnp.sum(jnp.where(VALID[..., None], y, 0.0) * cotangent)

    of_norm, of_x = gradient((ours, jnp.asarray(x)))
    np.testing.assert_allclose(np.asarray(of_x)[VALID], torch_x.grad, atol=1e-5)
    assert not np.asarray(of_x)[~VALID].any()
    np.testing.assert_allclose(of_norm.weight, theirs.weight.grad, atol=2e-5)
    np.testing.assert_allclose(of_norm.bias, theirs.bias.grad, atol=2e-5)


def test_use_mask_false_includes_padding_as_torch_does():
    x = batch(0)
    masked, _ = layers()
    like_torch, theirs = layers(use_mask=False)
    state = masked.init_state()
    y, of_all = call(like_torch, jnp.asarray(x), jnp.asarray(VALID), state)
    expected = theirs(torch.tensor(x).mT).detach().mT
    np.testing.assert_allclose(y, expected, atol=1e-5)
    same_state(of_all, theirs)
    _, of_valid = call(masked, jnp.asarray(x), jnp.asarray(VALID), state)
    assert np.abs(of_valid.running_mean - of_all.running_mean).min() > 1
    _, without_mask = call(masked, jnp.asarray(x), None, state)
    np.testing.assert_allclose(without_mask.running_mean, of_all.running_mean, rtol=1e-6)


def test_running_variance_is_unbiased_and_normalising_variance_biased():
    norm = MaskedBatchNorm(1)
    x = jnp.asarray([[[1.0], [5.0], [99.0]]])
    y, state = call(norm, x, jnp.asarray([[True, True, False]]), norm.init_state())
    np.testing.assert_allclose(y[0, :2, 0], [-1, 1], atol=1e-5)
    np.testing.assert_allclose([state.running_mean[0], state.running_var[0]], [0.3, 0.9 + 0.1 * 8], rtol=1e-6)


def test_statistics_are_float32_for_bfloat16():
    ours, _ = layers()
    x = jnp.asarray(batch(0)).astype(jnp.bfloat16)
    y, state = call(ours, x, jnp.asarray(VALID), ours.init_state())
    assert y.dtype == jnp.bfloat16 and state.running_var.dtype == jnp.float32
    exact = np.asarray(x.astype(jnp.float32), np.float64)[VALID]
    np.testing.assert_allclose(state.running_mean, 0.1 * exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state.running_var, 0.9 + 0.1 * exact.var(0, ddof=1), rtol=1e-5)


def test_float64_is_computed_in_float64():
    ours, theirs = layers()
    theirs, x = theirs.double(), batch(0).astype(np.float64)
    with jax.enable_x64(True):
        y, state = call(ours, jnp.asarray(x), jnp.asarray(VALID), ours.init_state())
        np.testing.assert_allclose(np.asarray(y)[VALID], theirs(torch.tensor(x[VALID])).detach(), atol=1e-12)
        # The running statistics keep their dtype.
        assert y.dtype == jnp.float64 and state.running_mean.dtype == state.running_var.dtype == jnp.float32
        same_state(state, theirs)
        buffers = {"running_mean": state.running_mean, "running_var": state.running_var}
        theirs.load_state_dict({**theirs.state_dict(), **{n: torch.tensor(np.asarray(a)) for n, a in buffers.items()}})
        y = eqx.filter_jit(FixedBatchNorm(ours, state))(jnp.asarray(x))
        expected = theirs.eval()(torch.tensor(x).mT).detach().mT
        np.testing.assert_allclose(y, expected, rtol=1e-12)
        low = eqx.filter_jit(FixedBatchNorm(ours, state))(jnp.asarray(x, jnp.float32))
        assert low.dtype == jnp.float32 and np.abs(np.asarray(low) - np.asarray(expected)).max() > 1e-8


def test_statistics_of_a_batch_on_several_devices_are_global():
    ours, _ = layers()
    mesh, state = data_mesh(jax.devices()[:4]), ours.init_state()
    x, mask = jnp.asarray(batch(0)), jnp.asarray(VALID)
    spread = [jax.device_put(array, sharded(mesh)) for array in (x, mask)]
    (y, after), (alone_y, alone) = call(ours, *spread, state), call(ours, x, mask, state)
    assert len(y.sharding.device_set) == 4
    np.testing.assert_allclose(y, alone_y, atol=1e-5)
    np.testing.assert_allclose(after.running_var, alone.running_var, rtol=1e-5)
    np.testing.assert_allclose(after.running_mean, alone.running_mean, rtol=1e-5)


def test_running_statistics_carry_no_gradient():
    ours, _ = layers()

    @eqx.filter_jit
    @jax.grad
    def gradient(x):
        _, state = ours(x, ours.init_state(), mask=jnp.asarray(VALID))
        return jnp.sum(state.running_mean**2) + jnp.sum(state.running_var**2)

    assert not np.any(gradient(jnp.asarray(batch(0))))


def test_a_batch_of_padding_does_not_change_the_state():
    ours, _ = layers()
    y, state = call(ours, jnp.asarray(batch(0)), jnp.zeros((4, 9), bool), ours.init_state())
    assert np.isfinite(y).all()
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(ours.init_state())))


def test_wrong_channels_raise_an_error():
    norm = MaskedBatchNorm(6)
    with pytest.raises(ShapeError, match=r"is \(2, 6, 9\); it should be \(\*batch, time, 6\), with channels last"):
        norm(jnp.zeros((2, 6, 9)), norm.init_state())
