"""Exports are bitwise equal to the original, and torch's networks load them strictly."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from experiments.benchmarks.torch_hifigan import PRESETS, Generator, arrays_of, fold_weight_norm
from jaxvoice import models
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import PRESETS as PRESETS_OF_JAXVOICE, GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.foreign_configs import jik876_config, read_foreign_config
from jaxvoice.pipelines.exporting import export_model
from jaxvoice.pipelines.importing import import_model
from jaxvoice.weights.file_layout import FileLayout, inheritable_info
from jaxvoice.weights.formats import open_archive
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


@pytest.mark.parametrize("name", ["g_1", "g.safetensors", "g.npz"])
def test_exports_keep_the_mel_contract(tmp_path, name):
    config = PRESETS_OF_JAXVOICE["v1_16k"]
    config = dataclasses.replace(config, generator=dataclasses.replace(config.generator, upsample_initial_channel=16))
    FAMILY.save_network(tmp_path / "run" / "model", FAMILY.build(config, key=jax.random.key(0)), config)
    export_model(tmp_path / "run", tmp_path / "out" / name)
    with open_archive(tmp_path / "out" / name) as archive:
        assert archive.source.format == {"": "torch zip"}.get(Path(name).suffix, Path(name).suffix[1:])
    summary = import_model(tmp_path / "out" / name, tmp_path / "again")
    assert FAMILY.load_network(tmp_path / "again")[1].mel == config.mel and not summary.info["assumed"]
    # The inference code of jik876/hifi-gan reads these keys.
    table = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (table["sampling_rate"], table["hop_size"], table["num_mels"], table["resblock"]) == (16000, 256, 80, "1")
    for key in ("family", "config", "schema", "jaxvoice"):
        del table[key]
    (tmp_path / "out" / "config.json").write_text(json.dumps(table))
    import_model(tmp_path / "out" / name, tmp_path / "theirs")
    assert FAMILY.load_network(tmp_path / "theirs")[1].mel == config.mel


def test_jik876_config_contains_all_settings_or_none():
    table = jik876_config(HiFiGANConfig())
    assert read_foreign_config(table, "here").mel == MelConfig()
    decibels = dataclasses.replace(HiFiGANConfig(), mel=MelConfig(log="log10"))
    vits = HiFiGANConfig(GeneratorConfig(in_channels=192), mel=LatentConfig(22050, 256, 192))
    bare = dataclasses.replace(HiFiGANConfig(), generator=GeneratorConfig(conv_post_bias=False))
    assert jik876_config(decibels) == jik876_config(vits) == jik876_config(bare) == {}


def test_configuration_of_another_model_raises(tmp_path):
    for name, rate in (("a", 22050), ("b", 16000)):
        source = write(tmp_path / name / "g_1", {"generator": state(generator())}, {**CONFIG, "sampling_rate": rate})
        import_model(source, tmp_path / f"model_{name}")
    export_model(tmp_path / "model_a", tmp_path / "out" / "g_1")
    written = (tmp_path / "out" / "config.json").read_bytes()
    message = r"another model \(mel.sample_rate: 22050 != 16000\)\. Export to a folder"
    with pytest.raises(CheckpointError, match=message):
        export_model(tmp_path / "model_b", tmp_path / "out" / "g_2")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"task": "HiFiGANTask"}')
    with pytest.raises(CheckpointError, match=r"another model \(.* not a known HiFi-GAN configuration"):
        export_model(tmp_path / "model_a", tmp_path / "other" / "g_1")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["config.json"]
    export_model(tmp_path / "model_a", tmp_path / "out" / "g_3")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "g_1", "g_3"]
    assert (tmp_path / "out" / "config.json").read_bytes() == written


def test_suffix_of_another_format_raises(tmp_path):
    import_model(write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG), tmp_path / "model")
    for name, format, message in (
        ("x.npz", "torch", "format is 'torch'; it should be 'npz'"),
        ("x.safetensors", "npz", "format is 'npz'; it should be 'safetensors'"),
        ("x.pth", "zip", "format is 'zip'; it should be 'auto', 'torch', 'safetensors' or 'npz'"),
        ("model.safetensors", "auto", "another name than model.safetensors"),
    ):
        with pytest.raises(ConfigError, match=message):
            export_model(tmp_path / "model", tmp_path / name, format)


def test_exports_use_the_layout_of_the_import(tmp_path, monkeypatch):
    class Other(type(FAMILY.layouts[0])):
        name, exports, export_layout = "other", True, FileLayout(prefix="other.")

        def recognises(self, checkpoint):
            return False

    other = Other()
    monkeypatch.setattr(models, "FAMILIES", (dataclasses.replace(FAMILY, layouts=(other, *FAMILY.layouts)),))
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    import_model(source, tmp_path / "model")
    monkeypatch.setattr(other, "plan_export", None)
    export_model(tmp_path / "model", tmp_path / "g_2")
    assert "generator" in torch.load(tmp_path / "g_2", weights_only=True)
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert inheritable_info(about["info"], "here")["layout_name"] == FAMILY.layouts[0].name


def test_import_of_a_model_folder_raises(tmp_path):
    import_model(write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG), tmp_path / "run" / "model")
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(CheckpointError, match=r"run.model is a model folder; it should be a released checkpoint"):
            import_model(folder, tmp_path / "again")


def test_export_finds_models_on_the_hub(tmp_path, monkeypatch):
    import_model(write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG), tmp_path / "model")
    hub = types.SimpleNamespace(snapshot_download=lambda name, **_: str(tmp_path / "model"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert export_model("someone/vocoder", tmp_path / "g_2") == len(state(generator()))


def test_invalid_folders_and_files_raise(tmp_path):
    with pytest.raises(CheckpointError, match="neither a model folder"):
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
