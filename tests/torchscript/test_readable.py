"""Methods in readable form, and that they say what the code text says."""

import ast
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from jaxvoice.errors import ConfigError
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.torchscript.readable import readable
from jaxvoice.weights.layout import width as width_of
from jaxvoice.weights.reading import open_archive
from tests.torchscript.layer_models import (
    Many,
    Mixed,
    Scaled,
    SpeakerEncoder,
    random_convolution,
    random_recurrent,
    scripted,
    traced,
    with_code,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def text_of(path, module="", width=80):
    with open_archive(path) as archive:
        lines = readable(archive, module, width=width)
    assert all(width_of(line) <= width for line in lines)
    return "\n".join(lines)


def test_a_block_reads_as_it_was_written(tmp_path):
    path = traced(SpeakerEncoder(), torch.randn(1, 10, 40), path=tmp_path / "m.pt")
    assert text_of(path, "convs.2") == (
        "# convs.2: tests.torchscript.layer_models.Down\n\n"
        "def forward(self, argument_1):\n"
        "    skip = avg_pool1d(argument_1, kernel_size=2)\n"
        "    _0 = self.activation(argument_1)\n"
        "    weight = _weight_norm(self.first_conv.weight_v, self.first_conv.weight_g)\n"
        "    input = avg_pool1d(self.first_conv(_0, weight), kernel_size=2)\n"
        "    _1 = self.activation(input)\n"
        "    weight = _weight_norm(self.second_conv.weight_v, self.second_conv.weight_g)\n"
        "    return skip + self.second_conv(_1, weight)"
    )
    assert text_of(path, "convs.2.activation").endswith("return leaky_relu(argument_1, negative_slope=0.1)")
    assert "used 2 times; forward1 as forward" in text_of(path, "convs.2.activation")
    assert "return conv1d(argument_1, weight, self.bias, padding=1)" in text_of(path, "convs.2.first_conv")


def test_branches_and_loops(tmp_path):
    assert text_of(scripted(Scaled(), tmp_path / "m.pt")) == (
        "# (top): tests.torchscript.layer_models.Scaled\n\n"
        "def forward(self, x, steps=2):\n"
        "    if steps > 1:\n"
        "        x0 = F.leaky_relu(self.proj(x), negative_slope=0.3)\n"
        "    else:\n"
        "        x0 = self.proj(x)\n"
        "    x = x0\n"
        "    for _0 in range(steps):\n"
        "        x = x * self.scale\n"
        "    x = self.layers[0](F.pad(x, [1, 1], mode='reflect'))\n"
        "    x = self.layers[1](F.pad(x, [1, 1], mode='reflect'))\n"
        "    return self.layers[2](F.pad(x, [1, 1], mode='reflect'))"
    )


def test_a_use_that_differs_keeps_its_name(tmp_path):
    path = traced(SpeakerEncoder(), torch.randn(1, 10, 40), path=tmp_path / "m.pt")

    def change(text):
        head, found, tail = text.partition("  def forward1(")
        return head + found + tail.replace("0.10000000000000001", "0.29999999999999999")

    other = with_code(path, change, tmp_path / "other.pt")
    assert "used" not in text_of(other, "convs.0.activation")
    assert "self.activation.forward1(" in text_of(other, "convs.0")
    assert "negative_slope=0.3" in text_of(other, "convs.0.activation")


class Indexing(nn.Module):
    def forward(self, x, y):
        x = x[:, 1:3, ::2]
        x = x[0] - y[..., 1]
        return functional.pad(-(x @ y).softmax(-1) / 3.5, (1, 2))[:, None] ** 2.0


def test_expressions(tmp_path):
    path = traced(Indexing(), torch.randn(1, 5, 4), torch.randn(2, 2), path=tmp_path / "m.pt")
    text = text_of(path)
    for part in ("x[:, 1:3, ::2]", "[0]", "[:, 1]", " @ y", "softmax(", "dim=-1)", "/ 3.5", "** 2", "[1, 2])", "-"):
        assert part in text, text
    assert "torch." not in text and "9223372036854775807" not in text


class _Module:
    """Runs readable text in numpy: attributes and items are made of the tensors of an archive by dotted name."""

    def __init__(self, tensors, path=""):
        self._tensors, self._path = tensors, path

    def __getattr__(self, name):
        path = f"{self._path}.{name}".strip(".")
        return self._tensors[path] if path in self._tensors else _Module(self._tensors, path)

    def __getitem__(self, index):
        return self.__getattr__(str(index))


class Sums(nn.Module):
    """Many temporaries that are used once, twice, late and out of order."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed
        self.a, self.b = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

    def forward(self, x, y):
        rng = random.Random(self.seed)
        values = [x, y, self.a, self.b]
        for _ in range(25):
            one, two = rng.choice(values[-6:]), rng.choice(values)
            x = {"+": one + two, "-": one - two, "*": torch.tanh(one) * two}[rng.choice("+-*")]
            values.append(x)
        return values[-1] + values[-4]


@pytest.mark.parametrize("seed", range(12))
def test_tidied_text_still_computes_the_same(tmp_path, seed):
    model = Sums(seed).eval()
    x, y = torch.randn(3), torch.randn(3)
    path = traced(model, x, y, path=tmp_path / "m.pt")
    space: dict[str, Any] = {"tanh": np.tanh}
    exec(text_of(path), space)  # text that this very test has made
    with open_archive(path) as archive:
        found = space["forward"](_Module(archive.tensors), x.numpy(), y.numpy())
    np.testing.assert_allclose(found, model(x, y).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_every_method_of_many_archives_is_python_of_the_width_asked_for(tmp_path):
    rng = random.Random(0)
    layers = [random_convolution(rng) for _ in range(10)] + [random_recurrent(rng) for _ in range(2)]
    modules, inputs = (list(part) for part in zip(*layers, strict=True))
    paths = [
        traced(Many(modules), inputs, path=tmp_path / "a.pt"),
        scripted(Many(modules), tmp_path / "b.pt"),
        traced(Mixed(), torch.randn(1, 4, 6), path=tmp_path / "c.pt"),
    ]
    count = 0
    for path in paths:
        with open_archive(path) as archive:
            for name in read_layers(archive):
                for width in (80, 50):
                    lines = readable(archive, name, width=width)
                    assert all(width_of(line) <= width for line in lines), lines
                    ast.parse("\n".join(lines))
                    count += 1
    assert count > 70


def test_unknown_module_names_the_nearest(tmp_path):
    path = scripted(Scaled(), tmp_path / "m.pt")
    with pytest.raises(ConfigError, match=r"'layers.7'.*did you mean 'layers"):
        text_of(path, "layers.7")


def test_constants_are_told(tmp_path):
    class Constant(nn.Module):
        def forward(self, x):
            return x * torch.tensor([1.0, 2.0, 3.0]) + 0.1

    text = text_of(traced(Constant(), torch.randn(2, 3), path=tmp_path / "m.pt"))
    assert "x * detach(to(CONSTANTS.c0, float32)) + 0.1" in text and "# CONSTANTS.c0: float32 3" in text


class Axes(nn.Module):
    def forward(self, x):
        x = x.mean(1, keepdim=True) + x.sum(2, keepdim=True) - x.mean((0, 2))[0] + x.sum()
        return torch.div(x, 2, rounding_mode="floor") * torch.arange(2, 5) + x.std(1, keepdim=True)


@pytest.mark.parametrize("script", [False, True])
def test_reductions_over_axes(tmp_path, script):
    path = tmp_path / "m.pt"
    model = Axes()
    text = text_of(scripted(model, path) if script else traced(model, torch.randn(2, 4, 3), path=path))
    for part in ("mean(x, dim=[1], keepdim=True)", "sum(x, dim=[2], keepdim=True)", "mean(x, dim=[0, 2])", "sum(x)"):
        assert part in text, text
    assert "// 2" in text and "arange(2, 5)" in text and "std(" in text and "dim=[1]" in text


class Kept(nn.Module):
    """What caches do: a list that grows, and a value that may be missing."""

    def forward(self, x: torch.Tensor, past: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        new: list[torch.Tensor] = []
        window = torch.hann_window(8)
        for i in range(2):
            if past is not None:
                x = x + past[i]
            new.append(x * window * torch.tensor([0, 1]).sum())
        return new


def test_lists_and_windows(tmp_path):
    text = text_of(scripted(Kept(), tmp_path / "m.pt"))
    assert "    new.append(" in text and "append(new" not in text
    assert "hann_window(8)" in text and "tensor([0, 1])" in text
    assert "past = past" not in text and not re.search(r"(past\d*) = past\d*$", text, re.MULTILINE), text


class Without(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 4)

    def forward(self, x):
        with torch.no_grad():
            y = self.proj(x) * 2
            if bool(y.sum() > 0):
                y = y + 1
        return y + 1

    @torch.jit.export
    def encode(self, x):
        with torch.no_grad(), torch.autograd.profiler.record_function("encode"):
            return self.proj(x)


def test_with(tmp_path):
    path = scripted(Without(), tmp_path / "m.pt")
    text = text_of(path)
    assert "def forward(self, x):\n    with torch.no_grad():\n        y = self.proj(x) * 2\n" in text
    assert "    return y + 1" in text
    inner = "        _0 = profiler.record_function('encode', None)\n        with _0:\n            _1 = self.proj(x)\n"
    assert "    with torch.no_grad():\n" + inner in text
    with open_archive(path) as archive:
        found = read_layers(archive)
    assert found["proj"].used and found["proj"].settings["out_features"] == 4
    assert [call.name for call in found[""].methods["encode"] if call.kind == "module"] == ["proj"]


def test_names_are_not_taken_over_from_what_changes_later(tmp_path):
    path = traced(Indexing(), torch.randn(1, 5, 4), torch.randn(2, 2), path=tmp_path / "m.pt")

    def change(text):
        head, found, _ = text.partition("y: Tensor) -> Tensor:\n")
        lines = ["a = x", "b = torch.tanh(y)", "x = torch.sin(b)", "_0 = torch.add(a, x)", "return _0"]
        return head + found + "".join(f"    {line}\n" for line in lines)

    text = text_of(with_code(path, change, tmp_path / "other.pt"))
    space: dict[str, Any] = {"tanh": np.tanh, "sin": np.sin}
    exec(text, space)  # text that this very test has made
    assert space["forward"](None, 2.0, 3.0) == 2.0 + np.sin(np.tanh(3.0)), text
