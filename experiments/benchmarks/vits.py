"""Speed and memory of VITS: jaxvoice compared with torch, with equal random weights.

    python -m experiments.benchmarks.vits --json vits.json

- `synthesis`: symbols to audio, from numpy to numpy, with stored noise. Weight norm is folded. Durations are those that
    random weights predict; the speech is cut off after `seconds`.
- `conversion`: a linear spectrogram of `seconds` to audio in another voice, for presets with several voices.

The engines take turns, the precision is float32, and the audio must agree to 1e-4 of the largest value. Operations are
those of `flops.traced_gflop`. The memory of each engine is the peak of a separate process.
"""

import functools as ft
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, engine_memory, print_engine_memory
from jaxvoice.config import to_dict
from jaxvoice.models.vits.config import VITSConfig, preset
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["original_ljspeech", "original_vctk"]
Work = Literal["synthesis", "conversion"]
Array = Float32[np.ndarray, "..."]
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "original_vctk"
    """The configuration."""
    works: tuple[Work, ...] = ("synthesis", "conversion")
    """What is measured; `conversion` needs a preset with several voices."""
    seconds: float = 5.0
    """Length of the audio in seconds."""
    tokens: int = 241
    """Number of symbols, with the blanks between them. Random weights predict about two frames for each."""
    repeats: int = 9
    """Rounds of each comparison."""
    max_seconds: float = 60.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory of this engine for the first work; for internal use."""


def frames_of(options: Options) -> int:
    """The number of frames of `seconds`."""
    mel = preset(options.preset).mel
    return max(1, round(options.seconds * mel.sample_rate / mel.hop_length))


def torch_network(config: VITSConfig) -> Any:
    """The network of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks.torch_vits import VITS

    torch.manual_seed(0)
    decoder = to_dict(config.decoder)
    names = ("resblock", "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")
    names += ("resblock_kernel_sizes", "resblock_dilation_sizes")
    network = VITS(
        symbols=config.symbols.size,
        bins=config.spectrogram_bins,
        channels=config.channels,
        hidden=config.text.feed_forward,
        heads=config.text.heads,
        layers=config.text.layers,
        kernel=config.text.kernel_size,
        window=config.text.window,
        posterior_layers=config.posterior.layers,
        flow_layers=config.flow.layers,
        flows=config.flows,
        duration_channels=config.durations.channels,
        duration_flows=config.durations.flows,
        spline_bins=config.durations.bins,
        speakers=config.num_speakers,
        cond=config.speaker_channels,
        decoder={name: decoder[name] for name in names},
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            # Initially zero, so that the flows would compute nothing.
            if name.endswith((".post.weight", ".proj.weight")):
                weight.normal_(0, 0.02)
    return network.eval().requires_grad_(False)


def jaxvoice_network(config: VITSConfig) -> Any:
    """The network of jaxvoice with the weights of torch, imported as a checkpoint of jaywalnut310/vits."""
    import torch

    import jaxvoice
    from jaxvoice.models.vits import FAMILY
    from jaxvoice.models.vits.family import OriginalVITSLayout

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "G_0.pth"
        torch.save({"model": torch_network(config).state_dict(), "iteration": 0, "learning_rate": 0.0}, path)
        settings = json.dumps(OriginalVITSLayout().released_config(config))
        (Path(folder) / "config.json").write_text(settings, encoding="utf-8")
        jaxvoice.import_model(path, Path(folder) / "model")
        return FAMILY.load_network(Path(folder) / "model")[0]


def inputs_of(options: Options, work: Work) -> dict[str, Any]:
    """Symbols, speakers and noise, channels last and without batch axes."""
    random, config, frames = np.random.default_rng(1), preset(options.preset), frames_of(options)
    inputs: dict[str, Any] = {"noise": random.normal(0, 1, (frames, config.channels)).astype(np.float32)}
    if work == "synthesis":
        inputs["tokens"] = random.integers(0, config.symbols.size, options.tokens).astype(np.int32)
        inputs["duration_noise"] = random.normal(0, 1, (options.tokens, 2)).astype(np.float32)
    else:
        inputs["spectrogram"] = random.uniform(0, 1, (frames, config.spectrogram_bins)).astype(np.float32)
    return inputs


def jaxvoice_call(options: Options, work: Work) -> tuple[Callable[[], Array], float]:
    """The work in jaxvoice, and its operations in units of 10^9."""
    import equinox as eqx
    from jax import numpy as jnp

    from jaxvoice import nn

    config, inputs = preset(options.preset), inputs_of(options, work)
    network = eqx.filter_jit(nn.freeze)(jaxvoice_network(config))
    speakers = [jnp.int32(1), jnp.int32(2)] if config.num_speakers else [None, None]

    def synthesize(network: Any, tokens: Any, duration_noise: Any, noise: Any) -> Any:
        return network(tokens, duration_noise, noise, speakers[0])

    def convert(network: Any, spectrogram: Any, noise: Any) -> Any:
        return network.convert(spectrogram, noise, *speakers).audio

    function: Callable[..., Any] = synthesize if work == "synthesis" else convert
    compiled = eqx.filter_jit(function)
    gflop = flops.traced_gflop(ft.partial(function, **inputs), network)
    return lambda: np.asarray(compiled(network, **inputs))[:, 0], gflop


def torch_call(options: Options, work: Work) -> Callable[[], Array]:
    """The same work in torch."""
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    config = preset(options.preset)
    network: Any = fold_weight_norm(torch_network(config)).eval()
    inputs = {name: torch.from_numpy(array)[None] for name, array in inputs_of(options, work).items()}
    noise = inputs["noise"].mT.contiguous()
    speakers = [torch.tensor([1]), torch.tensor([2])] if config.num_speakers else [None, None]

    def call() -> Array:
        with torch.inference_mode():
            if work == "conversion":
                spectrogram = inputs["spectrogram"].mT
                lengths = torch.tensor([spectrogram.shape[2]])
                return network.convert(spectrogram, lengths, noise, *speakers)[0, 0].numpy()
            tokens, lengths = inputs["tokens"].long(), torch.tensor([options.tokens])
            audio, _ = network.infer(tokens, lengths, inputs["duration_noise"].mT, noise, speakers[0])
            return audio[0, 0].numpy()

    return call


def call_of(options: Options, engine: Engine, work: Work) -> Callable[[], Array]:
    """The work in `engine`."""
    return jaxvoice_call(options, work)[0] if engine == "jaxvoice" else torch_call(options, work)


def measure(harness: Harness, options: Options, work: Work) -> list[dict[str, Any]]:
    """Rows of a comparison, one for each engine; their results must agree."""
    call, gflop = jaxvoice_call(options, work)
    calls: dict[str, Callable[[], Array]] = {"jaxvoice": call, "torch": torch_call(options, work)}
    results = {engine: call() for engine, call in calls.items()}
    difference = common.check_agreement(work, results["jaxvoice"], results["torch"], TOLERANCE)
    comparison = harness.compare(work, calls)
    seconds = len(results["torch"]) / preset(options.preset).mel.sample_rate
    return [
        {
            "work": work,
            "engine": engine,
            "audio s": seconds,
            "audio s per s": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": difference,
        }
        for engine in calls
    ]


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """The peak memory of each work and engine, in separate processes."""
    rows = []
    for work in options.works:
        for engine in ENGINES:
            arguments = ["--preset", options.preset, "--works", work]
            arguments += ["--seconds", str(options.seconds), "--tokens", str(options.tokens)]
            rows.append(
                {
                    "work": work,
                    "engine": engine,
                    **engine_memory("experiments.benchmarks.vits", engine, threads, arguments),
                }
            )
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    keep_freed_memory()
    if options.memory_of is not None:
        call = ft.partial(call_of, options, options.memory_of, options.works[0])
        return print_engine_memory(options.memory_of, options.threads, call)

    import torch

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    rows = [row for work in options.works for row in measure(harness, options, work)]
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report(f"VITS, preset {options.preset}, float32", options, rows, memory, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
