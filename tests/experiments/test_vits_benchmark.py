"""The benchmark of VITS with a small network: engines agree, and rows are measured."""

import dataclasses
import json

import pytest

from experiments.benchmarks import common, timing, vits as benchmark
from jaxvoice.models.vits.config import DurationConfig, WaveNetConfig
from jaxvoice.text import VITS_SYMBOLS
from tests.models.vits.small import SMALL

# The sizes that the original fixes in its code, and few channels elsewhere.
CONFIG = dataclasses.replace(
    SMALL,
    symbols=VITS_SYMBOLS,
    text=dataclasses.replace(SMALL.text, window=4),
    posterior=WaveNetConfig(layers=16),
    flow=WaveNetConfig(layers=4),
    flows=4,
    durations=DurationConfig(),
    num_speakers=3,
    languages=(),
    decoder=dataclasses.replace(SMALL.decoder, resblock_dilation_sizes=((1, 3),)),
)
SHORT = benchmark.Options(
    seconds=0.3, tokens=61, batch=2, step_tokens=9, repeats=1, max_seconds=0.1, memory=False, force=True
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, no pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(benchmark, "preset", lambda name: CONFIG)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


@pytest.mark.slow
def test_synthesis_and_conversion_are_measured(tmp_path) -> None:
    works = ("synthesis", "conversion")
    benchmark.main(dataclasses.replace(SHORT, works=works, json=tmp_path / "x.json"))
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    expected = [(work, engine) for work in works for engine in benchmark.engines_of(work)]
    assert [(row["work"], row["engine"]) for row in rows] == expected
    assert all(row["min s"] > 0 and row["GFLOP"] > 0 and row["audio s"] > 0.2 for row in rows)
    assert all(0 < row["difference"] < benchmark.TOLERANCE for row in rows if row["engine"] == "jaxvoice")


@pytest.mark.slow
def test_other_weights_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = benchmark.torch_call(SHORT, "conversion")()
    network_of = benchmark.torch_network

    def changed(config):
        network = network_of(config)
        network.flow.flows[0].post.weight.mul_(1.5)
        return network

    monkeypatch.setattr(benchmark, "torch_network", changed)
    with pytest.raises(SystemExit, match="it should be at most"):
        mine = benchmark.jaxvoice_call(SHORT, "conversion")[0]()
        common.check_agreement("conversion", mine, theirs, benchmark.TOLERANCE)


@pytest.mark.slow
def test_training_steps_equal_those_of_torch() -> None:
    """The second step follows from the updated weights, for which torch's unused gradients make no difference."""
    mine, *theirs = (benchmark.call_of(SHORT, engine, "training step") for engine in benchmark.ENGINES)
    for _ in range(2):
        found = mine()
        for step in theirs:
            assert all(found[name] == pytest.approx(value, rel=1e-3) for name, value in step().items())
