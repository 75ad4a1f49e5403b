"""Speed and memory of voice conversion and of its training: jaxvoice compared with torch, with equal weights.

    python -m experiments.benchmarks.conversion_speed --json conversion_speed.json
    python -m experiments.benchmarks.conversion_speed --preset tiny --json conversion_speed_tiny.json

For each length of the source:

- `front end`: the log-mel features of the content encoder.
- `F0`: the pitch tracker of the preset, which both engines use.
- `content encoder`, `decoder`: one program for this length; the decoder with the pitch encoder.
- `conversion without F0`: front end, content encoder, pitch encoder and decoder, for a given F0. jaxvoice pads to a few
    lengths and decodes in windows, as in `VoiceConverter`; torch computes the recording at once.
- `conversion`: the same with F0, in jaxvoice by `VoiceConverter.convert`.

The training steps are those of `jaxvoice.models.hifivc.training` with stored content features:

- `reconstruction step`: without discriminators.
- `adversarial step`: with discriminators. torch computes no unused gradient.

Weights are random. Weight norms and batch norms are folded for conversion, the precision is float32, the engines take
turns, and their results must agree. Operations are the matrix products and convolutions of jaxvoice's program without
padding; for the steps, three times those of the forward pass, and the discriminators' of `flops.train_step_gflop`.

Memory is measured for a source of 10 minutes with the default windows of `VoiceConverter`, and for both engines for the
longest source that is timed. On two cores, the benchmark takes about ten minutes with the preset `full`.
"""

import functools as ft
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, limit_threads
from experiments.benchmarks.train_step import compiled_step, torch_discriminators
from jaxvoice.dsp.mel_config import mel_filterbank
from jaxvoice.dsp.pitch import pitch_features, track_pitch
from jaxvoice.models.hifivc.config import PRESETS, HiFiVCConfig
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Work = Literal["front end", "F0", "content encoder", "decoder", "conversion without F0", "conversion"]
WORKS: tuple[Work, ...] = get_args(Work)
TOLERANCES: Mapping[Work, float] = {
    "front end": 1e-3,
    "F0": 0.0,
    "content encoder": 1e-4,
    "decoder": 1e-3,  # the pulses of a harmonic source amplify the rounding of log F0
    "conversion without F0": 1e-3,
    "conversion": 1e-3,
}
Step = Literal["reconstruction step", "adversarial step"]
STEPS: tuple[Step, ...] = get_args(Step)
Preset = Literal["full", "tiny"]
PEAK = 0.5
DEFAULT_PIECE = 30.0
"""Seconds of the longest source that `VoiceConverter` encodes whole by default."""
Array = Float32[np.ndarray, "..."]
Call = Callable[[], Array]
"""Does the work once, and returns numbers that must be equal for all engines."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    preset: Preset = "full"
    """Sizes of the networks."""
    seconds: tuple[float, ...] = (5.0, 60.0)
    """Lengths of the sources."""
    works: tuple[Work, ...] = WORKS
    """The parts of the conversion to measure."""
    steps: tuple[Step, ...] = STEPS
    """The training steps to measure."""
    batch: int | None = None
    """Crops in a training batch; by default 1 with the preset `full`, and 8 with `tiny`."""
    segment_frames: int = 32
    """Length of the crops in frames of 40 ms."""
    repeats: int = 9
    """Rounds of each comparison."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_seconds: float = 600.0
    """Length of the source for the memory of jaxvoice with its default windows."""
    piece: float | None = None
    """Longest source in seconds that jaxvoice encodes whole; by default the length of the source."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs for the first of `works` and `seconds`; for internal use."""


def source_of(config: HiFiVCConfig, seconds: float) -> Float32[np.ndarray, " samples"]:
    """A harmonic tone whose F0 varies between 105 and 150 Hz, with noise."""
    rate = config.content.mel.sample_rate
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(125 * 2 ** (0.25 * np.sin(3 * time))) / rate
    wave = sum(np.sin(number * phase) / number for number in range(1, 20))
    wave = wave + 0.05 * np.random.default_rng(0).standard_normal(len(time))
    return (PEAK * wave / np.abs(wave).max()).astype(np.float32)


def content_frames(config: HiFiVCConfig, seconds: float) -> int:
    """The number of content frames of a source."""
    frames = -(-round(seconds * config.content.mel.sample_rate) // config.content.mel.hop_length)
    return -(-frames // 4)


def noise(seed: int, *shape: int) -> Array:
    """Standard normal noise."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def f0_features(config: HiFiVCConfig, audio: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "rows subframes"]:
    """What the pitch encoder reads, with four values for each content frame."""
    content = config.content
    frames = content_frames(config, len(audio) / content.mel.sample_rate)
    phase = config.decoder.harmonic_source
    return pitch_features(track_pitch(audio, content.mel.sample_rate, config.pitch), 4 * frames, phase=phase)


def given_pitch(config: HiFiVCConfig, seconds: float) -> Float32[np.ndarray, "rows subframes"]:
    """A log F0 that varies by 0.2, all voiced."""
    count = 4 * content_frames(config, seconds)
    return pitch_features(np.exp(4.8 + 0.2 * np.sin(0.03 * np.arange(count))), phase=config.decoder.harmonic_source)


def torch_networks(config: HiFiVCConfig) -> Any:
    """The networks of torch with their norms, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifivc

    torch.manual_seed(0)
    networks = torch_hifivc.randomised(torch_hifivc.HiFiVC(config))
    with torch.no_grad():
        # With default weights, the output is almost silence.
        networks.get_parameter("decoder.conv_post.weight_g").mul_(4)
    return networks


def folded_networks(config: HiFiVCConfig) -> Any:
    """The networks of torch for inference."""
    from experiments.benchmarks.torch_hifivc import fold_norms

    return fold_norms(torch_networks(config))


def jaxvoice_networks(config: HiFiVCConfig, weights: Mapping[str, Any] | None) -> Any:
    """The networks of jaxvoice with the weights of torch, or with their own initial ones."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifivc import HiFiVC
    from jaxvoice.weights import load_state

    if weights is None:
        return eqx.filter_jit(HiFiVC)(config, key=jax.random.key(0))
    return load_state(eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0)), weights)


def weights_of(config: HiFiVCConfig) -> dict[str, Any]:
    """The weights of torch under the names of jaxvoice: weight norms as they are, batch norms folded."""
    from experiments.benchmarks.torch_conformer import fold_batch_norm
    from experiments.benchmarks.torch_hifivc import arrays

    networks = torch_networks(config)
    fold_batch_norm(networks.content_encoder)
    return arrays(networks)


def jaxvoice_call(work: Work, options: Options, seconds: float, weights: Mapping[str, Any] | None) -> Call:
    """Compiled work of jaxvoice."""
    import equinox as eqx
    import jax

    from jaxvoice import nn
    from jaxvoice.dsp.nemo_mel import bucketed_nemo_log_mel
    from jaxvoice.models.hifivc.inference import HiFiVCInference, SourceFeatures
    from jaxvoice.pipelines.voice import Voice
    from jaxvoice.pipelines.voice_converter import VoiceConverter

    config = PRESETS[options.preset]
    audio, pitch, mel = source_of(config, seconds), given_pitch(config, seconds), config.content.mel
    front_end = ft.partial(bucketed_nemo_log_mel, config=mel, release=config.content.nemo_release)
    if work == "front end":
        return lambda: front_end(audio).T
    if work == "F0":
        return lambda: track_pitch(audio, mel.sample_rate, config.pitch)
    networks, speaker = jaxvoice_networks(config, weights), noise(2, config.speaker.size)
    frames = content_frames(config, seconds)
    piece = seconds + 1 if options.piece is None else options.piece
    if work == "content encoder":
        encoder = eqx.filter_jit(nn.freeze)(networks.content_encoder)
        encode, features = (
            eqx.filter_jit(lambda encoder, x: encoder(x)),
            jax.device_put(noise(1, 4 * frames, mel.num_mels)),
        )
        return lambda: np.asarray(encode(encoder, features))
    if work == "decoder":
        decoder = eqx.filter_jit(nn.freeze)((networks.pitch_encoder, networks.decoder))
        program, given = eqx.filter_jit(decode), jax.device_put((noise(1, frames, config.content.dim), pitch, speaker))
        return lambda: np.asarray(program(decoder, *given))
    if work == "conversion without F0":
        whole = round(piece / config.content.frame_seconds)
        inference = HiFiVCInference(networks, config, piece=whole, overlap=min(50, (whole - 1) // 2), window=128)

        def convert() -> Array:
            ((_, samples),) = inference.convert([SourceFeatures(front_end(audio), pitch)], speaker)
            return samples

        return convert
    converter = VoiceConverter(networks, config, piece=piece, overlap=min(2.0, 0.4 * piece))
    voice = Voice(speaker, None, seconds=1.0, references=1, model=converter.identity)
    return lambda: converter.convert(audio, voice, sample_rate=mel.sample_rate, pitch="keep")


def apply(network: Any, x: Any) -> Any:
    """The output of a network of jaxvoice."""
    return network(x)


def decode(networks: Any, content: Any, pitch: Any, speaker: Any) -> Any:
    """The waveform of content features `(frames, channels)` and F0 features `(2, subframes)` in jaxvoice."""
    pitch_encoder, decoder = networks
    code = None if pitch_encoder is None else pitch_encoder(pitch.swapaxes(0, 1))
    return decoder(content, code, speaker)[..., 0]


def torch_call(work: Work, options: Options, seconds: float) -> Call:
    """The same work in torch."""
    import torch

    from experiments.benchmarks.torch_conformer import LogMel

    config = PRESETS[options.preset]
    audio, pitch = source_of(config, seconds), torch.from_numpy(given_pitch(config, seconds))[None]
    front_end, frames = LogMel(config.content.mel), content_frames(config, seconds)
    if work == "F0":
        return lambda: track_pitch(audio, config.content.mel.sample_rate, config.pitch)
    networks: Any = None if work == "front end" else folded_networks(config)
    speaker = torch.from_numpy(noise(2, 1, config.speaker.size, 1))
    features = torch.from_numpy(noise(1, 4 * frames, config.content.mel.num_mels))
    content = torch.from_numpy(noise(1, frames, config.content.dim)).T[None].contiguous()

    def run() -> Any:
        if work == "front end":
            return front_end(torch.from_numpy(audio))
        if work == "content encoder":
            return networks.content_encoder(features)
        if work == "decoder":
            return networks.decode(content, pitch, speaker)[0]
        if work == "conversion without F0":
            return networks(front_end(torch.from_numpy(audio)), pitch, speaker)
        scaled = audio / np.abs(audio).max()
        f0 = torch.from_numpy(f0_features(config, scaled))[None]
        converted = PEAK * networks(front_end(torch.from_numpy(scaled)), f0, speaker)
        return converted[: round(seconds * config.mel.sample_rate)]

    def call() -> Array:
        with torch.inference_mode():
            return run().numpy()

    return call


def build(
    engine: Engine, work: Work, options: Options, seconds: float, weights: Mapping[str, Any] | None = None
) -> Call:
    """A call of `engine` that does `work` for a source of so many seconds."""
    if engine == "torch":
        return torch_call(work, options, seconds)
    return jaxvoice_call(work, options, seconds, weights)


def work_gflop(work: Work, config: HiFiVCConfig, seconds: float) -> float | None:
    """The operations of `work`, in units of 10^9; `None` if they are not known."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifivc import HiFiVC

    if work == "F0":
        return None
    frames, mel = content_frames(config, seconds), config.content.mel
    if work == "front end":
        return flops.mel_gflop(mel.spectrum, round(seconds * mel.sample_rate))
    networks = eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
    total = 0.0
    if work != "decoder":
        total += flops.traced_gflop(apply, networks.content_encoder, noise(0, 4 * frames, mel.num_mels))
    if work != "content encoder":
        pitch = noise(0, config.pitch_rows, 4 * frames)
        given = (noise(0, frames, config.content.dim), pitch, noise(0, config.speaker.size))
        total += flops.traced_gflop(decode, (networks.pitch_encoder, networks.decoder), *given)
    return total


def measure(
    harness: Harness, work: Work, options: Options, seconds: float, weights: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine; F0 has one row, because the engines share it."""
    engines = ENGINES[:1] if work == "F0" else ENGINES
    calls = {engine: build(engine, work, options, seconds, weights) for engine in engines}
    results = {engine: call() for engine, call in calls.items()}
    differences = {
        engine: common.check_agreement(f"{work}, {engine}", result, results[engines[-1]], TOLERANCES[work])
        for engine, result in results.items()
    }
    results.clear()
    comparison = harness.compare(f"{work} of {seconds:g} s", calls)
    gflop = work_gflop(work, PRESETS[options.preset], seconds)
    return [
        {
            "work": work,
            "engine": engine,
            "audio s": seconds,
            "x real time": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": differences[engine],
        }
        for engine in engines
    ]


def batch_size(options: Options) -> int:
    """The number of crops of a training step."""
    return options.batch or (1 if options.preset == "full" else 8)


def training_columns(options: Options) -> dict[str, Any]:
    """A batch of noise with the columns of `HiFiVCTask`."""
    config, batch, frames = PRESETS[options.preset], batch_size(options), options.segment_frames
    pitch = np.repeat(given_pitch(config, 0.04 * frames).reshape(1, config.pitch_rows * 4, frames), batch, axis=0)
    return {
        "audio": (3000 * noise(3, batch, frames * config.decoder.hop_length)).astype(np.int16),
        "gain": np.full(batch, 1 / 32768, np.float32),
        "content": noise(4, batch, config.content.dim, frames).astype(np.float16),
        "pitch": pitch,
        "reference": noise(5, batch, config.mel.num_mels, 160) * 2 - 5,
    }


def jaxvoice_step(step: Step, options: Options, weights: Mapping[str, Any]) -> tuple[Callable[[], Any], float]:
    """The training step of jaxvoice, and the seconds of its compilation."""
    from jaxvoice.data.batches import ColumnBatch
    from jaxvoice.models.hifigan.weights import load_discriminators
    from jaxvoice.models.hifivc.training import HiFiVCTask, TrainingConfig

    config, adversarial = PRESETS[options.preset], step == "adversarial step"
    training = TrainingConfig(
        config, segment_frames=options.segment_frames, reconstruction_steps=0 if adversarial else 1
    )
    networks = jaxvoice_networks(config, weights["networks"])
    task = HiFiVCTask(training, networks.content_encoder, steps_per_epoch=100)
    state = task.state_of(networks, *load_discriminators(config.discriminators, weights["mpd"], weights["msd"]))
    columns, lengths = training_columns(options), np.full(batch_size(options), 160, np.int32)
    return compiled_step(task, state, ColumnBatch(columns, {"reference": lengths}))


def torch_step(step: Step, options: Options) -> Callable[[], Any]:
    """The same step in torch, with the same random speaker vectors."""
    import jax
    import torch

    from experiments.benchmarks.torch_hifivc_training import Batch, Trainer
    from experiments.benchmarks.torch_training import LogMel
    from jaxvoice.models.hifivc.features import unpack_pitch
    from jaxvoice.models.hifivc.training import LossWeights

    config, columns = PRESETS[options.preset], training_columns(options)
    mel = LogMel(
        n_fft=config.mel.n_fft,
        hop_length=config.mel.hop_length,
        win_length=config.mel.win_length,
        filters=mel_filterbank(config.mel),
    )
    networks = torch_networks(config).train()
    trainer = Trainer(networks, *torch_discriminators(config.discriminators), mel=mel, weights=LossWeights())
    given = {name: torch.from_numpy(array) for name, array in columns.items()}
    drawn = np.array(jax.random.normal(jax.random.key(0), (batch_size(options), config.speaker.size)))
    pitch = torch.from_numpy(np.array(unpack_pitch(columns["pitch"], 4).swapaxes(1, 2)))

    def run() -> dict[str, float]:
        audio = given["audio"].float() * given["gain"][:, None]
        batch = Batch(audio, given["content"].float(), pitch, given["reference"])
        losses = trainer.step(batch, torch.from_numpy(drawn), adversarial=step == "adversarial step")
        return {name: loss.item() for name, loss in losses.items()}

    return run


def step_gflop(step: Step, options: Options) -> float:
    """The operations of a training step, in units of 10^9."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifivc import HiFiVC

    config, batch, frames = PRESETS[options.preset], batch_size(options), options.segment_frames
    networks = eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
    forward = work_gflop("decoder", config, frames * config.content.frame_seconds)
    assert forward is not None
    forward += flops.traced_gflop(apply, networks.speaker_encoder, noise(0, 160, config.mel.num_mels))
    total = 3 * forward
    if step == "adversarial step":
        samples, sizes = frames * config.decoder.hop_length, config.discriminators
        total += 9 * flops.period_discriminators_gflop(sizes, samples)
        total += 9 * flops.scale_discriminators_gflop(sizes, samples)
    return batch * total


def measure_step(harness: Harness, step: Step, options: Options) -> list[dict[str, Any]]:
    """Rows of a training step, one per engine; the losses of the first step must agree."""
    from experiments.benchmarks.torch_hifigan import arrays_of

    config = PRESETS[options.preset]
    discriminators = map(arrays_of, torch_discriminators(config.discriminators))
    weights = {"networks": weights_of(config), **dict(zip(("mpd", "msd"), discriminators, strict=True))}
    mine, compiling = jaxvoice_step(step, options, weights)
    calls: dict[str, Callable[[], Any]] = {"jaxvoice": mine, "torch": torch_step(step, options)}
    metrics, losses = calls["jaxvoice"](), calls["torch"]()
    differences = [
        common.check_agreement(f"{name} of the {step}", np.array(metrics[name]), np.array(loss), 1e-3)
        for name, loss in losses.items()
    ]
    comparison = harness.compare(f"the {step}", calls)
    batch, gflop = batch_size(options), step_gflop(step, options)
    seconds = batch * options.segment_frames * config.content.frame_seconds
    return [
        {
            "work": step,
            "engine": engine,
            "batch": batch,
            "audio s per s": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop),
            "difference": max(differences),
            "compiling s": compiling if engine == "jaxvoice" else None,
        }
        for engine in calls
    ]


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """Rows of the memory of a conversion with F0, each in a separate process."""
    longest = max(options.seconds)
    rows = []
    for engine, seconds in (("jaxvoice", options.memory_seconds), ("jaxvoice", longest), ("torch", longest)):
        arguments = ["--preset", options.preset, "--works", "conversion", "--seconds", str(seconds)]
        arguments += ["--memory-of", engine, "--piece", str(DEFAULT_PIECE), "--threads", str(threads)]
        memory = common.memory_of("experiments.benchmarks.conversion_speed", arguments)
        rows.append(
            {
                "work": "conversion",
                "engine": engine,
                "audio s": seconds,
                "MiB ready": memory["ready_mib"],
                "MiB peak": memory["peak_mib"],
            }
        )
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    if options.memory_of is not None:
        threads = limit_threads(options.threads)
        if options.memory_of == "torch":
            import torch

            torch.set_num_threads(threads)
        call = ft.partial(build, options.memory_of, options.works[0], options, options.seconds[0])
        return common.print_memory(call, calls=1)

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
    weights.clear()
    steps = [row for step in options.steps for row in measure_step(harness, step, options)]
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report(f"HiFi-VC, preset {options.preset}, float32", options, rows, steps, memory, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
