"""Import of released checkpoints and export to the same names; the result is compared with torch."""

import dataclasses
import json
import sys
import types

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import jaxvoice
from experiments.benchmarks import torch_waveglow
from experiments.benchmarks.torch_hifigan import arrays_of, fold_weight_norm, load_arrays
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.waveglow import FAMILY, WaveGlow, preset
from jaxvoice.models.waveglow.weights import waveglow_shapes
from jaxvoice.weights import named_arrays
from tests.models.waveglow.small import SMALL, random_arrays

MEL = np.random.default_rng(0).normal(-2, 1, (3, SMALL.mel.num_mels)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(0, 0.7, (3 * SMALL.positions_per_frame, SMALL.group)).astype(np.float32)
RELEASED = {
    "data_config": {
        "segment_length": 16000,
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "mel_fmin": 0.0,
        "mel_fmax": 7600.0,
    },
    "waveglow_config": {
        "n_mel_channels": 10,
        "n_flows": 4,
        "n_group": 8,
        "n_early_every": 2,
        "n_early_size": 2,
        "WN_config": {"n_layers": 3, "n_channels": 8, "kernel_size": 3},
    },
}


def new_torch_network():
    """A torch network with the sizes of `SMALL`."""
    return torch_waveglow.WaveGlow(
        mels=SMALL.mel.num_mels,
        flows=SMALL.flows,
        early_every=SMALL.early_every,
        layers=SMALL.layers,
        channels=SMALL.channels,
        upsample_kernel=SMALL.upsample_kernel,
    )


@pytest.fixture(scope="module")
def reference():
    network = new_torch_network()
    load_arrays(network, random_arrays())
    return network


@pytest.fixture(scope="module")
def expected(reference):
    """The waveform of the torch network."""
    with torch.no_grad():
        return infer(reference)


def infer(network):
    return network.infer(torch.from_numpy(MEL.T[None]), torch.from_numpy(NOISE.T[None]))[0].numpy()


def copy_of(network):
    copy = new_torch_network()
    load_arrays(copy, arrays_of(network))
    return copy


def check_import(path, expected, folder, **options):
    """Import `path`, and compare the waveform with that of torch; returns the summary of the import."""
    summary = jaxvoice.import_model(path, folder, **options)
    assert summary.family == "waveglow"
    network, config = FAMILY.load_network(folder)
    assert dataclasses.replace(config, mel=SMALL.mel) == SMALL
    np.testing.assert_allclose(eqx.filter_jit(network)(MEL, NOISE)[:, 0], expected, atol=1e-5)
    return summary


def exported(folder, path):
    """The content of an export of `folder`, as torch reads it."""
    jaxvoice.export_model(folder, path)
    return torch.load(path, weights_only=True)


def save_module(network, content, path, legacy, monkeypatch):
    """Save the pickled module `network` in `content`, with classes of the module `glow`, as the release has them."""
    glow = types.ModuleType("glow")
    glow.__file__ = torch_waveglow.__file__
    for name in ("WaveGlow", "WN", "Invertible1x1Conv"):
        kind = getattr(torch_waveglow, name)
        setattr(glow, name, kind)
        monkeypatch.setattr(kind, "__module__", "glow")
    monkeypatch.setitem(sys.modules, "glow", glow)
    torch.save(content(network), path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize("name", ["256channels", "512channels"])
def test_shapes_match_the_network(name):
    network = eqx.filter_eval_shape(WaveGlow, preset(name), key=jax.random.key(0))
    assert waveglow_shapes(preset(name)) == {name: array.shape for name, array in named_arrays(network).items()}


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("folded", [False, True], ids=["weight_norm", "folded"])
def test_pickled_modules_are_imported_and_exported_as_state_dicts(
    reference, expected, legacy, folded, tmp_path, monkeypatch
):
    network = copy_of(reference)
    if folded:
        fold_weight_norm(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with torch.no_grad():
        infer(network)  # stores `W_inverse`, as in a model that was used before it was saved
    state = arrays_of(network)
    for module in network.modules():
        # torch 1.0 had no such attributes.
        for attribute in ("_non_persistent_buffers_set", "padding_mode", "_backward_pre_hooks"):
            vars(module).pop(attribute, None)
    path = tmp_path / "waveglow_256channels_ljs_v2.pt"
    content = {"iteration": 580000, "optimizer": optimizer.state_dict(), "learning_rate": 1e-4}
    save_module(network, lambda network: {"model": network, **content}, path, legacy, monkeypatch)
    summary = check_import(path, expected, tmp_path / "model")
    reasons = set(summary.info["ignored"].values())
    assert {"inverse matrix, which is computed", "state of training"} <= reasons
    assert any("pickled glow.WaveGlow" in line for line in summary.info["differs"])
    back = exported(tmp_path / "model", tmp_path / "back" / "waveglow.pt")
    again = new_torch_network()
    (fold_weight_norm(again) if folded else again).load_state_dict(back["model"], strict=True)
    for name, array in state.items():
        np.testing.assert_array_equal(back["model"][name], array)


def test_a_pickled_module_without_a_dict_is_imported(reference, expected, tmp_path, monkeypatch):
    save_module(copy_of(reference), lambda network: network, tmp_path / "whole.pt", True, monkeypatch)
    check_import(tmp_path / "whole.pt", expected, tmp_path / "model")
    back = exported(tmp_path / "model", tmp_path / "back" / "waveglow.pt")
    new_torch_network().load_state_dict(back, strict=True)


def with_parametrizations(state):
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {
        name.replace(name.rpartition(".")[2], names.get(name.rpartition(".")[2], name.rpartition(".")[2])): tensor
        for name, tensor in state.items()
    }


def with_separate_conditions(state):
    """The names of NVIDIA/DeepLearningExamples."""
    found = {}
    for name, tensor in state.items():
        before, condition, part = name.partition(".cond_layer.")
        rows = tensor.chunk(SMALL.layers) if condition else (tensor,)
        names = [f"{before}.cond_layers.{i}.{part}" for i in range(SMALL.layers)] if condition else [name]
        found |= dict(zip(names, rows, strict=True))
    return found


def with_separate_outputs(state):
    """The names of the first release."""
    found = {}
    for name, tensor in with_separate_conditions(state).items():
        before, output, part = name.partition(".res_skip_layers.")
        if output and not part.startswith(f"{SMALL.layers - 1}."):
            residual, skip = tensor.chunk(2)
            found |= {f"{before}.res_layers.{part}": residual, f"{before}.skip_layers.{part}": skip}
        else:
            found[name.replace("res_skip_layers", "skip_layers")] = tensor
    return found


NESTED = {
    "flat": lambda state: state,
    "hub": lambda state: {
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "epoch": 1000,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0]}]},
    },
}


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize(
    "spelling", [dict, with_parametrizations, with_separate_conditions, with_separate_outputs], ids=lambda f: f.__name__
)
def test_state_dicts_are_imported_and_exported_with_the_same_names(reference, expected, spelling, nesting, tmp_path):
    state = spelling(reference.state_dict())
    torch.save(NESTED[nesting](state), tmp_path / "waveglow.pt")
    check_import(tmp_path / "waveglow.pt", expected, tmp_path / "model")
    back = exported(tmp_path / "model", tmp_path / "back" / "waveglow.pt")
    back = back if nesting == "flat" else {n.removeprefix("module."): t for n, t in back["state_dict"].items()}
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    # The export is imported again.
    check_import(tmp_path / "back" / "waveglow.pt", expected, tmp_path / "again")


def test_folded_weights_of_older_layouts_are_imported_and_exported(reference, expected, tmp_path):
    state = with_separate_outputs(fold_weight_norm(copy_of(reference)).state_dict())
    torch.save(state, tmp_path / "waveglow.pt")
    check_import(tmp_path / "waveglow.pt", expected, tmp_path / "model")
    back = exported(tmp_path / "model", tmp_path / "back" / "waveglow.pt")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_incomplete_older_layers_raise_an_error(reference, tmp_path):
    state = with_separate_conditions(reference.state_dict())
    del state["WN.1.cond_layers.1.bias"]
    torch.save(state, tmp_path / "waveglow.pt")
    with pytest.raises(CheckpointError, match=r"WN\.1\.cond_layer\.bias"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")


def test_sizes_and_mel_contract_are_read_from_the_configuration(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "waveglow.pt")
    report = jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "without")
    assert report.info["assumed"][0].startswith("the mel contract of the release (22050 Hz, 256 samples per frame")
    assert FAMILY.load_network(tmp_path / "without")[1] == SMALL
    (tmp_path / "config.json").write_text(json.dumps(RELEASED), encoding="utf-8")
    report = jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")
    assert not report.info["assumed"]
    assert FAMILY.load_network(tmp_path / "model")[1].mel == dataclasses.replace(SMALL.mel, fmax=7600.0)
    other = {**RELEASED, "waveglow_config": {**RELEASED["waveglow_config"], "n_early_every": 4}}
    (tmp_path / "config.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"n_early_every is 4 in .*config\.json, but the tensors .* have 2"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "other")
    (tmp_path / "config.json").write_text('{"upsample_rates": [8, 8]}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json: this is not the configuration of a WaveGlow"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "other")


@pytest.mark.parametrize("every", [5, 6, 12])
def test_intervals_of_early_outputs_are_equal_if_there_are_none(every, tmp_path):
    config = dataclasses.replace(SMALL, flows=5, early_every=5)
    named = {name: torch.from_numpy(array) for name, array in random_arrays(config).items()}
    torch.save(named, tmp_path / "waveglow.pt")
    sizes = {**RELEASED["waveglow_config"], "n_flows": 5, "n_early_every": every}
    (tmp_path / "config.json").write_text(json.dumps({**RELEASED, "waveglow_config": sizes}), encoding="utf-8")
    jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")
    assert not FAMILY.load_network(tmp_path / "model")[1].early_outputs


def test_sizes_in_a_checkpoint_are_compared_with_its_tensors(reference, tmp_path):
    sizes = {**RELEASED["waveglow_config"], "n_group": 4}
    torch.save({"state_dict": reference.state_dict(), "config": sizes}, tmp_path / "waveglow.pt")
    with pytest.raises(CheckpointError, match=r"n_group is 4 in the configuration in waveglow\.pt, but .* have 8"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")


def test_configuration_of_the_release_is_written_if_it_can_express_the_network():
    (layout,) = FAMILY.layouts
    table = layout.released_config(preset("256channels"))
    assert table["data_config"]["sampling_rate"] == 22050 and table["data_config"]["mel_fmax"] == 8000.0
    assert table["waveglow_config"] == {
        "n_mel_channels": 80,
        "n_flows": 12,
        "n_group": 8,
        "n_early_every": 4,
        "n_early_size": 2,
        "WN_config": {"n_layers": 8, "n_channels": 256, "kernel_size": 3},
    }
    longer = dataclasses.replace(WAVEGLOW_MEL, hop_length=320)
    assert layout.released_config(dataclasses.replace(preset("256channels"), mel=longer)) == {}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("convinv.2.conv.weight", lambda x: x.index_fill(0, torch.tensor([0]), 0.0), "condition number"),
        ("convinv.2.conv.weight", lambda x: x * torch.nan, "NaN or infinity"),
        ("WN.3.end.bias", lambda x: x + 200, r"adds up to 2\d\d.* of the scales of flow 3"),
        ("WN.1.in_layers.2.weight_g", lambda x: x / 0, "values that are NaN or infinite"),
    ],
)
def test_values_of_a_broken_network_raise_an_error_with_the_name_of_the_tensor(
    reference, name, change, message, tmp_path
):
    state = {f"module.{key}": tensor for key, tensor in reference.state_dict().items()}
    state[f"module.{name}"] = change(state[f"module.{name}"])
    torch.save({"state_dict": state}, tmp_path / "waveglow.pt")
    with pytest.raises(CheckpointError, match=rf"module\.{name} .*{message}"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_one_of_several_networks_is_selected_by_name(reference, expected, tmp_path):
    state = reference.state_dict()
    torch.save({"model": state, "average": state}, tmp_path / "waveglow.pt")
    with pytest.raises(CheckpointError, match=r"contains several networks: average, model\. Select one with --part"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"--part is other; it should be the name of one WaveGlow"):
        jaxvoice.import_model(tmp_path / "waveglow.pt", tmp_path / "model", part="other")
    check_import(tmp_path / "waveglow.pt", expected, tmp_path / "model", part="average")
