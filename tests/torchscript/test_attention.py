"""Hyper-parameters of attention and transformer layers, inferred from calls, against torch's attributes."""

import random

import pytest
import torch
from torch import nn

from jaxvoice.torchscript.layers import read_layers
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import scripted, traced, with_code

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Attention(nn.Module):
    """Attention with or without its weights, masks and a second source."""

    def __init__(self, heads: int, width: int, *, weights: bool, mask: bool, source: bool, **options):
        super().__init__()
        self.weights, self.mask, self.source = weights, mask, source
        self.mha = nn.MultiheadAttention(width, heads, **options)

    def forward(self, x, y):
        length, batch = (x.size(1), x.size(0)) if self.mha.batch_first else (x.size(0), x.size(1))
        masks = {}
        if self.mask:
            masks = {"key_padding_mask": torch.zeros(batch, length).bool(), "attn_mask": torch.zeros(length, length)}
        other = y if self.source else x
        return self.mha(x, other, other, need_weights=self.weights, **masks)[0]


def layers_of(path):
    with open_archive(path) as archive:
        return read_layers(archive)


def trace(model, *inputs, path, fused=False):
    with torch.set_grad_enabled(not fused):  # with derivatives torch does not take its fused operators
        return traced(model, *inputs, path=path)


@pytest.mark.parametrize("seed", range(12))
def test_settings_of_attention_equal_torch(tmp_path, seed):
    rng = random.Random(seed)
    heads = rng.choice([1, 2, 3, 4])
    width = heads * rng.choice([2, 4])
    switches = {name: rng.random() < 0.5 for name in ("weights", "mask", "source")}
    options = {name: rng.random() < 0.5 for name in ("bias", "batch_first", "add_bias_kv", "add_zero_attn")}
    model = Attention(heads, width, **switches, **options)
    x = torch.randn(2, 5, width)
    layer = layers_of(trace(model, x, torch.randn(2, 5, width), path=tmp_path / "m.pt", fused=seed % 2 == 0))["mha"]
    expected = {"num_heads": heads, "embed_dim": width, "bias": options["bias"]}
    assert {name: layer.settings[name] for name in expected} == expected, (switches, options)
    # Without `batch_first` the calls are those of an input that is no batch.
    assert layer.settings.get("batch_first", False) == model.mha.batch_first, (switches, options)
    assert not layer.conflicts


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_settings_of_encoder_layers_equal_torch(tmp_path, fused, activation, norm_first):
    model = nn.TransformerEncoderLayer(
        8, 2, 12, activation=activation, norm_first=norm_first, batch_first=True, layer_norm_eps=1e-4
    )
    found = layers_of(trace(nn.Sequential(model), torch.randn(2, 3, 8), path=tmp_path / "m.pt", fused=fused))
    assert found["0"].settings == {"activation": activation, "norm_first": model.norm_first}
    assert found["0.self_attn"].settings["num_heads"] == model.self_attn.num_heads
    assert found["0.self_attn"].settings["batch_first"]
    assert found["0.norm2"].settings["eps"] == model.norm2.eps
    assert found["0.linear1"].settings["out_features"] == model.linear1.out_features
    assert all(found[f"0.{name}"].used for name in ("self_attn", "self_attn.out_proj", "linear1", "linear2", "norm1"))


def test_settings_of_decoder_layers_equal_torch(tmp_path):
    model = nn.TransformerDecoderLayer(8, 4, 12, activation=nn.functional.gelu, norm_first=True)
    found = layers_of(trace(model, torch.randn(3, 2, 8), torch.randn(4, 2, 8), path=tmp_path / "m.pt"))
    assert found[""].settings == {"activation": "gelu", "norm_first": True}
    assert found["multihead_attn"].settings["num_heads"] == 4 == found["self_attn"].settings["num_heads"]


def test_other_activations_are_omitted(tmp_path):
    def square(x):
        return torch.relu(x) * nn.functional.gelu(x)

    model = nn.TransformerEncoderLayer(8, 2, 12, activation=square)
    found = layers_of(trace(nn.Sequential(model), torch.randn(2, 3, 8), path=tmp_path / "m.pt"))
    assert found["0"].settings == {"norm_first": False}


def test_different_numbers_of_heads_are_omitted(tmp_path):
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 4, 12))
    path = trace(model, torch.randn(2, 3, 8), path=tmp_path / "m.pt")
    assert layers_of(path)["0.self_attn"].settings["num_heads"] == 4
    other = with_code(path, lambda text: text.replace(", 4, ", ", 2, ", 1), tmp_path / "other.pt")
    assert "num_heads" not in layers_of(other)["0.self_attn"].settings
    other = with_code(path, lambda text: text.replace(", 4, ", ", 3, "), tmp_path / "other.pt")
    assert "num_heads" not in layers_of(other)["0.self_attn"].settings


def test_scripts_keep_the_attributes(tmp_path):
    class Script(nn.Module):
        def __init__(self):
            super().__init__()
            self.mha = nn.MultiheadAttention(8, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mha(x, x, x)[0]

    layer = layers_of(scripted(Script(), tmp_path / "m.pt"))["mha"]
    assert layer.settings["num_heads"] == 4 and layer.settings["embed_dim"] == 8 and not layer.conflicts
    assert layer.settings["batch_first"] is True


@pytest.mark.parametrize("norm_first", [False, True])
def test_scripted_encoder_layers_keep_the_attributes(tmp_path, norm_first):
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, norm_first=norm_first, batch_first=True))
    layer = layers_of(scripted(model, tmp_path / "m.pt"))["0"]
    assert layer.settings["norm_first"] is norm_first and not layer.conflicts
