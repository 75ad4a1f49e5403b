"""Train HiFi-GAN from scratch, by default for at most an hour on one NVIDIA L40.

    python -m experiments.hifigan_l40 [--data PATH] [--run-dir DIR] [--preset NAME] [--minutes M] ...

On a GPU or TPU it trains HiFi-GAN V1 (`--preset` for others) in bfloat16 for at most 60 minutes. On a CPU it trains the
preset `tiny`, a small HiFi-GAN, for at most five minutes altogether. The first steps, on a CPU all of these minutes,
train the generator without discriminators on its mel and multi-resolution STFT losses. Without `--data` it trains on a
few minutes of English speech that espeak-ng (extra `demo`) synthesises. The same command resumes a run that was
stopped. The minutes count from the start of the command, and include the check and decoding of the corpus.

Results: on two CPU cores, 3,560 steps in 4.7 minutes and a validation mel L1 of 0.40 on the demo corpus. The mel shows
harmonics. On 16 clips of LJSpeech, 5,100 steps give a mel L1 of 0.50; a recogniser's word error rate on held-out clips
is 39 % (recordings: 25 %). An hour on an L40 has not been measured. All measurements are in docs/results.md.
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
from jaxvoice.data import RandomCrops
from jaxvoice.errors import ConfigError
from jaxvoice.models import hifigan
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.hifigan.training import METRICS, HiFiGANTask, TrainingConfig
from jaxvoice.models.hifigan.warm_start import continued_config, continued_state, initial_state
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "hifigan_l40"


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a HiFi-GAN vocoder; every setting is a flag."""

    run_dir: Path = Path("runs/hifigan_l40")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Size of the networks: tiny, a released size (v1, v2, v3), or V1 at another sample rate (v1_16k, v1_24k, v1_44k,
    v1_48k); by default tiny on a CPU, and v1 otherwise."""
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list or of mels, if it is not beside them."""
    init_from: Path | None = None
    """Run folder, model folder or Hub id (owner/name) from which a new run takes its generator and, if the folder has
    them, its discriminators."""
    continue_from: Path | None = None
    """Model folder of `jaxvoice import` with training.safetensors. A new run continues from the stored step, with the
    stored network sizes, and with the stored optimisers unless flags override them."""
    crops_per_clip: int = 1
    """Number of crops per clip and epoch."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, workers=0, crops_per_clip=1)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        if self.continue_from is not None and self.init_from is not None:
            raise ConfigError("--continue-from and --init-from cannot be combined; pass only one of them.")


def default_experiment(
    preset: str | None, continue_from: Path | None = None, *, pretrained: bool = False
) -> Experiment:
    """The settings of a preset, or of `--continue-from`. `pretrained`: for a run with `--init-from`."""
    if continue_from is not None:
        loop = Loop(steps=5_000_000, validate_every=1000, checkpoint_every=5000, log_every=50)
        return Experiment(continue_from=continue_from, training=continued_config(continue_from), loop=loop)
    losses = LossWeights(stft=10.0)
    if preset == "tiny":
        # Small corpora have short epochs, so the rate decays by steps. It is high because there are few steps. A step
        # with discriminators takes five times as long, so a run of a few minutes has none.
        optimizer = OptimizerConfig(learning_rate=1e-3, decay=0.999, decay_steps=10)
        loop = Loop(minutes=4.5, validate_every=0, checkpoint_every=500, log_every=100)
        training = TrainingConfig(
            hifigan.preset(preset), optimizer, optimizer, losses, ema_decay=0.995, reconstruction_steps=30_000
        )
        devices = jax.device_count()
        batch_size = devices * -(-4 // devices)  # 4, or more if there are more devices
        return Experiment(preset=preset, batch_size=batch_size, crops_per_clip=4, training=training, loop=loop)
    optimizer = OptimizerConfig(decay=0.999, decay_steps=1000)
    model = hifigan.preset(preset or "v1")
    training = TrainingConfig(
        model,
        optimizer,
        optimizer,
        losses,
        precision="bfloat16",
        ema_decay=0.999,
        reconstruction_steps=0 if pretrained else 1000,
    )
    loop = Loop(minutes=60.0, validate_every=2000, checkpoint_every=5000, log_every=50)
    return Experiment(preset=preset, batch_size=32, crops_per_clip=16, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment that the command line `argv` asks for."""

    def default() -> Experiment:
        folder = common.flag_value("--continue-from", argv)
        if folder is None:
            preset = common.chosen_preset(argv, hifigan.PRESETS, full="v1")
            return default_experiment(preset, pretrained=common.flag_value("--init-from", argv) is not None)
        if common.flag_value("--preset", argv) is not None:
            raise ConfigError("--continue-from uses the stored network sizes; omit --preset.")
        return default_experiment(None, Path(folder))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop, folder = experiment.training, experiment.loop, experiment.run_dir
    mel, segment = config.model.mel_contract, config.model.segment_size
    common.check(experiment)
    if experiment.preset == "tiny":
        print_once(
            "Preset tiny: a small HiFi-GAN for a few minutes. Its speech is less intelligible than the recordings."
        )
    corpus = common.find_recordings(experiment, experiment.corpus, mel, segment, audio_dir=experiment.audio_dir)
    store, validation = common.load_recordings(corpus, experiment.validation, mel)
    sampler = RandomCrops(
        experiment.batch_size,
        segment,
        hop_length=mel.hop_length if "mel" in store else None,
        crops_per_clip=experiment.crops_per_clip,
        mel_padding=mel.floor,
    )
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        pretrained = common.find_initial_model(experiment)
        given = experiment.init_from or experiment.continue_from
        inherited = inherited_info(folder, pretrained or experiment.continue_from, given)
        task = HiFiGANTask(
            config, steps_per_epoch=loader.steps_per_epoch, validation=validation, inherited_info=inherited
        )
        state = None
        if pretrained is not None:
            state = ft.partial(initial_state, task, pretrained, seed=loop.seed)
        elif (source := experiment.continue_from) is not None:
            state = ft.partial(continued_state, task, source)
        return common.train(experiment, task, loader, started, state)


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, where samples and the model are, and the next command."""
    model = experiment.training.model
    rows = [
        ("validation mel L1", summaries.quality(result, "mel_l1")),
        summaries.speed_row(result, experiment.batch_size * model.segment_size / model.mel.sample_rate),
        *summaries.samples_rows(result, experiment),
        *summaries.model_rows(
            result, f"jaxvoice vocode RECORDING.wav OUTPUT.wav --model {shlex.quote(str(result.folder))}"
        ),
    ]
    return summaries.summary_text(result, seconds, [*rows, summaries.continue_row(result)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
