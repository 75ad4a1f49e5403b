"""Speed of two checkouts of jaxvoice: vocoding and a training step of HiFi-GAN, in turns.

    python -m experiments.benchmarks.versions ../jaxvoice-0.1

Each checkout runs in a separate process until the end, and the two take turns after every call. Both use the
environment of this command.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from experiments.benchmarks import common

WORK = ("vocode", "train step")


@dataclass(frozen=True)
class Options:
    """Settings of the benchmark."""

    other: Annotated[Path, tyro.conf.Positional]
    """The checkout to compare this one with."""
    work: tuple[str, ...] = WORK
    """`vocode` a mel spectrogram, `train step` of generator and discriminators."""
    preset: str = "v1"
    """Preset of HiFi-GAN."""
    frames: int = 430
    """Frames of the mel spectrogram: 5 s at 22,050 Hz."""
    batch: int = 2
    """Crops in a batch of the training step."""
    rounds: int = 10
    """Number of calls of each checkout."""
    json: Path | None = None
    """File for the results."""


def main(arguments: list[str] | None = None) -> None:
    """Time both checkouts and print a table."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    unknown = [name for name in options.work if name not in WORK]
    if unknown:
        raise SystemExit(f"--work {unknown[0]!r} is unknown; use {' or '.join(WORK)}.")
    if not (options.other / "jaxvoice" / "__init__.py").is_file():
        raise SystemExit(f"{options.other} contains no jaxvoice package; pass the root folder of a checkout.")
    threads, load = common.limit_threads(None), common.OtherLoad()
    rows = []
    for work in options.work:
        sides = {"this": _Side(Path(__file__).parents[2], work, options), "other": _Side(options.other, work, options)}
        try:
            timings = common.in_turns({name: side.call for name, side in sides.items()}, repeats=options.rounds)
            seconds = {name: tuple(sides[name].seconds[-options.rounds :]) for name in timings}
        finally:
            for side in sides.values():
                side.close()
        this, other = (common.Timing(seconds[name]) for name in ("this", "other"))
        rows.append(
            {
                "work": work,
                "other median s": other.median,
                "this median s": this.median,
                "other min s": other.minimum,
                "this min s": this.minimum,
                "this / other (median)": this.median / other.median,
                "this / other (min)": this.minimum / other.minimum,
            }
        )
    plain = replace(options, other=options.other.resolve())
    common.report("versions", plain, threads, rows, load=load, json_path=options.json)


class _Side:
    """A process that runs one checkout."""

    def __init__(self, checkout: Path, work: str, options: Options):
        given = json.dumps({"work": work, "preset": options.preset, "frames": options.frames, "batch": options.batch})
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker", given],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seconds: list[float] = []
        """Durations of the calls, measured in the process."""

    def call(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {self._process.args[1]} ended; see its error above.")  # pyright: ignore
        self.seconds.append(float(line))

    def close(self) -> None:
        # The context manager closes both pipes, which ends the process, and waits for it.
        with self._process:
            pass


def _worker(work: str, preset: str, frames: int, batch: int) -> None:
    call = _vocode(preset, frames) if work == "vocode" else _train_step(preset, batch)
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        print(time.perf_counter() - start, flush=True)


def _vocode(preset: str, frames: int) -> Callable[[], Any]:
    import jax

    import jaxvoice
    from jaxvoice.models import hifigan

    config = hifigan.preset(preset)
    vocoder = jaxvoice.Vocoder(hifigan.Generator(config.generator, key=jax.random.key(0)), config)
    mel = np.random.default_rng(0).normal(-4, 2, (config.generator.in_channels, frames)).astype(np.float32)
    return lambda: vocoder.synthesize(mel, check=False)


def _train_step(preset: str, batch: int) -> Callable[[], Any]:
    import equinox as eqx
    import jax

    from jaxvoice import data
    from jaxvoice.models import hifigan
    from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig

    task = HiFiGANTask(TrainingConfig(model=hifigan.preset(preset)), steps_per_epoch=1000)
    state = task.init(key=jax.random.key(0))
    audio = np.random.default_rng(0).integers(-3000, 3000, (batch, task.config.model.segment_size), np.int16)
    make_batch = getattr(data, "CropBatch", None) or data.Batch  # version 0.1's name
    given = make_batch(audio, np.full(batch, 1 / 32768, np.float32))
    # Version 0.1's step takes neither key nor phase.
    keywords = {"key": jax.random.key(0), "phase": 0} if hasattr(task, "phase_of") else {}
    step = eqx.filter_jit(lambda state, batch: task.step(state, batch, **keywords))
    return lambda: jax.block_until_ready(jax.tree.leaves(eqx.filter(step(state, given), eqx.is_array)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _worker(**json.loads(sys.argv[2]))
    else:
        main()
