"""Gradients that are accumulated over parts of a batch, compared with those of the whole batch."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError
from jaxvoice.training.accumulation import accumulate_gradient

BATCH = {
    "x": jax.random.normal(jax.random.key(0), (12, 3)),
    "y": jax.random.normal(jax.random.key(1), (12,)),
    "mask": jnp.arange(12) % 5 > 1,
}
MODEL = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(2))


def mean_error(count):
    """The mean squared error over valid rows, of which there are `count` in the whole batch."""

    def function(params, rows, key):
        model = eqx.combine(params, MODEL)
        errors = jnp.square(jax.vmap(model)(rows["x"])[:, 0] - rows["y"])
        total = jnp.sum(jnp.where(rows["mask"], errors, 0))
        return total / count, {"rows": jnp.sum(rows["mask"]), "noise": jax.random.uniform(key)}

    return function


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_parts_sum_to_the_gradient_of_the_batch(parts):
    params, count = eqx.filter(MODEL, eqx.is_inexact_array), jnp.sum(BATCH["mask"], dtype=jnp.float32)
    compute = eqx.filter_value_and_grad(mean_error(count), has_aux=True)
    (expected, _), wanted = compute(params, BATCH, jax.random.key(3))
    run = eqx.filter_jit(lambda p, b: accumulate_gradient(mean_error(count), p, b, parts=parts, key=jax.random.key(3)))
    loss, sums, gradient = run(params, BATCH)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert int(sums["rows"]) == int(count)
    assert jax.tree.structure(gradient) == jax.tree.structure(wanted)
    for left, right in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_parts_have_keys_of_their_own():
    params = eqx.filter(MODEL, eqx.is_inexact_array)
    _, sums, _ = accumulate_gradient(mean_error(1.0), params, BATCH, parts=2, key=jax.random.key(3))
    keys = jax.random.split(jax.random.key(3), 2)
    np.testing.assert_allclose(sums["noise"], sum(float(jax.random.uniform(key)) for key in keys), rtol=1e-6)


def test_batch_that_does_not_divide_raises():
    params = eqx.filter(MODEL, eqx.is_inexact_array)
    with pytest.raises(ConfigError, match="12 rows; it should have a multiple of 5"):
        accumulate_gradient(mean_error(1.0), params, BATCH, parts=5, key=jax.random.key(3))
