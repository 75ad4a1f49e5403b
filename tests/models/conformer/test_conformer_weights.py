"""Import of NeMo's files and export to the same names; the result is compared with torch."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
import yaml

import jaxvoice
from jaxvoice.dsp import bucketed_nemo_log_mel
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.conformer import FAMILY, content_identity, preset
from jaxvoice.models.conformer.weights import conformer_shapes
from jaxvoice.weights import named_arrays
from tests.models.conformer.nemo_files import FRONT_END, settings, write_nemo
from tests.models.conformer.small import SMALL
from tests.reference import conformer_torch

AUDIO = (0.1 * np.random.default_rng(0).normal(size=7000)).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return conformer_torch.recogniser(SMALL)


def expected_features(reference, release):
    mel = bucketed_nemo_log_mel(AUDIO, SMALL.mel, release=release)
    with torch.no_grad():
        return reference.encoder(torch.from_numpy(mel.T)).numpy().T


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(preset("large"), classes=129)], ids=["small", "large"])
def test_shapes_match_the_network(config):
    network = eqx.filter_eval_shape(FAMILY.build, config, key=jax.random.key(0))
    assert conformer_shapes(config) == {name: array.shape for name, array in named_arrays(network).items()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_nemo_files_give_the_features_of_torch_and_are_exported_again(reference, mode, tmp_path):
    state = reference.state_dict()
    path = write_nemo(tmp_path / "model.nemo", state | FRONT_END, settings(), mode)
    report = jaxvoice.import_model(path, tmp_path / "model")
    assert report.family == "conformer" and set(report.info["ignored"]) == set(FRONT_END)
    assert report.info["assumed"] == ["the padding of NeMo 2.4 and earlier: the configuration was written by 1.8.1"]
    model = jaxvoice.load(tmp_path / "model")
    assert model.config == dataclasses.replace(SMALL, nemo_release="1.7")
    np.testing.assert_allclose(model.encode(AUDIO), expected_features(reference, "1.7"), atol=1e-5)
    jaxvoice.export_model(tmp_path / "model", tmp_path / "back" / "model.ckpt")
    back = torch.load(tmp_path / "back" / "model.ckpt", weights_only=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in state.items())
    conformer_torch.Recogniser(SMALL).load_state_dict(back)
    # The configuration beside the export has everything that its import needs.
    jaxvoice.import_model(tmp_path / "back" / "model.ckpt", tmp_path / "again")
    assert jaxvoice.load(tmp_path / "again").config == model.config
    assert jaxvoice.load(tmp_path / "again").identity == model.identity


def test_padding_follows_the_release_that_wrote_the_file(reference, tmp_path):
    for version, release in (("2.6.0rc0", "2.6"), ("2.4.1", "1.7"), ("2.5.0", "2.6"), (None, "2.6")):
        config = settings() | {"nemo_version": version}
        path = write_nemo(tmp_path / f"{version}.nemo", reference.state_dict(), config)
        report = jaxvoice.import_model(path, tmp_path / f"to {version}")
        model = jaxvoice.load(tmp_path / f"to {version}")
        assert model.config.nemo_release == release and len(report.info["assumed"]) == 1
    np.testing.assert_allclose(model.encode(AUDIO), expected_features(reference, "2.6"), atol=1e-5)


def test_state_dicts_of_the_encoder_alone_are_imported_and_exported(tmp_path):
    config = dataclasses.replace(SMALL, mel=dataclasses.replace(SMALL.mel, num_mels=80), classes=None, symbols=())
    encoder = conformer_torch.recogniser(config).encoder
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    report = jaxvoice.import_model(tmp_path / "encoder.pt", tmp_path / "model")
    assert "there is no configuration" in report.info["assumed"][0]
    assert jaxvoice.load(tmp_path / "model").config == config
    jaxvoice.export_model(tmp_path / "model", tmp_path / "back" / "encoder.pt")
    back = torch.load(tmp_path / "back" / "encoder.pt", weights_only=True)
    assert back.keys() == encoder.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in encoder.state_dict().items())


def test_checkpoints_of_lightning_are_imported_without_the_state_of_training(reference, tmp_path):
    state = reference.state_dict()
    training = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0], "lr": 0.1}]}
    content = {"epoch": 3, "global_step": 7, "state_dict": dict(state), "optimizer_states": [training]}
    torch.save(content, tmp_path / "last.ckpt")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": settings()}), encoding="utf-8")
    report = jaxvoice.import_model(tmp_path / "last.ckpt", tmp_path / "model")
    assert jaxvoice.load(tmp_path / "model").config.symbols == SMALL.symbols
    assert set(report.info["ignored"].values()) == {"state of training"}
    jaxvoice.export_model(tmp_path / "model", tmp_path / "back" / "last.ckpt")
    back = torch.load(tmp_path / "back" / "last.ckpt", weights_only=True)["state_dict"]
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in back)


def test_the_networks_of_a_transducer_are_ignored_with_a_note(reference, tmp_path):
    state = {name: tensor for name, tensor in reference.state_dict().items() if name.startswith("encoder.")}
    others = {"decoder.prediction.embed.weight": torch.rand(5, 4), "joint.pred.weight": torch.rand(4, 4)}
    path = write_nemo(tmp_path / "model.nemo", state | others, settings())
    report = jaxvoice.import_model(path, tmp_path / "model")
    assert set(report.info["ignored"]) == set(others)
    assert all("transducer" in reason for reason in report.info["ignored"].values())
    model = jaxvoice.load(tmp_path / "model")
    assert model.config.classes is None
    with pytest.raises(ConfigError, match="cannot recognise symbols, because the model has no recogniser"):
        model.recognise(AUDIO)


def test_the_ctc_decoder_of_a_hybrid_model_is_imported(reference, tmp_path):
    state = {name.replace("decoder.", "ctc_decoder."): tensor for name, tensor in reference.state_dict().items()}
    config = settings()
    config["aux_ctc"] = {"decoder": config.pop("decoder")}
    path = write_nemo(tmp_path / "model.nemo", state | {"joint.pred.weight": torch.rand(4, 4)}, config)
    jaxvoice.import_model(path, tmp_path / "model")
    assert jaxvoice.load(tmp_path / "model").config.symbols == SMALL.symbols
    jaxvoice.export_model(tmp_path / "model", tmp_path / "back" / "model.ckpt")
    assert torch.load(tmp_path / "back" / "model.ckpt", weights_only=True).keys() == state.keys()


def test_symbols_that_do_not_match_the_classes_are_unknown(reference, tmp_path):
    config = settings()
    config["decoder"]["vocabulary"] = ["a", "b"]
    path = write_nemo(tmp_path / "model.nemo", reference.state_dict(), config)
    report = jaxvoice.import_model(path, tmp_path / "model")
    assert "unknown symbols of the recogniser: 2 symbols for 5 classes" in report.info["assumed"]
    with pytest.raises(ConfigError, match="because its symbols are unknown"):
        jaxvoice.load(tmp_path / "model").recognise(AUDIO)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("subsampling", "dw_striding"),
        ("subsampling", "vggnet"),
        ("subsampling_factor", 8),
        ("causal_downsampling", True),
        ("self_attention_model", "rel_pos_local_attn"),
        ("att_context_size", [70, 13]),
        ("att_context_size", [[70, 13], [70, 0]]),
        ("att_context_style", "chunked_limited"),
        ("untie_biases", False),
        ("use_bias", False),
        ("conv_norm_type", "layer_norm"),
        ("conv_context_size", "causal"),
        ("reduction", "pooling"),
        ("feat_out", 640),
    ],
)
def test_unsupported_options_of_the_encoder_raise_an_error(reference, option, value, tmp_path):
    path = write_nemo(tmp_path / "model.nemo", reference.state_dict(), settings(**{option: value}))
    with pytest.raises(ConfigError, match=rf"encoder\.{option} is .*; it should be "):
        jaxvoice.import_model(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("normalize", "all_features"), ("normalize", None), ("window", "hamming"), ("log", False), ("frame_splicing", 2)],
)
def test_unsupported_options_of_the_front_end_raise_an_error(reference, option, value, tmp_path):
    config = settings()
    config["preprocessor"][option] = value
    path = write_nemo(tmp_path / "model.nemo", reference.state_dict(), config)
    with pytest.raises(ConfigError, match=rf"preprocessor\.{option} is .*; it should be "):
        jaxvoice.import_model(path, tmp_path / "model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": 1e308}, r"preprocessor\.window_size is 1e\+308"),
        ({"window_size": 1e-9}, r"preprocessor\.n_window_size is 0"),
        ({"sample_rate": 10**9}, "sample_rate"),
        ({"features": 10**9}, "num_mels"),
        ({"highfreq": 9000}, "fmax"),
        ({"preemph": 2.0}, "preemphasis is 2.0"),
        ({"log_zero_guard_value": "tiny"}, r"preprocessor\.log_zero_guard_value is 'tiny'"),
    ],
)
def test_impossible_front_ends_raise_an_error(reference, options, message, tmp_path):
    config = settings(feat_in=options.get("features", 20))
    config["preprocessor"] |= options
    path = write_nemo(tmp_path / "model.nemo", reference.state_dict(), config)
    with pytest.raises(ConfigError, match=message):
        jaxvoice.import_model(path, tmp_path / "model")


def test_settings_of_the_front_end_are_those_of_the_file(reference, tmp_path):
    config = settings()
    config["preprocessor"] |= {"preemph": None, "window_size": 0.02, "lowfreq": 60.0, "highfreq": 7600, "n_fft": None}
    jaxvoice.import_model(write_nemo(tmp_path / "model.nemo", reference.state_dict(), config), tmp_path / "model")
    mel = dataclasses.replace(SMALL.mel, preemphasis=0.0, win_length=320, fmin=60.0, fmax=7600.0)
    assert jaxvoice.load(tmp_path / "model").config.mel == mel


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": 3}, r"encoder\.n_layers gives layers=3 in model_config\.yaml in model\.nemo, .* have layers=2"),
        ({"n_heads": 4}, r"encoder\.n_heads gives heads=4"),
        ({"conv_kernel_size": 7}, r"encoder\.conv_kernel_size gives kernel_size=7"),
        ({"ff_expansion_factor": 4}, r"encoder\.ff_expansion_factor gives feed_forward=32"),
        ({"feat_in": 40}, r"encoder\.feat_in is 40 and preprocessor\.features is 20"),
    ],
)
def test_a_configuration_of_another_model_raises_an_error(reference, options, message, tmp_path):
    path = write_nemo(tmp_path / "model.nemo", reference.state_dict(), settings(**options))
    with pytest.raises((CheckpointError, ConfigError), match=message):
        jaxvoice.import_model(path, tmp_path / "model")


def test_other_encoders_raise_an_error(reference, tmp_path):
    state = dict(reference.state_dict())
    fast = state | {"encoder.pre_encode.conv.3.weight": torch.rand(6, 6, 1, 1)}
    torch.save(fast, tmp_path / "fast.pt")
    with pytest.raises(CheckpointError, match="Fast Conformer"):
        jaxvoice.import_model(tmp_path / "fast.pt", tmp_path / "model")
    del state["encoder.layers.0.self_attn.pos_bias_u"]
    torch.save(state, tmp_path / "tied.pt")
    with pytest.raises(CheckpointError, match=r"pos_bias_u.* is missing in .*with relative positions"):
        jaxvoice.import_model(tmp_path / "tied.pt", tmp_path / "model")
    path = write_nemo(tmp_path / "mel.nemo", reference.state_dict(), settings(feat_in=24))
    with pytest.raises(ConfigError, match="feat_in is 24"):
        jaxvoice.import_model(path, tmp_path / "model")


def test_damaged_tensors_raise_an_error(reference, tmp_path):
    state = dict(reference.state_dict())
    state["encoder.layers.1.conv.batch_norm.num_batches_tracked"] = torch.tensor(2**40)
    path = write_nemo(tmp_path / "model.nemo", state, settings())
    with pytest.raises(CheckpointError, match=r"num_batches_tracked.* contains 1099511627776"):
        jaxvoice.import_model(path, tmp_path / "model")
    del state["encoder.layers.1.conv.batch_norm.running_mean"]
    path = write_nemo(tmp_path / "model2.nemo", state, settings())
    with pytest.raises(CheckpointError, match=r"- encoder\.layers\.1\.conv\.batch_norm\.running_mean"):
        jaxvoice.import_model(path, tmp_path / "model")


def test_identity_depends_on_the_encoder_only():
    network = FAMILY.build(SMALL, key=jax.random.key(0))
    arrays = named_arrays(network)
    first = content_identity(arrays, SMALL)
    assert first == content_identity({name: np.asarray(array) for name, array in arrays.items()}, SMALL)
    assert len(first) == 64

    def changed(name):
        return {**arrays, name: arrays[name] + 1}

    assert content_identity(changed("encoder.layers.0.conv.batch_norm.running_mean"), SMALL) != first
    assert content_identity(changed("encoder.pre_encode.out.bias"), SMALL) != first
    assert content_identity(changed("decoder.decoder_layers.0.bias"), SMALL) == first
    assert content_identity(arrays, dataclasses.replace(SMALL, dropout=0.3, classes=None, symbols=())) == first
    assert content_identity(arrays, dataclasses.replace(SMALL, nemo_release="1.7")) != first
    assert content_identity(arrays, dataclasses.replace(SMALL, xscaling=False)) != first
    with pytest.raises(CheckpointError, match=r"running_mean.* is missing"):
        content_identity(
            {k: v for k, v in arrays.items() if not k.endswith("layers.0.conv.batch_norm.running_mean")}, SMALL
        )


def test_config_of_an_export_is_that_of_nemo(tmp_path):
    FAMILY.save_network(tmp_path / "model", FAMILY.build(SMALL, key=jax.random.key(0)), SMALL)
    jaxvoice.export_model(tmp_path / "model", tmp_path / "out" / "model.ckpt")
    table = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    expected = settings()
    for part in ("encoder", "decoder"):
        for name, value in table[part].items():
            assert expected[part].get(name, value) == value, name
    state = torch.load(tmp_path / "out" / "model.ckpt", weights_only=True)
    conformer_torch.Recogniser(SMALL).load_state_dict(state)
