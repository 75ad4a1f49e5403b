"""The training steps of the benchmark `conversion_speed`: jaxvoice compared with torch, with equal weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from experiments.benchmarks import common, flops
from experiments.benchmarks.conversion_networks import (
    Preset,
    apply,
    decoder_gflop,
    given_pitch,
    jaxvoice_networks,
    network_shapes,
    noise,
    torch_networks,
    weights_of,
)
from experiments.benchmarks.timing import Harness, TimingOptions
from experiments.benchmarks.train_step import compiled_step, torch_discriminators
from jaxvoice.dsp.mel_config import mel_filterbank
from jaxvoice.models.hifivc.config import PRESETS

Step = Literal["reconstruction step", "adversarial step"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True, kw_only=True)
class StepOptions(TimingOptions):
    """Settings of the training steps."""

    preset: Preset = "full"
    """Sizes of the networks."""
    steps: tuple[Step, ...] = STEPS
    """The training steps to measure."""
    batch: int | None = None
    """Crops in a training batch; by default 1 with the preset `full`, and 8 with `tiny`."""
    segment_frames: int = 32
    """Length of the crops in frames of 40 ms."""


def batch_size(options: StepOptions) -> int:
    """The number of crops of a training step."""
    return options.batch or (1 if options.preset == "full" else 8)


def training_columns(options: StepOptions) -> dict[str, Any]:
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


def jaxvoice_step(step: Step, options: StepOptions, weights: Mapping[str, Any]) -> tuple[Callable[[], Any], float]:
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


def torch_step(step: Step, options: StepOptions) -> Callable[[], Any]:
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


def step_gflop(step: Step, options: StepOptions) -> float:
    """The operations of a training step, in units of 10^9."""
    config, batch, frames = PRESETS[options.preset], batch_size(options), options.segment_frames
    speaker_encoder = network_shapes(config).speaker_encoder
    forward = decoder_gflop(config, frames * config.content.frame_seconds)
    forward += flops.traced_gflop(apply, speaker_encoder, noise(0, 160, config.mel.num_mels))
    total = 3 * forward
    if step == "adversarial step":
        samples, sizes = frames * config.decoder.hop_length, config.discriminators
        total += 9 * flops.period_discriminators_gflop(sizes, samples)
        total += 9 * flops.scale_discriminators_gflop(sizes, samples)
    return batch * total


def measure_step(harness: Harness, step: Step, options: StepOptions) -> list[dict[str, Any]]:
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
