"""Speed and memory of the mel front end and of its gradient, jaxvoice compared with torch (`torch.stft`).

    python -m experiments.benchmarks.mel --json mel.json

Two shapes: a training batch, 16 crops of 8192 samples, and one recording of 10 s. The gradient is that of the mean
absolute mel difference to other audio, as in training; both engines compute the mel of the target in advance. The
operations are those of `flops.mel_gflop`, three times as many for the gradient. The work is limited by memory rather
than by multiplications, so its share of the matrix product's rate is small in every engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common
from experiments.benchmarks.flops import mel_gflop
from experiments.benchmarks.timing import Harness, TimingOptions, limit_threads
from jaxvoice.dsp.mel_config import MelConfig

Engine = Literal["jaxvoice", "torch"]
Work = Literal["forward", "gradient"]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    shapes: tuple[tuple[int, int], ...] = ((16, 8192), (1, 220_500))
    """Shapes of the audio: batch and samples."""
    repeats: int = 40
    """Rounds of each comparison."""
    max_seconds: float = 20.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs for the first of `shapes`; for internal use."""
    work: Work = "forward"
    """The work whose memory is printed."""


Audio = Float32[np.ndarray, "batch samples"]
Calls = dict[str, Callable[[], Any]]


def noise(batch: int, samples: int) -> tuple[Audio, Audio]:
    """Two batches of white noise."""
    audio, target = 0.1 * np.random.default_rng(0).standard_normal((2, batch, samples))
    return audio.astype(np.float32), target.astype(np.float32)


def jaxvoice_calls(audio: Audio, target: Audio) -> Calls:
    """Compiled forward pass and gradient in jaxvoice."""
    import jax
    import jax.numpy as jnp

    from jaxvoice.dsp.mel import log_mel

    config = MelConfig().full_band()

    def mels(batch: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: log_mel(row, config))(batch)

    forward = jax.jit(mels)
    gradient = jax.jit(jax.grad(lambda batch, wanted: jnp.abs(mels(batch) - wanted).mean()))
    batch, wanted = jnp.asarray(audio), forward(jnp.asarray(target))
    return {
        "forward": lambda: jax.block_until_ready(forward(batch)),
        "gradient": lambda: jax.block_until_ready(gradient(batch, wanted)),
    }


def torch_calls(audio: Audio, target: Audio) -> Calls:
    """Forward pass and gradient in torch."""
    import torch

    from experiments.benchmarks.torch_training import LogMel

    log_mel = LogMel(fmax=None)
    batch = torch.from_numpy(audio)
    wanted = log_mel(torch.from_numpy(target))

    def forward() -> Any:
        with torch.inference_mode():
            return log_mel(batch)

    def gradient() -> Any:
        leaf = batch.clone().requires_grad_()
        torch.nn.functional.l1_loss(log_mel(leaf), wanted).backward()
        return leaf.grad

    return {"forward": forward, "gradient": gradient}


def main(options: Options) -> None:
    """Run the benchmark."""
    if options.memory_of is not None:
        limit_threads(options.threads)
        calls = jaxvoice_calls if options.memory_of == "jaxvoice" else torch_calls
        return common.print_memory(lambda: calls(*noise(*options.shapes[0]))[options.work])

    import torch

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    rows = []
    for batch, samples in options.shapes:
        audio, target = noise(batch, samples)
        ours, theirs = jaxvoice_calls(audio, target), torch_calls(audio, target)
        for work in ours:
            # Rounding may flip the signs of tiny mel differences, so single values of the gradient may differ.
            tolerance = 1e-4 if work == "forward" else 2e-2
            difference = common.check_agreement(work, np.asarray(ours[work]()), np.asarray(theirs[work]()), tolerance)
            calls = {"jaxvoice": ours[work], "torch": theirs[work]}
            comparison = harness.compare(f"the {work} of {batch} x {samples} samples", calls, warm_up=3)
            gflop = (1 if work == "forward" else 3) * batch * mel_gflop(MelConfig(), samples)
            rows += [
                {
                    "work": work,
                    "engine": engine,
                    "batch": batch,
                    "samples": samples,
                    **comparison.row(engine, gflop=gflop, milliseconds=True),
                    "difference": difference,
                }
                for engine in calls
            ]
    if options.memory:
        for row in rows:
            arguments = ["--memory-of", row["engine"], "--work", row["work"], "--threads", str(harness.threads)]
            arguments += ["--shapes", str(row["batch"]), str(row["samples"])]
            memory = common.memory_of("experiments.benchmarks.mel", arguments)
            row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}
    common.report("mel front end, float32", options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
