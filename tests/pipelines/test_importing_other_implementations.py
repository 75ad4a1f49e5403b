"""Generators of Hugging Face, NeMo, bshall, RVC and Lightning give the audio of torch; related networks are named."""

import io
import json
import re
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jaxvoice.dsp import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, ImportOptions
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.models.hifigan.config import LatentConfig
from jaxvoice.pipelines import HiFiGANVocoder, compare
from jaxvoice.pipelines.exporting import export_model
from jaxvoice.pipelines.importing import import_model
from jaxvoice.weights import open_archive
from tests.models.hifigan import released
from tests.models.hifigan.released import CONDITIONED, CONFIG, generator, state, under, write
from tests.pipelines.test_importing import about, assert_same_sound, heard, reference

ONE = {**released.SMALL, "resblock": "1", "resblock_dilation_sizes": ((1, 3, 5),) * 3}
"""Hugging Face and bshall have only residual blocks of kind 1."""
SIZES = ("upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")
SIZES += ("resblock_kernel_sizes", "resblock_dilation_sizes")


@pytest.fixture
def to(tmp_path):
    return tmp_path / "models" / "out"


def json_sizes(config=ONE):
    return {name: config[name] for name in SIZES}


def huggingface(tensors):
    """A state dict with the names of Hugging Face."""
    return {name.replace("ups.", "upsampler.", 1): tensor for name, tensor in tensors.items()}


SPEECHT5 = {
    "model_type": "hifigan",
    "architectures": ["SpeechT5HifiGan"],
    "model_in_dim": 80,
    "sampling_rate": 16000,
    "leaky_relu_slope": 0.1,
    "normalize_before": True,
    **json_sizes(),
}


def speecht5(model, folder, config=SPEECHT5):
    """The files of SpeechT5's vocoder, and the statistics of its input."""
    folder.mkdir()
    random = np.random.default_rng(5)
    mean, scale = (torch.from_numpy(random.uniform(*ends, 80).astype(np.float32)) for ends in ((-3, 1), (0.5, 2)))
    tensors = huggingface(released.folded(model)) | {"mean": mean, "scale": scale}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "model.safetensors", mean.numpy(), scale.numpy()


def test_huggingface_vocoders_normalise_their_input(tmp_path, to):
    model = generator(**ONE)
    source, mean, scale = speecht5(model, tmp_path / "hf")
    report = import_model(source, to)
    frames, ours = heard(to)
    theirs = reference(model, (frames - mean[:, None]) / scale[:, None])
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.abs(theirs - reference(model, frames)).max() > 1e-2
    config = HiFiGANVocoder.load(to).config
    assert config.mel == MelConfig(
        sample_rate=16000, fmin=80.0, fmax=7600.0, magnitude_floor=0.0, log_floor=1e-10, log="log10", center=True
    )
    assert "mel contract of SpeechT5" in str(report) and report.info["origin"] == "Hugging Face transformers"


def test_huggingface_vocoders_are_exported_with_their_names_and_statistics(tmp_path, to):
    source, mean, scale = speecht5(generator(**ONE), tmp_path / "hf")
    import_model(source, to)
    export_model(to, tmp_path / "back" / "model.npz")
    with np.load(tmp_path / "back" / "model.npz") as arrays:
        assert set(arrays) == set(huggingface(released.folded(generator(**ONE)))) | {"mean", "scale"}
        np.testing.assert_array_equal(arrays["mean"], mean)
        np.testing.assert_array_equal(arrays["scale"], scale)
    import_model(tmp_path / "back" / "model.npz", tmp_path / "again")
    np.testing.assert_array_equal(heard(tmp_path / "again")[1], heard(to)[1])


@pytest.mark.parametrize("prefix", [pytest.param("", marks=pytest.mark.slow), "vocoder."])
def test_huggingface_vocoders_equal_their_imports_and_exports(tmp_path, to, prefix):
    """The statistics of the input, which an import stores in the configuration, are compared too."""
    source, mean, _ = speecht5(generator(**ONE), tmp_path / "hf")
    save_file({prefix + name: tensor for name, tensor in load_file(source).items()}, source)
    import_model(source, to)
    export_model(to, tmp_path / "back" / "model.npz")
    for a, b in ((source, to), (to, source), (to, to), (tmp_path / "back" / "model.npz", to)):
        found = compare(a, b)
        assert found.same and {"mean", "scale"} <= {row.name for row in found.weights}, (a, b)
    about = json.loads((to / "config.json").read_text(encoding="utf-8"))
    about["config"]["generator"]["input_mean"][3] += 0.5
    (to / "config.json").write_text(json.dumps(about), encoding="utf-8")
    found = compare(source, to)
    assert not found.same and [row.name for row in found.weights if row.status != "equal"] == ["mean"]
    (row,) = (row for row in found.weights if row.name == "mean")
    changed = mean.copy()
    changed[3] += 0.5
    assert row.distance is not None and row.distance.relative == pytest.approx(0.5 / np.abs(changed).max(), rel=1e-3)
    del about["config"]["generator"]["input_mean"], about["config"]["generator"]["input_scale"]
    (to / "config.json").write_text(json.dumps(about), encoding="utf-8")
    found = compare(source, to)
    assert {row.name for row in found.weights if row.status == "only A"} == {"mean", "scale"}


def test_huggingface_statistics_that_are_not_applied_are_ignored(tmp_path, to):
    model = generator(**ONE)
    source, _, _ = speecht5(model, tmp_path / "hf", {**SPEECHT5, "normalize_before": False})
    report = import_model(source, to)
    assert_same_sound(to, model)
    assert set(report.info["ignored"].values()) == {"the configuration states that the input is not normalised"}


def test_unknown_huggingface_contracts_need_a_configuration(tmp_path, to):
    source, _, _ = speecht5(generator(**ONE), tmp_path / "hf", {**SPEECHT5, "sampling_rate": 24000})
    with pytest.raises(ConfigError, match=r"does not contain the mel contract.*--config"):
        import_model(source, to)
    source, _, _ = speecht5(generator(**ONE), tmp_path / "steep", {**SPEECHT5, "leaky_relu_slope": 0.2})
    with pytest.raises(ConfigError, match=r"leaky_relu_slope is 0\.2; it should be 0\.1"):
        import_model(source, to)


@pytest.mark.parametrize("speakers", [0, 5])
def test_decoders_of_huggingface_vits_read_latents(tmp_path, to, speakers):
    sizes = {**CONDITIONED, **ONE, "cond_channels": speakers}
    model = generator(**sizes)
    config = {"model_type": "vits", "flow_size": 12, "sampling_rate": 16000, "speaker_embedding_size": speakers}
    tensors = {name.replace("cond_layer", "cond"): tensor for name, tensor in released.folded(model).items()}
    content = under("decoder.", huggingface(tensors)) | {"flow.flows.0.conv_pre.weight": torch.ones(3, 3, 1)}
    report = import_model(write(tmp_path / "pytorch_model.bin", content, {**config, **json_sizes()}), to)
    cond = np.random.default_rng(1).normal(size=speakers).astype(np.float32) if speakers else None
    assert_same_sound(to, model, 12, cond)
    assert HiFiGANVocoder.load(to).config.mel == LatentConfig(16000, 256, 12)
    assert report.info["ignored"] == {"flow.flows.0.conv_pre.weight": "outside decoder"}


NEMO_CONFIG = """
target: nemo.collections.tts.models.hifigan.HifiGanModel
preprocessor:
  _target_: nemo.collections.asr.parts.preprocessing.features.FilterbankFeatures
  nfilt: 80
  lowfreq: 0
  highfreq: 8000
  n_fft: 1024
  n_window_size: 1024
  n_window_stride: 256
  pad_to: 0
  sample_rate: 22050
  window: hann
  normalize: null
  preemph: null
  dither: 0.0
  log: true
  log_zero_guard_type: clamp
  log_zero_guard_value: 1e-05
  mag_power: 1.0
  exact_pad: true
generator:
  _target_: nemo.collections.tts.modules.hifigan_modules.Generator
  resblock: 2
  upsample_rates: [8, 8, 4]
  upsample_kernel_sizes: [16, 16, 8]
  upsample_initial_channel: 16
  resblock_kernel_sizes: [3, 5, 7]
  resblock_dilation_sizes: [[1, 2], [2, 6], [3, 12]]
"""


def nested(tensors):
    """A state dict with residual blocks by stage and kernel, as in NeMo."""

    def name_of(name):
        return re.sub(r"^resblocks\.(\d+)\.", lambda found: "resblocks.{}.{}.".format(*divmod(int(found[1]), 3)), name)

    return {name_of(name): tensor for name, tensor in tensors.items()}


def nemo(path, tensors, config=NEMO_CONFIG):
    """A `.nemo` file."""
    weights = io.BytesIO()
    torch.save(tensors, weights)
    with tarfile.open(path, "w") as archive:
        for name, raw in (("./model_config.yaml", config.encode()), ("./model_weights.ckpt", weights.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def test_nemo_files_contain_their_mel_contract(tmp_path, to):
    model = generator()
    tensors = under("generator.", nested(state(model)))
    others = {"mpd.discriminators.0.convs.0.bias": torch.ones(2), "audio_to_melspec_precessor.fb": torch.ones(1, 80, 3)}
    report = import_model(nemo(tmp_path / "hifigan.nemo", tensors | others), to)
    assert_same_sound(to, model)
    config = HiFiGANVocoder.load(to).config
    assert config.mel == MelConfig(magnitude_floor=0.0) and config.mel.log_floor == 1e-5
    assert report.info["origin"] == "NVIDIA NeMo" and set(report.info["ignored"]) == set(others)
    export_model(to, tmp_path / "back" / "model.ckpt")
    back = torch.load(tmp_path / "back" / "model.ckpt", weights_only=True)
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in back)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("log_zero_guard_type: clamp", "log_zero_guard_type: add"),
            "log_zero_guard_type is 'add'; it should be 'clamp'",
        ),
        (("normalize: null", "normalize: per_feature"), "normalize is 'per_feature'; it should be null"),
        (("nfilt: 80", "nfilt: &x 80\n  other: *x"), r"model_config\.yaml in .*hifigan\.nemo is YAML with an alias"),
        (("nfilt: 80", "nfilt: [80"), r"model_config\.yaml in .*hifigan\.nemo is not valid YAML"),
        (("nfilt: 80", "nfilt: !!python/object/apply:os.system [x]"), "is not valid YAML"),
    ],
)
def test_nemo_configurations_without_a_mel_contract_are_refused(tmp_path, to, change, message):
    tensors = under("generator.", nested(state(generator())))
    source = nemo(tmp_path / "hifigan.nemo", tensors, NEMO_CONFIG.replace(*change))
    with pytest.raises(ConfigError, match=message):
        import_model(source, to)


def test_bshall_generators_have_their_contract_at_16_khz(tmp_path, to):
    sizes = {**ONE, "in_channels": 128, "upsample_rates": (10, 4, 2, 2), "upsample_kernel_sizes": (20, 8, 4, 4)}
    model = generator(**sizes)
    content = {"generator": {"model": state(model), "optimizer": {"state": {}, "param_groups": []}}, "step": 3}
    report = import_model(write(tmp_path / "hifigan.pt", content), to)
    assert_same_sound(to, model, 128)
    mel = HiFiGANVocoder.load(to).config.mel
    assert mel == MelConfig(sample_rate=16000, hop_length=160, num_mels=128, fmax=None, magnitude_floor=0.0)
    assert "mel contract of bshall/hifigan: 16000 Hz" in str(report)


RVC_CONFIG = [1025, 32, 12, 12, 768, 2, 6, 3, 0, "2", [3, 5, 7], [[1, 2], [2, 6], [3, 12]], [8, 8, 4], 16]
RVC_CONFIG += [[16, 16, 8], 109, 5, 40000]


def rvc(path, extra=()):
    """The file of a voice of RVC."""
    model = generator(**CONDITIONED)
    tensors = {name.replace("cond_layer", "cond"): tensor for name, tensor in state(model).items()} | dict(extra)
    weight = under("dec.", tensors) | {"emb_g.weight": torch.ones(3, 5)}
    content = {"weight": weight, "config": RVC_CONFIG, "info": "1epoch", "sr": "40k", "f0": int(bool(extra))}
    return write(path, content), model


def test_rvc_voices_without_f0_are_imported(tmp_path, to):
    source, model = rvc(tmp_path / "voice.pth")
    report = import_model(source, to)
    assert_same_sound(to, model, 12, np.random.default_rng(1).normal(size=5).astype(np.float32))
    assert HiFiGANVocoder.load(to).config.mel == LatentConfig(40000, 256, 12)
    assert report.info["ignored"] == {"weight.emb_g.weight": "outside weight.dec"}


@pytest.mark.parametrize("config", ["hyper-parameters", "beside"])
def test_lightning_checkpoints_are_imported_without_part(tmp_path, to, config):
    model = generator()
    content = {
        "epoch": 1,
        "global_step": 20,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": under("generator.", state(model)) | {"mpd.discriminators.0.convs.0.bias": torch.ones(2)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}],
        "hyper_parameters": {"config": CONFIG, "steps": range(3)} if config == "hyper-parameters" else {},
    }
    source = write(tmp_path / "last.ckpt", content, CONFIG if config == "beside" else None)
    report = import_model(source, to)
    assert_same_sound(to, model)
    assert set(report.info["ignored"]) == {
        "state_dict.mpd.discriminators.0.convs.0.bias",
        "optimizer_states.0.state.0.exp_avg",
    }
    assert report.info["assumed"] == []


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["m_source.l_linear.weight", "noise_convs.0.weight"], "a generator with a source filter .*needs the pitch"),
        (["resblocks.0.activations.0.act.alpha", "activation_post.act.alpha"], "BigVGAN"),
        (["dict.weight"], "a unit vocoder"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "generator."])
def test_related_vocoders_are_named_and_not_imported(tmp_path, to, names, what, prefix):
    tensors = under(prefix, {**state(generator()), **{name: torch.ones(2) for name in names}})
    source = write(tmp_path / "g_1", tensors, CONFIG)
    for options in ({}, {"ignore": [".*(m_source|noise_convs|activation|dict).*"]}):
        with pytest.raises(CheckpointError, match=f"g_1 contains {what}.*It is not imported"):
            import_model(source, to, **options)
    assert not to.exists()


def test_rvc_voices_with_f0_are_not_imported_without_their_source_filter(tmp_path, to):
    source, _ = rvc(tmp_path / "voice.pth", {"m_source.l_linear.weight": torch.ones(1, 1)})
    with pytest.raises(CheckpointError, match=r"source filter .*weight\.dec"):
        import_model(source, to, part="dec")


def test_units_beside_the_generator_and_several_output_channels_are_recognised(tmp_path, to):
    tensors = under("vocoder.hifi_gan.", state(generator())) | {"vocoder.unit_embedding.weight": torch.ones(2, 2)}
    with pytest.raises(CheckpointError, match="a unit vocoder"):
        import_model(write(tmp_path / "seamless.pt", tensors, CONFIG), to, part="hifi_gan")
    tensors = state(generator()) | {"conv_post.weight_v": torch.ones(18, 2, 7)}
    with pytest.raises(CheckpointError, match="18 output channels instead of one, such as iSTFTNet"):
        import_model(write(tmp_path / "istft.pt", tensors, CONFIG), to)


@pytest.mark.parametrize("name", ["config.yaml", "config.yml", "settings"])
def test_yaml_configurations_are_read(tmp_path, to, name):
    model = generator()
    source = write(tmp_path / "g_1", {"generator": state(model)})
    lines = [f"{key}: {json.dumps(value)}" for key, value in CONFIG.items()]
    (tmp_path / name).write_text("# released\n" + "\n".join(lines), encoding="utf-8")
    report = import_model(source, to, config=tmp_path / name if name == "settings" else None)
    assert_same_sound(to, model)
    assert report.info["config"] == name and about(to)["config"]["mel"]["fmax"] == 8000.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("sizes", [released.SMALL, ONE], ids=["resblock 2", "resblock 1"])
@pytest.mark.parametrize("configured", [True, False])
def test_frozen_archives_are_imported_by_their_code(tmp_path, to, sizes, configured):
    model = generator(**sizes).eval()
    frozen = torch.jit.freeze(torch.jit.trace(model, torch.randn(1, 80, 5)).eval())
    frozen.save(str(tmp_path / "frozen.pt"))
    if configured:
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **sizes}), encoding="utf-8")
    report = import_model(tmp_path / "frozen.pt", to)
    assert_same_sound(to, model)
    assert HiFiGANVocoder.load(to).config.mel == MelConfig()
    assert len(report.info["assumed"]) == (0 if configured else 1)
    assert set(report.info["ignored"].values()) <= {"constant in the archive's code"}
    with open_archive(tmp_path / "frozen.pt") as archive:
        FAMILY.layouts[0].plan_import(Checkpoint(archive), ImportOptions())
        assert "CONSTANTS.c0" in archive.tensors, "a plan does not rename the tensors of its archive"
    if configured:
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **sizes, "upsample_rates": [8, 4, 8]}))
        with pytest.raises(ConfigError, match=r"upsample_rates is \(8, 4, 8\) in the configuration.*\(8, 8, 4\)"):
            import_model(tmp_path / "frozen.pt", tmp_path / "other")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frozen_archives_of_other_networks_are_not_recognised(tmp_path, to):
    other = torch.nn.Sequential(
        torch.nn.Conv1d(8, 8, 7), torch.nn.ConvTranspose1d(8, 4, 4, 2), torch.nn.Conv1d(4, 1, 7)
    )
    torch.jit.freeze(torch.jit.trace(other.eval(), torch.randn(1, 8, 20)).eval()).save(str(tmp_path / "frozen.pt"))
    with pytest.raises(CheckpointError, match="not a checkpoint of a known family"):
        import_model(tmp_path / "frozen.pt", to)


def test_yaml_that_is_no_configuration_is_named(tmp_path, to):
    source = write(tmp_path / "g_1", {"generator": state(generator())})
    (tmp_path / "config.yml").write_text("- a\n- b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yml is YAML with a list"):
        import_model(source, to)
    (tmp_path / "config.yml").write_text("generator_type: HiFiGANGenerator\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yml is not a known HiFi-GAN configuration"):
        import_model(source, to)
