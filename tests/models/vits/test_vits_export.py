"""Export to the names and configurations of the releases, and comparison with them."""

import dataclasses
import json

import equinox as eqx
import numpy as np
import pytest
import torch

import jaxvoice
from experiments.benchmarks.torch_hifigan import arrays_of
from jaxvoice.errors import CheckpointError
from jaxvoice.models.vits import FAMILY, preset
from jaxvoice.models.vits.config import DurationConfig, TextEncoderConfig
from jaxvoice.models.vits.released_export import coqui_config as coqui_settings, original_config as original_settings
from jaxvoice.models.vits.released_settings import read_coqui, read_original
from jaxvoice.models.vits.weights import geometry, vits_shapes
from jaxvoice.text import YOURTTS_SYMBOLS
from jaxvoice.weights import named_arrays
from tests.models.vits.released import (
    COQUI,
    coqui_bundle,
    coqui_config,
    coqui_state,
    original_checkpoint,
    torch_network,
)
from tests.random_networks import random_arrays


def test_exported_original_loads_strictly(original, tmp_path):
    reference, folder, _ = original
    jaxvoice.export_model(folder, tmp_path / "G_11.pth")
    again = torch.load(tmp_path / "G_11.pth", weights_only=True)["model"]
    other = torch_network()
    other.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in other.state_dict().items()})
    other.load_state_dict(again, strict=True)
    expected = arrays_of(reference)
    assert all(np.array_equal(array, expected[name]) for name, array in arrays_of(other).items())
    table = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    # The code of the original fixes sizes that the small network does not have.
    assert table["family"] == "vits" and "model" not in table
    jaxvoice.import_model(tmp_path / "G_11.pth", tmp_path / "again")
    assert FAMILY.load_network(tmp_path / "again")[1] == FAMILY.load_network(folder)[1]


@pytest.mark.parametrize(("spelling", "discriminators"), [("hooks", True), ("parametrizations", False)])
def test_bundles_of_coqui_are_imported_and_exported(tmp_path, spelling, discriminators):
    state = coqui_state(spelling, discriminators=discriminators)
    bundle = coqui_bundle(tmp_path / "bundle", state)
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config == COQUI
    expected = random_arrays(vits_shapes(COQUI), 5)
    for name, array in named_arrays(network).items():
        np.testing.assert_array_equal(array, expected[name])
    ignored = summary.info["ignored"]
    assert "speaker encoder" in ignored["model.speaker_encoder.conv1.weight"]
    assert "resampling" in ignored["model.audio_resampler.kernel"]
    assert not any(name.startswith("model.disc") for name in ignored)
    assert (tmp_path / "model" / "training.safetensors").exists() == discriminators
    speakers = json.loads((tmp_path / "model" / "speakers.json").read_text(encoding="utf-8"))
    assert {name: row["embedding"][0] for name, row in speakers.items()} == {"p1": 2.0, "p2": 5.0}

    jaxvoice.export_model(tmp_path / "model", tmp_path / "export" / "model_file.pth")
    again = torch.load(tmp_path / "export" / "model_file.pth", weights_only=True)["model"]
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(("speaker_encoder", "audio_"))}
    assert set(again) == set(kept)
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())
    assert jaxvoice.import_model(tmp_path / "export", tmp_path / "second").family == "vits"
    assert FAMILY.load_network(tmp_path / "second")[1] == config


def test_exports_contain_the_languages_and_speakers_of_a_bundle(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    jaxvoice.import_model(bundle, tmp_path / "model")
    export = tmp_path / "export"
    jaxvoice.export_model(tmp_path / "model", export / "model_file.pth")
    assert json.loads((export / "language_ids.json").read_text(encoding="utf-8")) == {"pt": 0, "en": 1}
    rows = json.loads((export / "speakers.json").read_text(encoding="utf-8"))
    assert {name: (row["name"], *row["embedding"][:2]) for name, row in rows.items()} == {
        "p1": ("p1", 2.0, 2.0),
        "p2": ("p2", 5.0, 5.0),
    }
    # The names are those of the files, not of the configuration of jaxvoice.
    table = coqui_config()
    table["datasets"] = []
    (export / "config.json").write_text(json.dumps(table), encoding="utf-8")
    jaxvoice.import_model(export, tmp_path / "second")
    assert FAMILY.load_network(tmp_path / "second")[1] == FAMILY.load_network(tmp_path / "model")[1]
    for name in ("speakers.json", "model.safetensors"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_exports_keep_files_of_the_same_names_only(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    jaxvoice.import_model(bundle, tmp_path / "model")
    names = ("language_ids.json", "speakers.json", "config.json")
    before = {name: (bundle / name).read_bytes() for name in names}
    jaxvoice.export_model(tmp_path / "model", bundle / "again.pth")
    assert {name: (bundle / name).read_bytes() for name in names} == before
    for name, content in (
        ("language_ids.json", '{"en": 0, "pt": 1}'),
        ("speakers.json", '{"a": {"name": "p1", "embedding": [1, 2, 3]}}'),
        ("speakers.json", json.dumps({"a": {"name": "p1", "embedding": [2.0] * 10}})),
    ):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=rf"of another model, in {name} or .*Export to another folder"):
            jaxvoice.export_model(tmp_path / "model", tmp_path / "other" / "x.pth")
        assert [path.name for path in (tmp_path / "other").iterdir()] == [name]
        (tmp_path / "other" / name).unlink()


def test_exports_contain_the_ids_of_a_table_of_speakers(tmp_path, original):
    original_checkpoint(tmp_path, original[0], discriminators=False)
    (tmp_path / "speaker_ids.json").write_text('{"b": 2, "a": 0, "c": 1}', encoding="utf-8")
    jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    jaxvoice.export_model(tmp_path / "model", tmp_path / "export" / "G_10.pth")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        *("G_10.pth", "config.json", "speaker_ids.json")
    ]
    jaxvoice.import_model(tmp_path / "export" / "G_10.pth", tmp_path / "second")
    assert json.loads((tmp_path / "second" / "speakers.json").read_text(encoding="utf-8")) == dict(a=0, c=1, b=2)


@pytest.mark.parametrize(
    ("released", "read", "config"),
    [
        (coqui_settings, read_coqui, preset("ljspeech")),
        (coqui_settings, read_coqui, preset("vctk")),
        (coqui_settings, read_coqui, preset("yourtts")),
        (original_settings, read_original, preset("original_ljspeech")),
        (original_settings, read_original, preset("original_vctk")),
    ],
)
def test_exported_configurations_state_the_sizes_of_the_tensors(released, read, config):
    if released is coqui_settings:
        config = dataclasses.replace(config, symbols=dataclasses.replace(config.symbols, blank="last"))
    settings = read(json.loads(json.dumps(released(config))))
    sizes = geometry(vits_shapes(config), "the model")
    assert settings.sizes and all(value == sizes[name] for name, (_, value) in settings.sizes.items())
    stated = {name for name, _ in settings.sizes.items()}
    assert {"channels", "text.heads", "text.layers", "durations.kind"} <= stated
    assert ("speaker_channels" in stated) == (config.speaker_channels > 0 or released is coqui_settings)
    decoder = dict(settings.decoder)
    assert decoder == {name: getattr(config.decoder, name) for name in decoder} and len(decoder) == 6
    assert settings.mel == config.mel and settings.fields["segment_frames"] == config.segment_frames


@pytest.mark.parametrize(
    "change",
    [
        {"flows": 3},
        {"text": TextEncoderConfig(window=3)},
        {"durations": DurationConfig(channels=64)},
        {"durations": DurationConfig(bins=8)},
        {"durations": DurationConfig(kernel_size=5)},
        {"durations": DurationConfig("deterministic", channels=192)},
    ],
)
def test_sizes_that_the_releases_fix_in_code_have_no_configuration(change):
    config = dataclasses.replace(preset("ljspeech"), **change)
    assert original_settings(config) == {}
    assert coqui_settings(dataclasses.replace(config, symbols=YOURTTS_SYMBOLS)) == {}


def test_constants_that_no_tensor_contains_decide_on_the_configuration():
    ours = preset("original_ljspeech")
    shallow = dataclasses.replace(ours, posterior=dataclasses.replace(ours.posterior, layers=8))
    assert original_settings(ours) and original_settings(shallow) == {}
    for eps, released in ((1e-4, coqui_settings), (1e-5, original_settings)):
        durations = DurationConfig("deterministic", channels=256, norm_eps=eps)
        config = dataclasses.replace(ours, durations=durations)
        both = {
            coqui_settings: coqui_settings(dataclasses.replace(config, symbols=YOURTTS_SYMBOLS)),
            original_settings: original_settings(config),
        }
        assert [one for one, table in both.items() if table] == [released]


@pytest.mark.slow
def test_layers_of_models_and_exports_are_compared(original, tmp_path):
    _, folder, _ = original
    jaxvoice.export_model(folder, tmp_path / "G_11.pth")
    found = jaxvoice.compare(folder, tmp_path / "G_11.pth")
    assert found.same and len(found.layers) > 50
    network, config = FAMILY.load_network(folder)
    changed = eqx.tree_at(lambda network: network.flow.flows[0].post.bias, network, replace_fn=lambda bias: bias + 1)
    FAMILY.save_network(tmp_path / "changed", changed, config)
    found = jaxvoice.compare(folder, tmp_path / "changed")
    assert found.diverging is not None and found.diverging.name.startswith("flow.flows.0.post")
