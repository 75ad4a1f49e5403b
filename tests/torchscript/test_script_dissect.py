"""Functions of TorchScript archives in `dissect`: names, captured and bent outputs, and changes in place."""

import jax
import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice import dissect
from jaxvoice.dissect import Bend, Scale
from jaxvoice.errors import ConfigError
from jaxvoice.torchscript import function
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import scripted

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return x * self.scale, [x + 1, x - 1]


class InPlace(nn.Module):
    """Changes the output of a module that returns its input, which changes the input too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.same = nn.Identity()
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        y = self.same(h)
        y.mul_(2.0)
        product, others = self.pair(h + y)
        others[0].add_(product)
        return others[0] + self.first(others[1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    torch.manual_seed(0)
    model = InPlace().eval()
    path = tmp_path_factory.mktemp("archive") / "model.pt"
    scripted(model, path)
    with open_archive(path) as opened:
        yield model, function(opened)


X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def test_outputs_have_the_names_of_modules(archive):
    model, run = archive
    tagged = dissect.tag(run)
    values = dissect.activations(tagged, run.weights, X, modules=True)
    assert [(row.name, row.op) for row in values] == [
        ("first", "Linear"),
        ("same", "Identity"),
        ("pair[0]", "Pair"),
        ("pair[1][0]", "Pair"),
        ("pair[1][1]", "Pair"),
        ("first#2", "Linear"),
    ]
    result, found = dissect.capture(tagged)(run.weights, X)
    with torch.no_grad():
        expected = model(torch.from_numpy(X)).numpy()
        first = model.first(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_allclose(found["first"], first, atol=1e-6)
    np.testing.assert_allclose(found["pair[1][1]"], 4 * first - 1, atol=1e-5)
    np.testing.assert_array_equal(result, run(run.weights, X))
    assert dissect.tag(run, "net").with_names("net")  # a copy
    assert {row.name for row in dissect.activations(dissect.tag(run, "net"), run.weights, X, modules=True)} > {
        "net.same"
    }
    assert not dissect.activations(run, run.weights, X, modules=True).rows


def test_operations_of_a_module_are_listed(archive):
    _, run = archive
    table = dissect.graph(dissect.tag(run), run.weights, X)
    assert {"dot_general", "dot_general_1"} <= set(table.names)
    assert any(row.name == "mul" and row.inputs for row in table)


def test_bent_outputs_and_weights(archive):
    model, run = archive
    bent = dissect.bend(dissect.tag(run), [Bend(Scale(0.5), "same"), Bend(Scale(2.0), r"pair\.scale")])
    result = jax.jit(bent)(run.weights, X)
    with torch.no_grad():
        h = model.first(torch.from_numpy(X))
        # The input of `same` gets the changed values of its output, of which it is an alias.
        total = 2 * h
        others = [total + 1 + total * 2 * model.pair.scale, total - 1]
        expected = (others[0] + model.first(others[1])).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"'pair.scael' matches no weight .*; the nearest are pair\.scale"):
        dissect.bend(dissect.tag(run), [Bend(Scale(), "pair.scael")])(run.weights, X)
