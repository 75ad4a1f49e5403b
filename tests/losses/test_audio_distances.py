"""Distances of RAVE compared with the release, with torch and with their definition."""

import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.losses import maximum_mean_discrepancy, spectral_distance
from jaxvoice.losses.distances import SCALES, magnitudes
from tests.reference import golden


@pytest.fixture(scope="module")
def case():
    return golden.case("rave/distances")


def largest_error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def pair(case, kind: str) -> tuple[jax.Array, jax.Array]:
    suffix = "" if kind == "fullband" else "_multiband"
    x, y = (jnp.asarray(case[f"{name}{suffix}"]).swapaxes(1, 2) for name in "xy")
    return x, y


@pytest.mark.parametrize("kind", ["fullband", pytest.param("multiband", marks=pytest.mark.slow)])
def test_distance_and_its_gradient_equal_the_release(kind, case):
    x, y = pair(case, kind)
    for scale in SCALES:
        found = magnitudes(x, scale)  # (batch, channels, frames, bins)
        found = np.asarray(found).reshape(-1, *found.shape[2:]).swapaxes(1, 2)
        assert found.shape == tuple(case[f"{kind}_stft_{scale}_shape"])
        assert largest_error(golden.digest(found), case[f"{kind}_stft_{scale}_digest"]) < 1e-5

    @jax.jit
    def gradient(y, epsilon):
        return jax.value_and_grad(lambda y: spectral_distance(x, y, log_epsilon=epsilon))(y)

    for name, epsilon in (("eps1e-07", 1e-7), ("eps1", 1.0)):
        distance, slope = gradient(y, epsilon)
        assert largest_error(distance, case[f"{kind}_{name}"]) < 1e-5
        digest, expected = golden.digest(np.asarray(slope).swapaxes(1, 2)), case[f"{kind}_{name}_grad_digest"]
        # Where both magnitudes are nearly equal, rounding decides the sign of a term of the gradient.
        errors = np.abs(digest - expected) / np.abs(expected).max()
        assert np.quantile(errors, 0.75) < 1e-3 and errors.max() < 0.02


def test_distance_of_equal_audio_is_zero_and_gradients_of_silence_are_finite():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 2048, 1)), jnp.float32)
    assert float(spectral_distance(x, x)) == 0
    gradient = jax.grad(lambda y: spectral_distance(x, y, scales=(256,)))(jnp.zeros_like(x))
    assert np.isfinite(gradient).all()


def test_distance_equals_torch():
    x, y = np.random.default_rng(0).standard_normal((2, 3, 4000)).astype(np.float32)
    window = torch.hann_window(512)
    real, fake = (torch.stft(torch.from_numpy(a), 512, 128, window=window, return_complex=True).abs() for a in (x, y))
    expected = ((real - fake) ** 2).mean() / (real**2).mean() + (real.log() - fake.log()).abs().mean()
    found = spectral_distance(jnp.asarray(x)[..., None], jnp.asarray(y)[..., None], scales=(512,), log_epsilon=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_shapes_that_differ_raise_an_error():
    with pytest.raises(ShapeError, match="they should be equal"):
        spectral_distance(jnp.zeros((2048, 1)), jnp.zeros((2048, 2)))


def test_discrepancy_equals_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), 1 + rng.standard_normal((9, 4))

    def mean_kernel(a, b):
        return np.mean([[np.exp(-np.mean((u - v) ** 2) / 4) for v in b] for u in a])

    expected = mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)
    found = maximum_mean_discrepancy(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_discrepancy_of_equal_sets_is_zero():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((50, 3)), jnp.float32)
    assert abs(float(maximum_mean_discrepancy(x, x[::-1]))) < 1e-6
    with pytest.raises(ShapeError, match=r"\(n, dim\) and \(m, dim\)"):
        maximum_mean_discrepancy(x, x[:, :2])
