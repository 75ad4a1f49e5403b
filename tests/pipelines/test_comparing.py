"""Comparison of models in model folders, released files and TorchScript archives."""

import dataclasses
import json
import warnings

import jax
import numpy as np
import pytest
import torch

from experiments.benchmarks import torch_hifigan
from jaxvoice import models
from jaxvoice.cli import main
from jaxvoice.errors import CheckpointError, ShapeError
from jaxvoice.models.family import Family
from jaxvoice.models.hifigan import Generator, GeneratorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.nn import Linear, Module
from jaxvoice.pipelines import compare, export_model, import_model
from jaxvoice.weights import load_state, write_torch
from tests.models.gaussian_tts.small import SMALL as GAUSSIAN_TTS, networks as gaussian_tts_networks, save_model

SIZES = {
    "in_channels": 80,
    "upsample_rates": (16, 16),
    "upsample_kernel_sizes": (32, 32),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1, 3, 5),),
}
CONFIG = HiFiGANConfig(GeneratorConfig(**SIZES))
CHANGED = "resblocks.0.convs2.1"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return {name: t.detach().numpy().copy() for name, t in torch_hifigan.Generator(**SIZES).state_dict().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, state):
    return model_folder(tmp_path_factory.mktemp("a") / "model", state)


def model_folder(folder, state):
    model = load_state(Generator(CONFIG.generator, key=jax.random.key(0)), state)
    FAMILY.save_network(folder, model, CONFIG)
    return folder


def changed(state, name=f"{CHANGED}.weight_g", factor=1.01):
    return {**state, name: state[name] * np.float32(factor)}


def traced(path, state):
    module = torch_hifigan.Generator(**SIZES)
    torch_hifigan.load_arrays(module, state)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(1, 80, 16)), path)
    return path


def test_model_equals_itself(folder, capsys):
    found = compare(folder, folder)
    assert found.same and found.diverging is None
    assert {row.status for row in found.weights} == {"equal"}
    assert found.layers[-1].name == "output" and len(found.layers) > 10
    assert main(["compare", str(folder), str(folder)]) == 0
    assert f"all {len(found.layers)} agree" in capsys.readouterr().out


def test_first_diverging_layer_is_the_changed_one(folder, state, tmp_path, capsys):
    other = model_folder(tmp_path / "other", changed(state))
    found = compare(folder, other)
    assert not found.same and found.diverging.name == CHANGED
    (weight,) = [row for row in found.weights if row.status != "equal"]
    assert weight.name == f"{CHANGED}.weight_g" and weight.distance.relative == pytest.approx(0.01 / 1.01, rel=1e-3)
    before = [layer.name for layer in found.layers[: found.layers.index(found.diverging)]]
    assert "ups.0" in before and "ups.1" not in before
    assert main(["compare", str(folder), str(other)]) == 1
    shown = capsys.readouterr().out
    assert f"first of {len(found.layers)} layers that differs: {CHANGED}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[3:])
    assert main(["compare", str(folder), str(other), "--tolerance", "0.1"]) == 0
    capsys.readouterr()
    assert main(["compare", str(folder), str(other), "--json"]) == 1
    table = json.loads(capsys.readouterr().out)
    assert table["first_diverging_layer"] == CHANGED and not table["same"]
    assert len(table["weights"]) == len(state)


def test_released_file_equals_its_imported_folder(folder, state, tmp_path):
    settings = {"sampling_rate": 22050, "n_fft": 1024, "hop_size": 256, "win_size": 1024, "num_mels": 80, "fmin": 0}
    settings |= {name: SIZES[name] for name in SIZES} | {"fmax": 8000, "resblock": "1"}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.save({"generator": {f"module.{k}": torch.from_numpy(v) for k, v in state.items()}}, tmp_path / "g_00000001")
    found = compare(tmp_path / "g_00000001", folder)
    assert found.same and len(found.weights) == len(state) and len(found.layers) > 10


def test_weights_with_other_names_are_compared_by_the_rules_of_the_family(tmp_path):
    """VITS calls `cond_layer` `cond`."""
    torch.manual_seed(0)
    module = torch_hifigan.Generator(**SIZES, cond_channels=5)
    tensors = {name.replace("cond_layer", "cond"): tensor for name, tensor in module.state_dict().items()}
    settings = {"model": {**SIZES, "inter_channels": 80, "resblock": "1", "gin_channels": 5}}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "data": {"sampling_rate": 22050}}), encoding="utf-8")
    torch.save({"model": {f"dec.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "G_1.pth")
    import_model(tmp_path / "G_1.pth", tmp_path / "model")
    for a, b in ((tmp_path / "G_1.pth", tmp_path / "model"), (tmp_path / "model", tmp_path / "G_1.pth")):
        found = compare(a, b)
        assert found.same and {row.status for row in found.weights} == {"equal"}
        assert {row.name for row in found.weights} == set(module.state_dict())
    tensors["cond.bias"] = tensors["cond.bias"] + 1
    torch.save({"model": {f"dec.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "G_2.pth")
    (different,) = [row for row in compare(tmp_path / "G_2.pth", tmp_path / "model").weights if row.status != "equal"]
    assert different.name == "cond_layer.bias" and different.distance.absolute == pytest.approx(1)


def test_differences_of_mel_contracts_are_reported(folder, state, tmp_path, capsys):
    other = tmp_path / "other"
    mel = dataclasses.replace(CONFIG.mel, sample_rate=16000, fmax=7600.0)
    FAMILY.save_network(other, FAMILY.load_network(folder)[0], dataclasses.replace(CONFIG, mel=mel))
    expected = ("mel.sample_rate: 22050 != 16000", "mel.fmax: 8000.0 != 7600.0")
    found = compare(folder, other)
    assert found.contract == expected and not found.same and {row.status for row in found.weights} == {"equal"}
    export_model(other, tmp_path / "out" / "g_1")
    assert compare(folder, tmp_path / "out" / "g_1").contract == expected
    assert main(["compare", str(folder), str(other)]) == 1
    assert "contract  mel.sample_rate: 22050 != 16000\n" in capsys.readouterr().out
    assert main(["compare", str(folder), str(other), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["contract"] == list(expected)
    # The mel contract of a file without a configuration is unknown.
    (tmp_path / "out" / "config.json").unlink()
    assert compare(other, tmp_path / "out" / "g_1").contract == ()


def test_files_that_cannot_be_imported_name_the_command_with_the_options(folder, state, tmp_path):
    write_torch(tmp_path / "a.pth", {"model": {f"dec.{name}": array for name, array in state.items()}})
    (remark,) = compare(tmp_path / "a.pth", folder).remarks
    assert "with --config. The options are those of `jaxvoice import`: import the file" in remark


def test_archives_are_compared_by_layers(folder, state, tmp_path):
    found = compare(traced(tmp_path / "same.pt", state), folder)
    assert found.same, found
    assert {"conv_pre", "ups.1", "resblocks.1.convs1.2", "output"} <= {layer.name for layer in found.layers}
    found = compare(folder, traced(tmp_path / "other.pt", changed(state)))
    assert found.diverging.name == CHANGED


def test_inputs_are_read_from_a_file(folder, state, tmp_path):
    other = model_folder(tmp_path / "other", changed(state, "ups.0.bias", 2.0))
    np.save(tmp_path / "mel.npy", np.full((1, 80, 7), -5, np.float32))
    found = compare(folder, other, inputs=tmp_path / "mel.npy")
    assert found.diverging.name == "ups.0" and found.layers[-1].shape == (7 * 256,)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nothing")
    for name in ("bad.npy", "missing.npy"):
        with pytest.raises(ShapeError, match=f"{name} is missing or contains no numeric arrays"):
            compare(folder, other, inputs=tmp_path / name)


def test_inputs_of_other_shapes_raise(folder, state, tmp_path, capsys):
    archive = traced(tmp_path / "a.pt", state)
    np.savez(tmp_path / "empty.npz")
    np.save(tmp_path / "text.npy", np.array(["mel"]))
    np.save(tmp_path / "nan.npy", np.full((80, 4), np.nan, np.float32))
    np.save(tmp_path / "deep.npy", np.zeros((1, 1, 80, 4, 2), np.float32))
    expected = {"empty.npz": "no arrays", "text.npy": "not finite numbers", "nan.npy": "not finite numbers"}
    for name, problem in {**expected, "deep.npy": "cannot run on inputs of shape"}.items():
        for a, b in ((folder, folder), (archive, archive)):
            assert main(["compare", str(a), str(b), "--inputs", str(tmp_path / name)]) == 2
            message = capsys.readouterr().err
            assert problem in message or (a == archive and "failed for" in message)
    assert main(["compare", str(folder), str(folder), "--tolerance", "nan"]) == 2
    assert "--tolerance is nan; it should be" in capsys.readouterr().err


def test_control_characters_in_names_are_escaped(tmp_path, capsys):
    write_torch(tmp_path / "a.pt", {"a\x1b[31mRED\x07\x9b": np.ones(2, np.float32), "we\nird": np.ones(2, np.float32)})
    write_torch(tmp_path / "b.pt", {"b": np.ones(2, np.float32)})
    assert main(["compare", str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]) == 1
    assert main(["import", str(tmp_path / "a.pt"), "--to", str(tmp_path / "model")]) == 2
    streams = capsys.readouterr()
    assert "a\\x1b[31mRED\\x07\\x9b" in streams.out and "we\\nird" in streams.out and "RED" in streams.err
    assert all(line.isprintable() for line in (streams.out + streams.err).splitlines())


def test_models_that_cannot_run_are_compared_by_weights(folder, tmp_path):
    write_torch(tmp_path / "a.pt", {"layer": {"weight": np.ones(3, np.float32)}})
    found = compare(tmp_path / "a.pt", tmp_path / "a.pt")
    assert found.same and not found.layers and "A cannot run" in found.remarks[0]
    found = compare(tmp_path / "a.pt", folder)
    assert not found.same and {row.status for row in found.weights} == {"only A", "only B"}


def test_two_archives_need_inputs(state, tmp_path):
    path = traced(tmp_path / "a.pt", state)
    assert "unknown; pass inputs with --inputs" in compare(path, path).remarks[0]
    np.save(tmp_path / "mel.npy", np.full((80, 5), -5, np.float32))
    found = compare(path, path, inputs=tmp_path / "mel.npy")
    assert found.same and len(found.layers) > 10


class ScaledOutput(torch.nn.Module):
    """A network whose layer is named `output` and is not the last operation."""

    def __init__(self, factor):
        super().__init__()
        self.output = torch.nn.Conv1d(2, 2, 1)
        self.factor = factor
        torch.nn.init.ones_(self.output.weight)
        torch.nn.init.zeros_(self.output.bias)

    def forward(self, x):
        return self.factor * self.output(x)


def test_layer_named_output_is_compared_separately_from_the_result(tmp_path):
    for name, factor in (("a", 0.5), ("b", 0.25)):
        with warnings.catch_warnings(action="ignore"):
            torch.jit.save(torch.jit.script(ScaledOutput(factor)), tmp_path / f"{name}.pt")
    np.save(tmp_path / "x.npy", np.ones((2, 5), np.float32))
    layer, result = compare(tmp_path / "a.pt", tmp_path / "b.pt", inputs=tmp_path / "x.npy").layers
    assert (layer.name, layer.distance.relative) == ("output", 0)
    assert (result.name, result.distance.relative) == ("output", 1)


def test_weights_of_other_shapes_differ(folder, state, tmp_path):
    config = dataclasses.replace(CONFIG.generator, resblock_kernel_sizes=(5,))
    FAMILY.save_network(
        tmp_path / "wide", Generator(config, key=jax.random.key(0)), dataclasses.replace(CONFIG, generator=config)
    )
    found = compare(folder, tmp_path / "wide")
    assert not found.same
    assert any(row.status == "shape" for row in found.weights)


def test_models_of_two_families_are_compared_by_weights(folder, tmp_path, capsys):
    model = gaussian_tts_networks()
    save_model(tmp_path / "tts", model, model.init_state(), GAUSSIAN_TTS)
    for a, b in ((folder, tmp_path / "tts"), (tmp_path / "tts", folder)):
        assert main(["compare", str(a), str(b)]) == 1
        shown = capsys.readouterr().out
        assert "0 bitwise equal" in shown and "only in A" in shown and "only in B" in shown
        assert "layers not compared: A takes inputs of shape (" in shown
    np.save(tmp_path / "mel.npy", np.full((80, 7), -5, np.float32))
    with pytest.raises(ShapeError, match=r"cannot run on inputs of shape .* use other inputs"):
        compare(folder, tmp_path / "tts", inputs=tmp_path / "mel.npy")


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv1d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) / 3 + 1.5


def test_archives_that_fail_on_random_inputs_are_compared_by_weights(folder, tmp_path):
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.jit.script(Scaled().eval()).save(tmp_path / "other.pt")
    found = compare(folder, tmp_path / "other.pt")
    assert not found.same and not found.layers
    (remark,) = found.remarks
    assert "other.pt cannot run on inputs of shape (80, 16)" in remark and "with --inputs" in remark


class Split(Module):
    """A network with keyword arguments and several results."""

    linear: Linear

    def __call__(self, x, *, lengths, key, inference):
        assert inference and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        y = self.linear(x) * lengths
        return y, {"mean": y.mean(axis=-1), "length": lengths}


def test_keyword_arguments_and_several_results_are_compared(tmp_path, monkeypatch):
    def example(config, *, key):
        return (jax.random.normal(key, (6, 3)),), {"lengths": 4, "key": key, "inference": True}

    split = Family(
        "split", HiFiGANConfig, lambda config, *, key: Split(Linear(3, 5, key=key)), example, "none:None", ""
    )
    monkeypatch.setattr(models, "FAMILIES", (split,))
    for name, seed in (("a", 0), ("b", 1)):
        split.save_network(tmp_path / name, split.build(CONFIG, key=jax.random.key(seed)), CONFIG)
    found = compare(tmp_path / "a", tmp_path / "a")
    assert found.same and [layer.name for layer in found.layers] == ["linear", "output[0]", "output[1][mean]"]
    assert found.remarks == ("layers on a random input of shape (3, 6), ()",)
    assert found.layers[1].shape == (5, 6)
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2), np.float32), lengths=np.array(2))
    found = compare(tmp_path / "a", tmp_path / "b", inputs=tmp_path / "x.npz")
    assert found.diverging.name == "linear" and found.layers[1].shape == (5, 2)


class Several(Scaled):
    def forward(self, x):
        return self.conv(x), x + 1


def test_several_results_of_archives_are_compared(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(Several().eval()).save(tmp_path / "a.pt")
    np.save(tmp_path / "x.npy", np.ones((3, 9), np.float32))
    found = compare(tmp_path / "a.pt", tmp_path / "a.pt", inputs=tmp_path / "x.npy")
    assert found.same and {"output[0]", "output[1]"} <= {layer.name for layer in found.layers}


def test_missing_files_raise(folder, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="no folder"):
        compare(folder, tmp_path / "missing")
    assert main(["compare", str(folder), str(tmp_path / "missing")]) == 2
    assert "error" in capsys.readouterr().err


def test_constants_of_code_are_not_compared(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 9), np.float32))
    net = Scaled().eval()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.jit.script(net).save(tmp_path / "script.pt")
        torch.jit.trace(net, torch.ones(1, 3, 9)).save(tmp_path / "trace.pt")
        for bias in (1.5, 2.5):
            net.conv.bias.data[:] = bias
            torch.jit.freeze(torch.jit.script(net)).save(tmp_path / f"{bias}.pt")
    found = compare(tmp_path / "script.pt", tmp_path / "trace.pt", inputs=tmp_path / "x.npy")
    assert found.same and found.layers and {row.name for row in found.weights} == {"conv.weight", "conv.bias"}
    # The weights of frozen code are constants, and the archive has no other tensors.
    found = compare(tmp_path / "1.5.pt", tmp_path / "2.5.pt")
    assert not found.same and {row.status for row in found.weights} == {"equal", "differs"}


def test_files_without_inputs_raise(folder, tmp_path, capsys):
    torch.save({"x": torch.ones(3)}, tmp_path / "torch.pt")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "object.npz", a=np.array([{}]))
    np.savez(tmp_path / "text.npz", a=np.array(["mel"]))
    np.savez(tmp_path / "empty.npz")
    (tmp_path / "zero.npy").write_bytes(b"")
    whole = (tmp_path / "text.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    said = {"torch.pt": "not a numpy array", "text.npz": "not finite numbers", "empty.npz": "contains no arrays"}
    for name in ("torch.pt", "object.npy", "object.npz", "text.npz", "empty.npz", "zero.npy", "cut.npz"):
        assert main(["compare", str(folder), str(folder), "--inputs", str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert name in line and said.get(name, "contains no numeric arrays") in line
