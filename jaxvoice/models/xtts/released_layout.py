"""The layout of coqui's checkpoints of XTTS: released bundles, and checkpoints of a training. Does not import jax."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.config import differences, list_names
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import (
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    InnerModel,
    choose_part,
    plan_weights,
)
from jaxvoice.models.xtts.bundle import (
    DVAE_FOLDER,
    VOCABULARY_FILE,
    check_vocabulary,
    read_vocabulary,
)
from jaxvoice.models.xtts.config import PRESETS, XTTSConfig
from jaxvoice.models.xtts.released_config import coqui_config, find_config, is_coqui, is_ours
from jaxvoice.models.xtts.released_files import (
    DVAE_FILE,
    SPEAKERS_FILE,
    read_speakers,
    speakers_content,
    statistics_difference,
)
from jaxvoice.models.xtts.vocabulary import VocabularyIds, vocabulary_content
from jaxvoice.models.xtts.voices import VOICES_FILE, StoredVoice, read_voices, voices_content
from jaxvoice.models.xtts.weights import RULES, count_dtypes, dtypes, ignored, networks_in, xtts_shapes
from jaxvoice.models.xtts_dvae.config import DVAEConfig
from jaxvoice.models.xtts_dvae.released_files import STATISTICS_FILE
from jaxvoice.models.xtts_dvae.released_layout import LICENCE, statistics_file
from jaxvoice.models.xtts_dvae.weights import (
    NAME as DVAE_FAMILY,
    STATISTICS,
    network_sizes,
    networks_in as autoencoders_in,
)
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.file_writing import torch_bytes
from jaxvoice.weights.foreign_settings import read_settings
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import WEIGHTS_FILE
from jaxvoice.weights.rules import Plan, Spec

_WEIGHT_FILES = ("model.pth", "best_model.pth")
_TOLERANCE = 1e-5  # largest relative difference of equal statistics


class XTTSLayout(CheckpointLayout):
    """`model.pth` of coqui's XTTS with the files of its bundle, and checkpoints of its training."""

    name = "coqui-ai/TTS, XTTS"
    looks_for = "XTTS: tensors below gpt and hifigan_decoder"
    exports = True
    export_layout = FileLayout(nesting=("model",), norms="parametrizations")

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains the language model of an XTTS, below any prefix."""
        return bool(networks_in(checkpoint.archive.tensors))

    def main_file(self, folder: Path) -> Path | None:
        """The weights in a folder with the configuration or the vocabulary of an XTTS."""
        files = [folder / name for name in _WEIGHT_FILES if (folder / name).is_file()]
        return files[0] if len(files) == 1 and _is_bundle(folder) else None

    def folder_advice(self, folder: Path) -> str:
        """What to do without a weight file, or with several."""
        files = [name for name in _WEIGHT_FILES if (folder / name).is_file()]
        if not _is_bundle(folder):
            return ""
        if not files:
            return "It is a bundle of XTTS without model.pth; add this file, or pass the path of a checkpoint (*.pth)."
        return f"It contains several weight files of XTTS; pass the path of one of them, such as {folder / files[0]}."

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the networks, with the vocabulary, the voices and the DVAE beside them.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several networks, if there is no vocabulary,
        or if tensors, configuration and files beside it contradict each other.
        """
        archive, where, folder = checkpoint.archive, checkpoint.name, checkpoint.folder
        hint = ". Parts can be imported with --family hifigan --part waveform_decoder or --family speaker_encoder"
        prefix = choose_part(networks_in(archive.tensors), options.part, where, kind="XTTS", hint=hint)
        table, table_name = _settings_of(checkpoint)
        vocabulary = _vocabulary(folder, where)
        inner = _autoencoder(checkpoint, prefix)
        dvae = None if inner is None else inner[1]
        found = find_config(archive, prefix, table, table_name, vocabulary, dvae)
        config = found.config
        check_vocabulary(folder / VOCABULARY_FILE, config)
        _check_autoencoder(config, dvae, folder)
        shapes = xtts_shapes(config)
        weights = plan_weights(
            archive, shapes, RULES, options, prefix=prefix, ignore=ignored(prefix), dtypes=dtypes(shapes)
        )
        voices = _voices(folder, config)
        side_files = {VOCABULARY_FILE: vocabulary_content(folder / VOCABULARY_FILE)}
        if voices:
            side_files[VOICES_FILE] = voices_content(voices)
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=_version(config),
            origin=self.name,
            licence=LICENCE,
            layout=weights.layout,
            differs=weights.differs,
            assumed=found.assumed,
            patterns=weights.patterns,
            hints=(*weights.hints, *_statistics_hint(checkpoint, prefix)),
            side_files=side_files,
            inside={} if inner is None else {DVAE_FOLDER: inner[0]},
            contents=_contents(config, vocabulary, voices, inner is not None, folder),
        )

    def released_config(self, config: XTTSConfig) -> dict[str, Any]:
        """The `config.json` of coqui; empty if sizes are not those that its code fixes."""
        return coqui_config(config)

    def released_files(self, config: XTTSConfig, folder: Path, beside: Path) -> dict[str, bytes]:
        """The vocabulary, the voices and the statistics of mel bands in coqui's files.

        **Raises:** `CheckpointError` for files in `beside` of another model.
        """
        files = {}
        vocabulary = folder / VOCABULARY_FILE
        if vocabulary.is_file():
            check_vocabulary(vocabulary, config)
            content, path = vocabulary.read_bytes(), beside / VOCABULARY_FILE
            if not path.exists():
                files[path.name] = content
            elif path.read_bytes() != content:
                raise _of_another_model(path)
        voices = read_voices(folder, config)
        if voices:
            path = beside / SPEAKERS_FILE
            if not path.exists():
                files[path.name] = torch_bytes(speakers_content(voices), path.name)
            elif not _same_voices(path, voices, config):
                raise _of_another_model(path)
        with open_archive(folder / WEIGHTS_FILE) as archive:
            statistics = np.array(archive.tensors[STATISTICS])
        return files | statistics_file(statistics, beside)

    def released_models(self, config: XTTSConfig, folder: Path) -> dict[str, Path]:
        """The DVAE, in `dvae.pth`."""
        inner = folder / DVAE_FOLDER
        return {DVAE_FILE: inner} if (inner / WEIGHTS_FILE).is_file() else {}

    def setting_differences(self, found: XTTSConfig, config: XTTSConfig) -> list[str]:
        """The settings that the tensors do not contain."""
        return differences(found, config)

    def plan_export(self, config: XTTSConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The networks under coqui's names.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        shapes = xtts_shapes(config)
        types = {**count_dtypes(shapes), **layout.dtypes}
        return plan_export(shapes, RULES, replace(layout, dtypes=types), given, where)


def _is_bundle(folder: Path) -> bool:
    """Whether a folder contains the configuration of an XTTS, or a vocabulary and no configuration."""
    path = folder / "config.json"
    if not path.is_file():
        return (folder / VOCABULARY_FILE).is_file()
    try:
        table = read_settings(path)
    except ConfigError:
        return False
    return is_coqui(table) or is_ours(table)


def _settings_of(checkpoint: Checkpoint) -> tuple[Mapping[str, Any] | None, str]:
    """The configuration beside the weights, or that in their file; and its name in messages."""
    if checkpoint.config is not None:
        return checkpoint.config, str(checkpoint.config_path or "the configuration")
    inside = checkpoint.archive.metadata.get("config")
    return (inside if is_coqui(inside) else None), f"the configuration in {checkpoint.name}"


def _vocabulary(folder: Path, where: str) -> VocabularyIds:
    path = folder / VOCABULARY_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{VOCABULARY_FILE} is missing beside {where}, so that no text can be read. Copy it from the bundle of the "
            f"model, or of the model that was fine-tuned, to {folder}."
        )
    return read_vocabulary(path)


def _autoencoder(checkpoint: Checkpoint, prefix: str) -> tuple[InnerModel, DVAEConfig] | None:
    """The DVAE in the file itself or in `dvae.pth` beside it, and its configuration; `None` if there is none."""
    own = checkpoint.archive
    for start in autoencoders_in(own.tensors):
        if start == f"{prefix.removesuffix('xtts.')}dvae.":
            return InnerModel(own.source.path, DVAE_FAMILY, start.removesuffix(".")), _sizes(own, start)
    path = checkpoint.folder / DVAE_FILE
    if not path.is_file():
        return None
    with open_archive(path) as archive:
        prefixes = autoencoders_in(archive.tensors)
        if len(prefixes) != 1:
            raise CheckpointError(
                f"{path} contains {len(prefixes)} DVAEs; it should contain one (tensors below encoder, codebook and "
                "decoder). Restore the file, or remove it: only training needs it."
            )
        return InnerModel(path, DVAE_FAMILY), _sizes(archive, prefixes[0])


def _sizes(archive: Any, prefix: str) -> DVAEConfig:
    infos = archive.tensors.infos()
    shapes = {name.removeprefix(prefix): info.shape for name, info in infos.items() if name.startswith(prefix)}
    return network_sizes(shapes, archive.source.path.name)


def _check_autoencoder(config: XTTSConfig, dvae: DVAEConfig | None, folder: Path) -> None:
    """Raise `CheckpointError` for a DVAE whose codes are not those of the language model."""
    if dvae is not None and (dvae.codes, dvae.mel.num_mels) != (config.gpt.codes, config.dvae.mel.num_mels):
        raise CheckpointError(
            f"The DVAE beside the weights, in {folder}, has {dvae.codes} codes and {dvae.mel.num_mels} mel bands; it "
            f"should have {config.gpt.codes} and {config.dvae.mel.num_mels}, those of the language model. Use the file "
            "of these weights, or remove it: only training needs it."
        )


def _voices(folder: Path, config: XTTSConfig) -> dict[str, StoredVoice]:
    path = folder / SPEAKERS_FILE
    return read_speakers(path, config) if path.is_file() else {}


def _same_voices(path: Path, voices: Mapping[str, StoredVoice], config: XTTSConfig) -> bool:
    found = read_speakers(path, config)
    return found.keys() == voices.keys() and all(
        np.array_equal(getattr(found[name], part), getattr(voice, part))
        for name, voice in voices.items()
        for part in ("conditioning", "speaker")
    )


def _of_another_model(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} belongs to another model. Export to another folder, or remove the file.")


def _statistics_hint(checkpoint: Checkpoint, prefix: str) -> tuple[str, ...]:
    """A remark about a `mel_stats.pth` that differs from the statistics in the weights."""
    name = prefix + STATISTICS
    if name not in checkpoint.archive.tensors:
        return ()
    inside = np.asarray(checkpoint.archive.tensors[name], np.float32)
    difference = statistics_difference(checkpoint.folder, inside)
    if difference is None or difference <= _TOLERANCE:
        return ()
    return (
        f"{STATISTICS_FILE} differs from the statistics of mel bands in {checkpoint.name} by {difference:.1%}; the "
        "networks of references use those in the weights",
    )


def _version(config: XTTSConfig) -> str:
    """The name of a preset with the sizes of `config`, or a description."""
    shapes = xtts_shapes(config)
    for name, preset in PRESETS.items():
        if xtts_shapes(preset) == shapes:
            return name.replace("_", ".")
    gpt = config.gpt
    return f"{gpt.layers} layers, {gpt.channels} channels, {gpt.codes} codes"


def _contents(
    config: XTTSConfig, vocabulary: VocabularyIds, voices: Mapping[str, StoredVoice], dvae: bool, folder: Path
) -> dict[str, str]:
    """What was found beside the weights, for the summary of the import."""
    found = {"language": ", ".join(config.languages), "vocab": f"{vocabulary.size} text ids"}
    found["voices"] = f"{len(voices)}: {list_names(voices)}" if voices else f"none: no {SPEAKERS_FILE} in {folder}"
    found["DVAE"] = f"in {DVAE_FOLDER}" if dvae else f"none, which only training needs: no {DVAE_FILE} in {folder}"
    return found
