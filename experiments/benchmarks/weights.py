"""Reading and importing released weights, compared with torch: time and memory of whole processes.

    python -m experiments.benchmarks.weights --json weights.json

Every row is a process from start to end, as a user runs it in a shell. The file is a HiFi-GAN V1 in the released layout
(56 MB); listing is measured on a file of `--large` gigabytes too. Reading needs no multiplications; the rate of a
matrix product stands beside the rows only as the speed of the machine in these minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.benchmarks import common
from experiments.benchmarks.timing import Harness, TimingOptions

# The file is created in another process, because memory of this process would be counted for its children.
_MAKE_V1 = """
import sys, torch
from experiments.benchmarks import torch_hifigan
torch.manual_seed(0)
torch.save({"generator": torch_hifigan.Generator().state_dict()}, sys.argv[1])
"""
_MAKE_LARGE = """
import sys, numpy as np
from pathlib import Path
from jaxvoice.weights.file_writing import write_torch
layer = np.zeros((1024, 1024, 8), np.float32)
count = int(float(sys.argv[2]) * 1e9 / layer.nbytes)
write_torch(Path(sys.argv[1]), {f"layers.{i}.weight": layer + i for i in range(count)})
"""
_TORCH_LOAD = "import sys, torch; torch.load(sys.argv[1], map_location='cpu', weights_only=True)"
_READ = """
import sys
from jaxvoice.weights import open_archive
with open_archive(sys.argv[1]) as archive:
    for name in archive.tensors:
        archive.tensors[name].sum()
"""
_LIST = """
import sys
from jaxvoice.weights import open_archive
with open_archive(sys.argv[1]) as archive:
    print(len(archive.tensors.infos()))
"""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    repeats: int = 7
    """Rounds of measurements."""
    large: float = 2.0
    """Size in gigabytes of the file that is listed; 0 skips it."""


def run(command: Sequence[str]) -> float:
    """Run a process to its end and return its peak resident size in MiB.

    **Raises:** `SystemExit` with its output if the process fails.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed: {output.read().decode()[-2000:]}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main(options: Options) -> None:
    """Run the benchmark."""
    harness = Harness(options)
    python = [sys.executable, "-c"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "g_00000001", folder / "large.pt"
        run([*python, _MAKE_V1, str(small)])
        peaks: dict[str, float] = {}
        made = iter(range(10**6))

        def measured(row: str, *command: str, to: bool = False) -> None:
            place = [f"{folder / f'model-{next(made)}'}"] if to else []
            peaks[row] = max(peaks.get(row, 0.0), run([*command, *place]))

        jaxvoice = [sys.executable, "-m", "jaxvoice"]
        theirs = "torch.load(V1)"
        calls = {
            theirs: lambda: measured(theirs, *python, _TORCH_LOAD, str(small)),
            "jaxvoice import V1": lambda: measured(
                "jaxvoice import V1", *jaxvoice, "import", str(small), "--to", to=True
            ),
            "jaxvoice inspect V1": lambda: measured("jaxvoice inspect V1", *jaxvoice, "inspect", str(small)),
            "open_archive(V1), all tensors read": lambda: measured(
                "open_archive(V1), all tensors read", *python, _READ, str(small)
            ),
        }
        if options.large:
            run([*python, _MAKE_LARGE, str(large), str(options.large)])
            listing, inspecting = f"open_archive({options.large:g} GB), all listed", f"inspect {options.large:g} GB"
            calls[listing] = lambda: measured(listing, *python, _LIST, str(large))
            calls[inspecting] = lambda: measured(inspecting, *jaxvoice, "inspect", str(large))
        comparison = harness.compare("the processes", calls, product=False)
        size = small.stat().st_size / 2**20
    # In another process: this one must not load JAX, because its memory would be counted for its children.
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.timing"], capture_output=True, text=True, check=True
    )
    limit = json.loads(done.stdout)
    rows = [
        {"process": name, **comparison.row(name), "peak MiB": peaks[name], "matrix product GFLOP/s": limit}
        for name in calls
    ]
    common.report(f"weights, V1 of {size:.1f} MiB", options, rows, harness=harness, file_mib=size)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
