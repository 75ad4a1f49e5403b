"""Train a speaker encoder to verify speakers it has not heard.

    python -m experiments.speaker_encoder [--data PATH] [--run-dir DIR] [--preset NAME] [--minutes M] ...

`--data` is a corpus with speakers: VCTK, a list of files with speakers, or a folder with a folder for each speaker.
Without it, espeak-ng (extra `demo`) synthesises sentences in 16 voices. Some speakers are held out; the equal error
rate of verifying them is printed before and after training. On a CPU, the preset `tiny` trains a small residual
network for four minutes; on a GPU or TPU, the preset `hasp` trains H/ASP. The presets `lstm` and `resemblyzer` train
the recurrent encoders. `jaxvoice.SpeakerEncoder.load` reads the result.
"""

import functools as ft
import shlex
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import jax
import tyro

from experiments import common, summaries, voice_conversion
from experiments.common import Loop
from jaxvoice.data import Corpus, Store, find_corpus, load_store, preflight
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models import speaker_encoder
from jaxvoice.models.speaker_encoder.embedding import SpeakerNetwork
from jaxvoice.models.speaker_encoder.training import SpeakerTask, TrainingConfig, training_sampler, training_store
from jaxvoice.models.speaker_encoder.validation import METRICS, Validation
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "speaker_encoder"
DEMO_UNSEEN = ("annie", "max", "linda", "victor")
"""Voices of the demo corpus that are never trained on."""
_SHARE = 4  # one of so many speakers is held out


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a speaker encoder; every setting is a flag."""

    kept = ("unseen",)
    hidden = MappingProxyType({TrainingConfig: ["classes"]})
    run_dir: Path = Path("runs/speaker_encoder")
    """Folder for checkpoints, logs and the best model."""
    corpus: Literal["auto", "ljspeech", "vctk", "folder", "filelist"] = "auto"
    """Layout of the corpus, which names the speaker of each recording; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, if it is not beside it."""
    unseen: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]")] = None
    """Speakers that are never trained on, with which the encoder is validated. By default, four voices of the demo
    corpus, six speakers of VCTK, or a quarter of the speakers with several recordings, at least two."""
    batch_size: Annotated[int, tyro.conf.Suppress] = 32
    """Examples per step: `speakers` times `utterances`."""
    validation: Annotated[int | None, tyro.conf.Suppress] = None
    """Not used: all recordings of the unseen speakers are held out."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", self.training.speakers * self.training.utterances)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset of the speaker encoders."""
    model = speaker_encoder.preset(preset)
    if preset == "tiny":
        optimizer = OptimizerConfig(
            learning_rate=2e-3, b1=0.9, weight_decay=1e-2, weight_decay_on="matrices", decay=0.998, decay_steps=1,
            clip_norm=3.0,
        )  # fmt: skip
        training = TrainingConfig(model, optimizer, speakers=8, utterances=4, seconds=1.6)
        loop = Loop(minutes=4.0, validate_every=100, checkpoint_every=500, log_every=50, best_metric="equal_error_rate")
        return Experiment(preset=preset, training=training, loop=loop)
    training = TrainingConfig(model)
    if preset == "resemblyzer":
        optimizer = replace(training.optimizer, weight_decay=0.0)
        training = replace(training, optimizer=optimizer, loss="ge2e_softmax", speakers=64, utterances=10, seconds=1.6)
    loop = Loop(steps=100_000, validate_every=1000, checkpoint_every=1000, best_metric="equal_error_rate")
    return Experiment(preset=preset, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, speaker_encoder.PRESETS, full="hasp"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_speakers(experiment: Experiment) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The recordings to train on, those of the unseen speakers, and the names of these speakers."""
    run, given = experiment.run_dir, experiment.unseen
    if experiment.data is None:
        corpus = voice_conversion.demo_corpus()
        unseen = voice_conversion.chosen_unseen(run, given, corpus)
        unseen = DEMO_UNSEEN if unseen is None else unseen
    else:
        found = find_corpus(experiment.data, experiment.corpus, experiment.audio_dir)
        rows_of_speakers(found)  # raises an error before files are decoded
        unseen = voice_conversion.chosen_unseen(run, given, found)
        config = experiment.training
        checked = preflight(found, config.model.sample_rate, config.segment, progress=jax.process_index() == 0)
        print_once(checked.table())
        corpus = checked.corpus
    if unseen is None:
        unseen = tuple(name for name in unseen_speakers(corpus) if name in corpus.speakers)
    return *voice_conversion.without_speakers(corpus, unseen), unseen


def unseen_speakers(corpus: Corpus) -> Collection[str]:
    """The speakers of VCTK that are held out, or else a quarter of those with several recordings, from the end.

    **Raises:** `DataError` for fewer than two speakers with several recordings, or if fewer than two others are left.
    """
    counts = Counter(utterance.speaker for utterance in corpus.utterances)
    several = sorted(speaker for speaker, count in counts.items() if count > 1)
    of_vctk = [speaker for speaker in voice_conversion.VCTK_UNSEEN if speaker in several]
    if corpus.kind == "vctk" and len(of_vctk) > 1:
        return voice_conversion.VCTK_UNSEEN
    held_out = several[-max(2, len(several) // _SHARE) :]
    if len(held_out) < 2 or len(counts) - len(held_out) < 2:
        raise DataError(
            f"The corpus {corpus.root} has {len(counts)} speaker(s), {len(several)} of them with several recordings; "
            "it should have at least four, of which two with several recordings are held out. Add recordings of other "
            "speakers."
        )
    return held_out


def check_rows(config: TrainingConfig) -> None:
    """Raise `ConfigError` unless a batch splits evenly over the devices."""
    rows, devices = config.speakers * config.utterances, common.data_mesh().size
    if rows % devices:
        raise ConfigError(
            f"--speakers is {config.speakers} and --utterances is {config.utterances}; their product should be a "
            f"multiple of the number of devices, {devices}."
        )


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    loop = experiment.loop
    check_rows(experiment.training)
    common.check(experiment)
    train, held_out, names = find_speakers(experiment)
    known, unseen, config = len(train.speakers), ", ".join(held_out.speakers), experiment.training
    if known < 2:
        raise DataError(f"One speaker is left to train on; there should be at least two. Shorten --unseen ({unseen}).")
    config = replace(config, speakers=min(config.speakers, known))
    if config.has_classifier and config.classes is None:
        config = replace(config, classes=known)
    check_rows(config)
    model, progress = config.model, jax.process_index() == 0

    def load(part: Corpus) -> Store:
        return training_store(load_store(part, model.sample_rate, progress=progress), model)

    store, validation = load(train), Validation(load(held_out), model)
    print_once(f"{known} speakers with {len(train)} recordings for training; {len(held_out)} recordings held out")
    loader = common.loader(store, training_sampler(config, store), seed=loop.seed)
    network = common.initial_network(experiment, speaker_encoder.FAMILY, model)
    inherited = inherited_info(experiment.run_dir, common.find_initial_model(experiment), experiment.init_from)
    task = SpeakerTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation, inherited_info=inherited)
    key = jax.random.key(loop.seed)
    initial = task.encoder(task.init(key=key) if network is None else task.state_of(network, key=key))
    print_once(error_rate(validation, initial, "before training"))
    initial_state = None if network is None else ft.partial(task.state_of, network, key=key)
    with loader:
        result = common.train(replace(experiment, unseen=names), task, loader, started, initial_state)
    if (result.folder / "model").is_dir():
        best, _ = speaker_encoder.FAMILY.load_network(result.folder / "model")
        print_once(error_rate(validation, best, "of the best model"))
    return result


def error_rate(validation: Validation, encoder: SpeakerNetwork, when: str) -> str:
    """The equal error rate of `encoder` and its interval, as text."""
    rate = validation(encoder).metrics["equal_error_rate"]
    low, high = validation.interval(encoder)
    interval = f"95 % interval over speakers {100 * low:.1f} to {100 * high:.1f} %"
    return f"equal error rate {when}: {100 * rate:.1f} % ({interval})"


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, and the next command."""
    folder = shlex.quote(str(result.folder))
    audio = experiment.batch_size * experiment.training.seconds
    rows = [
        *summaries.metrics_rows(result),
        summaries.speed_row(result, audio),
        *summaries.model_rows(result, f"jaxvoice compare-voices A.wav B.wav --model {folder}"),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
