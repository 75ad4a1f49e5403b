"""Train a Conformer as a phoneme recogniser, whose encoder computes the content features of voice conversion.

    python -m experiments.phoneme_recogniser [--data PATH] [--run-dir DIR] [--preset NAME] [--minutes M] ...

`--data` is a corpus with alignments, as for `experiments.tts_ljspeech`. Without it, espeak-ng (extra `demo`)
synthesises sentences in 14 voices with phoneme times that are exact to the sample. The recogniser classifies every
frame of 40 ms. On a CPU, the preset `tiny` trains a small encoder for five minutes; on a GPU or TPU, the preset `small`
trains one of 13 million parameters. `jaxvoice.ContentEncoder.load` reads the result.
"""

import functools as ft
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from experiments import common, summaries, voice_conversion
from experiments.common import Loop
from jaxvoice.data import Corpus, LengthBuckets, Store, choose_shapes, find_aligned, label_column, load_store
from jaxvoice.models import conformer, hifivc
from jaxvoice.models.conformer.training import COLUMNS, FIXED, ConformerTask, TrainingConfig, with_phonemes
from jaxvoice.models.conformer.validation import METRICS, Validation
from jaxvoice.text.phonemes import ALIGNED
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "phoneme_recogniser"
PRESETS = {"tiny": hifivc.PRESETS["tiny"].content, "small": conformer.PRESETS["small"]}
"""The sizes of the networks: that of the content encoder of HiFi-VC's preset `tiny`, and one for a GPU."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a phoneme recogniser; every setting is a flag."""

    kept = (*common.Experiment.kept, "buckets")
    run_dir: Path = Path("runs/phoneme_recogniser")
    """Folder for checkpoints, logs and the best model."""
    kind: Literal["auto", "lj_aligned", "textgrid", "labels", "table", "json", "filelist", "demo"] = "auto"
    """Format of the alignments; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the recordings; by default the folder of the alignments."""
    buckets: int = 2
    """Number of batch shapes. Batches are padded to one of them, and each is compiled once."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, buckets=1)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset, `tiny` or `small`."""
    model = with_phonemes(PRESETS[preset], ALIGNED)
    if preset == "tiny":
        optimizer = OptimizerConfig(
            learning_rate=2e-3, b2=0.98, weight_decay=1e-3, weight_decay_on="matrices", decay=0.999, decay_steps=2,
            warmup_steps=50, clip_norm=1.0,
        )  # fmt: skip
        training = TrainingConfig(model, optimizer, ema_decay=0.99)
        loop = Loop(minutes=5.0, validate_every=0, checkpoint_every=200, log_every=50, best_metric="phoneme_error_rate")
        return Experiment(preset=preset, batch_size=8, buckets=1, training=training, loop=loop)
    training = TrainingConfig(model, precision="bfloat16", ema_decay=0.999)
    loop = Loop(steps=50_000, minutes=60.0, validate_every=1000, best_metric="phoneme_error_rate")
    return Experiment(preset=preset, batch_size=64, buckets=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, PRESETS, full="small"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def load(corpus: Corpus, config: TrainingConfig) -> Store:
    """The recordings of `corpus` at the rate of the front end, with the phoneme of each frame."""
    store = load_store(corpus, config.model.mel.sample_rate, progress=jax.process_index() == 0)
    return store.with_columns(labels=label_column(store, config.model.hop_length))


def run(experiment: Experiment, started: float | None = None, corpus: Corpus | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now.

    `corpus` replaces that of `--data`.
    """
    started = time.monotonic() if started is None else started
    config, loop = experiment.training, experiment.loop
    common.check(experiment)
    if corpus is None and experiment.data is None:
        corpus, _ = voice_conversion.without_speakers(voice_conversion.demo_corpus(), voice_conversion.DEMO_UNSEEN)
    elif corpus is None:
        corpus = find_aligned(experiment.data or "", experiment.kind, audio_dir=experiment.audio_dir)
    print_once(corpus.table())
    parts = voice_conversion.hold_out(corpus, experiment.validation)
    store, held_out = common.load_split(ft.partial(load, config=config), parts)
    shapes = choose_shapes(store, COLUMNS, experiment.buckets)
    sampler = LengthBuckets(experiment.batch_size, shapes, columns=COLUMNS, fixed=FIXED)
    loader = common.loader(store, sampler, seed=loop.seed)
    validation = None if held_out is None else Validation(held_out, config.model)
    network = common.initial_network(experiment, conformer.FAMILY, config.model)
    inherited = inherited_info(experiment.run_dir, common.find_initial_model(experiment), experiment.init_from)
    task = ConformerTask(
        config, steps_per_epoch=loader.steps_per_epoch, validation=validation, inherited_info=inherited
    )
    initial_state = None if network is None else ft.partial(task.state_of, network)
    return common.train(experiment, task, loader, started, initial_state)


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, and the next command."""
    folder = shlex.quote(str(result.folder))
    rows = [
        *summaries.metrics_rows(result),
        summaries.speed_row(result),
        *summaries.model_rows(result, f"python -m experiments.hifivc_vctk --content-encoder {folder}"),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
