"""Files of RAVE that are damaged, contradict each other, or that a model of this library cannot represent."""

import dataclasses

import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.rave import FAMILY, NoiseConfig
from jaxvoice.models.rave.released_layers import DecoderShape
from jaxvoice.pipelines import import_model
from tests.models.rave import torch_modules
from tests.models.rave.checkpoints import arrays_of, gin_of, run_of, taps_of, tensors_of, training_arrays
from tests.models.rave.small import CONFIGS, SMALL, random_model


def with_gin(folder, config=SMALL, **changes):
    """A run whose `config.gin` has changed bindings, whose names have `__` in the place of dots."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return run_of(folder, random_model(config), config, gin=gin_of(config, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SAMPLING_RATE": "1e999"}, r"RAVE.sampling_rate in .*config.gin is inf; it should be a whole number"),
        ({"SAMPLING_RATE": "'fast'"}, r"RAVE.sampling_rate in .*config.gin is 'fast'"),
        ({"SAMPLING_RATE": 0}, "sample_rate is 0; it should be positive"),
        ({"pqmf__CachedPQMF__attenuation": 10**400}, "attenuation in .* is a number of 1329 bits"),
        ({"pqmf__CachedPQMF__attenuation": "'high'"}, "attenuation in .* is 'high'; it should be a number"),
        ({"pqmf__CachedPQMF__attenuation": 1e6}, "attenuation is 1000000.0; it should be from 30 to 300"),
        ({"pqmf__CachedPQMF__attenuation": 7}, "attenuation is 7.0; it should be from 30 to 300"),
        ({"model__RAVE__n_channels": 1.5}, "n_channels in .* is 1.5; it should be a whole number"),
        ({"model__RAVE__input_mode": 3}, "input_mode in .* is 3; it should be one of 'pqmf', 'raw', 'mel'"),
        (
            {"model__RAVE__encoder": "@blocks.MyEncoder"},
            "RAVE.encoder in .* is 'blocks.MyEncoder'; it should be",
        ),
        (
            {"blocks__EncoderV2__activation": "@nn.ReLU"},
            "EncoderV2.activation in .* is '@nn.ReLU'; it should",
        ),
        ({"blocks__Encoder__sample_norm": True}, "Encoder.sample_norm in .* is True; it should be False"),
        ({"blocks__EncoderV2__dilations": [[1, 2**40], [1]]}, "hold positive numbers, at most 1048576"),
    ],
)
def test_settings_that_no_model_has_raise_an_error(changes, message, tmp_path):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        import_model(with_gin(tmp_path, **changes), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_snake_in_the_configuration_is_decided_by_the_tensors(tmp_path):
    run = with_gin(tmp_path, blocks__EncoderV2__activation="@blocks.Snake", blocks__GeneratorV2__activation=None)
    import_model(run, tmp_path / "model")
    assert not FAMILY.load_network(tmp_path / "model")[1].encoder.snake


def test_sample_rates_in_exports_that_are_none_are_not_read(tmp_path):
    tensors = tensors_of(arrays_of(random_model(SMALL)))
    for number, rate in enumerate((float("nan"), float("inf"), 1e30, -1.0, 22050.5)):
        torch.save({**tensors, "sampling_rate": torch.tensor(rate)}, tmp_path / "x.pt")
        summary = import_model(tmp_path / "x.pt", tmp_path / str(number))
        assert any("a sample rate of 44100 Hz" in line for line in summary.info["assumed"])
    torch.save({**tensors, "sampling_rate": torch.tensor(22050.0)}, tmp_path / "x.pt")
    summary = import_model(tmp_path / "x.pt", tmp_path / "model")
    assert FAMILY.load_network(tmp_path / "model")[1].sample_rate == 22050
    # The rate of an export with a resampler may be that of the host.
    torch.save({**tensors, "sr": torch.tensor(48000), "resampler.up.weight": torch.ones(2)}, tmp_path / "x.pt")
    summary = import_model(tmp_path / "x.pt", tmp_path / "resampled")
    assert any("48000 Hz, which the export states: it contains a resampler" in line for line in summary.info["assumed"])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_export_beside_the_configuration_of_another_model_raises_an_error(tmp_path):
    arrays = arrays_of(random_model(SMALL))
    module = torch_modules.Model(SMALL, (taps_of(arrays).prototype, taps_of(arrays).padded), folded=True)
    torch_modules.load(module, torch_modules.folded_arrays(arrays))
    torch.jit.save(torch.jit.script(module), tmp_path / "model.ts")
    others = {
        "get_padding.mode is 'causal' in .* but the code of model.ts has 'centered'": {
            "cc.get_padding.mode": "'causal'"
        },
        r"EncoderV2.dilations is \[\(1, 5\), \(1,\)\] in .* but the code": {
            "blocks.EncoderV2.dilations": [[1, 5], [1]]
        },
        "RAVE.sampling_rate is 48000 in .* but the attributes of model.ts have 16000": {"SAMPLING_RATE": 48000},
    }
    for message, changes in others.items():
        (tmp_path / "config.gin").write_text(gin_of(SMALL, **changes), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            import_model(tmp_path / "model.ts", tmp_path / "model")
    (tmp_path / "config.gin").write_text(gin_of(SMALL), encoding="utf-8")
    summary = import_model(tmp_path / "model.ts", tmp_path / "model")
    found = FAMILY.load_network(tmp_path / "model")[1]
    assert found == dataclasses.replace(SMALL, discriminators=found.discriminators) and not summary.info["assumed"]


def test_strides_of_the_noise_of_v1(tmp_path):
    config = CONFIGS["v1"]
    tensors = tensors_of(arrays_of(random_model(config)))
    size, given = "decoder.synth.branches.2.target_size", tmp_path / "x.pt"
    for wrong in (-4, 0, 3):
        torch.save({**tensors, size: torch.tensor(wrong)}, given)
        with pytest.raises(CheckpointError, match=f"target_size in x.pt is {wrong}; it should be the 2-th power"):
            import_model(given, tmp_path / "model")
    torch.save(tensors, given)
    summary = import_model(given, tmp_path / "assumed")
    assert "the largest strides of the noise branch that the ratios allow" in summary.info["assumed"]
    for name, ratios in (("blocks.NoiseGenerator.ratios", [4, 1]), ("NoiseGenerator.ratios", [1, 2])):
        (tmp_path / "config.gin").write_text(gin_of(config, **{name: ratios}), encoding="utf-8")
        import_model(given, tmp_path / str(ratios))
        assert FAMILY.load_network(tmp_path / str(ratios))[1].generator.noise.ratios == tuple(ratios)
    torch.save({**tensors, size: torch.tensor(4)}, given)
    with pytest.raises(CheckpointError, match=r"NoiseGenerator.ratios is \[1, 2\] in .*2 convolutions for 4 samples"):
        import_model(given, tmp_path / "model")


def test_mel_filters_of_another_sample_rate_raise_an_error(tmp_path):
    config = CONFIGS["mel"]
    tensors = tensors_of(arrays_of(random_model(config)) | training_arrays(config))
    torch.save({"state_dict": tensors}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"mel_scale.fb in x.ckpt contains other mel filters .* 44100 Hz"):
        import_model(tmp_path / "x.ckpt", tmp_path / "model", config=gin_file(tmp_path, config, SAMPLING_RATE=44100))
    import_model(tmp_path / "x.ckpt", tmp_path / "model", config=gin_file(tmp_path, config))
    options = {"config": gin_file(tmp_path, config, SAMPLING_RATE=44100), "ignore": [r".*mel_scale\.fb"]}
    import_model(tmp_path / "x.ckpt", tmp_path / "ignored", **options)


def gin_file(folder, config, **changes):
    (folder / "given.gin").write_text(gin_of(config, **changes), encoding="utf-8")
    return folder / "given.gin"


def test_strides_of_large_ratios_are_found_at_once():
    """Without a search through all numbers up to their product."""
    shape = DecoderShape("v1", 4, 1, (2**29, 2**30, 3 * 2**20, 2**31 - 1), (), False, False, 0, 1, [(5, 1, 3)] * 3)
    assert shape.noise_config(1, None, "x") == NoiseConfig((2**26,) * 3, 5, None)


@pytest.mark.parametrize("lacking", ["encoder.encoder.net.0.weight_v", "decoder.net.1.alpha"])
def test_moving_averages_are_complete_or_an_error(lacking, tmp_path):
    """A part of the average with the rest of the weights would be another model."""
    config = CONFIGS["v3"]
    arrays = {n: a for n, a in arrays_of(random_model(config, seed=1)).items() if "weight_" in n or "alpha" in n}
    run = run_of(tmp_path, random_model(config), config, EMA=tensors_of(arrays))
    import_model(run, tmp_path / "model", part="EMA")
    del arrays[lacking]
    run = run_of(tmp_path / "part", random_model(config), config, EMA=tensors_of(arrays))
    with pytest.raises(CheckpointError, match=f"lacks 1 weights of the model, for example {lacking}"):
        import_model(run, tmp_path / "other", part="EMA")


def test_kernels_of_zeros_without_weight_norm_are_silent(tmp_path):
    arrays = torch_modules.folded_arrays(arrays_of(random_model(SMALL)))
    kernel = arrays["encoder.encoder.net.0.weight"]
    kernel[1], kernel[2] = 0, kernel[2] * np.float32(1e-30)
    torch.save(tensors_of(arrays), tmp_path / "x.pt")
    (tmp_path / "config.gin").write_text(gin_of(SMALL), encoding="utf-8")
    import_model(tmp_path / "x.pt", tmp_path / "model")
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 640).astype(np.float32)
    found = jaxvoice.Rave.load(tmp_path / "model").transfer(audio, SMALL.sample_rate)
    assert np.isfinite(found).all()
    model, _ = FAMILY.load_network(tmp_path / "model")
    np.testing.assert_allclose(model.network.encoder.encoder.net[0].kernel(), kernel, rtol=1e-6, atol=1e-37)
