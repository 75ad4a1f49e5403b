"""Reading the metadata of model folders and run folders. Does not import jax."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxvoice.config import format_value, read_json
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE
from jaxvoice.weights.schemas import migrate

FolderKind = Literal["model", "run"]


def folder_kind(path: Path) -> FolderKind:
    """Whether `path` is a model folder or a run folder; raises `CheckpointError` if it is neither."""
    if (path / CONFIG_FILE).is_file():
        if (path / WEIGHTS_FILE).is_file():
            return "model"
        if (path / "checkpoints").is_dir() or (path / "metrics.jsonl").is_file():
            return "run"
    raise CheckpointError(
        f"{path} is neither a model folder ({CONFIG_FILE} and {WEIGHTS_FILE}) nor a run folder ({CONFIG_FILE} and "
        "checkpoints/); pass one of these, or a weight file."
    )


def run_progress(path: Path) -> dict[str, Any]:
    """The progress of the run in `path`.

    **Returns:** the `task`; the steps of its `checkpoints`; the `last_step` that was logged; the `metric` that selects
    the best model; the `best` and the `last` validation; and the content of `config.json` as `config`. The best
    validation is one of the highest rank (`Task.rank_of`), because models of lower ranks are not complete.

    **Raises:** `ConfigError` or `CheckpointError` if `config.json` cannot be read, or has a newer schema.
    """
    config = read_json(path / CONFIG_FILE)
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path / CONFIG_FILE} contains {format_value(config)}; it should contain a JSON object. Restore the file."
        )
    config = migrate("run", config, str(path / CONFIG_FILE)).table
    loop = config.get("loop")
    metric = loop.get("best_metric", "mel_l1") if isinstance(loop, dict) else "mel_l1"
    folder = path / "checkpoints"
    steps = sorted(int(entry.name) for entry in folder.iterdir() if _is_step(entry)) if folder.is_dir() else []
    validations, last_step = _metrics(path / "metrics.jsonl")
    scored = [line for line in validations if _is_number(line.get(metric))]
    return {
        "task": config.get("task"),
        "checkpoints": steps,
        "last_step": last_step,
        "metric": metric,
        "best": _best(scored, metric, path / "model" / CONFIG_FILE),
        "last": validations[-1] if validations else None,
        "config": config,
    }


def _best(validations: list[Mapping[str, Any]], metric: str, model: Path) -> Mapping[str, Any] | None:
    if not all(_is_number(line.get("rank")) for line in validations):
        # Version 0.1 logged no rank. The model folder contains the model of the best validation.
        step = _step_of(model)
        for line in validations:
            if line["step"] == step:
                return line
    return min(validations, key=lambda line: (-_rank(line), line[metric]), default=None)


def _rank(validation: Mapping[str, Any]) -> float:
    return validation["rank"] if _is_number(validation.get("rank")) else 0


def _step_of(model: Path) -> Any:
    """The training step in the `config.json` of a model, `model`; `None` if there is none."""
    try:
        table = read_json(model)
    except ConfigError:
        return None
    info = table.get("info") if isinstance(table, dict) else None
    return info.get("step") if isinstance(info, dict) else None


def _is_step(entry: Path) -> bool:
    return entry.is_dir() and entry.name.isdecimal() and len(entry.name) < 19


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _metrics(path: Path) -> tuple[list[Mapping[str, Any]], int | None]:
    """The validations in `metrics.jsonl`, and the last logged step. Incomplete lines are skipped.

    Validations before the line `best_reset` have other held-out data or another metric, so they are skipped if others
    follow.
    """
    validations: list[Mapping[str, Any]] = []
    last, reset_at = None, 0
    if not path.is_file():
        return validations, last
    with path.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                continue
            last = line["step"]
            if line.get("kind") == "best_reset":
                reset_at = len(validations)
            if line.get("kind") == "validation":
                values: dict[str, Any] = {name: value for name, value in line.items() if name != "kind"}
                if "rank" not in values and "phase" in values:
                    values["rank"] = values.pop("phase")  # Runs of earlier versions logged the rank as the phase.
                validations.append(values)
    return validations[reset_at:] or validations, last
