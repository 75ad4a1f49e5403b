"""Finding models in folders and on the Hub, errors for missing models, and notices about found models."""

import json
import sys
import types
from fnmatch import fnmatch

import pytest

from jaxvoice.errors import CheckpointError, ConfigError, MissingExtraError
from jaxvoice.models import gaussian_tts
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines import Vocoder
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.weights.model_folder import write_model_folder


def test_folders_without_a_model_raise(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path, message in [
        (tmp_path / "run", "no model yet.*first validation with a finite"),
        (tmp_path, "neither a model folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "nothing", "no folder"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            Vocoder.load(path)


def test_damaged_models_raise(tmp_path, generator, config):
    FAMILY.save_network(tmp_path, generator, config)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        Vocoder.load(tmp_path)


def test_hub_ids_without_the_extra_raise(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[hub\]'"):
        Vocoder.load("someone/vocoder")


@pytest.mark.parametrize(("family", "inner"), [("hifigan", []), ("xtts", ["dvae"]), ("vits", ["speaker_encoder"])])
def test_hub_ids_are_downloaded(monkeypatch, tmp_path, family, inner):
    write_model_folder(tmp_path, family=family, config={}, arrays={})
    asked = []

    def snapshot_download(name, allow_patterns, ignore_patterns):
        asked.append((allow_patterns, ignore_patterns))
        return str(tmp_path) if name == "someone/model" else None

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    assert find_model_folder("someone/model") == tmp_path

    def is_downloaded(file):
        return any(
            any(fnmatch(file, one) for one in allowed) and not any(fnmatch(file, one) for one in ignored)
            for allowed, ignored in asked
        )

    files = ["config.json", "model.safetensors", "vocab.json", "speakers.json", "merges.txt"]
    files += [f"{folder}/{file}" for folder in inner for file in ("config.json", "model.safetensors")]
    others = ["model.py", "pytorch_model.bin", "weights.pt", "x.pkl", "a/config.json", "other.safetensors", ".git"]
    others += ["dvae/model.py", "dvae/weights.pt", "dvae/dvae/config.json", "other/dvae/config.json"]
    others += [f"{folder}/config.json" for folder in ("dvae", "speaker_encoder") if folder not in inner]
    assert [file for file in files + others if is_downloaded(file)] == files


def test_downloaded_folders_without_a_known_model_raise(monkeypatch, tmp_path):
    hub = types.SimpleNamespace(snapshot_download=lambda name, **_: str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    (tmp_path / "config.json").write_text('{"family": "other"}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"The family in .*config.json is 'other'; it should be one of hifigan"):
        find_model_folder("someone/vocoder")


def test_failed_downloads_raise(monkeypatch):
    def snapshot_download(name, **patterns):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(CheckpointError, match=r"cannot be downloaded.*no route"):
        find_model_folder("someone/vocoder")


def test_missing_paths_are_not_downloaded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match="no folder"):
        find_model_folder("runs/fisrt")


def test_licences_are_printed_without_control_characters(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"info": {"licence": "CC BY\\u001b[2J\\n4.0"}}', encoding="utf-8")
    print_notices(tmp_path, FAMILY)
    assert capsys.readouterr().err.rstrip("\n").endswith(r"CC BY\x1b[2J\n4.0")


@pytest.mark.parametrize(
    ("info", "steps"),
    [
        ({"step": 0}, "0 steps"),
        ({"step": 1}, "1 step"),
        ({"step": 999, "licence": "MIT"}, "999 steps"),
        ({"step": 1000}, None),
        ({"step": 4, "initial_model": "runs/first"}, None),  # fine-tuned
        ({"step": 4, "layout_name": "jik876"}, None),  # fine-tuned from released weights by an earlier version
        ({"origin": "jik876/hifi-gan", "layout_name": "jik876"}, None),  # released
        ({"step": True}, None),
        ({"step": "7"}, None),
        ({"step": None}, None),
        ([], None),
    ],
)
def test_models_of_few_steps_are_loaded_with_a_warning(tmp_path, generator, config, capsys, info, steps):
    FAMILY.save_network(tmp_path, generator, config)
    table = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**table, "info": info}), encoding="utf-8")
    Vocoder.load(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == (steps is not None)
    if steps is not None:
        assert lines[0].startswith(
            f"jaxvoice: warning: The model in {tmp_path} was trained for {steps} only (it should"
        )
        assert "at least 1000" in lines[0] and "larger --minutes or --steps" in lines[0]


@pytest.mark.parametrize(("step", "warned"), [(499, True), (500, False)])
def test_families_differ_in_the_steps_that_they_need(tmp_path, capsys, step, warned):
    (tmp_path / "config.json").write_text(json.dumps({"info": {"step": step}}), encoding="utf-8")
    print_notices(tmp_path, gaussian_tts.FAMILY)
    assert ("499 steps only (it should be at least 500)" in capsys.readouterr().err) == warned
