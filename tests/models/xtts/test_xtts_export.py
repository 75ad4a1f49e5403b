"""Exports of XTTS have the files of a released bundle, which torch reads with equal tensors."""

import json

import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts import FAMILY, read_voices
from jaxvoice.weights import named_arrays
from tests.models.xtts.bundles import (
    STATISTICS,
    coqui_settings,
    dvae_state,
    released_arrays,
    released_state,
    speakers,
    write_bundle,
)
from tests.models.xtts.small import SMALL, random_xtts
from tests.pipelines.small_xtts import write_small_xtts


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model folder that was imported, and the folder of its export."""
    folder = tmp_path_factory.mktemp("xtts")
    jaxvoice.import_model(write_bundle(folder / "bundle"), folder / "model")
    jaxvoice.export_model(folder / "model", folder / "out" / "model.pth")
    return folder / "model", folder / "out"


def assert_equal(found, tensors):
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_exported_files_equal_the_bundle(exported):
    model, out = exported
    names = {"model.pth", "config.json", "vocab.json", "dvae.pth", "dvae_config.json", "mel_stats.pth"}
    assert {path.name for path in out.iterdir()} == names | {"speakers_xtts.pth"}
    content = torch.load(out / "model.pth", weights_only=True)
    assert content.keys() == {"model"}
    assert_equal(content["model"], released_state())
    assert_equal(torch.load(out / "dvae.pth", weights_only=True), dvae_state())
    np.testing.assert_array_equal(torch.load(out / "mel_stats.pth", weights_only=True), STATISTICS)
    voices = torch.load(out / "speakers_xtts.pth", weights_only=True)
    assert list(voices) == list(speakers())
    for name, voice in speakers().items():
        assert list(voices[name]) == ["gpt_cond_latent", "speaker_embedding"]
        for found, tensor in zip(voices[name].values(), voice.values(), strict=True):
            assert torch.equal(found, tensor)
    assert (out / "vocab.json").read_bytes() == (model / "vocab.json").read_bytes()
    table = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert table["family"] == "xtts" and table["info"]["licence"].startswith("Coqui Public Model License 1.0.0")


def test_exports_are_imported_again(exported, tmp_path):
    model, out = exported
    summary = jaxvoice.import_model(out, tmp_path / "again")
    (first, config), (second, again) = (FAMILY.load_network(folder) for folder in (model, tmp_path / "again"))
    assert config == again and summary.info["licence"].startswith("Coqui Public Model License")
    arrays = named_arrays(second)
    for name, array in named_arrays(first).items():
        np.testing.assert_array_equal(arrays[name], array)
    assert list(read_voices(tmp_path / "again", config)) == list(speakers())
    assert (tmp_path / "again" / "dvae" / "model.safetensors").is_file()


def test_models_that_were_trained_are_exported_in_the_layout_of_the_release(tmp_path):
    network = random_xtts()
    FAMILY.save_network(tmp_path / "model", network, SMALL)
    jaxvoice.export_model(tmp_path / "model", tmp_path / "out" / "model.pth")
    state = torch.load(tmp_path / "out" / "model.pth", weights_only=True)["model"]
    assert state.keys() == released_state().keys()
    name = "gpt.gpt.h.0.mlp.c_fc.weight"
    np.testing.assert_array_equal(state[name], named_arrays(network)[name])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.pth", "config.json", "mel_stats.pth"}
    table = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert not table["info"]


@pytest.mark.parametrize("name", ["vocab.json", "speakers_xtts.pth", "mel_stats.pth", "dvae.pth"])
def test_files_of_another_model_are_not_overwritten(exported, tmp_path, name):
    model, out = exported
    target = tmp_path / "out"
    target.mkdir()
    content = (out / name).read_bytes()
    other = {"speakers_xtts.pth": {"a": speakers()["Zoë"]}, "mel_stats.pth": torch.from_numpy(2 * STATISTICS)}
    if name in other:
        torch.save(other[name], target / name)
    else:
        (target / name).write_bytes(content + b" ")
    before = (target / name).read_bytes()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        jaxvoice.export_model(model, target / "model.pth")
    assert [path.name for path in target.iterdir()] == [name] and (target / name).read_bytes() == before


def test_equal_files_are_kept(exported, tmp_path):
    model, out = exported
    target = tmp_path / "out"
    target.mkdir()
    for name in ("vocab.json", "speakers_xtts.pth", "mel_stats.pth", "config.json"):
        (target / name).write_bytes((out / name).read_bytes())
    jaxvoice.export_model(model, target / "model.pth")
    for name in ("vocab.json", "speakers_xtts.pth", "mel_stats.pth", "config.json"):
        assert (target / name).read_bytes() == (out / name).read_bytes()


def test_exports_in_other_formats_are_imported(exported, tmp_path):
    model, _ = exported
    jaxvoice.export_model(model, tmp_path / "out" / "xtts.safetensors")
    jaxvoice.import_model(tmp_path / "out" / "xtts.safetensors", tmp_path / "again")
    network, _ = FAMILY.load_network(tmp_path / "again")
    name = "gpt.text_head.weight"
    np.testing.assert_array_equal(named_arrays(network)[name], released_arrays()[name])


def test_nothing_remains_of_an_export_beside_another_configuration(exported, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(coqui_settings(gpt_layers=3)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is the configuration of another model \(.*gpt_layers"):
        jaxvoice.export_model(exported[0], tmp_path / "model.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The speech of")
def test_speech_after_export_and_import_is_the_same(tmp_path):
    write_small_xtts(tmp_path / "model")
    jaxvoice.export_model(tmp_path / "model", tmp_path / "out" / "model.pth")
    jaxvoice.import_model(tmp_path / "out", tmp_path / "again")
    models = [jaxvoice.load(tmp_path / name) for name in ("model", "again")]
    first, second = (model.speak("a text.", "en", speaker="Ann", seed=3, max_codes=6) for model in models)
    assert models[1].speakers == ("Ann", "Ben") and np.abs(first.audio).max() > 0
    np.testing.assert_array_equal(first.audio, second.audio)
