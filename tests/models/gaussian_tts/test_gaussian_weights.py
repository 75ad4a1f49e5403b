"""Model folders of text to speech: saved and loaded models are equal, and invalid folders raise an error."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.gaussian_tts import FAMILY, Statistics
from jaxvoice.weights.array_names import named_arrays
from tests.models.gaussian_tts.small import CODES, SMALL, changed, filled, networks, save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("model"), networks()
    state = filled(model.init_state(), seed=3)
    config = dataclasses.replace(SMALL, statistics=Statistics(mel_mean=-4.0, duration_scale=1.25))
    save_model(folder, model, state, config, info={"licence": "CC0"})
    return folder, model, state, config


def copied(saved, tmp_path, **changes) -> None:
    """The saved folder under `tmp_path`, with entries of `config.json` replaced."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    about = json.loads((tmp_path / "config.json").read_text())
    about.update({name: value for name, value in changes.items() if name in about})
    about["config"].update({name: value for name, value in changes.items() if name in about["config"]})
    (tmp_path / "config.json").write_text(json.dumps(about))


def test_loaded_model_equals_the_saved_model(saved):
    folder, model, state, config = saved
    loaded, loaded_config = FAMILY.load_network(folder)
    assert loaded_config == config and loaded_config.statistics.duration_scale == 1.25
    assert loaded.acoustic.upsampling.config == model.acoustic.upsampling.config
    for given, back in ((model, loaded.networks), (state, loaded.batch_norm)):
        assert list(named_arrays(given)) == list(named_arrays(back))
        for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(back), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_model_folder_contains_phonemes_and_attribute_paths(saved):
    from safetensors.numpy import load_file

    about = json.loads((saved[0] / "config.json").read_text())
    assert about["family"] == "gaussian_tts" and about["info"] == {"licence": "CC0"}
    assert about["config"]["codes"] == list(CODES) and about["config"]["mel"]["num_mels"] == 8
    names = set(load_file(saved[0] / "model.safetensors"))
    assert {
        "acoustic.encoder.blocks.0.attention.self_attn.in_proj_weight",
        "acoustic.decoder.blocks.0.conv.shortcut.bias",
        "acoustic.upsampling.log_sigma",
        "batch_norm.postnet.1.running_var",
        "durations.lstm.weight_hh_l1_reverse",
    } <= names


def test_configuration_keeps_the_order_of_phonemes(saved, tmp_path):
    copied(saved, tmp_path, codes=list(reversed(CODES)))
    assert FAMILY.load_network(tmp_path)[1].codes == CODES[::-1]


def test_folders_of_other_families_raise_an_error(saved, tmp_path):
    with pytest.raises(CheckpointError, match="is not a model folder"):
        FAMILY.load_network(tmp_path)
    copied(saved, tmp_path, family="hifigan")
    with pytest.raises(CheckpointError, match="is 'hifigan'; it should be 'gaussian_tts'"):
        FAMILY.load_network(tmp_path)


def test_wrong_sizes_and_truncated_weights_raise_an_error(saved, tmp_path):
    copied(saved, tmp_path, dim=32)
    with pytest.raises(CheckpointError, match=r"! acoustic\.encoder\.embedding"):
        FAMILY.load_network(tmp_path)
    copied(saved, tmp_path, codes=[*CODES, "P99"])
    with pytest.raises(CheckpointError, match="embedding"):
        FAMILY.load_network(tmp_path)
    copied(saved, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        FAMILY.load_network(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("phone_sets", "x", "did you mean 'phone_set'"),
        ("codes", [], "at least one phoneme"),
        ("dim", "wide", r"dim is 'wide'; it should be a whole number"),
        ("decoder", {"mask": "causal"}, "'none', 'block_causal'"),
    ],
)
def test_invalid_configuration_files_raise_an_error(saved, tmp_path, field, value, message):
    copied(saved, tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    about["config"][field] = value
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=message):
        FAMILY.load_network(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: changed(encoder={"kernel_size": 4}), r"EncoderConfig\.kernel_size is 4; it should be odd"),
        (lambda: changed(decoder={"heads": 3}), r"decoder\.heads is 3; it should divide dim, which is 16\. Use 15"),
        (lambda: changed(encoder={"attn_dim": 9}), r"encoder\.heads is 2; it should divide attn_dim, which is 9"),
        (lambda: changed(decoder={"dropout": 1.0}), r"dropout is 1\.0; it should be in \[0, 1\)"),
        (lambda: changed(encoder={"max_phones": 10**9}), r"max_phones is 1000000000; it should be at most"),
        (lambda: changed(durations={"layers": 65}), r"DurationConfig\.layers is 65; it should be at most 64"),
        (lambda: changed(upsampling={"sigma_mode": "wide"}), "'global', 'proportional', 'predicted'"),
        (lambda: changed(statistics={"mel_std": 0.0}), r"mel_std is 0\.0; it should be positive"),
        (
            lambda: dataclasses.replace(SMALL, codes=("A", "B", "A")),
            r"it should contain each phoneme once\. Remove the duplicates of \['A'\]",
        ),
        (lambda: dataclasses.replace(SMALL, codes=("A", "")), "no empty string"),
        (lambda: dataclasses.replace(SMALL, dim=10**6), r"GaussianTTSConfig\.dim is 1000000"),
    ],
)
def test_invalid_sizes_raise_an_error(change, message):
    with pytest.raises(ConfigError, match=message):
        change()


def test_default_mel_contract_is_that_of_waveglow():
    config = dataclasses.replace(SMALL, mel=MelConfig())
    assert config.mel != type(SMALL)(codes=CODES).mel == MelConfig(magnitude_floor=0.0, center=True)
