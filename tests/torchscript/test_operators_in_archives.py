"""The table of the operators that archives call: it equals what torch writes, and all operators are implemented."""

import importlib.util
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from jaxvoice.torchscript.operators import find_operator
from tests.torchscript import operator_table
from tests.torchscript.script_agreement import assert_same, inputs_of

FOLDER = Path(os.environ.get("JAXVOICE_WHEELS", os.devnull))
BY_DEFAULT = {"rave", "torch.nn attention"}
"""Archives whose operators no other test runs all."""


@pytest.mark.slow
def test_the_table_equals_the_calls_of_torch():
    table, made = operator_table.read(), operator_table.from_torch()
    assert {name: called for name, called in table.items() if name in made} == made


@pytest.mark.skipif(
    len(operator_table.wheels_in(FOLDER)) < len(operator_table.WHEELS),
    reason=f"JAXVOICE_WHEELS names no folder with the wheels of {', '.join(operator_table.WHEELS)}",
)
@pytest.mark.skipif(importlib.util.find_spec("einops") is None, reason="the network of torchfcpe imports einops")
def test_the_table_equals_the_archives_in_wheels(tmp_path):
    table, found = operator_table.read(), operator_table.from_wheels(FOLDER, tmp_path)
    assert {name: called for name, called in table.items() if name in found} == found
    assert table.keys() == found.keys() | operator_table.from_torch().keys()


def run_compiled(run, inputs, key):
    """The result under `jax.jit`; arrays of whole numbers, such as lengths, are known while it traces."""
    given = dict(enumerate(inputs_of(inputs)))
    real = {number: array for number, array in given.items() if array.dtype.kind == "f"}
    # Programs that run once, so that what XLA optimises takes longer than it saves.
    options = {"xla_backend_optimization_level": 0}
    # The weights are constants, since flags among them decide branches.
    return jax.jit(lambda real: run(run.weights, *(given | real).values(), key=key), compiler_options=options)(real)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in BY_DEFAULT else pytest.mark.slow) for name in operator_table.SOURCES],
)
def test_archives_of_the_table_equal_torch(load, key, name):
    torch.manual_seed(0)
    for _, module, inputs in operator_table.archives_of(operator_table.SOURCES[name]()):
        run = load(module)
        ours = run_compiled(run, inputs, key)
        with torch.no_grad():
            theirs = module(*inputs)  # which may change its inputs
        if not any("rand" in operator for operator in operator_table.operators_of(module)):
            assert_same(theirs, ours, 5e-5)
        else:  # torch draws other numbers
            assert np.shape(ours) == theirs.shape and np.isfinite(ours).all()


def test_operators_of_the_table_are_implemented():
    called = {operator_table.spelling(operator) for names in operator_table.read().values() for operator in names}
    unknown = {name for name in called if find_operator(name) is None and find_operator(name, ([],)) is None}
    assert unknown - operator_table.SYNTAX == operator_table.NOT_RUN
