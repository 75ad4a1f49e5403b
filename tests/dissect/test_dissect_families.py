"""The results of all modules of every family are listed and captured, and tags change no other part of a program."""

import importlib

import equinox as eqx
import jax
import pytest
from jax import numpy as jnp

from jaxvoice import dissect, models
from jaxvoice.dissect.programs import trace
from jaxvoice.nn import submodules

OTHER_CALLS = {
    "gaussian_tts": lambda config, model: model.durations(
        jnp.zeros((6, config.dim)), phone_count=jnp.asarray(6), inference=True
    ),
    "waveglow": lambda config, model: model.encode(
        jnp.zeros((4 * config.mel.hop_length, 1)), jnp.zeros((4, config.mel.num_mels))
    ),
}
"""Calls of modules that the main call of a network does not use."""


@pytest.fixture(scope="module", params=models.FAMILIES, ids=lambda family: family.name)
def example(request):
    """A small network of a family without values, and calls of it, each a function of a model."""
    family = request.param
    config = importlib.import_module(f"tests.models.{family.name}.small").SMALL
    network = eqx.filter_eval_shape(family.build, config, key=jax.random.key(0))
    args, kwargs = family.example_inputs(config, key=jax.random.key(0))
    calls = [lambda model: model(*args, **kwargs)]
    if family.name in OTHER_CALLS:
        calls.append(lambda model: OTHER_CALLS[family.name](config, model))
    return network, calls


def test_every_module_is_listed_and_can_be_captured(example):
    network, calls = example
    captured = set()
    for call in calls:
        run = dissect.subgraph(lambda model, call=call: call(dissect.tag(model)), "*")
        values = dissect.named_values(lambda model, call=call: call(dissect.tag(model)), network)
        found = eqx.filter_eval_shape(run, network)
        assert {value.name: value.shape for value in values} == {name: array.shape for name, array in found.items()}
        captured |= {name.partition("[")[0].partition("#")[0] for name in found}
    paths = {path for path, _ in submodules(network)}
    # The result of a method is named after it.
    assert paths <= captured | {name.rpartition(".")[0] for name in captured - paths}


def operations(program):
    return [(value.op, value.shape) for value in program.values if not value.is_module]


def test_tags_add_names_and_nothing_else(example):
    network, calls = example
    for call in calls:
        plain, _ = trace(call, (network,), {})
        tagged, _ = trace(lambda model, call=call: call(dissect.tag(model)), (network,), {})
        assert not plain.modules and tagged.modules
        assert operations(plain) == operations(tagged)
