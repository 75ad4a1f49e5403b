"""Import of released weights into model folders. Does not import jax."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxvoice.config import to_dict
from jaxvoice.console import printable
from jaxvoice.data.atomic_folders import atomic_folder
from jaxvoice.errors import CheckpointError, JaxvoiceError
from jaxvoice.models.checkpoint_layout import (
    UNKNOWN_LICENCE,
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
)
from jaxvoice.models.family_lookup import find_main_file, recognise_checkpoint
from jaxvoice.pipelines.import_report import TensorLine, change_lines, report_text
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_writing import atomic_write, write_safetensors
from jaxvoice.weights.foreign_settings import read_settings
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file, write_config_file
from jaxvoice.weights.schemas import migrate_export
from jaxvoice.weights.training_files import TRAINING_FILE, TrainingPlan

REPORT_FILE = "report.md"

_T = TypeVar("_T")


@dataclass(frozen=True)
class ImportSummary:
    """The result of `import_model`."""

    folder: Path
    """The model folder."""
    family: str
    """Name of the model family."""
    version: str
    """Name of the released model, such as `V1`, or a description of its sizes."""
    tensors: int
    """Number of tensors written."""
    parameters: int
    """Number of parameters."""
    info: Mapping[str, Any]
    """The metadata stored in `config.json`: SHA-256, licence, assumptions, ignored tensors and the patterns that
    matched them, and others."""
    hints: tuple[str, ...] = ()
    """A message for each pattern of `ignore` and `allow_missing` that had no effect, and other remarks."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What was found beside the weights, as in `ImportPlan.contents`."""

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.family} {self.version}, {self.tensors} tensors, {self.parameters} parameters"]
        lines += [f"sha256   {self.info['sha256']}", f"licence  {self.info['licence']}"]
        lines += [f"{name:<8} {printable(text)}" for name, text in self.contents.items()]
        lines += [f"assumed  {line}" for line in self.info["assumed"]]
        if self.info["ignored"]:
            count = len(self.info["ignored"])
            lines.append(f"ignored  {count} tensor{'' if count == 1 else 's'} (see {REPORT_FILE})")
        if self.info["missing"]:
            lines.append(f"missing  {', '.join(self.info['missing'])}: initialised as in a new model")
        lines += [f"note     {printable(line)}" for line in self.hints]
        lines += [f"export   will write {line}" for line in self.info["differs"]]
        if "training" in self.info:
            training = self.info["training"]
            what = training.get("content") or f"{training['steps']} steps"
            lines.append(f"training {training['source']}: {what}")
        return "\n".join(lines)


def import_model(
    source: str | Path,
    to: str | Path,
    *,
    family: str | None = None,
    config: str | Path | None = None,
    part: str | None = None,
    allow_missing: Sequence[str] = (),
    ignore: Sequence[str] = (),
    training: str | Path | bool | None = None,
    inert: str | Sequence[str] = (),
) -> ImportSummary:
    """Convert a released checkpoint to the model folder `to`.

    Every family in `jaxvoice.models.FAMILIES` is tried; exactly one must recognise the checkpoint.

    **Arguments:**

    - `source`: the weight file, in any format that `open_archive` reads, or the folder of a checkpoint that consists of
      several files.
    - `to`: the folder to create; it may exist if it is empty.
    - `family`: the name of the family; by default all families are tried.
    - `config`: the configuration of the weights; by default `config.json`, `config.yaml` or `config.yml` in the same
      folder, if it exists.
    - `part`: the submodule to import from a larger model, by the last components of its path: `waveform_decoder`.
    - `allow_missing`: regular expressions for names in the model; matching weights that the file lacks are initialised
      as in a new model.
    - `ignore`: regular expressions for names in the file; matching tensors are ignored.
    - `training`: the file of the training state; by default the file in the same folder that belongs to the weights
      (`do_N` to `g_N`, `D_N` to `G_N`), if the layout has such files and it exists; `False` for none.
      Discriminators of a checkpoint of RAVE are in the weight file itself; `False` omits them.
    - `inert`: regular expressions for names of unknown classes and functions, whose objects in the files are read as
      data, as in `open_archive`.

    **Returns:** a summary of the import. `to` then contains `model.safetensors`, `config.json`, `report.md`, further
    files of the family, and `training.safetensors` if a training state was imported.

    **Raises:** `CheckpointError` or `ConfigError` if no family or more than one recognises the file, if the file
    contradicts its configuration or contains NaN or infinity, or if `to` is not empty. After an error, the folder `to`
    does not exist.
    """
    source, to = _weight_file(Path(source), family), Path(to)
    _check_target(to)
    settings = config_beside(source) if config is None else Path(config)
    with open_archive(source, inert=inert) as archive:
        checkpoint = read_checkpoint(archive, settings)
        recognised, layout = recognise_checkpoint(checkpoint, family)
        found = layout.plan_import(checkpoint, ImportOptions(part, allow_missing, ignore))
        for file in {id(one): one for one, _ in found.parts}.values():
            file.verify()
        info = _info(checkpoint, found, layout)
        beside = layout.training_file(source) if training in (None, True) else training
        with _new_folder(to) as folder:
            model_config = found.config
            tables = {one.source.path.name: change_lines(one, plan.table()) for one, plan in found.parts}
            write_safetensors(folder / WEIGHTS_FILE, found.wanted, _read(found))
            for name, content in found.side_files.items():
                with atomic_write(folder / name) as file:
                    file.write(content)
            for name, inner in found.inside.items():
                summary = import_model(inner.path, folder / name, family=inner.family, part=inner.part, inert=inert)
                info["assumed"] += [f"{name}: {line}" for line in summary.info["assumed"]]
            trained = None
            if beside:
                trained = _import_training(Path(beside), layout, found, folder, tables, inert)
            elif found.training is not None and training is not False:
                trained = _write_training(*found.training, folder, tables)
                used = {source for change in found.training[1].table() for source in change.sources}
                info["ignored"] = {name: reason for name, reason in info["ignored"].items() if name not in used}
            if trained is not None:
                plan, info["training"] = trained
                model_config = plan.config
                info["assumed"] += plan.assumed
            write_config_file(folder, family=recognised.name, config=to_dict(model_config), info=info)
            text = report_text(info, model_config, tables, found.report)
            (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    parameters = sum(int(np.prod(spec.shape)) for spec in found.wanted.values())
    return ImportSummary(
        to, recognised.name, found.version, len(found.wanted), parameters, info, found.hints, found.contents
    )


def read_checkpoint(archive: Archive, config: Path | None) -> Checkpoint:
    """The checkpoint in `archive`, whose tensors get their current names, with the configuration file `config`.

    **Raises:** `ConfigError` if the configuration cannot be read; `CheckpointError` for an export of a newer schema.
    """
    table = None if config is None else read_settings(config)
    archive.tensors = migrate_export(archive.metadata, str(archive.source.path)).renamed(archive.tensors)
    return Checkpoint(archive, table, config)


def config_beside(source: Path) -> Path | None:
    """The configuration in the folder of the weight file `source`; `None` if there is none.

    This is `config.json`, or else `config.yaml` or `config.yml`.
    """
    paths = (source.parent / name for name in (CONFIG_FILE, "config.yaml", "config.yml"))
    return next((path for path in paths if path.is_file()), None)


def _weight_file(source: Path, family: str | None) -> Path:
    """`source`, or the weight file in it if `source` is a folder; raises `CheckpointError` for a model folder."""
    for folder in (source, source / "model"):
        if (folder / WEIGHTS_FILE).is_file() and _is_ours(folder):
            raise CheckpointError(
                f"{folder} is a model folder; it should be a released checkpoint. Use the folder directly (--model, "
                "jaxvoice.load), or write its weights to a file with `jaxvoice export`."
            )
    return find_main_file(source, family) if source.is_dir() else source


def _is_ours(folder: Path) -> bool:
    """Whether the `config.json` in `folder` is that of a model folder of jaxvoice."""
    try:
        return "family" in read_config_file(folder).table
    except JaxvoiceError:
        return False


def _read(found: ImportPlan) -> Iterator[tuple[str, np.ndarray]]:
    for archive, plan in found.parts:
        yield from _release_after_each(archive, plan.read(archive.tensors))


def _import_training(
    path: Path,
    layout: CheckpointLayout,
    found: ImportPlan,
    folder: Path,
    tables: dict[str, list[TensorLine]],
    inert: str | Sequence[str],
) -> tuple[TrainingPlan, dict[str, Any]]:
    with open_archive(path, inert=inert) as archive:
        trained = layout.plan_training(archive, found)
        archive.verify()
        return _write_training(archive, trained, folder, tables)


def _write_training(
    archive: Archive, trained: TrainingPlan, folder: Path, tables: dict[str, list[TensorLine]]
) -> tuple[TrainingPlan, dict[str, Any]]:
    """Write `training.safetensors`.

    **Returns:** the plan, and a description for `config.json`.
    """
    tensors = _release_after_each(archive, trained.read(archive.tensors))
    write_safetensors(folder / TRAINING_FILE, trained.specs, tensors, trained.metadata)
    tables.setdefault(archive.source.path.name, []).extend(change_lines(archive, trained.table()))
    return trained, {"source": archive.source.path.name, "sha256": archive.source.sha256(), **trained.about}


def _release_after_each(archive: Archive, tensors: Iterable[_T]) -> Iterator[_T]:
    """Yield `tensors`, and release the mapped pages of the file after each one."""
    for item in tensors:
        yield item
        archive.release()


def _licence(checkpoint: Checkpoint, found: ImportPlan) -> str:
    """The licence in the configuration of an export of jaxvoice, or else that of the layout."""
    table = checkpoint.config if found.config_file is None else read_settings(checkpoint.folder / found.config_file)
    info = None if table is None or "family" not in table else table.get("info")
    if not isinstance(info, Mapping):
        return found.licence
    licence = info.get("licence")
    return licence if licence and isinstance(licence, str) else UNKNOWN_LICENCE


def _info(checkpoint: Checkpoint, found: ImportPlan, layout: CheckpointLayout) -> dict[str, Any]:
    archive, settings = checkpoint.archive, checkpoint.config_path
    ignored = {name: reason for _, plan in found.parts for name, reason in plan.ignored.items()}
    return {
        "source": archive.source.path.name,
        "format": archive.source.format,
        "sha256": archive.source.sha256(),
        "origin": found.origin,
        "version": found.version,
        "licence": _licence(checkpoint, found),
        "config": found.config_file or (None if settings is None else settings.name),
        "layout_name": layout.name,
        "layout": {} if found.layout is None else found.layout.table(),
        "differs": list(found.differs),
        "assumed": list(found.assumed),
        "ignored": ignored,
        "missing": [name for _, plan in found.parts for name in plan.missing],
        "patterns": {option: dict(given) for option, given in found.patterns.items()},
    }


def _check_target(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise CheckpointError(f"{to} is a file; pass the name of a new folder.")
    if to.is_dir() and any(to.iterdir()):
        raise CheckpointError(f"{to} is not empty; choose a new or empty folder.")


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `to` on success and deleted after an error. Errors name `to`."""
    try:
        with atomic_folder(to) as folder:
            try:
                yield folder
            except CheckpointError as failure:
                if str(folder) not in str(failure):
                    raise
                raise CheckpointError(str(failure).replace(str(folder), str(to))) from failure
            if to.is_dir():
                to.rmdir()
    except OSError as failure:
        raise CheckpointError(
            f"{to} cannot be written ({failure.strerror or failure}); free disk space or choose another folder."
        ) from failure
