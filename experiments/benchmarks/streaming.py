"""Cost of a block of a RAVE stream: jaxvoice compared with cached convolutions in torch, with equal weights.

    python -m experiments.benchmarks.streaming --json streaming.json

Every block of `hops` frames of audio is encoded and decoded, as in a real-time session: an engine receives the block
as a numpy array, and the time ends when the result is a numpy array. jaxvoice runs a `StreamSession`, torch the
networks of `torch_streaming.py`. There is no noise, latents are the means of their distributions, and the precision is
float32.

A run is a number of blocks without a pause; engines take turns, run by run. The table shows the median and the 99th
percentile over all blocks of all runs, as a share of the duration of a block, and the latency of the model in samples.
The output of the engines must agree to 1e-4 in the last quarter of a run. With a block of one hop, a session is in real
time if p99 is below 100 % of the block.
"""

import functools as ft
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common
from experiments.benchmarks.timing import PAUSE_SECONDS, Harness, TimingOptions, engine_memory, print_engine_memory
from jaxvoice.models.rave.config import PRESETS, RaveConfig
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["v1", "v2", "v2_small", "v2_nopqmf", "onnx", "raspberry"]
Audio = Float32[np.ndarray, "samples 1"]
Step = Callable[[Audio], Audio]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    presets: tuple[Preset, ...] = ("v1", "v2", "v2_small", "v2_nopqmf", "raspberry")
    """The configurations to measure."""
    hops: tuple[int, ...] = (1, 4)
    """Lengths of a block in hops of the model."""
    blocks: int = 100
    """Blocks of a run."""
    capacity: int | None = None
    """Capacity of the networks instead of that of the preset, for tests."""
    repeats: int = 5
    """Runs of each engine."""
    max_seconds: float = 300.0
    """Stop a comparison after this time in seconds, but not before three runs of each engine."""
    memory: bool = True
    """Measure the memory of each engine and preset in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory of this engine for the first preset and length; for internal use."""


def configuration(preset: Preset, options: Options) -> RaveConfig:
    """The configuration of a preset, with the capacity of the options."""
    config = PRESETS[preset]
    if options.capacity is None:
        return config
    parts = {name: replace(getattr(config, name), capacity=options.capacity) for name in ("encoder", "generator")}
    return replace(config, **parts)


def network_of(config: RaveConfig) -> tuple[Any, Any]:
    """A network with random weights, and its state."""
    import equinox as eqx
    import jax

    from jaxvoice.models.rave import Rave

    network = eqx.filter_jit(Rave)(config, key=jax.random.key(0))
    return network, network.init_state()


def jaxvoice_session(network: Any, state: Any, samples: int) -> Any:
    """A session of audio to audio for blocks of `samples`."""
    import equinox as eqx

    from jaxvoice import nn
    from jaxvoice.models.rave import autoencoder_stream
    from jaxvoice.pipelines.stream_session import StreamSession

    stream = autoencoder_stream(eqx.filter_jit(ft.partial(nn.freeze, winograd=False))(network), state, noise=False)
    return StreamSession(stream, samples, factor=2)


def torch_step(network: Any, state: Any) -> Step:
    """The same in torch."""
    import torch

    from experiments.benchmarks.torch_streaming import StreamingRave

    model = StreamingRave(network, state).eval()

    def step(x: Audio) -> Audio:
        with torch.inference_mode():
            return model(torch.from_numpy(x).T[None])[0].T.numpy()

    return step


def audio_blocks(count: int, samples: int) -> list[Audio]:
    """Blocks of noise; the cost does not depend on their content."""
    return list(np.random.default_rng(0).normal(0, 0.1, (count, samples, 1)).astype(np.float32))


def run(step: Step, blocks: list[Audio]) -> tuple[list[float], Audio]:
    """The seconds of each block, and the whole output."""
    seconds, outputs = [], []
    for block in blocks:
        start = time.perf_counter()
        outputs.append(step(block))
        seconds.append(time.perf_counter() - start)
    return seconds, np.concatenate(outputs)


def measure(harness: Harness, preset: Preset, hops: int, options: Options) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine."""
    from jaxvoice.models.rave import audio_latency

    config = configuration(preset, options)
    network, state = network_of(config)
    samples = hops * config.hop_length
    blocks = audio_blocks(options.blocks, samples)
    session = jaxvoice_session(network, state, samples)
    steps: dict[Engine, Step] = {"jaxvoice": session, "torch": torch_step(network, state)}
    # The first run compiles and is compared. torch's first outputs are those of caches of zeros, without masks.
    latency = audio_latency(network, session.stream)
    outputs = {engine: run(step, blocks)[1] for engine, step in steps.items()}
    settled = len(outputs["torch"]) * 3 // 4
    difference = common.check_agreement(
        f"{preset}, jaxvoice", outputs["jaxvoice"][settled:], outputs["torch"][settled:], 1e-4
    )
    times: dict[Engine, list[float]] = {engine: [] for engine in ENGINES}
    began = time.perf_counter()
    with harness.watching(f"during {preset}, {hops} hops"):
        for turn in range(options.repeats):
            if turn >= 3 and time.perf_counter() - began > options.max_seconds:
                break
            for engine in ENGINES[turn % 2 :] + ENGINES[: turn % 2]:
                time.sleep(PAUSE_SECONDS)
                times[engine] += run(steps[engine], blocks)[0]
    duration = samples / config.sample_rate
    rows = []
    for engine in ENGINES:
        p50, p99 = np.percentile(times[engine], [50, 99])
        rows.append(
            {
                "preset": preset,
                "engine": engine,
                "block samples": samples,
                "p50 ms": 1000 * float(p50),
                "p99 ms": 1000 * float(p99),
                "p50 % of block": 100 * float(p50) / duration,
                "p99 % of block": 100 * float(p99) / duration,
                "latency samples": latency,
                "blocks": len(times[engine]),
                "difference": difference if engine == "jaxvoice" else 0.0,
            }
        )
    return rows


def memory_call(options: Options) -> Callable[[], object]:
    """A block, whose memory is measured, through the engine `memory_of`."""
    config = configuration(options.presets[0], options)
    samples = options.hops[0] * config.hop_length
    network, state = network_of(config)
    make = torch_step if options.memory_of == "torch" else ft.partial(jaxvoice_session, samples=samples)
    step, blocks = make(network, state), audio_blocks(1, samples)
    return lambda: run(step, blocks)


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """Rows of the memory of each preset and engine, for the first length of a block, each in a separate process."""
    rows = []
    for preset in options.presets:
        for engine in ENGINES:
            arguments = ["--presets", preset, "--hops", str(options.hops[0])]
            arguments += [] if options.capacity is None else ["--capacity", str(options.capacity)]
            peaks = engine_memory("experiments.benchmarks.streaming", engine, threads, arguments)
            rows.append({"preset": preset, "engine": engine, **peaks})
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    keep_freed_memory()
    if options.memory_of is not None:
        return print_engine_memory(options.memory_of, options.threads, ft.partial(memory_call, options), calls=20)

    harness = Harness(options)
    import torch

    torch.set_num_threads(harness.threads)
    rows = [
        row for preset in options.presets for hops in options.hops for row in measure(harness, preset, hops, options)
    ]
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report("Streams of RAVE, float32", options, rows, memory, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
