"""Train WaveGlow, a vocoder that is a normalising flow, on recordings of one speaker.

    python -m experiments.waveglow [--data PATH] [--run-dir DIR] [--preset NAME] [--minutes M] ...

On a GPU or TPU it trains the preset `256channels` with the settings of the release, in bfloat16. That takes weeks, so
begin with released weights where you can (docs/bring_your_weights.md and `--init-from`). On a CPU it trains the preset
`tiny`, a small WaveGlow, for at most ten minutes altogether. Without `--data` it trains on five minutes of English
speech that espeak-ng (extra `demo`) synthesises with one voice. The same command resumes a run that was stopped. The
minutes count from the start of the command, and include the check and decoding of the corpus.

Results: on two CPU cores, ten minutes lower the negative log-likelihood from -2.6 bits per sample after 50 steps to
-6.2 on held-out recordings. The samples are noise that follows the level of the recordings. All measurements are in
docs/results.md.
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
from jaxvoice.data.demo import VOICES
from jaxvoice.models import waveglow
from jaxvoice.models.waveglow.training import TrainingConfig, WaveGlowTask
from jaxvoice.models.waveglow.validation import METRICS
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "waveglow"


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a WaveGlow vocoder; every setting is a flag."""

    run_dir: Path = Path("runs/waveglow")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Size of the network: tiny, or a released size (256channels, 512channels); by default tiny on a CPU, and
    256channels otherwise."""
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list or of mels, if it is not beside them."""
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


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset."""
    model = waveglow.preset(preset)
    if preset == "tiny":
        # The demo corpus contains digital silence, so noise is added. Small corpora have short epochs, so the rate
        # decays by steps.
        optimizer = OptimizerConfig(
            learning_rate=1e-3, b2=0.999, weight_decay=0.0, decay=0.999, decay_steps=5, warmup_steps=50, clip_norm=1.0
        )
        training = TrainingConfig(
            model, optimizer, segment_size=4096, dequantize=True, ema_decay=0.99, initial_matrices="exchanges"
        )
        loop = Loop(minutes=9.5, validate_every=0, checkpoint_every=500, log_every=50, best_metric="bits_per_sample")
        devices = jax.device_count()
        batch_size = devices * -(-4 // devices)  # 4, or more if there are more devices
        return Experiment(preset=preset, batch_size=batch_size, crops_per_clip=4, training=training, loop=loop)
    training = TrainingConfig(model, precision="bfloat16")
    loop = Loop(steps=580_000, validate_every=2000, checkpoint_every=2000, best_metric="bits_per_sample")
    return Experiment(preset=preset, batch_size=12, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, waveglow.PRESETS, full="256channels"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop, folder = experiment.training, experiment.loop, experiment.run_dir
    mel, segment = config.model.mel, config.segment_size
    common.check(experiment)
    if experiment.preset == "tiny":
        print_once("Preset tiny: a small WaveGlow for a few minutes. Its speech is much noisier than the recordings.")
    corpus = common.find_recordings(
        experiment, experiment.corpus, mel, segment, audio_dir=experiment.audio_dir, voices=VOICES[:1]
    )
    # The release does not change levels, on which the likelihood depends.
    store, validation = common.load_recordings(corpus, experiment.validation, mel, peak_normalize=False)
    hop = mel.hop_length if "mel" in store else None
    if hop is not None and segment % hop:
        print_once(f"--segment-size is {segment}; crops of mels are whole frames, so {segment // hop * hop} are used.")
        segment = segment // hop * hop
    sampler = RandomCrops(
        experiment.batch_size,
        segment,
        hop_length=hop,
        crops_per_clip=experiment.crops_per_clip,
        mel_padding=mel.floor,
    )
    network = common.initial_network(experiment, waveglow.FAMILY, config.model)
    if network is not None and experiment.preset is not None:
        usual = default_experiment(experiment.preset).training.initial_matrices
        if config.initial_matrices != usual:
            print_once("--initial-matrices has no effect: the initial matrices are those of the model of --init-from.")
    inherited = inherited_info(folder, common.find_initial_model(experiment), experiment.init_from)
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        task = WaveGlowTask(
            config, steps_per_epoch=loader.steps_per_epoch, validation=validation, inherited_info=inherited
        )
        initial_state = None if network is None else ft.partial(task.state_of, network)
        return common.train(experiment, task, loader, started, initial_state)


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, where samples and the model are, and the next command."""
    config = experiment.training
    rows = [
        *summaries.metrics_rows(result),
        summaries.speed_row(result, experiment.batch_size * config.segment_size / config.model.mel.sample_rate),
        *summaries.samples_rows(result, experiment),
        *summaries.model_rows(
            result, f"jaxvoice vocode RECORDING.wav OUTPUT.wav --model {shlex.quote(str(result.folder))}"
        ),
        summaries.continue_row(result),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
