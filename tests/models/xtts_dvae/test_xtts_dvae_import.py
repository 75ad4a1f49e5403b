"""Import and export of `dvae.pth`, with the statistics of mel bands beside it, in it, or without them."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts_dvae import FAMILY, CodecNetwork
from jaxvoice.weights import named_arrays
from tests.models.xtts.bundles import STATISTICS, dvae_state, training_state
from tests.models.xtts_dvae.small import SMALL, VOCODER


def arrays_of(folder):
    network, config = FAMILY.load_network(folder)
    assert config == SMALL
    return named_arrays(network, merged=("dvae",))


def expected(statistics):
    return {name: tensor.numpy() for name, tensor in dvae_state().items()} | {"mel_stats": statistics}


def assert_equal(found, arrays):
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("nested", [False, True])
def test_autoencoders_are_imported_with_the_statistics_beside_them(tmp_path, nested):
    state = dvae_state() | {"discrete_loss.accumulator": torch.ones(3)}
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(2)}}} if nested else state, tmp_path / "dvae.pth")
    torch.save(torch.from_numpy(STATISTICS), tmp_path / "mel_stats.pth")
    summary = jaxvoice.import_model(tmp_path, tmp_path / "model")
    assert summary.family == "xtts_dvae" and summary.version == "16 codes" and not summary.info["assumed"]
    assert summary.info["licence"].startswith("Coqui Public Model License")
    assert_equal(arrays_of(tmp_path / "model"), expected(STATISTICS))
    assert "mel_stats.pth" in (tmp_path / "model" / "report.md").read_text(encoding="utf-8")


def test_missing_statistics_are_an_assumption(tmp_path):
    torch.save(dvae_state(), tmp_path / "dvae.pth")
    summary = jaxvoice.import_model(tmp_path / "dvae.pth", tmp_path / "model")
    (assumed,) = summary.info["assumed"]
    assert "statistics of mel bands of 1: there is no mel_stats.pth" in assumed
    assert_equal(arrays_of(tmp_path / "model"), expected(np.ones(10, np.float32)))


def test_autoencoders_in_checkpoints_of_a_training_are_imported_on_request(tmp_path):
    torch.save({"model": training_state()}, tmp_path / "best_model.pth")
    jaxvoice.import_model(tmp_path / "best_model.pth", tmp_path / "model", family="xtts_dvae")
    assert_equal(arrays_of(tmp_path / "model"), expected(STATISTICS))


def test_settings_of_another_model_beside_the_file_are_not_read(tmp_path):
    torch.save(dvae_state(), tmp_path / "dvae.pth")
    (tmp_path / "config.json").write_text(json.dumps({"model": "xtts", "model_args": {}}), encoding="utf-8")
    jaxvoice.import_model(tmp_path / "dvae.pth", tmp_path / "model")
    assert arrays_of(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("decoder.4.bias"), r"decoder\.4\.bias"),
        (lambda state: state.update({"codebook.embed": torch.ones(16, 6)}), r"codebook\.embed"),
        (lambda state: state.update({"encoder.0.0.weight": torch.ones(3)}), r"encoder\.0\.0\.weight has shape \(3,\)"),
        (lambda state: state.update({"encoder.9.weight": torch.ones(3)}), r"encoder\.9\.weight"),
        (lambda state: state["decoder.0.bias"].fill_(np.inf), r"decoder\.0\.bias contains 16 values"),
    ],
)
def test_wrong_tensors_raise_errors(tmp_path, change, message):
    state = dvae_state()
    change(state)
    torch.save(state, tmp_path / "dvae.pth")
    with pytest.raises(CheckpointError, match=message):
        jaxvoice.import_model(tmp_path / "dvae.pth", tmp_path / "model")


def test_exports_are_those_of_the_release(tmp_path):
    torch.save(dvae_state(), tmp_path / "dvae.pth")
    torch.save(torch.from_numpy(STATISTICS), tmp_path / "mel_stats.pth")
    jaxvoice.import_model(tmp_path / "dvae.pth", tmp_path / "model")
    jaxvoice.export_model(tmp_path / "model", tmp_path / "out" / "dvae.pth")
    again = torch.load(tmp_path / "out" / "dvae.pth", weights_only=True)
    assert again.keys() == dvae_state().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in dvae_state().items())
    statistics = torch.load(tmp_path / "out" / "mel_stats.pth", weights_only=True)
    np.testing.assert_array_equal(statistics, STATISTICS)
    jaxvoice.import_model(tmp_path / "out" / "dvae.pth", tmp_path / "again")
    assert_equal(arrays_of(tmp_path / "again"), expected(STATISTICS))
    about = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert about["info"]["licence"].startswith("Coqui Public Model License")
    torch.save(torch.from_numpy(2 * STATISTICS), tmp_path / "out" / "mel_stats.pth")
    with pytest.raises(CheckpointError, match=r"mel_stats\.pth contains the statistics of another model"):
        jaxvoice.export_model(tmp_path / "model", tmp_path / "out" / "other.pth")
    assert not (tmp_path / "out" / "other.pth").exists()


def test_export_of_a_codec_leaves_out_its_vocoder(tmp_path):
    torch.save(dvae_state(), tmp_path / "dvae.pth")
    torch.save(torch.from_numpy(STATISTICS), tmp_path / "mel_stats.pth")
    jaxvoice.import_model(tmp_path / "dvae.pth", tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    config = replace(config, vocoder=VOCODER)
    codec = CodecNetwork(config, key=jax.random.key(0))
    parts = network.dvae, network.mel_stats
    FAMILY.save_network(tmp_path / "codec", eqx.tree_at(lambda n: (n.dvae, n.mel_stats), codec, parts), config)
    jaxvoice.export_model(tmp_path / "codec", tmp_path / "out" / "dvae.pth")
    again = torch.load(tmp_path / "out" / "dvae.pth", weights_only=True)
    assert again.keys() == dvae_state().keys()
    jaxvoice.import_model(tmp_path / "out" / "dvae.pth", tmp_path / "again")
    assert_equal(arrays_of(tmp_path / "again"), expected(STATISTICS))
