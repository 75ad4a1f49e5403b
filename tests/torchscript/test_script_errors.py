"""Errors of programs state the operator and the position in the archive's code."""

import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript import function
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import with_code
from tests.torchscript.script_agreement import scripted

PLACE = r"\(__torch__/.*\.py, line \d+, in scripts\.Script\.forward\)"

FAILING = {
    "operator": ("y = torch.matmul(x, torch.ones([2]))", "torch.matmul failed for"),
    "form of an operator": ("y = torch.relu(x, 1, 2, 3)", r"torch\.relu is not supported: the overload with"),
    "name": ("y = nothing", "'nothing' has no value"),
    "attribute": ("y = self.nothing", "has no attribute 'nothing'"),
    "constant": ("y = CONSTANTS.c99", "has no constant 'c99'"),
    "number": ('y = int("x")', "invalid literal.*ValueError"),
    "item": ("y = [0]\ny[5] = 1", "IndexError"),
    "order": ('y = sorted([1, "a"])', "TypeError"),
    "range": ("for i in range(1, 2, 0):\n  pass", "ValueError"),
    "statement": ("y = [i for i in x]", "not TorchScript syntax that jaxvoice supports"),
    "branch": (
        "if torch.gt(torch.len(x), 0):\n  y = torch.no_such(x)",
        r"the operator torch\.no_such is not implemented",
    ),
    "raised": ('ops.prim.RaiseException("no", "builtins.ValueError")', "raised ValueError: no"),
}


@pytest.mark.parametrize("name", FAILING)
def test_errors_state_their_position(run_code, name):
    source, message = FAILING[name]
    with pytest.raises(CheckpointError, match=f"{message}.*{PLACE}"):
        run_code(source)


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_y1(x)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), Inner()])
        self.encoder = nn.Sequential(nn.Linear(3, 3))

    def forward(self, x: torch.Tensor, more: bool = False) -> torch.Tensor:
        x = self.encoder(x)
        if more:
            x = torch.special.bessel_y0(x)
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("script", [False, True])
def test_missing_operators_raise_an_error_before_the_run(load, trace, operators, script):
    x = torch.ones(2, 3)
    run = load(torch.jit.script(Outer().eval()) if script else trace(Outer(), x))
    with pytest.raises(UnsupportedOperatorError) as caught:
        run(run.weights, x.numpy())
    for part in ("torch.special_bessel_y1", ".py, line ", "Inner.forward", "for the module 'layers.1'"):
        assert part in str(caught.value)
    assert operators == []


def test_classes_with_attributes_of_their_own_class_are_searched_once(tmp_path):
    made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(Inner())), made)

    def change(text):
        head, found, tail = text.partition("class Sequential(Module):\n")
        if not found:
            return text
        kind = "__torch__.torch.nn.modules.container.Sequential"
        body = "\n".join(f"    _{name} = (self.{name}).forward(input, )" for name in "ab")
        tail = tail.replace("-> Tensor:\n", f"-> Tensor:\n{body}\n")
        return f"{head}{found}  a : {kind}\n  b : {kind}\n{tail}"

    torch.jit.load(made)
    with open_archive(with_code(made, change, changed)) as archive:
        run = function(archive)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedOperatorError, match="special_bessel_y1"):
        run(run.weights, np.ones(2, np.float32))


def test_operators_in_branches_are_not_required(load):
    run = load(scripted("if x.size(0) > 2:\n    x = torch.special.bessel_y0(x)\nelse:\n    x = x + 1\nreturn x"))
    np.testing.assert_array_equal(run({}, np.ones(2, np.float32)), [2, 2])
    with pytest.raises(UnsupportedOperatorError, match=f"special_bessel_y0.*{PLACE}"):
        run({}, np.ones(3, np.float32))


def helper(x: torch.Tensor) -> torch.Tensor:
    return torch.special.bessel_y1(x)


class Calling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return helper(x + 1)


def test_operators_of_free_functions_are_required(load, operators):
    run = load(torch.jit.script(Calling()))
    with pytest.raises(UnsupportedOperatorError, match=r"special_bessel_y1.*\.py, line \d+, in .*helper"):
        run({}, np.ones(2, np.float32))
    assert operators == []


def test_operators_after_a_return_or_an_error_are_not_required(run_code):
    missing = "y = torch.no_such(x)"
    np.testing.assert_array_equal(run_code(f"if torch.gt(torch.len(x), 0):\n  return x\n{missing}"), [1])
    with pytest.raises(CheckpointError, match="raised ValueError: no"):
        run_code(f'ops.prim.RaiseException("no", "builtins.ValueError")\n{missing}')


@pytest.mark.parametrize("value", [3, 1.5, "text", None])
def test_numbers_and_text_for_tensors_raise_an_error(load, value):
    run = load(scripted("x + 1"))
    with pytest.raises(CheckpointError, match=r"x of forward is .*; it should be an array"):
        run({}, value)
    with pytest.raises(CheckpointError, match=r"x of forward is .*; it should be an array"):
        run({}, x=value)
