"""Shared by the benchmarks: agreement of results, memory of a separate process, tables and JSON."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from experiments.benchmarks.timing import Harness

NOT_QUIET = "not quiet"
"""Mark of the rows that were measured while other processes used the processors."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Settings of every benchmark."""

    json: Path | None = None
    """File for the results."""


def check_agreement(
    name: str, result: Float[np.ndarray, "..."], reference: Float[np.ndarray, "..."], tolerance: float
) -> float:
    """The largest absolute difference of `result`, relative to the largest magnitude of `reference`.

    **Raises:** `SystemExit` if it exceeds `tolerance` or the shapes differ: timings of unequal work cannot be compared.
    """
    result, reference = np.asarray(result, np.float64), np.asarray(reference, np.float64)
    if result.shape != reference.shape:
        raise SystemExit(
            f"The shape of the result of {name} is {result.shape}; it should be {reference.shape}, that of the "
            "reference."
        )
    difference = float(np.abs(result - reference).max() / np.abs(reference).max())
    if not difference <= tolerance:
        raise SystemExit(
            f"The relative difference between {name} and the reference is {difference:.1e}; it should be at most "
            f"{tolerance:.0e}."
        )
    return difference


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


def machine() -> dict[str, Any]:
    """Processor, operating system and versions of packages."""
    versions = {}
    for name in ("jax", "jaxlib", "equinox", "torch", "onnxruntime", "numpy", "librosa", "pocketsphinx"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
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


def report(
    benchmark: str,
    options: ReportOptions,
    *tables: Sequence[Mapping[str, Any]],
    harness: "Harness | None" = None,
    **more: Any,
) -> None:
    """Print the tables, and write them to `options.json`, if given, with machine, options and `more`.

    With `harness`, the machine must be quiet; with its `--force`, rows from a busy machine are marked "not quiet".

    **Raises:** `SystemExit` if other processes use the processors after the timing.
    """
    about = machine()
    if harness is not None:
        harness.finish()
        about |= {"threads": harness.threads, "shares_of_other_processes": harness.shares, "quiet": harness.quiet}
        if not harness.quiet:
            tables = tuple([{"machine": NOT_QUIET, **row} for row in rows] for rows in tables)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    threads = "" if harness is None else f", {harness.threads} threads"
    print(f"\n{benchmark}\n{about['processor']}{threads}; {versions}")
    for rows in filter(None, tables):
        print(f"\n{table(rows)}")
    if harness is not None and not harness.quiet:
        share = max(share for share in harness.shares.values() if share is not None)
        print(
            f"\nOther processes used up to {100 * share:.0f} % of the processor time, so the ratios are not reliable."
        )
    if options.json is not None:
        content = {"benchmark": benchmark, "machine": about, "options": asdict(options), **more}
        content |= {"rows" if i == 0 else f"rows_{i + 1}": list(rows) for i, rows in enumerate(tables)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"\nWritten to {options.json}")
