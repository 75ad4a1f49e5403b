"""Imported torch checkpoints give the same audio as torch; damaged ones raise and leave no files."""

import errno
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from experiments.benchmarks.torch_hifigan import PRESETS, Generator, arrays_of
from jaxvoice.dsp import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError, MelError
from jaxvoice.models.hifigan.config import LatentConfig
from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
from jaxvoice.pipelines import HiFiGANVocoder
from jaxvoice.pipelines.importing import import_model
from tests.models.hifigan import released
from tests.models.hifigan.released import CONDITIONED, CONFIG, COQUI_CONFIG, generator, state, under, write


def heard(folder, channels=80, cond=None):
    """The audio of the vocoder in `folder` for a random mel."""
    frames = np.random.default_rng(0).normal(-5, 1, (channels, 9)).astype(np.float32)
    return frames, HiFiGANVocoder.load(folder).synthesize(frames, cond, check=False)


@torch.no_grad()
def reference(model: torch.nn.Module, frames, cond=None):
    condition = () if cond is None else (torch.from_numpy(cond)[None, :, None],)
    return model(torch.from_numpy(frames)[None], *condition)[0, 0].numpy()


def assert_same_sound(folder, model, channels=80, cond=None):
    frames, ours = heard(folder, channels, cond)
    theirs = reference(model, frames, cond)
    assert np.abs(ours - theirs).max() < 1e-5 * max(1, np.abs(theirs).max())
    assert np.abs(theirs).max() > 1e-3


def about(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


@pytest.fixture
def to(tmp_path):
    return tmp_path / "models" / "out"


def assert_import_raises(source, to, match, error=CheckpointError, **options):
    """Check that the import raises and leaves no files; returns the message."""
    with pytest.raises(error, match=match) as caught:
        import_model(source, to, **options)
    assert not to.exists()
    assert not to.parent.exists() or list(to.parent.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize(
    "layout",
    ["hooks", "parametrizations", "folded", "bare", "module", "half", "shuffled"],
)
def test_imported_jik876_files_equal_torch(tmp_path, to, layout):
    model = generator()
    tensors = state(model)
    if layout == "parametrizations":
        tensors = released.spelt(tensors, layout)
    elif layout == "folded":
        tensors = released.folded(generator())
    elif layout == "module":
        tensors = under("module.", tensors)
    elif layout == "half":
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    elif layout == "shuffled":
        tensors = dict(sorted(tensors.items(), key=lambda pair: hash(pair[0][::-1])))
    source = write(tmp_path / "g_00000010", tensors if layout == "bare" else {"generator": tensors}, CONFIG)
    report = import_model(source, to)
    assert_same_sound(to, model)
    info = about(to)["info"]
    assert info["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert info["licence"].startswith("unknown") and info["origin"] == "jik876/hifi-gan"
    assert report.tensors == 69 and info["assumed"] == []
    text = (to / "report.md").read_text(encoding="utf-8")
    assert info["sha256"] in text
    assert ("norm was removed" in text) == (layout == "folded")
    assert ("float16 to float32" in text) == (layout == "half")
    assert {array.dtype for array in load_file(to / "model.safetensors").values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", PRESETS)
def test_released_sizes_are_recognised_without_a_configuration(tmp_path, to, name):
    shapes = Generator(**PRESETS[name]).state_dict()
    source = write(tmp_path / "g_02500000", {"generator": {n: torch.ones(t.shape) for n, t in shapes.items()}})
    report = import_model(source, to)
    assert report.version == name.upper()
    assert about(to)["config"]["mel"]["fmax"] == 8000.0
    assert [line.split(" ")[0] for line in report.info["assumed"]] == [
        "upsample_rates",
        "resblock_dilation_sizes",
        "mel",
    ]
    assert "8000 Hz" in str(report)


@pytest.mark.parametrize("layout", ["new", "old", "with its configuration inside"])
def test_coqui_vocoders_keep_their_mel_contract_in_decibels(tmp_path, to, layout):
    model = generator()
    tensors = released.spelt(state(model), "hooks" if layout == "old" else "parametrizations")
    content = {"step": 7, "optimizer": [{"state": {0: {"exp_avg": torch.ones(2)}}}]}
    if layout == "old":
        content |= {"model": tensors, "model_disc": {"mpd.x": torch.ones(2)}}
    else:
        disc = {"model_d.mpd.discriminators.0.convs.0.bias": torch.ones(3)}
        content |= {"model": under("model_g.", tensors) | disc}
    inside = layout == "with its configuration inside"
    if inside:
        content["config"] = COQUI_CONFIG
    source = write(tmp_path / "checkpoint_7.pth", content, None if inside else COQUI_CONFIG)
    import_model(source, to)
    assert_same_sound(to, model)
    mel = HiFiGANVocoder.load(to).mel
    assert mel == MelConfig(
        fmin=50.0, fmax=7600.0, magnitude_floor=0.0, center=True, log="log10", gain=1.6, offset=2.4, clip=(-4.0, 4.0)
    )
    assert set(about(to)["info"]["ignored"].values()) == {
        "state of an optimiser: only training needs it",
        "discriminator: only training needs it",
    }


def test_coqui_files_without_configuration_raise(tmp_path, to):
    source = write(tmp_path / "model.pth", {"model": under("model_g.", state(generator()))})
    assert "--config" in assert_import_raises(source, to, "mel contract of .* is unknown")


VITS = {
    "model": "vits",
    "audio": {"sample_rate": 16000, "hop_length": 256},
    "model_args": {
        "hidden_channels": 12,
        "resblock_type_decoder": "2",
        "upsample_rates_decoder": [8, 8, 4],
        "upsample_kernel_sizes_decoder": [16, 16, 8],
        "upsample_initial_channel_decoder": 16,
        "resblock_kernel_sizes_decoder": [3, 5, 7],
        "resblock_dilation_sizes_decoder": [[1, 2], [2, 6], [3, 12]],
    },
}


@pytest.fixture
def vits(tmp_path):
    model = generator(**CONDITIONED)
    decoder = under("waveform_decoder.", released.spelt(state(model), "parametrizations"))
    others = {"text_encoder.emb.weight": torch.ones(3, 2), "flow.0.weight_g": torch.ones(2)}
    return model, write(tmp_path / "model.pth", {"model": {**others, **decoder}}, VITS)


def test_generators_inside_larger_models_read_latents(vits, to):
    model, source = vits
    report = import_model(source, to, part="waveform_decoder")
    cond = np.linspace(-1, 1, 5).astype(np.float32)
    assert_same_sound(to, model, channels=12, cond=cond)
    vocoder = HiFiGANVocoder.load(to)
    assert vocoder.config.mel == LatentConfig(16000, 256, 12) and vocoder.sample_rate == 16000
    assert report.info["ignored"] == {
        "model.text_encoder.emb.weight": "outside model.waveform_decoder",
        "model.flow.0.weight_g": "outside model.waveform_decoder",
    }
    with pytest.raises(ConfigError, match="reads latents with 12 channels"):
        vocoder.resynthesize(np.zeros(4000, np.float32), 16000, cond=cond)
    with pytest.raises(ConfigError, match="reads latents"):
        vocoder.log_mel(np.zeros(4000, np.float32), 16000)
    with pytest.raises(MelError, match=r"\(12, frames\).*Transpose"):
        vocoder.synthesize(np.zeros((9, 12), np.float32), cond)
    with pytest.raises(MelError, match="NaN"):
        vocoder.synthesize(np.full((12, 3), np.nan, np.float32), cond)
    latents = np.random.default_rng(1).normal(size=(12, 40)).astype(np.float32)
    streamed = np.concatenate(list(vocoder.stream([latents[:, :7], latents[:, 7:]], cond)))
    np.testing.assert_allclose(streamed, vocoder.synthesize(latents, cond), atol=1e-5)
    with pytest.raises(ConfigError, match="conditioning vectors"):
        TrainingConfig(vocoder.config)
    generator = replace(vocoder.config.generator, cond_channels=0, cond_in_each_stage=False)
    with pytest.raises(ConfigError, match="cannot be computed from recordings"):
        HiFiGANTask(TrainingConfig(replace(vocoder.config, generator=generator)), steps_per_epoch=1)


def test_larger_models_need_a_part(vits, to):
    _, source = vits
    message = assert_import_raises(source, to, "Use --part waveform_decoder to import this part only")
    assert "+ model.text_encoder.emb.weight (3, 2)" in message
    message = assert_import_raises(source, to, "--part decoder matches no generator", part="decoder")
    assert message.endswith("The generators in the file are model.waveform_decoder.")


def test_xtts_decoders_are_recognised_by_their_path(tmp_path, to):
    model = generator(**{**CONDITIONED, "in_channels": 1024}, cond_in_each_up_layer=True)
    tensors = under("hifigan_decoder.waveform_decoder.", released.spelt(state(model), "parametrizations"))
    source = write(tmp_path / "model.pth", {"model": {**tensors, "gpt.wte.weight": torch.ones(3)}})
    report = import_model(source, to, part="waveform_decoder")
    assert_same_sound(to, model, channels=1024, cond=np.linspace(-1, 1, 5).astype(np.float32))
    assert about(to)["config"]["mel"] == {"sample_rate": 24000, "hop_length": 256, "channels": 1024}
    assert "24000 Hz" in report.info["assumed"][-1] and "Coqui Public Model" in report.info["licence"]


def test_original_vits_names_of_conditions_are_converted(tmp_path, to):
    model = generator(**CONDITIONED)
    tensors = {name.replace("cond_layer", "cond"): tensor for name, tensor in state(model).items()}
    settings = {
        "data": {"sampling_rate": 22050, "hop_length": 256},
        "model": {**{k: v for k, v in CONFIG.items() if k in released.SMALL}, "inter_channels": 12, "gin_channels": 5},
    }
    source = write(tmp_path / "G_10.pth", {"model": under("dec.", tensors), "iteration": 1}, settings)
    import_model(source, to, part="dec")
    assert_same_sound(to, model, channels=12, cond=np.linspace(-1, 1, 5).astype(np.float32))


@pytest.mark.parametrize("inside", [{"project": "unlike any"}, {"model_args": {"decoder_input_dim": 7}}])
def test_known_configurations_inside_the_file_are_used(tmp_path, to, inside):
    model = generator(**{**CONDITIONED, "in_channels": 1024})
    tensors = under("waveform_decoder.", state(model))
    source = write(tmp_path / "model.pth", {"config": inside, "model": tensors})
    if "model_args" in inside:
        assert_import_raises(
            source, to, "in_channels: 7 in the XTTS configuration, 1024 according to the tensors", ConfigError
        )
    else:
        assert "24000 Hz" in import_model(source, to).info["assumed"][-1]


def test_several_generators_are_listed(tmp_path, to):
    tensors = state(generator())
    source = write(tmp_path / "both.pth", {"generator": tensors, "average": {"net": state(generator(1))}}, CONFIG)
    assert_import_raises(source, to, "several generators: generator, average.net; choose one with --part")
    import_model(source, to, part="net")
    assert_same_sound(to, generator(1))


def changed(**how):
    """The tensors of a `g_` file with one error."""
    tensors = state(generator())
    for key, value in how.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        elif isinstance(value, str):
            tensors[value] = tensors.pop(name)
        else:
            tensors[name] = value(tensors.get(name))
    return {"generator": tensors}


@pytest.mark.parametrize("config", [CONFIG, None])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (changed(conv_pre__bias=None), r"- conv_pre\.bias \(16,\)"),
        (changed(conv_post__bias=None), r"- conv_post\.bias \(1,\)"),
        (changed(ups__1__weight_g=None), r"- ups\.1\.weight_g"),
        (changed(resblocks__5__convs__1__weight_v=None), r"- resblocks\.5\.convs\.1\.weight_v \(4, 4, 7\)"),
        (changed(conv_pre__weight_v="conv_pre.weight_w"), r"\+ generator\.conv_pre\.weight_w .*did you mean conv_pre"),
        (changed(conv_pre__bias="conv_pre.bais"), r"\+ generator\.conv_pre\.bais .*did you mean conv_pre\.bias"),
        (
            changed(ups__0__weight_v=lambda w: w.transpose(0, 1)),
            r"! generator\.ups\.0\.weight_v has shape .*transposed",
        ),
        (changed(conv_pre__weight_v=lambda w: w.transpose(0, 1)), r"conv_pre\.weight_v has shape .*transposed"),
        (changed(ups__2__extra=lambda _: torch.ones(2)), r"\+ generator\.ups\.2\.extra \(2,\)"),
        (changed(conv_pre__bias=lambda b: b * torch.nan), r"generator\.conv_pre\.bias contains 16 values that are NaN"),
        (changed(conv_pre__bias=lambda b: b.long()), r"conv_pre\.bias has dtype int64"),
        (changed(conv_pre__weight=lambda _: torch.ones(16, 80, 7)), r"a duplicate of"),
        ({**changed(), "stray": torch.ones(2)}, r"\+ stray \(2,\)"),
    ],
)
def test_damaged_checkpoints_raise_and_create_no_folder(tmp_path, to, content, line, config):
    assert_import_raises(write(tmp_path / "g_00000001", content, config), to, line)


def test_swapped_norm_and_direction_raise(tmp_path, to):
    tensors = state(generator())
    tensors["conv_pre.weight_g"], tensors["conv_pre.weight_v"] = (
        tensors["conv_pre.weight_v"],
        tensors["conv_pre.weight_g"],
    )
    assert_import_raises(
        write(tmp_path / "g_1", {"generator": tensors}, CONFIG),
        to,
        r"! generator\.conv_pre\.weight_g has shape \(16, 80, 7\)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"upsample_initial_channel": 32},
            "upsample_initial_channel: 32 in the jik876 configuration, 16 according to the tensors",
        ),
        ({"resblock": "1"}, "resblock: '1' in the jik876 configuration, '2' according to the tensors"),
        (
            {"resblock_kernel_sizes": (3, 7, 11)},
            r"resblock_kernel_sizes: .*\(3, 7, 11\) in the .*, \(3, 5, 7\) according to the tensors",
        ),
        ({"num_mels": 100}, "in_channels: 100 in the jik876 configuration, 80 according to the tensors"),
        ({"resblock_dilation_sizes": ((1, 2),)}, "resblock_dilation_sizes"),
        ({"upsample_rates": (8, 8, 2)}, r"product of upsample_rates .* is 128"),
        ({"upsample_rates": (8, 8)}, "upsample_rates"),
    ],
)
def test_configurations_of_other_weights_raise(tmp_path, to, change, message):
    source = write(tmp_path / "g_00000001", {"generator": state(generator())}, {**CONFIG, **change})
    assert_import_raises(source, to, message, ConfigError)


def test_given_configuration_replaces_the_one_beside_the_file(tmp_path, to):
    source = write(tmp_path / "g_00000001", {"generator": state(generator())}, {**CONFIG, "num_mels": 3})
    right = tmp_path / "right.json"
    right.write_text(json.dumps({**CONFIG, "sampling_rate": 16000}), encoding="utf-8")
    import_model(source, to, config=right)
    assert HiFiGANVocoder.load(to).sample_rate == 16000 and about(to)["info"]["config"] == "right.json"
    with pytest.raises(ConfigError, match="nowhere"):
        import_model(source, to.with_name("b"), config=tmp_path / "nowhere.json")


def test_missing_and_ignored_tensors_can_be_allowed(tmp_path, to):
    content = {**changed(conv_pre__bias=None, ups__0__weight_g=None, ups__0__weight_v=None), "stray": torch.ones(2)}
    source = write(tmp_path / "g_1", content, CONFIG)
    options = {"allow_missing": [r"conv_pre\.bias", r"ups\.0\.weight_."], "ignore": ["stray"]}
    report = import_model(source, to, **options)
    assert report.info["missing"] == ["conv_pre.bias", "ups.0.weight_g", "ups.0.weight_v"]
    assert report.info["ignored"] == {"stray": "--ignore stray"} and about(to)["info"]["missing"]
    arrays = load_file(to / "model.safetensors")
    assert 0 < np.abs(arrays["conv_pre.bias"]).max() <= 1 / np.sqrt(80 * 7)
    v = arrays["ups.0.weight_v"]
    np.testing.assert_allclose(
        arrays["ups.0.weight_g"], np.linalg.norm(v.reshape(16, -1), axis=1)[:, None, None], rtol=1e-6
    )
    import_model(source, to.with_name("again"), **options)
    np.testing.assert_array_equal(load_file(to.with_name("again") / "model.safetensors")["ups.0.weight_v"], v)
    assert_import_raises(source, to.with_name("x") / "y", r"- conv_pre\.bias", allow_missing=["bias"], ignore=["stray"])


def test_errors_of_unknown_files_list_the_first_components(tmp_path, to):
    source = write(tmp_path / "x.pth", {"encoder": {"weight": torch.ones(2)}, "step": 3})
    assert_import_raises(
        source,
        to,
        "x.pth is not a checkpoint of a known family: its 1 tensors start with encoder.*looks for a generator",
    )
    assert_import_raises(tmp_path / "none.pth", to, "none.pth")


def test_folders_in_use_raise_and_are_not_changed(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    to.mkdir(parents=True)
    import_model(source, to)
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    assert before.keys() == {"config.json", "model.safetensors", "report.md"}
    with pytest.raises(CheckpointError, match="not empty"):
        import_model(source, to)
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    with pytest.raises(CheckpointError, match="is a file"):
        import_model(source, source)


def test_a_full_disk_is_reported_for_the_new_folder(tmp_path, to, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError) as caught:
        import_model(source, to)
    written = (
        re.escape(str(to)) + r"(/[\w.]+)? cannot be written \(No space left on device\); free disk space or choose"
    )
    assert re.match(written, str(caught.value)) and not to.exists()


def test_report_lists_every_tensor_once(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    import_model(source, to)
    text = (to / "report.md").read_text(encoding="utf-8")
    for name, tensor in state(generator()).items():
        shape = "x".join(map(str, tensor.shape))
        assert text.count(f"| generator.{name} | {name} | {shape} | float32 | as it is |") == 1


def test_imported_weights_equal_the_file(tmp_path, to):
    model = generator(**{**CONDITIONED, "in_channels": 80, "cond_channels": 0})
    source = write(tmp_path / "g_1", {"generator": state(model)}, CONFIG)
    import_model(source, to)
    ours = load_file(to / "model.safetensors")
    assert ours.keys() == arrays_of(model).keys()
    for name, array in arrays_of(model).items():
        np.testing.assert_array_equal(ours[name], array)


def test_neither_jax_nor_torch_is_imported(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    code = (
        "import sys; from jaxvoice.pipelines.importing import import_model; "
        "from jaxvoice.pipelines.exporting import export_model; from pathlib import Path; "
        f"import_model({str(source)!r}, {str(to)!r}); export_model({str(to)!r}, {str(tmp_path / 'e.pt')!r}); "
        "print([m for m in ('jax', 'equinox', 'torch', 'scipy', 'librosa', 'optax', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_jaxvoice_configurations_are_read(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, {**CONFIG, "sampling_rate": 16000})
    import_model(source, to)
    bare = write(tmp_path / "bare" / "x.pt", state(generator()))
    import_model(bare, tmp_path / "second", config=to / "config.json")
    first, second = (HiFiGANVocoder.load(folder).config for folder in (to, tmp_path / "second"))
    assert first == second and first.mel.sample_rate == 16000


def test_constants_of_traced_code_are_not_imported(tmp_path, to):
    model = generator().eval()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.jit.trace(model, torch.zeros(1, 80, 9)).save(tmp_path / "model.pt")
    report = import_model(tmp_path / "model.pt", to)
    assert set(report.info["ignored"].values()) >= {"constant in the archive's code"}
    assert "CONSTANTS.c0" in report.info["ignored"]
    assert "CONSTANTS.c0" in (to / "report.md").read_text(encoding="utf-8")
    assert_same_sound(to, model)


def test_patterns_are_recorded_with_their_matches(tmp_path, to):
    content = {"generator": changed(conv_pre__bias=None)["generator"], "stray": {"a": torch.ones(2)}}
    source = write(tmp_path / "g_1", content, CONFIG)
    options = {"ignore": [r"stray\..*", "pre.bias"], "allow_missing": [r"conv_pre\.bias", r"conv_post\.bias", "zz"]}
    report = import_model(source, to, **options)
    assert about(to)["info"]["patterns"] == {
        "ignore": {r"stray\..*": ["stray.a"], "pre.bias": []},
        "allow_missing": {r"conv_pre\.bias": ["conv_pre.bias"], r"conv_post\.bias": [], "zz": []},
    }
    said = [line for line in str(report).splitlines() if line.startswith("note")]
    assert len(said) == 3 and len(report.hints) == 3
    assert "--ignore pre.bias matched no name: patterns should match full names, such as generator." in said[0]
    assert "--allow-missing zz matched no name" in said[1] and "conv_pre.bias" in said[1]
    assert r"--allow-missing conv_post\.bias had no effect" in said[2]
    assert r"| --ignore stray\..* | stray.a |" in (to / "report.md").read_text(encoding="utf-8")
    message = assert_import_raises(
        source,
        to.with_name("x") / "y",
        "--ignore stray matched no name",
        ignore=["stray"],
        allow_missing=["conv_pre.*"],
    )
    assert "full names, such as stray.a. " in message and "+ stray.a (2,)" in message


def test_size_of_latents_is_read_from_the_weights(vits, to):
    model, source = vits
    table = {**VITS, "model_args": {name: v for name, v in VITS["model_args"].items() if name != "hidden_channels"}}
    source.with_name("config.json").write_text(json.dumps(table), encoding="utf-8")
    report = import_model(source, to, part="waveform_decoder")
    assert about(to)["config"]["mel"]["channels"] == about(to)["config"]["generator"]["in_channels"] == 12
    assert any("12 latent channels" in line for line in report.info["assumed"])
    assert_same_sound(to, model, channels=12, cond=np.linspace(-1, 1, 5).astype(np.float32))


def test_flipped_bits_in_a_zip_entry_are_detected(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    raw = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        entry = max(archive.infolist(), key=lambda one: one.file_size)
    raw[entry.header_offset + 400] ^= 1
    source.write_bytes(raw)
    assert_import_raises(source, to, rf"g_1: its entry '{entry.filename}' has the checksum .* it should be")


def test_commands_in_errors_have_quoted_paths(tmp_path, to):
    path = tmp_path / "my weights.pt"
    torch.save({"other.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError) as failure:
        import_model(path, to)
    command = re.search("`(jaxvoice inspect .*?)`", str(failure.value))
    assert command is not None and shlex.split(command[1])[2:] == [path.name]
