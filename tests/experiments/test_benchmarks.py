"""The code shared by the benchmarks: turns, load of the machine, agreement, operations, memory, tables, files."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks import common, flops, timing, torch_hifigan, versions
from experiments.benchmarks.timing import ProcessorTimes, Timing, TimingOptions
from jaxvoice.models.hifigan import PRESETS, DiscriminatorConfig

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="the memory and the processor time of processes are read from /proc, which only Linux has",
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and a small matrix product."""
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes use a tenth of the processor time from the second reading on."""
    readings = iter(range(1000))

    def read() -> ProcessorTimes:
        seconds = 10.0 * next(readings)
        return ProcessorTimes(total=seconds, busy=0.4 * seconds, own=0.3 * seconds)

    monkeypatch.setattr(timing, "read_processor_times", read)


@pytest.mark.usefixtures("quick")
def test_calls_take_turns_in_rotating_order() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = timing.in_turns(calls, repeats=3, warm_up=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(one.seconds) for one in timings.values()] == [3, 3, 3]


@pytest.mark.usefixtures("quick")
def test_time_limit_leaves_three_rounds() -> None:
    timings = timing.in_turns({"a": lambda: None}, repeats=100, max_seconds=0)
    assert len(timings["a"].seconds) == 3


def test_row_computes_ratios_and_rates_from_minima() -> None:
    fast, slow = Timing((1.0, 2.0, 9.0)), Timing((3.0, 5.0, 4.0))
    row = timing.Comparison({"a": fast, "b": slow}, limit=10.0).row("b", gflop=6.0)
    assert (row["min s"], row["median s"], row["time / a"], row["rounds"]) == (3, 4, 3, 3)
    assert (row["GFLOP/s"], row["matrix product GFLOP/s"], row["share %"]) == (2, 10, 20)
    milliseconds = timing.Comparison({"a": fast}, limit=None).row("a", milliseconds=True)
    assert milliseconds == {"min ms": 1000, "median ms": 2000, "time / a": 1, "rounds": 3}


def test_share_of_others_excludes_own_time() -> None:
    before, after = ProcessorTimes(100, 50, 10), ProcessorTimes(120, 60, 16)
    assert timing.share_of_others(before, after) == pytest.approx((10 - 6) / 20)
    assert timing.share_of_others(before, ProcessorTimes(120, 55, 16)) == 0  # ticks are rounded
    assert timing.share_of_others(before, before) is None
    assert timing.share_of_others(None, after) is None


@linux_only
def test_own_processor_time_includes_children() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    before = timing.read_processor_times()
    assert before is not None
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running = timing.read_processor_times()
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass
    ended = timing.read_processor_times()
    assert running is not None and ended is not None
    assert running.own - before.own > 0.25
    assert ended.own - running.own > 0.15
    assert ended.total > before.total and ended.busy - before.busy > 0.4


@pytest.mark.usefixtures("quick", "busy")
def test_busy_machine_stops_the_benchmark() -> None:
    with pytest.raises(SystemExit, match=r"before the timing is 10 %; it should be at most 5 %.*--force"):
        timing.Harness(TimingOptions())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("shares", "when"), [([0.01, 0.2], "during the work"), ([0.01, 0.05, 0.2], "after the timing")]
)
def test_load_during_and_after_the_timing_stops_the_benchmark(
    shares: list[float], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter(shares)
    monkeypatch.setattr(timing, "share_of_others", lambda before, after: next(given))
    harness = timing.Harness(TimingOptions(repeats=3))
    with pytest.raises(SystemExit, match=f"{when} is 20 %"):
        row = harness.compare("the work", {"a": lambda: None}).row("a")
        common.report("x", TimingOptions(), [row], harness=harness)
    assert list(harness.shares.values()) == shares


@pytest.mark.usefixtures("quick", "busy")
def test_force_marks_rows_as_not_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TimingOptions(force=True, repeats=3, json=tmp_path / "x.json")
    harness = timing.Harness(options)
    row = harness.compare("the work", {"a": lambda: None}).row("a")
    common.report("x", options, [row], harness=harness)
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert written["rows"][0]["machine"] == "not quiet" and not written["machine"]["quiet"]
    assert written["machine"]["shares_of_other_processes"] == pytest.approx(
        {"before the timing": 0.1, "during the work": 0.1, "after the timing": 0.1}
    )
    shown = capsys.readouterr().out
    assert "| not quiet |" in shown and "up to 10 % of the processor time" in shown


@pytest.mark.usefixtures("quick")
def test_matrix_product_takes_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(timing, "matrix_product", lambda: lambda: calls.append("product"))
    monkeypatch.setattr(timing, "share_of_others", lambda before, after: None)
    harness = timing.Harness(TimingOptions(repeats=3))
    comparison = harness.compare("the work", {"a": lambda: calls.append("a")}, warm_up=1)
    assert calls == ["a", "product", "a", "product", "product", "a", "a", "product"]
    assert list(comparison.timings) == ["a"] and comparison.limit is not None and comparison.limit > 0
    assert harness.compare("the work", {"a": lambda: None}, product=False).limit is None


def test_threads_outside_the_machine_raise_an_error() -> None:
    with pytest.raises(SystemExit, match=r"--threads is 100000; it should be between 1 and \d+ on this machine"):
        timing.limit_threads(100_000)


@pytest.mark.parametrize("preset", ["v1", "v3"])
def test_operations_of_the_generator_equal_those_that_torch_counts(preset: str) -> None:
    network = torch_hifigan.Generator(**torch_hifigan.PRESETS[preset])
    with torch.device("meta"):
        counted = forward_gflop(network.to("meta"), torch.zeros(1, 80, 32))
    assert flops.generator_gflop(PRESETS[preset].generator, 32) == pytest.approx(counted, rel=1e-12)


@pytest.mark.parametrize("samples", [8192, 2000])
def test_operations_of_the_discriminators_equal_those_that_torch_counts(samples: int) -> None:
    audio, config = torch.zeros(1, 1, samples, device="meta"), DiscriminatorConfig()
    period, scale = torch_hifigan.MultiPeriodDiscriminator(), torch_hifigan.MultiScaleDiscriminator()
    counted = forward_gflop(period.to("meta"), audio)
    assert flops.period_discriminators_gflop(config, samples) == pytest.approx(counted, rel=1e-12)
    counted = forward_gflop(scale.to("meta").eval(), audio)
    assert flops.scale_discriminators_gflop(config, samples) == pytest.approx(counted, rel=1e-3)


def forward_gflop(network: torch.nn.Module, given: torch.Tensor) -> float:
    """The operations that torch counts in a forward pass, without those of spectral norm."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(given)
    convolutions = [count for name, count in counter.get_flop_counts()["Global"].items() if "conv" in str(name)]
    return sum(convolutions) / 1e9


def test_operations_of_a_training_step_equal_the_published_estimate() -> None:
    # A step of batch 16 costs 3.43 TFLOP without the gradients that the release does not use.
    assert flops.train_step_gflop(PRESETS["v1"], 16, 8192) / 1000 == pytest.approx(3.43, abs=0.02)


def test_traced_operations_include_loops_and_gradients() -> None:
    def operations(function, *arguments) -> int:
        return round(1e9 * flops.traced_gflop(function, *arguments))

    left, right, square = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32), np.ones((4, 4), np.float32)
    assert operations(lambda a, b: a @ b, left, right) == 2 * 3 * 4 * 5
    gradient = jax.grad(lambda a, b: (a @ b).sum(), argnums=(0, 1))
    assert operations(gradient, left, right) == 3 * 2 * 3 * 4 * 5

    def loop(a):
        return jax.lax.scan(lambda carry, _: (jax.jit(lambda x: x @ x)(carry), None), a, length=7)[0]

    assert operations(loop, square) == 7 * 2 * 4**3
    convolution = eqx.nn.Conv1d(6, 8, 3, groups=2, padding=1, key=jax.random.key(0))
    assert operations(convolution, jax.ShapeDtypeStruct((6, 10), np.float32)) == 2 * 10 * 8 * 3 * 3
    with pytest.raises(ValueError, match="while loop"):
        operations(lambda a: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, a), square)


def test_agreement_is_relative_to_the_largest_value() -> None:
    truth = np.array([100.0, 0.0])
    assert common.check_agreement("x", np.array([100.0, 1.0]), truth, 0.02) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        ([100.0, 3.0], r"reference is 3\.0e-02; it should be at most 2e-02"),
        ([100.0], r"is \(1,\); it should be \(2,\)"),
        ([100.0, np.nan], "reference is nan"),
    ],
)
def test_different_results_stop_the_benchmark(result: list[float], match: str) -> None:
    with pytest.raises(SystemExit, match=match):
        common.check_agreement("x", np.array(result), np.array([100.0, 0.0]), 0.02)


@linux_only
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
class _Options(common.ReportOptions):
    size: int


def test_report_is_written_with_machine_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "x.json"
    common.report("x", _Options(3, json=path), [{"a": 1.5}], [{"b": 2}], [], more=[1])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["rows"] == [{"a": 1.5}] and written["rows_2"] == [{"b": 2}] and written["rows_3"] == []
    assert "jax" in written["machine"]["versions"]
    assert written["options"] == {"json": str(path), "size": 3} and written["more"] == [1]
    shown = capsys.readouterr().out
    assert "| 1.50 |" in shown and "| b |" in shown


@pytest.mark.slow
def test_two_checkouts_are_timed_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    small = ["--work", "vocode", "--preset", "v2", "--frames", "8", "--repeats", "3", "--force"]
    versions.main([str(root), *small, "--json", str(tmp_path / "times.json")])
    rows = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))["rows"]
    assert [row["checkout"] for row in rows] == ["this checkout", "other checkout"]
    assert all(row["work"] == "vocode" and 0 < row["min s"] <= row["median s"] for row in rows)
    assert "time / this checkout" in capsys.readouterr().out


def test_missing_folders_and_unknown_work_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="contains no jaxvoice package; pass the root folder of a checkout"):
        versions.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="--work is 'inference'; it should be vocode or train step"):
        versions.main([str(tmp_path), "--work", "inference"])
