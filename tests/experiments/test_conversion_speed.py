"""The benchmark of voice conversion at its small size: engines agree, and rows are measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import common, conversion_networks, conversion_speed, conversion_steps, timing

TINY = conversion_speed.Options(
    preset="tiny", seconds=(0.9,), steps=(), batch=2, segment_frames=4, repeats=1, memory=False, force=True
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(conversion_speed, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


def run(tmp_path, **changes):
    path = tmp_path / "x.json"
    conversion_speed.main(replace(TINY, json=path, **changes))
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_parts_of_a_conversion_are_measured(tmp_path) -> None:
    rows = run(tmp_path)["rows"]
    engines = [(row["work"], row["engine"]) for row in rows]
    assert engines == [
        (work, engine)
        for work in conversion_speed.WORKS
        for engine in (conversion_speed.ENGINES if work != "F0" else ("jaxvoice",))
    ]
    assert all(row["min s"] > 0 and row["x real time"] > 0 for row in rows)
    of_work = {row["work"]: row["GFLOP"] for row in rows if row["work"] != "F0"}
    assert of_work["conversion"] == pytest.approx(of_work["content encoder"] + of_work["decoder"])
    assert 0 < max(row["difference"] for row in rows) < 1e-3


def test_other_weights_stop_the_benchmark() -> None:
    weights = conversion_networks.weights_of(conversion_speed.PRESETS["tiny"])
    weights["decoder.conv_post.bias"] = np.full(1, 0.2, np.float32)
    mine, theirs = (conversion_speed.build(engine, "decoder", TINY, 0.2, weights)() for engine in ("jaxvoice", "torch"))
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("decoder", mine, theirs, 1e-2)


def test_sources_are_voiced_and_have_whole_frames() -> None:
    config = conversion_speed.PRESETS["tiny"]
    audio = conversion_networks.source_of(config, 0.9)
    assert len(audio) == 14_400 and np.abs(audio).max() == pytest.approx(conversion_networks.PEAK)
    log_f0, voiced, _phase = conversion_networks.f0_features(config, audio)
    assert len(log_f0) == 4 * conversion_networks.content_frames(config, 0.9) == 92
    assert voiced.mean() > 0.9 and np.abs(np.exp(log_f0) - 125).max() < 35


@pytest.mark.slow
def test_training_steps_are_measured(tmp_path) -> None:
    rows = run(tmp_path, works=(), steps=conversion_steps.STEPS)["rows_2"]
    assert [(row["work"], row["engine"]) for row in rows] == [
        (step, engine) for step in conversion_steps.STEPS for engine in conversion_speed.ENGINES
    ]
    assert 0 < max(row["difference"] for row in rows) < 1e-3 and rows[2]["GFLOP"] > rows[0]["GFLOP"]


@pytest.mark.slow
def test_memory_is_measured(tmp_path) -> None:
    rows = run(tmp_path, works=(), memory=True, memory_seconds=3.0)["rows_3"]
    assert [(row["engine"], row["audio s"]) for row in rows] == [("jaxvoice", 3.0), ("jaxvoice", 0.9), ("torch", 0.9)]
    assert all(0 < row["MiB ready"] <= row["MiB peak"] for row in rows)
