"""Speed of two checkouts of jaxvoice: vocoding and a training step of HiFi-GAN, in turns.

    python -m experiments.benchmarks.versions ../jaxvoice-0.1

Each checkout runs in a separate process until the end, and the two take turns after every call. Both use the
environment of this command. The operations are those of `flops.generator_gflop` and `flops.train_step_gflop`.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions
from jaxvoice.models import hifigan

WORK = ("vocode", "train step")
WORKER = Path(__file__).with_name("version_worker.py")


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
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
    repeats: int = 10
    """Rounds of each comparison."""


def main(arguments: list[str] | None = None) -> None:
    """Time both checkouts and print a table."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    unknown = [name for name in options.work if name not in WORK]
    if unknown:
        raise SystemExit(f"--work is {unknown[0]!r}; it should be {' or '.join(WORK)}.")
    if not (options.other / "jaxvoice" / "__init__.py").is_file():
        raise SystemExit(f"{options.other} contains no jaxvoice package; pass the root folder of a checkout.")
    harness, config = Harness(options), hifigan.preset(options.preset)
    gflop = {
        "vocode": flops.generator_gflop(config.generator, options.frames),
        "train step": flops.train_step_gflop(config, options.batch, config.segment_size),
    }
    rows = []
    for work in options.work:
        sides: dict[str, _Side] = {}
        try:
            sides["this checkout"] = _Side(Path(__file__).parents[2], work, options)
            sides["other checkout"] = _Side(options.other, work, options)
            comparison = harness.compare(work, {name: side.call for name, side in sides.items()})
        finally:
            for side in sides.values():
                side.close()
        rows += [{"work": work, "checkout": name, **comparison.row(name, gflop=gflop[work])} for name in sides]
    common.report("versions", replace(options, other=options.other.resolve()), rows, harness=harness)


class _Side:
    """A process that runs one checkout."""

    def __init__(self, checkout: Path, work: str, options: Options):
        given = json.dumps({"work": work, "preset": options.preset, "frames": options.frames, "batch": options.batch})
        self._checkout = checkout
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER.resolve()), given],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self) -> None:
        """Do the work once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise SystemExit(f"The process of {self._checkout} ended; see its error above.")

    def close(self) -> None:
        """End the process."""
        # The context manager closes both pipes, which ends the process, and waits for it.
        with self._process:
            pass


if __name__ == "__main__":
    main()
