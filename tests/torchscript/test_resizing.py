"""Hyper-parameters of resizing layers and calls against torch's attributes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from jaxvoice.inspection.layer_text import call_text
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import scripted, traced, with_code

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LAYERS = [
    (nn.Upsample(size=33), 1),
    (nn.Upsample(scale_factor=2.5), 1),
    (nn.Upsample(size=33, mode="nearest-exact"), 1),
    (nn.Upsample(scale_factor=2.5, mode="linear", align_corners=True), 1),
    (nn.Upsample(size=7, mode="linear", align_corners=False), 1),
    (nn.Upsample(size=(7, 9)), 2),
    (nn.Upsample(size=(7, 9), mode="bilinear", align_corners=True), 2),
    (nn.Upsample(scale_factor=(2.0, 3.0), mode="bicubic", align_corners=False), 2),
    (nn.Upsample(scale_factor=2.0, mode="trilinear", align_corners=True), 3),
    (nn.UpsamplingNearest2d(scale_factor=2), 2),
    (nn.UpsamplingBilinear2d(size=(5, 6)), 2),
]


def layers_of(path):
    with open_archive(path) as archive:
        return read_layers(archive)


def texts_of(path):
    return [call_text(call) for call in layers_of(path)[""].methods["forward"]]


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_settings_of_resizing_layers_equal_torch(tmp_path, number, script):
    module, rank = LAYERS[number]
    x = torch.randn(1, 2, *(4,) * rank)
    path = tmp_path / "m.pt"
    model = nn.Sequential(module)
    layer = layers_of(scripted(model, path) if script else traced(model, x, path=path))["0"]
    assert layer.kind == type(module).__name__ and not layer.conflicts and not layer.computed
    assert layer.settings["mode"] == module.mode
    for name in ("size", "scale_factor", "align_corners"):
        found, expected = layer.settings.get(name), getattr(module, name)
        many = expected if isinstance(expected, tuple) else (expected,) * rank
        assert found in (expected, many), (name, found, expected)


class Call(nn.Module):
    def forward(self, x):
        x = functional.interpolate(x, scale_factor=2.0)
        return functional.interpolate(x, size=[5], mode="linear", align_corners=True)


def test_scripted_interpolate_is_one_call(tmp_path):
    assert texts_of(scripted(Call(), tmp_path / "m.pt")) == [
        "interpolate(scale_factor=2.0)",
        "interpolate(size=5, mode='linear', align_corners=True)",
    ]


def test_computed_sizes_are_reported_as_computed(tmp_path):
    class Computed(nn.Module):
        def forward(self, x, y):
            return functional.interpolate(x, size=y.size(-1))

    assert "interpolate" in texts_of(scripted(Computed(), tmp_path / "m.pt"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("upsample_nearest1d(input, output_size3,", "upsample_nearest1d(input, [99],"),
        ("torch.upsample_nearest1d(", "torch.upsample_linear1d("),
    ],
)
def test_other_functions_named_interpolate_list_their_calls(tmp_path, old, new):
    path = scripted(Call(), tmp_path / "m.pt")
    other = with_code(path, lambda text: text.replace(old, new), tmp_path / "other.pt")
    texts = texts_of(other)
    assert not texts[0].startswith("interpolate") and new.removeprefix("torch.").partition("(")[0] in " ".join(texts)
    assert texts[-1].startswith("interpolate")  # of the other function of that name
