"""Comparisons of speed: engines take turns on a quiet machine, beside a large matrix product.

torch's threads spin while they wait for each other, so other processes slow torch down several times more than XLA, and
a ratio from a busy machine is wrong. A `Harness` therefore measures the processor time of other processes before,
during and after the timing, and raises `SystemExit` if it exceeds `QUIET`, unless `--force` is given.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks import common
from experiments.benchmarks.common import ReportOptions

QUIET = 0.05
"""Largest share of the machine's processor time that other processes may use during a comparison."""

WINDOW_SECONDS = 1.0
"""Duration of the measurements of other processes before and after the timing."""

PAUSE_SECONDS = 0.25
"""Seconds between two calls: OpenMP threads spin for 0.2 s after a call and would slow down the next one."""

MATRIX_SIZE = 3072
"""Rows and columns of the matrices whose product measures the rate of the machine."""

MATRIX_PRODUCT = "matrix product"


@dataclass(frozen=True, kw_only=True)
class TimingOptions(ReportOptions):
    """Settings of a benchmark that compares speeds."""

    repeats: int = 15
    """Rounds of each comparison."""
    max_seconds: float = 60.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    threads: int | None = None
    """Number of processors of every engine; by default all."""
    force: bool = False
    """Print the table even if other processes use the processors; its rows are marked "not quiet"."""


@dataclass(frozen=True)
class Timing:
    """Durations of the repeats of one call, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median duration."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """The shortest duration."""
        return min(self.seconds)


def timed(call: Callable[[], object]) -> float:
    """Run `call` once and return its duration in seconds; it must return after its work is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, max_seconds: float = math.inf, warm_up: int = 1
) -> dict[str, Timing]:
    """Time the calls in turns (A, B, C, B, C, A, ...), after `warm_up` calls of each that are not timed.

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


def limit_threads(threads: int | None) -> int:
    """Limit XLA to `threads` processors, by default all, and return their number; call it before XLA computes.

    XLA takes as many threads as processors it may run on, so on Linux the process is bound to that many. Elsewhere XLA
    keeps all of them. Other engines have settings of their own.

    **Raises:** `SystemExit` for a number below 1 or above that of the processors.
    """
    if not hasattr(os, "sched_setaffinity"):
        return threads or os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    if threads is not None:
        if not 1 <= threads <= len(allowed):
            raise SystemExit(f"--threads is {threads}; it should be between 1 and {len(allowed)} on this machine.")
        allowed = allowed[:threads]
        os.sched_setaffinity(0, allowed)
    return len(allowed)


def print_engine_memory(
    engine: str, threads: int | None, build: Callable[[], Callable[[], object]], *, calls: int = 1
) -> None:
    """Print the memory of `build()`, called `calls` times, in the process that `engine_memory` starts for `engine`."""
    number = limit_threads(threads)
    if engine.startswith("torch"):
        import torch

        torch.set_num_threads(number)
    common.print_memory(build, calls)


def engine_memory(module: str, engine: str, threads: int, arguments: Sequence[str]) -> dict[str, float | None]:
    """The columns "MiB ready" and "MiB peak" of an engine, measured in a process of its own.

    **Arguments:** `module`, the benchmark, which calls `print_engine_memory` with `--memory-of`; `threads`, processors
    of the engine; `arguments`, further flags.
    """
    memory = common.memory_of(module, ["--memory-of", engine, "--threads", str(threads), *arguments])
    return {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}


class ProcessorTimes(NamedTuple):
    """Processor time in seconds, summed over all processors."""

    total: float
    """Time since the system was started, idle time included."""
    busy: float
    """Time in which the processors were not idle, or not available to this virtual machine."""
    own: float
    """Time used by this process, its threads, and its descendants."""


def read_processor_times() -> ProcessorTimes | None:
    """The current processor times, from `/proc`; `None` on systems without it."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    ticks = [int(part) for part in path.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    per_second = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return ProcessorTimes(sum(ticks) / per_second, (sum(ticks) - idle) / per_second, _own_ticks() / per_second)


def _own_ticks() -> int:
    """Ticks of this process and of its descendants, including those that ended and were waited for."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The second field, the name of the program, is in parentheses and may contain spaces.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:  # the process has just ended
                continue
            process = int(entry.name)
            parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))
    family, this = 0, os.getpid()
    for process in ticks:
        ancestor = process
        while ancestor not in (this, 0) and ancestor in parents:
            ancestor = parents[ancestor]
        family += ticks[process] if ancestor == this else 0
    return family


def share_of_others(before: ProcessorTimes | None, after: ProcessorTimes | None) -> float | None:
    """Share of all processor time between two readings that other processes used, 0 to 1; `None` if unknown."""
    if before is None or after is None or after.total <= before.total:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, others) / (after.total - before.total))


def matrix_product(size: int | None = None) -> Callable[[], object]:
    """A product of two float32 matrices of `size` rows and columns in JAX, by default `MATRIX_SIZE`."""
    import jax
    import jax.numpy as jnp

    size = size or MATRIX_SIZE
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(left, right))


def matrix_gflop(size: int | None = None) -> float:
    """Floating-point operations of `matrix_product`, in units of 10^9."""
    return 2 * (size or MATRIX_SIZE) ** 3 / 1e9


@dataclass(frozen=True)
class Comparison:
    """The timings of one comparison; the first engine is the one to which the others are compared."""

    timings: Mapping[str, Timing]
    """Timings by engine."""
    limit: float | None
    """GFLOP/s of the matrix product in the same rounds; `None` if it was not measured."""

    def row(self, engine: str, *, gflop: float | None = None, milliseconds: bool = False) -> dict[str, Any]:
        """Columns of a table for `engine`, whose work consists of `gflop` 10^9 floating-point operations.

        Ratios and rates are computed from minima.
        """
        first, timing = next(iter(self.timings)), self.timings[engine]
        unit, scale = ("ms", 1000) if milliseconds else ("s", 1)
        row = {
            f"min {unit}": scale * timing.minimum,
            f"median {unit}": scale * timing.median,
            f"time / {first}": timing.minimum / self.timings[first].minimum,
        }
        if gflop is not None:
            row |= {"GFLOP": gflop, "GFLOP/s": gflop / timing.minimum}
        if self.limit is not None:
            row["matrix product GFLOP/s"] = self.limit
        if gflop is not None and self.limit is not None:
            row["share %"] = 100 * gflop / timing.minimum / self.limit
        return row | {"rounds": len(timing.seconds)}


class Harness:
    """Times engines in turns, with the matrix product among them, and checks that the machine is quiet.

    The number of processors is limited when the harness is created, so create it before XLA computes.

    **Raises:** `SystemExit` if other processes use more than `QUIET` of the processor time, unless `options.force`.
    """

    def __init__(self, options: TimingOptions):
        self.options, self.threads = options, limit_threads(options.threads)
        self.shares: dict[str, float | None] = {}
        """Shares of other processes in processor time, by the part of the benchmark."""
        self._product: Callable[[], object] | None = None
        with self.watching("before the timing"):
            time.sleep(WINDOW_SECONDS)

    @contextmanager
    def watching(self, when: str) -> Iterator[None]:
        """A context in which the processor time of other processes is measured; `when` names it in errors."""
        before = read_processor_times()
        yield
        share = share_of_others(before, read_processor_times())
        self.shares[when] = share
        if share is not None and share > QUIET and not self.options.force:
            raise SystemExit(
                f"The share of other processes in the processor time {when} is {100 * share:.0f} %; it should be at "
                f'most {100 * QUIET:.0f} %. Stop them, or pass --force to print the table marked "not quiet".'
            )

    def compare(
        self, name: str, calls: Mapping[str, Callable[[], object]], *, warm_up: int = 1, product: bool = True
    ) -> Comparison:
        """Time `calls` in turns; the first is the engine to which the others are compared.

        **Arguments:**

        - `name`: the work, for errors.
        - `calls`: the engines; each call must return after its work is done.
        - `warm_up`: calls of each engine that are not timed.
        - `product`: also time the matrix product.
        """
        engines: dict[str, Callable[[], object]] = dict(calls)
        if product:
            self._product = self._product or matrix_product()
            engines[MATRIX_PRODUCT] = self._product
        for engine in list(engines) * warm_up:
            engines[engine]()
        with self.watching(f"during {name}"):
            found = in_turns(engines, repeats=self.options.repeats, max_seconds=self.options.max_seconds, warm_up=0)
        limit = matrix_gflop() / found.pop(MATRIX_PRODUCT).minimum if product else None
        return Comparison(found, limit)

    def finish(self) -> None:
        """Measure the processor time of other processes after the timing; raises as `watching` does."""
        with self.watching("after the timing"):
            time.sleep(WINDOW_SECONDS)

    @property
    def quiet(self) -> bool:
        """Whether no measurement so far found more processor time of other processes than `QUIET`."""
        return all(share is None or share <= QUIET for share in self.shares.values())


def matrix_product_rate(calls: int = 5) -> float:
    """GFLOP/s of the fastest of some matrix products, after one that is not timed."""
    product = matrix_product()
    product()
    return matrix_gflop() / min(timed(product) for _ in range(calls))


if __name__ == "__main__":
    import json

    print(json.dumps(matrix_product_rate()))
