"""Weight files with hostile names raise at once, with a short message, and leave no files."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.pipelines.importing import import_model
from tests.models.hifigan import released
from tests.models.hifigan.released import CONFIG, generator, state, under, write
from tests.work import counted_work

ONE = torch.ones(1)


def beside(**others):
    return {"generator": {**state(generator()), **{name.replace("__", "."): ONE for name in others}}}


def named(names):
    return {"generator": {**state(generator()), **dict.fromkeys(names, ONE)}}


def many_left_over():
    tensors = {name: tensor for name, tensor in state(generator()).items() if "resblocks" not in name}
    others = {f"resblocks.{i % 9}.convz.{i}.bias": ONE for i in range(8000)}
    return {"generator": {**tensors, **others, "resblocks.0.x": ONE}}


HOSTILE = {
    "far upsampling": named(["ups.99999999999.bias"]),
    "distant upsampling": named(["ups.3000000.bias"]),
    "close upsampling": named(["ups.900.bias"]),
    "far block": named(["resblocks.99999999999.convs.0.bias"]),
    "close block": named(["resblocks.999.convs.0.bias"]),
    "far convolution": named(["resblocks.0.convs.99999999999.bias"]),
    "far condition": named(["conds.99999999999.bias"]),
    "many layers": named([f"ups.{i}.weight" for i in range(5000)]),
    "many left over": many_left_over(),
    "long names": named(["ups." + "a" * 1900 + str(i) for i in range(500)]),
    "many beginnings": {f"p{i}": {"conv_pre.x": ONE} for i in range(5000)},
    "terminal": named(["we\nird", "a\x1b[31mRED\x07\x9b", "\ud800"]),
    "condition without axes": named(["cond_layer.weight"]),
}


@pytest.mark.parametrize("config", [CONFIG, None], ids=["with configuration", "without"])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names_raise_at_once(tmp_path, content, config):
    source = write(tmp_path / "in" / "g_00000001", content, config)
    with counted_work() as work, pytest.raises((CheckpointError, ConfigError)) as caught:
        import_model(source, tmp_path / "out")
    assert work.calls < 1_000_000
    message = str(caught.value)
    assert len(message) < 6000 and all(line.isprintable() for line in message.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["m[0]", "m(0", "(a+)+b.g", "a + b", "we\nird", "a.b"])
def test_parts_are_names_not_patterns(tmp_path, name):
    last = name.rpartition(".")[2]
    content = {name: state(generator()), "a" * 40: ONE, "other": {"conv_pre": ONE}}
    source = write(tmp_path / "x.pth", content, CONFIG)
    with counted_work() as work:
        report = import_model(source, tmp_path / "out", part=last)
    assert work.calls < 100_000
    assert report.tensors == 69 and report.info["ignored"].keys() == {"a" * 40, "other.conv_pre"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.splitlines())
    expected, found = state(generator()), load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(found[key], tensor.numpy()) for key, tensor in expected.items())


def test_names_may_contain_a_plus(tmp_path):
    source = write(tmp_path / "g_1", {"a + b": released.folded(generator())}, CONFIG)
    import_model(source, tmp_path / "out", part="a + b")
    assert "| a + b.conv_pre.bias | conv_pre.bias | 16 |" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_derived_weights_of_old_norms_are_ignored(tmp_path):
    model = generator()
    source = write(tmp_path / "whole.pt", {"model": model, "iteration": 5}, CONFIG)
    report = import_model(source, tmp_path / "out")
    assert set(report.info["ignored"].values()) == {"product of weight_g and weight_v, which torch stores, too"}
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(found[key], tensor.numpy()) for key, tensor in state(model).items())


def test_two_sources_of_one_weight_raise(tmp_path):
    tensors = {name: torch.nn.Parameter(tensor) for name, tensor in state(generator()).items()}
    tensors["conv_pre.weight"] = torch.nn.Parameter(torch.ones(16, 80, 7))
    with pytest.raises(CheckpointError, match="a duplicate of"):
        import_model(write(tmp_path / "g_1", {"generator": tensors}, CONFIG), tmp_path / "out")


def test_control_characters_are_escaped_in_reports_and_errors(tmp_path):
    config = {**CONFIG, "fmax_for_loss": "\x1b[31m|<b>"}
    report = import_model(write(tmp_path / "g_1", {"generator": state(generator())}, config), tmp_path / "out")
    assert str(report).replace("\n", "").isprintable()
    assert "<b>" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_hostile_names_in_safetensors_raise(tmp_path):
    arrays = {name: np.ones(1, np.float32) for name in ("ups.99999999.bias", "conv_pre.\x1b", "conv_post.x")}
    arrays |= {f"{prefix}.0.x": np.ones(1, np.float32) for prefix in ("ups", "resblocks")}
    save_file(arrays, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError):
        import_model(tmp_path / "x.safetensors", tmp_path / "out")


def test_prefixes_are_compared_by_components(tmp_path):
    content = {"g": {"x": ONE}, "g.net": state(generator()), "rest": under("g.", {"y": ONE})}
    report = import_model(write(tmp_path / "a.pt", content, CONFIG), tmp_path / "out", part="net")
    assert report.info["layout"]["nesting"] == ["g.net"]
