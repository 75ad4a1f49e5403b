"""Export of RAVE: state dicts that the release loads strictly, with discriminators and windows of losses."""

import dataclasses

import librosa
import numpy as np
import pytest
import torch
from torch import nn

import jaxvoice
from experiments.benchmarks import torch_rave
from jaxvoice.errors import CheckpointError
from jaxvoice.models.rave import FAMILY, preset
from jaxvoice.models.rave.training import RaveTask
from jaxvoice.models.rave.training_tensors import discriminator_shapes, discriminators_of, tables
from jaxvoice.models.rave.warm_start import load_discriminators, save_discriminators
from jaxvoice.models.rave.weights import FilterTaps, rave_dtypes, rave_shapes
from jaxvoice.pipelines import export_model, import_model
from jaxvoice.weights import named_arrays
from jaxvoice.weights.rules import Spec
from tests.models.rave import torch_modules
from tests.models.rave.checkpoints import (
    arrays_of,
    discriminators_with,
    gin_of,
    run_of,
    taps_of,
    tensors_of,
    training_arrays,
    with_components,
)
from tests.models.rave.released import largest_error
from tests.models.rave.small import CONFIGS, SMALL, random_model, with_parts
from tests.models.rave.test_rave_config import RELEASED
from tests.models.rave.test_rave_steps import CONFIG, MODEL
from tests.reference import golden

WITH_DISCRIMINATORS = CONFIGS | {
    "descript": with_parts(
        discriminators={
            "kind": "descript",
            "fft_sizes": (64, 32),
            "spectral_channels": 2,
            "period_channels": (2, 3),
        }
    ),
    "spectral": with_parts(discriminators={"kind": "spectral", "spectral_channels": 2, "scales": 2}),
}


def state_dict(path):
    return torch.load(path, weights_only=True)["state_dict"]


class Distance(nn.Module):
    """The windows of a spectral distance, under the names of the release."""

    def __init__(self, sizes):
        super().__init__()
        self.multiscale_stft = nn.Module()
        self.multiscale_stft.stfts = nn.ModuleList(nn.Module() for _ in sizes)
        for transform, size in zip(self.multiscale_stft.stfts, sizes, strict=True):
            transform.register_buffer("window", torch.hann_window(size))


class ReleasedModel(torch_modules.Model):
    """A model with its discriminators and the windows of its losses."""

    def __init__(self, config, taps, scales=(2048, 1024, 512, 256, 128), multiband_scales=(2048, 1024, 512, 256, 128)):
        super().__init__(config, (taps.prototype, taps.padded))
        self.discriminator = torch_rave.Discriminators(config.discriminators, config.n_channels)
        self.audio_distance = Distance(scales)
        self.multiband_audio_distance = Distance(multiband_scales)


@pytest.mark.parametrize("name", RELEASED)
def test_exports_have_the_tensors_of_the_release(name):
    config, layout = preset(*RELEASED[name]), FAMILY.layouts[0]
    released = {
        tensor["name"]: (tuple(tensor["shape"]), tensor["dtype"])
        for tensor in golden.case_json(f"rave/shapes/rave_{name}")["tensors"]
    }
    shapes = rave_shapes(config, FilterTaps(released["pqmf.h"][0][0], released["pqmf.hk"][0][1]))
    given = {n: Spec(shape, rave_dtypes(shapes).get(n, np.dtype(np.float32))) for n, shape in shapes.items()}
    plan = layout.plan_export(config, layout.export_layout, given, "model.safetensors")
    assert {n: (spec.shape, spec.dtype.name) for n, spec in plan.wanted.items()} == released
    assert "are random" in layout.export_notes(plan)[0]
    # With the discriminators of the release, nothing but windows and sizes is computed.
    given |= {
        n: Spec(shape, np.dtype(np.float32))
        for n, (shape, _) in released.items()
        if n.startswith("discriminator.") and not n.endswith(".window")
    }
    plan = layout.plan_export(config, layout.export_layout, given, "model.safetensors")
    assert {n: (spec.shape, spec.dtype.name) for n, spec in plan.wanted.items()} == released
    assert layout.export_notes(plan) == ()
    assert {n.rpartition(".")[2] for n in plan.missing} <= {"window", "target_size"}
    # The shapes of the tensors determine the discriminators.
    found = discriminators_of({n: shape for n, (shape, _) in released.items()}, config.n_channels)
    if config.discriminators.kind == "descript":  # which has no layers of this capacity
        assert found is not None
        found = dataclasses.replace(found, capacity=config.discriminators.capacity)
    assert found == config.discriminators


@pytest.mark.parametrize("name", WITH_DISCRIMINATORS)
def test_values_survive_import_and_export(name, tmp_path):
    config = WITH_DISCRIMINATORS[name]
    run = run_of(tmp_path, random_model(config), config, training=training_arrays(config))
    summary = import_model(run, tmp_path / "model")
    assert "training best.ckpt: discriminators" in str(summary)
    assert not [n for n in summary.info["ignored"] if "discriminator" in n or "window" in n]
    export_model(tmp_path / "model", tmp_path / "again.ckpt")
    original = {
        n: tensor for n, tensor in state_dict(next(run.rglob("*.ckpt"))).items() if not n.endswith((".pad", ".cache"))
    }
    again = state_dict(tmp_path / "again.ckpt")
    assert set(again) == set(original)
    for tensor, value in original.items():
        assert torch.equal(again[tensor], value) and again[tensor].dtype == value.dtype, tensor
    # The discriminators are the same modules again.
    _, found = FAMILY.load_network(tmp_path / "model")
    networks = load_discriminators(tmp_path / "model", found)
    for tensor, array in named_arrays(networks).items():
        np.testing.assert_array_equal(array, original[f"discriminator.{tensor}"].numpy(), err_msg=tensor)


def test_training_state_is_optional_and_not_read_for_use(tmp_path, capsys):
    run = run_of(tmp_path, random_model(SMALL), SMALL, training=training_arrays(SMALL))
    summary = import_model(run, tmp_path / "plain", training=False)
    assert not (tmp_path / "plain" / "training.safetensors").exists() and "training" not in summary.info
    assert sum("discriminator." in n for n in summary.info["ignored"]) == len(
        discriminator_shapes(SMALL.discriminators, 1)
    )
    export_model(tmp_path / "plain", tmp_path / "random" / "model.ckpt")
    assert "warning: The model folder contains no discriminators" in capsys.readouterr().err
    import_model(run, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "trained" / "model.ckpt")
    assert capsys.readouterr().err == ""
    (tmp_path / "model" / "training.safetensors").write_bytes(b"damaged")
    FAMILY.load_network(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"training\.safetensors"):
        export_model(tmp_path / "model", tmp_path / "damaged" / "model.ckpt")


def test_missing_discriminators_are_initialised_as_in_torch(tmp_path):
    FAMILY.save_network(tmp_path / "model", random_model(SMALL), SMALL)
    for place in ("first", "second"):
        export_model(tmp_path / "model", tmp_path / place / "model.ckpt")
    first, second = (state_dict(tmp_path / place / "model.ckpt") for place in ("first", "second"))
    names = [name for name in first if name.startswith("discriminator.")]
    assert names and all(torch.equal(first[name], second[name]) for name in names)
    kernels = [name for name in names if name.endswith((".weight", ".weight_v"))]
    for name in kernels:
        kernel, layer = first[name], name.rpartition(".")[0]
        bound = kernel[0].numel() ** -0.5
        assert kernel.abs().max() <= bound and first[f"{layer}.bias"].abs().max() <= bound
        if kernel.numel() > 1000:
            # The deviation of a uniform distribution.
            np.testing.assert_allclose(kernel.std().item(), bound / 3**0.5, rtol=0.1)
        if name.endswith("_v"):
            norm = torch.linalg.vector_norm(kernel, dim=tuple(range(1, kernel.ndim)), keepdim=True)
            torch.testing.assert_close(first[f"{layer}.weight_g"], norm)
    assert not torch.equal(first[kernels[0]], first[kernels[5]])


def test_exports_load_strictly_into_torch_and_compute_the_same(tmp_path):
    model = with_components(random_model(SMALL))
    FAMILY.save_network(tmp_path / "model", model, SMALL)
    export_model(tmp_path / "model", tmp_path / "model.ckpt")
    theirs = ReleasedModel(SMALL, taps_of(arrays_of(model))).eval()
    theirs.load_state_dict(state_dict(tmp_path / "model.ckpt"), strict=True)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 24 * SMALL.hop_length).astype(np.float32)
    with torch.no_grad():
        latents = theirs.encode(torch.from_numpy(audio)[None, None])
        expected = theirs.decode(latents)[0, 0].numpy()
    rave = jaxvoice.Rave.load(tmp_path / "model", latent_size=6)
    found = rave.encode(audio, SMALL.sample_rate)
    assert largest_error(found, latents[0].numpy()) < 1e-5
    assert largest_error(rave.decode(found), expected) < 1e-5


@pytest.mark.parametrize("spelling", ["folded", "parametrizations"])
def test_exports_of_other_forms_of_weight_norm_load_strictly(spelling, tmp_path):
    """Exports of the release have no weight norm, and no discriminators."""
    arrays = arrays_of(random_model(SMALL))
    given = torch_modules.folded_arrays(arrays)
    if spelling == "parametrizations":
        parts = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
        given = {
            next((n.replace(old, parts[old]) for old in parts if n.endswith(old)), n): a for n, a in arrays.items()
        }
    torch.save(tensors_of(given), tmp_path / "model.pt")
    (tmp_path / "config.gin").write_text(gin_of(SMALL), encoding="utf-8")
    summary = import_model(tmp_path / "model.pt", tmp_path / "model")
    assert any("weight norm, which the file lacks" in line for line in summary.info["differs"]) == (
        spelling == "folded"
    )
    export_model(tmp_path / "model", tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    theirs = ReleasedModel(SMALL, taps_of(arrays))
    if spelling == "folded":
        theirs.load_state_dict(content, strict=True)
        return
    # The modules of the tests have the earlier names.
    names = {name: name for name in content}
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        names = {name: short.replace(f"parametrizations.weight.{new}", old) for name, short in names.items()}
    assert sum(name != short for name, short in names.items()) > 100
    theirs.load_state_dict({short: content[name] for name, short in names.items()}, strict=True)


def test_models_of_runs_contain_their_discriminators(tmp_path):
    """The folder that a training writes is exported with the discriminators and the scales of the training."""
    task = RaveTask(CONFIG, steps_per_epoch=1)
    model = random_model(MODEL)
    given = training_arrays(MODEL)
    parameters = [name for name in given if name.startswith("discriminator.")]
    state = task.state_of(model.network, model.state, discriminators_with(MODEL, given))
    task.save_model(state, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "model.ckpt")
    exported = state_dict(tmp_path / "model.ckpt")
    for name in parameters:
        np.testing.assert_array_equal(exported[name].numpy(), given[name], err_msg=name)
    theirs = ReleasedModel(MODEL, taps_of(arrays_of(model)), CONFIG.scales, CONFIG.multiband_scales)
    theirs.load_state_dict(exported, strict=True)
    for distance, size in (("audio_distance", 64), ("multiband_audio_distance", 16)):
        window = exported[f"{distance}.multiscale_stft.stfts.0.window"]
        torch.testing.assert_close(window, torch.hann_window(size), rtol=0, atol=1e-6)


def test_discriminators_of_another_structure_are_refused(tmp_path):
    model = random_model(SMALL)
    FAMILY.save_network(tmp_path / "model", model, SMALL)
    given = discriminators_with(MODEL, training_arrays(MODEL))
    save_discriminators(tmp_path / "model", given, CONFIG, step=3)
    with pytest.raises(
        CheckpointError,
        match=r"! discriminator\.discriminators\.0\.layers\.0\.net\.0\.weight_g has shape \(1, 1, 1, 1\)",
    ):
        export_model(tmp_path / "model", tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"the discriminators in .*training\.safetensors"):
        load_discriminators(tmp_path / "model", SMALL)
    # A checkpoint with a wrong name is imported without its discriminators.
    renamed = {n.replace("layers.0.net.0.bias", "layers.0.net.1.bias"): a for n, a in training_arrays(SMALL).items()}
    summary = import_model(run_of(tmp_path, model, SMALL, training=renamed), tmp_path / "again")
    assert any("discriminators in the file differ" in line for line in summary.hints)
    assert not (tmp_path / "again" / "training.safetensors").exists()


def test_tables_of_mel_input_equal_librosa():
    config = CONFIGS["mel"]
    mel, found = config.encoder.mel, tables(config)
    filters = librosa.filters.mel(
        sr=config.sample_rate, n_fft=mel.n_fft, n_mels=mel.num_mels, htk=True, norm=None, dtype=np.float32
    )
    np.testing.assert_allclose(found["spectrogram.mel_scale.fb"], filters.T, atol=1e-6)
    np.testing.assert_allclose(
        found["spectrogram.spectrogram.window"], torch.hann_window(mel.n_fft).numpy(), rtol=0, atol=1e-6
    )


def test_target_size_is_written_from_the_configuration(tmp_path):
    model = random_model(CONFIGS["noise"])
    FAMILY.save_network(tmp_path / "model", model, CONFIGS["noise"])
    export_model(tmp_path / "model", tmp_path / "model.ckpt")
    size = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]["decoder.noise_module.target_size"]
    assert size.dtype == torch.int64 and size.shape == () and size == 4
