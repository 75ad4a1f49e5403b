"""Losses of speaker encoders compared with golden values of coqui's, with torch, and with loops over utterances."""

import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.losses import (
    angular_prototypical_loss,
    ge2e_contrast_loss,
    ge2e_logits,
    ge2e_softmax_loss,
    speaker_classification_loss,
)
from tests.reference import golden

LOSSES = {
    "angleproto": angular_prototypical_loss,
    "ge2e_softmax": ge2e_softmax_loss,
    "ge2e_contrast": ge2e_contrast_loss,
}
SCALE, BIAS = jnp.asarray(10.0), jnp.asarray(-5.0)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_equal_the_golden_values(name):
    case = golden.case("speaker_encoder/losses")
    loss, gradient = jax.jit(jax.value_and_grad(LOSSES[name]))(jnp.asarray(case["embeddings"]), SCALE, BIAS)
    np.testing.assert_allclose(loss, case[name], rtol=1e-5)
    digest = case[f"{name}_grad_digest"]
    np.testing.assert_allclose(golden.digest(np.asarray(gradient)), digest, atol=1e-5 * np.abs(digest).max())


def test_logits_leave_out_the_utterance_itself():
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    expected = np.empty((3, 4, 3))
    for j, i, k in np.ndindex(3, 4, 3):
        others = [u for u in range(4) if not (j == k and u == i)]
        centre = x[k, others].mean(0)
        cosine = x[j, i] @ centre / np.linalg.norm(x[j, i]) / np.linalg.norm(centre)
        expected[j, i, k] = 7 * max(cosine, 1e-6) - 2
    found = ge2e_logits(jnp.asarray(x, jnp.float32), jnp.asarray(7.0), jnp.asarray(-2.0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_scale_and_bias_have_gradients(name):
    x = jax.random.normal(jax.random.key(0), (4, 3, 8))
    of_scale, of_bias = jax.jit(jax.grad(LOSSES[name], argnums=(1, 2)))(x, SCALE, BIAS)
    assert abs(of_scale) > 1e-3
    # A bias of all logits does not change a softmax.
    assert (abs(of_bias) > 1e-4) == (name == "ge2e_contrast")
    smallest = LOSSES[name](x, jnp.asarray(-3.0), BIAS)
    np.testing.assert_allclose(smallest, LOSSES[name](x, jnp.asarray(1e-6), BIAS))


@pytest.mark.parametrize("name", LOSSES)
def test_equal_embeddings_have_finite_gradients(name):
    gradient = jax.grad(LOSSES[name])(jnp.zeros((2, 2, 4)), SCALE, BIAS)
    assert np.isfinite(gradient).all()


def test_classification_loss_equals_torch():
    logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    speakers = np.array([0, 4, 2, 2, 1, 3])
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(speakers))
    found = speaker_classification_loss(jnp.asarray(logits), jnp.asarray(speakers, jnp.int32))
    np.testing.assert_allclose(found, float(expected), rtol=1e-6)


def test_wrong_shapes_raise_errors():
    for shape in ((4, 8), (1, 4, 8), (4, 1, 8)):
        with pytest.raises(ShapeError, match=r"\(speakers, utterances, dim\)"):
            ge2e_softmax_loss(jnp.zeros(shape), SCALE, BIAS)
        with pytest.raises(ShapeError, match=r"\(speakers, utterances, dim\)"):
            angular_prototypical_loss(jnp.zeros(shape), SCALE, BIAS)
    with pytest.raises(ShapeError, match=r"\(3, 4\) and \(2,\)"):
        speaker_classification_loss(jnp.zeros((3, 4)), jnp.zeros(2, jnp.int32))
