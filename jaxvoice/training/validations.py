"""The validations of a run, and the choice of its best model."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from jaxvoice.errors import ConfigError, TrainingError
from jaxvoice.training import parallel
from jaxvoice.training.checkpoints import Checkpoints
from jaxvoice.training.logging import RESERVED_METRICS, RunLog, converted_write_errors, print_once
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Task, ValidationResult


class Validations:
    """The validations of the run in `folder`, whose best model has the smallest `best_metric`.

    Attributes: `metrics` of the last validation; `best`, the step, value and rank of the best one, or `None`; `due`,
    whether the restored checkpoint is not validated yet; `reset`, whether the choice of the best model begins again.
    """

    def __init__(self, task: Task, folder: RunFolder, store: Checkpoints, best_metric: str):
        self._task, self._folder, self._store, self._best_metric = task, folder, store, best_metric
        self.metrics: dict[str, float] = {}
        self.best: dict[str, float] | None = None
        self.due = False
        self.reset = False

    def table(self) -> dict[str, Any]:
        """The validations so far, as JSON values for a checkpoint."""
        held_out = self._task.held_out()
        return {"metrics": self.metrics, "best": self.best, "best_metric": self._best_metric, "held_out": held_out}

    def restore(self, step: int, table: Mapping[str, Any]) -> None:
        """Continue from the checkpoint of `step`, which contains `table`.

        A validation that the checkpoint notes as due was logged after it, or is due.
        """
        self.best, self.metrics = table["best"], table["metrics"]
        if self.best is not None and "rank" not in self.best:  # written by version 0.1
            self.best = {**self.best, "rank": self._rank_after(int(self.best["step"]))}
        self._reset_best_of_other_data(table)
        self._store.set_best(None if self.best is None else int(self.best["step"]))
        if not table.get("validation_due"):
            return
        logged = self._folder.logged_validation(step)
        self.due = bool(parallel.in_every_process(int(logged is None))[0])
        if logged is None or self.due or logged["kind"] != "validation":
            return
        values = {name: value for name, value in logged.items() if name not in RESERVED_METRICS}
        self.metrics = {name: math.nan if value is None else float(value) for name, value in values.items()}
        if not self.reset:
            self._is_best(step, logged["rank"])

    def _reset_best_of_other_data(self, table: Mapping[str, Any]) -> None:
        """Forget the best validation if it has another metric or other held-out data than validations of this run."""
        before, held_out = table.get("held_out"), self._task.held_out()
        metric = table.get("best_metric", self._best_metric)
        if before is not None and before != held_out:
            reason = f"the held-out data differ from those of the checkpoint ({changes_text(before, held_out)})"
        elif metric != self._best_metric:
            reason = f"the best metric was {metric} and is {self._best_metric}"
        else:
            return
        self.best, self.reset = None, True
        print_once(f"{reason}, so the best model is chosen from the validations after this step")

    def validate(self, step: int, state: PyTree, log: RunLog) -> None:
        """Validate the `state` after `step`, log the validation, and save the model if it is the best so far.

        Without held-out data there is no best model, so the newest model is saved.

        **Raises:** `TrainingError` or `ConfigError` if the metrics of the task have a reserved name or do not contain
        the best metric; `CheckpointError` if a file cannot be written.
        """
        found = self._task.validate(state)
        self.due = False
        if not found.metrics:
            self.save_model(state)
            log.newest_model(step)
            return
        reserved = sorted(RESERVED_METRICS & set(found.metrics))
        if reserved:
            raise TrainingError(
                f"the validation returned the metric {reserved[0]!r}; it should have another name, because lines of "
                "metrics.jsonl contain this key already."
            )
        check_best_metric(self._best_metric, found.metrics)
        self.metrics = parallel.from_first_process({name: float(value) for name, value in found.metrics.items()})
        rank = self._rank_after(step)
        if self._is_best(step, rank):
            self.save_model(state)
        # Last, because a validation in metrics.jsonl is not repeated when the run is resumed.
        log.validation(step, ValidationResult(self.metrics, found.samples), rank=rank)

    def save_model(self, state: PyTree) -> None:
        """Replace the model folder of the run with the model of `state`, in process 0."""
        if jax.process_index() == 0:
            with converted_write_errors(self._folder.model):
                self._folder.replace_model(lambda into: self._task.save_model(state, into))

    def _is_best(self, step: int, rank: float) -> bool:
        """Whether the last validation, of the model of this step and rank, is the best; it becomes `best` then."""
        value = self.metrics.get(self._best_metric, math.nan)
        # A model of a lower rank is not compared, because parts of it were not trained yet.
        if not math.isfinite(value):
            return False
        if self.best is not None and (-rank, value) >= (-self.best["rank"], self.best["value"]):
            return False
        self.best = {"step": step, "value": value, "rank": rank}
        self._store.set_best(step)
        return True

    def _rank_after(self, step: int) -> int:
        """The rank of the model after `step`."""
        return self._task.rank_of(self._task.phase_of(max(step - 1, 0)))


def check_best_metric(name: str, metrics: Collection[str]) -> None:
    """Raise `ConfigError` if `metrics` does not contain the best metric `name`. Unknown metrics are empty."""
    if metrics and name not in metrics:
        raise ConfigError(f"best_metric is {name!r}; it should be a metric of the validation: {', '.join(metrics)}.")


def changes_text(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The entries of two tables that differ, such as `clips 1 -> 2`; lists of more than 4 values by their length."""

    def text(value: Any) -> str:
        return f"{len(value)} values" if isinstance(value, list) and len(value) > 4 else str(value)

    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {text(before.get(name))} -> {text(now.get(name))}" for name in names)
