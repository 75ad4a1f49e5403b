"""Weights of the golden cases of coqui's XTTS, and comparisons with their results."""

import equinox as eqx
import jax
import numpy as np

from jaxvoice.models.xtts.config import ConditioningConfig, GPTConfig
from jaxvoice.weights import load_state
from tests.reference import golden

GOLDEN_GPT = GPTConfig(
    layers=2, channels=256, heads=4, text_ids=300, dropout=0.0, conditioning=ConditioningConfig(heads=4)
)


def renamed(name):
    """The name of jaxvoice for a tensor of the release: the older spelling of weight norm."""
    spellings = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    for theirs, ours in spellings.items():
        name = name.replace(theirs, ours)
    return name


def released_shapes(model):
    """The names and shapes of the arrays of a released model."""
    tensors = golden.case_json(f"xtts/shapes/{model}")["tensors"]
    return {renamed(one["name"]): tuple(one["shape"]) for one in tensors}


def load(case, make, config, prefix=""):
    """The network `make(config)` with the weights of `case` below `prefix`."""
    state = case.state_dict()
    state = {renamed(name.removeprefix(prefix)): value for name, value in state.items() if name.startswith(prefix)}
    return load_state(eqx.filter_eval_shape(make, config, key=jax.random.key(0)), state)


def assert_close(found, case, name):
    """Equal within ten times the rounding of the case, or 1e-5, relative to the largest value."""
    expected = case[name]
    tolerance = max(10 * case.meta["rounding"][name], 1e-5) * max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def last(array):
    """An array of torch, `(batch, channels, time)`, with channels last."""
    return np.swapaxes(array, -1, -2)
