import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvoice.training.training_state import (
    Counters,
    TrainingState,
    all_finite,
    array_names,
    guarded,
    to_compute,
    to_float32,
)


class Toy(eqx.Module):
    weight: jax.Array
    key: jax.Array
    counters: Counters


def toy(value, seed):
    return Toy(jnp.full((3,), value), jax.random.key(seed), Counters.zero())


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite_detects_any_bad_value(bad):
    tree = {"a": jnp.ones((2, 3)), "b": (jnp.ones(4, jnp.bfloat16), jnp.arange(3), jax.random.key(0), None, "text")}
    assert bool(all_finite(tree))
    assert not bool(all_finite({**tree, "c": jnp.ones(5).at[2].set(bad)}))
    assert bool(all_finite(()))


def test_all_finite_detects_values_that_cancel_in_every_dtype():
    assert not bool(all_finite(jnp.array([jnp.inf, -jnp.inf, 1.0])))
    assert not bool(all_finite(jnp.array([1.0, complex(0.0, jnp.nan)])))
    assert bool(all_finite((jnp.array([1j, -1j]), jnp.full(100, 60000, jnp.float16), jnp.zeros(0))))


def test_guarded_returns_the_new_or_the_old_state():
    step = jax.jit(guarded)
    old = toy(1.0, 0)
    assert isinstance(old, TrainingState)
    good = step(jnp.array(True), toy(2.0, 1), old)
    np.testing.assert_array_equal(good.weight, [2, 2, 2])
    np.testing.assert_array_equal(jax.random.key_data(good.key), jax.random.key_data(jax.random.key(1)))
    bad = step(jnp.array(False), toy(jnp.nan, 2), good)
    np.testing.assert_array_equal(bad.weight, [2, 2, 2])
    np.testing.assert_array_equal(jax.random.key_data(bad.key), jax.random.key_data(jax.random.key(1)))


def test_counters_count_skipped_updates():
    state, seen = toy(0.0, 0), []
    for finite in (True, False, False, True, False):
        state = guarded(jnp.array(finite), toy(1.0, 0), state)
        counters = state.counters
        seen.append((int(counters.step), int(counters.skipped), int(counters.skipped_in_a_row)))
    assert seen == [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 2, 0), (5, 3, 1)]
    assert all(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(state.counters))


def test_names_are_attribute_paths():
    tree = {"net": [jnp.ones(1), {"weight_v": jnp.ones(2)}], "n": jnp.ones(3)}
    assert array_names(tree) == ["n", "net.0", "net.1.weight_v"]
    json.dumps(array_names(tree))


def test_only_float32_arrays_are_cast():
    tree = {"w": jnp.ones(3), "n": jnp.arange(3), "key": jax.random.key(0), "f": jax.nn.relu, "z": jnp.ones(2, complex)}
    cast = to_compute(tree, "bfloat16")
    assert cast["w"].dtype == jnp.bfloat16
    assert all(cast[name] is tree[name] for name in ("n", "key", "f", "z"))
    assert to_float32(cast)["w"].dtype == jnp.float32
    assert to_compute(tree, "float32") is tree


def test_gradients_are_float32_and_close_to_exact_gradients(key):
    net, x = eqx.nn.Linear(8, 8, key=key), jnp.linspace(-1, 1, 8)

    def loss(net, precision):
        return jnp.sum(to_float32(to_compute(net, precision)(to_compute(x, precision))) ** 2)

    exact, rough = (eqx.filter_grad(loss)(net, precision) for precision in ("float32", "bfloat16"))
    assert rough.weight.dtype == jnp.float32
    error = float(jnp.abs(rough.weight - exact.weight).max() / jnp.abs(exact.weight).max())
    assert 1e-5 < error < 2e-2  # it did compute in bfloat16, whose relative step is 2^-8
    assert np.isfinite(error)
