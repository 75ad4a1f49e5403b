"""The benchmarks of HiFi-GAN at small sizes: engines agree, and rows are measured."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from experiments.benchmarks import common, inference, timing, train_step

FORCED = {"repeats": 1, "memory": False, "force": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(train_step, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


@pytest.mark.slow
def test_inference_measures_every_engine(tmp_path) -> None:
    options = inference.Options(
        preset="tiny", frames=(8,), sweep_frames=(8,), sweep_batch=(), json=tmp_path / "x.json", **FORCED
    )
    inference.main(options)
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    engines = ["jaxvoice", "torch eager", "torch.jit frozen"]
    engines += ["ONNX Runtime"] if find_spec("onnx") and find_spec("onnxruntime") else []
    assert [row["engine"] for row in written["rows"]] == engines
    assert all(row["min s"] > 0 and row["share %"] > 0 for row in written["rows"])
    assert 0 < max(row["difference"] for row in written["rows"]) < 1e-4
    assert [(row["engine"], row["frames"]) for row in written["rows_2"]] == [("jaxvoice", 8), ("torch eager", 8)]


def test_missing_packages_leave_out_onnx_runtime(monkeypatch, capsys) -> None:
    monkeypatch.setattr(inference, "find_spec", lambda name: None)
    assert inference.installed(("jaxvoice", "ONNX Runtime")) == ("jaxvoice",)
    assert "left out: onnx and onnxruntime not installed" in capsys.readouterr().out


@pytest.mark.slow
def test_training_step_and_parts_are_measured(tmp_path) -> None:
    options = train_step.Options(preset="tiny", batch=1, segment=2048, json=tmp_path / "x.json", **FORCED)
    train_step.main(options)
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [row["engine"] for row in written["rows"]] == ["jaxvoice", "torch", "torch, used gradients"]
    parts = [(row["part"], row["engine"]) for row in written["rows_2"]]
    assert parts == [(part, engine) for part in train_step.PARTS for engine in ("jaxvoice", "torch")]


@pytest.mark.slow
def test_other_weights_of_a_part_stop_the_benchmark() -> None:
    from experiments.benchmarks.torch_hifigan import arrays_of

    options = train_step.Options(preset="tiny", batch=1, segment=2048, **FORCED)
    names = ("generator", "mpd", "msd")
    weights = {name: arrays_of(one) for name, one in zip(names, train_step.torch_networks("tiny"), strict=True)}
    weights["generator"] = weights["generator"] | {"conv_post.bias": np.ones(1, np.float32)}
    theirs = train_step.torch_part("generator", options)()
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("loss", train_step.jaxvoice_part("generator", options, weights)(), theirs, 1e-3)
