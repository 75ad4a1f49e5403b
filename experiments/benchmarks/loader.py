"""Batches per second of the data loader, compared with the steps per second of training.

    python -m experiments.benchmarks.loader --data LJSpeech-1.1 --step-ms 60

A loader keeps a device busy if its batches per second during training exceed the steps per second. Loading needs no
multiplications; the rate of a matrix product stands beside the rows only as the speed of the machine in these minutes.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.benchmarks import common
from experiments.benchmarks.timing import Harness, TimingOptions, matrix_product_rate
from jaxvoice.data import Loader, RandomCrops, Store, find_corpus, load_store


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    data: Path
    """A corpus in any layout that jaxvoice reads."""
    batch: tuple[int, ...] = (16, 64)
    """Crops in a batch."""
    segment: int = 8192
    """Samples in a crop."""
    sample_rate: int = 22050
    """Rate that clips are resampled to, in Hz."""
    workers: tuple[int, ...] = (0, 1, 2)
    """Numbers of threads that assemble batches; with 0, the caller's thread does."""
    seconds: float = 2.0
    """Duration of each measurement in seconds."""
    step_ms: float | None = None
    """Duration of a training step in milliseconds, for the comparison."""


def batches_per_second(store: Store, batch: int, segment: int, workers: int, seconds: float) -> float:
    """Batches per second of a caller that only draws batches, after the first twenty."""
    with Loader(store, RandomCrops(batch, segment), workers=workers) as loader:
        for _ in range(20):
            next(loader)
        start, drawn = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            next(loader)
            drawn += 1
    return drawn / elapsed


def main(options: Options) -> None:
    """Run the benchmark."""
    harness, corpus = Harness(options), find_corpus(options.data)
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        stores = {
            "in memory": load_store(corpus, options.sample_rate),
            "memory-mapped": load_store(corpus, options.sample_rate, memory_limit=0, cache=cache),
        }
        limit = matrix_product_rate()
        with harness.watching("during the loading"):
            for place, store in stores.items():
                for batch in options.batch:
                    for workers in options.workers:
                        rate = batches_per_second(store, batch, options.segment, workers, options.seconds)
                        row = {"clips": place, "batch": batch, "workers": workers, "batches per s": rate}
                        row["audio s per s"] = rate * batch * options.segment / options.sample_rate
                        if options.step_ms is not None:
                            row["steps per s"] = 1000 / options.step_ms
                            row["batches per step"] = rate * options.step_ms / 1000
                        rows.append({**row, "matrix product GFLOP/s": limit})
        del stores, store
    name = f"loader, {len(corpus)} clips, crops of {options.segment} samples"
    common.report(name, options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
