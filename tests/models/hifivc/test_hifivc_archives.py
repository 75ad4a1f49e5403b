"""Import of TorchScript archives with the structure of the released one, compared with torch and the interpreter."""

import dataclasses
import json
import warnings
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import jaxvoice
from jaxvoice.cli import main
from jaxvoice.dsp.nemo_mel import nemo_log_mel
from jaxvoice.dsp.pitch_tracking import PitchConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, ImportOptions
from jaxvoice.models.hifivc import FAMILY, PRESETS, HiFiVC, HiFiVCConfig, PitchEncoderConfig
from jaxvoice.models.hifivc.archive_structure import ArchiveStructure
from jaxvoice.models.hifivc.weights import hifivc_shapes
from jaxvoice.torchscript import function
from jaxvoice.weights import named_arrays
from tests.models.hifivc import archives
from tests.models.hifivc.small import SMALL

# The Conformer of the archive has a feed-forward network of four times the width. The released code tracks F0 with
# Praat.
CONTENT = dataclasses.replace(SMALL.content, feed_forward=32, nemo_release="1.7")
ARCHIVE = dataclasses.replace(SMALL, content=CONTENT, pitch=PitchConfig("autocorrelation"))


@pytest.fixture(autouse=True)
def _jit_is_deprecated():
    """Ignore torch's deprecation warnings for TorchScript."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*(might cause the trace|Converting a tensor).*")
        yield


def changed(config: HiFiVCConfig = ARCHIVE, **parts) -> HiFiVCConfig:
    """`config` with fields of its parts replaced."""
    new = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in parts.items()}
    return dataclasses.replace(config, **new)


def waveform(folder, inputs) -> np.ndarray:
    """The waveform of an imported model for the inputs of an archive."""
    network, config = FAMILY.load_network(folder)
    audio, mel, pitch = (value.numpy() for value in inputs)

    @eqx.filter_jit
    def convert(network, audio, mel, pitch):
        features, _ = nemo_log_mel(audio, config.content.mel, release=config.content.nemo_release)
        return network(features.swapaxes(1, 2), pitch, mel)

    pitch = None if config.pitch_encoder is None else pitch.swapaxes(1, 2)
    return np.asarray(convert(network, audio, mel.swapaxes(1, 2), pitch))[..., 0]


def assert_agreement(path, model, folder):
    """Assert that torch, the interpreted archive and the imported model give the same waveform."""
    inputs = archives.inputs(seed=5)
    with torch.no_grad():
        expected = model(*inputs).numpy()
    ours = waveform(folder, inputs)
    assert ours.shape == expected.shape == (1, 9600)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    with jaxvoice.open_archive(path) as archive:
        run = function(archive)  # type: ignore[arg-type]
        interpreted = jax.jit(run)(run.weights, *(value.numpy() for value in inputs))
    np.testing.assert_allclose(interpreted, expected, atol=1e-4)
    np.testing.assert_allclose(ours, interpreted, atol=1e-4)


def test_imported_archive_equals_the_interpreted_archive(tmp_path):
    model = archives.make(ARCHIVE)
    path = archives.write(tmp_path / "model.pt", ARCHIVE, model)
    summary = jaxvoice.import_model(path, tmp_path / "model")
    assert summary.family == "hifivc" and FAMILY.load_network(tmp_path / "model")[1] == ARCHIVE
    assert summary.info["assumed"][0].startswith("this layout was never verified on the released archive")
    ignored = summary.info["ignored"]
    assert ignored["_voice_conversion.asr.layers.0.conv.batch_norm.running_var"] == "folded into depthwise_conv"
    assert ignored["_voice_conversion.preprocessor.fb"].startswith("buffer")
    assert_agreement(path, model, tmp_path / "model")


def test_plans_do_not_change_the_archive(tmp_path):
    name = "_voice_conversion.asr.layers.0.conv.depthwise_conv.weight"
    (layout,), options = FAMILY.layouts, ImportOptions()
    with jaxvoice.open_archive(archives.write(tmp_path / "model.pt", ARCHIVE)) as archive:
        before = archive.tensors[name]
        first, second = (layout.plan_import(Checkpoint(archive), options).parts[0] for _ in range(2))
        np.testing.assert_array_equal(archive.tensors[name], before)
        arrays = [dict(plan.read(changed.tensors)) for changed, plan in (first, second)]
        assert np.abs(first[0].tensors[name] - before).max() > 1e-3, "batch norm is folded"
    assert arrays[0].keys() == arrays[1].keys()
    assert all(np.array_equal(array, arrays[1][name]) for name, array in arrays[0].items())


VARIANTS = {
    "padding": changed(speaker={"pre_conv_padding": 1, "skip_bias": False, "head_slope": 0.2}),
    "pooling": changed(speaker={"head_slope": 0.2, "pooling": "after_heads"}, decoder={"final_slope": 0.1}),
    "sum": changed(decoder={"fusion": "sum", "pre_channels": 4}),
    "norm": changed(
        decoder={"conditioning": "none", "input_norm": True, "pre_kernel_size": 3}, content={"xscaling": False}
    ),
    "no pitch": dataclasses.replace(ARCHIVE, pitch_encoder=None),
    "pitch": dataclasses.replace(ARCHIVE, pitch_encoder=PitchEncoderConfig(4, (4,), (8,), 0.2, False)),
    # The stages are as wide as the speaker vector, as one of the released archive.
    "equal widths": changed(speaker={"size": 8}),
}


@pytest.mark.parametrize(
    "name", ["sum", "no pitch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("padding", "equal widths"))]
)
def test_settings_are_read_from_the_code(tmp_path, name):
    path = archives.write(tmp_path / "model.pt", VARIANTS[name])
    with jaxvoice.open_archive(path) as archive:
        assert ArchiveStructure(archive).config == VARIANTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_archives_of_other_settings_equal_torch(tmp_path, name):
    model = archives.make(VARIANTS[name])
    path = archives.write(tmp_path / "model.pt", VARIANTS[name], model)
    jaxvoice.import_model(path, tmp_path / "model")
    assert FAMILY.load_network(tmp_path / "model")[1] == VARIANTS[name]
    inputs = archives.inputs(seed=5)
    with torch.no_grad():
        np.testing.assert_allclose(waveform(tmp_path / "model", inputs), model(*inputs), atol=1e-4)


class Pair(nn.Module):
    def __init__(self, block: Any, number: int) -> None:
        super().__init__()
        self.voice = block.speaker_convs[number]
        self.narrow, self.wide = block.convs2[number], block.convs1[number]

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        voice = self.voice(speaker)
        h = functional.leaky_relu(self.wide(functional.leaky_relu(x, 0.1)), 0.1)
        return x + self.narrow(functional.leaky_relu(h + voice, 0.1))


class OtherDecoder(nn.Module):
    """The decoder with other names, and with projections before the convolutions."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.last, self.first = decoder.conv_post, decoder.conv_pre
        count = len(decoder.config.resblock_kernel_sizes)
        stages = []
        for number, up in enumerate(decoder.ups):
            blocks = decoder.resblocks[number * count : (number + 1) * count]
            groups = [nn.ModuleList(Pair(block, j) for j in range(len(block.convs1))) for block in blocks]
            stages.append(nn.ModuleDict({"parallel": nn.ModuleList(groups), "up": up}))

        self.stage: Any = nn.ModuleList(stages)

    def forward(self, content: Tensor, pitch: Tensor, speaker: Tensor) -> Tensor:
        x = torch.cat([self.first(content), pitch], dim=1)
        for stage in self.stage:
            x = stage["up"](functional.leaky_relu(x, 0.1))
            results = []
            for group in stage["parallel"]:
                y = x
                for pair in group:
                    y = pair(y, speaker)
                results.append(y)
            x = torch.stack(results).sum(0) / len(results)
        return torch.tanh(self.last(functional.leaky_relu(x)))


def test_decoders_are_found_under_other_names(tmp_path):
    model = archives.make(ARCHIVE)
    part: Any = model._voice_conversion
    part.generator = OtherDecoder(part.generator)
    path = archives.write(tmp_path / "model.pt", ARCHIVE, model.eval())
    summary = jaxvoice.import_model(path, tmp_path / "model")
    assert FAMILY.load_network(tmp_path / "model")[1] == ARCHIVE and not summary.info["missing"]
    inputs = archives.inputs(seed=5)
    with torch.no_grad():
        np.testing.assert_allclose(waveform(tmp_path / "model", inputs), model(*inputs), atol=1e-4)


def test_report_answers_the_open_questions(tmp_path, capsys):
    config = changed(decoder={"final_slope": 0.1}, speaker={"pre_conv_padding": 1})
    path = archives.write(tmp_path / "model.pt", config)
    jaxvoice.import_model(path, tmp_path / "model")
    report = (tmp_path / "model" / "report.md").read_text(encoding="utf-8")
    assert report.count("\n### ") == 7 and "## Tensors of model.pt" in report
    for text in (
        "fusion concat. _voice_conversion.generator.conv_pre: 8 to 12 channels, kernel 7.",
        "input = torch.cat([",
        "pre_conv_padding 1, skip_bias True, no activation before the heads, pooling before the heads",
        "no layer norm before conv_pre, slope 0.1 before conv_post",
        "n_fft 512, hop 160, window 400",
        "slice in _voice_conversion",
        "std_conv is not computed in the archive",
        '`{"layers": {"decoder.conv_pre": "PATH"}}`',
    ):
        assert text in report
    assert main(["inspect", str(path), "--open-questions"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() in report
    assert main(["inspect", str(path), "--open-questions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "hifivc"
    assert main(["inspect", str(path), "--open-questions", "--code", "."]) == 2
    assert "--code and --open-questions cannot be combined" in capsys.readouterr().err


def test_configuration_beside_the_archive_has_precedence(tmp_path):
    path = archives.write(tmp_path / "model.pt", ARCHIVE)
    names = {"decoder.resblocks.0.conds.0": "_voice_conversion.generator.resblocks.0.speaker_convs.1"}
    names["decoder.resblocks.0.conds.1"] = "_voice_conversion.generator.resblocks.0.speaker_convs.0"
    table = {"speaker": {"deviation": "log_deviation"}, "content": {"nemo_release": "2.6"}, "layers": names}
    (tmp_path / "config.json").write_text(json.dumps(table), encoding="utf-8")
    jaxvoice.import_model(path, tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config == changed(speaker={"deviation": "log_deviation"}, content={"nemo_release": "2.6"})
    with jaxvoice.open_archive(path) as archive:
        expected = archive.tensors[f"{names['decoder.resblocks.0.conds.0']}.bias"]
    conds = network.decoder.resblocks[0].conds
    assert conds is not None
    np.testing.assert_array_equal(conds[0].bias, expected)
    for table, message in (
        ({"encoder": {}}, "json has an unknown key 'encoder'; known keys are content, speaker"),
        ({"speaker": {"width": 3}}, "speaker has an unknown key 'width'"),
        ({"layers": []}, r"layers is \[\]; it should be an object"),
        ({"layers": {"decoder.conv_pre": ["x"]}}, "it should map layers of the model"),
        ({"layers": {"decoder.up": "x"}}, "layers contains decoder.up; it should map layers of the model"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(table), encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            jaxvoice.import_model(path, tmp_path / "other")
    (tmp_path / "config.json").write_text('{"speaker": {"size": 7}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="mean_conv"):
        jaxvoice.import_model(path, tmp_path / "other")


@pytest.mark.parametrize(
    ("part", "name", "layer", "problem"),
    [
        ("f0_encoder", "0", nn.Conv1d(2, 4, 3, padding=1), "f0_encoder: its first convolution is not 1x1 without bias"),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in (
                ("f0_encoder", "1", nn.ReLU(), "f0_encoder.1 contains relu"),
                ("f0_encoder", "1", nn.InstanceNorm1d(4), "the order of its layers is convolution, instance_norm"),
                ("f0_encoder", "4", nn.LeakyReLU(0.2), "the slopes of its leaky ReLUs are 0.1, 0.2"),
                ("generator", "conv_pre", nn.Sequential(nn.Conv1d(8, 12, 7, padding=3), nn.ReLU()), "contains relu"),
                (
                    "speaker_encoder",
                    "pooling_layer",
                    nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Tanh()),
                    "contains tanh",
                ),
            )
        ),
        (
            "generator",
            "conv_pre",
            nn.Sequential(nn.Conv1d(8, 12, 1), nn.Conv1d(12, 12, 1)),
            "one convolution of content",
        ),
        (
            "generator",
            "conv_post",
            nn.Sequential(nn.LeakyReLU(0.3), nn.Conv1d(4, 1, 7, padding=3)),
            "leaky ReLUs of slopes",
        ),
        ("speaker_encoder.convs.0", "activation", nn.LeakyReLU(0.3), "leaky ReLUs of slopes 0.1, 0.3"),
    ],
    ids=str,
)
def test_other_structures_raise_errors(tmp_path, part, name, layer, problem):
    model = archives.make(ARCHIVE)
    model._voice_conversion.get_submodule(part).__setattr__(name, layer.eval())
    path = archives.write(tmp_path / "model.pt", ARCHIVE, model)
    message = f"is another one than expected: .*{problem}.*--open-questions"
    with jaxvoice.open_archive(path) as archive, pytest.raises(CheckpointError, match=message):
        _ = ArchiveStructure(archive).config


def test_other_structures_are_described(tmp_path, capsys):
    model = archives.make(ARCHIVE)
    part: Any = model._voice_conversion
    part.f0_encoder[0] = nn.Conv1d(2, 4, 3, padding=1)
    path = archives.write(tmp_path / "model.pt", ARCHIVE, model)
    assert main(["inspect", str(path), "--open-questions"]) == 0
    assert "2 to 4 channels, kernel 3, stride 1" in capsys.readouterr().out


def test_state_dicts_raise_an_error(tmp_path):
    torch.save(archives.make(ARCHIVE).state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="is a torch zip file; it should be the TorchScript archive of HiFi-VC"):
        jaxvoice.import_model(tmp_path / "model.pt", tmp_path / "model")


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        *PRESETS.values(),
        changed(decoder={"conditioning": "stage_inputs", "input_norm": True}, speaker={"skip_bias": False}),
        dataclasses.replace(SMALL, pitch_encoder=None),
    ],
)
def test_shapes_match_the_network(config):
    network = eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
    assert hifivc_shapes(config) == {name: array.shape for name, array in named_arrays(network).items()}
