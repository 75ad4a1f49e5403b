"""Import of released bundles and of checkpoints of a training."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.config import to_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.xtts import FAMILY, FRAMES_MEL, ConditioningConfig, ReferenceConfig, SamplingConfig, read_voices
from jaxvoice.models.xtts.config import preset
from jaxvoice.models.xtts.released_config import coqui_config
from jaxvoice.models.xtts_dvae import FAMILY as DVAE
from jaxvoice.weights import named_arrays
from jaxvoice.weights.model_folder import read_config_file
from tests.models.xtts.bundles import (
    STATISTICS,
    coqui_settings,
    dvae_state,
    released_arrays,
    released_state,
    speakers,
    training_state,
    write_bundle,
)
from tests.models.xtts.small import SMALL, vocabulary
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.reference import golden

EXPECTED = dataclasses.replace(
    SMALL,
    sampling=SamplingConfig(temperature=0.65, top_k=40, top_p=0.8, repetition_penalty=2.0),
    references=ReferenceConfig(seconds=12, part=6, longest=10),
)
FRAMES = dataclasses.replace(
    SMALL,
    gpt=dataclasses.replace(
        SMALL.gpt,
        conditioning=ConditioningConfig(
            blocks=1, heads=2, norm_groups=16, latents=0, mel=dataclasses.replace(FRAMES_MEL, num_mels=10)
        ),
    ),
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A bundle, the model folder of its import, and the summary."""
    folder = tmp_path_factory.mktemp("xtts")
    bundle = write_bundle(folder / "bundle")
    summary = jaxvoice.import_model(bundle, folder / "model")
    return bundle, folder / "model", summary


def equal_arrays(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_imported_weights_are_those_of_the_bundle(imported):
    _, folder, summary = imported
    network, config = FAMILY.load_network(folder)
    assert config == EXPECTED
    equal_arrays(named_arrays(network), released_arrays())
    assert summary.family == "xtts" and summary.version == "2 layers, 16 channels, 16 codes"
    assert summary.info["licence"].startswith("Coqui Public Model License 1.0.0 (not commercial)")
    assert not summary.info["assumed"] and not summary.info["ignored"] and not summary.hints


def test_files_of_the_bundle_are_in_the_model_folder(imported):
    bundle, folder, summary = imported
    assert (folder / "vocab.json").read_bytes() == (bundle / "vocab.json").read_bytes()
    voices = read_voices(folder, EXPECTED)
    assert list(voices) == ["Ana. B", "Zoë"]
    for name, tensors in speakers().items():
        conditioning, speaker = (tensor.numpy() for tensor in tensors.values())
        np.testing.assert_array_equal(voices[name].conditioning, conditioning[0])
        np.testing.assert_array_equal(voices[name].speaker, speaker[0, :, 0])
    codec, config = DVAE.load_network(folder / "dvae")
    assert config == CODEC
    expected = {name: tensor.numpy() for name, tensor in dvae_state().items()}
    equal_arrays(named_arrays(codec, merged=("dvae",)), expected | {"mel_stats": STATISTICS})
    about = {"language": "en, pt", "vocab": "30 text ids", "voices": "2: 'Ana. B', 'Zoë'", "DVAE": "in dvae"}
    assert summary.contents == about
    assert (folder / "dvae" / "report.md").is_file()


def test_models_that_were_imported_are_inspected(imported, capsys):
    from jaxvoice.cli import main

    assert main(["inspect", str(imported[1])]) == 0
    text = capsys.readouterr().out
    for line in ("languages", "en, pt", "30 text ids", "'Ana. B', 'Zoë'", "Coqui Public Model License 1.0.0"):
        assert line in text
    assert main(["inspect", str(imported[1] / "dvae")]) == 0


@pytest.mark.parametrize("config_inside", [False, True])
def test_checkpoints_of_a_training_are_imported(tmp_path, config_inside):
    content = {"model": training_state(), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "step": 3}
    if config_inside:
        content["config"] = coqui_settings()
    else:
        (tmp_path / "config.json").write_text(json.dumps(coqui_settings()), encoding="utf-8")
    torch.save(content, tmp_path / "best_model.pth")
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary()), encoding="utf-8")
    summary = jaxvoice.import_model(tmp_path, tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config == EXPECTED
    equal_arrays(named_arrays(network), released_arrays())
    ignored = summary.info["ignored"]
    for name, reason in {
        "model.xtts.gpt.gpt_inference.transformer.h.0.ln_1.weight": "duplicate of the language model",
        "model.xtts.gpt.gpt.wte.weight": "table of tokens",
        "model.xtts.gpt.prompt_embedding.weight": "prompts of v1",
        "model.torch_mel_spectrogram_dvae.mel_stft.spectrogram.window": "constant of a mel spectrogram",
        "model.dvae.codebook.embed": "folder of its own",
        "optimizer.state.0.exp_avg": "state of training",
    }.items():
        assert reason in ignored[name]
        assert name in (tmp_path / "model" / "report.md").read_text(encoding="utf-8")
    codec, _ = DVAE.load_network(tmp_path / "model" / "dvae")
    expected = {name: tensor.numpy() for name, tensor in dvae_state().items()}
    equal_arrays(named_arrays(codec, merged=("dvae",)), expected | {"mel_stats": STATISTICS})


def test_models_without_a_perceiver_are_recognised_by_their_tensors(tmp_path):
    settings = coqui_settings(FRAMES)
    bundle = write_bundle(tmp_path / "bundle", config=FRAMES, settings=settings)
    (bundle / "speakers_xtts.pth").unlink()
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    _, config = FAMILY.load_network(tmp_path / "model")
    assert config.gpt == FRAMES.gpt
    assert summary.contents["voices"].startswith("none: no speakers_xtts.pth")


def test_released_geometries_have_the_names_of_their_presets(tmp_path):
    from jaxvoice.models.xtts.released_layout import _version

    assert [_version(preset(name)) for name in ("v2", "v1_1")] == ["v2", "v1.1"]


@pytest.mark.parametrize("name", ["v2", "v1_1"])
def test_coqui_configurations_have_the_values_of_the_release(name):
    table = coqui_config(preset(name))
    expected = golden.case_json(f"xtts/shapes/xtts_{name}")["config"]
    assert {key: table["model_args"][key] for key in expected} == expected
    assert (table["temperature"], table["top_k"], table["top_p"], table["repetition_penalty"]) == (0.75, 50, 0.85, 5.0)
    assert (table["gpt_cond_len"], table["gpt_cond_chunk_len"], table["max_ref_len"]) == (30, 4, 30)
    assert coqui_config(SMALL) == {}


def test_files_without_configuration_are_imported_with_assumptions(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", config=SMALL)
    (bundle / "config.json").unlink()
    torch.save(released_state(), bundle / "model.pth")
    with pytest.raises(ConfigError, match="should be a multiple of"):
        jaxvoice.import_model(bundle / "model.pth", tmp_path / "model", config=write_settings(bundle, gpt_n_heads=3))
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    assert summary.info["assumed"] == [
        "16 attention heads: there is no configuration",
        "sampling, languages and sample rates of the release: there is no configuration",
    ]


def test_configurations_in_the_file_are_read_as_data(imported, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in ("model.pth", "vocab.json"):
        (bundle / name).write_bytes((imported[0] / name).read_bytes())
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    assert not summary.info["assumed"] and summary.info["config"] is None
    found = read_config_file(tmp_path / "model").table["config"]
    assert {**found, "dvae": None} == {**to_dict(EXPECTED), "dvae": None}  # without dvae.pth, its sizes are unknown


def write_settings(bundle, **changes):
    path = bundle / "other.json"
    path.write_text(json.dumps(coqui_settings(**changes)), encoding="utf-8")
    return path


def remove(name):
    return lambda bundle: (bundle / name).unlink()


def cut(name):
    return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes()[:-400])


def save(name, content):
    return lambda bundle: torch.save(content, bundle / name)


def settings(**changes):
    return lambda bundle: (bundle / "config.json").write_text(json.dumps(coqui_settings(**changes)), encoding="utf-8")


def words(count=30, **changes):
    text = json.dumps(vocabulary(count, **changes))
    return lambda bundle: (bundle / "vocab.json").write_text(text, encoding="utf-8")


def weights(change):
    def apply(bundle):
        state = released_state()
        change(state)
        torch.save({"model": state}, bundle / "model.pth")

    return apply


def swap_axes(name):
    return weights(lambda state: state.update({name: state[name].T.contiguous()}))


OTHER_DVAE = dataclasses.replace(SMALL.dvae, codes=12)
PERCEIVER = "conditioning_perceiver.layers.0.1.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("model.pth"), r"bundle of XTTS without model\.pth; add this file"),
        (remove("vocab.json"), r"vocab\.json is missing beside model\.pth, so that no text can be read"),
        (words(29), r"vocab\.json has 29 text ids; it should be 30"),
        (cut("model.pth"), r"model\.pth"),
        (cut("dvae.pth"), r"dvae\.pth"),
        (cut("mel_stats.pth"), r"mel_stats\.pth"),
        (cut("speakers_xtts.pth"), r"speakers_xtts\.pth"),
        (cut("vocab.json"), r"vocab\.json"),
        (
            save("speakers_xtts.pth", torch.ones(2)),
            r"speakers_xtts\.pth contains .*; it should contain a dict",
        ),
        (
            save("speakers_xtts.pth", {"a": {"b": torch.ones(2)}}),
            "contains a dict with 'a'; it should contain a dict of names",
        ),
        (save("speakers_xtts.pth", {"a": {"b": torch.ones(2), "c": torch.ones(2)}}), r"shapes \(2,\) and \(2,\)"),
        (save("speakers_xtts.pth", {"a": {"b": torch.ones(1, 3, 8), "c": torch.ones(1, 12, 1)}}), r"shapes \(3, 8\)"),
        (save("speakers_xtts.pth", {"a": {"b": torch.ones(1, 3, 16), "c": torch.zeros(1, 12, 1)}}), "only zeros"),
        (save("mel_stats.pth", torch.ones(80)), r"mel_stats\.pth contains tensors of the shapes \(80,\)"),
        (save("mel_stats.pth", torch.zeros(10)), r"mel_stats\.pth contains NaN, infinity or zero"),
        (save("dvae.pth", {"a": torch.ones(2)}), r"dvae\.pth contains 0 DVAEs; it should contain one"),
        (save("dvae.pth", dvae_state(OTHER_DVAE)), "has 12 codes and 10 mel bands; it should have 16 and 10"),
        (settings(gpt_layers=3), r"model_args\.gpt_layers in .*config\.json is 3, but the tensors of .* have 2"),
        (settings(gpt_use_perceiver_resampler=False), r"_resampler in .* is False, but .* contains a perceiver"),
        (settings(gpt_code_stride_len=512), "gpt_code_stride_len"),
        (settings(d_vector_dim=512), "d_vector_dim"),
        (settings(gpt_n_heads=5), "multiple of heads"),
        (settings(gpt_start_audio_token=9), "gpt_start_audio_token is 9 .* should be 16 and 17"),
        (weights(lambda state: state.pop("gpt.mel_head.weight")), r"gpt\.mel_head\.weight"),
        (weights(lambda state: state.pop("mel_stats")), "mel_stats is missing"),
        (weights(lambda state: state.update({"gpt.other.weight": torch.ones(2)})), r"gpt\.other\.weight"),
        (weights(lambda state: state["gpt.final_norm.bias"].fill_(np.nan)), r"final_norm\.bias contains 16 values"),
        (swap_axes("gpt.gpt.h.1.mlp.c_fc.weight"), r"gpt\.gpt\.h\.1\.mlp\.c_fc\.weight"),
        (swap_axes(f"gpt.{PERCEIVER}"), re.escape(PERCEIVER)),
    ],
)
def test_damaged_bundles_raise_errors(imported, tmp_path, change, message):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in imported[0].iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    change(bundle)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        jaxvoice.import_model(bundle, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_ids_of_start_and_stop_are_those_of_the_vocabulary(imported, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in imported[0].iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    settings(gpt_start_text_token=5, gpt_stop_text_token=0)(bundle)
    words(start=7, stop=6)(bundle)
    jaxvoice.import_model(bundle, tmp_path / "model")
    config = read_config_file(tmp_path / "model").table["config"]
    assert (config["gpt"]["start_text"], config["gpt"]["stop_text"]) == (7, 6)


def test_statistics_that_differ_are_noted(imported, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in imported[0].iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    torch.save(torch.from_numpy(1.5 * STATISTICS), bundle / "mel_stats.pth")
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    (hint,) = summary.hints
    assert "mel_stats.pth differs" in hint and "50.0%" in hint
    codec, _ = DVAE.load_network(tmp_path / "model" / "dvae")
    np.testing.assert_array_equal(codec.mel_stats, 1.5 * STATISTICS)


@pytest.mark.parametrize("name", ["model.pth", "best_model.pth"])
def test_statistics_of_the_autoencoder_are_those_in_the_weights_if_known(imported, tmp_path, name):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in imported[0].iterdir():
        (bundle / (name if path.name == "model.pth" else path.name)).write_bytes(path.read_bytes())
    (bundle / "mel_stats.pth").unlink()
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    codec, _ = DVAE.load_network(tmp_path / "model" / "dvae")
    known = name == "model.pth"
    np.testing.assert_array_equal(codec.mel_stats, STATISTICS if known else np.ones(10))
    assert [line.partition(":")[0] for line in summary.info["assumed"]] == ([] if known else ["dvae"])


def test_missing_parts_of_the_bundle_are_named(imported, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in ("model.pth", "config.json", "vocab.json"):
        (bundle / name).write_bytes((imported[0] / name).read_bytes())
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    assert summary.contents["voices"] == f"none: no speakers_xtts.pth in {bundle}"
    assert summary.contents["DVAE"] == f"none, which only training needs: no dvae.pth in {bundle}"
    assert not (tmp_path / "model" / "dvae").exists() and not (tmp_path / "model" / "voices.safetensors").exists()


def test_parts_are_imported_as_other_families(imported, tmp_path):
    path = imported[0] / "model.pth"
    summary = jaxvoice.import_model(path, tmp_path / "decoder", family="hifigan", part="waveform_decoder")
    assert summary.family == "hifigan"
    assert jaxvoice.import_model(path, tmp_path / "encoder", family="speaker_encoder").version.startswith("ResNet-SE")
    with pytest.raises(CheckpointError, match="--family hifigan --part waveform_decoder"):
        jaxvoice.import_model(path, tmp_path / "other", part="waveform_decoder")
