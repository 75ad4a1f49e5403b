"""Released weights as a model folder; without jax."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxvoice.config import to_dict
from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.foreign_configs import read_settings
from jaxvoice.models.hifigan.importing import GeneratorImport, plan_generator
from jaxvoice.models.hifigan.training_files import TRAINING_FILE, TrainingImport, plan_training
from jaxvoice.models.hifigan.weights import FAMILY
from jaxvoice.pipelines.import_report import Line, lines_of, report_text
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import WEIGHTS_FILE, write_about
from jaxvoice.weights.safetensors_writing import write_safetensors
from jaxvoice.weights.schemas import migrate_export
from jaxvoice.weights.text_tables import printable

REPORT_FILE = "report.md"
_GENERATOR_FILE = re.compile(r"g_([0-9]+)")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Report:
    """What an import did."""

    folder: Path
    """The model folder."""
    family: str
    """Kind of model."""
    version: str
    """`V1`, `V2`, `V3`, or sizes in words."""
    tensors: int
    """Arrays written."""
    parameters: int
    """Numbers in them."""
    info: Mapping[str, Any]
    """What `config.json` keeps of the origin: sha256, licence, what was assumed and left out, and by which patterns."""
    hints: tuple[str, ...] = ()
    """A sentence for each pattern of `ignore` and `allow_missing` that did nothing."""

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.family} {self.version}, {self.tensors} tensors, {self.parameters} parameters"]
        lines += [f"sha256   {self.info['sha256']}", f"licence  {self.info['licence']}"]
        lines += [f"assumed  {line}" for line in self.info["assumed"]]
        if self.info["ignored"]:
            count = len(self.info["ignored"])
            lines.append(f"left out {count} tensor{'' if count == 1 else 's'} (see {REPORT_FILE})")
        if self.info["missing"]:
            lines.append(f"initial  {', '.join(self.info['missing'])}")
        lines += [f"unused   {printable(line)}" for line in self.hints]
        lines += [f"export   will write {line}" for line in self.info["differs"]]
        if "training" in self.info:
            lines.append(f"training {self.info['training']['source']}: {self.info['training']['steps']} steps")
        return "\n".join(lines)


def import_model(
    source: str | Path,
    to: str | Path,
    *,
    config: str | Path | None = None,
    part: str | None = None,
    allow_missing: Sequence[str] = (),
    ignore: Sequence[str] = (),
    training: str | Path | bool | None = None,
) -> Report:
    """Turn a released weight file into the model folder `to`.

    **Arguments:**

    - `source`: the weight file, in any format that `open_archive` reads.
    - `to`: folder to make; it may exist if it is empty.
    - `config`: the configuration that came with the weights; by default `config.json` beside them, if there is one.
    - `part`: which part of a larger model, by the last components of its name: `waveform_decoder`.
    - `allow_missing`: regular expressions of our names that begin with initial values if the file lacks them.
    - `ignore`: regular expressions of the file's names that are left out.
    - `training`: the file of discriminators and optimisers; by default `do_N` beside `g_N`, if there is one; `False`
        for none.

    **Returns:** what was found. `to` then holds `model.safetensors`, `config.json`, `report.md`, and
    `training.safetensors` where there was training to import.

    **Raises:** `CheckpointError` or `ConfigError` if the file is none that is known, or does not fit what its
    configuration says, or holds NaN, or the folder is in use; nothing is left behind then.
    """
    source, to = Path(source), Path(to)
    _check_target(to)
    settings = _settings_beside(source) if config is None else Path(config)
    table = None if settings is None else read_settings(settings)
    with open_archive(source) as archive:
        archive.tensors = migrate_export(archive.metadata, str(source)).renamed(archive.tensors)
        found = plan_generator(
            archive,
            table=table,
            table_name=str(settings),
            part=part,
            allow_missing=allow_missing,
            ignore=ignore,
        )
        info = _info(archive, found, settings)
        beside = _training_beside(source) if training in (None, True) else training
        with _new_folder(to) as folder:
            config_of = found.config
            tables = {source.name: lines_of(archive, found.plan.table())}
            write_safetensors(
                folder / WEIGHTS_FILE, found.plan.wanted, _frugally(archive, found.plan.read(archive.tensors))
            )
            if beside:
                trained, about = _import_training(Path(beside), archive, found, folder, tables)
                config_of = HiFiGANConfig(
                    config_of.generator, trained.discriminators, config_of.mel, config_of.segment_size
                )
                info["training"] = about
                info["assumed"] += trained.assumed
            write_about(folder, family=FAMILY, config=to_dict(config_of), info=info)
            text = report_text(info, config_of, tables)
            (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    parameters = sum(int(np.prod(spec.shape)) for spec in found.plan.wanted.values())
    return Report(to, FAMILY, found.version, len(found.plan.wanted), parameters, info, found.hints)


def _import_training(
    path: Path, generator: Archive, found: GeneratorImport, folder: Path, tables: dict[str, list[Line]]
) -> tuple[TrainingImport, dict[str, Any]]:
    with open_archive(path) as archive:
        trained = plan_training(archive, found.plan, found.parameters, decay=found.decay)
        tensors = _frugally(archive, trained.read(archive.tensors))
        write_safetensors(folder / TRAINING_FILE, trained.specs, tensors, trained.metadata)
        tables[path.name] = lines_of(archive, trained.table())
        return trained, {"source": path.name, "sha256": archive.source.sha256(), **trained.about}


def _frugally(archive: Archive, tensors: Iterable[Item]) -> Iterator[Item]:
    """`tensors`, after each of which the memory of what was read of the file is given back."""
    for item in tensors:
        yield item
        archive.forget()


def _info(archive: Archive, found: GeneratorImport, settings: Path | None) -> dict[str, Any]:
    return {
        "source": archive.source.path.name,
        "format": archive.source.format,
        "sha256": archive.source.sha256(),
        "origin": found.origin,
        "version": found.version,
        "licence": found.licence,
        "config": None if settings is None else settings.name,
        "layout": found.layout.table(),
        "differs": list(found.differs),
        "assumed": list(found.assumed),
        "ignored": dict(found.plan.ignored),
        "missing": list(found.plan.missing),
        "patterns": {option: dict(given) for option, given in found.patterns.items()},
    }


def _settings_beside(source: Path) -> Path | None:
    path = source.parent / "config.json"
    return path if path.is_file() else None


def _training_beside(source: Path) -> Path | None:
    found = _GENERATOR_FILE.fullmatch(source.name)
    path = source.with_name(f"do_{found[1]}") if found else None
    return path if path is not None and path.is_file() else None


def _check_target(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise CheckpointError(f"{to} is a file; name a folder to make.")
    if to.is_dir() and any(to.iterdir()):
        raise CheckpointError(f"{to} is not empty; name a new folder, so that nothing is overwritten.")


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A folder that becomes `to` when all went well, and is gone when not."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    except OSError as failure:
        raise CheckpointError(f"{to} cannot be made ({failure.strerror}); choose another folder.") from failure
    try:
        yield place
        place.chmod(0o755)
        if to.exists():
            to.rmdir()
        place.rename(to)
    except OSError as failure:
        raise CheckpointError(f"{to} cannot be written ({failure}); free space or choose another.") from failure
    finally:
        shutil.rmtree(place, ignore_errors=True)
