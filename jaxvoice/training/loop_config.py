"""The settings of the training loop, the result of a session, and the text that a session prints about them."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxvoice.config import check_not_negative, check_positive, check_types
from jaxvoice.data.loader import Loader
from jaxvoice.training.logging import columns, format_duration, values_text
from jaxvoice.training.provenance import devices, provenance
from jaxvoice.training.run_folder import Resume, RunFolder
from jaxvoice.training.task import ResumableLoader, Task

Stop = Literal["steps", "minutes", "interrupted"]


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop: limits of the training, and intervals of validation, checkpoints and logs.

    The settings may differ between the sessions of a run. `minutes` is the wall time of this session, compilation and
    the last validation included. `steps` counts over all sessions of the run. The best checkpoint is the one with the
    smallest `best_metric` among those of the highest rank (`Task.rank_of`).

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    steps: int = 2_500_000
    """Steps over all sessions of the run."""
    minutes: float | None = None
    """Wall time of this session in minutes; None sets no limit."""
    resume: Resume = "auto"
    """auto: resume the run if it exists; must: fail without a run; never: fail if a run exists."""
    validate_every: int = 1000
    """Steps between validations; 0 validates only at the end."""
    checkpoint_every: int = 5000
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between lines of the log."""
    keep_last: int = 3
    """Checkpoints to keep besides the best."""
    best_metric: str = "mel_l1"
    """Validation metric whose smallest value marks the best checkpoint."""
    max_skipped_in_a_row: int = 20
    """Consecutive steps with losses or gradients that are not finite, after which training stops with an error."""
    seed: int = 1234
    """Seed of the initial weights, of the crops and of random numbers within steps, such as dropout."""
    tensorboard: bool = True
    """Write TensorBoard events too."""
    shard_parameters: bool = False
    """Split parameters, optimiser state and averages over the devices, for large models. A validation gathers them on
    one device."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "steps", "checkpoint_every", "log_every", "keep_last", "max_skipped_in_a_row")
        check_positive(self, "minutes", hint="None sets no time budget")
        check_not_negative(self, "validate_every", hint="0 validates at the end")


@dataclass(frozen=True)
class TrainingResult:
    """The result of a session: the reason for its end, the number of steps of the run, and metrics.

    `metrics` are those of the last validation. `best` has the keys `step`, `value` and `rank` (`Task.rank_of`).
    `steps_per_second` excludes compilation, validation and checkpoints. `skipped` is the number of skipped updates.
    """

    stopped: Stop
    step: int
    metrics: dict[str, float]
    best: dict[str, float] | None
    folder: Path
    steps_per_second: float
    compile_seconds: float
    seconds: float
    skipped: int


def settings_text(config: LoopConfig, task: Task, loader: ResumableLoader, folder: RunFolder, batch_size: int) -> str:
    """The text that a session prints at its start: its settings, and the meanings of the logged metrics."""
    about, held_out = provenance(task), task.held_out()
    rows = {"run folder": f"{folder.path} (all settings: {folder.config.name})", "devices": devices()}
    rows["versions"] = values_text({name: about["versions"][name] for name in ("python", "jaxvoice", "jax")})
    for name, value in task.describe().items():
        if name != "config":
            rows[name] = values_text(value)
    if isinstance(loader, Loader):
        rows["corpus"] = loader.source
    if "ids" in held_out:
        rows["held out"] = f"{len(held_out['ids'])} utterances"
    rows["batch size"] = f"{batch_size}"
    limit = "" if config.minutes is None else f", or {config.minutes:.3g} minutes from now"
    rows["end"] = f"step {config.steps:,}{limit}"
    validation = f"{config.validate_every:,}" if config.validate_every else "at the end"
    rows["steps between"] = (
        f"validations {validation}, checkpoints {config.checkpoint_every:,}, lines of the log {config.log_every:,}"
    )
    rows["best model"] = f"smallest {config.best_metric} of a validation"
    if meaning := task.metrics.get(config.best_metric):
        rows["best model"] += f": {meaning}"
    return "\n".join([*columns(rows), *(["", *columns(task.columns)] if task.columns else [])])


def end_text(config: LoopConfig, result: TrainingResult) -> str:
    """The text that a session prints at its end: the reason, the step, and how to resume the run."""
    reason = {"steps": "finished", "minutes": "time is up", "interrupted": "interrupted and saved"}[result.stopped]
    text = f"{reason}: step {result.step} of {config.steps} after {format_duration(result.seconds)}"
    if result.skipped:
        text += f", {result.skipped} updates skipped as not finite"
    if result.stopped != "steps":
        folder = shlex.quote(str(result.folder))
        text += f"\nto resume, repeat the command (--run-dir {folder} --resume auto)"
    return text
