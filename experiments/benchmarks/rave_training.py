"""What torch reaches with the settings of `experiments.rave` in the same time: a row for the table of its result.

    python -m experiments.benchmarks.rave_training [--minutes M] [--data FOLDER] [--json FILE]

The batches, the order of the steps, the losses, the optimisers and the moving average are those of
`experiments.rave --preset tiny`, and the validation is jaxvoice's, on the weights that torch has trained. The minutes
include neither the loading of the recordings nor the validation, which `experiments.rave` includes; to compare, pass
the minutes that its training took without them, or compare equal numbers of steps (`--steps`). The first phase has the
number of steps of the preset.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import rave as experiment
from experiments.benchmarks import common, torch_rave
from experiments.benchmarks.rave import jaxvoice_networks
from experiments.benchmarks.torch_hifigan import arrays_of
from jaxvoice.data import AudioCrops, Loader
from jaxvoice.models.rave.training_config import RaveTrainingConfig
from jaxvoice.models.rave.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the training."""

    minutes: float = 9.0
    """Minutes of training."""
    steps: int | None = None
    """Stop after this number of steps, if the minutes have not passed before."""
    data: Path | None = None
    """Folder of recordings; by default the synthetic instruments of `experiments.rave`."""
    seed: int = 1234
    """Seed of the weights, of the crops and of the noise."""


def average(old: dict[str, Any], new: dict[str, Any], decay: float, updates: int) -> dict[str, Any]:
    """The moving average of weights after an update, as in jaxvoice."""
    keep = min(decay, (1 + updates) / (10 + updates))
    return {name: keep * old[name] + (1 - keep) * array for name, array in new.items()}


def train(
    options: Options, config: RaveTrainingConfig, loader: Loader
) -> tuple[torch_rave.Trainer, dict[str, Any], int]:
    """Train in torch; returns the trainer, the weights to evaluate, and the number of steps."""
    import torch

    torch.manual_seed(options.seed)
    network = torch_rave.Rave(config.model)
    discriminators = torch_rave.Discriminators(config.model.discriminators, config.model.n_channels)
    trainer = torch_rave.Trainer(network, discriminators, config)
    frames, latents = config.segment_size // config.model.hop_length, config.model.bottleneck.latent_size
    parameters = dict(network.named_parameters())
    weights = {name: one.detach().clone() for name, one in parameters.items()}
    start, updates = time.monotonic(), 0
    while time.monotonic() - start < 60 * options.minutes and trainer.steps != options.steps:
        audio = torch.from_numpy(next(loader).audio).mT.contiguous()
        mode = config.step_kind(trainer.steps).mode
        losses = trainer.step(audio, torch.randn(len(audio), latents, frames), mode)
        if mode != "discriminators" and config.ema_decay is not None:
            with torch.no_grad():
                weights = average(weights, parameters, config.ema_decay, updates)
            updates += 1
        if trainer.steps % 50 == 0:
            print(trainer.steps, "  ".join(f"{name} {value:.4g}" for name, value in losses.items()), flush=True)
    weights = weights if config.ema_decay is not None else parameters
    return trainer, {name: one.detach().numpy() for name, one in weights.items()}, trainer.steps


def main(options: Options) -> None:
    """Train, validate with jaxvoice, and print the row."""
    given = experiment.default_experiment("tiny")
    given = type(given)(**{**vars(given), "data": options.data})
    config = given.training
    store, held_out = experiment.load_recordings(given, experiment.find_recordings(given))
    if held_out is None:
        raise SystemExit("Nothing is held out, so that there is no validation; use more recordings.")
    validation = Validation(held_out, config, windows=given.validation_windows)
    sampler = AudioCrops(
        given.batch_size,
        config.segment_size,
        config.model.sample_rate,
        given.augmentation,
        crops_per_clip=given.crops_per_clip,
    )
    with Loader(store, sampler, seed=options.seed, workers=given.workers) as loader:
        began = time.monotonic()
        trainer, weights, steps = train(options, config, loader)
        seconds = time.monotonic() - began
    network, state, _ = jaxvoice_networks(config, (weights, arrays_of(trainer.discriminators)))
    result = validation(network, state, config.step_kind(max(steps - 1, 0)), step=steps)
    finite = {name: value for name, value in result.metrics.items() if np.isfinite(value)}
    row = {"engine": "torch", "minutes": seconds / 60, "steps": steps, **finite}
    common.report("RAVE, preset tiny, trained in torch", options, [row])


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
