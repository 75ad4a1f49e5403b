"""Training compared with golden values of the released training loop."""

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.data import CropBatch
from jaxvoice.models.hifigan.training import TrainingConfig
from jaxvoice.models.hifigan.weights import load_discriminators
from jaxvoice.weights import load_state, named_arrays
from tests.models.hifigan.trainer import Trainer
from tests.reference import golden

COLUMNS = ("disc_period", "disc_scale", "adv_period", "adv_scale", "feature_period", "feature_scale")


def load(task, generator, mpd, msd):
    """The task's state before its first step, with these weights."""
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    judges = load_discriminators(task.config.model.discriminators, mpd, msd)
    return task.state_of(load_state(shapes.generator.model, generator), *judges)


def losses(metrics) -> np.ndarray:
    return np.array([float(metrics[name]) for name in COLUMNS] + [45 * float(metrics["mel_l1"])])


@pytest.fixture(scope="module")
def case():
    return golden.case("hifigan/training_v1")


def golden_batch(case):
    """The case's audio is float, a batch's is int16 times a gain: kept exact by widening the integers."""
    audio = case["audio"][:, 0]
    return CropBatch(audio, np.ones(len(audio), np.float32), case["mel"])


@pytest.mark.slow
def test_three_steps_equal_the_release(case):
    trainer = Trainer(TrainingConfig())
    state = load(trainer.task, *(case.state_dict("tensors", name) for name in ("generator", "mpd", "msd")))
    for expected, tolerance in zip(case["losses"], (1e-4, 1e-3, 1e-3), strict=True):
        (state,), (metrics,) = trainer(state, golden_batch(case))
        np.testing.assert_allclose(losses(metrics), expected, rtol=tolerance)
    trained = {
        "generator": named_arrays(state.generator.model),
        "mpd": named_arrays(state.discriminators.model.mpd),
        "msd": {
            **named_arrays(state.discriminators.model.msd),
            **named_arrays(state.discriminators.model_state),
        },
    }
    for place, expected in case.arrays.items():
        if "/" in place:
            network, name = place.split("/")
            ours = golden.digest(np.asarray(trained[network][name]))
            np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max(), err_msg=place)
