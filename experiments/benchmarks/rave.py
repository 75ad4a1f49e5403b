"""Speed and memory of RAVE and of its training: jaxvoice compared with torch, with equal weights.

    python -m experiments.benchmarks.rave --json rave.json

- `encode and decode`: audio to latents and to audio, in one program. Weight norm is folded.
- `phase 1`, `discriminators`, `generator`: steps of both phases of training, from audio to updated weights, as in
    `jaxvoice.models.rave.training`. The discriminators' and the generator's steps are those of the second phase.

The engines take turns, the precision is float32, and their results must agree: audio to 1e-4, losses to 1e-3. The
operations of encoding and decoding are those of `flops.traced_gflop`. The memory of each is the peak of a separate
process.
"""

import functools as ft
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, engine_memory, print_engine_memory
from experiments.benchmarks.train_step import compiled_step
from jaxvoice.models.rave.training_config import RaveTrainingConfig, training_preset
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["v2", "v2_nopqmf", "tiny"]
Work = Literal["encode and decode", "phase 1", "discriminators", "generator"]
STEPS: Mapping[Work, int] = {"phase 1": 0, "discriminators": 1, "generator": 2}
"""The phases of the training loop by the names of the steps."""
_MODES = {"phase 1": "reconstruction", "discriminators": "discriminators", "generator": "generator"}
Array = Float32[np.ndarray, "..."]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "v2"
    """Size of the network."""
    seconds: float = 5.0
    """Length of the audio that is encoded and decoded."""
    works: tuple[Work, ...] = get_args(Work)
    """What is measured."""
    batch: int = 1
    """Crops in a training batch."""
    segment: int | None = None
    """Samples in a crop; by default those of the preset."""
    repeats: int = 9
    """Rounds of each comparison."""
    max_seconds: float = 120.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory of this engine for the first of `works`; for internal use."""


def configuration(options: Options) -> RaveTrainingConfig:
    """The configuration of the preset, without a moving average, which torch's step does not have."""
    if options.preset == "tiny":
        from experiments.rave import tiny_training

        config = tiny_training()
    else:
        config = training_preset(options.preset)
    return replace(config, ema_decay=None, segment_size=options.segment or config.segment_size)


def torch_networks(config: RaveTrainingConfig) -> tuple[Any, Any]:
    """Network and discriminators of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_rave

    torch.manual_seed(0)
    discriminators = torch_rave.Discriminators(config.model.discriminators, config.model.n_channels)
    return torch_rave.Rave(config.model), discriminators


def weights_of(config: RaveTrainingConfig) -> tuple[dict[str, Array], dict[str, Array]]:
    """The weights of torch under their released names."""
    from experiments.benchmarks.torch_hifigan import arrays_of

    network, discriminators = torch_networks(config)
    return arrays_of(network), arrays_of(discriminators)


def jaxvoice_networks(config: RaveTrainingConfig, weights: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Any:
    """Network, state and discriminators of jaxvoice with the weights of torch."""
    import equinox as eqx
    import jax

    from jaxvoice.models.rave import PQMF, Rave, build_discriminators
    from jaxvoice.weights import load_state, named_arrays

    model, key = config.model, jax.random.key(0)
    network = eqx.filter_eval_shape(Rave, model, key=key)
    shapes = eqx.filter_eval_shape(build_discriminators, model.discriminators, model.n_channels, key=key)
    network = load_state(network, named_arrays({"pqmf": PQMF(model.pqmf)}) | dict(weights[0]))
    return network, network.init_state(), load_state(shapes, weights[1])


def audio_of(config: RaveTrainingConfig, rows: int, samples: int) -> Float32[np.ndarray, "rows samples channels"]:
    """Noise with the level of music; the cost does not depend on its content."""
    shape = (rows, samples, config.model.n_channels)
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def jaxvoice_call(options: Options, weights: Any) -> tuple[Callable[[], Array], float]:
    """The reconstruction of `seconds` of audio in jaxvoice, and its operations in units of 10^9."""
    import equinox as eqx
    import jax

    from jaxvoice import nn

    config = configuration(options)
    network, state, _ = jaxvoice_networks(config, weights)
    network = eqx.filter_jit(ft.partial(nn.freeze, winograd=False))(network)
    audio = jax.device_put(audio_of(config, 1, samples_of(options)))

    def reconstruct(network: Any, state: Any, audio: Any) -> Any:
        return network(audio, state, inference=True)[0]

    compiled = eqx.filter_jit(reconstruct)
    gflop = flops.traced_gflop(reconstruct, network, state, audio)
    return lambda: np.asarray(compiled(network, state, audio))[0], gflop


def torch_call(options: Options) -> Callable[[], Array]:
    """The same work in torch."""
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    config = configuration(options)
    network: Any = fold_weight_norm(torch_networks(config)[0]).eval()
    audio = torch.from_numpy(audio_of(config, 1, samples_of(options))).mT.contiguous()

    def call() -> Array:
        with torch.inference_mode():
            return network(audio)[0].T.numpy()

    return call


def samples_of(options: Options) -> int:
    """The number of samples of `seconds` of audio, whole frames of latents."""
    model = configuration(options).model
    return max(1, round(options.seconds * model.sample_rate / model.hop_length)) * model.hop_length


def jaxvoice_step(options: Options, work: Work, weights: Any) -> tuple[Callable[[], dict[str, float]], float]:
    """A training step of jaxvoice, which returns its losses, and the seconds of its compilation."""
    from jaxvoice.data import AudioBatch
    from jaxvoice.models.rave.training import RaveTask

    config = configuration(options)
    task = RaveTask(config, steps_per_epoch=100)
    batch = AudioBatch(audio_of(config, options.batch, config.segment_size))
    state = task.state_of(*jaxvoice_networks(config, weights))
    run, seconds = compiled_step(task, state, batch, phase=STEPS[work])
    return lambda: {name: float(value) for name, value in run().items()}, seconds


def torch_step(options: Options, work: Work) -> Callable[[], dict[str, float]]:
    """The same step in torch, with the noise of jaxvoice's step."""
    import jax
    import torch

    from experiments.benchmarks import torch_rave

    config = configuration(options)
    trainer = torch_rave.Trainer(*torch_networks(config), config)
    audio = torch.from_numpy(audio_of(config, options.batch, config.segment_size)).mT.contiguous()
    frames, latents = config.segment_size // config.model.hop_length, config.model.bottleneck.latent_size
    encode_key = jax.random.split(jax.random.key(0))[0]
    noise = np.array(jax.random.normal(jax.random.split(encode_key, 2)[1], (options.batch, frames, latents)))
    mode: Any = _MODES[work]
    return lambda: trainer.step(audio, torch.from_numpy(noise).mT, mode)


def measure(harness: Harness, options: Options, work: Work, weights: Any) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine; their results must agree."""
    config, compiling, gflop = configuration(options), None, None
    if work == "encode and decode":
        call, gflop = jaxvoice_call(options, weights)
        calls: dict[str, Callable[[], Any]] = {"jaxvoice": call, "torch": torch_call(options)}
        results = {engine: call() for engine, call in calls.items()}
        seconds, tolerance = samples_of(options) / config.model.sample_rate, 1e-4
    else:
        mine, compiling = jaxvoice_step(options, work, weights)
        calls = {"jaxvoice": mine, "torch": torch_step(options, work)}
        losses = {engine: call() for engine, call in calls.items()}
        names = sorted(losses["torch"])
        results = {engine: np.array([found[name] for name in names]) for engine, found in losses.items()}
        seconds, tolerance = options.batch * config.segment_size / config.model.sample_rate, 1e-3
    difference = common.check_agreement(work, results["jaxvoice"], results["torch"], tolerance)
    comparison = harness.compare(work, calls)
    return [
        {
            "work": work,
            "engine": engine,
            "audio s": seconds,
            "audio s per s": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": difference,
            "compiling s": compiling if engine == "jaxvoice" else None,
        }
        for engine in calls
    ]


def memory_call(options: Options) -> Callable[[], object]:
    """The work whose memory is measured."""
    work = options.works[0]
    if options.memory_of == "torch":
        return torch_call(options) if work == "encode and decode" else torch_step(options, work)
    weights = weights_of(configuration(options))
    return (
        jaxvoice_call(options, weights)[0] if work == "encode and decode" else jaxvoice_step(options, work, weights)[0]
    )


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """Rows of the memory of each work and engine, each in a separate process."""
    rows = []
    for work in options.works:
        for engine in ENGINES:
            arguments = ["--preset", options.preset, "--works", work, "--seconds", str(options.seconds)]
            arguments += ["--batch", str(options.batch)]
            arguments += [] if options.segment is None else ["--segment", str(options.segment)]
            peaks = engine_memory("experiments.benchmarks.rave", engine, threads, arguments)
            rows.append({"work": work, "engine": engine, **peaks})
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    if options.memory_of is not None:
        return print_engine_memory(options.memory_of, options.threads, ft.partial(memory_call, options))

    import torch

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    weights = weights_of(configuration(options))
    rows = [row for work in options.works for row in measure(harness, options, work, weights)]
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report(f"RAVE, preset {options.preset}, float32", options, rows, memory, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
