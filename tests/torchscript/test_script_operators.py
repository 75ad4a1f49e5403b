"""Operators against torch: many expressions per program, traced under `jax.jit` and scripted eagerly."""

import functools as ft
import re
import zipfile

import jax
import numpy as np
import pytest
import torch

from jaxvoice.torchscript.operators import operator_names
from tests.torchscript.operator_programs import GROUPS, VALUES
from tests.torchscript.script_agreement import assert_same, inputs_of, made_of, scripted, values

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

# Programs of a few elements run once, so that what XLA optimises takes longer than it saves.
compiled = ft.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def one_of_each(sources):
    """The first expression of each function and operator: eagerly, JAX compiles each step of an expression alone."""
    stems = {}
    for source in sources:
        stems.setdefault(re.sub(r"\b([a-z]|[\d.]+)\b", "", source.partition("(")[0]), source)
    return list(stems.values())


@ft.cache
def program(name, kind):
    """The inputs of a group, its expressions of a kind, and the module that computes them."""
    shapes, sources = GROUPS[name]
    inputs = dict(zip(shapes, values(0, *shapes.values()), strict=True))
    sources = [source.removeprefix(f"{kind}:") for source in sources if source[1] != ":" or source[0] == kind]
    if kind == "s":
        sources = one_of_each(sources)
    return list(inputs.values()), sources, made_of(f"({', '.join(f'({one},)' for one in sources)})", inputs, kind)


@pytest.mark.parametrize("kind", ["t", "s"])
@pytest.mark.parametrize("name", GROUPS)
def test_operators_equal_torch(load, name, kind):
    inputs, sources, module = program(name, kind)
    run = load(module)
    with torch.no_grad():
        theirs = module(*inputs)
    ours = (compiled(run) if kind == "t" else run)(run.weights, *inputs_of(inputs))
    failures = []
    for source, one, other in zip(sources, theirs, ours, strict=True):
        try:
            assert_same(one, other, 2e-5)
        except AssertionError as failure:
            failures.append(f"{source}: {failure}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", VALUES)
def test_operators_on_numbers_text_lists_and_dicts_equal_torch(assert_agreement, name):
    assert_agreement(scripted(VALUES[name], "x, n: int, r: float"), torch.ones(3), 7, 2.5)


def test_devices_and_flags_are_ignored(load):
    run = load(scripted("x.cuda().requires_grad_(), x.requires_grad, x.layout"))
    tensor, *flags = run(run.weights, np.ones(3, np.float32))
    np.testing.assert_array_equal(tensor, [1, 1, 1])
    assert flags == [True, 0]


def called_in(module, path):
    """Names of the operators that the text of a module's archive calls."""
    torch.jit.save(module, path)
    with zipfile.ZipFile(path) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")]
    return set(re.findall(r"\b((?:torch|ops\.prim)\.\w+)\(", "\n".join(texts)))


ELSEWHERE = {
    "test_devices_and_flags_are_ignored": (
        {"torch.cuda", "torch.requires_grad_", "ops.prim.layout", "ops.prim.requires_grad"}
    ),
    "test_script_aliasing": {f"torch.{name}" for name in ("copy_", "fill_", "masked_fill_")},
    "test_script_random": {
        f"torch.{name}" for name in ("rand", "randn", "rand_like", "randn_like", "normal_", "uniform_")
    },
    "test_script_models": {
        f"torch.{kind}{cell}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell")
    },
    "test_operators_in_archives": {
        *("torch._native_multi_head_attention", "torch._transformer_encoder_layer_fwd", "torch.is_autocast_enabled"),
    },
    "test_script_programs_more": {"torch._pack_padded_sequence", "torch._pad_packed_sequence"},
}
"""Operators that other modules test."""


# As they are before any test: another one registers an operator of its own.
KNOWN = frozenset(operator_names())


def test_every_operator_is_in_a_program(tmp_path):
    modules = [program(name, kind)[2] for name in GROUPS for kind in "st"]
    modules += [scripted(body, "x, n: int, r: float") for body in VALUES.values()]
    called = set().union(*(called_in(module, tmp_path / "module.pt") for module in modules))
    assert KNOWN - called == set().union(*ELSEWHERE.values())
