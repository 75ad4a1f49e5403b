"""The benchmark of RAVE at its small size: engines agree, and rows are measured; training in torch."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import common, rave as benchmark, rave_training, timing

ENGINES = benchmark.ENGINES
TINY = benchmark.Options(preset="tiny", seconds=0.2, works=("encode and decode",), repeats=1, memory=False, force=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


def run(tmp_path, **changes):
    path = tmp_path / "x.json"
    benchmark.main(replace(TINY, json=path, **changes))
    return json.loads(path.read_text(encoding="utf-8"))


def test_reconstruction_is_measured(tmp_path) -> None:
    rows = run(tmp_path)["rows"]
    assert [(row["work"], row["engine"]) for row in rows] == [("encode and decode", one) for one in ENGINES]
    assert all(row["min s"] > 0 and row["audio s per s"] > 0 for row in rows)
    assert 0 < max(row["difference"] for row in rows) < 1e-4


def test_other_weights_stop_the_benchmark() -> None:
    weights = benchmark.weights_of(benchmark.configuration(TINY))
    name = "decoder.net.0.weight_g"
    weights[0][name] = weights[0][name] * np.float32(1.5)
    mine, theirs = benchmark.jaxvoice_call(TINY, weights)[0](), benchmark.torch_call(TINY)()
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("encode and decode", mine, theirs, 1e-4)


@pytest.mark.slow
def test_steps_and_memory_are_measured(tmp_path) -> None:
    works = ("phase 1", "discriminators", "generator")
    rows = run(tmp_path, works=works, segment=8192)["rows"]
    assert [(row["work"], row["engine"]) for row in rows] == [(one, engine) for one in works for engine in ENGINES]
    assert all(0 <= row["difference"] < 1e-3 for row in rows)
    memory = run(tmp_path, memory=True)["rows_2"]
    assert [(row["work"], row["engine"]) for row in memory] == [("encode and decode", engine) for engine in ENGINES]
    assert all(0 < row["MiB ready"] <= row["MiB peak"] for row in memory)


@pytest.mark.slow
def test_torch_trains_and_is_validated(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path))
    rave_training.main(rave_training.Options(steps=2, json=tmp_path / "x.json"))
    (row,) = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    assert row["steps"] == 2 and 0 < row["spectral_distance"] < 100
    assert "torch" in capsys.readouterr().out
