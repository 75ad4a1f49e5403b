"""Import of RAVE: runs of the release, exports, names of earlier versions, and what is refused."""

import dataclasses
import json
import os

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

import jaxvoice
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.rave import (
    FAMILY,
    PRESETS,
    RaveConfig,
    preset,
)
from jaxvoice.models.rave.released_layout import _version
from jaxvoice.models.rave.weights import rave_dtypes, rave_shapes, target_sizes
from jaxvoice.pipelines import import_model
from jaxvoice.torchscript import function
from jaxvoice.weights import named_arrays, open_archive
from tests.models.rave import torch_modules
from tests.models.rave.checkpoints import (
    MERGED,
    arrays_of,
    build,
    checkpoint,
    gin_of,
    run_of,
    taps_of,
    tensors_of,
    with_components,
)
from tests.models.rave.released import channels_first, channels_last, config_of, largest_error
from tests.models.rave.small import CONFIGS, SMALL, random_model, with_parts
from tests.reference import golden


def assert_same(folder, model):
    with open_archive(folder / "model.safetensors") as archive:
        expected = arrays_of(model)
        assert set(archive.tensors) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(archive.tensors[name], array, err_msg=name)


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_equal_those_of_the_network(name):
    arrays = named_arrays(eqx.filter_eval_shape(build, CONFIGS[name]), merged=MERGED)
    shapes = rave_shapes(CONFIGS[name], taps_of(arrays))
    assert shapes == {name: array.shape for name, array in arrays.items()}
    whole = {name for name, array in arrays.items() if np.issubdtype(array.dtype, np.integer)}
    assert set(rave_dtypes(shapes)) == whole


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_of_presets_equal_those_of_the_network(name):
    arrays = named_arrays(eqx.filter_eval_shape(build, PRESETS[name]), merged=MERGED)
    shapes = rave_shapes(PRESETS[name], taps_of(arrays))
    assert shapes == {name: array.shape for name, array in arrays.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_runs_are_imported(name, tmp_path):
    config, model = CONFIGS[name], random_model(CONFIGS[name])
    summary = import_model(run_of(tmp_path, model, config), tmp_path / "model")
    assert summary.family == "rave" and summary.info["source"] == "best.ckpt"
    _, found = FAMILY.load_network(tmp_path / "model")
    assert found == dataclasses.replace(config, discriminators=found.discriminators)
    assert found.discriminators.kind == config.discriminators.kind
    assert summary.info["assumed"] == []
    assert_same(tmp_path / "model", model)
    ignored = summary.info["ignored"]
    assert ignored["state_dict.discriminator.layers.0.weight"] == "only for training"
    assert "streaming" in ignored["state_dict.decoder.net.2.cache"]
    assert any("discriminators" in line for line in summary.hints)
    assert not (tmp_path / "model" / "training.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["other dilations", pytest.param("raw output", marks=pytest.mark.slow)])
def test_archive_and_its_import_compute_the_same(name, tmp_path):
    changed = with_parts(encoder={"dilations": ((2, 5), (4,))}, generator={"dilations": ((3, 2), (7,))})
    config = CONFIGS.get(name, changed)
    model = with_components(random_model(config))
    arrays = arrays_of(model)
    taps = taps_of(arrays)
    module = torch_modules.Model(config, (taps.prototype, taps.padded), folded=True)
    torch_modules.load(module, torch_modules.folded_arrays(arrays))
    torch.jit.save(torch.jit.script(module), tmp_path / "model.ts")
    summary = import_model(tmp_path / "model.ts", tmp_path / "model")
    # The code of the archive contains the dilations.
    assert not any("dilations" in line for line in summary.info["assumed"])
    rave = jaxvoice.Rave.load(tmp_path / "model", latent_size=6)
    assert rave.config.encoder == config.encoder and rave.config.generator == config.generator
    assert rave.sample_rate == config.sample_rate
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 24 * config.hop_length).astype(np.float32)
    with open_archive(tmp_path / "model.ts") as archive:
        encode, decode = function(archive, method="encode"), function(archive, method="decode")
        latents = jax.jit(encode)(encode.weights, audio[None, None])
        decoded = jax.jit(decode)(decode.weights, latents)
    found = rave.encode(audio, config.sample_rate)
    assert largest_error(found, latents[0]) < 1e-4
    assert largest_error(rave.decode(found), decoded[0, 0]) < 1e-4


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("padding", ["centered", "causal"])
def test_padding_of_exports_is_read(padding, streaming, tmp_path):
    arrays = arrays_of(random_model(SMALL))
    taps = taps_of(arrays)
    config = dataclasses.replace(SMALL, padding=padding)
    module = torch_modules.Model(config, (taps.prototype, taps.padded), folded=True)
    torch_modules.load(module, torch_modules.folded_arrays(arrays))
    if streaming:
        module = torch_modules.with_caches(module)
    torch.jit.save(torch.jit.script(module), tmp_path / "model.ts")
    summary = import_model(tmp_path / "model.ts", tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["config"]["padding"] == padding
    assert not any("padding" in line for line in summary.info["assumed"])


def test_all_spellings_of_weight_norm_are_read(tmp_path):
    model = random_model(SMALL)
    arrays = arrays_of(model)
    parts = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    spelt = {}
    for name, array in arrays.items():
        layer, _, last = name.rpartition(".")
        spelt[f"{layer}.{parts[last]}" if last in parts else name] = array
    torch.save(tensors_of(spelt), tmp_path / "new.pt")
    (tmp_path / "config.gin").write_text(gin_of(SMALL), encoding="utf-8")
    import_model(tmp_path / "new.pt", tmp_path / "new")
    assert_same(tmp_path / "new", model)
    folded = torch_modules.folded_arrays(arrays)
    torch.save(tensors_of(folded), tmp_path / "folded.pt")
    import_model(tmp_path / "folded.pt", tmp_path / "folded")
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 640).astype(np.float32)
    both = [jaxvoice.Rave.load(tmp_path / name).transfer(audio, SMALL.sample_rate) for name in ("new", "folded")]
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)


def test_indices_of_earlier_versions_are_mapped_by_order(tmp_path):
    model = random_model(CONFIGS["v3"])
    arrays = arrays_of(model)
    moved = {}
    for name, array in arrays.items():
        head, _, rest = name.partition("decoder.net.")
        index, _, part = rest.partition(".")
        moved[f"decoder.net.{int(index) + (2 if int(index) > 3 else 0)}.{part}" if rest and not head else name] = array
    assert set(moved) != set(arrays)
    torch.save({"state_dict": tensors_of(moved)}, tmp_path / "old.ckpt")
    (tmp_path / "config.gin").write_text(gin_of(CONFIGS["v3"]), encoding="utf-8")
    summary = import_model(tmp_path / "old.ckpt", tmp_path / "model")
    assert_same(tmp_path / "model", model)
    assert any("indices differ" in line for line in summary.info["differs"])


def test_moving_average_of_the_weights_is_imported_as_a_part(tmp_path):
    model, average = random_model(SMALL), random_model(SMALL, seed=1)
    parameters = {n: torch.from_numpy(np.array(a)) for n, a in arrays_of(average).items() if "weight_" in n}
    run = run_of(tmp_path, model, SMALL, EMA=parameters)
    import_model(run, tmp_path / "plain")
    assert_same(tmp_path / "plain", model)
    import_model(run, tmp_path / "average", part="EMA")
    with open_archive(tmp_path / "average" / "model.safetensors") as archive:
        for name, array in parameters.items():
            np.testing.assert_array_equal(archive.tensors[name], array.numpy())
    other = run_of(tmp_path / "other", model, SMALL)
    with pytest.raises(CheckpointError, match="contains no moving average of the weights: its training did not use"):
        import_model(other, tmp_path / "none", part="EMA")


def test_newest_checkpoint_of_a_run_is_imported(tmp_path):
    first, last = random_model(SMALL), random_model(SMALL, seed=1)
    run = run_of(tmp_path, first, SMALL)
    newest = run / "version_1" / "checkpoints" / "epoch.ckpt"
    newest.parent.mkdir(parents=True)
    torch.save(checkpoint(arrays_of(last)), newest)
    os.utime(run / "version_0" / "checkpoints" / "best.ckpt", (1, 1))
    assert import_model(run, tmp_path / "model").info["source"] == "epoch.ckpt"
    assert_same(tmp_path / "model", last)
    (run / "version_1" / "checkpoints" / "epoch.ckpt").unlink()
    (run / "version_0" / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match="a folder that no layout recognises"):
        import_model(run, tmp_path / "none")


def test_settings_of_earlier_configurations_are_read(tmp_path):
    config = CONFIGS["raw output"]
    earlier = {"model.RAVE.input_mode": None, "model.RAVE.output_mode": None}
    earlier |= {"model.RAVE.enable_pqmf_encode": True, "model.RAVE.enable_pqmf_decode": False}
    gin = gin_of(config, **earlier)
    import_model(run_of(tmp_path, random_model(config), config, gin=gin), tmp_path / "model")
    assert FAMILY.load_network(tmp_path / "model")[1].generator.output == "raw"
    mel = CONFIGS["mel"]
    gin = gin_of(mel, **{"model.RAVE.input_mode": None, "model.RAVE.is_mel_input": True})
    import_model(run_of(tmp_path / "mel", random_model(mel), mel, gin=gin), tmp_path / "of_mel")
    assert FAMILY.load_network(tmp_path / "of_mel")[1].encoder.mel == mel.encoder.mel


@pytest.mark.parametrize("channels", [None, 0])
def test_missing_number_of_channels_follows_from_the_weights(channels, tmp_path):
    config = CONFIGS["stereo"]
    run = run_of(tmp_path, random_model(config), config, gin=gin_of(config, **{"model.RAVE.n_channels": channels}))
    import_model(run, tmp_path / "model")
    assert FAMILY.load_network(tmp_path / "model")[1].n_channels == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.EncoderV2.capacity": 5}, "EncoderV2.capacity is 5 in .*config.gin, but the tensors .* have 4"),
        ({"blocks.GeneratorV2.ratios": [4, 1]}, r"GeneratorV2.ratios is \[4, 1\] in .* have \[2, 2\]"),
        ({"model.RAVE.latent_size": 7}, "RAVE.latent_size is 7 in .* have 6"),
        ({"pqmf.CachedPQMF.n_band": 8}, "CachedPQMF.n_band is 8 in .* have 4"),
        ({"model.RAVE.output_mode": "'raw'"}, "they should have the same hop length"),
        ({"model.RAVE.n_channels": 2}, "they should have the same hop length with n_channels=2"),
        ({"blocks.EncoderV2.dilations": [[1], [1]]}, r"EncoderV2.dilations is \[\[1\], \[1\]\]"),
        ({"cc.get_padding.mode": "'left'"}, "get_padding.mode in .* is 'left'; it should be 'centered' or 'causal'"),
        ({"model.RAVE.encoder": "@blocks.SphericalEncoder"}, "output channels of the encoder"),
        ({"x": "["}, "config.gin, line .* balanced brackets"),
    ],
)
def test_configurations_that_contradict_the_weights_raise_an_error(changes, message, tmp_path):
    run = run_of(tmp_path, random_model(SMALL), SMALL, gin=gin_of(SMALL, **changes))
    with pytest.raises((CheckpointError, ConfigError), match=message):
        import_model(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_configuration_is_passed_with_an_option(tmp_path):
    torch.save({"state_dict": checkpoint(arrays_of(random_model(SMALL)))["state_dict"]}, tmp_path / "model.ckpt")
    (tmp_path / "other").mkdir()
    causal = dataclasses.replace(SMALL, padding="causal")
    (tmp_path / "other" / "my.gin").write_text(gin_of(causal), encoding="utf-8")
    import_model(tmp_path / "model.ckpt", tmp_path / "model", config=tmp_path / "other" / "my.gin")
    assert FAMILY.load_network(tmp_path / "model")[1].padding == "causal"
    (tmp_path / "wrong.json").write_text('{"num_mels": 80}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not the configuration of a RAVE; pass the config\.gin"):
        import_model(tmp_path / "model.ckpt", tmp_path / "again", config=tmp_path / "wrong.json")


def test_version_1_is_refused(tmp_path):
    names = {"encoder.net.0.weight": (4, 4, 7), "decoder.net.0.weight": (4, 4, 7), "pqmf.h": (9,), "pqmf.hk": (4, 16)}
    torch.save({"state_dict": {name: torch.zeros(shape) for name, shape in names.items()}}, tmp_path / "v1.ckpt")
    with pytest.raises(CheckpointError, match=r"v1\.ckpt is a RAVE of version 1, whose layers have other names"):
        import_model(tmp_path / "v1.ckpt", tmp_path / "model")


def test_damaged_checkpoints_raise_an_error(tmp_path):
    arrays = arrays_of(random_model(SMALL))
    run = run_of(tmp_path, random_model(SMALL), SMALL)
    file = next(run.rglob("*.ckpt"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        import_model(run, tmp_path / "model")

    def with_change(**changes):
        changed = {n: a for n, a in {**arrays, **changes}.items() if a is not None}
        torch.save(tensors_of(changed), tmp_path / "x.pt")
        return tmp_path / "x.pt"

    first = "encoder.encoder.net.0.weight_v"
    with pytest.raises(CheckpointError, match=r"- latent_pca"):
        import_model(with_change(latent_pca=None), tmp_path / "model")
    with pytest.raises(CheckpointError, match="contains 1 values that are NaN or infinite"):
        broken = arrays[first].copy()
        broken[0, 0, 0] = np.nan
        import_model(with_change(**{first: broken}), tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"kernel of shape \(4, 4\); it should have three axes"):
        import_model(with_change(**{first: arrays[first][..., 0]}), tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"layers of the kinds .* in another order or number"):
        import_model(with_change(**{"decoder.net.2.weight_v": np.zeros((5, 3, 2), np.float32)}), tmp_path / "model")
    missing = import_model(
        with_change(latent_pca=None, **{n: None for n in arrays if n.startswith("pqmf.h")}),
        tmp_path / "allowed",
        allow_missing=["latent_pca", r"pqmf\..*"],
        config=_config_file(tmp_path),
    )
    assert set(missing.info["missing"]) == {"latent_pca", "pqmf.h", "pqmf.hk"}
    with open_archive(tmp_path / "allowed" / "model.safetensors") as archive:
        np.testing.assert_allclose(archive.tensors["pqmf.hk"], arrays["pqmf.hk"], atol=1e-7)


def _config_file(folder):
    path = folder / "given.gin"
    path.write_text(gin_of(SMALL), encoding="utf-8")
    return path


def test_config_of_a_whole_preset_follows_from_shapes():
    """The configuration of every preset follows from its shapes alone, up to what shapes do not determine."""
    from jaxvoice.models.rave.released_config import released_config

    for name, config in PRESETS.items():
        arrays = named_arrays(eqx.filter_eval_shape(build, config), merged=MERGED)
        found = released_config({n: a.shape for n, a in arrays.items()}, None, name).config
        assert found == dataclasses.replace(config, discriminators=found.discriminators), name
        assert isinstance(found, RaveConfig)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("v1", "v2_nopqmf_snake", "v2_small")]
)
def test_checkpoints_with_golden_weights_decode_to_golden_audio(name, tmp_path):
    case, config = golden.case(f"rave/{name}"), config_of(name)
    arrays = dict(case.state_dict()) | {n: np.asarray(size, np.int64) for n, size in target_sizes(config).items()}
    arrays["latent_mean"] = np.zeros(config.bottleneck.latent_size, np.float32)
    torch.save(checkpoint(arrays), tmp_path / "model.ckpt")
    initial = [
        r"pqmf\..*",
        "latent_pca",
        "fidelity",
        "receptive_field",
        r".*\.warmed_up",
    ]
    import_model(tmp_path / "model.ckpt", tmp_path / "model", allow_missing=initial)
    model, found = FAMILY.load_network(tmp_path / "model")
    assert found == dataclasses.replace(config, discriminators=found.discriminators)
    z = channels_last(case["z"])
    uniform = case.arrays.get("noise_dec_0_uniform")
    noise = None if uniform is None or name == "v1" else jnp.asarray(2 * uniform - 1)
    decoded = eqx.filter_jit(lambda m, z: m.network.decode(z, m.state, noise=noise, inference=True)[0])(model, z)
    assert largest_error(channels_first(decoded), case["y"]) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_compare_runs_checkpoints_archives_and_models(tmp_path):
    model = random_model()
    arrays = arrays_of(model)
    taps = taps_of(arrays)
    import_model(run_of(tmp_path, model, SMALL), tmp_path / "model")
    module = torch_modules.Model(SMALL, (taps.prototype, taps.padded), folded=True)
    torch_modules.load(module, torch_modules.folded_arrays(arrays))
    torch.jit.save(torch.jit.script(module), tmp_path / "model.ts")
    checkpoints = tmp_path / "run" / "version_0" / "checkpoints" / "best.ckpt"
    for file, layers in ((checkpoints, 80), (tmp_path / "model.ts", 50)):
        found = jaxvoice.compare(file, tmp_path / "model")
        assert found.diverging is None and len(found.layers) > layers and found.layers[-1].name == "output"
        # A file also contains what the model does not need.
        assert all(row.distance is None or row.distance.relative < 1e-5 for row in found.weights)


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        (("v2",), "v2"),
        (("v2_nopqmf", "snake"), "v2_nopqmf with snake"),
        (("v2", "noise", "snake"), "v2 with snake and noise"),
        (("v2", "wasserstein"), "wasserstein"),
    ],
)
def test_version_names_the_preset_and_its_additions(arguments, version):
    config = dataclasses.replace(preset(*arguments), sample_rate=48000)
    assert _version(config) == version
    assert _version(SMALL) == "v2 of capacity 4, variational"
