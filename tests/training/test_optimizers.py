"""Optimisers against AdamW, schedules and clipping of PyTorch."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxvoice.errors import ConfigError
from jaxvoice.nn import Conv1d, Embedding, LayerNorm, Linear
from jaxvoice.training.optimizers import OptimizerConfig, adamw, decays_to, ema_update, learning_rate, noam_peak

STEPS, PER_EPOCH = 30, 4
# Large rates and decays, so that a wrong formula shows within a few steps.
CONFIG = OptimizerConfig(learning_rate=1e-2, decay=0.9, weight_decay=0.1)


def gradients():
    generator = np.random.default_rng(0)
    return [{"w": generator.normal(size=(5, 3)), "b": generator.normal(size=3) * 1e-3} for _ in range(STEPS)]


def ours(config):
    params = {"w": jnp.ones((5, 3)), "b": jnp.ones(3)}
    optimizer = adamw(config, steps_per_epoch=PER_EPOCH)
    state, path = optimizer.init(params), []

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients():
        params, state = step(params, state, jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient))
        path.append(jax.tree.map(np.asarray, params))
    return path


def theirs(config):
    params = {"w": torch.ones(5, 3, requires_grad=True), "b": torch.ones(3, requires_grad=True)}
    groups = {"w": config.weight_decay, "b": config.weight_decay if config.weight_decay_on == "all" else 0.0}
    optimizer = torch.optim.AdamW(
        [{"params": [params[name]], "weight_decay": decay} for name, decay in groups.items()],
        lr=config.learning_rate,
        betas=(config.b1, config.b2),
    )
    schedule, path = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=config.decay), []
    for number, gradient in enumerate(gradients(), start=1):
        for name, param in params.items():
            param.grad = torch.tensor(gradient[name], dtype=torch.float32)
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(params.values()), config.clip_norm)
        optimizer.step()
        if number % PER_EPOCH == 0:
            schedule.step()
        path.append({name: param.detach().numpy().copy() for name, param in params.items()})
    return path


def distance(left, right):
    return max(float(np.abs(a[name] - b[name]).max()) for a, b in zip(left, right, strict=True) for name in a)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("weight_decay_on", ["all", "matrices"])
def test_adamw_equals_torch_with_two_groups_and_exponential_decay(weight_decay_on, clip_norm):
    config = replace(CONFIG, weight_decay_on=weight_decay_on, clip_norm=clip_norm)
    assert distance(ours(config), theirs(config)) < 1e-6


@pytest.mark.parametrize(
    "changed",
    [
        {"weight_decay": 0.09},
        {"weight_decay_on": "matrices"},
        {"b1": 0.9},
        {"b2": 0.999},
        {"decay": 0.91},
        {"decay_steps": PER_EPOCH + 1},
        {"schedule": "constant"},
        {"warmup_steps": 2},
    ],
)
def test_every_setting_matters(changed):
    assert distance(ours(replace(CONFIG, **changed)), theirs(CONFIG)) > 1e-5


def test_linear_schedule_equals_torch():
    config = OptimizerConfig(learning_rate=1e-2, schedule="linear", decay=0.1, decay_steps=5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    schedule, rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 5), learning_rate(config, steps_per_epoch=1)
    for made in range(8):
        assert float(rate(jnp.asarray(made))) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()
    for made in range(6):
        assert decays_to(float(rate(jnp.asarray(made))), config, steps_per_epoch=1) == made
    assert decays_to(1e-9, config, steps_per_epoch=1) == 5
    per_epoch = learning_rate(replace(config, decay_steps=None), steps_per_epoch=4)
    assert float(per_epoch(jnp.asarray(4))) == pytest.approx(1e-3)


def test_milestones_equal_torch():
    config = OptimizerConfig(learning_rate=1e-2, schedule="milestones", milestones=(2, 3, 6), decay=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3, 6], 0.5)
    rate = learning_rate(config, steps_per_epoch=0)
    for made in range(8):
        assert float(rate(jnp.asarray(made, jnp.int32))) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()
    assert [decays_to(1e-2 * 0.5**n, config, steps_per_epoch=0) for n in range(5)] == [0, 2, 3, 6, 6]


def test_only_kernels_decay_as_in_torch():
    keys = iter(jax.random.split(jax.random.key(0), 16))
    params = {
        "linear": Linear(3, 4, key=next(keys)),
        "conv": Conv1d(3, 4, 3, key=next(keys)),
        "table": Embedding(5, 3, key=next(keys)),
        "norm": LayerNorm(3),
        "latents": jax.random.normal(next(keys), (2, 3)),
    }
    leaves, structure = jax.tree.flatten(params)
    gradient = jax.tree.map(lambda array: jax.random.normal(next(keys), array.shape), leaves)
    config = OptimizerConfig(learning_rate=0.1, b1=0.9, b2=0.96, weight_decay=0.5, weight_decay_on="kernels")
    optimizer = adamw(config, steps_per_epoch=1)
    updates, _ = optimizer.update(jax.tree.unflatten(structure, gradient), optimizer.init(params), params)
    found = jax.tree.leaves(eqx.apply_updates(params, updates))
    paths = ["/".join(map(str, path)) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    kernels = [path.endswith(".weight") and ("linear" in path or "conv" in path) for path in paths]
    assert sum(kernels) == 2 and len(paths) == 8
    theirs = [torch.tensor(np.asarray(leaf), requires_grad=True) for leaf in leaves]
    for tensor, one in zip(theirs, gradient, strict=True):
        tensor.grad = torch.tensor(np.asarray(one))
    groups = [{"params": [one], "weight_decay": 0.5 * kernel} for one, kernel in zip(theirs, kernels, strict=True)]
    torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.96)).step()
    for mine, tensor in zip(found, theirs, strict=True):
        np.testing.assert_allclose(mine, tensor.detach().numpy(), atol=1e-6)


def test_noam_equals_the_published_equation():
    width, warmup = 256, 40
    config = OptimizerConfig(learning_rate=noam_peak(width, warmup, factor=0.7), schedule="noam", warmup_steps=warmup)
    schedule = learning_rate(config, steps_per_epoch=1)
    steps = np.arange(1, 400)
    expected = 0.7 * width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(399)), expected, rtol=1e-5)
    assert np.argmax(expected) == warmup - 1 and expected.max() == pytest.approx(config.learning_rate)
    for made in (40, 41, 100, 398):
        assert decays_to(float(schedule(jnp.asarray(made))), config, steps_per_epoch=1) == made
    with pytest.raises(ConfigError, match="warmup_steps is 0; it should be positive"):
        OptimizerConfig(schedule="noam")


def test_defaults_equal_those_of_torch():
    torch_has = torch.optim.AdamW([torch.zeros(1)], lr=2e-4, betas=(0.8, 0.99)).defaults
    config = OptimizerConfig()
    assert (config.eps, config.weight_decay) == (torch_has["eps"], torch_has["weight_decay"])
    assert (config.learning_rate, (config.b1, config.b2)) == (torch_has["lr"], torch_has["betas"])


def test_rate_decays_in_steps_after_a_warm_up():
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, decay=0.5, warmup_steps=4), steps_per_epoch=3)
    found = [float(rate(jnp.array(step, jnp.int32))) for step in range(11)]
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])


def test_ema_decays_geometrically_and_copies_integers():
    average = {"w": jnp.zeros(2), "n": jnp.array(0)}
    for _ in range(3):
        average = ema_update(average, {"w": jnp.ones(2), "n": jnp.array(7)}, decay=0.9)
    np.testing.assert_allclose(average["w"], 1 - 0.9**3, rtol=1e-6)
    assert int(average["n"]) == 7
    warm = ema_update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, decay=0.999, step=jnp.array(0))
    np.testing.assert_allclose(warm["w"], 0.9, rtol=1e-6)
    late = ema_update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, decay=0.9, step=jnp.array(10**6))
    np.testing.assert_allclose(late["w"], 0.1, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"b1": 1.0},
        {"decay": 0.0},
        {"decay_steps": 0},
        {"weight_decay": -1.0},
        {"clip_norm": 0.0},
        {"warmup_steps": -1},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"eps": math.nan},
        {"b2": math.nan},
        {"decay": math.nan},
        {"weight_decay": math.inf},
        {"clip_norm": math.nan},
        {"schedule": "cosine"},
        {"weight_decay_on": "weights"},
        {"warmup_steps": 10.5},
        {"milestones": (1, 2)},
        {"milestones": (), "schedule": "milestones"},
        {"milestones": (2, 2), "schedule": "milestones"},
    ],
)
def test_optimizer_config_names_impossible_settings(wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=name):
        OptimizerConfig(**wrong)


def test_decay_per_epoch_raises_without_steps_per_epoch():
    with pytest.raises(ConfigError, match="decay_steps"):
        learning_rate(OptimizerConfig(), steps_per_epoch=0)
