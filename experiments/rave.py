"""Train RAVE, an autoencoder of sound with latents at a low rate, on a folder of recordings.

    python -m experiments.rave [--data FOLDER] [--run-dir DIR] [--preset NAME] [--minutes M] ...

On a GPU or TPU it trains the preset `v2` with the settings of the release, for a day altogether; the same command
continues the run. The first phase of the release takes 1,000,000 steps, so set `--phase-1-steps` and
`--generator-optimizer.decay-steps` for shorter trainings. On a CPU it trains the preset `tiny`, a small v2, for at most
ten minutes altogether, which are part of a short first phase. Without `--data` it trains on phrases of plucked, bowed
and struck tones, which it synthesises. The minutes count from the start of the command, and include the check and
decoding of the corpus.

The samples of the run are reconstructions of held-out recordings beside the recordings, with mel spectrograms of both.
"""

import functools as ft
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import jax
import tyro

from experiments import common, summaries
from experiments.common import Loop
from jaxvoice.data import (
    AudioCrops,
    AugmentationConfig,
    Corpus,
    Store,
    divide_recordings,
    find_corpus,
    load_store,
    make_instrument_corpus,
    preflight,
    split,
)
from jaxvoice.models import rave
from jaxvoice.models.rave.training import RaveTask
from jaxvoice.models.rave.training_config import (
    BetaSchedule,
    RaveTrainingConfig,
    generator_optimizer,
    training_preset,
)
from jaxvoice.models.rave.validation import METRICS, Validation
from jaxvoice.models.rave.warm_start import load_discriminators
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info, model_folder

NAME = "rave"
PRESETS = ("tiny", *rave.PRESETS)
FEW_RECORDINGS = 20
"""Corpora with fewer recordings are divided into pieces before some are held out."""

AUGMENTATIONS = {
    "v2_nopqmf": AugmentationConfig(compress_probability=0.5, compress_range=(-60.0, -10.0)),
    "v2_with_augs": AugmentationConfig(mute_probability=0.1, compress_probability=0.8, gain_probability=0.5),
}
"""The random changes of configurations that have others than those of all."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a RAVE; every setting is a flag."""

    kept = (*common.Experiment.kept, "validation_windows", "augmentation")
    run_dir: Path = Path("runs/rave")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Configuration of the release (v1, v2, ...), or tiny; by default tiny on a CPU, and v2 otherwise."""
    batch_size: int = 8
    """Crops per step, summed over all devices."""
    crops_per_clip: int = 1
    """Number of crops per recording and epoch."""
    validation_windows: int = 64
    """Largest number of crops of held-out recordings in a validation."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: Annotated[RaveTrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=RaveTrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, workers=0, crops_per_clip=1, validation_windows=1)
        common.check_choice("--best-metric", self.loop.best_metric, [*METRICS][:1])


def tiny_training() -> RaveTrainingConfig:
    """A small v2 at 22,050 Hz for minutes on a CPU: 32 latents, 86 frames per second."""
    dilations = ((1, 3, 9), (1, 3))
    model = rave.RaveConfig(
        rave.EncoderConfig(capacity=32, ratios=(4, 4), dilations=dilations),
        rave.GeneratorConfig(capacity=32, ratios=(4, 4), dilations=dilations),
        rave.BottleneckConfig(latent_size=32),
        rave.DiscriminatorConfig(capacity=8),
        sample_rate=22050,
    )
    # In ten minutes, discriminators would take more time to compile and to train than they improve the sound.
    steps = 8000
    return RaveTrainingConfig(
        model,
        generator_optimizer(steps),
        OptimizerConfig(learning_rate=2e-4, b1=0.5, b2=0.9, weight_decay=0.0, schedule="constant"),
        phase_1_steps=steps,
        beta=BetaSchedule(5e-4, 1e-6, 1000),
        scales=(2048, 1024, 512, 256),
        multiband_scales=(512, 256, 128, 64),
        log_epsilon=0.01,
        crop_to_valid=False,
        segment_size=16384,
        ema_decay=0.99,
    )


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset."""
    if preset == "tiny":
        loop = Loop(
            steps=100_000,
            minutes=9.5,
            validate_every=800,
            checkpoint_every=800,
            log_every=50,
            best_metric="spectral_distance",
        )
        devices = jax.device_count()
        batch_size = devices * -(-4 // devices)  # 4, or more if there are more devices
        return Experiment(preset=preset, batch_size=batch_size, crops_per_clip=8, training=tiny_training(), loop=loop)
    loop = Loop(
        steps=6_000_000,
        minutes=24 * 60.0,
        validate_every=10_000,
        checkpoint_every=10_000,
        log_every=100,
        best_metric="spectral_distance",
    )
    return Experiment(
        preset=preset,
        workers=8,
        augmentation=AUGMENTATIONS.get(preset, AugmentationConfig()),
        training=training_preset(preset),
        loop=loop,
    )


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, PRESETS, full="v2"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_recordings(experiment: Experiment) -> Corpus:
    """Find and check the recordings, by default those of synthetic instruments, and print a table of them.

    **Raises:** `DataError` if there are no recordings, or none of them can be used.
    """
    config = experiment.training
    model = config.model
    if experiment.data is None:
        print_once("--data is not set; training on phrases of synthetic instruments.")
        corpus = make_instrument_corpus(sample_rate=model.sample_rate)
    else:
        corpus = find_corpus(experiment.data, "folder")
    checked = preflight(
        corpus,
        model.sample_rate,
        config.segment_size,
        channels=model.n_channels,
        shortest=model.hop_length / model.sample_rate,
        progress=jax.process_index() == 0,
    )
    print_once(checked.table())
    return checked.corpus


def load_recordings(experiment: Experiment, corpus: Corpus) -> tuple[Store, Store | None]:
    """The training and the held-out recordings; the second is `None` if nothing is held out.

    Levels are not changed. A corpus of few recordings is divided into pieces of twice the length of a crop, of which
    some are held out, as in the release, so that one long recording is enough.
    """
    config = experiment.training
    store = load_store(
        corpus,
        config.model.sample_rate,
        channels=config.model.n_channels,
        peak_normalize=False,
        progress=jax.process_index() == 0,
    )
    if len(store) < FEW_RECORDINGS and not corpus.validation_ids:
        store = divide_recordings(store, 2 * config.segment_size)
        if len(store) == 1 and experiment.validation is None:
            print_once("The recording is too short to hold out a part of it, so there are no validations.")
            return store, None
    train, held_out = split(store.corpus, experiment.validation, how="random")
    rows = {utterance.id: row for row, utterance in enumerate(store.corpus.utterances)}
    parts = [store.subset(rows[utterance.id] for utterance in part.utterances) for part in (train, held_out)]
    return parts[0], parts[1] if len(held_out) else None


def initial_state(experiment: Experiment, task: RaveTask) -> ft.partial | None:
    """A function that returns the state of a new run with the model of `--init-from` and its discriminators, or new
    ones if its folder contains none; `None` without the flag."""
    model = common.initial_network(experiment, rave.FAMILY, experiment.training.model)
    if model is None:
        return None
    source = common.find_initial_model(experiment)
    assert source is not None
    stored = load_discriminators(model_folder(source), experiment.training.model)
    print_once(f"starting with {'new' if stored is None else 'its'} discriminators")

    def state():
        discriminators = stored
        if discriminators is None:
            discriminators = task.init(key=jax.random.key(experiment.loop.seed)).discriminators.model
        return task.state_of(model.network, model.state, discriminators)

    return ft.partial(state)


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop, folder = experiment.training, experiment.loop, experiment.run_dir
    common.check(experiment)
    if experiment.preset == "tiny":
        print_once("Preset tiny: a small RAVE for a few minutes. Its reconstructions are rougher than the release's.")
    corpus = find_recordings(experiment)
    store, held_out = load_recordings(experiment, corpus)
    sampler = AudioCrops(
        experiment.batch_size,
        config.segment_size,
        config.model.sample_rate,
        experiment.augmentation,
        crops_per_clip=experiment.crops_per_clip,
    )
    validation = None
    if held_out is not None:
        validation = Validation(
            held_out, config, augmentation=experiment.augmentation, windows=experiment.validation_windows
        )
    inherited = inherited_info(folder, common.find_initial_model(experiment), experiment.init_from)
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        task = RaveTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation, inherited_info=inherited)
        if not RunFolder(folder).has_progress():
            print_once(f"The second phase begins after {config.phase_1_steps:,} steps (--phase-1-steps).")
        return common.train(experiment, task, loader, started, initial_state(experiment, task))


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, where samples and the model are, and the next command."""
    config = experiment.training
    audio = experiment.batch_size * config.segment_size / config.model.sample_rate
    left = config.phase_1_steps - result.step
    phase = f"first, the second begins in {left:,} steps" if left > 0 else "second"
    model = shlex.quote(str(result.folder))
    rows = [
        ("phase", phase),
        *summaries.metrics_rows(result),
        summaries.speed_row(result, audio),
        *summaries.samples_rows(result, experiment),
        *summaries.model_rows(result, f"jaxvoice transfer RECORDING.wav OUTPUT.wav --model {model}"),
        summaries.continue_row(result),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
