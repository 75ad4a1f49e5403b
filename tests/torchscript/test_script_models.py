"""Speech networks traced and scripted with torch, interpreted under `jax.jit`, beside torch."""

import jax
import pytest
import torch

from tests.torchscript import script_models as models
from tests.torchscript.script_agreement import inputs_of, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")


TRACED = [
    "speaker encoder",
    "conformer",
    "conditional hifigan",
    "hifigan v1 small",
    "mel front end",
    "recurrent",
    "norms",
    "transformer",
]
SCRIPTED = ["conformer", "mel front end", "recurrent"]


@pytest.mark.parametrize("name", TRACED)
def test_traced(agree, trace, name):
    module, inputs = models.make(name)
    agree(trace(module, *inputs), *inputs, jit=True, tolerance=1e-5)


@pytest.mark.parametrize("name", SCRIPTED)
def test_scripted(agree, name):
    module, inputs = models.make(name)
    agree(torch.jit.script(module), *inputs, jit=True, tolerance=1e-5)


@pytest.mark.parametrize("name", ["speaker encoder", "conformer", "conditional hifigan", "recurrent"])
def test_a_trace_serves_other_lengths(load, trace, name):
    module, inputs = models.make(name)
    made = trace(module, *inputs)
    run = load(made)
    x = inputs[0]
    longer = [torch.cat([x, x.flip(-1)], 1 if name == "recurrent" else -1), *inputs[1:]]
    with torch.no_grad():
        same(made(*longer), jax.jit(run)(run.weights, *inputs_of(longer)), 2e-5)
