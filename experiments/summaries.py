"""The closing summaries of the experiments."""

import math
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.common import Experiment
from jaxvoice.data import write_wav
from jaxvoice.training.loop import TrainingResult
from jaxvoice.weights.model_folder import read_config_file

if TYPE_CHECKING:
    from jaxvoice.pipelines.synthesizer import Speech
    from jaxvoice.pipelines.xtts_speech import XTTSSpeech

Row = tuple[str, str]
_REASONS = {"steps": "step limit reached", "minutes": "time limit reached", "interrupted": "interrupted"}


def summary_text(result: TrainingResult, seconds: float, rows: Iterable[Row]) -> str:
    """The summary of a session: the reason for stopping, and a table."""
    head = f"step {result.step} after {seconds / 60:.1f} minutes ({_REASONS[result.stopped]})"
    return "\n".join([head, *(f"{name:<20}{value}" for name, value in rows)])


def quality(result: TrainingResult, metric: str) -> str:
    """The best value of `metric` so far, and the last value if it differs."""
    last = result.metrics.get(metric)
    if result.best is None:
        if last is None:
            return "no validation yet"
        return "no validation on these held-out data yet" if math.isfinite(last) else "no finite value yet"
    best = result.best["value"]
    found = f"{best:.4f}{of_step(int(result.best['step']), result)}"
    if last is None or last == best:
        return found
    shown = f"{last:.4f}" if math.isfinite(last) else "not finite"
    return f"{found}, {shown} at the last validation"


def of_step(step: Any, result: TrainingResult) -> str:
    """` (step N)` if `step` is not the last one."""
    return "" if step in (None, result.step) else f" (step {step})"


def metrics_rows(result: TrainingResult) -> list[Row]:
    """The finite metrics of the last validation, if there was one."""
    shown = [f"{name} {value:.3g}" for name, value in result.metrics.items() if math.isfinite(value)]
    return [("validation", ", ".join(shown))] if result.metrics else []


def speed_row(result: TrainingResult, audio: float | None = None) -> Row:
    """The steps per second and, if `audio` (seconds of audio per step) is given, the seconds of audio per second."""
    rate = result.steps_per_second
    if not rate > 0:
        return "speed", "not measured in this session"
    return "speed", f"{rate:.3g} steps/s" + ("" if audio is None else f", {rate * audio:.3g} s of audio per second")


def model_rows(result: TrainingResult, command: str) -> list[Row]:
    """The folder and the step of the best model, and the `command` that uses it."""
    folder = result.folder / "model"
    if not (folder / "config.json").is_file():
        return [("the model", "none yet")]
    step = read_config_file(folder).table.get("info", {}).get("step")
    return [("the model", f"{folder}{of_step(step, result)}"), ("next", command)]


def continue_row(result: TrainingResult) -> Row:
    """What continues the run: the same command, or after its last step one with more steps."""
    more = " with a larger --steps" if result.stopped == "steps" else ""
    return "continue", f"repeat the command{more}; --minutes sets the time budget"


def write_spoken(result: TrainingResult, speak: Callable[[], "Speech | XTTSSpeech"]) -> Path | None:
    """Write the speech that `speak` makes with the best model to `spoken.wav`; returns `None` without a model."""
    if not (result.folder / "model" / "config.json").is_file() or jax.process_index() != 0:
        return None
    speech, path = speak(), result.folder / "spoken.wav"
    write_wav(path, np.asarray(speech.audio), speech.sample_rate)
    return path


def samples_rows(result: TrainingResult, experiment: Experiment) -> list[Row]:
    """The row with the places of samples and curves, if there are any."""
    places = [str(result.folder / "samples")] if (result.folder / "samples").is_dir() else []
    places += [f"tensorboard --logdir {shlex.quote(str(result.folder))}"] if experiment.loop.tensorboard else []
    return [("samples", "; ".join(places))] if places else []
