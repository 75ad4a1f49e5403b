"""The `Family` of VITS and YourTTS, and the layouts of coqui's checkpoints and of the original's."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, parse_json, read_text
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import (
    FLOAT,
    UNKNOWN_LICENCE,
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    choose_part,
    plan_weights,
)
from jaxvoice.models.family import Family
from jaxvoice.models.speaker_encoder.released_settings import WEIGHTS_FILE as ENCODER_FILE
from jaxvoice.models.vits.config import PRESETS, VITSConfig
from jaxvoice.models.vits.released_config import MOST_BYTES, FoundNetwork, find_network
from jaxvoice.models.vits.released_settings import is_coqui
from jaxvoice.models.vits.speakers import ENCODER_FOLDER, describe_names, folder_contents, speakers_beside
from jaxvoice.models.vits.weights import (
    DISCRIMINATOR_RULES,
    DISCRIMINATORS,
    NAME,
    RULES,
    Place,
    Shapes,
    Source,
    discriminator_shapes,
    ignored,
    networks_in,
    renamed,
    vits_shapes,
)
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.rules import Plan, Spec, make_plan
from jaxvoice.weights.tensor_conversions import SPELLINGS
from jaxvoice.weights.training_files import TrainingPart, TrainingPlan

_YOURTTS_LICENCE = "released YourTTS: CC BY-NC-ND 4.0, not for commercial use; others: ask whoever trained them"
_ORIGINAL_LICENCE = f"{UNKNOWN_LICENCE} (the code of jaywalnut310/vits has the MIT License)"
_GENERATOR_FILE = re.compile(r"G_([0-9]+)\.pth", re.IGNORECASE)
_WEIGHT_FILES = ("model_file.pth", "model_file.pth.tar", "model.pth", "best_model.pth")


class _VITSLayout(CheckpointLayout):
    """What the layouts of both implementations share."""

    source: Source
    exports = True

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a VITS with the names of the implementation, below any prefix."""
        return any(place.source == self.source for place in networks_in(checkpoint.archive.tensors))

    def _place(self, checkpoint: Checkpoint, part: str | None) -> Place:
        places = {place.prefix: place for place in networks_in(checkpoint.archive.tensors)}
        decoder = "dec" if self.source == "original" else "waveform_decoder"
        hint = f". The decoder alone can be imported with --family hifigan --part {decoder}"
        return places[choose_part(list(places), part, checkpoint.name, kind="VITS", hint=hint)]

    def _plan(self, checkpoint: Checkpoint, options: ImportOptions, found: FoundNetwork, **about: Any) -> ImportPlan:
        archive, config = checkpoint.archive, found.config
        prefix = found.place.prefix
        weights = plan_weights(
            archive, vits_shapes(config), RULES[self.source], options, prefix=prefix, ignore=ignored(prefix)
        )
        side_files = speakers_beside(checkpoint.folder, config)
        encoder = checkpoint.folder / ENCODER_FILE
        hints = weights.hints
        if config.reads_vectors:
            hints += (
                "voices of recordings need the speaker encoder of the model: import "
                f"{encoder if encoder.is_file() else ENCODER_FILE} to the folder {ENCODER_FOLDER} inside the model "
                "folder",
            )
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=_version(config),
            origin=self.name,
            layout=weights.layout,
            differs=weights.differs,
            assumed=found.assumed,
            patterns=weights.patterns,
            hints=hints,
            contents=describe_names(config, side_files, checkpoint.folder),
            side_files=side_files,
            **about,
        )

    def released_files(self, config: VITSConfig, folder: Path, beside: Path) -> dict[str, bytes]:
        """The ids of languages and speakers, or the vectors of speakers, in coqui's files."""
        from jaxvoice.models.vits.released_export import side_files

        return side_files(config, folder, beside)


class CoquiVITSLayout(_VITSLayout):
    """Checkpoints of coqui-ai/TTS: VITS and YourTTS, with discriminators or without."""

    name = "coqui-ai/TTS, VITS"
    source = "coqui"
    looks_for = "VITS or YourTTS of coqui: tensors below text_encoder, posterior_encoder, flow and waveform_decoder"
    export_layout = FileLayout(nesting=("model",))
    exports_training = True

    def main_file(self, folder: Path) -> Path | None:
        """The weights in a folder with the configuration of a VITS of coqui."""
        files, path = _weight_files(folder), folder / "config.json"
        if len(files) != 1 or not path.is_file():
            return None
        try:
            table = parse_json(path, read_text(path, MOST_BYTES))
            exported = isinstance(table, Mapping) and table.get("family") == NAME
            return files[0] if exported or is_coqui(table) else None
        except ConfigError:
            return None

    def folder_advice(self, folder: Path) -> str:
        """What to do without a configuration, or with several weight files."""
        files = _weight_files(folder)
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            return f"It contains several weight files, {names}; pass the path of one of them, such as {files[0]}."
        if files and not (folder / "config.json").is_file():
            return (
                f"config.json is missing beside {files[0].name}; restore it, or pass the path of the weight file, "
                f"{files[0]}, with its configuration (--config)."
            )
        return ""

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the network, of its speakers and languages, and of discriminators if there are any.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several networks, if tensors, configuration
        and files beside it contradict each other, or if there is no configuration.
        """
        found = find_network(checkpoint, self._place(checkpoint, options.part))
        archive, prefix = checkpoint.archive, found.place.prefix
        training = _plan_discriminators(archive, prefix, found.config, self.source)
        plan = self._plan(checkpoint, options, found, licence=_licence(found.config))
        if training is None:
            return plan
        return replace(plan, training=(archive, training))

    def released_config(self, config: VITSConfig) -> dict[str, Any]:
        """The `config.json` of coqui."""
        from jaxvoice.models.vits.released_export import coqui_config

        return coqui_config(config)

    def plan_export(self, config: VITSConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The network under coqui's names, and the discriminators if the model folder has any.

        coqui's `Vits` loads the file with `strict=True`, without discriminators if `init_discriminator` is false.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        shapes, rules = vits_shapes(config), RULES["coqui"]
        if any(name.startswith(DISCRIMINATORS) for name in given):
            shapes |= discriminator_shapes(config)
            rules += DISCRIMINATOR_RULES["coqui"]
        return plan_export(shapes, rules, layout, given, where)


class OriginalVITSLayout(_VITSLayout):
    """Checkpoints of jaywalnut310/vits: `G_N.pth`, with the discriminators in `D_N.pth`."""

    name = "jaywalnut310/vits"
    source = "original"
    looks_for = "the original VITS: tensors below enc_p, enc_q, flow and dec"
    export_layout = FileLayout(nesting=("model",))

    def folder_advice(self, folder: Path) -> str:
        """The path of the newest `G_N.pth`."""
        steps = {int(found[1]): path for path in folder.iterdir() if (found := _GENERATOR_FILE.fullmatch(path.name))}
        if not steps:
            return ""
        config = "" if (folder / "config.json").is_file() else " with its configuration (--config)"
        return f"It contains checkpoints of VITS; pass the path of one, such as {steps[max(steps)]}{config}."

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the network and its speakers.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several networks, or if tensors,
        configuration and files beside it contradict each other.
        """
        found = find_network(checkpoint, self._place(checkpoint, options.part))
        return self._plan(checkpoint, options, found, licence=_ORIGINAL_LICENCE)

    def training_file(self, path: Path) -> Path | None:
        """The file `D_N.pth` in the folder of `G_N.pth`."""
        found = _GENERATOR_FILE.fullmatch(path.name)
        file = path.with_name(f"D_{found[1]}{path.suffix}") if found else None
        return file if file is not None and file.is_file() else None

    def plan_training(self, archive: Archive, imported: ImportPlan) -> TrainingPlan:
        """Plan the import of the discriminators in a `D_` file.

        **Raises:** `CheckpointError` if they are not those of the release.
        """
        marks = [
            name.removesuffix("0.conv_post.bias") for name in archive.tensors if name.endswith(".0.conv_post.bias")
        ]
        prefix = next((mark.removesuffix("discriminators.") for mark in marks if mark.endswith("discriminators.")), "")
        training = _plan_discriminators(archive, prefix, imported.config, self.source)
        if training is None:
            raise CheckpointError(
                f"{archive.source.path.name} contains no discriminators of VITS with the periods "
                f"{format_value(imported.config.discriminators.periods)}; it should be the D_ file of the weights. "
                "Pass it with --training, or omit it with --no-training."
            )
        return training

    def released_config(self, config: VITSConfig) -> dict[str, Any]:
        """The `config.json` of jaywalnut310/vits."""
        from jaxvoice.models.vits.released_export import original_config

        return original_config(config)

    def plan_export(self, config: VITSConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The network under the names of the original.

        **Raises:** `ConfigError` for a model of several languages, which the original does not have; `CheckpointError`
        for tensors that are not those of `config`.
        """
        if config.languages:
            raise ConfigError("The original VITS has no language embeddings; export the model in coqui's layout.")
        rules = [rule.reversed() for rule in RULES["original"]]
        wanted = {name: Spec(shape, FLOAT) for name, shape in renamed(_spelled(config, layout), rules).items()}
        return make_plan(given, wanted, rules, where=where, advice="Copy the model folder again")


def _weight_files(folder: Path) -> list[Path]:
    return [folder / name for name in _WEIGHT_FILES if (folder / name).is_file()]


def _spelled(config: VITSConfig, layout: FileLayout) -> Shapes:
    """The shapes of the network with weight norm in the form of `layout`."""
    spelled: Shapes = {}
    for name, shape in vits_shapes(config).items():
        layer, _, last = name.rpartition(".")
        parts = SPELLINGS["weight"][layout.norms_of.get(layer, layout.norms)]
        if last == "weight_g" and len(parts) == 1:
            continue
        last = {"weight_g": parts[0], "weight_v": parts[-1]}.get(last, last)
        spelled[f"{layer}.{last}"] = shape
    return spelled


def _licence(config: VITSConfig) -> str:
    """The licence of weights of coqui, which are those of YourTTS only with its vectors of speakers."""
    yourtts = config.reads_vectors and config.speaker_channels == PRESETS["yourtts"].speaker_channels
    return _YOURTTS_LICENCE if yourtts else UNKNOWN_LICENCE


def _version(config: VITSConfig) -> str:
    """The name of a preset with the sizes of `config`, or a description."""
    shapes = vits_shapes(config)
    for name in ("ljspeech", "vctk", "yourtts", "yourtts_resblock1"):
        if vits_shapes(PRESETS[name]) == shapes:
            return name
    voices = f"{config.num_speakers} speakers" if config.num_speakers else "one voice"
    if config.reads_vectors:
        voices = f"speaker vectors of {config.speaker_channels}"
    return f"{config.channels} channels, {config.text.layers} text layers, {voices}"


def _plan_discriminators(archive: Archive, prefix: str, config: VITSConfig, source: Source) -> TrainingPlan | None:
    """The plan of `training.safetensors` with the discriminators below `prefix`; `None` if there are none."""
    start = prefix + ("disc." if source == "coqui" else "discriminators.")
    infos = archive.tensors.infos()
    names = {name.removeprefix(prefix): name for name in infos if name.startswith(start)}
    if not names:
        return None
    wanted = {name: Spec(shape, FLOAT) for name, shape in discriminator_shapes(config).items()}
    plan = make_plan(
        {short: Spec(infos[name].shape, infos[name].dtype) for short, name in names.items()},
        wanted,
        DISCRIMINATOR_RULES[source],
        where=archive.source.path.name,
    )
    return TrainingPlan(config, {"content": "discriminators"}, (), (TrainingPart(plan, "", names),))


def _build(config: VITSConfig, *, key: Any) -> Any:
    from jaxvoice.models.vits.network import VITS

    return VITS(config, key=key)


def _example_inputs(config: VITSConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Ids of a few symbols, noise of their durations and of a few frames, a speaker and a language."""
    import jax
    from jax import numpy as jnp

    tokens, frames = 9, 12
    token_key, duration_key, noise_key, speaker_key = jax.random.split(key, 4)
    speaker = None
    if config.num_speakers:
        speaker = jnp.zeros((), jnp.int32)
    elif config.speaker_channels:
        speaker = jax.random.normal(speaker_key, (config.speaker_channels,))
    return (
        jax.random.randint(token_key, (tokens,), 0, config.symbols.size),
        jax.random.normal(duration_key, (tokens, 2)),
        jax.random.normal(noise_key, (frames, config.channels)),
        speaker,
        jnp.zeros((), jnp.int32) if config.languages else None,
    ), {}


FAMILY = Family(
    name=NAME,
    config=VITSConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:VITSSynthesizer",
    layouts=(CoquiVITSLayout(), OriginalVITSLayout()),
    fewest_steps=500,
    folder_contents=folder_contents,
    inner_models=(ENCODER_FOLDER,),
)
