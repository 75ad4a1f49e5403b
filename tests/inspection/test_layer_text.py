"""Short texts of calls."""

import pytest
import torch
from torch import nn

from jaxvoice.inspection.layer_text import call_text
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import scripted, traced

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Divided(nn.Module):
    def forward(self, x):
        return [
            x + 1, x - 2, x / 2, torch.div(x, 2, rounding_mode="floor"), torch.div(x, 2, rounding_mode="trunc"),
            torch.div(x, x, rounding_mode="floor"), torch.div(x, 3, rounding_mode=None),
        ]  # fmt: skip


class Reduced(nn.Module):
    def forward(self, x):
        return [x.mean(1), x.mean((0, 2)), x.mean(), x.mean(-1, keepdim=True), x.std(1), torch.std(x)]


def texts_of(model, path, script):
    x = torch.randn(2, 3, 4)
    with open_archive(scripted(model, path) if script else traced(model, x, path=path)) as archive:
        return [call_text(call) for call in read_layers(archive)[""].methods["forward"]]


@pytest.mark.parametrize("script", [False, True])
def test_call_text_states_the_rounding_of_divisions(tmp_path, script):
    texts = texts_of(Divided(), tmp_path / "m.pt", script)
    assert [text for text in texts if text] == ["+ 1", "- 2", "/ 2", "// 2", "/ (towards zero) 2", "/ 3"]


@pytest.mark.parametrize("script", [False, True])
def test_call_text_states_the_axes_of_reductions(tmp_path, script):
    texts = texts_of(Reduced(), tmp_path / "m.pt", script)
    assert [text for text in texts if text] == [
        "mean(dim=1)", "mean(dim=(0, 2))", "mean", "mean(dim=-1, keepdim=True)", "std(dim=1)", "std",
    ]  # fmt: skip
