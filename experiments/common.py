"""What experiments share: flags and their defaults, checks, the time budget, and the closing summary."""

import functools as ft
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jax
import numpy as np
import tyro

from jaxvoice.console import one_line_usage, run_command
from jaxvoice.data import Corpus, Store, find_corpus, load_store, make_demo_corpus, preflight, split, write_wav
from jaxvoice.dsp import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError, JaxvoiceError
from jaxvoice.models.gaussian_tts.validation import VocoderFunction
from jaxvoice.pipelines.mel_to_audio import MelToAudio
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.pipelines.synthesizer import Synthesizer
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import LoopConfig, TrainingResult
from jaxvoice.training.parallel import check_batch_size, data_mesh, initialize_distributed
from jaxvoice.training.process import enable_compilation_cache
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights.model_folder import read_about

Row = tuple[str, str]
CorpusKind = Literal["auto", "ljspeech", "vctk", "folder", "filelist", "pairs"]


@dataclass(frozen=True)
class Loop(LoopConfig):
    """How long to train, and how often to validate, save and log; the time counts from the start of the command."""

    minutes: float | None = None
    """Wall time in minutes from the start of the command, preflight and decoding included; None sets no limit."""


@dataclass(frozen=True)
class Experiment:
    """The settings of every experiment; each is a flag."""

    data: Path | None = None
    """Corpus to train on; without it, a corpus that espeak-ng speaks."""
    run_dir: Path = Path("runs/experiment")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Name of the sizes and settings that other flags start from; tiny on a CPU and full size on a GPU or TPU, unless
    given. A preset means the same on every machine."""
    init_from: Path | None = None
    """Run folder or model folder whose networks a new run starts with: of the same sizes and mel contract."""
    validation: int | None = None
    """Utterances to hold out, the last of the corpus; by default what the corpus says, else 5 %."""
    batch_size: int = 16
    """Examples in a step, over all devices."""
    distributed: bool = False
    """Join the other hosts of this job before anything else (arguments from SLURM, Kubernetes or the TPU runtime)."""
    debug: bool = False
    """Show the traceback of an error."""
    loop: Annotated[Loop, tyro.conf.arg(name="")] = field(default_factory=Loop)


AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


def check_at_least(experiment: Experiment, **limits: int) -> None:
    """Raise `ConfigError`, with the flag's name, if a field of `experiment` is below its limit."""
    for name, limit in limits.items():
        value = getattr(experiment, name)
        if value < limit:
            raise ConfigError(f"--{name.replace('_', '-')} should be at least {limit}, got {value}.")


def check_choice(flag: str, value: str, choices: Collection[str]) -> None:
    """Raise `ConfigError` unless the `value` of `flag` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{flag} is {value!r}; use one of {', '.join(choices)}.")


def flag_value(flag: str, argv: Sequence[str]) -> str | None:
    """The value of `flag` in `argv`, for a flag that decides the defaults of others; `None` without one."""
    found = None
    for i, argument in enumerate(argv):
        if argument == flag and i + 1 < len(argv):
            found = argv[i + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.removeprefix(f"{flag}=")
    return None if found == "None" else found  # as help shows the absence of a value


def chosen_preset(argv: Sequence[str], presets: Sequence[str], full: str) -> str:
    """The preset that `argv` names; without one, `tiny` on a CPU and `full` on an accelerator.

    **Raises:** `ConfigError` if `--preset` names none of `presets`.
    """
    name = flag_value("--preset", argv)
    if name is None:
        return "tiny" if jax.default_backend() == "cpu" else full
    check_choice("--preset", name, presets)
    return name


def parse(argv: Sequence[str], default: Callable[[], AnyExperiment], *, name: str, description: str) -> AnyExperiment:
    """The experiment that the command line `argv` asks for; flags that are not given have the values of `default()`.

    **Raises:** `SystemExit` after `--help` and after errors of usage.
    """
    if "--distributed" in argv:
        initialize_distributed()
    given = default()
    parsed = one_line_usage(
        lambda: tyro.cli(
            type(given),
            args=list(argv),
            default=given,
            prog=f"python -m experiments.{name}",
            description=description,
        ),
        name=name,
        unnamed=(type(given).__name__, "training", "loop"),
    )
    return parsed if parsed.preset is not None else replace(parsed, preset=given.preset)


def check(experiment: Experiment) -> None:
    """Check what needs no corpus, before one is decoded.

    **Raises:** `ConfigError` or `CheckpointError` for a batch size that the devices cannot share, a run folder that
    cannot be made or that `--resume` does not allow, or no model at `--init-from`.
    """
    check_batch_size(experiment.batch_size, data_mesh())
    folder, source = RunFolder(experiment.run_dir), experiment.init_from
    folder.check(experiment.loop.resume)
    check_writable(experiment.run_dir)
    if source is None or folder.has_progress() or RunFolder(source).checkpoints.is_dir():
        return
    try:
        find_model_folder(source)
    except JaxvoiceError as failure:
        raise CheckpointError(
            f"--init-from {source} is neither a run folder with checkpoints nor a model folder: {failure}"
        ) from failure


def check_writable(folder: Path) -> None:
    """Raise `CheckpointError` unless `folder` can be written or made; makes nothing."""
    whole = folder.absolute()
    place = next((path for path in (whole, *whole.parents) if os.path.lexists(path)), whole)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "may not be written in" if place.is_dir() else "is no folder"
        raise CheckpointError(f"The run folder {folder} cannot be written: {place} {why}; choose another --run-dir.")


def find_recordings(experiment: Experiment, kind: CorpusKind, mel: MelConfig, segment: int) -> Corpus:
    """The recordings to train a vocoder on, by default the demo corpus, each decoded once; prints a table of them.

    **Raises:** `DataError` or `ConfigError` if there is no corpus, or nothing in it can be used.
    """
    if experiment.data is None:
        print_once("No --data given: training on the demo corpus, English speech made by espeak-ng.")
        corpus = make_demo_corpus()
    else:
        corpus = find_corpus(experiment.data, kind)
    checked = preflight(corpus, mel.sample_rate, segment, mel=mel, progress=jax.process_index() == 0)
    print_once(checked.table())
    return checked.corpus


def load_recordings(corpus: Corpus, validation: int | None, mel: MelConfig) -> tuple[Store, Store | None]:
    """The decoded recordings to train on, and those held out, if any."""
    # Mels that come with the audio were computed from the audio as it is.
    options: dict[str, Any] = {"peak_normalize": corpus.kind != "pairs", "progress": jax.process_index() == 0}
    return load_sides(ft.partial(load_store, sample_rate=mel.sample_rate, **options), split(corpus, validation))


def load_sides(load: Callable[[Corpus], Store], sides: tuple[Corpus, Corpus]) -> tuple[Store, Store | None]:
    """The store of each side of a split; `None` if nothing is held out."""
    train, held_out = sides
    return load(train), load(held_out) if len(held_out) else None


def vocoder_function(vocoder: Path | None, mel: MelConfig) -> VocoderFunction | None:
    """The function from mels `(mels, frames)` to audio of a HiFi-GAN in a model or run folder; `None` without one.

    **Raises:** `MelError` if the vocoder has another mel contract than `mel`.
    """
    if vocoder is None:
        return None
    convert = MelToAudio(vocoder, mel)
    return lambda spectrogram: convert([spectrogram])[0]


def speak(result: TrainingResult, text: str, vocoder: Path | None) -> Path | None:
    """Speak `text` with the best model of the run into `spoken.wav`; `None` if there is no model yet."""
    if not (result.folder / "model" / "config.json").is_file() or jax.process_index() != 0:
        return None
    speech = Synthesizer.load(result.folder, vocoder=vocoder).speak(text)
    path = result.folder / "spoken.wav"
    write_wav(path, np.asarray(speech.audio), speech.sample_rate)
    return path


def remaining(loop: Loop, spent: float) -> Loop:
    """`loop` with `spent` seconds taken from its minutes; at least a second is left, enough for one step."""
    return loop if loop.minutes is None else replace(loop, minutes=max(loop.minutes - spent / 60, 1 / 60))


def main(
    argv: Sequence[str] | None,
    *,
    name: str,
    parse: Callable[[Sequence[str]], AnyExperiment],
    run: Callable[[AnyExperiment, float], TrainingResult],
    summary: Callable[[TrainingResult, AnyExperiment, float], str],
) -> int:
    """Run an experiment and print its summary; the exit code is 0, or 2 after an error of one line.

    `run` takes the experiment and the time at which the command started; `summary` the result, the experiment and the
    seconds since then.
    """
    started = time.monotonic()
    arguments = sys.argv[1:] if argv is None else argv

    def action() -> int:
        experiment = parse(arguments)
        enable_compilation_cache()
        result = run(experiment, started)
        print_once(summary(result, experiment, time.monotonic() - started))
        return 0

    return run_command(action, name=name, debug="--debug" in arguments)


def summary_text(result: TrainingResult, seconds: float, rows: Iterable[Row]) -> str:
    """The lines that a session ends with: why it stopped, and a table."""
    head = f"step {result.step} after {seconds / 60:.1f} minutes (stopped by {result.stopped})"
    return "\n".join([head, *(f"{name:<20}{value}" for name, value in rows)])


def quality(result: TrainingResult, metric: str) -> str:
    """The best validation so far, and the last one if it was worse."""
    last = result.metrics.get(metric)
    if result.best is None:
        return "none in this run so far" if last is None else "not finite so far"
    best = result.best["value"]
    found = f"{best:.4f}{of_step(int(result.best['step']), result)}"
    if last is None or last == best:
        return found
    shown = f"{last:.4f}" if math.isfinite(last) else "not finite"
    return f"{found}, {shown} at the last validation"


def of_step(step: Any, result: TrainingResult) -> str:
    """` (of step N)` if `step` is not the last one."""
    return "" if step in (None, result.step) else f" (of step {step})"


def metrics_rows(result: TrainingResult) -> list[Row]:
    """The finite metrics of the last validation, if there was one."""
    shown = [f"{name} {value:.3g}" for name, value in result.metrics.items() if math.isfinite(value)]
    return [("validation", ", ".join(shown))] if result.metrics else []


def speed_row(result: TrainingResult, audio: float | None = None) -> Row:
    """Steps per second, and seconds of audio per second if `audio`, those of a step, is given."""
    rate = result.steps_per_second
    if not rate > 0:
        return "speed", "not measured in this session"
    return "speed", f"{rate:.3g} steps/s" + ("" if audio is None else f", {rate * audio:.3g} s of audio per second")


def model_rows(result: TrainingResult, command: str) -> list[Row]:
    """Where the best model is, of which step, and the `command` that uses it."""
    folder = result.folder / "model"
    if not (folder / "config.json").is_file():
        return [("the model", "none yet")]
    step = read_about(folder).table.get("info", {}).get("step")
    return [("the model", f"{folder}{of_step(step, result)}"), ("next", command)]


def spoken_rows(result: TrainingResult, spoken: Path | None, vocoder: Path | None) -> list[Row]:
    """The file of an unseen sentence, if there is one, and the command that speaks others."""
    if spoken is None:
        return []
    through = "" if vocoder is None else f" --vocoder {vocoder}"
    command = f'jaxvoice speak "Any text." OUTPUT.wav --model {result.folder}{through}'
    return [("an unseen sentence", str(spoken)), ("next", command)]


def samples_rows(result: TrainingResult, experiment: Experiment) -> list[Row]:
    """The row that says where samples and curves are, if there are any."""
    places = [str(result.folder / "samples")] if (result.folder / "samples").is_dir() else []
    places += [f"tensorboard --logdir {result.folder}"] if experiment.loop.tensorboard else []
    return [("listen and look", "; ".join(places))] if places else []
