"""The printed code of modules with resolved names."""

import ast
import random
import warnings

import pytest
import torch
from torch import nn

from jaxvoice.errors import ConfigError
from jaxvoice.text_tables import width as width_of
from jaxvoice.torchscript import module_code, parse_code, read_layers
from jaxvoice.weights.formats import open_archive
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
        return "\n".join(module_code(archive, module, width=width))


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SpeakerEncoder()
    return model, traced(model, torch.randn(1, 10, 40), path=tmp_path_factory.mktemp("printer") / "m.pt")


def test_traced_code_is_printed_with_resolved_names(speaker):
    text = text_of(speaker[1], "convs.2", width=100)
    head, _, body = text.partition("\n\n")
    assert head.split("\n") == [
        "# convs.2: tests.torchscript.layer_models.Down",
        "#   convs.2.first_conv: Conv1d",
        "#   convs.2.second_conv: Conv1d",
        "#   convs.2.activation: LeakyReLU",
    ]
    lines = body.split("\n")
    assert lines[:3] == [
        "def forward(self: tests.torchscript.layer_models.Down,",
        "  argument_1: Tensor) -> Tensor:",
        "  second_conv = self.second_conv  # convs.2.second_conv: Conv1d",
    ]
    assert "  weight_v0 = first_conv1.weight_v  # convs.2.first_conv.weight_v: float32 (8, 8, 3)" in lines
    assert "  skip = torch.avg_pool1d(argument_1, [2], annotate(List[int], []), [0])" in lines
    assert lines[-1] == "  return torch.add(skip, _2)"


def test_repeated_calls_are_printed_once(speaker):
    text = text_of(speaker[1], "convs.2.activation")
    assert "  input = torch.leaky_relu(argument_1, 0.1)\n" in text  # 0.10000000000000001 in the archive
    assert text.endswith("# The same code as forward: forward1.") and "def forward1" not in text
    assert "_1 = (activation).forward1(input, )" in text_of(speaker[1], "convs.2")


def test_different_second_calls_are_printed(speaker, tmp_path):
    def change(text):
        head, found, tail = text.partition("  def forward1(")
        return head + found + tail.replace("0.10000000000000001", "0.29999999999999999")

    text = text_of(with_code(speaker[1], change, tmp_path / "other.pt"), "convs.0.activation")
    assert "same code" not in text and "0.1)" in text and "0.3)" in text


def test_scripted_code_is_printed_with_resolved_names(tmp_path):
    assert text_of(scripted(Scaled(), tmp_path / "m.pt")) == (
        "# (top): tests.torchscript.layer_models.Scaled\n"
        "#   proj: Linear\n"
        "#   layers: ModuleList\n"
        "#   unused: Conv1d\n"
        "\n"
        "def forward(self: tests.torchscript.layer_models.Scaled,\n"
        "  x: Tensor,\n"
        "  steps: int=2) -> Tensor:\n"
        "  _0 = torch.nn.functional.leaky_relu\n"
        "  if torch.gt(steps, 1):\n"
        "    proj = self.proj  # proj: Linear\n"
        "    _1 = _0((proj).forward(x, ), 0.3, False, )\n"
        "    x0 = _1\n"
        "  else:\n"
        "    proj0 = self.proj  # proj: Linear\n"
        "    x0 = (proj0).forward(x, )\n"
        "  x1 = x0\n"
        "  for _2 in range(steps):\n"
        "    scale = self.scale  # scale = 0.25\n"
        "    x1 = torch.mul(x1, scale)\n"
        "  layers = self.layers  # layers: ModuleList\n"
        '  _00 = getattr(layers, "0")  # layers.0: Conv1d\n'
        '  _10 = getattr(layers, "1")  # layers.1: Conv1d\n'
        '  _20 = getattr(layers, "2")  # layers.2: Conv1d\n'
        '  _3 = torch.nn.functional.pad(x1, [1, 1], "reflect", None, )\n'
        "  x2 = (_00).forward(_3, )\n"
        '  _4 = torch.nn.functional.pad(x2, [1, 1], "reflect", None, )\n'
        "  x3 = (_10).forward(_4, )\n"
        '  _5 = torch.nn.functional.pad(x3, [1, 1], "reflect", None, )\n'
        "  return (_20).forward(_5, )"
    )


def test_printed_children_and_tensors_equal_the_model(speaker):
    model, path = speaker
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = set()
    for name in classes:
        for line in text_of(path, name, width=200).split("\n"):
            about, colon, rest = line.rpartition("# ")[2].strip().partition(": ")
            if " = " not in line.partition("#")[0]:
                continue
            if colon:
                found.add(about)
                assert rest == (classes[about] if about in classes else f"float32 {shapes[about]}")
    used = {name for name in shapes if not name.startswith("convs.2.conv_skip")}
    assert used <= found and {"convs.0", "convs.2.second_conv", "pooling_layer"} <= found


def test_printed_code_equals_the_archive(tmp_path):
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
            code, modules_of = parse_code(archive.code), dict(archive.modules.walk())
            for name in read_layers(archive):
                lines = module_code(archive, name, width=60)
                # Comments are as wide as asked for; lines of code are as long as they are.
                assert all(width_of(line) <= 60 for line in lines if line.lstrip().startswith("#"))
                methods = code.classes[modules_of[name].class_name].methods
                for printed in ast.parse("\n".join(lines)).body:
                    kept = methods[printed.name]
                    assert [ast.dump(one) for one in printed.body] == [ast.dump(_original(one)) for one in kept.body], (
                        name,
                        lines,
                    )
                    count += 1
    assert count > 40


class _Original(ast.NodeTransformer):
    """Original names before compilation, and the constant of `Mixed`."""

    def visit_Attribute(self, node):
        text = ast.unparse(node)
        if text == "CONSTANTS.c0":
            return ast.Constant(0.5)
        if not text.startswith("__torch__."):
            return self.generic_visit(node)
        kept = [part for part in text.split(".")[1:] if not part.startswith("___torch_mangle_")]
        return ast.parse(".".join(kept), mode="eval").body


def _original(node):
    return _Original().visit(node)


def test_constants_are_printed_as_values(tmp_path):
    class Constant(nn.Module):
        def forward(self, x):
            return x * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor(0.5)

    text = text_of(traced(Constant(), torch.randn(2, 3), path=tmp_path / "m.pt"))
    assert '  # CONSTANTS.c0: float32 (3,)\n  _0 = torch.to(CONSTANTS.c0, torch.device("cpu"), 6)' in text
    assert 'torch.to(0.5, torch.device("cpu"), 6)' in text and "CONSTANTS.c1" not in text


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, self.rate = 0, 16000

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.calls * self.rate

    @torch.jit.export
    def count(self):
        self.calls += 1


def test_assigned_attributes_are_marked_as_initial(tmp_path):
    text = text_of(scripted(Counter(), tmp_path / "m.pt"))
    assert "self.calls  # calls: initially 0\n" in text and "self.rate  # rate = 16000\n" in text
    assert "calls = 0" not in text


def test_names_assigned_twice_are_not_resolved(speaker, tmp_path):
    def change(text):
        line = "    second_conv = self.second_conv\n"
        return text.replace(line, f"{line}    second_conv = self.first_conv\n    w = second_conv.weight_v\n")

    text = text_of(with_code(speaker[1], change, tmp_path / "other.pt"), "convs.2", width=200)
    assert "  w = second_conv.weight_v\n" in text


def test_uncalled_modules_have_no_code(tmp_path):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    text = text_of(traced(Part(), torch.randn(1, 2), path=tmp_path / "m.pt"), "unused", width=120)
    assert text == (
        "# unused: torch.nn.modules.linear.Linear\n"
        "# This module is never called, so the archive contains no code for it."
    )


def test_unprintable_text_is_escaped(speaker, tmp_path):
    def change(text):
        return text.replace("  input = torch.leaky", '  n = "\x1b[31m\u202e"\n    input = torch.leaky')

    text = text_of(with_code(speaker[1], change, tmp_path / "other.pt"), "convs.0.activation")
    assert '"\\x1b[31m\\u202e"' in text and "\x1b" not in text


def test_error_for_an_unknown_module_states_the_nearest(tmp_path):
    path = scripted(Scaled(), tmp_path / "m.pt")
    with pytest.raises(ConfigError, match=r"'layers.7'.*did you mean 'layers"):
        text_of(path, "layers.7")
