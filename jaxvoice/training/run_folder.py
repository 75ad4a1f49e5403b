"""The layout of a run folder, and the check whether a run may start or resume in it.

config.json      configuration, versions and the number of the folder's schema
checkpoints/     the states of training
model/           the best model so far, a model folder
metrics.jsonl    one line per logged step and per validation
events/          TensorBoard events
samples/         audio and pictures of each validation
damaged/         checkpoints that could not be read
run.lock         the process that writes the run, while there is one
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from jaxvoice.config import format_value, read_json
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.training.run_lock import LOCK_FILE
from jaxvoice.weights.file_layout import inheritable_info
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file
from jaxvoice.weights.schemas import migrate, with_schema_number

Resume = Literal["auto", "must", "never"]


class RunFolder:
    """The paths of the files of a run in the folder `path`. Creating an instance does not access the folder."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.metrics = path / "metrics.jsonl"
        self.events = path / "events"
        self.samples = path / "samples"

    def exists(self) -> bool:
        """Whether the folder contains a run."""
        return self.config.is_file()

    def has_progress(self) -> bool:
        """Whether the run has a checkpoint or a model. Without them, it may start with another configuration."""
        checkpoints = self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())
        return self.exists() and (checkpoints or self.model.exists())

    def check(self, resume: Resume) -> None:
        """Raise `CheckpointError` unless `resume` allows a session in this folder. The folder is not changed."""
        if self.path.exists() and not self.path.is_dir():
            raise CheckpointError(f"{self.path} is a file, not a run folder; choose another --run-dir.")
        if resume == "must" and not (self.exists() and self.checkpoints.is_dir() and any(self.checkpoints.iterdir())):
            raise CheckpointError(
                f"{self.path} contains no run to resume; check --run-dir, or start a new run with --resume auto."
            )
        if resume == "never" and self.exists():
            raise CheckpointError(
                f"{self.path} already contains a run; resume it with --resume auto, or choose another --run-dir."
            )
        if not self.exists() and self._other_files():
            raise CheckpointError(
                f"{self.path} is not a run folder (it has no config.json but contains {self._other_files()[0]!r}); "
                "choose another --run-dir."
            )

    def _other_files(self) -> list[str]:
        if not self.path.exists():
            return []
        names = (entry.name for entry in self.path.iterdir())
        return sorted(name for name in names if not name.endswith(".tmp") and name != LOCK_FILE)

    def read_config(self) -> dict[str, Any]:
        """Read the JSON object in `config.json`, migrated to the current schema.

        **Raises:** `CheckpointError` if it cannot be read.
        """
        try:
            table = read_json(self.config)
        except ConfigError as failure:
            raise CheckpointError(str(failure)) from failure
        if not isinstance(table, dict):
            raise CheckpointError(
                f"{self.config} contains {format_value(table)}; it should contain a JSON object. Choose another "
                "--run-dir."
            )
        return migrate("run", table, str(self.config)).table

    def read_data_description(self) -> Mapping[str, Any]:
        """The description of data and batches with which the run was started or resumed last; empty if it is unknown.

        Runs of version 0.1 have it in their checkpoints only.

        **Raises:** `CheckpointError` if `config.json` cannot be read.
        """
        data = self.read_config().get("data")
        if data is None and self.checkpoints.is_dir():
            steps = [int(path.name) for path in self.checkpoints.iterdir() if path.name.isdecimal()]
            with suppress(ConfigError):
                table = read_json(self.checkpoints / str(max(steps, default=0)) / "meta" / "metadata")
                data = table.get("data") if isinstance(table, dict) else None
        return data if isinstance(data, Mapping) else {}

    def create(self) -> None:
        """Create the folder if it does not exist.

        **Raises:** `CheckpointError` if it cannot be created.
        """
        with self._converted_errors():
            self.path.mkdir(parents=True, exist_ok=True)

    def begin(self, table: Mapping[str, Any]) -> None:
        """Create the folder and write its `config.json`.

        **Raises:** `CheckpointError` if it cannot be written.
        """
        self.create()
        with self._converted_errors():
            write_atomically(self.config, json.dumps(with_schema_number("run", table), indent=2) + "\n")

    @contextmanager
    def _converted_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as failure:
            raise CheckpointError(
                f"The run folder {self.path} cannot be written ({failure.strerror}); choose another --run-dir."
            ) from failure

    def cut_metrics(self, step: int) -> None:
        """Remove lines of steps after `step`, and incomplete lines, from `metrics.jsonl`."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_atomically(self.metrics, "".join(kept))

    def logged_validation(self, step: int) -> dict[str, Any] | None:
        """The line of the validation of `step` in `metrics.jsonl`, or `None` if there is none.

        Without held-out data, its kind is `newest_model` instead of `validation`.
        """
        return next((table for table in self._validations() if table.get("step") == step), None)

    def has_validation(self) -> bool:
        """Whether the run has a model and a line of a validation in `metrics.jsonl`."""
        return (self.model / CONFIG_FILE).is_file() and any(True for _ in self._validations())

    def _validations(self) -> Iterator[dict[str, Any]]:
        if not self.metrics.is_file():
            return
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                table = json.loads(line)
                if isinstance(table, dict) and table.get("kind") in ("validation", "newest_model"):
                    yield table

    def replace_model(self, save: Callable[[Path], None]) -> None:
        """Replace the files of the model folder with those that `save` writes. Each file is replaced atomically.

        `save` may also write folders, such as the model folder of a part, which are replaced as a whole.
        """
        fresh = self.path / "model.tmp"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        save(fresh)
        if not self.model.exists():
            fresh.rename(self.model)
            return
        for file in sorted(fresh.iterdir()):
            target = self.model / file.name
            if file.is_dir() and target.is_dir():
                shutil.rmtree(target)
            os.replace(file, target)
        fresh.rmdir()


def model_folder(folder: Path) -> Path:
    """The model folder in the run folder `folder`, or `folder` if it contains none."""
    inside = RunFolder(folder).model
    return inside if (inside / "config.json").is_file() else folder


def inherited_info(run: Path, source: Path | None, name: object = None) -> dict[str, Any]:
    """The metadata that the models of the run in `run` inherit from its initial model, such as the licence.

    **Arguments:** `source`, the run folder or model folder of the initial model, if there is one; it is not used if
    the run has a model already; `name` of the initial model, by default `source`, which is stored as `initial_model`.

    **Raises:** `ConfigError` or `CheckpointError` if the `config.json` of the model cannot be read.
    """
    own = _inheritable_info(run)
    if own is not None:
        return own
    if source is None:
        return {}
    return {**(_inheritable_info(source) or {}), "initial_model": str(source if name is None else name)}


def _inheritable_info(source: Path) -> dict[str, Any] | None:
    folder = model_folder(source)
    # A run without a model has a config.json too.
    if not (folder / WEIGHTS_FILE).is_file() or not (folder / CONFIG_FILE).is_file():
        return None
    return inheritable_info(read_config_file(folder).table.get("info"), str(folder / CONFIG_FILE))


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, so that readers find either the old or the new content."""
    part = path.with_name(path.name + ".tmp")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
