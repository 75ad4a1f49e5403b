"""The benchmark of WaveGlow at its small size: engines agree, and rows are measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import common, timing, waveglow, waveglow_windows
from jaxvoice.data import write_wav
from jaxvoice.models.waveglow import FAMILY
from tests.pipelines.small_waveglow import random_waveglow, waveglow_config

TINY = waveglow.Options(
    preset="tiny", seconds=(0.1,), works=("synthesis",), step=False, segment=1024, repeats=1, memory=False, force=True
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(waveglow, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


def run(tmp_path, **changes):
    path = tmp_path / "x.json"
    waveglow.main(replace(TINY, json=path, **changes))
    return json.loads(path.read_text(encoding="utf-8"))


def test_synthesis_is_measured(tmp_path) -> None:
    rows = run(tmp_path)["rows"]
    assert [(row["work"], row["engine"]) for row in rows] == [("synthesis", engine) for engine in waveglow.ENGINES]
    assert all(row["min s"] > 0 and row["x real time"] > 0 for row in rows)
    assert 0 < max(row["difference"] for row in rows) < 1e-3
    config = waveglow.PRESETS["tiny"]
    # Conditions, the convolutions and outputs of the layers, and the upsampling, in products per frame.
    layers = config.layers * 2 * config.channels * (80 * config.group + 7 * config.channels + config.channels)
    frame = 16 * config.flows * layers + config.upsample_kernel * 80 * 80
    expected = 2e-9 * waveglow.frames_of(config, 0.1) * frame
    assert rows[0]["GFLOP"] == pytest.approx(expected, rel=0.1)


def test_other_weights_stop_the_benchmark() -> None:
    config = waveglow.PRESETS["tiny"]
    weights = waveglow.weights_of(config)
    weights["WN.0.end.bias"] = weights["WN.0.end.bias"] + np.float32(0.2)
    mine, theirs = (waveglow.build(engine, "synthesis", config, 0.1, weights)() for engine in waveglow.ENGINES)
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("synthesis", mine, theirs, 1e-3)


def test_errors_of_windows_are_those_of_their_overlap(tmp_path, capsys) -> None:
    config, recording = waveglow_config(), tmp_path / "recording.wav"
    FAMILY.save_network(tmp_path / "model", random_waveglow(config), config)
    write_wav(recording, np.random.default_rng(0).normal(0, 0.1, 4000).clip(-1, 1).astype(np.float32), 8000)
    exact = max(config.receptive_field)
    options = waveglow_windows.Options(
        model=tmp_path / "model", source=recording, seconds=0.4, window=48, overlaps=(0, 2, exact), json=tmp_path / "x"
    )
    waveglow_windows.main(options)
    rows = json.loads((tmp_path / "x").read_text(encoding="utf-8"))["rows"]
    assert [row["s"] for row in rows] == [0.4] * 3 and [row["exact"] for row in rows] == [exact] * 3
    for column in ("relative RMS", "worst frame", "mel L1"):
        assert rows[0][column] > rows[1][column] > 1e-3 > 1e-4 > rows[2][column], column


def test_frame_errors_are_relative_to_the_whole() -> None:
    whole = np.array([3, -4, 0, 0], np.float32)
    errors, mean = waveglow_windows.frame_errors(whole + np.array([0, 0, 1, 7], np.float32), whole, 2)
    np.testing.assert_allclose(errors, [0, 2])
    assert mean == pytest.approx(2**0.5)


@pytest.mark.slow
def test_likelihood_training_step_and_memory_are_measured(tmp_path) -> None:
    found = run(tmp_path, works=("likelihood",), step=True, memory=True, memory_seconds=1.0)
    assert 0 < found["rows"][0]["difference"] < 1e-3
    assert [(row["work"], row["engine"]) for row in found["rows_2"]] == [
        ("training step", engine) for engine in waveglow.ENGINES
    ]
    assert 0 < found["rows_2"][0]["difference"] < 1e-4
    works = [(row["work"], row["engine"]) for row in found["rows_3"]]
    assert works == [(work, engine) for work in ("synthesis", "training step") for engine in waveglow.ENGINES]
    assert all(0 < row["MiB ready"] <= row["MiB peak"] for row in found["rows_3"])
