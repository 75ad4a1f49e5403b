"""Train the DVAE of XTTS, an autoencoder of mel spectrograms with discrete codes, and a vocoder for it.

    python -m experiments.xtts_dvae [--data PATH] [--run-dir DIR] [--preset NAME] [--minutes M] ...

The first `--dvae-steps` steps train the DVAE. All further steps train a HiFi-GAN on the mel spectrograms of its decoded
codes, so that the result is a codec: `jaxvoice.Codec` encodes recordings as codes, and decodes codes to audio. On a GPU
or TPU, the DVAE has the size of XTTS v2 (`--preset v1_1` for that of v1.1), and the vocoder is HiFi-GAN V1. On a CPU it
trains the preset `tiny` for 4,000 steps or at most six minutes. Without `--data` it trains on a few minutes of English
speech that espeak-ng (extra `demo`) synthesises. The same command resumes a run that was stopped. The minutes count
from the start of the command.

Results: 2,000 steps of the DVAE and 2,000 of the vocoder use 8.3 minutes of processor time. A recogniser makes 6.1 %
word errors in new sentences through the codes (recordings: 5.6 %). All measurements are in docs/results.md.

`--init-from DVAE --dvae-steps 0` trains a vocoder for an imported DVAE, such as that of XTTS, which has none.
"""

import functools as ft
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import tyro

from experiments import common, summaries
from experiments.common import Loop
from jaxvoice.data import RandomCrops
from jaxvoice.models import hifigan
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.xtts_dvae import FAMILY, CodecConfig, CodecNetwork, DVAEConfig
from jaxvoice.models.xtts_dvae.front_end import inversion_config
from jaxvoice.models.xtts_dvae.statistics import mel_statistics
from jaxvoice.models.xtts_dvae.training import DVAEState, DVAETask, TrainingConfig
from jaxvoice.models.xtts_dvae.validation import METRICS, Validation
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info

NAME = "xtts_dvae"
PRESETS = ("tiny", "v2", "v1_1")


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a DVAE and a vocoder for it; every setting is a flag."""

    run_dir: Path = Path("runs/xtts_dvae")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Size of the networks: tiny, v2 (1,024 codes) or v1_1 (8,192 codes); by default tiny on a CPU, and v2
    otherwise."""
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, if it is not beside it."""
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
    if preset == "tiny":
        vocoder = hifigan.preset("tiny")
        dvae = DVAEConfig(codes=512, code_channels=64, hidden=128, blocks=2, decay=0.98)
        decaying = OptimizerConfig(learning_rate=1e-3, decay=0.999, decay_steps=10)
        training = TrainingConfig(
            CodecConfig(dvae, vocoder.generator),
            OptimizerConfig(1e-3, 0.9, 0.99, weight_decay=0.0, decay=0.5, decay_steps=700),
            dvae_steps=2000,
            # In minutes, a step against discriminators costs more than it gains.
            reconstruction_steps=1_000_000,
            vocoder_optimizer=decaying,
            discriminator_optimizer=decaying,
            discriminators=vocoder.discriminators,
            loss_weights=LossWeights(stft=10.0),
            segment_size=32768,
            vocoder_segment_size=8192,
            ema_decay=0.995,
        )
        loop = Loop(steps=4000, minutes=5.5, validate_every=1000, checkpoint_every=1000, log_every=100)
        devices = jax.device_count()
        return Experiment(
            preset=preset, batch_size=devices * -(-4 // devices), crops_per_clip=4, training=training, loop=loop
        )
    codes = 1024 if preset == "v2" else 8192
    training = TrainingConfig(
        CodecConfig(DVAEConfig(codes=codes), hifigan.preset("v1").generator),
        loss_weights=LossWeights(stft=10.0),
        reconstruction_steps=1000,
        precision="bfloat16",
        ema_decay=0.999,
    )
    loop = Loop(steps=500_000, validate_every=5000, checkpoint_every=5000, log_every=50)
    return Experiment(preset=preset, batch_size=32, crops_per_clip=4, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment that the command line `argv` asks for."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, PRESETS, full="v2"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def initial_state(experiment: Experiment, task: DVAETask) -> Callable[[], DVAEState] | None:
    """Makes the state with the network of `--init-from`; `None` without the flag.

    The vocoder of a model without one is new.
    """
    key = jax.random.key(experiment.loop.seed)

    def with_vocoder(network: CodecNetwork, stored: CodecConfig, _: Path) -> tuple[CodecNetwork, CodecConfig]:
        wanted = task.config.model.vocoder
        if stored.vocoder is not None or wanted is None:
            return network, stored
        print_once("the initial model has no vocoder, so it is new")
        config = replace(stored, vocoder=wanted)
        parts = network.dvae, network.mel_stats
        return eqx.tree_at(lambda n: (n.dvae, n.mel_stats), CodecNetwork(config, key=key), parts), config

    network: Any = common.initial_network(experiment, FAMILY, experiment.training.model, adapt=with_vocoder)
    return None if network is None else ft.partial(task.state_of, network, key=key)


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop, folder = experiment.training, experiment.loop, experiment.run_dir
    mel = config.model.mel
    contract = inversion_config(mel)
    common.check(experiment)
    if experiment.preset == "tiny":
        print_once(
            "Preset tiny: a small DVAE and vocoder for a few minutes. Speech is less intelligible than recorded."
        )
    corpus = common.find_recordings(
        experiment, experiment.corpus, contract, config.segment_size, audio_dir=experiment.audio_dir
    )
    # Codes are computed from recordings whose levels are not changed.
    store, held_out = common.load_recordings(corpus, experiment.validation, contract, peak_normalize=False)
    crops = RandomCrops(
        experiment.batch_size, config.segment_size, columns=None, crops_per_clip=experiment.crops_per_clip
    )
    statistics = None if RunFolder(folder).has_progress() else mel_statistics(store, mel)
    inherited = inherited_info(folder, common.find_initial_model(experiment), experiment.init_from)
    with common.loader(store, crops, seed=loop.seed, workers=experiment.workers) as loader:
        task = DVAETask(
            config,
            steps_per_epoch=loader.steps_per_epoch,
            mel_stats=statistics,
            validation=None if held_out is None else Validation(held_out, mel),
            inherited_info=inherited,
        )
        if config.model.vocoder is not None and not RunFolder(folder).has_progress():
            print_once(f"The vocoder is trained after {config.dvae_steps:,} steps (--dvae-steps).")
        return common.train(experiment, task, loader, started, initial_state(experiment, task))


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, where samples and the model are, and the next command."""
    config = experiment.training
    model = shlex.quote(str(result.folder))
    rows = [
        ("validation mel L1", summaries.quality(result, "mel_l1")),
        *summaries.metrics_rows(result),
        summaries.speed_row(result, experiment.batch_size * config.segment_size / config.model.mel.sample_rate),
        *summaries.samples_rows(result, experiment),
        *summaries.model_rows(result, f"jaxvoice vocode RECORDING.wav OUTPUT.wav --model {model}"),
    ]
    return summaries.summary_text(result, seconds, [*rows, summaries.continue_row(result)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
