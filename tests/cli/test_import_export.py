"""`jaxvoice import` and `jaxvoice export`: golden samples and errors on the command line."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from experiments.benchmarks.torch_hifigan import Generator
from jaxvoice.cli import main
from tests.models.hifigan import released
from tests.models.hifigan.released import CONFIG, generator, state, write
from tests.reference import golden


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    monkeypatch.setattr("jaxvoice.cli.vocode.use_compilation_cache", lambda: None)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def tensors_of(case, strip=""):
    return {name: torch.from_numpy(array) for name, array in case.state_dict(strip=strip).items()}


def vocoded(model, mels, tmp_path, *flags):
    """The samples of the WAV file that `jaxvoice vocode` writes for each mel."""
    sounds = []
    for number, mel in enumerate(mels):
        np.save(tmp_path / f"{number}.npy", mel)
        target = tmp_path / f"{number}.wav"
        assert run("vocode", tmp_path / f"{number}.npy", target, "--model", model, "--subtype", "float", *flags) == 0
        samples, rate = soundfile.read(target, dtype="float32")
        sounds.append(samples)
        assert rate == 22050
    return np.stack(sounds)


@pytest.mark.parametrize(
    "legacy", [pytest.param(False, id="zip"), pytest.param(True, id="legacy", marks=pytest.mark.slow)]
)
def test_released_generator_reproduces_golden_samples(tmp_path, capsys, legacy):
    case = golden.case("hifigan/generator_v1")
    source = write(tmp_path / "g_02500000", {"generator": tensors_of(case)}, case.meta["config"], legacy=legacy)
    assert run("import", source, "--to", tmp_path / "model") == 0
    said = capsys.readouterr().out
    assert "hifigan V1, 234 tensors, 13936130 parameters" in said and "assumed" not in said
    # The golden mel is noise, outside the range of recordings.
    sounds = vocoded(tmp_path / "model", case["mel"], tmp_path, "--no-check")
    expected = case["wav"][:, 0]
    assert sounds.shape == expected.shape
    assert np.abs(sounds - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    assert run("export", tmp_path / "model", "--to", tmp_path / "g_back") == 0
    back = torch.load(tmp_path / "g_back", weights_only=True)["generator"]
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors_of(case).items())
    assert len(back) == 234


def coqui_settings(config):
    audio = {**released.COQUI_AUDIO, "num_mels": config["in_channels"]}
    names = [name for name in config if name.startswith(("upsample", "resblock", "cond", "conv_p"))]
    return {"generator_model_params": {name: config[name] for name in names}, "audio": audio}


def test_coqui_generator_reproduces_golden_samples(tmp_path):
    case = golden.case("coqui_hifigan/generator")
    first = case.meta["tensors"][0]["name"].split(".")[0] + "."
    tensors = {f"model_g.{name}": tensor for name, tensor in tensors_of(case, strip=first).items()}
    source = write(tmp_path / "model_file.pth", {"model": tensors}, coqui_settings(case.meta["config"]))
    assert run("import", source, "--to", tmp_path / "model") == 0
    sounds = vocoded(tmp_path / "model", case["mel"], tmp_path, "--no-check")
    expected = case["wav"][:, 0]
    assert np.abs(sounds - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", ["generator_cond", "generator_cond_type2"])
def test_conditioned_generators_reproduce_golden_samples(tmp_path, name):
    case = golden.case(f"coqui_hifigan/{name}")
    config = case.meta["config"]
    first = case.meta["tensors"][0]["name"].split(".")[0] + "."
    tensors = {f"waveform_decoder.{key}": tensor for key, tensor in tensors_of(case, strip=first).items()}
    tensors["text_encoder.emb.weight"] = torch.ones(4, 3)
    args = {
        "hidden_channels": config["in_channels"],
        "resblock_type_decoder": config["resblock_type"],
        "upsample_rates_decoder": config["upsample_factors"],
        **{
            f"{key}_decoder": config[key] for key in config if key.startswith(("upsample_k", "upsample_i", "resblock_"))
        },
    }
    settings = {"model": "vits", "model_args": args, "audio": {"sample_rate": 22050}}
    source = write(tmp_path / "model_file.pth", {"model": tensors}, settings)
    assert run("import", source, "--to", tmp_path / "model", "--part", "waveform_decoder") == 0
    for latents, cond, expected in zip(case["x"], case["g"], case["wav"], strict=True):
        np.save(tmp_path / "cond.npy", cond)
        (sound,) = vocoded(tmp_path / "model", [latents], tmp_path, "--cond", tmp_path / "cond.npy")
        assert np.abs(sound - expected[0]).max() <= 1e-5 * max(1, np.abs(expected).max())


def test_recordings_for_generators_of_latents_print_one_line(tmp_path, capsys):
    model = generator(**released.CONDITIONED)
    settings = {
        "model": "vits",
        "model_args": {"hidden_channels": 12},
        "audio": {"sample_rate": 22050, "hop_length": 256},
    }
    tensors = released.under("waveform_decoder.", state(model))
    source = write(tmp_path / "model_file.pth", {"model": tensors}, settings)
    assert run("import", source, "--to", tmp_path / "model", "--part", "waveform_decoder") == 0
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 22050)
    np.save(tmp_path / "cond.npy", np.zeros(5, np.float32))
    capsys.readouterr()
    flags = ("--model", tmp_path / "model", "--cond", tmp_path / "cond.npy")
    assert run("vocode", tmp_path / "a.wav", tmp_path / "b.wav", *flags) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "reads latents with 12 channels" in line


def test_every_option_is_passed_to_import_model(tmp_path, capsys):
    tensors = state(generator())
    del tensors["conv_pre.bias"]
    source = write(tmp_path / "x.pth", {"g": {"net": tensors}, "other": torch.ones(2)})
    (tmp_path / "c.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    flags = ["--config", tmp_path / "c.json", "--ignore", "other", "z.*", "--allow-missing", r"conv_pre\.bias"]
    assert run("import", source, "--to", tmp_path / "model", *flags, "--no-training") == 0
    said = capsys.readouterr().out
    assert "ignored  1 tensor (see report.md)" in said and "missing  conv_pre.bias" in said
    assert run("export", tmp_path / "model", "--to", tmp_path / "x.npz", "--format", "npz") == 0
    assert len(np.load(tmp_path / "x.npz")) == 69


def test_errors_are_one_line_and_exit_code_2(tmp_path, capsys):
    source = write(tmp_path / "g_1", {"generator": {"conv_pre.bias": torch.ones(2)}})
    for arguments in (
        ("import", tmp_path / "none", "--to", tmp_path / "m"),
        ("import", source, "--to", tmp_path / "m"),
        ("import", tmp_path, "--to", tmp_path / "m"),
        ("export", tmp_path, "--to", tmp_path / "m"),
    ):
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("jaxvoice: error: ")
    assert not (tmp_path / "m").exists()


def test_import_imports_neither_jax_nor_torch(tmp_path):
    source = write(tmp_path / "g_1", {"generator": state(generator())}, CONFIG)
    heavy = ("jax", "equinox", "torch", "scipy", "librosa", "optax", "soundfile")
    code = (
        "import sys; from jaxvoice.cli import main; "
        f"code = main(['import', {str(source)!r}, '--to', {str(tmp_path / 'm')!r}]); "
        f"code += main(['export', {str(tmp_path / 'm')!r}, '--to', {str(tmp_path / 'e')!r}]); "
        f"print(code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc, which only Linux has")
def test_import_needs_little_more_memory_than_the_file(tmp_path):
    tensors = {name: torch.ones(tensor.shape) for name, tensor in Generator().state_dict().items()}
    source = write(tmp_path / "g_02500000", {"generator": tensors})
    code = (
        "from pathlib import Path; from jaxvoice.cli import main; "
        f"main(['import', {str(source)!r}, '--to', {str(tmp_path / 'm')!r}]); "
        "print([line.split()[1] for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (peak,) = json.loads(done.stdout.splitlines()[-1].replace("'", '"'))
    assert int(peak) * 1024 < 1.5 * source.stat().st_size


class Schedule:
    """A class of the trainer that wrote a checkpoint. Its instances are pickled as calls."""

    def __init__(self, rate=0.5):
        self.rate = rate

    def __reduce__(self):
        return Schedule, (self.rate,)


def test_inert_classes_are_read_as_data(tmp_path, capsys):
    content = {"generator": state(generator()), "schedule": Schedule(), "steps": range(3)}
    source = write(tmp_path / "g_1", content, CONFIG)
    target = tmp_path / "m"
    pattern = re.escape(f"{Schedule.__module__}.Schedule")
    for verb in (["inspect", source], ["import", source, "--to", target]):
        assert run(*verb) == 2
        error = capsys.readouterr().err
        assert f"--inert '{pattern}'" in error and "malicious" not in error
    assert run("inspect", source, "--inert", pattern) == 0
    assert "schedule" in capsys.readouterr().out
    assert run("import", source, "--to", target, "--inert", "other", pattern) == 0
    assert (target / "model.safetensors").is_file()
