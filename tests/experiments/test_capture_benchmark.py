"""The benchmark of captures with a small network: the programs agree, and rows are measured."""

import json

import pytest

from experiments.benchmarks import capture, timing
from jaxvoice.errors import ConfigError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(capture, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(timing, "WINDOW_SECONDS", 0)


def options(**changes) -> capture.Options:
    defaults = {"presets": ("v2_nopqmf",), "seconds": 0.1, "capacity": 2, "repeats": 1, "force": True}
    return capture.Options(**{**defaults, **changes})


@pytest.mark.slow
def test_programs_are_measured(tmp_path) -> None:
    path = tmp_path / "x.json"
    capture.main(options(json=path))
    plain, capturing = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert (plain["program"], capturing["program"]) == ("plain", "capture")
    assert plain["of plain"] == 1 and capturing["of plain"] > 0
    # 4,096 samples; channels and rates of five activations of capacity 2.
    values = 4096 * (2 / 16 + 8 / 256 + 16 / 512 + 8 / 64 + 2)
    assert capturing["captured MiB"] == pytest.approx(4 * values / 2**20)


@pytest.mark.slow
def test_unknown_layers_stop_the_benchmark(monkeypatch) -> None:
    monkeypatch.setattr(capture, "NAMES", ("decoder.net.99",))
    with pytest.raises(ConfigError, match=r"decoder\.net"):
        capture.main(options())
