"""Import and export of speaker encoders: coqui's files with their settings, parts of XTTS, and Resemblyzer's."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.cli import main
from jaxvoice.dsp import MelConfig, PowerMelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.speaker_encoder import FAMILY, PRESETS, LSTMConfig, build
from jaxvoice.models.speaker_encoder.weights import dtypes, encoder_shapes
from jaxvoice.pipelines.program_export import export_program
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.released import mels
from tests.models.speaker_encoder.small import GE2E, LSTM_SMALL, SMALL, random_encoder
from tests.reference import golden

STACKED = dataclasses.replace(LSTM_SMALL, network=LSTMConfig(hidden=10, layers=2, dim=12, projection=False))
NOISE = np.random.default_rng(0).normal(size=4000).astype(np.float32)


def weights(config, salt=0):
    """The arrays of an encoder with weights of the formula and its buffers, as tensors of torch."""
    buffers = named_arrays(build_buffers(config))
    types = dtypes(encoder_shapes(config))
    found = {}
    for name, shape in encoder_shapes(config).items():
        if name.startswith("torch_spec"):
            found[name] = np.asarray(buffers[name])
        else:
            found[name] = golden.tensor(name, shape, "int64" if name in types else "float32", salt)
    return {name: torch.from_numpy(np.array(array)) for name, array in found.items()}


def build_buffers(config):
    from jaxvoice.models.speaker_encoder.front_end import front_end

    return {"torch_spec": front_end(config)}


def settings(config, **audio):
    """coqui's settings of a small encoder."""
    mel, network = config.mel, config.network
    params = {"proj_dim": network.dim, "input_dim": mel.num_mels, "use_torch_spec": True}
    if hasattr(network, "log_input"):
        params |= {"model_name": "resnet", "log_input": True}
    stated = {"fft_size": 512, "win_length": 400, "hop_length": 160, "sample_rate": 16000, "preemphasis": 0.97}
    stated |= {"num_mels": mel.num_mels, "do_rms_norm": True, "db_level": -27.0}
    return {"model_params": params, "audio": {**stated, **audio}, "loss": "angleproto"}


def bundle(folder, state, table=None, name="model_se.pth"):
    """A file as coqui writes it, with the state of training."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    criterion = {"w": torch.tensor(10.0), "b": torch.tensor(-5.0)}
    torch.save({"model": state, "optimizer": optimizer, "criterion": criterion, "step": 7, "loss": 0.5}, folder / name)
    if table is not None:
        (folder / "config_se.json").write_text(json.dumps(table), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("config", [SMALL, LSTM_SMALL, STACKED, GE2E, *PRESETS.values()])
def test_shapes_are_those_of_the_network(config):
    arrays = named_arrays(eqx.filter_eval_shape(build, config, key=jax.random.key(0)))
    assert encoder_shapes(config) == {name: array.shape for name, array in arrays.items()}
    types = {name: array.dtype for name, array in arrays.items() if array.dtype != np.float32}
    assert dtypes(arrays) == types


@pytest.mark.parametrize("config", [SMALL, LSTM_SMALL, STACKED], ids=["resnet", "lstm", "stacked"])
def test_coqui_files_are_imported_and_exported(config, tmp_path):
    state = weights(config)
    path = bundle(tmp_path, state, settings(config))
    # The configuration of the synthesiser in the same bundle is not that of the encoder.
    (tmp_path / "config.json").write_text(json.dumps({"model": "vits", "audio": {"sample_rate": 22050}}))
    summary = jaxvoice.import_model(path, tmp_path / "model")
    assert summary.family == "speaker_encoder" and not summary.info["missing"]
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    assert encoder.config == config
    found = named_arrays(encoder.network)
    assert set(found) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)
    assert summary.info["config"] == "config_se.json"
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "config.json").write_text('{"model": "vits"}')
    jaxvoice.export_model(tmp_path / "model", tmp_path / "to" / "model_se.pth")
    again = torch.load(tmp_path / "to" / "model_se.pth", weights_only=True)["model"]
    assert list(again) == list(state)
    assert all(again[name].dtype == one.dtype and torch.equal(again[name], one) for name, one in state.items())
    written = json.loads((tmp_path / "to" / "config_se.json").read_text())
    assert written["audio"].items() >= {"sample_rate": 16000, "do_rms_norm": True, "db_level": -27.0}.items()
    assert json.loads((tmp_path / "to" / "config.json").read_text()) == {"model": "vits"}
    assert jaxvoice.compare(tmp_path / "model", tmp_path / "to" / "model_se.pth").same
    assert jaxvoice.import_model(tmp_path / "to" / "model_se.pth", tmp_path / "second").info["assumed"] == []
    assert jaxvoice.SpeakerEncoder.load(tmp_path / "second").config == config


def test_edited_sample_rate_is_detected_from_the_filterbank(tmp_path):
    path = bundle(tmp_path, weights(SMALL), settings(SMALL, sample_rate=22050, do_rms_norm=False, do_trim_silence=True))
    summary = jaxvoice.import_model(path, tmp_path / "model")
    config = jaxvoice.SpeakerEncoder.load(tmp_path / "model").config
    assert config == dataclasses.replace(SMALL, level=None)
    trimmed, note = summary.info["assumed"]
    assert "do_trim_silence" in trimmed
    assert note.startswith("a sample rate of 16000 Hz, that of the stored filterbank; the configuration states 22050")


def test_sample_rate_of_another_filterbank_is_kept(tmp_path):
    config = dataclasses.replace(SMALL, mel=PowerMelConfig(22050, num_mels=20, window="hann", preemphasis=0.9))
    path = bundle(tmp_path, weights(config), settings(config, sample_rate=22050))
    summary = jaxvoice.import_model(path, tmp_path / "model")
    assert jaxvoice.SpeakerEncoder.load(tmp_path / "model").config == config
    assert not summary.info["assumed"]


def test_unknown_front_ends_raise_errors(tmp_path):
    state = weights(SMALL)
    state["torch_spec.1.mel_scale.fb"] = 0.5 * state["torch_spec.1.mel_scale.fb"]
    with pytest.raises(CheckpointError, match=r"mel_scale.fb in model_se.pth is not a filterbank of torchaudio"):
        jaxvoice.import_model(bundle(tmp_path, state, settings(SMALL)), tmp_path / "model")
    state = weights(SMALL)
    state["torch_spec.1.spectrogram.window"] = torch.ones(400)
    with pytest.raises(CheckpointError, match="neither a Hamming nor a Hann window"):
        jaxvoice.import_model(bundle(tmp_path, state, settings(SMALL)), tmp_path / "model")


def test_settings_that_contradict_the_tensors_raise_errors(tmp_path):
    table = settings(SMALL)
    table["model_params"]["proj_dim"] = 13
    path = bundle(tmp_path, weights(SMALL), table)
    with pytest.raises(CheckpointError, match=r"proj_dim in config_se.json is 13, but the tensors .* have 12"):
        jaxvoice.import_model(path, tmp_path / "model")


def test_encoders_of_mels_need_settings(tmp_path):
    config = dataclasses.replace(LSTM_SMALL, mel=mels(20))
    path = bundle(tmp_path, weights(config))
    with pytest.raises(ConfigError, match=r"pass its config_se.json with --config"):
        jaxvoice.import_model(path, tmp_path / "model")
    audio = {"fft_size": 1024, "win_length": 1024, "hop_length": 256, "sample_rate": 16000, "num_mels": 20}
    audio |= {"mel_fmin": 0.0, "mel_fmax": 8000.0, "preemphasis": 0.98, "do_rms_norm": True, "db_level": -20}
    (tmp_path / "se.json").write_text(json.dumps({"model_params": {"model_name": "lstm"}, "audio": audio}))
    jaxvoice.import_model(path, tmp_path / "model", config=tmp_path / "se.json")
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    mel = encoder.config.mel
    assert isinstance(mel, MelConfig) and (mel.num_mels, mel.preemphasis, mel.hop_length) == (20, 0.98, 256)
    assert encoder.config.level == -20
    assert encoder.embed(np.tile(NOISE, 5), 16000).shape == (12,)


def test_part_of_another_model_is_imported_on_request(tmp_path):
    state = weights(SMALL)
    inside = {f"hifigan_decoder.speaker_encoder.{name}": tensor for name, tensor in state.items()}
    torch.save({"model": {"gpt.mel_head.bias": torch.zeros(3), **inside}}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of a known family"):
        jaxvoice.import_model(tmp_path / "model.pth", tmp_path / "model")
    summary = jaxvoice.import_model(tmp_path / "model.pth", tmp_path / "model", family="speaker_encoder")
    assert "the logarithm of the input, as in the release: there is no configuration" in summary.info["assumed"]
    assert list(summary.info["ignored"]) == ["model.gpt.mel_head.bias"]
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    assert encoder.config == dataclasses.replace(SMALL, level=None)
    np.testing.assert_array_equal(encoder.network.fc.weight, state["fc.weight"].numpy())


def test_resemblyzer_files_are_imported_and_exported(tmp_path):
    config = dataclasses.replace(GE2E, mel=dataclasses.replace(GE2E.mel, padding="zeros"), level=-30.0, only_raise=True)
    state = weights(config)
    loss = {"similarity_weight": torch.tensor([10.0]), "similarity_bias": torch.tensor([-5.0])}
    torch.save(
        {"step": 5, "model_state": {**state, **loss}, "optimizer_state": {"x": torch.zeros(1)}}, tmp_path / "p.pt"
    )
    summary = jaxvoice.import_model(tmp_path / "p.pt", tmp_path / "model")
    assert "Apache" in summary.info["licence"]
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    assert encoder.config == config
    np.testing.assert_array_equal(encoder.network.lstm.bias_hh_l1, state["lstm.bias_hh_l1"].numpy())
    (tmp_path / "to").mkdir()
    jaxvoice.export_model(tmp_path / "model", tmp_path / "to" / "pretrained.pt")
    again = torch.load(tmp_path / "to" / "pretrained.pt", weights_only=True)["model_state"]
    assert list(again) == list(state) and all(torch.equal(again[name], one) for name, one in state.items())
    jaxvoice.import_model(tmp_path / "to" / "pretrained.pt", tmp_path / "second")
    assert jaxvoice.SpeakerEncoder.load(tmp_path / "second").config == config


def test_exports_keep_the_settings_of_the_same_encoder_only(tmp_path):
    path = bundle(tmp_path, weights(SMALL), settings(SMALL))
    jaxvoice.import_model(path, tmp_path / "model")
    before = (tmp_path / "config_se.json").read_text()
    jaxvoice.export_model(tmp_path / "model", tmp_path / "again.pth")
    assert (tmp_path / "config_se.json").read_text() == before
    (tmp_path / "config_se.json").write_text(json.dumps(settings(SMALL, do_rms_norm=False)))
    with pytest.raises(
        CheckpointError, match=r"config_se.json is .* of another model \(level: None != -27.0\). Export"
    ):
        jaxvoice.export_model(tmp_path / "model", tmp_path / "third.pth")
    table = settings(SMALL)
    table["model_params"]["proj_dim"] = 13
    (tmp_path / "config_se.json").write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"config_se.json is the configuration of another .*without config_se"):
        jaxvoice.export_model(tmp_path / "model", tmp_path / "third.pth")
    assert not (tmp_path / "third.pth").exists() and not (tmp_path / "config.json").exists()


def test_the_command_line_names_the_configuration_of_an_export(tmp_path, capsys):
    config = dataclasses.replace(LSTM_SMALL, mel=mels(20))
    for model, name in ((config, "config_se.json"), (GE2E, "config.json")):
        folder = tmp_path / name.removesuffix(".json")
        FAMILY.save_network(folder / "model", random_encoder(model), model)
        assert main(["export", str(folder / "model"), "--to", str(folder / "export" / "encoder.pth")]) == 0
        assert f"the configuration is in {folder / 'export' / name}" in "".join(capsys.readouterr().out.split("\n"))
        assert [path.name for path in (folder / "export").glob("*.json")] == [name]
        jaxvoice.import_model(folder / "export" / "encoder.pth", folder / "again")
        assert jaxvoice.SpeakerEncoder.load(folder / "again").config == model


@pytest.mark.parametrize(("config", "key"), [(LSTM_SMALL, "model"), (GE2E, "model_state")], ids=["lstm", "ge2e"])
def test_trained_encoders_are_exported_for_their_implementation(config, key, tmp_path):
    FAMILY.save_network(tmp_path / "model", random_encoder(config), config)
    jaxvoice.export_model(tmp_path / "model", tmp_path / "to" / "encoder.pth")
    found = torch.load(tmp_path / "to" / "encoder.pth", weights_only=True)[key]
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == encoder_shapes(config)
    assert jaxvoice.compare(tmp_path / "model", tmp_path / "to" / "encoder.pth").same


def test_encoders_are_exported_as_programs_of_any_length(tmp_path):
    FAMILY.save_network(tmp_path / "model", random_encoder(LSTM_SMALL), LSTM_SMALL)
    found = export_program(tmp_path / "model", tmp_path / "encoder.jax", "jax", length=5000)
    assert found.inputs == {"audio": (5000,)} and found.outputs == [(12,)]
