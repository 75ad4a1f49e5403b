"""The layout of coqui's files of the DVAE of XTTS. Does not import jax."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxvoice.config import differences, from_dict
from jaxvoice.errors import CheckpointError
from jaxvoice.models.checkpoint_layout import (
    FLOAT,
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    choose_part,
    plan_weights,
)
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.released_files import STATISTICS_FILE, as_archive, read_statistics, statistics_beside
from jaxvoice.models.xtts_dvae.weights import (
    NAME,
    RULES,
    STATISTICS,
    dvae_shapes,
    ignored,
    is_whole_model,
    network_sizes,
    networks_in,
)
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.file_writing import torch_bytes
from jaxvoice.weights.foreign_settings import read_settings
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import WEIGHTS_FILE
from jaxvoice.weights.rules import Plan, Rule, Spec, make_plan
from jaxvoice.weights.schemas import migrate

LICENCE = "Coqui Public Model License 1.0.0 (not commercial) for released weights; others: ask whoever trained them"
"""The licence of the weights of XTTS and of its DVAE."""
SETTINGS_FILE = "dvae_config.json"
"""The configuration beside an export; coqui has no such file."""

_ONES = "statistics of mel bands of 1: there is no mel_stats.pth, so that codes are not those of the release"
_TOLERANCE = 1e-5  # largest relative difference of equal statistics


class DVAELayout(CheckpointLayout):
    """Files `dvae.pth` of coqui, with `mel_stats.pth` beside them, and the DVAE in checkpoints of a training."""

    name = "coqui-ai/TTS, DVAE of XTTS"
    looks_for = "the DVAE of XTTS: tensors below encoder, codebook and decoder"
    exports = True
    config_file = SETTINGS_FILE

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a DVAE, and no other networks."""
        names = checkpoint.archive.tensors
        return any(is_whole_model(names, prefix) for prefix in networks_in(names))

    def contains(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a DVAE, also as a part of a checkpoint of a training."""
        return bool(networks_in(checkpoint.archive.tensors))

    def main_file(self, folder: Path) -> Path | None:
        """The file `dvae.pth` in a folder without the other files of an XTTS."""
        others = ("model.pth", "vocab.json", "config.json")
        path = folder / "dvae.pth"
        return path if path.is_file() and not any((folder / name).exists() for name in others) else None

    def folder_advice(self, folder: Path) -> str:
        """The path of a DVAE, which is imported by itself."""
        path = folder / "dvae.pth"
        return f"It contains a DVAE; pass {path} to import it alone." if path.is_file() else ""

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of a DVAE, with the statistics in its file, or in `mel_stats.pth` or `model.pth` beside it.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several, or if tensors and files contradict
        each other.
        """
        archive, where = checkpoint.archive, checkpoint.name
        prefix = choose_part(networks_in(archive.tensors), options.part, where, kind="DVAE")
        infos = archive.tensors.infos()
        shapes = {name.removeprefix(prefix): info.shape for name, info in infos.items() if name.startswith(prefix)}
        if options.part is None and not is_whole_model(infos, prefix):
            options = replace(options, part=prefix.removesuffix("."))
        path = _settings_of(checkpoint)
        if path is None:
            config = CodecConfig(network_sizes(shapes, where))
        else:
            table = migrate("model folder", read_settings(path), str(path)).table
            # The file of an export of a codec has no vocoder.
            config = replace(from_dict(CodecConfig, table.get("config", {}), str(path)), vocoder=None)
        weights = plan_weights(
            _without_statistics(archive, prefix), dvae_shapes(config.dvae), RULES, options, prefix=prefix,
            ignore=ignored(prefix),
        )  # fmt: skip
        statistics, assumed = _statistics(archive, prefix, config.mel.num_mels)
        return ImportPlan(
            config,
            ((archive, weights.plan), statistics),
            version=f"{config.dvae.codes} codes",
            origin=self.name,
            licence=LICENCE,
            layout=weights.layout,
            differs=weights.differs,
            assumed=assumed,
            config_file=None if path is None else path.name,
            patterns=weights.patterns,
            hints=weights.hints,
        )

    def released_files(self, config: CodecConfig, folder: Path, beside: Path) -> dict[str, bytes]:
        """The statistics of mel bands, `mel_stats.pth`."""
        with open_archive(folder / WEIGHTS_FILE) as archive:
            values = np.array(archive.tensors[STATISTICS])
        return statistics_file(values, beside)

    def plan_export(self, config: CodecConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The DVAE under the names of the imported file. The statistics are in a file of their own.

        The vocoder of a codec is left out, because coqui's files have none.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        own = {name: spec for name, spec in given.items() if name != STATISTICS and not name.startswith("vocoder.")}
        return plan_export(dvae_shapes(config.dvae), RULES, layout, own, where)

    def setting_differences(self, found: CodecConfig, config: CodecConfig) -> list[str]:
        """The settings of the code book, which the tensors do not contain."""
        return [line for line in differences(found.dvae, config.dvae, "dvae.") if "mel." not in line]


def statistics_file(values: np.ndarray, beside: Path) -> dict[str, bytes]:
    """The content of `mel_stats.pth` in the folder `beside`; empty if the file exists with the same statistics.

    **Raises:** `CheckpointError` if it exists with others.
    """
    path = beside / STATISTICS_FILE
    if not path.exists():
        return {path.name: torch_bytes(values, path.name)}
    if np.abs(read_statistics(path, len(values)) - values).max() > _TOLERANCE * np.abs(values).max():
        raise CheckpointError(
            f"{path} contains the statistics of another model. Export to another folder, or remove the file."
        )
    return {}


def _settings_of(checkpoint: Checkpoint) -> Path | None:
    """The configuration that an export wrote: that of the checkpoint, or `dvae_config.json` beside it."""
    if (checkpoint.config or {}).get("family") == NAME:
        return checkpoint.config_path
    path = checkpoint.folder / SETTINGS_FILE
    return path if path.is_file() else None


def _inner_statistics(archive: Archive, prefix: str) -> str | None:
    """The name of the statistics in the file of a DVAE: beside it, or in the XTTS of a checkpoint of a training."""
    above = prefix.removesuffix("dvae.")
    return next(
        (name for name in (f"{above}{STATISTICS}", f"{above}xtts.{STATISTICS}") if name in archive.tensors), None
    )


def _without_statistics(archive: Archive, prefix: str) -> Archive:
    name = _inner_statistics(archive, prefix)
    if name is None:
        return archive
    infos = archive.tensors.infos()
    return archive.with_tensors(archive.tensors.renamed({other: other for other in infos if other != name}))


def _statistics(archive: Archive, prefix: str, bands: int) -> tuple[tuple[Archive, Plan], tuple[str, ...]]:
    """The plan to write the statistics, and assumptions if there are none."""
    targets = {STATISTICS: Spec((bands,), FLOAT)}
    name, path = _inner_statistics(archive, prefix), archive.source.path.parent / STATISTICS_FILE
    assumed: tuple[str, ...] = ()
    if name is not None:
        source = archive.with_tensors(archive.tensors.renamed({name: name}))
    elif (beside := statistics_beside(path.parent, bands)) is not None:
        name = STATISTICS
        source = as_archive(beside[0], name, beside[1], "torch")
    else:
        name, assumed = STATISTICS, (_ONES,)
        source = as_archive(np.ones(bands, np.float32), name, path, "none")
    infos = source.tensors.infos()
    specs = {one: Spec(info.shape, info.dtype) for one, info in infos.items()}
    plan = make_plan(specs, targets, (Rule(name, STATISTICS),), where=source.source.path.name)
    return (source, plan), assumed
