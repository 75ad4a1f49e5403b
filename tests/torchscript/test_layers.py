"""Hyper-parameters and calls read from code against the attributes and hooks of the original modules."""

import contextlib
import random
import warnings
import zipfile

import pytest
import torch
from torch import nn
from torch.nn import functional

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.torchscript.printer import module_code
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import (
    Down,
    Many,
    Mixed,
    Scaled,
    SpeakerEncoder,
    random_convolution,
    random_other,
    random_recurrent,
    scripted,
    traced,
    with_code,
)  # fmt: skip
from tests.work import counted_work

CONV = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", "padding_mode")

RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
OTHERS = {
    "Linear": ("in_features", "out_features"),
    "Embedding": ("num_embeddings", "embedding_dim", "padding_idx"),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "GroupNorm": ("num_groups", "eps", "affine"),
    "BatchNorm1d": ("eps", "momentum", "affine", "track_running_stats"),
    "InstanceNorm1d": ("eps", "momentum", "affine", "track_running_stats"),
    "AvgPool1d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "MaxPool1d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "AdaptiveAvgPool1d": ("output_size",),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    "GELU": ("approximate",),
    "Softplus": ("beta", "threshold"),
    "Hardtanh": ("min_val", "max_val"),
    "PReLU": ("num_parameters",),
    "GLU": ("dim",),
    "Softmax": ("dim",),
    "LogSoftmax": ("dim",),
    "Dropout": ("p",),
    "ReflectionPad1d": ("padding",),
    "ReplicationPad1d": ("padding",),
    "ConstantPad1d": ("padding", "value"),
    "Flatten": ("start_dim", "end_dim"),
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def layers_of(path):
    with open_archive(path) as archive:
        return read_layers(archive)


def same(a, b):
    """Expand one number to all axes."""
    if isinstance(a, tuple) and not isinstance(b, tuple):
        return all(one == b for one in a)
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def expected_padding(module):
    """Padding of each axis: a number, or (before, after)."""
    if module.padding_mode == "zeros":
        return module.padding
    amounts = module._reversed_padding_repeated_twice
    pairs = tuple(zip(amounts[-2::-2], amounts[-1::-2], strict=True))
    return tuple(a for a, _ in pairs) if all(a == b for a, b in pairs) else pairs


def assert_settings(layer, module):
    assert layer.kind == type(module).__name__
    assert layer.class_name == f"{type(module).__module__}.{type(module).__name__}"
    assert not layer.computed and not layer.conflicts and layer.used
    names = CONV if "Conv" in layer.kind else OTHERS[layer.kind]
    for name in names:
        assert same(layer.settings[name], getattr(module, name)), (layer, module, name)
    if "Conv" in layer.kind:
        assert layer.settings["padding"] == expected_padding(module), (layer, module)
        assert layer.settings["bias"] == (module.bias is not None)
    if "Transpose" in layer.kind:
        assert layer.settings["output_padding"] == module.output_padding


@pytest.mark.parametrize("seed", [0, 1])
def test_settings_of_traced_convolutions_equal_torch(tmp_path, seed):
    rng = random.Random(seed)
    modules, inputs = zip(*(random_convolution(rng) for _ in range(120)), strict=True)
    found = layers_of(traced(Many(list(modules)), list(inputs), path=tmp_path / "m.pt"))
    for i, module in enumerate(modules):
        assert_settings(found[f"layers.{i}"], module)


def test_settings_of_scripted_convolutions_equal_torch(tmp_path):
    rng = random.Random(2)
    modules, _ = zip(*(random_convolution(rng) for _ in range(50)), strict=True)
    found = layers_of(scripted(Many(list(modules)), tmp_path / "m.pt"))
    for i, module in enumerate(modules):
        assert_settings(found[f"layers.{i}"], module)


@pytest.mark.parametrize("script", [False, True])
def test_settings_of_other_layers_equal_torch(tmp_path, script):
    rng = random.Random(3)
    modules, inputs = zip(*(random_other(rng) for _ in range(50 if script else 150)), strict=True)
    many = Many(list(modules))
    path = tmp_path / "m.pt"
    found = layers_of(scripted(many, path) if script else traced(many, list(inputs), path=path))
    assert len({type(module) for module in modules}) > 15
    for i, module in enumerate(modules):
        assert_settings(found[f"layers.{i}"], module)


@pytest.mark.parametrize("script", [False, True])
def test_settings_of_recurrent_layers_equal_torch(tmp_path, script):
    rng = random.Random(4)
    modules, inputs = zip(*(random_recurrent(rng) for _ in range(6 if script else 20)), strict=True)
    many = Many(list(modules))
    path = tmp_path / "m.pt"
    found = layers_of(scripted(many, path) if script else traced(many, list(inputs), path=path))
    for i, module in enumerate(modules):
        layer = found[f"layers.{i}.rnn"]
        names = (*RECURRENT, "proj_size", *(["nonlinearity"] if layer.kind == "RNN" else []))
        assert layer.kind == type(module.rnn).__name__ and not layer.computed and not layer.conflicts
        assert {name: layer.settings[name] for name in names} == {name: getattr(module.rnn, name) for name in names}


class NormedWeight(nn.Module):
    """Every form of a norm, applied by another module than the one with the weight."""

    def __init__(self):
        super().__init__()
        self.old = nn.utils.weight_norm(nn.ConvTranspose1d(4, 6, 4, 2, groups=2))
        self.other = nn.utils.weight_norm(nn.Linear(6, 6), dim=1)
        self.new = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 6, 3, padding=1, dilation=1))
        self.spectral = nn.utils.spectral_norm(nn.Conv1d(6, 6, 3, padding=2, dilation=2))
        self.spectral_new = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3))
        self.plain = nn.Conv1d(3, 3, 1)

    def forward(self, x):
        x = self.new(self.old(x)).transpose(1, 2)
        x = self.spectral(self.other(x).transpose(1, 2)).transpose(1, 2)
        return self.plain(self.spectral_new(x).transpose(1, 2))


def test_norms_are_reported_for_the_layer_with_the_weight(tmp_path):
    found = layers_of(traced(NormedWeight(), torch.randn(1, 4, 9), path=tmp_path / "m.pt"))
    norms = {name: found[name].norm for name in ("old", "other", "new", "spectral", "spectral_new", "plain")}
    assert norms == {
        "old": "weight norm", "other": "weight norm, dim 1", "new": "weight norm", "spectral": "spectral norm",
        "spectral_new": "spectral norm", "plain": "",
    }  # fmt: skip
    assert found["old"].settings["stride"] == (2,) and found["old"].settings["groups"] == 2
    assert found["old"].settings["in_channels"] == 4 and found["old"].settings["out_channels"] == 6
    assert found["new"].kind == "Conv1d" and found["new"].settings["padding"] == (1,)
    assert found["spectral"].settings["dilation"] == (2,)
    assert found["spectral_new"].kind == "Linear" and found["spectral_new"].settings["out_features"] == 3


def hooked_calls(model, *inputs):
    """Names of the modules that torch calls, in order."""
    names, hooks = [], []
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: names.append(name)))
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return names


def read_calls(found, path="", method="forward"):
    names = []
    for call in found[path].methods[method]:
        if call.kind == "module":
            names += [call.name, *read_calls(found, call.name, call.method)]
    return names


@pytest.mark.parametrize("model", [SpeakerEncoder, NormedWeight])
def test_calls_of_traces_have_the_order_of_torch(tmp_path, model):
    model = model().eval()
    x = torch.randn(1, 10, 40) if isinstance(model, SpeakerEncoder) else torch.randn(1, 4, 9)
    found = layers_of(traced(model, x, path=tmp_path / "m.pt"))
    assert read_calls(found) == hooked_calls(model, x)


def test_calls_of_scripts_have_the_order_of_torch(tmp_path):
    model = Scaled()
    found = layers_of(scripted(model, tmp_path / "m.pt"))
    # `proj` is called in both branches, of which torch takes one.
    assert read_calls(found)[1:] == hooked_calls(model.eval(), torch.randn(1, 4, 6))
    assert found[""].methods["forward"][0].within == ("if gt(steps, 1)",)


def test_custom_modules_list_their_operators(tmp_path):
    found = layers_of(traced(SpeakerEncoder(), torch.randn(1, 10, 40), path=tmp_path / "m.pt"))
    block = found["convs.2"]
    assert block.kind == Down.__name__ and not block.settings
    calls = [(call.kind, call.name.removeprefix("convs.2.")) for call in block.methods["forward"]]
    assert calls == [
        ("operator", "avg_pool1d"), ("module", "activation"), ("operator", "_weight_norm"), ("module", "first_conv"),
        ("operator", "avg_pool1d"), ("module", "activation"), ("operator", "_weight_norm"), ("module", "second_conv"),
        ("operator", "add"),
    ]  # fmt: skip
    pools = [call for call in block.methods["forward"] if call.name == "avg_pool1d"]
    assert all(call.arguments["kernel_size"] == [2] for call in pools)
    assert list(found["convs.2.activation"].methods) == ["forward", "forward1"]
    assert found["convs.2.activation"].settings == {"negative_slope": 0.1}


def test_archives_of_traces_and_scripts_are_read(tmp_path):
    found = layers_of(traced(Mixed(), torch.randn(1, 4, 6), path=tmp_path / "m.pt"))
    scaled = found["scripted"]
    assert scaled.kind == "Scaled" and scaled.attributes == {"scale": 0.25, "names": ["a", "b"], "flag": True}
    assert found["conv"].settings["padding"] == (1,) and found["conv"].settings["padding_mode"] == "reflect"
    assert found["conv"].settings["stride"] == (2,)
    assert not found["scripted.unused"].used and found["scripted.unused"].settings["stride"] == (3,)
    # The pad before a child's call is the parent's, not the child's.
    assert found["scripted.layers.1"].settings["padding"] == (1,)
    assert found["scripted.layers.1"].settings["padding_mode"] == "zeros"
    (half,) = (call for call in found[""].methods["forward"] if call.kind == "operator")
    assert half.name == "mul" and half.arguments["other"].value == 0.5
    (scale,) = (call for call in scaled.methods["forward"] if call.name == "mul")
    assert scale.arguments["other"].value == 0.25 and scale.within == ("for each of range(steps)",)


class Own(nn.Conv1d):
    """A convolution outside torch whose stride depends on the input."""

    def forward(self, x):
        return functional.conv1d(x, self.weight, self.bias, stride=x.size(-1) // 4, padding=2)


def test_computed_settings_are_reported_as_computed(tmp_path):
    found = layers_of(scripted(Many([Own(2, 3, 3)]), tmp_path / "m.pt"))
    layer = found["layers.0"]
    assert layer.kind == "Conv1d" and layer.class_name.endswith(".Own")
    assert layer.computed == ("stride",) and "stride" not in layer.settings and layer.settings["padding"] == (2,)


def test_uncalled_modules_have_settings_from_shapes(tmp_path):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Conv1d(2, 3, 5), nn.Conv1d(2, 3, 5, stride=2)

        def forward(self, x):
            return self.used(x)

    found = layers_of(traced(Spare(), torch.randn(1, 2, 12), path=tmp_path / "m.pt"))
    assert found["used"].used and not found["spare"].used
    assert found["spare"].settings == {"out_channels": 3, "kernel_size": (5,), "bias": True}


def test_changed_code_changes_the_settings(tmp_path):
    path = traced(Many([nn.Conv1d(2, 3, 5, stride=3, padding=1)]), [torch.randn(1, 2, 12)], path=tmp_path / "m.pt")
    assert layers_of(path)["layers.0"].settings["stride"] == (3,)
    assert layers_of(path)["layers.0"].settings["padding"] == (1,)
    other = with_code(path, lambda text: text.replace("bias, [3], [1]", "bias, [2], [0]"), tmp_path / "other.pt")
    assert layers_of(other)["layers.0"].settings["stride"] == (2,)
    assert layers_of(other)["layers.0"].settings["padding"] == (0,)


def test_conflicts_of_attributes_and_calls_are_reported(tmp_path):
    path = scripted(Many([nn.Conv1d(2, 3, 5, stride=3, padding=1)]), tmp_path / "m.pt")
    other = with_code(path, lambda text: text.replace("bias, [3], [1]", "bias, [2], [1]"), tmp_path / "other.pt")
    layer = layers_of(other)["layers.0"]
    assert layer.settings["stride"] == (2,) and layer.conflicts == (
        "stride is (2,) in the call, (3,) in the attribute",
    )


def test_lists_changed_in_place_are_unknown(tmp_path):
    path = traced(Many([nn.Conv1d(2, 3, 5)]), [torch.randn(1, 2, 12)], path=tmp_path / "m.pt")

    def change(text):
        return text.replace(
            "    bias = self.bias\n", "    bias = self.bias\n    s = [1]\n    t = s\n    _9 = torch.append(t, 7)\n"
        ).replace("bias, [1], [0]", "bias, s, [0]")

    layer = layers_of(with_code(path, change, tmp_path / "other.pt"))["layers.0"]
    assert layer.computed == ("stride",) and "stride" not in layer.settings


def test_recursive_code_terminates(tmp_path):
    path = traced(Many([nn.ReLU()]), [torch.randn(1, 2, 12)], path=tmp_path / "m.pt")

    def change(text):
        return text.replace("torch.relu(argument_1)", "(self).forward(argument_1, )").replace(
            "torch.relu(input)", "(self).forward(input, )"
        )

    with pytest.raises(CheckpointError, match="deep"):
        layers_of(with_code(path, change, tmp_path / "other.pt"))


@pytest.mark.parametrize("kind", ["wide", "loops", "branches", "lists", "chain"])
def test_expensive_code_raises_an_error_within_seconds(tmp_path, kind):
    path = traced(Many([nn.ReLU()]), [torch.randn(1, 2, 12)], path=tmp_path / "m.pt")
    lines = {
        "wide": ["a = " + "f(" * 40 + "[" + "1, " * 5_000 + "]" + ")" * 40],
        "loops": ["  " * i + f"for i{i} in range(3):" for i in range(40)] + ["  " * 40 + "a = b"] * 4_000,
        "branches": [f"a{i} = {i}" for i in range(4_000)] + ["if c:", "  d = e", "else:", "  d = f"] * 4_000,
        "lists": ["a = [" + "1, " * 400 + "]"] + [f"_{i} = (self).g(a, {i}, )" for i in range(4_000)],
        "chain": ["a0 = self"] + [f"a{i + 1} = a{i}.b" for i in range(6_000)],
    }[kind]

    def change(text):
        if "class ReLU" not in text:
            return text
        body = "".join(f"    {line}\n" for line in lines)
        return text + f"  def g(self, x: Tensor, n: int) -> Tensor:\n    return x\n  def h(self, b: Tensor):\n{body}"

    other = with_code(path, change, tmp_path / "other.pt")
    with counted_work() as work:
        for use in (layers_of, lambda path: text_of(path, "layers.0")):
            with contextlib.suppress(CheckpointError):
                use(other)
    assert work.calls < 20_000_000


def text_of(path, module):
    with open_archive(path) as archive:
        return module_code(archive, module)


def test_code_of_exponential_size_raises_an_error(tmp_path):
    path = traced(Many([nn.ReLU()]), [torch.randn(1, 2, 12)], path=tmp_path / "m.pt")

    def change(text):
        if "class ReLU" not in text:
            return text
        helpers = "".join(
            f"  def f{i}(self, x: Tensor) -> Tensor:\n"
            + "".join(f"    y{j} = (self).f{i + 1}(x, )\n" for j in range(20))
            + "    return y0\n"
            for i in range(20)
        )
        return text + helpers + "  def g(self, x: Tensor) -> Tensor:\n    y = (self).f0(x, )\n    return y\n"

    with pytest.raises(CheckpointError, match="steps"):
        layers_of(with_code(path, change, tmp_path / "other.pt"))


def test_archives_without_code_raise_an_error_of_one_line(tmp_path):
    path = scripted(nn.Linear(2, 3), tmp_path / "m.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bare.pt", "w") as new:
        for entry in old.namelist():
            if not entry.endswith(".py"):
                new.writestr(entry, old.read(entry))
    with open_archive(tmp_path / "bare.pt") as archive:
        for read in (read_layers, module_code):
            with pytest.raises(CheckpointError, match=r"no code for .*Linear: its \.py entries are missing"):
                read(archive)
        assert sorted(archive.tensors) == ["bias", "weight"]
