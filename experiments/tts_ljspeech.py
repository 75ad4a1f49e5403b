"""Train text to speech on an aligned corpus: first the acoustic model, then the duration model.

    python -m experiments.tts_ljspeech [--data PATH] [--run-dir DIR] [--preset NAME] [--vocoder PATH] ...

`--data` is a corpus with alignments: LJ-Speech-aligned, TextGrids of the Montreal Forced Aligner with recordings, HTK
or HTS labels, tables, a file list. Without it, espeak-ng (extra `demo`) synthesises half an hour of English speech with
phoneme times that are exact to the sample. On a GPU or TPU, the preset `full` trains for 35,000 steps and its duration
model for 4,000 more. On a CPU, the preset `tiny` trains for at most ten minutes in total. At the end, the best model
synthesises a sentence that is not in the corpus, with `--vocoder` (the model folder or run folder of a vocoder with the
same mel contract) or with Griffin-Lim. The same command resumes a run that was stopped.

Result on two CPU cores with the preset `tiny` and without `--data`: 5.4 minutes, a mel L1 of 0.314 on held-out
sentences, and 4.4 % word errors of a recogniser with Griffin-Lim (the recordings have 6.4 %). The preset `full` has not
been measured. All measurements are in docs/results.md.
"""

import functools as ft
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import jax
import tyro

from experiments import common, summaries, text_to_speech
from experiments.common import Loop
from jaxvoice.data import Corpus, LengthBuckets, choose_buckets, load_aligned, split
from jaxvoice.dsp.mel_config import MEL_CONTRACTS, MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models import gaussian_tts
from jaxvoice.models.gaussian_tts import Statistics
from jaxvoice.models.gaussian_tts.training import TrainingConfig, acoustic_optimizer, duration_optimizer, run_statistics
from jaxvoice.models.gaussian_tts.validation import METRICS, Validation
from jaxvoice.models.gaussian_tts.warm_start import initial_state
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.text.front_end import pronounce
from jaxvoice.text.phonemes import ALIGNED, PHONE_SETS
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info

NAME = "tts_ljspeech"
TEST_SENTENCE = "The quick brown fox jumps over the lazy dog, and a wizard's job is to vex chumps."


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train a text-to-speech model; every setting is a flag."""

    kept = (*common.Experiment.kept, "buckets")
    run_dir: Path = Path("runs/tts_ljspeech")
    """Folder for checkpoints, logs, samples and the best model."""
    kind: Literal["auto", "lj_aligned", "textgrid", "labels", "table", "json", "filelist", "demo"] = "auto"
    """Format of the alignments; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the recordings; by default the folder of the alignments."""
    flavour: Literal["auto", "hifigan", "waveglow"] = "auto"
    """Mel contract; auto uses the contract of the mels in the corpus, or else that in the configuration."""
    vocoder: Path | None = None
    """Model folder or run folder of a vocoder for the samples; by default Griffin-Lim."""
    text: str = TEST_SENTENCE
    """Sentence that is synthesised at the end."""
    buckets: int = 4
    """Number of batch shapes. Batches are padded to one of them, and each is compiled once."""
    peak_normalize: bool = True
    """Scale recordings to a peak of 0.95 before computing mels, as in the training of HiFi-GAN."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, buckets=1)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        model = self.training.model
        common.check_choice("--model.phone-set", model.phone_set, PHONE_SETS)
        if model.statistics != Statistics() or model.codes != ALIGNED.codes:
            raise ConfigError(
                "--model.statistics and --model.codes come from the corpus; omit them. --model.phone-set selects the "
                f"phonemes: {', '.join(PHONE_SETS)}."
            )

    def with_training(self, training: TrainingConfig, **sizes: int) -> Self:
        """This experiment with the `training` of a run, without the values that come from its corpus, and `sizes`."""
        stored = training.model
        flavour = next((name for name, mel in MEL_CONTRACTS.items() if mel == stored.mel), "auto")
        model = replace(stored, statistics=Statistics(), codes=ALIGNED.codes)
        training = replace(training, model=model)
        return replace(self, training=training, flavour=flavour, peak_normalize=stored.peak_normalize, **sizes)


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset, `tiny` or `full`."""
    if preset == "tiny":
        training = TrainingConfig(
            gaussian_tts.preset(preset),
            acoustic_steps=300,
            acoustic_optimizer=replace(acoustic_optimizer(warmup_steps=60), learning_rate=3e-3),
            duration_optimizer=replace(duration_optimizer(decay_steps=5), learning_rate=3e-3),
            ema_decay=0.98,
        )
        loop = Loop(steps=500, minutes=9.0, validate_every=0, checkpoint_every=200, log_every=25, best_metric="score")
        return Experiment(preset=preset, batch_size=16, buckets=1, training=training, loop=loop)
    training = TrainingConfig(gaussian_tts.preset(preset), acoustic_steps=35_000, precision="bfloat16")
    loop = Loop(steps=39_000, validate_every=1000, checkpoint_every=5000, log_every=50, best_metric="score")
    return Experiment(preset=preset, batch_size=32, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, gaussian_tts.PRESETS, full="full"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def choose_contract(experiment: Experiment, corpus: Corpus) -> MelConfig:
    """The mel contract of `--flavour`, or else that of the corpus's mels, or else `--model.mel`."""
    return MEL_CONTRACTS.get(experiment.flavour) or corpus.mel or experiment.training.model.mel


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop, folder = experiment.training, experiment.loop, RunFolder(experiment.run_dir)
    sizes = {"max_frames": config.model.decoder.max_frames, "max_phones": config.model.encoder.max_phones}
    common.check(experiment)
    if config.acoustic_steps == 0 and experiment.init_from is None and not folder.has_progress():
        raise ConfigError(
            "--acoustic-steps is 0; it should be positive, because the duration model of a new run needs a trained "
            "acoustic model. Pass a number of steps, or --init-from with a trained model."
        )
    phone_set = PHONE_SETS[config.model.phone_set]
    pronounce(experiment.text, phone_set=phone_set)  # raises for a text that cannot be pronounced
    corpus = text_to_speech.find_alignments(experiment, phone_set, kind=experiment.kind, audio_dir=experiment.audio_dir)
    mel = choose_contract(experiment, corpus)
    vocoder = text_to_speech.vocoder_function(experiment.vocoder, mel)
    peak_normalize = experiment.peak_normalize and corpus.mel != mel
    load = ft.partial(load_aligned, mel=mel, peak_normalize=peak_normalize, progress=jax.process_index() == 0, **sizes)
    store, held_out = common.load_split(load, split(corpus, experiment.validation))
    print_once(store.table())
    model = gaussian_tts.config_for_corpus(config.model, store)
    if folder.has_progress():
        model = replace(model, statistics=run_statistics(folder))
    sampler = LengthBuckets(experiment.batch_size, choose_buckets(store, experiment.buckets, **sizes))
    loader = common.loader(store, sampler, seed=loop.seed)
    validation = None if held_out is None else Validation(held_out, model, training=store, vocoder=vocoder)
    config, epoch = replace(config, model=model), loader.steps_per_epoch
    pretrained, state = common.find_initial_model(experiment), None
    inherited = inherited_info(folder.path, pretrained, experiment.init_from)
    task = gaussian_tts.GaussianTTSTask(config, steps_per_epoch=epoch, validation=validation, inherited_info=inherited)
    if pretrained is not None:
        state = lambda: initial_state(task, find_model_folder(pretrained))  # noqa: E731
    return common.train(experiment, task, loader, started, state)


def summary(result: TrainingResult, experiment: Experiment, seconds: float, spoken: Path | None) -> str:
    """The summary: quality, the folder of the samples, and the next command."""
    acoustic = experiment.training.acoustic_steps
    trained = result.step > acoustic
    rows = [] if trained else [("duration model", "not trained yet, so the rhythm of the test sentence is wrong")]
    rows += [*summaries.metrics_rows(result), summaries.speed_row(result), *summaries.samples_rows(result, experiment)]
    rows += text_to_speech.spoken_rows(result, spoken, experiment.vocoder)
    if result.stopped != "steps":
        longer = ", with a larger --minutes if necessary" if result.stopped == "minutes" else ""
        steps = experiment.loop.steps
        phases = [] if trained else [f"{min(acoustic, steps) - result.step:,} steps of the acoustic model"]
        phases += [f"{steps - max(result.step, acoustic):,} steps of the duration model"] if steps > acoustic else []
        later = "" if steps > acoustic else f", and --steps above {acoustic:,} trains the duration model"
        more = f"repeat the command{longer}; {' and '.join(phases)} remain{later}"
    elif trained:
        source = shlex.quote(str(result.folder))
        more = f"start another run with --init-from {source}; a larger --steps trains only the duration model"
    else:
        more = f"repeat the command with --steps above {acoustic:,}, since later steps train the duration model"
    rows += [("continue", more)]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""

    def close(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
        return summary(result, experiment, seconds, text_to_speech.speak(result, experiment.text, experiment.vocoder))

    return common.main(argv, name=NAME, parse=parse, run=run, summary=close)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
