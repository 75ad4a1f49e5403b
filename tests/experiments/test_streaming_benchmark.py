"""The benchmark of streams with small networks: engines agree, and rows are measured."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.benchmarks import streaming, timing
from jaxvoice.models.rave import preset
from tests.models.rave.released import with_capacity, with_formula_weights

TINY = streaming.Options(presets=("v1",), hops=(1,), blocks=40, capacity=2, repeats=1, force=True, memory=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, no setting that keeps the memory of this process, and statistics unlike the initial ones."""
    monkeypatch.setattr(streaming, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(streaming, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(timing, "WINDOW_SECONDS", 0)

    def network_of(config):
        network, state = with_formula_weights(config)
        rng, (leaves, tree) = np.random.default_rng(0), jax.tree.flatten(state)
        return network, tree.unflatten([np.abs(rng.normal(1, 0.2, leaf.shape)).astype(leaf.dtype) for leaf in leaves])

    monkeypatch.setattr(streaming, "network_of", network_of)


@pytest.mark.slow
def test_blocks_are_measured(tmp_path) -> None:
    path = tmp_path / "x.json"
    streaming.main(replace(TINY, json=path))
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["engine"] for row in rows] == list(streaming.ENGINES)
    assert 0 < rows[0]["difference"] < 1e-4
    assert all(0 < row["p50 ms"] <= row["p99 ms"] and row["blocks"] == 40 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v2", "v2_nopqmf", "v2_small"])
def test_engines_agree_for_all_presets(name, tmp_path) -> None:
    rows = tmp_path / "x.json"
    streaming.main(replace(TINY, json=rows, presets=(name,), hops=(1, 4)))
    assert len(json.loads(rows.read_text(encoding="utf-8"))["rows"]) == 4


@pytest.mark.slow
def test_memory_is_measured(tmp_path) -> None:
    rows = tmp_path / "x.json"
    streaming.main(replace(TINY, json=rows, memory=True))
    memory = json.loads(rows.read_text(encoding="utf-8"))["rows_2"]
    assert [row["engine"] for row in memory] == list(streaming.ENGINES)
    assert all(row["MiB peak"] > 100 for row in memory)


def test_other_weights_stop_the_benchmark(monkeypatch) -> None:
    network, state = with_formula_weights(with_capacity(preset("v1"), 2))
    original = streaming.torch_step
    monkeypatch.setattr(streaming, "torch_step", lambda *_: original(network, state))
    with pytest.raises(SystemExit, match="it should be at most"):
        streaming.main(TINY)
