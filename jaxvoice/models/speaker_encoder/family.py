"""The `Family` of speaker encoders, and the layouts of their released checkpoints."""

import abc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from jaxvoice.config import differences, from_dict
from jaxvoice.models.checkpoint_layout import (
    UNKNOWN_LICENCE,
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    choose_part,
    plan_weights,
)
from jaxvoice.models.family import Family
from jaxvoice.models.speaker_encoder.config import (
    PRESETS,
    RESEMBLYZER_MEL,
    GE2EConfig,
    ResNetConfig,
    SpeakerEncoderConfig,
)
from jaxvoice.models.speaker_encoder.released_settings import (
    SETTINGS_FILE,
    WEIGHTS_FILE,
    coqui_config,
    read_coqui,
    settings_of,
)
from jaxvoice.models.speaker_encoder.weights import (
    COUNT,
    NAME,
    RULES,
    Kind,
    dtypes,
    encoder_shapes,
    encoders_in,
    ignored,
    is_whole_model,
    network_sizes,
)
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.foreign_settings import Settings
from jaxvoice.weights.rules import Plan, Spec
from jaxvoice.weights.schemas import migrate


class _EncoderLayout(CheckpointLayout, abc.ABC):
    """Checkpoints of speaker encoders, whose arrays have our names."""

    exports = True
    kinds: ClassVar[tuple[Kind, ...]]
    licence: ClassVar[str] = UNKNOWN_LICENCE

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a speaker encoder, and no other networks."""
        names = checkpoint.archive.tensors
        return any(is_whole_model(names, prefix) for prefix in self._encoders(checkpoint))

    def contains(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a speaker encoder, perhaps as a part of another model."""
        return bool(self._encoders(checkpoint))

    def _encoders(self, checkpoint: Checkpoint) -> dict[str, Kind]:
        return encoders_in(checkpoint.archive.tensors, self.kinds)

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of a speaker encoder, with the buffers of its front end.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several encoders, or if its tensors
        contradict the configuration.
        """
        archive, where = checkpoint.archive, checkpoint.name
        encoders = self._encoders(checkpoint)
        prefix = choose_part(list(encoders), options.part, where, kind="speaker encoder")
        if not is_whole_model(archive.tensors, prefix):
            options = replace(options, part=prefix.removesuffix(".") or None)
        infos = archive.tensors.infos()
        shapes = {name.removeprefix(prefix): info.shape for name, info in infos.items() if name.startswith(prefix)}
        table, path = self._settings(checkpoint)
        if table is not None and table.get("family") == NAME:
            config = from_dict(
                SpeakerEncoderConfig, migrate("model folder", table, str(path)).table["config"], str(path)
            )
            assumed = ()
        else:
            config, assumed = self._released(checkpoint, shapes, encoders[prefix], prefix)
        wanted = encoder_shapes(config)
        weights = plan_weights(
            archive, wanted, RULES, options, prefix=prefix, ignore=ignored(prefix), dtypes=dtypes(wanted)
        )
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=_version(config),
            origin=self.name,
            licence=self.licence,
            layout=weights.layout,
            differs=weights.differs,
            assumed=assumed,
            config_file=None if path in (None, checkpoint.config_path) else path.name,
            patterns=weights.patterns,
            hints=weights.hints,
        )

    def _settings(self, checkpoint: Checkpoint) -> tuple[Mapping[str, Any] | None, Path | None]:
        """The settings of the encoder, and the file that contains them."""
        return checkpoint.config, checkpoint.config_path

    @abc.abstractmethod
    def _released(
        self, checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], kind: Kind, prefix: str
    ) -> tuple[SpeakerEncoderConfig, tuple[str, ...]]:
        """The configuration of an encoder that jaxvoice did not export, and assumptions."""

    def setting_differences(self, found: SpeakerEncoderConfig, config: SpeakerEncoderConfig) -> list[str]:
        """The level of recordings and the settings of the network, which the tensors do not contain."""
        return [line for line in differences(found, config) if not line.startswith("mel")]

    def plan_export(
        self, config: SpeakerEncoderConfig, layout: FileLayout, given: Mapping[str, Spec], where: str
    ) -> Plan:
        """The encoder under the names of the imported file.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        shapes = encoder_shapes(config)
        counts = {name: "int64" for name in shapes if name.endswith(f".{COUNT}")}
        return plan_export(shapes, RULES, replace(layout, dtypes={**counts, **layout.dtypes}), given, where)


class CoquiLayout(_EncoderLayout):
    """Speaker encoders of coqui-ai/TTS (`model_se.pth` with `config_se.json`), also those in XTTS and VITS."""

    name = "coqui-ai/TTS"
    looks_for = "only a speaker encoder: tensors below layer1 to layer4, attention and fc, or layers.0.lstm"
    export_layout = FileLayout(nesting=("model",))
    config_file = SETTINGS_FILE
    kinds = ("resnet", "lstm")

    def folder_advice(self, folder: Path) -> str:
        """The path of a speaker encoder, which is imported by itself."""
        path = folder / WEIGHTS_FILE
        return f"It contains a speaker encoder; pass {path} to import it." if path.is_file() else ""

    def expresses(self, config: SpeakerEncoderConfig) -> bool:
        """Whether `config` is an encoder of coqui's."""
        return not isinstance(config.network, GE2EConfig)

    def _settings(self, checkpoint: Checkpoint) -> tuple[Mapping[str, Any] | None, Path | None]:
        return settings_of(checkpoint)

    def _released(
        self, checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], kind: Kind, prefix: str
    ) -> tuple[SpeakerEncoderConfig, tuple[str, ...]]:
        table, path = settings_of(checkpoint)
        settings, file = None if table is None else Settings(table), SETTINGS_FILE if path is None else path.name
        return read_coqui(settings, checkpoint.archive.tensors, shapes, kind, prefix, checkpoint.name, file)

    def released_config(self, config: SpeakerEncoderConfig) -> dict[str, Any]:
        """The keys of coqui's `config_se.json`; empty for an encoder that reads mels."""
        return coqui_config(config)


class ResemblyzerLayout(_EncoderLayout):
    """The `pretrained.pt` of resemble-ai/Resemblyzer."""

    name = "resemble-ai/Resemblyzer"
    looks_for = "lstm, linear and similarity_weight"
    export_layout = FileLayout(nesting=("model_state",))
    kinds = ("ge2e",)
    licence = "Apache License 2.0, if these are the weights in the package resemblyzer"

    def expresses(self, config: SpeakerEncoderConfig) -> bool:
        """Whether `config` is an encoder of Resemblyzer's."""
        return isinstance(config.network, GE2EConfig)

    def _encoders(self, checkpoint: Checkpoint) -> dict[str, Kind]:
        names = list(checkpoint.archive.tensors)
        if (checkpoint.config or {}).get("family") == NAME:
            # Exports lack the scale and bias of the training loss.
            names += [name.removesuffix("linear.weight") + "similarity_weight" for name in names]
        return encoders_in(names, self.kinds)

    def _released(
        self, checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], kind: Kind, prefix: str
    ) -> tuple[SpeakerEncoderConfig, tuple[str, ...]]:
        network, bands = network_sizes(shapes, kind, checkpoint.name)
        config = replace(PRESETS["resemblyzer"], network=network, mel=replace(RESEMBLYZER_MEL, num_mels=bands))
        return config, ("the front end of Resemblyzer: files contain no settings",)


def _version(config: SpeakerEncoderConfig) -> str:
    network = config.network
    known = {"hasp": "H/ASP", "lstm": "LSTM", "resemblyzer": "GE2E"}
    name = next((title for preset, title in known.items() if PRESETS[preset].network == network), None)
    kind = "ResNet-SE" if isinstance(network, ResNetConfig) else "recurrent"
    return f"{name or kind}, {network.dim} components"


def _build(config: SpeakerEncoderConfig, *, key: Any) -> Any:
    from jaxvoice.models.speaker_encoder.embedding import build

    return build(config, key=key)


def _example_inputs(config: SpeakerEncoderConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Half a second of noise, or mels of noise."""
    import jax

    if config.reads_audio:
        return (0.1 * jax.random.normal(key, (config.sample_rate // 2,)),), {}
    return (jax.random.normal(key, (50, config.mel.num_mels)),), {}


FAMILY = Family(
    name=NAME,
    config=SpeakerEncoderConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:SpeakerEncoder",
    layouts=(CoquiLayout(), ResemblyzerLayout()),
    fewest_steps=50,
)
