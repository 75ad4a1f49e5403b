"""The adversarial step against gradients written out, on networks of one number."""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner
from jaxvoice.training.optimizers import OptimizerConfig, adamw

OPTIMIZER = OptimizerConfig(learning_rate=0.05, schedule="constant", eps=1e-3)
REAL = jnp.asarray([1.0, 2.0, -1.0])
NOISE = jnp.asarray([0.3, -0.2, 0.9])
CONDITION = jnp.asarray(0.4)

GENERATOR = {"gradient_norm", "learning_rate"}
DISCRIMINATORS = {f"disc_{name}" for name in GENERATOR}


class Gain(eqx.Module):
    gain: jax.Array
    frozen: jax.Array


class Outputs(NamedTuple):
    audio: jax.Array
    divergence: jax.Array
    start: jax.Array


def learners(**options):
    generator, discriminators = Gain(jnp.asarray(0.5), jnp.asarray(2.0)), Gain(jnp.asarray(0.8), jnp.asarray(1.0))
    return (
        Learner.create(
            generator, OPTIMIZER, steps_per_epoch=1, model_state=jnp.asarray(0.0), frozen=("frozen",), **options
        ),
        Learner.create(discriminators, OPTIMIZER, steps_per_epoch=1, model_state=jnp.asarray(1.0), frozen=("frozen",)),
    )


def generate(generator):
    audio = generator.gain * generator.frozen * NOISE + CONDITION
    return Outputs(audio, jnp.square(generator.gain - 1), jnp.asarray([0, 1], jnp.int32)), jnp.asarray(7.0)


def discriminator_loss(model, state, outputs):
    loss = jnp.mean((1 - model.gain * REAL) ** 2) + jnp.mean((model.gain * outputs.audio) ** 2) * state
    return loss, {"disc": loss}, state + 1


def generator_loss(model, state, outputs):
    parts = {"mel": jnp.mean(jnp.abs(outputs.audio - REAL)), "divergence": outputs.divergence}
    if model is not None:
        assert outputs.start.dtype == jnp.int32
        parts["adv"] = jnp.mean((1 - model.gain * outputs.audio) ** 2) * state
        state = state * 10
    return sum(parts.values()), parts, state


def functions():
    return {"generate": generate, "discriminator_loss": discriminator_loss, "generator_loss": generator_loss}


def step(generator, discriminators, **options):
    return eqx.filter_jit(lambda g, d: adversarial_step(g, d, **functions(), **options))(generator, discriminators)


def first_update(gradient, value):
    optimizer = adamw(OPTIMIZER, steps_per_epoch=1)
    return float(value + optimizer.update(gradient, optimizer.init(value), value)[0])


def test_step_updates_the_generator_against_updated_discriminators():
    generator, discriminators = learners()
    after = step(generator, discriminators)
    audio = np.asarray(generate(generator.model)[0].audio)
    judge = lambda gain: jnp.mean((1 - gain * REAL) ** 2) + jnp.mean((gain * audio) ** 2)  # noqa: E731
    loss, gradient = jax.value_and_grad(judge)(jnp.asarray(0.8))
    updated = first_update(gradient, jnp.asarray(0.8))
    assert float(after.metrics["discriminator"]) == pytest.approx(float(loss), rel=1e-6)
    assert float(after.discriminators.model.gain) == pytest.approx(updated, rel=1e-6)

    def whole(gain):
        audio = gain * 2.0 * NOISE + CONDITION
        adversarial = jnp.mean((1 - updated * audio) ** 2) * 2.0  # the state that the discriminators' loss returned
        return jnp.mean(jnp.abs(audio - REAL)) + (gain - 1) ** 2 + adversarial

    loss, gradient = jax.value_and_grad(whole)(jnp.asarray(0.5))
    assert float(after.metrics["generator"]) == pytest.approx(float(loss), rel=1e-6)
    assert float(after.generator.model.gain) == pytest.approx(first_update(gradient, jnp.asarray(0.5)), rel=1e-6)
    names = {"generator", "discriminator", "mel", "divergence", "adv", "disc"}
    assert set(after.metrics) == names | GENERATOR | DISCRIMINATORS
    assert float(after.metrics["gradient_norm"]) == pytest.approx(abs(float(gradient)), rel=1e-6)
    gradient = jax.grad(judge)(jnp.asarray(0.8))
    assert float(after.metrics["disc_gradient_norm"]) == pytest.approx(abs(float(gradient)), rel=1e-6)
    assert float(after.metrics["learning_rate"]) == float(after.metrics["disc_learning_rate"]) == pytest.approx(0.05)


def test_step_returns_states_and_keeps_frozen_parts():
    after = step(*learners())
    assert float(after.generator.model_state) == 7.0
    assert float(after.discriminators.model_state) == 20.0
    assert float(after.generator.model.frozen) == 2.0 and float(after.discriminators.model.frozen) == 1.0


def test_reconstruction_does_not_change_discriminators():
    generator, discriminators = learners()
    after = step(generator, discriminators, mode="reconstruction")
    assert eqx.tree_equal(after.discriminators, discriminators)
    assert set(after.metrics) == {"generator", "mel", "divergence"} | GENERATOR
    whole = lambda gain: jnp.mean(jnp.abs(gain * 2.0 * NOISE + CONDITION - REAL)) + (gain - 1) ** 2  # noqa: E731
    expected = first_update(jax.grad(whole)(jnp.asarray(0.5)), jnp.asarray(0.5))
    assert float(after.generator.model.gain) == pytest.approx(expected, rel=1e-6)


def test_modes_update_one_side():
    """The other side does not change, except for the states of forward passes."""
    generator, discriminators = learners()
    both = step(generator, discriminators)
    judged = step(generator, discriminators, mode="discriminators")
    assert eqx.tree_equal(judged.generator, generator.with_state(jnp.asarray(7.0)))
    assert eqx.tree_equal(judged.discriminators.model, both.discriminators.model)
    assert float(judged.discriminators.model_state) == 2.0
    assert set(judged.metrics) == {"discriminator", "disc"} | DISCRIMINATORS and bool(judged.finite)
    after = step(generator, judged.discriminators, mode="generator")
    assert eqx.tree_equal(after.generator, both.generator)
    assert eqx.tree_equal(after.discriminators, both.discriminators)
    assert set(after.metrics) == {"generator", "mel", "divergence", "adv"} | GENERATOR


def test_step_keeps_frozen_parts_of_the_generator():
    after = step(*learners(), frozen=("gain",))
    assert float(after.generator.model.gain) == 0.5 and float(after.discriminators.model.gain) != 0.8


class Autoencoder(eqx.Module):
    encoder: jax.Array
    decoder: jax.Array


def autoencoder_step(scale, **options):
    """A step of an autoencoder whose encoder's gradient is proportional to `scale`."""
    optimizer = OptimizerConfig(learning_rate=0.05, schedule="constant", eps=1.0, clip_norm=1.0)
    model = Autoencoder(jnp.asarray(1.0), jnp.asarray(0.5))
    norms = {"encoder": jnp.asarray(1.0), "decoder": jnp.asarray(1.0)}
    generator = Learner.create(model, optimizer, steps_per_epoch=1, model_state=norms)

    def forward(model):
        constant = jax.lax.stop_gradient(model.encoder)
        audio = model.decoder * constant * NOISE + scale * (model.encoder - constant)
        return Outputs(audio, jnp.asarray(0.0), jnp.asarray([0, 1], jnp.int32)), jax.tree.map(lambda x: x + 1, norms)

    step = lambda g, d: adversarial_step(g, d, **functions() | {"generate": forward}, **options)  # noqa: E731
    return eqx.filter_jit(step)(generator, learners()[1])


@pytest.mark.parametrize("mode", ["both", "generator", "reconstruction"])
def test_step_computes_no_gradient_of_frozen_parts(mode):
    """They do not count in the norm that `clip_norm` limits, and no moment of the optimiser changes."""
    expected = autoencoder_step(jnp.asarray(0.0), mode=mode, frozen=("encoder",))
    scale = jnp.asarray(1000.0)
    assert float(autoencoder_step(scale, mode=mode).generator.model.encoder) != 1.0
    assert eqx.tree_equal(autoencoder_step(scale, mode=mode, frozen=("encoder",)).generator, expected.generator)
    assert bool(expected.finite) and float(expected.generator.model.decoder) != 0.5
    assert float(expected.generator.model.encoder) == 1.0


@pytest.mark.parametrize("mode", ["both", "discriminators"])
def test_step_keeps_the_state_of_frozen_parts(mode):
    after = autoencoder_step(jnp.asarray(1.0), mode=mode, frozen=("encoder",)).generator.model_state
    assert {name: float(value) for name, value in after.items()} == {"encoder": 1.0, "decoder": 2.0}


@pytest.mark.parametrize("mode", ["both", "discriminators"])
def test_frozen_state_may_differ_from_frozen_parts(mode):
    options = {"mode": mode, "frozen": ("encoder",)}
    for kept, expected in (((), (2.0, 2.0)), (("decoder",), (2.0, 1.0))):
        after = autoencoder_step(jnp.asarray(1.0), frozen_state=kept, **options).generator
        assert (float(after.model_state["encoder"]), float(after.model_state["decoder"])) == expected
        assert float(after.model.encoder) == 1.0


def test_gradients_of_frozen_parts_do_not_skip_updates():
    """The derivative of the square root at 0 is infinite."""

    def forward(model):
        audio = model.decoder * NOISE + jnp.sqrt(model.encoder)
        return Outputs(audio, jnp.asarray(0.0), jnp.asarray([0, 1], jnp.int32)), None

    model = Autoencoder(jnp.asarray(0.0), jnp.asarray(0.5))
    generator = Learner.create(model, OPTIMIZER, steps_per_epoch=1)
    given = functions() | {"generate": forward}
    assert not bool(adversarial_step(generator, learners()[1], **given).finite)
    after = adversarial_step(generator, learners()[1], **given, frozen=("encoder",))
    assert bool(after.finite) and float(after.generator.model.encoder) == 0.0


def test_step_raises_for_unknown_modes():
    with pytest.raises(ConfigError, match=r"mode is 'discriminator'; it should be one of 'both', 'discriminators'"):
        adversarial_step(*learners(), **functions(), mode="discriminator")  # pyright: ignore


def test_step_raises_for_unknown_frozen_paths():
    with pytest.raises(ConfigError, match=r"frozen contains 'gian'.*did you mean 'gain'"):
        adversarial_step(*learners(), **functions(), frozen=("gian",))


@pytest.mark.parametrize("broken", ["real", "divergence"])
def test_step_detects_losses_that_are_not_finite(broken, monkeypatch):
    module = {"real": "REAL", "divergence": "NOISE"}[broken]
    assert bool(step(*learners()).finite)
    monkeypatch.setitem(globals(), module, jnp.asarray([jnp.nan, 1.0, 1.0]))
    assert not bool(step(*learners()).finite)


def test_step_runs_the_generator_once():
    calls = []

    def counted(generator):
        calls.append(1)
        return generate(generator)

    generator, discriminators = learners()
    adversarial_step(generator, discriminators, **functions() | {"generate": counted})
    assert len(calls) == 1
