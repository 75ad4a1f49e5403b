"""Speed and memory of WaveGlow and of its training: jaxvoice compared with torch, with equal weights.

    python -m experiments.benchmarks.waveglow --json waveglow.json

- `synthesis`: mel spectrogram and noise to audio, in one program for each length. Weight norm is folded, and the
    inverse matrices are computed before. The windows and the denoiser of `WaveGlowVocoder` add to this time.
- `likelihood`: audio and its mel spectrogram to latents, log-scales and log-determinants.
- `training step`: from 16-bit audio to updated weights, with mels, as in `jaxvoice.models.waveglow.training`.

The engines take turns, the precision is float32, and their results must agree: audio and latents to 1e-3, the loss to
1e-4. Operations are the matrix products and convolutions of jaxvoice's program; for the step, three times those of the
likelihood. Memory is that of a minute of audio: in jaxvoice with the default windows of `WaveGlowVocoder` and in
torch at once, and that of the training step. On two cores, the benchmark takes about ten minutes.
"""

import functools as ft
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32, Int16

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, engine_memory, print_engine_memory
from experiments.benchmarks.train_step import compiled_step
from jaxvoice.dsp.mel_config import mel_filterbank
from jaxvoice.models.waveglow.config import PRESETS, WaveGlowConfig
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Work = Literal["synthesis", "likelihood"]
WORKS: tuple[Work, ...] = get_args(Work)
Preset = Literal["256channels", "512channels", "tiny"]
SIGMA = 0.75
"""Standard deviation of the noise of a synthesis."""
Array = Float32[np.ndarray, "..."]
Call = Callable[[], Array]
"""Does the work once, and returns numbers that must be equal for all engines."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "256channels"
    """Size of the network."""
    seconds: tuple[float, ...] = (1.0, 5.0)
    """Lengths of the audio."""
    works: tuple[Work, ...] = WORKS
    """The directions of the network to measure."""
    step: bool = True
    """Measure the training step."""
    batch: int = 1
    """Crops in a training batch."""
    segment: int = 16_000
    """Samples in a crop."""
    repeats: int = 9
    """Rounds of each comparison."""
    max_seconds: float = 120.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_seconds: float = 60.0
    """Length of the synthesis whose memory is measured."""
    memory_of: Engine | None = None
    """Print only the memory of this engine, for `memory_seconds` or, with --step, for a step; for internal use."""


def torch_network(config: WaveGlowConfig) -> Any:
    """The network of torch with weight norm, with the same weights in every call; the couplings change their input."""
    import torch

    from experiments.benchmarks import torch_waveglow

    torch.manual_seed(0)
    network = torch_waveglow.WaveGlow(
        mels=config.mel.num_mels,
        flows=config.flows,
        group=config.group,
        early_every=config.early_every,
        early_size=config.early_size,
        layers=config.layers,
        channels=config.channels,
        kernel_size=config.kernel_size,
        upsample_kernel=config.upsample_kernel,
        hop_length=config.mel.hop_length,
    )
    with torch.no_grad():
        for coupling in network.WN:
            coupling.get_parameter("end.weight").normal_(0, 0.05 / config.channels**0.5)
    return network


def weights_of(config: WaveGlowConfig) -> dict[str, Array]:
    """The weights of torch under their released names."""
    from experiments.benchmarks.torch_hifigan import arrays_of

    return arrays_of(torch_network(config))


def jaxvoice_network(config: WaveGlowConfig, weights: Mapping[str, Any] | None) -> Any:
    """The network of jaxvoice with the weights of torch, or with its own initial ones."""
    import equinox as eqx
    import jax

    from jaxvoice.models.waveglow import WaveGlow
    from jaxvoice.weights import load_state

    if weights is None:
        return eqx.filter_jit(WaveGlow)(config, key=jax.random.key(0))
    return load_state(eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0)), weights)


def frames_of(config: WaveGlowConfig, seconds: float) -> int:
    """The number of mel frames of so many seconds."""
    return round(seconds * config.mel.sample_rate / config.mel.hop_length)


def noise_mel(config: WaveGlowConfig, frames: int) -> Float32[np.ndarray, "frames mels"]:
    """A random mel spectrogram with the range of speech; the cost does not depend on its content."""
    return np.random.default_rng(0).normal(-5, 2, (frames, config.mel.num_mels)).astype(np.float32)


def inputs(work: Work, config: WaveGlowConfig, seconds: float) -> tuple[Array, Array]:
    """The mel spectrogram `(frames, mels)`, and noise `(positions, group)` or audio `(samples,)`."""
    frames, random = frames_of(config, seconds), np.random.default_rng(1)
    shape = (frames * config.mel.hop_length // config.group, config.group)
    signal = random.normal(0, SIGMA if work == "synthesis" else 0.1, shape).astype(np.float32)
    return noise_mel(config, frames), signal if work == "synthesis" else signal.reshape(-1)


def synthesize(network: Any, mel: Any, noise: Any) -> Any:
    """The audio of jaxvoice."""
    return network(mel, noise)[..., 0]


def encode(network: Any, mel: Any, audio: Any) -> tuple[Any, Any, Any]:
    """The latents of jaxvoice, the sum of the log-scales, and that of the log-determinants."""
    found = network.encode(audio[..., None], mel)
    return found.latents, found.log_scale, found.log_determinant


def jaxvoice_call(work: Work, config: WaveGlowConfig, seconds: float, weights: Mapping[str, Any] | None) -> Call:
    """Compiled work of jaxvoice."""
    import equinox as eqx
    import jax

    from jaxvoice import nn
    from jaxvoice.models.waveglow import precompute_inverses

    network = precompute_inverses(jaxvoice_network(config, weights))
    network = eqx.filter_jit(nn.freeze)(network)
    given = jax.device_put(inputs(work, config, seconds))
    if work == "synthesis":
        program = eqx.filter_jit(synthesize)
        return lambda: np.asarray(program(network, *given))
    terms = eqx.filter_jit(encode)
    return lambda: np.concatenate([np.asarray(part).reshape(-1) for part in terms(network, *given)])


def torch_call(work: Work, config: WaveGlowConfig, seconds: float) -> Call:
    """The same work in torch."""
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    network: Any = fold_weight_norm(torch_network(config)).eval()
    mel, signal = map(torch.from_numpy, inputs(work, config, seconds))
    mel = mel.T[None].contiguous()

    def run() -> Any:
        if work == "synthesis":
            return network.infer(mel, given)[0]
        found = network(mel, given)
        scales = torch.stack([scale.sum() for scale in found.log_scales]).sum()
        determinants = torch.stack(found.log_determinants).sum()
        return torch.cat([found.z[0].T.flatten(), scales[None], determinants[None]])

    given = signal.T[None].contiguous() if work == "synthesis" else signal[None]

    def call() -> Array:
        with torch.inference_mode():
            return run().numpy()

    return call


def build(
    engine: Engine, work: Work, config: WaveGlowConfig, seconds: float, weights: Mapping[str, Any] | None = None
) -> Call:
    """A call of `engine` that does `work` for so many seconds of audio."""
    if engine == "torch":
        return torch_call(work, config, seconds)
    return jaxvoice_call(work, config, seconds, weights)


def vocoder_call(config: WaveGlowConfig, seconds: float) -> Callable[[], object]:
    """The synthesis of `WaveGlowVocoder` with its default windows."""
    from jaxvoice.pipelines import WaveGlowVocoder

    vocoder = WaveGlowVocoder(jaxvoice_network(config, None), config)
    mel = noise_mel(config, frames_of(config, seconds)).T
    return lambda: vocoder.synthesize(mel, sigma=SIGMA, check=False)


def work_gflop(work: Work, config: WaveGlowConfig, seconds: float) -> float:
    """The operations of `work`, in units of 10^9."""
    import equinox as eqx
    import jax

    from jaxvoice.models.waveglow import WaveGlow

    network = eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0))
    return flops.traced_gflop(synthesize if work == "synthesis" else encode, network, *inputs(work, config, seconds))


def measure(
    harness: Harness, work: Work, options: Options, seconds: float, weights: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine."""
    config = PRESETS[options.preset]
    calls = {engine: build(engine, work, config, seconds, weights) for engine in ENGINES}
    results = {engine: call() for engine, call in calls.items()}
    differences = {
        engine: common.check_agreement(f"{work}, {engine}", result, results["torch"], 1e-3)
        for engine, result in results.items()
    }
    comparison = harness.compare(f"{work} of {seconds:g} s", calls)
    gflop = work_gflop(work, config, seconds)
    return [
        {
            "work": work,
            "engine": engine,
            "audio s": seconds,
            "x real time": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": differences[engine],
        }
        for engine in ENGINES
    ]


def noise_audio(options: Options) -> Int16[np.ndarray, "batch segment"]:
    """A batch of noise with the level of speech; the cost does not depend on its content."""
    return np.random.default_rng(2).normal(0, 3000, (options.batch, options.segment)).astype(np.int16)


def jaxvoice_step(options: Options, weights: Mapping[str, Any] | None) -> tuple[Callable[[], float], float]:
    """The training step of jaxvoice, which returns the loss, and the seconds of its compilation."""
    from jaxvoice.data import CropBatch
    from jaxvoice.models.waveglow.training import TrainingConfig, WaveGlowTask

    config = PRESETS[options.preset]
    task = WaveGlowTask(TrainingConfig(config, segment_size=options.segment), steps_per_epoch=100)
    batch = CropBatch(noise_audio(options), np.full(options.batch, 1 / 32768, np.float32))
    run, seconds = compiled_step(task, task.state_of(jaxvoice_network(config, weights)), batch)
    return lambda: float(run()["loss"]), seconds


def torch_step(options: Options) -> Callable[[], float]:
    """The same step in torch."""
    import torch

    from experiments.benchmarks import torch_waveglow
    from experiments.benchmarks.torch_training import LogMel

    config = PRESETS[options.preset]
    network, samples = torch_network(config), torch.from_numpy(noise_audio(options))
    mel = LogMel(
        n_fft=config.mel.n_fft,
        hop_length=config.mel.hop_length,
        win_length=config.mel.win_length,
        filters=mel_filterbank(config.mel),
        center=True,
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def run() -> float:
        audio = samples.float() / 32768
        loss = torch_waveglow.loss(network(mel(audio), audio))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def measure_step(harness: Harness, options: Options, weights: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the training step, one per engine; the losses of the first two steps must agree."""
    config = PRESETS[options.preset]
    mine, compiling = jaxvoice_step(options, weights)
    calls: dict[str, Callable[[], float]] = {"jaxvoice": mine, "torch": torch_step(options)}
    losses = {engine: np.array([call() for _ in range(2)]) for engine, call in calls.items()}
    difference = common.check_agreement("the losses of the training step", losses["jaxvoice"], losses["torch"], 1e-4)
    comparison = harness.compare("the training step", calls)
    seconds = options.batch * options.segment / config.mel.sample_rate
    gflop = 3 * options.batch * work_gflop("likelihood", config, options.segment / config.mel.sample_rate)
    return [
        {
            "work": "training step",
            "engine": engine,
            "batch": options.batch,
            "audio s per s": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": difference,
            "compiling s": compiling if engine == "jaxvoice" else None,
        }
        for engine in calls
    ]


def memory_call(options: Options) -> Callable[[], object]:
    """The work whose memory is measured."""
    config = PRESETS[options.preset]
    if options.step:
        return jaxvoice_step(options, None)[0] if options.memory_of == "jaxvoice" else torch_step(options)
    if options.memory_of == "jaxvoice":
        return vocoder_call(config, options.memory_seconds)
    return torch_call("synthesis", config, options.memory_seconds)


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """Rows of the memory of a synthesis and of a training step, each in a separate process."""
    rows = []
    for work in ("synthesis", *(["training step"] if options.step else [])):
        for engine in ENGINES:
            arguments = ["--preset", options.preset]
            arguments += ["--step" if work == "training step" else "--no-step", "--batch", str(options.batch)]
            arguments += ["--segment", str(options.segment), "--memory-seconds", str(options.memory_seconds)]
            seconds = options.memory_seconds
            if work == "training step":
                seconds = options.batch * options.segment / PRESETS[options.preset].mel.sample_rate
            peaks = engine_memory("experiments.benchmarks.waveglow", engine, threads, arguments)
            rows.append({"work": work, "engine": engine, "audio s": seconds, **peaks})
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
    weights = weights_of(PRESETS[options.preset])
    rows = [
        row
        for seconds in options.seconds
        for work in options.works
        for row in measure(harness, work, options, seconds, weights)
    ]
    steps = measure_step(harness, options, weights) if options.step else []
    weights.clear()
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report(f"WaveGlow, preset {options.preset}, float32", options, rows, steps, memory, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
