"""Learners: updates against optax alone, frozen parts, moving averages, the count of updates."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, TrainingError
from jaxvoice.training.learner import Learner
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.training_state import Skeleton, array_names

OPTIMIZER = OptimizerConfig(learning_rate=0.1, weight_decay=0.3, decay=0.5, decay_steps=2, warmup_steps=1)


class Layer(eqx.Module):
    weight: jax.Array
    index: jax.Array

    def __call__(self, x):
        return self.weight * x


class Network(eqx.Module):
    encoder: Layer
    decoder: Layer
    name: str = eqx.field(static=True)

    def __call__(self, x):
        return self.decoder(self.encoder(x))


class Means(eqx.Module):
    encoder: jax.Array
    decoder: jax.Array
    count: jax.Array


def network():
    layers = [Layer(jnp.asarray([w, 2 * w]), jnp.asarray(3, jnp.int32)) for w in (1.5, -0.7)]
    return Network(*layers, "network")


def means(value=0.0):
    return Means(jnp.full(2, value), jnp.full(2, value), jnp.asarray(int(value), jnp.int32))


def learner(**options):
    return Learner.create(network(), **{"optimizer": OPTIMIZER, "steps_per_epoch": 1, **options})


def gradient_of(learner, x=2.0):
    return eqx.filter_grad(lambda params: jnp.sum(learner.combine(params)(jnp.asarray(x)) ** 2))(learner.params)


def test_updates_equal_those_of_optax():
    mine, params = learner(), (network().encoder.weight, network().decoder.weight)
    rates = [0.0, 0.1, 0.1, 0.05]
    optimizer = optax.inject_hyperparams(optax.adamw, static_args=("b1", "b2", "eps"))(
        0.0, b1=0.8, b2=0.99, eps=1e-8, weight_decay=0.3
    )
    state = optimizer.init(params)
    for number, rate in enumerate(rates):
        gradient = gradient_of(mine)
        logged = mine.metrics(gradient)
        assert float(logged["learning_rate"]) == pytest.approx(rate)
        assert int(mine.updates) == number
        theirs = jax.grad(lambda params: jnp.sum((params[1] * params[0] * 2.0) ** 2))(params)
        assert float(logged["gradient_norm"]) == pytest.approx(float(optax.tree_utils.tree_norm(theirs)), rel=1e-6)
        state.hyperparams["learning_rate"] = jnp.asarray(rate)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(theirs, state, params)
        params = optax.apply_updates(params, updates)
        mine = mine.update(gradient)
    np.testing.assert_allclose(mine.model.encoder.weight, params[0], rtol=1e-6)
    np.testing.assert_allclose(mine.model.decoder.weight, params[1], rtol=1e-6)
    assert mine.average is None and mine.eval_model is mine.model


def test_frozen_parts_do_not_change_and_have_no_optimizer_state():
    mine = learner(frozen=("encoder",), ema_decay=0.9, model_state=means())
    assert mine.params.encoder.weight is None and mine.params.decoder.weight is not None
    assert not any("encoder" in name for name in array_names(mine.optimizer_state))
    assert any("decoder" in name for name in array_names(mine.optimizer_state))
    before, whole = mine, eqx.filter_grad(lambda model: jnp.sum(model(jnp.asarray(2.0))))(mine.model)
    for value in (1.0, 2.0):
        # The gradient of the whole model serves, too.
        mine = mine.update(whole, model_state=means(value))
    for part, kept in (("encoder", True), ("decoder", False)):
        for first, last in (
            (getattr(before.model, part).weight, getattr(mine.model, part).weight),
            (getattr(before.average, part).weight, getattr(mine.average, part).weight),
            (getattr(before.model_state, part), getattr(mine.model_state, part)),
            (getattr(before.average_state, part), getattr(mine.average_state, part)),
        ):
            assert np.array_equal(first, last) == kept, part
    assert int(mine.model_state.count) == 2


@pytest.mark.parametrize("weight_decay_on", ["all", "matrices"])
def test_update_keeps_frozen_parts_with_their_moments_and_statistics(weight_decay_on):
    mine = learner(optimizer=replace(OPTIMIZER, weight_decay_on=weight_decay_on), ema_decay=0.9, model_state=means())
    mine = mine.update(gradient_of(mine), model_state=means(1.0))
    after = mine.update(gradient_of(mine), model_state=means(2.0), frozen=("encoder",))
    names, pairs = array_names(mine), zip(jax.tree.leaves(mine), jax.tree.leaves(after), strict=True)
    kept = [name for name, (old, new) in zip(names, pairs, strict=True) if np.array_equal(old, new)]
    expected = ["model.encoder.weight", "optimizer_state.0.mu.encoder.weight", "optimizer_state.0.nu.encoder.weight"]
    assert [name for name in kept if "weight" in name and "average" not in name] == expected
    assert float(after.model_state.encoder[0]) == 1.0 and float(after.model_state.decoder[0]) == 2.0
    assert int(after.updates) == 2
    free = mine.update(gradient_of(mine), model_state=means(2.0))
    assert eqx.tree_equal(free.model.decoder, after.model.decoder)


@pytest.mark.parametrize("broken", [1000.0, float("nan")])
def test_update_ignores_gradients_of_frozen_parts(broken):
    """They do not count in the norm that `clip_norm` limits, and they may be absent."""
    mine = learner(optimizer=OptimizerConfig(learning_rate=0.1, clip_norm=1.0, eps=1.0))
    gradient = gradient_of(mine)
    absent = eqx.tree_at(lambda tree: tree.encoder.weight, gradient, None)
    wrong = eqx.tree_at(lambda tree: tree.encoder.weight, gradient, jnp.full(2, broken))
    expected = mine.update(absent, frozen=("encoder",))
    assert eqx.tree_equal(mine.update(wrong, frozen=("encoder",)), expected)
    assert not np.array_equal(expected.model.decoder.weight, mine.model.decoder.weight)
    always = learner(optimizer=mine.optimizer, frozen=("encoder",)).update(absent)
    assert eqx.tree_equal(expected.model, always.model)


def test_update_raises_for_unknown_frozen_paths():
    mine = learner()
    with pytest.raises(ConfigError, match=r"frozen contains 'decodr'.*did you mean 'decoder'"):
        mine.update(gradient_of(mine), frozen=("decodr",))
    with pytest.raises(ConfigError, match="frozen contains 'enc'"):
        mine.params_without(("enc",))


def test_average_of_constant_weights_is_exact():
    """Weighted means round: 0.9 x + 0.1 x differs from x in the last bit for most x."""
    values = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    network = Network(Layer(values, jnp.asarray(0, jnp.int32)), Layer(values, jnp.asarray(0, jnp.int32)), "n")
    mine = Learner.create(network, OPTIMIZER, steps_per_epoch=1, ema_decay=0.9, frozen=("encoder.weight",))
    after = mine.update(mine.params)
    assert np.array_equal(after.average.encoder.weight, values)


def test_average_follows_weights_and_state():
    mine = learner(ema_decay=0.2, model_state=means())
    average, state = np.asarray(mine.model.decoder.weight), 0.0
    for number in range(4):
        mine = mine.update(gradient_of(mine), model_state=means(number + 1.0))
        keep = min(0.2, (1 + number) / (10 + number))
        average = keep * average + (1 - keep) * np.asarray(mine.model.decoder.weight)
        state = keep * state + (1 - keep) * (number + 1.0)
    np.testing.assert_allclose(mine.eval_model.decoder.weight, average, rtol=1e-5)
    np.testing.assert_allclose(mine.eval_state.encoder, np.full(2, state), rtol=1e-5)
    assert int(mine.eval_state.count) == 4 and int(mine.eval_model.encoder.index) == 3


def test_update_without_a_state_keeps_the_state():
    mine = learner(model_state=means(2.0))
    assert eqx.tree_equal(mine.update(gradient_of(mine)).model_state, means(2.0))
    assert eqx.tree_equal(mine.with_state(means(3.0)).model_state, means(3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": ("decodr",)}, r"frozen contains 'decodr', but Network has no array.*did you mean 'decoder'\?"),
        ({"frozen": ("enc",)}, "'enc'"),
        ({"ema_decay": 1.0}, r"ema_decay is 1\.0; it should be in \[0, 1\)"),
    ],
)
def test_learner_raises_for_impossible_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        learner(**options)


def test_programs_of_new_and_of_restored_states_are_equal():
    """A restored state has no arrays of weak type, for which a step would be another program."""
    state = {"weak": jnp.asarray(1.0), "strong": jnp.zeros(2, jnp.float32), "key": jax.random.key(0)}
    assert state["weak"].weak_type
    adopted = Skeleton(state).adopt(state)
    assert len(adopted) == 3 and not any(getattr(leaf, "weak_type", False) for leaf in adopted)
    assert adopted[-1].dtype == jnp.float32 and adopted[-1] == 1


def test_skeleton_adopts_arrays_and_keeps_settings():
    mine, other = learner(), learner(optimizer=OptimizerConfig(learning_rate=0.5))
    other = other.update(gradient_of(other))
    skeleton = Skeleton(mine)
    adopted = skeleton.build(skeleton.adopt(other))
    assert adopted.optimizer == mine.optimizer != other.optimizer
    assert eqx.tree_equal(adopted.model, other.model) and eqx.tree_equal(adopted.optimizer_state, other.optimizer_state)
    with pytest.raises(TrainingError, match=r"average\.decoder\.weight: float32\[2\] != missing"):
        skeleton.adopt(learner(ema_decay=0.5))
