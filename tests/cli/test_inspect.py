"""`jaxvoice inspect` on files of every kind, model folders and runs."""

import ast
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from experiments.benchmarks.torch_hifigan import Generator
from jaxvoice.cli.inspect import Inspect
from jaxvoice.console import run_command
from jaxvoice.text_tables import width
from jaxvoice.weights.model_folder import write_model_folder
from tests.torchscript.layer_models import Mixed, Scaled, SpeakerEncoder, scripted, traced

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMALL = {
    "in_channels": 8, "upsample_initial_channel": 32, "upsample_rates": (4, 2), "upsample_kernel_sizes": (8, 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each format, by name."""
    root = tmp_path_factory.mktemp("files")
    generator = Generator(**SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = {"generator": generator.state_dict(), "steps": 25, "learning_rate": 2e-4, "config": {"sizes": [1, 2]}}
        torch.save(state, root / "g")
        torch.save(state, root / "legacy", _use_new_zipfile_serialization=False)
        torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), root / "whole")
        optimizer = torch.optim.AdamW(generator.parameters(), 1e-3)
        generator(torch.randn(1, 8, 4)).sum().backward()
        optimizer.step()
        torch.save({"optim_g": optimizer.state_dict(), "evil\x1b[31m": torch.ones(2)}, root / "do")
    arrays = {name: tensor.detach().numpy() for name, tensor in generator.state_dict().items()}
    save_file(arrays, root / "safe")
    np.savez(root / "npz.npz", **arrays)
    traced(generator, torch.randn(1, 8, 5), path=root / "traced")
    traced(SpeakerEncoder(), torch.randn(1, 10, 40), path=root / "speaker")
    scripted(Scaled(), root / "scripted")
    traced(Mixed(), torch.randn(1, 4, 6), path=root / "mixed")
    info = {"licence": "MIT", "origin": "g_00000025\x1b[0m", "step": 25}
    config = {"generator": {"in_channels": 8}, "mel": {"sample_rate": 22050, "hop_length": 8}}
    write_model_folder(root / "model", family="hifigan", config=config, arrays=arrays, info=info)
    make_run(root / "run", arrays)
    return root


def make_run(run: Path, arrays):
    for step in (8, 12, 100):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    (run / "checkpoints" / "104.orbax-checkpoint-tmp-1").mkdir()
    table = {"task": "HiFiGANTask", "config": {"optimizer": {"learning_rate": 2e-4}}, "mel": {"hop_length": 8}}
    table |= {"versions": {"jax": "0.10.2"}, "loop": {"steps": 200, "best_metric": "mel_l1"}}
    (run / "config.json").write_text(json.dumps(table))
    lines = [
        {"step": 50, "kind": "validation", "mel_l1": 0.25, "other": 1.0},
        {"step": 100, "kind": "train", "loss": 3.0},
        {"step": 100, "kind": "validation", "mel_l1": 0.5, "other": 2.0},
        {"step": 102, "kind": "validation", "mel_l1": float("nan"), "other": 2.0},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 103, "ki')
    write_model_folder(run / "model", family="hifigan", config={"mel": {"hop_length": 8}}, arrays=arrays)


FILES = ["g", "legacy", "whole", "do", "safe", "npz.npz", "traced", "speaker", "scripted", "mixed", "model", "run"]


def shown(capsys, path, columns=80, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        assert Inspect(path, **options).run() == 0
    text = capsys.readouterr().out
    if not options.get("json"):
        wide = [line for line in text.splitlines() if width(line) > columns]
        # Lines of code are not wrapped, even if they are longer than the terminal.
        assert all("code" in options and not line.lstrip().startswith("#") for line in wide), text
        assert all(line.isprintable() for line in text.split("\n"))
    return text


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("columns", [40, 80, 150])
def test_lines_fit_the_terminal(files, capsys, name, columns):
    for options in ({}, {"depth": 1}, {"tensors": "."}):
        assert shown(capsys, files / name, columns, **options)


@pytest.mark.parametrize("name", FILES)
def test_json_contains_the_description(files, capsys, name):
    values = json.loads(shown(capsys, files / name, json=True))
    assert values["source"]["format"] and values["modules"] and len(values["tensors"]) == values["totals"]["tensors"]
    listed = json.loads(shown(capsys, files / name, json=True, tensors="."))["tensors"]
    assert [tensor["name"] for tensor in listed] == [tensor["name"] for tensor in values["tensors"]]
    assert sum(int(np.prod(tensor["shape"])) for tensor in listed) >= values["totals"]["parameters"]


def test_inspect_describes_a_state_dict(files, capsys):
    text = shown(capsys, files / "g")
    norms = sum(name.endswith("weight_g") for name in Generator(**SMALL).state_dict())
    assert "torch zip" in text and f"weight norm on {norms} layers, not folded" in text
    assert "steps          25" in text and "learning_rate  0.0002" in text and "config.sizes   [1, 2]" in text
    total = sum(tensor.numel() for tensor in Generator(**SMALL).state_dict().values())
    assert f"{total:,} parameters" in text
    assert "convs1.0-2 weight norm 16x16x3, bias 16 3 x " in " ".join(text.split())
    # The description of one model does not depend on the file format.
    trees = [shown(capsys, files / name).split("---\n")[1].split("\n\n")[0] for name in ("g", "legacy")]
    assert trees[0] == trees[1]


def test_inspect_shows_strides_and_padding_of_traces(files, capsys):
    text = " ".join(shown(capsys, files / "traced", 150).split())
    assert "ConvTranspose1d(stride=4, padding=2), weight norm 32x16x8" in text
    assert "Conv1d(padding=1/3/5, dilation=1/3/5), weight norm 16x16x3 3 x" in text
    assert "Generator: leaky_relu(0.1), / 3, leaky_relu(0.01), tanh" in text
    values = json.loads(shown(capsys, files / "traced", json=True))
    up = next(module for module in values["modules"] if module["name"] == "ups.0")
    assert up["settings"]["stride"] == [4] and up["settings"]["in_channels"] == 32 and up["kind"] == "ConvTranspose1d"
    calls = next(module for module in values["modules"] if module["name"] == "")["calls"]["forward"]
    assert [call["module"] for call in calls if "module" in call][:3] == ["conv_pre", "ups.0", "resblocks.0"]


def test_code_option_prints_a_module(files, capsys):
    text = shown(capsys, files / "speaker", code="convs.0")
    assert "first_conv = self.first_conv" in text and "# convs.0.first_conv: Conv1d" in text
    assert "torch.avg_pool1d(" in text and "(pre_conv).forward(x, )" in shown(capsys, files / "speaker", code=".")
    ast.parse(shown(capsys, files / "speaker", code="."))
    assert json.loads(shown(capsys, files / "speaker", code=".", json=True))["code"][0].startswith("# (top)")


def test_tensors_option_prints_statistics(files, capsys):
    text = shown(capsys, files / "g", tensors=r"ups\.0\.")
    state = Generator(**SMALL).state_dict()
    assert f"3 of {len(state)} tensors" in text
    listed = json.loads(shown(capsys, files / "g", json=True, tensors=r"conv_pre\.bias"))["tensors"]
    assert listed[0]["shape"] == list(state["conv_pre.bias"].shape) and listed[0]["min"] < listed[0]["mean"]


def test_inspect_describes_an_optimiser(files, capsys):
    text = " ".join(shown(capsys, files / "do", 120).split())
    assert "entries of different shapes" in text and "optim_g.param_groups.0.lr 0.001" in text
    assert "evil\\x1b[31m 2" in text


def test_inspect_describes_a_model_folder(files, capsys):
    text = " ".join(shown(capsys, files / "model").split())
    for part in (
        "family hifigan",
        "licence MIT",
        "origin g_00000025\\x1b[0m",
        "mel contract sample_rate 22050",
        "safetensors",
    ):
        assert part in text


def test_inspect_describes_a_run(files, capsys):
    text = " ".join(shown(capsys, files / "run").split())
    for part in (
        "family hifigan last checkpoint step 100 (and 8, 12)", "last logged step 102",
        "best validation step 50: mel_l1 0.25", "last validation step 102", "learning_rate 0.0002",
        "the best model so far", "family hifigan",
    ):  # fmt: skip
        assert part in text, part
    assert "HiFiGANTask" not in text
    values = json.loads(shown(capsys, files / "run", json=True))
    assert values["run"]["best"]["step"] == 50 and values["run"]["checkpoints"] == [8, 12, 100]
    assert values["run"]["last"]["mel_l1"] == "nan"


def test_ranks_of_validations_are_shown_as_phases(tmp_path, files, capsys):
    shutil.copytree(files / "run", tmp_path / "run")
    lines = [{"step": step, "kind": "validation", "rank": step // 20, "mel_l1": 2.0} for step in (10, 20)]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    text = " ".join(shown(capsys, tmp_path / "run").split())
    assert "best validation step 20, phase 1 of training: mel_l1 2 " in text and ", rank" not in text
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(lines[0]))
    text = " ".join(shown(capsys, tmp_path / "run").split())
    assert "best validation step 10: mel_l1 2 " in text and ", rank" not in text


def test_inspect_describes_a_run_of_the_training_loop(tmp_path, capsys):
    from tests.training.toy import train

    train(tmp_path / "run", steps=12)
    capsys.readouterr()
    text = " ".join(shown(capsys, tmp_path / "run").split())
    assert "task ToyTask last checkpoint step 12" in text and "best validation step" in text
    assert "has not saved a model yet" in text  # the toy task saves no model folder


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("g", {"code": "generator"}, "torch zip file; --code needs a TorchScript archive"),
        ("speaker", {"code": "convs.9"}, "did you mean 'convs"),
        ("g", {"tensors": "("}, "should be a regular expression"),
        ("g", {"depth": 0}, "at least 1"),
        ("g", {"tensors": ".", "code": "."}, "pass only one of them"),
        ("missing", {}, "missing"),
        ("folder", {}, "neither a model folder"),
    ],
)
def test_errors_are_one_line(files, capsys, name, options, message):
    (files / "folder").mkdir(exist_ok=True)
    assert run_command(Inspect(files / name, **options).run) == 2
    found = capsys.readouterr()
    assert message in found.err and found.err.count("\n") == 1 and not found.out


def test_inspect_lists_tensors_of_archives_with_invalid_code(files, tmp_path, capsys):
    from tests.torchscript.layer_models import with_code

    other = with_code(files / "speaker", lambda text: "import os\n" + text, tmp_path / "other")
    text = shown(capsys, other)
    assert "not valid TorchScript" in text and "pre_conv" in text and "4x10x3" in text
    assert run_command(Inspect(other, code=".").run) == 2


def test_neither_jax_nor_torch_is_imported(files):
    program = (
        "import sys\nfrom pathlib import Path\nfrom jaxvoice.cli.inspect import Inspect\n"
        "for name in ('g', 'traced', 'scripted', 'safe', 'model', 'run'):\n"
        "    Inspect(Path(sys.argv[1]) / name).run()\n"
        "Inspect(Path(sys.argv[1]) / 'traced', code='.').run()\nInspect(Path(sys.argv[1]) / 'g', tensors='.').run()\n"
        "heavy = {'jax', 'equinox', 'torch', 'scipy', 'librosa', 'optax', 'orbax', 'matplotlib'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program, str(files)], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("LOADED []\n")
