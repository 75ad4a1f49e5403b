"""Shared by the benchmarks: timing in turns, memory in a separate process, agreement of results, tables, JSON."""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

PAUSE_SECONDS = 0.25
"""Seconds between two calls: OpenMP threads spin for 0.2 s after a call and would slow down the next one."""


@dataclass(frozen=True)
class Timing:
    """Durations of the repeats of one call, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        return {"median_s": self.median, "min_s": self.minimum, "repeats": len(self.seconds)}


def timed(call: Callable[[], object]) -> float:
    """Run `call` once and return its duration in seconds; it must return after its work is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, max_seconds: float = math.inf, warm_up: int = 1
) -> dict[str, Timing]:
    """Time the calls in turns (A, B, C, B, C, A, ...), so that a busy machine slows them equally.

    Stops after `repeats` rounds, or after `max_seconds` once three rounds are done.
    """
    names = list(calls)
    for name in names * warm_up:
        calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > max_seconds:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(PAUSE_SECONDS)
            seconds[name].append(timed(calls[name]))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def speedups(ours: Timing, theirs: Timing) -> dict[str, float]:
    """How many times faster `ours` is, by medians and by minima; they differ if other processes were busy."""
    return {"x faster (median)": theirs.median / ours.median, "x faster (min)": theirs.minimum / ours.minimum}


def check_agreement(
    what: str, ours: Float[np.ndarray, "..."], theirs: Float[np.ndarray, "..."], tolerance: float
) -> float:
    """The largest absolute difference, relative to the largest magnitude of `theirs`.

    **Raises:** `SystemExit` if it exceeds `tolerance` or the shapes differ: timings of unequal work cannot be compared.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise SystemExit(
            f"{what}: jaxvoice gives shape {ours.shape}, torch {theirs.shape}; they do not do the same work."
        )
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference <= tolerance:
        raise SystemExit(
            f"{what}: jaxvoice and torch differ by {difference:.1e} (relative), more than {tolerance:.0e}."
        )
    return difference


def limit_threads(threads: int | None) -> int:
    """Limit both libraries to `threads` processors, by default all; call it before any of them computes.

    XLA takes as many threads as processors it may run on, so on Linux the process is bound to that many. Elsewhere XLA
    keeps all of them, and only torch is limited.
    """
    if not hasattr(os, "sched_setaffinity"):
        return threads or os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    if threads is not None:
        if not 1 <= threads <= len(allowed):
            raise SystemExit(f"threads must be between 1 and {len(allowed)} on this machine, got {threads}.")
        allowed = allowed[:threads]
        os.sched_setaffinity(0, allowed)
    return len(allowed)


def peak_memory() -> float | None:
    """Largest resident size of this process so far in MiB; `None` if the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux, its peak includes that of the parent process.
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def print_memory(build: Callable[[], Callable[[], object]], calls: int = 2) -> None:
    """Build a call, run it `calls` times, and print the peak memory of this process before and after as JSON."""
    call = build()
    before = peak_memory()
    for _ in range(calls):
        call()
    print(json.dumps({"ready_mib": before, "peak_mib": peak_memory()}))


def memory_of(module: str, arguments: Sequence[str]) -> dict[str, float | None]:
    """Run `python -m module arguments`, which ends with `print_memory`; returns its peaks in MiB.

    **Raises:** `SystemExit` with what the process wrote if it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine(threads: int) -> dict[str, Any]:
    """Processor, memory, operating system and versions of packages."""
    versions = {}
    for name in ("jax", "jaxlib", "equinox", "torch", "numpy", "librosa", "pocketsphinx"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table; floats with three significant digits."""
    header = list(rows[0])
    cells = [header, *([_cell(row.get(name)) for name in header] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


class OtherLoad:
    """Load of the machine by other processes since this object was created. High load makes timings unreliable."""

    def __init__(self) -> None:
        self._start = self._read()

    def share(self) -> float | None:
        """Share of processor time that other processes used, 0 to 1; `None` if the system does not report it."""
        now = self._read()
        if now is None or self._start is None:
            return None
        total, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, busy - own) / total if total else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        path = Path("/proc/stat")
        if not path.exists():
            return None
        ticks = [int(part) for part in path.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
        second = os.sysconf("SC_CLK_TCK")
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        idle = ticks[3] + ticks[4]
        return sum(ticks) / second, (sum(ticks) - idle) / second, own


def report(
    benchmark: str,
    options: Any,
    threads: int,
    rows: Sequence[Mapping[str, Any]],
    *,
    load: OtherLoad,
    json_path: Path | None = None,
    **more: Any,
) -> None:
    """Print the rows as a table, and write them as JSON with machine, options and `more` if a path is given."""
    others = load.share()
    about = machine(threads)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    about["share_of_other_processes"] = others
    print(f"\n{benchmark}\n{about['processor']}, {threads} threads; {versions}\n")
    print(table(rows))
    if others is not None and others > 0.05:
        print(f"\nOther processes used {100 * others:.0f} % of the processors: these timings are not reliable.")
    if json_path is not None:
        content = {"benchmark": benchmark, "machine": about, "options": asdict(options), "rows": list(rows), **more}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"\nWritten to {json_path}")
