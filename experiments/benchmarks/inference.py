"""Speed and memory of HiFi-GAN inference: jaxvoice compared with torch (eager, and torch.jit frozen).

    python -m experiments.benchmarks.inference --json inference.json

The engines have the same weights. The benchmark times one utterance of 0.4 s and one of 5 s, and then several lengths
and batch sizes. Weight norm is folded in all engines, and the precision is float32. The engines take turns, and their
outputs must agree to 1e-4. The benchmark takes about three minutes on two cores.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import tyro
from jaxtyping import Float

from experiments.benchmarks import common

SAMPLE_RATE, HOP, MELS = 22050, 256, 80
Engine = Literal["jaxvoice", "torch eager", "torch.jit frozen"]
ENGINES: tuple[Engine, ...] = ("jaxvoice", "torch eager", "torch.jit frozen")
Mel = Float[np.ndarray, "batch mels frames"]
Call = Callable[[], Float[Any, "batch samples"]]


@dataclass(frozen=True)
class Options:
    """Settings of the benchmark."""

    preset: Literal["v1", "v2", "v3"] = "v1"
    """Size of the generator."""
    frames: tuple[int, ...] = (34, 430)
    """Lengths of the utterances that are compared, in mel frames of 11.6 ms."""
    sweep_frames: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Lengths in frames to compare at batch size 1."""
    sweep_batch: tuple[int, ...] = (1, 2, 4, 8)
    """Batch sizes to compare at 64 frames."""
    repeats: int = 15
    """Rounds of each comparison."""
    max_seconds: float = 60.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    threads: int | None = None
    """Number of processors of every engine; by default all."""
    json: Path | None = None
    """File for the results."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs for the first of `frames`; for internal use."""


def torch_generator(preset: str) -> Any:
    """The torch generator of a preset with weight norm folded, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifigan

    torch.manual_seed(0)
    generator = torch_hifigan.Generator(**torch_hifigan.PRESETS[preset])
    with torch.no_grad():
        # With default weights, the output is almost silence; with these, its peak is about a half.
        generator.conv_post.get_parameter("weight_g").mul_(20)
    return generator.eval()


def jaxvoice_call(preset: str, mel: Mel, weights: dict[str, Any] | None) -> Call:
    """Compiled jaxvoice inference on `mel`, with the given weights or, for memory, its own initial ones."""
    import equinox as eqx
    import jax

    from jaxvoice import nn
    from jaxvoice.models.hifigan import PRESETS, Generator
    from jaxvoice.weights.array_names import load_state

    generator = Generator(PRESETS[preset].generator, key=jax.random.key(0))
    if weights is not None:
        generator = load_state(generator, weights)
    generator = nn.freeze(generator)
    arrays = jax.device_put(mel)

    @eqx.filter_jit
    def run(generator, mel):
        return generator(mel.swapaxes(1, 2))[..., 0]

    return lambda: jax.block_until_ready(run(generator, arrays))


def torch_call(preset: str, mel: Mel, *, frozen: bool) -> Call:
    """Torch inference on `mel`, eager or as a frozen TorchScript graph."""
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    generator = fold_weight_norm(torch_generator(preset))
    tensor = torch.from_numpy(mel)
    if frozen:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\..*deprecated", category=DeprecationWarning)
            # A short example: the graph accepts every length, and the memory of tracing should not be measured.
            traced = torch.jit.trace(generator, tensor[:, :, :8], check_trace=False)
            generator = torch.jit.freeze(cast(torch.jit.ScriptModule, traced))

    def run() -> Any:
        with torch.inference_mode():
            return generator(tensor)[:, 0]

    return run


def build(engine: Engine, preset: str, mel: Mel, weights: dict[str, Any] | None = None) -> Call:
    """A call that synthesises `mel` (batch, mels, frames) with `engine` and returns (batch, samples)."""
    if engine == "jaxvoice":
        return jaxvoice_call(preset, mel, weights)
    return torch_call(preset, mel, frozen=engine == "torch.jit frozen")


def noise_mel(batch: int, frames: int) -> Mel:
    """A random mel spectrogram with the range of speech; the cost does not depend on its content."""
    return np.random.default_rng(0).normal(-5, 2, (batch, MELS, frames)).astype(np.float32)


def measure(
    options: Options, batch: int, frames: int, weights: dict[str, Any], engines: tuple[Engine, ...]
) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine; speeds are relative to jaxvoice."""
    mel = noise_mel(batch, frames)
    calls = {engine: build(engine, options.preset, mel, weights) for engine in engines}
    outputs = {engine: np.asarray(call()) for engine, call in calls.items()}
    truth = outputs[engines[-1]]
    timings = common.in_turns(calls, repeats=options.repeats, max_seconds=options.max_seconds)
    seconds = batch * frames * HOP / SAMPLE_RATE
    return [
        {
            "engine": engine,
            "batch": batch,
            "frames": frames,
            "audio s": seconds,
            "median s": timing.median,
            "min s": timing.minimum,
            "x real time": seconds / timing.median,
            **common.speedups(timings["jaxvoice"], timing),
            "rounds": len(timing.seconds),
            "difference": common.check_agreement(engine, outputs[engine], truth, 1e-4),
        }
        for engine, timing in timings.items()
    ]


def main(options: Options) -> None:
    """Run the benchmark."""
    threads = common.limit_threads(options.threads)
    if options.memory_of is not None:
        engine, mel = options.memory_of, noise_mel(1, options.frames[0])
        return common.print_memory(lambda: build(engine, options.preset, mel))

    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of

    load = common.OtherLoad()
    torch.set_num_threads(threads)
    weights = arrays_of(torch_generator(options.preset))
    rows = [row for frames in options.frames for row in measure(options, 1, frames, weights, ENGINES)]
    if options.memory:
        for row in rows:
            arguments = ["--preset", options.preset, "--frames", str(row["frames"]), "--memory-of", row["engine"]]
            arguments += ["--threads", str(threads)]
            memory = common.memory_of("experiments.benchmarks.inference", arguments)
            row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}
    pair: tuple[Engine, ...] = ("jaxvoice", "torch eager")
    shapes = [(1, frames) for frames in options.sweep_frames] + [(batch, 64) for batch in options.sweep_batch]
    sweep = [row for batch, frames in shapes for row in measure(options, batch, frames, weights, pair)]
    for row in sweep:
        row["ms per audio s"] = 1000 * row["median s"] / row["audio s"]
    if sweep:
        print("\n" + common.table(sweep))
    name = f"inference of HiFi-GAN {options.preset}, float32"
    common.report(name, options, threads, rows, load=load, json_path=options.json, sweep=sweep)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
