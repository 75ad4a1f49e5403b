"""The machinery of the benchmarks: turns, agreement, memory, tables, files."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import common, versions


def test_calls_take_turns_in_rotating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "PAUSE_SECONDS", 0)
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = common.in_turns(calls, repeats=3, warm_up=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3, 3]


def test_at_least_three_rounds_within_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "PAUSE_SECONDS", 0)
    timings = common.in_turns({"a": lambda: None}, repeats=100, max_seconds=0)
    assert len(timings["a"].seconds) == 3


def test_statistics_of_a_timing() -> None:
    fast, slow = common.Timing((1.0, 2.0, 9.0)), common.Timing((3.0, 5.0, 4.0))
    assert (fast.median, fast.minimum) == (2, 1)
    assert common.speedups(fast, slow) == {"x faster (median)": 2, "x faster (min)": 3}


def test_agreement_is_relative_to_the_largest_value() -> None:
    truth = np.array([100.0, 0.0])
    assert common.check_agreement("x", np.array([100.0, 1.0]), truth, 0.02) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("ours", "match"),
    [([100.0, 3.0], r"differ by 3\.0e-02"), ([100.0], "do not do the same work"), ([100.0, np.nan], "differ by nan")],
)
def test_different_results_stop_the_benchmark(ours: list[float], match: str) -> None:
    with pytest.raises(SystemExit, match=match):
        common.check_agreement("x", np.array(ours), np.array([100.0, 0.0]), 0.02)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="the memory of other processes is read from /proc, which only Linux has",
)
def test_memory_is_that_of_the_separate_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from experiments.benchmarks import common\ncommon.print_memory(lambda: lambda: bytearray(b'x' * 2**26))\n"
    (tmp_path / "needs_64_mib.py").write_text(script, encoding="utf-8")
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{tmp_path}")
    ballast = np.ones(2**26)  # half a gigabyte here must not count there
    memory = common.memory_of("needs_64_mib", [])
    assert memory["ready_mib"] is not None and memory["peak_mib"] is not None
    assert memory["ready_mib"] < ballast.nbytes / 2**20 / 2
    assert 64 <= memory["peak_mib"] - memory["ready_mib"] < 200


def test_error_of_a_failed_process_is_reported() -> None:
    with pytest.raises(SystemExit, match="No module named"):
        common.memory_of("experiments.benchmarks.missing", [])


def test_table_is_markdown() -> None:
    rows = [{"engine": "a", "s": 0.12345, "n": 3}, {"engine": "bcd", "s": 1234.5, "n": None}]
    assert common.table(rows).splitlines() == [
        "| engine | s     | n |",
        "| ------ | ----- | - |",
        "| a      | 0.123 | 3 |",
        "| bcd    | 1234  | - |",
    ]


@dataclass(frozen=True)
class _Options:
    json: Path | None = None


def test_report_is_written_with_machine_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "x.json"
    load = common.OtherLoad()
    common.report("x", _Options(path), 2, [{"a": 1.5}], load=load, json_path=path, more=[1])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["rows"] == [{"a": 1.5}]
    assert written["machine"]["threads"] == 2 and "jax" in written["machine"]["versions"]
    assert written["options"] == {"json": str(path)} and written["more"] == [1]
    assert "| 1.50 |" in capsys.readouterr().out


@pytest.mark.slow
def test_two_checkouts_are_timed_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    small = ["--work", "vocode", "--preset", "v2", "--frames", "8", "--rounds", "3"]
    versions.main([str(root), *small, "--json", str(tmp_path / "times.json")])
    (row,) = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))["rows"]
    assert row["work"] == "vocode" and 0 < row["this min s"] <= row["this median s"]
    assert "this / other (min)" in capsys.readouterr().out


def test_missing_folders_and_unknown_work_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="contains no jaxvoice package; pass the root folder of a checkout"):
        versions.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="'inference' is unknown; use vocode or train step"):
        versions.main([str(tmp_path), "--work", "inference"])
