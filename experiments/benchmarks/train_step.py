"""Speed and memory of one HiFi-GAN training step: jaxvoice compared with torch, with equal weights and audio.

    python -m experiments.benchmarks.train_step --batch 2 --json train_step.json

torch runs twice: in the order of the published code, and with the gradients alone that it uses ("used gradients"). The
times include everything from 16-bit audio to updated weights, also mels. The losses of the first step must agree.

A second table shows the forward pass and the gradients of the weights for the generator, the period discriminators and
the scale discriminators alone; the discriminators see twice as many clips, as in their update. Operations are those of
`flops.train_step_gflop` for the step, and three times those of the forward pass for the parts. On two cores, the
benchmark takes about five minutes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Int16

from experiments.benchmarks import common, flops
from experiments.benchmarks.inference import Preset, torch_sizes
from experiments.benchmarks.timing import Harness, TimingOptions, limit_threads
from jaxvoice.dsp.mel_config import mel_filterbank
from jaxvoice.models.hifigan.config import PRESETS, DiscriminatorConfig
from jaxvoice.training.process import keep_freed_memory, return_freed_memory
from jaxvoice.training.training_state import Precision

Engine = Literal["jaxvoice", "torch", "torch, used gradients"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Part = Literal["generator", "period discriminators", "scale discriminators"]
PARTS: tuple[Part, ...] = get_args(Part)
LOSSES = ("disc_period", "disc_scale", "adv_period", "adv_scale", "feature_period", "feature_scale")
Audio = Int16[np.ndarray, "batch segment"]
Step = Callable[[], dict[str, float]]
"""One training step; returns its losses by the names of `torch_training.Trainer`, once they are computed."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "v1"
    """Size of the generator."""
    batch: int = 2
    """Crops in a batch."""
    segment: int = 8192
    """Samples in a crop."""
    precision: Precision = "float32"
    """Precision of the networks; parameters, losses and mels are float32."""
    engines: tuple[Engine, ...] = ENGINES
    """The engines to compare."""
    parts: tuple[Part, ...] = PARTS
    """The networks to time alone."""
    repeats: int = 7
    """Rounds of each comparison."""
    max_seconds: float = 120.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs; for internal use."""


def noise(batch: int, segment: int) -> Audio:
    """Noise with the level of speech; the cost does not depend on its content."""
    return np.random.default_rng(0).normal(0, 3000, (batch, segment)).astype(np.int16)


def torch_networks(preset: Preset) -> Any:
    """Generator, multi-period and multi-scale discriminators of torch, with the same weights in every call."""
    from experiments.benchmarks import torch_hifigan

    mpd, msd = torch_discriminators(PRESETS[preset].discriminators)
    return torch_hifigan.Generator(**torch_sizes(preset)), mpd, msd


def torch_discriminators(sizes: DiscriminatorConfig) -> Any:
    """Multi-period and multi-scale discriminators of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifigan

    torch.manual_seed(0)
    msd = torch_hifigan.MultiScaleDiscriminator(sizes.scales, width=sizes.width)
    # Every call is a power iteration. The random vectors that spectral norm begins with make the outputs overflow.
    with torch.no_grad():
        for _ in range(10):
            msd(torch.zeros(1, 1, 2048))
    return torch_hifigan.MultiPeriodDiscriminator(sizes.periods, width=sizes.width), msd


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
    mel = PRESETS[options.preset].mel_contract
    input_mel, loss_mel = (LogMel(filters=mel_filterbank(one)).to(device) for one in (mel, mel.full_band()))
    trainer = Trainer(*networks, autocast=autocast, skip_unused=skip_unused, loss_mel=loss_mel)
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
    import jax

    from jaxvoice.data import CropBatch
    from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig

    task = HiFiGANTask(TrainingConfig(PRESETS[options.preset], precision=options.precision), steps_per_epoch=100)
    state = task.init(key=jax.random.key(0)) if weights is None else state_with(task, weights)
    samples = noise(options.batch, options.segment)
    batch = CropBatch(samples, np.full(options.batch, 1 / 32768, np.float32))
    run, seconds = compiled_step(task, state, batch)

    def step() -> dict[str, float]:
        metrics = run()
        losses = {name: float(metrics[name]) for name in LOSSES}
        return losses | {"mel_times_45": task.config.loss_weights.mel * float(metrics["mel_l1"])}

    return step, seconds


def compiled_step(task: Any, state: Any, batch: Any, *, phase: int = 0) -> tuple[Callable[[], dict[str, Any]], float]:
    """A step of a task, compiled as in `jaxvoice.training.loop`, and the seconds of its compilation.

    Each call updates the state and returns the metrics, once both are computed.
    """
    import equinox as eqx
    import jax

    from jaxvoice.training.compiled_step import compiler_options

    arrays, static = eqx.partition(state, eqx.is_array)

    def run(arrays: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
        state, metrics = task.step(eqx.combine(arrays, static), batch, key=jax.random.key(0), phase=phase)
        return eqx.filter(state, eqx.is_array), metrics

    arrays, start = jax.device_put(arrays), time.perf_counter()
    program = jax.jit(run, donate_argnums=0).lower(arrays, batch).compile(compiler_options())
    return_freed_memory()
    seconds = time.perf_counter() - start

    def step() -> dict[str, Any]:
        nonlocal arrays
        arrays, metrics = program(arrays, batch)
        return jax.block_until_ready((arrays, metrics))[1]

    return step, seconds


def build(engine: Engine, options: Options, weights: dict[str, Any] | None = None) -> tuple[Step, float | None]:
    """The training step of `engine`, and the seconds of its compilation, if it is compiled."""
    if engine == "jaxvoice":
        return jaxvoice_step(options, weights)
    return torch_step(options, skip_unused=engine == "torch, used gradients"), None


def torch_part(part: Part, options: Options) -> Callable[[], np.ndarray]:
    """Forward pass and gradients of one network in torch; returns the loss and the norm of the gradient."""
    import torch

    networks = dict(zip(PARTS, torch_networks(options.preset), strict=True))
    # Evaluation mode: the vectors of spectral norm are used as they are.
    network, inputs = networks[part].eval(), torch.from_numpy(part_inputs(part, options))
    cotangents = torch.from_numpy(part_cotangents(options))
    parameters = list(network.parameters())

    def call() -> np.ndarray:
        for parameter in parameters:
            parameter.grad = None
        if part == "generator":
            loss = (network(inputs.swapaxes(1, 2))[:, 0] * cotangents).mean()
        else:
            loss = torch.stack([logits.square().mean() for logits, _ in network(inputs.swapaxes(1, 2))]).sum()
        loss.backward()
        squares = [parameter.grad.square().sum() for parameter in parameters if parameter.grad is not None]
        return np.array([loss.item(), torch.stack(squares).sum().sqrt().item()])

    return call


def jaxvoice_part(part: Part, options: Options, weights: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Forward pass and gradients of one network in jaxvoice; returns the loss and the norm of the gradient."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
    from jaxvoice.training.compiled_step import compiler_options

    state = state_with(HiFiGANTask(TrainingConfig(PRESETS[options.preset]), steps_per_epoch=1), weights)
    discriminators, vectors = state.discriminators.model, state.discriminators.model_state
    networks = dict(zip(PARTS, (state.generator.model, discriminators.mpd, discriminators.msd), strict=True))
    arrays, static = eqx.partition(networks[part], eqx.is_inexact_array)

    def loss(arrays: Any, inputs: jax.Array, cotangents: jax.Array, vectors: Any) -> jax.Array:
        network = eqx.combine(arrays, static)
        if part == "generator":
            return jnp.mean(network(inputs)[..., 0] * cotangents)
        outputs = network(inputs) if part == "period discriminators" else network(inputs, vectors, inference=True)[0]
        return sum((jnp.mean(jnp.square(output.logits)) for output in outputs), jnp.zeros(()))

    def run(*given: Any) -> tuple[jax.Array, jax.Array, Any]:
        value, gradient = jax.value_and_grad(loss)(*given)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
        return value, jnp.sqrt(jnp.stack(squares).sum()), gradient

    given = jax.device_put((arrays, part_inputs(part, options), part_cotangents(options), vectors))
    program = jax.jit(run).lower(*given).compile(compiler_options())

    def call() -> np.ndarray:
        value, norm, gradient = program(*given)
        jax.block_until_ready(gradient)
        return np.array([value, norm])

    return call


def part_inputs(part: Part, options: Options) -> np.ndarray:
    """Noise as the input of a network, channels last: mel spectrograms, or twice as many clips."""
    random, config = np.random.default_rng(0), PRESETS[options.preset]
    if part == "generator":
        shape = (options.batch, options.segment // config.mel.hop_length, config.generator.in_channels)
        return random.normal(-5, 2, shape).astype(np.float32)
    return random.normal(0, 0.1, (2 * options.batch, options.segment, 1)).astype(np.float32)


def part_cotangents(options: Options) -> np.ndarray:
    """Noise as the gradient with respect to the output of the generator."""
    return np.random.default_rng(1).standard_normal((options.batch, options.segment)).astype(np.float32)


def part_gflop(part: Part, options: Options) -> float:
    """The operations of a part: forward pass, gradient of the input of each layer, gradient of the weights."""
    config = PRESETS[options.preset]
    if part == "generator":
        return 3 * options.batch * flops.generator_gflop(config.generator, options.segment // config.mel.hop_length)
    count = flops.period_discriminators_gflop if part == "period discriminators" else flops.scale_discriminators_gflop
    return 3 * 2 * options.batch * count(config.discriminators, options.segment)


def measure_parts(harness: Harness, options: Options, weights: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the parts, one per engine; torch's two orders differ only in the whole step."""
    rows = []
    for part in options.parts:
        calls: dict[str, Callable[[], np.ndarray]] = {}
        for engine in options.engines:
            if engine == "jaxvoice":
                calls[engine] = jaxvoice_part(part, options, weights)
            elif "torch" not in calls:
                calls["torch"] = torch_part(part, options)
        results = {engine: call() for engine, call in calls.items()}
        reference = results.get("torch", next(iter(results.values())))
        for engine, result in results.items():
            for name, value, expected in zip(("loss", "gradient norm"), result, reference, strict=True):
                common.check_agreement(f"{name} of the {part}, {engine}", value, expected, 1e-3)
        comparison = harness.compare(part, calls)
        gflop = part_gflop(part, options)
        rows += [{"part": part, "engine": engine, **comparison.row(engine, gflop=gflop)} for engine in calls]
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    if options.memory_of is not None:
        engine, _ = options.memory_of, limit_threads(options.threads)
        return common.print_memory(lambda: build(engine, options)[0])

    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
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
    work = f"{options.preset}, {options.precision}, {options.batch} x {options.segment} samples"
    comparison = harness.compare(f"the training step of {work}", steps)
    seconds = options.batch * options.segment / 22050
    gflop = flops.train_step_gflop(PRESETS[options.preset], options.batch, options.segment)
    rows = [
        {
            "engine": engine,
            "audio s per s": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "compiling s": compiling[engine],
        }
        for engine in options.engines
    ]
    steps.clear()
    parts = measure_parts(harness, options, weights) if options.precision == "float32" else []
    if options.memory:
        for row in rows:
            arguments = ["--memory-of", row["engine"], "--threads", str(harness.threads)]
            for name in ("preset", "batch", "segment", "precision"):
                arguments += [f"--{name}", str(getattr(options, name))]
            memory = common.memory_of("experiments.benchmarks.train_step", arguments)
            row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}
    name = f"training step of HiFi-GAN {work}"
    common.report(name, options, rows, parts, harness=harness, first_losses=losses)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
