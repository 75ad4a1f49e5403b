"""Speech networks traced and scripted with torch, interpreted under `jax.jit`, beside torch."""

import functools

import jax
import pytest
import torch

from tests.torchscript import script_models as models
from tests.torchscript.script_agreement import inputs_of, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

# Networks of a few channels run once, so that what XLA optimises takes longer than it saves.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

TRACED = {
    "speaker encoder": -1,
    "conformer": -1,
    "conditional hifigan": -1,
    "hifigan v1 small": -1,
    "mel front end": -1,
    "recurrent": 1,
    "norms": -1,
    "rave encoder": -1,
    "rave decoder": None,
    "rave codes": -1,
    "rave bands": None,
    "spectrogram": -1,
    "transformer": None,
    "masks": None,
}
"""Networks, and the axis along which the input is longer than that of the trace, if the trace serves other lengths."""
SCRIPTED = ["conformer", "mel front end", "recurrent", "rave decoder", "rave codes", "cepstrum", "transformer"]


def agree_with(load, module, inputs):
    run = load(module)
    ours = compiled(run)(run.weights, *inputs_of(inputs))
    with torch.no_grad():
        same(module(*inputs), ours, 2e-5)


@pytest.mark.parametrize("name", TRACED)
def test_traced(load, trace, name):
    module, inputs = models.make(name)
    made, axis = trace(module, *inputs), TRACED[name]
    longer = inputs if axis is None else [torch.cat([inputs[0], inputs[0].flip(axis)], axis), *inputs[1:]]
    agree_with(load, made, longer)


@pytest.mark.parametrize("name", SCRIPTED)
def test_scripted(load, name):
    module, inputs = models.make(name)
    agree_with(load, torch.jit.script(module), inputs)
