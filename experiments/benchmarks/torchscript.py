"""Speed of a TorchScript archive: interpreted by jaxvoice under `jax.jit`, compared with torch.jit.

    python -m experiments.benchmarks.torchscript --json torchscript.json

A HiFi-GAN generator is traced with weight norm, saved, and read by both engines. Both take weights and mel as arguments
and compute the norm in every call. A third row shows torch.jit with the frozen module, in which the norm is folded. The
engines take turns, the precision is float32, and the outputs must agree to 1e-4. The operations are those of
`flops.generator_gflop`. The benchmark takes about two minutes on two cores.
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import tyro

from experiments.benchmarks import common
from experiments.benchmarks.flops import generator_gflop
from experiments.benchmarks.inference import HOP, SAMPLE_RATE, Preset, noise_mel, torch_generator
from experiments.benchmarks.timing import Harness, TimingOptions
from jaxvoice.models.hifigan.config import PRESETS


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "v1"
    """Size of the generator."""
    frames: tuple[int, ...] = (431,)
    """Lengths of the utterances in mel frames of 11.6 ms."""
    repeats: int = 10
    """Rounds of each comparison."""
    max_seconds: float = 90.0
    """Stop a comparison after this time in seconds, but not before three rounds."""


def save_trace(preset: Preset, path: Path) -> None:
    """Trace the generator of a preset with weight norm, and save it."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*deprecated", category=DeprecationWarning)
        # A short example: the trace accepts every length.
        example = torch.from_numpy(noise_mel(1, 8))
        torch.jit.save(torch.jit.trace(torch_generator(preset), example, check_trace=False), path)


def jaxvoice_call(path: Path, mel: np.ndarray) -> Callable[[], Any]:
    """The archive as a compiled JAX function of its weights and `mel`."""
    import jax

    from jaxvoice.torchscript import function
    from jaxvoice.weights.formats import TorchScriptArchive, open_archive

    with open_archive(path) as archive:
        run = function(cast(TorchScriptArchive, archive))
    weights, array = jax.device_put(run.weights), jax.device_put(mel)
    compiled = jax.jit(run).lower(weights, array).compile()
    return lambda: jax.block_until_ready(compiled(weights, array))


def torch_call(path: Path, mel: np.ndarray, *, frozen: bool) -> Callable[[], Any]:
    """The archive as a torch module."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*deprecated", category=DeprecationWarning)
        module = torch.jit.load(path).eval()
        module = torch.jit.freeze(module) if frozen else module
    tensor = torch.from_numpy(mel)

    def run() -> Any:
        with torch.inference_mode():
            return module(tensor)

    return run


def measure(harness: Harness, preset: Preset, path: Path, frames: int) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine."""
    mel = noise_mel(1, frames)
    calls: dict[str, Callable[[], Any]] = {
        "jaxvoice": jaxvoice_call(path, mel),
        "torch.jit": torch_call(path, mel, frozen=False),
        "torch.jit frozen": torch_call(path, mel, frozen=True),
    }
    outputs = {engine: np.asarray(call()) for engine, call in calls.items()}
    differences = {
        engine: common.check_agreement(engine, output, outputs["torch.jit"], 1e-4) for engine, output in outputs.items()
    }
    comparison = harness.compare(f"inference of {frames} frames", calls, warm_up=2)
    seconds, gflop = frames * HOP / SAMPLE_RATE, generator_gflop(PRESETS[preset].generator, frames)
    return [
        {
            "engine": engine,
            "frames": frames,
            "audio s": seconds,
            "x real time": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": differences[engine],
        }
        for engine in calls
    ]


def main(options: Options) -> None:
    """Run the benchmark."""
    import torch

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.pt"
        save_trace(options.preset, path)
        rows = [row for frames in options.frames for row in measure(harness, options.preset, path, frames)]
    common.report(f"TorchScript archive of HiFi-GAN {options.preset}, float32", options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
