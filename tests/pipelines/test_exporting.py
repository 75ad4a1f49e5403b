"""Exports are bitwise equal to the original, and torch's networks load them strictly."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from experiments.benchmarks.torch_hifigan import PRESETS, Generator, arrays_of, fold_weight_norm
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines.exporting import export_model
from jaxvoice.pipelines.importing import import_model
from tests.models.hifigan import released
from tests.models.hifigan.released import CONDITIONED, CONFIG, COQUI_CONFIG, generator, state, under, write
from tests.pipelines.conftest import loud_generator, small_config

VITS = {
    "model": "vits",
    "audio": {"sample_rate": 16000},
    "model_args": {"hidden_channels": 12, "upsample_rates_decoder": [8, 8, 4], "resblock_type_decoder": "2"},
}
LAYOUTS = ["released", "bare", "module", "parametrizations", "coqui", "vits", "first vits", "folded"]


@pytest.fixture
def original(request, tmp_path):
    """A checkpoint in one of the layouts, with the options that its import needs."""
    tensors, options, config = state(generator()), {}, CONFIG
    if request.param == "bare":
        content = tensors
    elif request.param == "coqui":
        content, config = {"model": under("model_g.", released.spelt(tensors, "parametrizations"))}, COQUI_CONFIG
    elif request.param in ("vits", "first vits"):
        tensors, config = state(generator(**CONDITIONED)), VITS
        name, options = "waveform_decoder.", {"part": "waveform_decoder"}
        if request.param == "first vits":
            name, options = "dec.", {"part": "dec"}
            tensors = {key.replace("cond_layer", "cond"): tensor for key, tensor in tensors.items()}
        content = {"model": under(name, tensors)}
    else:
        if request.param == "module":
            tensors = under("module.", tensors)
        elif request.param == "folded":
            tensors = released.folded(generator())
        elif request.param == "parametrizations":
            tensors = released.spelt(tensors, "parametrizations")
        content = {"generator": tensors}
    return write(tmp_path / "in" / "original", content, config), content, options


def flat(table, path=""):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{name}/")
        else:
            yield path + name, value


@pytest.mark.parametrize("original", LAYOUTS, indirect=True)
def test_exports_equal_the_original_bitwise(original, tmp_path):
    source, content, options = original
    import_model(source, tmp_path / "model", **options)
    exported = tmp_path / "in" / "exported.pt"
    assert export_model(tmp_path / "model", exported) == len(list(flat(content)))
    back = dict(flat(torch.load(exported, weights_only=True)))
    expected = dict(flat(content))
    assert back.keys() == expected.keys()
    for name, tensor in expected.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor), name
    import_model(exported, tmp_path / "again", **options)
    first, second = (load_file(tmp_path / folder / "model.safetensors") for folder in ("model", "again"))
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes()


@pytest.mark.parametrize("format", ["safetensors", "npz"])
@pytest.mark.parametrize("original", ["released", "vits", "parametrizations"], indirect=True)
def test_flat_formats_contain_the_same_names(original, tmp_path, format):
    source, content, options = original
    import_model(source, tmp_path / "model", **options)
    exported = tmp_path / f"exported.{format}"
    export_model(tmp_path / "model", exported, format)
    found = load_file(exported) if format == "safetensors" else dict(np.load(exported))
    expected = {name.rpartition("/")[2]: tensor.numpy() for name, tensor in flat(content)}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", PRESETS)
def test_torch_loads_exports_of_every_released_size_strictly(tmp_path, name):
    torch.manual_seed(0)
    model = Generator(**PRESETS[name])
    import_model(write(tmp_path / "g_1", {"generator": state(model)}), tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "g_2")
    other = Generator(**PRESETS[name])
    other.load_state_dict(torch.load(tmp_path / "g_2", weights_only=True)["generator"], strict=True)
    for key, array in arrays_of(model).items():
        np.testing.assert_array_equal(arrays_of(other)[key], array)


def test_trained_models_with_restored_weight_norm_are_exported_folded(tmp_path):
    source = write(tmp_path / "g_1", {"generator": released.folded(generator())}, CONFIG)
    import_model(source, tmp_path / "model")
    from safetensors.numpy import save_file

    arrays = load_file(tmp_path / "model" / "model.safetensors")
    trained = {name: array * np.float32(1.5 if name.endswith("weight_g") else 1) for name, array in arrays.items()}
    save_file(trained, tmp_path / "model" / "model.safetensors")
    export_model(tmp_path / "model", tmp_path / "g_2")
    model = fold_weight_norm(generator())
    model.load_state_dict(torch.load(tmp_path / "g_2", weights_only=True)["generator"], strict=True)
    for name, tensor in released.folded(generator()).items():
        factor = 1.5 if name.endswith("weight") else 1
        torch.testing.assert_close(model.state_dict()[name], factor * tensor)


def test_trained_models_are_exported_in_the_released_layout(tmp_path):
    config = small_config()
    model = loud_generator(config)
    FAMILY.save_network(tmp_path / "run" / "model", model, config, info={"step": 3})
    export_model(tmp_path / "run", tmp_path / "g_3")
    tensors = torch.load(tmp_path / "g_3", weights_only=True)["generator"]
    assert tensors["conv_pre.weight_v"].shape == model.conv_pre.weight_v.shape
    np.testing.assert_array_equal(tensors["conv_pre.weight_v"].numpy(), model.conv_pre.weight_v)


def test_invalid_folders_and_files_raise(tmp_path):
    with pytest.raises(CheckpointError, match="not a model folder"):
        export_model(tmp_path, tmp_path / "x")
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    import_model(source, tmp_path / "model")
    with pytest.raises(CheckpointError, match="g_1 exists"):
        export_model(tmp_path / "model", source)
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match="damaged"):
        export_model(tmp_path / "model", tmp_path / "x")
    weights.write_bytes(whole)
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    for change, error, match in (
        ({"family": "other"}, ConfigError, "family"),
        ({"config": {**about["config"], "generator": {}}}, CheckpointError, "! conv_pre.bias has shape"),
        (
            {"config": {**about["config"], "generator": {**about["config"]["generator"], "conv_post_bias": False}}},
            CheckpointError,
            r"\+ conv_post\.bias",
        ),
    ):
        (tmp_path / "model" / "config.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(error, match=match):
            export_model(tmp_path / "model", tmp_path / "x")
        assert not (tmp_path / "x").exists()
