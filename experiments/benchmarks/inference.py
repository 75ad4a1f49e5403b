"""Speed and memory of HiFi-GAN inference: jaxvoice compared with torch, torch.jit and ONNX Runtime.

    pip install 'jaxvoice[benchmarks]'
    python -m experiments.benchmarks.inference --json inference.json

The engines have the same weights. The benchmark times one utterance of 0.4 s and one of 5 s, and then several lengths
and batch sizes. Weight norm is folded in all engines, and the precision is float32. torch runs eagerly and as a frozen
TorchScript graph; ONNX Runtime runs the graph that `torch.onnx` exports, and is left out if `onnx` or `onnxruntime` is
not installed. The engines take turns, and their outputs must agree to 1e-4. The operations are those of
`flops.generator_gflop`. The benchmark takes about three minutes on two cores.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

import numpy as np
import tyro
from jaxtyping import Float

from experiments.benchmarks import common
from experiments.benchmarks.flops import generator_gflop
from experiments.benchmarks.timing import Harness, TimingOptions, limit_threads
from jaxvoice.models.hifigan.config import PRESETS
from jaxvoice.training.training_state import Precision

SAMPLE_RATE, HOP, MELS = 22050, 256, 80
Engine = Literal["jaxvoice", "torch eager", "torch.jit frozen", "ONNX Runtime"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["v1", "v2", "v3", "tiny"]
Mel = Float[np.ndarray, "batch mels frames"]
Call = Callable[[], Float[Any, "batch samples"]]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "v1"
    """Size of the generator."""
    frames: tuple[int, ...] = (34, 430)
    """Lengths of the utterances that are compared, in mel frames of 11.6 ms."""
    engines: tuple[Engine, ...] = ENGINES
    """The engines to compare; the first is the one to which the others are compared."""
    sweep_frames: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Lengths in frames to compare at batch size 1, with jaxvoice and torch only."""
    sweep_batch: tuple[int, ...] = (1, 2, 4, 8)
    """Batch sizes to compare at 64 frames, with jaxvoice and torch only."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs for the first of `frames`; for internal use."""


def torch_sizes(preset: Preset) -> dict[str, Any]:
    """The arguments of torch's generator for a preset."""
    from experiments.benchmarks import torch_hifigan

    if preset == "tiny":
        sizes = {"upsample_initial_channel": 128, "resblock_dilation_sizes": ((1,), (2,), (3,))}
        return {**torch_hifigan.PRESETS["v3"], **sizes}
    return torch_hifigan.PRESETS[preset]


def torch_generator(preset: Preset) -> Any:
    """The torch generator of a preset with weight norm, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifigan

    torch.manual_seed(0)
    generator = torch_hifigan.Generator(**torch_sizes(preset))
    with torch.no_grad():
        # With default weights, the output is almost silence; with these, its peak is about a half.
        generator.conv_post.get_parameter("weight_g").mul_(20)
    return generator.eval()


def jaxvoice_call(
    preset: Preset, mel: Mel, weights: dict[str, Any] | None, *, precision: Precision = "float32"
) -> Call:
    """Compiled jaxvoice inference on `mel`, with the given weights or its own initial ones."""
    import equinox as eqx
    import jax

    from jaxvoice import nn
    from jaxvoice.models.hifigan import Generator
    from jaxvoice.weights.array_names import load_state

    generator = Generator(PRESETS[preset].generator, key=jax.random.key(0))
    if weights is not None:
        generator = load_state(generator, weights)
    generator = nn.freeze(generator)
    arrays = jax.device_put(mel)

    @eqx.filter_jit
    def run(generator, mel):
        return generator(mel.swapaxes(1, 2).astype(precision))[..., 0]

    return lambda: jax.block_until_ready(run(generator, arrays))


def torch_call(preset: Preset, mel: Mel, *, frozen: bool = False) -> Call:
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


def onnx_call(preset: Preset, mel: Mel, threads: int) -> Call:
    """ONNX Runtime inference on `mel`, with the graph that `torch.onnx` exports."""
    import onnxruntime  # pyright: ignore[reportMissingImports]
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    generator, graph = fold_weight_norm(torch_generator(preset)), io.BytesIO()
    axes = {"mel": {0: "batch", 2: "frames"}, "audio": {0: "batch", 2: "samples"}}
    with warnings.catch_warnings():
        # The exporter that is not deprecated needs the package onnxscript; its graph has the same operations.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            generator,
            (torch.from_numpy(mel[:, :, :8]),),
            cast(Any, graph),
            dynamo=False,
            input_names=["mel"],
            output_names=["audio"],
            dynamic_axes=axes,
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.getvalue(), settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"mel": mel})[0][:, 0]


def installed(engines: tuple[Engine, ...]) -> tuple[Engine, ...]:
    """The engines without those whose packages are not installed; prints a line for each that is left out."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if "ONNX Runtime" in engines and missing:
        print(f"ONNX Runtime is left out: {' and '.join(missing)} not installed. Run pip install onnx onnxruntime.")
        return tuple(engine for engine in engines if engine != "ONNX Runtime")
    return engines


def build(engine: Engine, preset: Preset, mel: Mel, threads: int, weights: dict[str, Any] | None = None) -> Call:
    """A call that synthesises `mel` (batch, mels, frames) with `engine` and returns (batch, samples)."""
    if engine == "jaxvoice":
        return jaxvoice_call(preset, mel, weights)
    if engine == "ONNX Runtime":
        return onnx_call(preset, mel, threads)
    return torch_call(preset, mel, frozen=engine == "torch.jit frozen")


def noise_mel(batch: int, frames: int) -> Mel:
    """A random mel spectrogram with the range of speech; the cost does not depend on its content."""
    return np.random.default_rng(0).normal(-5, 2, (batch, MELS, frames)).astype(np.float32)


def measure(
    harness: Harness, preset: Preset, batch: int, frames: int, weights: dict[str, Any], engines: tuple[Engine, ...]
) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine."""
    mel = noise_mel(batch, frames)
    calls = {engine: build(engine, preset, mel, harness.threads, weights) for engine in engines}
    outputs = {engine: np.asarray(call()) for engine, call in calls.items()}
    reference = outputs["torch eager" if "torch eager" in outputs else engines[0]]
    differences = {
        engine: common.check_agreement(engine, output, reference, 1e-4) for engine, output in outputs.items()
    }
    comparison = harness.compare(f"inference of {batch} x {frames} frames", calls)
    seconds = batch * frames * HOP / SAMPLE_RATE
    gflop = batch * generator_gflop(PRESETS[preset].generator, frames)
    return [
        {
            "engine": engine,
            "batch": batch,
            "frames": frames,
            "audio s": seconds,
            "x real time": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": differences[engine],
        }
        for engine in engines
    ]


def main(options: Options) -> None:
    """Run the benchmark."""
    if options.memory_of is not None:
        threads, engine, mel = limit_threads(options.threads), options.memory_of, noise_mel(1, options.frames[0])
        return common.print_memory(lambda: build(engine, options.preset, mel, threads))

    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of

    harness, engines = Harness(options), installed(options.engines)
    torch.set_num_threads(harness.threads)
    weights = arrays_of(torch_generator(options.preset))
    rows = [row for frames in options.frames for row in measure(harness, options.preset, 1, frames, weights, engines)]
    pair: tuple[Engine, ...] = tuple(engine for engine in engines if engine in ("jaxvoice", "torch eager"))
    shapes = [(1, frames) for frames in options.sweep_frames] + [(batch, 64) for batch in options.sweep_batch]
    sweep = [row for batch, frames in shapes for row in measure(harness, options.preset, batch, frames, weights, pair)]
    for row in sweep:
        row["ms per audio s"] = 1000 * row["min s"] / row["audio s"]
    if options.memory:
        for row in rows:
            arguments = ["--preset", options.preset, "--frames", str(row["frames"]), "--memory-of", row["engine"]]
            arguments += ["--threads", str(harness.threads)]
            memory = common.memory_of("experiments.benchmarks.inference", arguments)
            row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}
    name = f"inference of HiFi-GAN {options.preset}, float32"
    common.report(name, options, rows, sweep, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
