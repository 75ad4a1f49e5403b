"""Hinge and nonsaturating losses and relative feature matching compared with closed forms."""

import numpy as np
from jax import numpy as jnp

from jaxvoice.losses import (
    feature_distance,
    hinge_discriminator_loss,
    hinge_generator_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
)


def test_hinge_losses_are_sums_over_discriminators():
    real = [jnp.array([2.0, 0.5]), jnp.array([[-1.0]])]
    fake = [jnp.array([-3.0, 0.0]), jnp.array([[0.5]])]
    # max(0, 1 - real): 0, 0.5 and 2; max(0, 1 + fake): 0, 1 and 1.5
    assert float(hinge_discriminator_loss(real, fake)) == 0.75 + 3.5
    assert float(hinge_generator_loss(fake)) == 1.5 - 0.5


def test_nonsaturating_losses_are_cross_entropies():
    real, fake = np.array([2.0, -30.0]), np.array([0.0, 30.0])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    given = [jnp.asarray(real, jnp.float32)], [jnp.asarray(fake, jnp.float32)]
    expected = np.mean(-np.log(sigmoid(real)) - np.log(sigmoid(-fake)))
    np.testing.assert_allclose(nonsaturating_discriminator_loss(*given), expected, rtol=1e-6)
    np.testing.assert_allclose(nonsaturating_generator_loss(given[1]), np.mean(-np.log(sigmoid(fake))), rtol=1e-6)


def test_feature_distance_is_relative_to_the_real_maps():
    real = [[jnp.full(4, 9.0), jnp.array([1.0, -3.0]), jnp.array([2.0])], [jnp.zeros(1), jnp.array([4.0])]]
    fake = [[jnp.zeros(4), jnp.array([2.0, -3.0]), jnp.array([0.0])], [jnp.zeros(1), jnp.array([3.0])]]
    found = feature_distance(real, fake, skip=1)
    np.testing.assert_allclose(found, ((0.5 / 2 + 2 / 2) / 2 + 1 / 4) / 2, rtol=1e-6)
    absolute = feature_distance(real, fake, relative=False, skip=1)
    np.testing.assert_allclose(absolute, ((0.5 + 2) / 2 + 1) / 2, rtol=1e-6)
