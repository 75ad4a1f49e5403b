"""Speech networks traced and scripted with torch, interpreted under `jax.jit`, against torch."""

import functools

import jax
import pytest
import torch

from tests.torchscript import script_models as models
from tests.torchscript.script_agreement import assert_same, inputs_of

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

# Networks of a few channels run once, so that what XLA optimises takes longer than it saves.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

NETWORKS = {
    "speaker encoder": -1,
    "conformer": -1,
    "conditional hifigan": -1,
    "mel front end": -1,
    "recurrent": 1,
    "norms": -1,
}
"""Networks, and the axis of time of their first input."""


def assert_agreement_of(load, module, inputs):
    run = load(module)
    ours = compiled(run)(run.weights, *inputs_of(inputs))
    with torch.no_grad():
        assert_same(module(*inputs), ours, 2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_traced_models_accept_other_lengths(load, trace, name):
    module, inputs = models.make(name)
    made, axis = trace(module, *inputs), NETWORKS[name]
    assert_agreement_of(load, made, [torch.cat([inputs[0], inputs[0].flip(axis)], axis), *inputs[1:]])


def test_scripted_recurrent_layers_equal_torch(load):
    module, inputs = models.make("recurrent")
    assert_agreement_of(load, torch.jit.script(module), inputs)
