"""Text to speech from an aligned corpus: phonemes to mel spectrograms, then the durations.

    python -m experiments.tts_ljspeech [--data PATH] [--run-dir DIR] [--vocoder PATH] ...

`--data` is a corpus with alignments: LJ-Speech-aligned, TextGrids of the Montreal Forced Aligner beside recordings,
HTK or HTS labels, tables, a file list. Without it some minutes of English are spoken by espeak-ng, timed to the sample
(extra `demo`). On a GPU or TPU the full model learns for 35,000 steps and the duration model for 4,000 more; on a CPU a
small one for at most ten minutes altogether. At the end a sentence that is in no corpus is spoken with the best model,
through `--vocoder` (a HiFi-GAN model or run folder of the same mel spectrograms) or Griffin-Lim. The same command goes
on with a run that was stopped.

Measured on two CPU cores: docs/results.md.
"""

import functools as ft
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from experiments.running import Loop, check_writable, remaining, tell
from jaxvoice.config import from_dict
from jaxvoice.console import one_line_usage, run_command
from jaxvoice.data import make_demo_corpus
from jaxvoice.data.aligned import (
    AlignedCorpus,
    AlignedLoader,
    choose_buckets,
    find_aligned,
    load_aligned,
    split_aligned,
)
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.gaussian_tts import (
    WAVEGLOW_MEL,
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTSConfig,
    Statistics,
    fitted,
)
from jaxvoice.models.gaussian_tts.beginning import pretrained
from jaxvoice.models.gaussian_tts.training import (
    GaussianTTSState,
    GaussianTTSTask,
    TrainingConfig,
    acoustic_optimizer,
    duration_optimizer,
)
from jaxvoice.models.gaussian_tts.validation import Validation, VocoderFunction
from jaxvoice.pipelines.mel_to_audio import MelToAudio
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.text.front_end import pronounce
from jaxvoice.text.phonemes import ALIGNED, ARPABET
from jaxvoice.training.compilation_cache import enable_compilation_cache
from jaxvoice.training.host_memory import keep_freed_memory
from jaxvoice.training.loop import Result, fit
from jaxvoice.training.parallel import check_batch_size, data_mesh, initialize_distributed
from jaxvoice.training.run_folder import RunFolder

NAME = "tts_ljspeech"
UNSEEN = "The quick brown fox jumps over the lazy dog, and a wizard's job is to vex chumps."
DEMO_SENTENCES, DEMO_SEED = 400, 0

FLAVOURS = {"hifigan": MelConfig(), "waveglow": WAVEGLOW_MEL}
PHONE_SETS = {phone_set.name: phone_set for phone_set in (ALIGNED, ARPABET)}
BEST_BY = ("score", "mel_l1", "mcd", "duration_error", "duration_median")
"""Measures of the validation that are the better the smaller."""

CPU_MODEL = GaussianTTSConfig(
    ALIGNED.codes,
    dim=128,
    encoder=EncoderConfig(layers=2, heads=2, feed_forward=384, dropout=0.0, max_phones=160),
    decoder=DecoderConfig(layers=2, heads=2, feed_forward=384, dropout=0.0, postnet_layers=2),
    durations=DurationConfig(layers=1, hidden=64, dropout=0.0),
    mel=MelConfig(),
)
"""Half as wide and two blocks deep, without dropout: some hundred steps fit into a few CPU minutes."""


@dataclass(frozen=True)
class Experiment:
    """Train a text-to-speech model; every setting is a flag."""

    data: Path | None = None
    """Aligned corpus to train on; without it, one spoken by espeak-ng."""
    kind: Literal["auto", "lj_aligned", "textgrid", "labels", "table", "filelist", "demo"] = "auto"
    """Format of the alignments, where it is not to be detected."""
    audio_dir: Path | None = None
    """Folder of the recordings, where they do not lie beside the alignments."""
    run_dir: Path = Path("runs/tts_ljspeech")
    """Where checkpoints, logs, samples and the best model go."""
    flavour: Literal["auto", "hifigan", "waveglow"] = "auto"
    """Mels of HiFi-GAN's contract or of WaveGlow's; auto takes the corpus's own, else --model.mel."""
    vocoder: Path | None = None
    """Model or run folder of a HiFi-GAN that samples are made with; Griffin-Lim without it."""
    init_from: Path | None = None
    """Run folder or model folder whose networks a new run begins with: of the same sizes, phonemes and mel contract."""
    text: str = UNSEEN
    """What is said at the end."""
    validation: int | None = None
    """Utterances to hold out, the last of the corpus; by default what the corpus says, else 5 %."""
    batch_size: int = 32
    """Utterances in a step, over all devices."""
    buckets: int = 4
    """How many shapes batches are padded to; each is compiled once."""
    peak_normalize: bool = True
    """Scale recordings to a peak of 0.95 before mels are computed, as HiFi-GAN was trained on them."""
    distributed: bool = False
    """Join the other hosts of this job before anything else (arguments from SLURM, Kubernetes or the TPU runtime)."""
    debug: bool = False
    """Show the traceback of an error."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )
    loop: Annotated[Loop, tyro.conf.arg(name="")] = field(default_factory=lambda: Loop(best_metric="score"))

    def __post_init__(self) -> None:
        if self.buckets < 1:
            raise ConfigError(f"--buckets should be at least 1, got {self.buckets}.")
        if self.loop.best_metric not in BEST_BY:
            raise ConfigError(f"--best-metric is {self.loop.best_metric!r}; use one of {', '.join(BEST_BY)}.")
        model = self.training.model
        if model.phone_set not in PHONE_SETS:
            raise ConfigError(f"--model.phone-set is {model.phone_set!r}; use one of {', '.join(PHONE_SETS)}.")
        if model.statistics != Statistics() or model.codes != ALIGNED.codes:
            raise ConfigError(
                "--model.statistics and --model.codes come from the corpus; leave them out. The phonemes are those of "
                f"--model.phone-set: {', '.join(PHONE_SETS)}."
            )


def default_experiment(platform: str) -> Experiment:
    """What runs without flags on a `platform` of JAX (`cpu`, `gpu`, `tpu`)."""
    if platform == "cpu":
        training = TrainingConfig(
            CPU_MODEL,
            acoustic_steps=300,
            acoustic_optimizer=replace(acoustic_optimizer(warmup_steps=60), learning_rate=3e-3),
            duration_optimizer=replace(duration_optimizer(decay_steps=5), learning_rate=3e-3),
            ema_decay=0.98,
        )
        loop = Loop(steps=500, minutes=9.0, validate_every=0, checkpoint_every=200, log_every=25, best_metric="score")
        return Experiment(batch_size=16, buckets=1, training=training, loop=loop)
    model = GaussianTTSConfig(ALIGNED.codes, encoder=EncoderConfig(max_phones=160), mel=MelConfig())
    training = TrainingConfig(model, acoustic_steps=35_000, precision="bfloat16")
    loop = Loop(steps=39_000, validate_every=1000, checkpoint_every=5000, log_every=50, best_metric="score")
    return Experiment(training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment that the command line `argv` asks for, on this machine's devices."""
    if "--distributed" in argv:
        initialize_distributed()
    default = default_experiment(jax.default_backend())
    return one_line_usage(
        lambda: tyro.cli(
            Experiment, args=list(argv), default=default, prog=f"python -m experiments.{NAME}", description=__doc__
        ),
        name=NAME,
        unnamed=("Experiment", "training", "loop"),
    )


def find(experiment: Experiment) -> AlignedCorpus:
    """The corpus to train on; prints what was found."""
    phone_set = PHONE_SETS[experiment.training.model.phone_set]
    if experiment.data is None:
        tell("No --data given: training on composed sentences, spoken by one voice of espeak-ng.")
        root = make_demo_corpus(None, compose_sentences(DEMO_SENTENCES, seed=DEMO_SEED), VOICES[:1]).root
        corpus = find_aligned(root, phone_set=phone_set)
    else:
        corpus = find_aligned(experiment.data, experiment.kind, audio_dir=experiment.audio_dir, phone_set=phone_set)
    tell(corpus.table())
    return corpus


def contract(experiment: Experiment, corpus: AlignedCorpus) -> MelConfig:
    """The mel contract to train with: the flavour that is asked for, else that of the corpus's own mels, else
    `--model.mel`."""
    return FLAVOURS.get(experiment.flavour) or corpus.mel or experiment.training.model.mel


def sounding(experiment: Experiment, mel: MelConfig) -> VocoderFunction | None:
    """The vocoder of `experiment` for mels of the contract `mel`, or `None`.

    **Raises:** `MelError` if it reads mels of another contract.
    """
    if experiment.vocoder is None:
        return None
    mel_to_audio = MelToAudio(experiment.vocoder, mel)
    return lambda spectrogram: mel_to_audio([spectrogram])[0]


def run(experiment: Experiment, started: float | None = None) -> Result:
    """Train as `experiment` says and return how it ended; its minutes count from `started` (`time.monotonic()`)."""
    started = time.monotonic() if started is None else started
    config, loop = experiment.training, experiment.loop
    check_batch_size(experiment.batch_size, data_mesh())
    folder = RunFolder(experiment.run_dir)
    folder.check(loop.resume)
    check_writable(experiment.run_dir)
    if experiment.init_from is not None and not folder.has_progress():
        find_model_folder(experiment.init_from)  # before anything is decoded; later it may be gone
    pronounce(experiment.text, phone_set=PHONE_SETS[config.model.phone_set])  # which is said at the end
    corpus = find(experiment)
    mel = contract(experiment, corpus)
    vocoder = sounding(experiment, mel)
    sides = split_aligned(corpus, experiment.validation)
    load = ft.partial(
        load_aligned,
        mel=mel,
        peak_normalize=experiment.peak_normalize and corpus.mel != mel,
        max_frames=config.model.decoder.max_frames,
        max_phones=config.model.encoder.max_phones,
        progress=jax.process_index() == 0,
    )
    store, held_out = load(sides[0]), load(sides[1]) if len(sides[1]) else None
    tell(store.table())
    config = replace(config, model=fitted(config.model, store))
    if folder.has_progress():
        config = replace(config, model=replace(config.model, statistics=stored_statistics(folder)))
    loader = AlignedLoader(
        store,
        batch_size=experiment.batch_size,
        buckets=choose_buckets(
            store,
            experiment.buckets,
            max_frames=config.model.decoder.max_frames,
            max_phones=config.model.encoder.max_phones,
        ),
        seed=loop.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    validation = None
    if held_out is not None:
        validation = Validation(held_out, config.model, training=store, vocoder=vocoder)
    task = GaussianTTSTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation)
    begin = None if experiment.init_from is None else ft.partial(begun, task, experiment.init_from)
    return fit(task, loader, remaining(loop, time.monotonic() - started), experiment.run_dir, begin=begin)


def begun(task: GaussianTTSTask, source: Path) -> GaussianTTSState:
    """The state before the first step, around the networks of the run or model folder `source`."""
    tell(f"beginning with the networks of {source}")
    return task.state_of(*pretrained(find_model_folder(source), task.config.model))


def stored_statistics(folder: RunFolder) -> Statistics:
    """What a run normalises by: measured when it was begun, it stays, whatever the corpus has become.

    **Raises:** `CheckpointError` if the folder holds another kind of run.
    """
    table = folder.read_config().get("config") or {}
    try:
        return from_dict(TrainingConfig, table, str(folder.config)).model.statistics
    except ConfigError as failure:
        raise CheckpointError(
            f"{folder.path} holds another kind of run ({failure}); choose another --run-dir."
        ) from failure


def speak(experiment: Experiment, result: Result) -> Path | None:
    """Say `experiment.text` with the best model; the file, or `None` where there is no model yet."""
    from jaxvoice.data import write_wav
    from jaxvoice.pipelines.synthesizer import Synthesizer

    if not (result.folder / "model" / "config.json").is_file() or jax.process_index() != 0:
        return None
    speech = Synthesizer.load(result.folder, vocoder=experiment.vocoder).speak(experiment.text)
    path = result.folder / "spoken.wav"
    write_wav(path, np.asarray(speech.audio), speech.sample_rate)
    return path


def summary(result: Result, experiment: Experiment, seconds: float, spoken: Path | None) -> str:
    """The lines a run ends with: quality, where to listen and look, what to type next."""
    folder = result.folder
    head = f"step {result.step} after {seconds / 60:.1f} minutes (stopped by {result.stopped})"
    rows = []
    if result.step <= experiment.training.acoustic_steps:
        rows.append(
            ("not learnt yet", "how long phonemes last; the same command goes on, with more --minutes if need be")
        )
    if result.metrics:
        shown = {name: value for name, value in result.metrics.items() if math.isfinite(value)}
        rows.append(("validation", ", ".join(f"{name} {value:.3g}" for name, value in shown.items())))
    if result.steps_per_second > 0:
        rows.append(("speed", f"{result.steps_per_second:.3g} steps/s"))
    if (folder / "samples").is_dir():
        rows.append(("listen and look", f"{folder / 'samples'}; tensorboard --logdir {folder}"))
    if spoken is not None:
        rows.append(("an unseen sentence", str(spoken)))
        through = "" if experiment.vocoder is None else f" --vocoder {experiment.vocoder}"
        rows.append(("next", f'jaxvoice speak "Any text." OUTPUT.wav --model {folder}{through}'))
    if result.stopped == "steps":
        rows.append(("train on", f"another --run-dir with --init-from {folder}; --steps here trains durations alone"))
    else:
        rows.append(("train on", "the same command"))
    return "\n".join([head, *(f"{name:<20}{value}" for name, value in rows)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit code is 0, or 2 after an error told in one line."""
    started = time.monotonic()
    arguments = sys.argv[1:] if argv is None else argv

    def train() -> int:
        experiment = parse(arguments)
        enable_compilation_cache()
        result = run(experiment, started)
        tell(summary(result, experiment, time.monotonic() - started, speak(experiment, result)))
        return 0

    return run_command(train, name=NAME, debug="--debug" in arguments)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
