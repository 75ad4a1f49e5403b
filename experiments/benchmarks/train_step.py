"""Speed and memory of one HiFi-GAN training step: jaxvoice compared with torch, with equal weights and audio.

    python -m experiments.benchmarks.train_step --batch 2 --json train_step.json

torch runs twice: with the step of the published code, and without the unused gradients of that code ("thrifty"). The
times include everything from 16-bit audio to updated weights, also mels. The losses of the first step must agree. On
two cores, a comparison of five rounds takes about three minutes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from jaxtyping import Int16

from experiments.benchmarks import common
from jaxvoice.training.process import keep_freed_memory, return_freed_memory

Engine = Literal["jaxvoice", "torch", "torch thrifty"]
ENGINES: tuple[Engine, ...] = ("jaxvoice", "torch", "torch thrifty")
LOSSES = ("disc_period", "disc_scale", "adv_period", "adv_scale", "feature_period", "feature_scale")
Audio = Int16[np.ndarray, "batch segment"]
Step = Callable[[], dict[str, float]]
"""One training step; returns its losses by the names of `torch_training.Trainer`, once they are computed."""


@dataclass(frozen=True)
class Options:
    """Settings of the benchmark."""

    preset: Literal["v1", "v2", "v3"] = "v1"
    """Size of the generator."""
    batch: int = 2
    """Crops in a batch."""
    segment: int = 8192
    """Samples in a crop."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the networks; parameters, losses and mels are float32."""
    engines: tuple[Engine, ...] = ENGINES
    """The engines to compare."""
    repeats: int = 7
    """Rounds of the comparison."""
    max_seconds: float = 120.0
    """Stop after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    threads: int | None = None
    """Number of processors of every engine; by default all."""
    json: Path | None = None
    """File for the results."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs; for internal use."""


def noise(batch: int, segment: int) -> Audio:
    """Noise with the level of speech; the cost does not depend on its content."""
    return np.random.default_rng(0).normal(0, 3000, (batch, segment)).astype(np.int16)


def torch_networks(preset: str) -> Any:
    """Generator, multi-period and multi-scale discriminators of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifigan

    torch.manual_seed(0)
    generator = torch_hifigan.Generator(**torch_hifigan.PRESETS[preset])
    return generator, torch_hifigan.MultiPeriodDiscriminator(), torch_hifigan.MultiScaleDiscriminator()


def torch_step(options: Options, *, skip_unused: bool) -> Step:
    """Training step in torch."""
    import torch

    from experiments.benchmarks.torch_training import LogMel, Trainer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    networks = [network.to(device) for network in torch_networks(options.preset)]
    autocast = torch.bfloat16 if options.precision == "bfloat16" else None
    trainer = Trainer(*networks, autocast=autocast, skip_unused=skip_unused)
    input_mel = LogMel().to(device)
    samples = torch.from_numpy(noise(options.batch, options.segment))

    def step() -> dict[str, float]:
        audio = samples.to(device).float() / 32768
        losses = trainer.step(input_mel(audio), audio[:, None])
        return {name: loss.item() for name, loss in losses.items()}

    return step


def state_with(task: Any, weights: dict[str, Any]) -> Any:
    """The state of a jaxvoice task before its first step, with weights under their released names."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifigan.weights import load_discriminators
    from jaxvoice.weights import load_state

    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    discriminators = load_discriminators(task.config.model.discriminators, weights["mpd"], weights["msd"])
    return task.state_of(load_state(shapes.generator.model, weights["generator"]), *discriminators)


def jaxvoice_step(options: Options, weights: dict[str, Any] | None) -> tuple[Step, float]:
    """Training step in jaxvoice, with the given weights or its own initial ones, and the seconds of its compilation."""
    import equinox as eqx
    import jax

    from jaxvoice.data import CropBatch
    from jaxvoice.models.hifigan import PRESETS
    from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
    from jaxvoice.training.compiled_step import compiler_options

    task = HiFiGANTask(TrainingConfig(PRESETS[options.preset], precision=options.precision), steps_per_epoch=100)
    state = task.init(key=jax.random.key(0)) if weights is None else state_with(task, weights)
    samples = noise(options.batch, options.segment)
    batch = CropBatch(samples, np.full(options.batch, 1 / 32768, np.float32))
    arrays, static = eqx.partition(state, eqx.is_array)

    def run(arrays: Any, batch: CropBatch) -> tuple[Any, dict[str, jax.Array]]:
        state, metrics = task.step(eqx.combine(arrays, static), batch, key=jax.random.key(0), phase=0)
        return eqx.filter(state, eqx.is_array), metrics

    start = time.perf_counter()
    program = jax.jit(run, donate_argnums=0).lower(arrays, batch).compile(compiler_options())
    return_freed_memory()
    seconds = time.perf_counter() - start

    def step() -> dict[str, float]:
        nonlocal arrays
        arrays, metrics = program(arrays, batch)
        jax.block_until_ready(arrays)
        losses = {name: float(metrics[name]) for name in LOSSES}
        return losses | {"mel_times_45": task.config.loss_weights.mel * float(metrics["mel_l1"])}

    return step, seconds


def build(engine: Engine, options: Options, weights: dict[str, Any] | None = None) -> tuple[Step, float | None]:
    """The training step of `engine`, and the seconds of its compilation, if it is compiled."""
    if engine == "jaxvoice":
        return jaxvoice_step(options, weights)
    return torch_step(options, skip_unused=engine == "torch thrifty"), None


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    threads = common.limit_threads(options.threads)
    if options.memory_of is not None:
        engine = options.memory_of
        return common.print_memory(lambda: build(engine, options)[0])

    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of

    load = common.OtherLoad()
    torch.set_num_threads(threads)
    names = ("generator", "mpd", "msd")
    weights = {name: arrays_of(network) for name, network in zip(names, torch_networks(options.preset), strict=True)}
    steps, compiling, losses = {}, {}, {}
    for engine in options.engines:
        steps[engine], compiling[engine] = build(engine, options, weights)
        losses[engine] = steps[engine]()
        print(f"{engine}: " + ", ".join(f"{name} {value:.5g}" for name, value in losses[engine].items()), flush=True)
    first = options.engines[0]
    tolerance = 1e-4 if options.precision == "float32" else 3e-2
    for engine in options.engines[1:]:
        for name, value in losses[engine].items():
            common.check_agreement(f"{name} of {engine}", np.array(losses[first][name]), np.array(value), tolerance)
    timings = common.in_turns(steps, repeats=options.repeats, max_seconds=options.max_seconds)
    seconds = options.batch * options.segment / 22050
    rows = [
        {
            "engine": engine,
            "median s": timing.median,
            "min s": timing.minimum,
            "audio s per s": seconds / timing.median,
            **common.speedups(timings[first], timing),
            "rounds": len(timing.seconds),
            "compiling s": compiling[engine],
        }
        for engine, timing in timings.items()
    ]
    if options.memory:
        for row in rows:
            arguments = ["--memory-of", row["engine"], "--threads", str(threads)]
            for name in ("preset", "batch", "segment", "precision"):
                arguments += [f"--{name}", str(getattr(options, name))]
            memory = common.memory_of("experiments.benchmarks.train_step", arguments)
            row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}
    work = f"{options.preset}, {options.precision}, {options.batch} x {options.segment} samples"
    common.report(
        f"training step of HiFi-GAN {work}",
        options,
        threads,
        rows,
        load=load,
        json_path=options.json,
        first_losses=losses,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
