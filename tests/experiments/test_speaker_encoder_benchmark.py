"""The benchmark of the H/ASP speaker encoder with short waveforms: engines agree, and rows are measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.benchmarks import common, speaker_encoder as benchmark, timing

SHORT = benchmark.Options(
    seconds=0.3, recordings=2, batch=2, segment=4096, repeats=1, max_seconds=0.1, memory=False, force=True
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


def test_works_and_memory_are_measured(tmp_path) -> None:
    benchmark.main(replace(SHORT, json=tmp_path / "x.json"))
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    expected = [(work, engine) for work in benchmark.WORKS for engine in benchmark.ENGINES]
    assert [(row["work"], row["engine"]) for row in rows] == expected
    assert all(row["min s"] > 0 and row["GFLOP"] > 0 for row in rows)
    assert all(0 < row["difference"] < benchmark.TOLERANCE[row["work"]] for row in rows)
    benchmark.main(replace(SHORT, works=("embedding",), memory=True, json=tmp_path / "x.json"))
    memory = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows_2"]
    assert [row["engine"] for row in memory] == list(benchmark.ENGINES)
    assert all(0 < row["MiB ready"] <= row["MiB peak"] for row in memory)
    benchmark.main(replace(SHORT, works=("gradient",), layers=True, json=tmp_path / "x.json"))
    layers = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows_3"]
    shapes = ("2 x 64 x 26 x 32", "2 x 32 x 13 x 64", "2 x 16 x 7 x 128", "2 x 8 x 4 x 256")
    assert [row["convolution"] for row in layers[::2]] == [f"3 x 3, {shape}" for shape in shapes]
    assert layers[0]["GFLOP"] == pytest.approx(2 * 9 * 32 * 32 * 2 * 64 * 26 / 1e9)


def test_gradients_equal_those_in_float64() -> None:
    """In float32, those of torch are less precise."""
    encoder = benchmark.torch_encoder().double()
    audio, reference = (torch.from_numpy(benchmark.audio_of(SHORT, "gradient", seed)).double() for seed in (0, 1))
    audio.requires_grad_()
    embeddings = [benchmark.normalized(encoder, waves) for waves in (audio, reference)]
    loss = -(embeddings[0] * embeddings[1].detach()).sum(-1).mean()
    expected = torch.autograd.grad(loss, audio)[0].numpy()
    found = benchmark.jaxvoice_call(SHORT, "gradient")[0]()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_other_weights_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, weights_of = benchmark.torch_call(SHORT, "embedding")(), benchmark.weights_of

    def changed(encoder):
        weights = weights_of(encoder)
        weights["layer3.2.conv1.weight"] = weights["layer3.2.conv1.weight"] * np.float32(1.2)
        return weights

    monkeypatch.setattr(benchmark, "weights_of", changed)
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("embedding", benchmark.jaxvoice_call(SHORT, "embedding")[0](), theirs, 1e-4)
