import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxvoice.training.precision import to_compute, to_float32


def test_only_float32_arrays_are_cast():
    tree = {"w": jnp.ones(3), "n": jnp.arange(3), "key": jax.random.key(0), "f": jax.nn.relu, "z": jnp.ones(2, complex)}
    cast = to_compute(tree, "bfloat16")
    assert cast["w"].dtype == jnp.bfloat16
    assert all(cast[name] is tree[name] for name in ("n", "key", "f", "z"))
    assert to_float32(cast)["w"].dtype == jnp.float32
    assert to_compute(tree, "float32") is tree


def test_gradients_come_back_in_float32_and_near_the_exact_ones(key):
    net, x = eqx.nn.Linear(8, 8, key=key), jnp.linspace(-1, 1, 8)

    def loss(net, precision):
        return jnp.sum(to_float32(to_compute(net, precision)(to_compute(x, precision))) ** 2)

    exact, rough = (eqx.filter_grad(loss)(net, precision) for precision in ("float32", "bfloat16"))
    assert rough.weight.dtype == jnp.float32
    error = float(jnp.abs(rough.weight - exact.weight).max() / jnp.abs(exact.weight).max())
    assert 1e-5 < error < 2e-2  # it did compute in bfloat16, whose relative step is 2^-8
    assert np.isfinite(error)
