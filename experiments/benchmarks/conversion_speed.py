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

The training steps (`conversion_steps.py`) are those of `jaxvoice.models.hifivc.training` with stored content features:

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

from experiments.benchmarks import common, flops
from experiments.benchmarks.conversion_networks import (
    PEAK,
    Array,
    apply,
    content_frames,
    decode,
    decoder_gflop,
    f0_features,
    folded_networks,
    given_pitch,
    jaxvoice_networks,
    network_shapes,
    noise,
    source_of,
    weights_of,
)
from experiments.benchmarks.conversion_steps import StepOptions, measure_step
from experiments.benchmarks.timing import Harness, engine_memory, print_engine_memory
from jaxvoice.dsp.pitch import track_pitch
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
DEFAULT_PIECE = 30.0
"""Seconds of the longest source that `VoiceConverter` encodes whole by default."""
Call = Callable[[], Array]
"""Does the work once, and returns numbers that must be equal for all engines."""


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Settings of the benchmark."""

    seconds: tuple[float, ...] = (5.0, 60.0)
    """Lengths of the sources."""
    works: tuple[Work, ...] = WORKS
    """The parts of the conversion to measure."""
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
    if work == "F0":
        return None
    frames, mel = content_frames(config, seconds), config.content.mel
    if work == "front end":
        return flops.mel_gflop(mel.spectrum, round(seconds * mel.sample_rate))
    total = 0.0
    if work != "decoder":
        total += flops.traced_gflop(apply, network_shapes(config).content_encoder, noise(0, 4 * frames, mel.num_mels))
    if work != "content encoder":
        total += decoder_gflop(config, seconds)
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


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """Rows of the memory of a conversion with F0, each in a separate process."""
    longest = max(options.seconds)
    rows = []
    for engine, seconds in (("jaxvoice", options.memory_seconds), ("jaxvoice", longest), ("torch", longest)):
        arguments = ["--preset", options.preset, "--works", "conversion", "--seconds", str(seconds)]
        arguments += ["--piece", str(DEFAULT_PIECE)]
        peaks = engine_memory("experiments.benchmarks.conversion_speed", engine, threads, arguments)
        rows.append({"work": "conversion", "engine": engine, "audio s": seconds, **peaks})
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    if options.memory_of is not None:
        call = ft.partial(build, options.memory_of, options.works[0], options, options.seconds[0])
        return print_engine_memory(options.memory_of, options.threads, call)

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
