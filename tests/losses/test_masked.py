"""Masked losses against torch's, computed example by example on what is not padding."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.losses import duration_loss, masked_mean, mel_loss

rng = np.random.default_rng(0)
LENGTHS = np.array([7, 3, 1], np.int32)
MELS = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
PHONES = rng.normal(scale=2, size=(2, 3, 7)).astype(np.float32)


def valid(arrays):
    """What is within the lengths, end to end, as torch tensors."""
    return [torch.from_numpy(np.concatenate([row[:n] for row, n in zip(a, LENGTHS, strict=True)])) for a in arrays]


@pytest.mark.parametrize(
    ("loss", "arrays", "theirs"),
    [
        (mel_loss, MELS, lambda p, t: torch.nn.L1Loss()(p, t) + torch.nn.MSELoss()(p, t)),
        (duration_loss, PHONES, torch.nn.HuberLoss(delta=1.0)),
        (partial(duration_loss, kind="mse"), PHONES, torch.nn.MSELoss()),
    ],
    ids=["mels", "durations", "squared"],
)
def test_equals_torch_on_what_is_no_padding(loss, arrays, theirs):
    expected = float(theirs(*valid(arrays)))
    loss = jax.jit(loss)
    assert float(loss(*arrays, LENGTHS)) == pytest.approx(expected, rel=1e-6)
    wild = arrays.copy()
    for example, length in enumerate(LENGTHS):
        wild[:, example, length:] = np.nan
    assert float(loss(*wild, LENGTHS)) == pytest.approx(expected, rel=1e-6), "padding should not count"
    assert float(loss(*arrays, np.full(3, 7, np.int32))) != pytest.approx(expected, rel=1e-3)


def test_gradients_stay_finite_and_out_of_the_padding():
    wild = MELS.copy()
    wild[:, 1, 3:] = np.nan
    gradient = jax.grad(mel_loss)(jnp.asarray(wild[0]), jnp.asarray(wild[1]), LENGTHS)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[1, 3:].any()
    assert np.asarray(gradient)[1, :3].all()


def test_a_mean_of_nothing_is_zero():
    assert float(masked_mean(jnp.ones((2, 3)), jnp.zeros((2, 3), bool))) == 0
