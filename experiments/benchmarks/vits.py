"""Speed and memory of VITS: jaxvoice compared with torch, with equal random weights.

    python -m experiments.benchmarks.vits --json vits.json

- `synthesis`: symbols to audio, from numpy to numpy, with stored noise. Weight norm is folded. Durations are those that
    random weights predict; the speech is cut off after `seconds`.
- `conversion`: a linear spectrogram of `seconds` to audio in another voice, for presets with several voices.
- `training step`: from audio and symbols to updated weights of generator and discriminators, without dropout, alignment
    search included, which torch does not compute itself (see `torch_vits_training.py`). Torch runs twice: with all
    gradients of the published code, and with those alone that it uses.

The engines take turns, and the precision is float32. The audio must agree to 1e-4 of the largest value, and the losses
of the first step to 1e-3. Operations are those of `flops.traced_gflop`. The memory of each engine is the peak of a
separate process.
"""

import functools as ft
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, engine_memory, print_engine_memory
from experiments.benchmarks.train_step import compiled_step
from jaxvoice.config import to_dict
from jaxvoice.models.vits.config import VITSConfig, preset
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch", "torch, used gradients"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["original_ljspeech", "original_vctk"]
Work = Literal["synthesis", "conversion", "training step"]
Array = Float32[np.ndarray, "..."]
TOLERANCE, STEP_TOLERANCE = 1e-4, 1e-3


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "original_vctk"
    """The configuration."""
    works: tuple[Work, ...] = get_args(Work)
    """What is measured; `conversion` needs a preset with several voices."""
    seconds: float = 5.0
    """Length of the audio in seconds."""
    tokens: int = 241
    """Number of symbols, with the blanks between them. Random weights predict about two frames for each."""
    batch: int = 4
    """Utterances of `training step`, which need twice as many frames as symbols."""
    step_tokens: int = 101
    """Number of symbols of each."""
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


def step_config(options: Options) -> Any:
    """The training configuration, without dropout."""
    from jaxvoice.models.vits.training import TrainingConfig

    config = preset(options.preset)
    text, durations = replace(config.text, dropout=0.0), replace(config.durations, dropout=0.0)
    return TrainingConfig(replace(config, text=text, durations=durations))


def torch_discriminators(config: VITSConfig) -> Any:
    """The discriminators of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks.torch_vits_training import Discriminators

    torch.manual_seed(1)
    return Discriminators(config.discriminators)


def step_batch(options: Options) -> Any:
    """Noise with the level of speech and random symbols; the cost does not depend on their content."""
    from jaxvoice.data.batches import ColumnBatch

    config, random = preset(options.preset), np.random.default_rng(1)
    frames = 2 * options.step_tokens
    columns = {
        "audio": random.normal(0, 0.1, (options.batch, frames * config.mel.hop_length)).astype(np.float32),
        "gain": np.ones(options.batch, np.float32),
        "tokens": random.integers(0, config.symbols.size, (options.batch, options.step_tokens)).astype(np.int32),
    }
    if config.num_speakers:
        columns["speaker"] = np.arange(options.batch, dtype=np.int32) % config.num_speakers
    full = np.ones(options.batch, np.int32)
    lengths = {"audio": full * frames * config.mel.hop_length, "tokens": full * options.step_tokens}
    return ColumnBatch(columns, lengths)


def jaxvoice_step(options: Options) -> tuple[Callable[[], dict[str, float]], float]:
    """A training step of jaxvoice, which returns its losses, and the seconds of its compilation."""
    import equinox as eqx
    import jax

    from experiments.benchmarks.torch_hifigan import arrays_of
    from jaxvoice.models.vits import VITS, VITSDiscriminators
    from jaxvoice.models.vits.training import VITSTask
    from jaxvoice.weights import load_state, named_arrays

    config = step_config(options)
    task, model = VITSTask(config, steps_per_epoch=100), config.model
    shapes = eqx.filter_eval_shape(VITSDiscriminators, model.discriminators, key=jax.random.key(0))
    discriminators = load_state(shapes, arrays_of(torch_discriminators(model)))
    skeleton = eqx.filter_eval_shape(VITS, model, key=jax.random.key(0))
    network = load_state(skeleton, named_arrays(jaxvoice_network(model)))
    run, seconds = compiled_step(task, task.state_of(network, discriminators), step_batch(options))
    return lambda: {name: float(value) for name, value in run().items()}, seconds


def torch_step(options: Options, *, skip_unused: bool) -> Callable[[], dict[str, float]]:
    """The same step in torch, with the random numbers of jaxvoice's step."""
    import jax
    import torch

    from experiments.benchmarks.torch_vits_training import Batch, Trainer
    from jaxvoice.models.vits.objective import draw_noise, step_inputs

    config, columns = step_config(options), step_batch(options)
    model = config.model
    inputs = step_inputs(columns, model)
    noise = draw_noise(inputs, model, key=jax.random.split(jax.random.key(0))[0])

    def tensor(array: Any) -> Any:
        return torch.from_numpy(np.array(array))

    batch = Batch(
        tensor(columns.columns["audio"]),
        tensor(inputs.frame_count).long(),
        tensor(inputs.tokens).long(),
        tensor(inputs.token_count).long(),
        None if inputs.speaker is None else tensor(inputs.speaker).long(),
        tensor(noise.posterior).mT.contiguous(),
        tensor(noise.durations).mT.contiguous(),
        tensor(noise.starts).long(),
    )
    network = torch_network(model).train().requires_grad_(True)
    discriminators = torch_discriminators(model)
    optimizer, segment = config.generator_optimizer, model.segment_frames
    trainer = Trainer(network, discriminators, model.mel, optimizer, segment, skip_unused=skip_unused)
    return lambda: trainer.step(batch)


def engines_of(work: Work) -> tuple[Engine, ...]:
    """The engines that are compared."""
    return ENGINES if work == "training step" else ENGINES[:2]


def call_of(options: Options, engine: Engine, work: Work) -> Callable[[], Any]:
    """The work in `engine`."""
    if work == "training step":
        if engine == "jaxvoice":
            return jaxvoice_step(options)[0]
        return torch_step(options, skip_unused=engine == "torch, used gradients")
    return jaxvoice_call(options, work)[0] if engine == "jaxvoice" else torch_call(options, work)


def measure(harness: Harness, options: Options, work: Work) -> list[dict[str, Any]]:
    """Rows of a comparison, one for each engine; their results must agree."""
    gflop = compiling = None
    if work == "training step":
        step, compiling = jaxvoice_step(options)
        calls: dict[str, Callable[[], Any]] = {"jaxvoice": step}
        calls |= {engine: call_of(options, engine, work) for engine in engines_of(work)[1:]}
        losses = {engine: call() for engine, call in calls.items()}
        names = sorted(losses["torch"])
        results = {engine: np.array([found[name] for name in names]) for engine, found in losses.items()}
        samples, tolerance = step_batch(options).columns["audio"].size, STEP_TOLERANCE
    else:
        call, gflop = jaxvoice_call(options, work)
        calls = {"jaxvoice": call, "torch": torch_call(options, work)}
        results = {engine: call() for engine, call in calls.items()}
        samples, tolerance = len(results["torch"]), TOLERANCE
    difference = max(
        common.check_agreement(work, results["jaxvoice"], results[engine], tolerance) for engine in engines_of(work)[1:]
    )
    comparison = harness.compare(work, calls)
    seconds = samples / preset(options.preset).mel.sample_rate
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


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """The peak memory of each work and engine, in separate processes."""
    rows = []
    for work in options.works:
        for engine in engines_of(work):
            arguments = ["--preset", options.preset, "--works", work]
            arguments += ["--seconds", str(options.seconds), "--tokens", str(options.tokens)]
            arguments += ["--batch", str(options.batch), "--step-tokens", str(options.step_tokens)]
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
