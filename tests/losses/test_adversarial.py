"""Adversarial losses against golden numbers of the released implementation and against torch."""

import numpy as np
import pytest
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_training
from jaxvoice.losses import discriminator_loss, feature_loss, generator_loss
from tests.reference import golden

SHAPES = ((2, 5), (2, 3, 4), (2, 4, 1, 3))


def arrays(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def outputs(features):
    """Each array as the only feature map, and so the scores, of a discriminator of its own."""
    return [(torch.from_numpy(x), [torch.from_numpy(x)]) for x in features]


def on_jax(features):
    return [jnp.asarray(x) for x in features]


@pytest.fixture(scope="module")
def case():
    return golden.case("hifigan/discriminators")


@pytest.mark.parametrize(("kind", "count"), [("mpd", 5), ("msd", 3)])
def test_losses_of_the_released_scores(case, kind, count):
    real, fake = ([jnp.asarray(case[f"{kind}_{i}_score_{which}"]) for i in range(count)] for which in ("real", "fake"))
    expected = float(case[f"{kind}_discriminator_loss"])
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-5)
    assert float(generator_loss(fake)) == pytest.approx(float(case[f"{kind}_generator_loss"]), rel=1e-5)
    assert float(discriminator_loss(fake, real)) != pytest.approx(expected, rel=1e-4)


def test_losses_equal_torch():
    real, fake = arrays(0), arrays(1)
    r, f = outputs(real), outputs(fake)
    ours = discriminator_loss(on_jax(real), on_jax(fake))
    assert float(ours) == pytest.approx(float(torch_training.discriminator_loss(r, f)), rel=1e-6)
    assert float(generator_loss(on_jax(fake))) == pytest.approx(float(torch_training.generator_loss(f)), rel=1e-6)
    # The factor 2 of the release is a weight of the task's.
    theirs = torch_training.feature_loss(r, f)
    assert 2 * float(feature_loss(on_jax(real), on_jax(fake))) == pytest.approx(float(theirs), rel=1e-6)


def test_losses_are_least_where_the_aim_is_met():
    ones, zeros = [jnp.ones((2, 3))], [jnp.zeros((2, 3))]
    assert float(discriminator_loss(ones, zeros)) == 0
    assert float(discriminator_loss(zeros, ones)) == 2
    assert float(generator_loss(ones)) == 0
    assert float(generator_loss(zeros)) == 1
    assert float(feature_loss(ones, ones)) == 0
    assert float(feature_loss([*ones, *zeros], [*zeros, *ones])) == 2


def test_bfloat16_is_summed_in_float32():
    real, fake = ([x.astype(jnp.bfloat16) for x in on_jax(arrays(seed))] for seed in (0, 1))
    exact = [[np.asarray(x, np.float64) for x in side] for side in (real, fake)]
    expected = sum(np.abs(r - f).mean() for r, f in zip(*exact, strict=True))
    loss = feature_loss(real, fake)
    assert loss.dtype == generator_loss(fake).dtype == discriminator_loss(real, fake).dtype == jnp.float32
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_numbers_of_discriminators_must_agree():
    real, fake = on_jax(arrays(0)), on_jax(arrays(1))
    for loss in (discriminator_loss, feature_loss):
        with pytest.raises(ValueError, match="zip"):
            loss(real[:-1], fake)
