"""The `Family` of the Conformer, and the layout of NeMo's checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, CheckpointLayout, ImportOptions, ImportPlan, plan_weights
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.models.conformer.weights import (
    COUNT,
    EXPORT_RULES,
    NAME,
    NemoSettings,
    Place,
    conformer_shapes,
    dtypes,
    find_encoder,
    geometry,
    nemo_config,
    nemo_table,
    read_nemo_settings,
)
from jaxvoice.models.family import Family
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.foreign_settings import parse_yaml
from jaxvoice.weights.rules import Plan, Spec

_YAML = "model_config.yaml"
_MOST_SYMBOLS = 256  # the longest list in a configuration


class NemoLayout(CheckpointLayout):
    """`.nemo` files of Conformer encoders with CTC or a transducer, and state dicts of these models or encoders."""

    name = "NVIDIA NeMo"
    looks_for = "a Conformer encoder: tensors below pre_encode and layers.N.self_attn, and no other model"
    exports = True

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains one model with a Conformer encoder, below any prefix."""
        return find_encoder(checkpoint.archive.tensors) is not None

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the encoder and a CTC decoder.

        **Raises:** `CheckpointError` or `ConfigError` for encoders that are not supported, and if the tensors
        contradict the configuration.
        """
        archive, where = checkpoint.archive, checkpoint.name
        place = find_encoder(archive.tensors)
        assert place is not None
        shapes = {name: info.shape for name, info in archive.tensors.infos().items()}
        settings, table_name = _settings(checkpoint)
        sizes = geometry(shapes, place.encoder, where)
        config, assumed = _config(sizes, settings, table_name, where)
        config, noted = _with_classes(config, place, shapes, settings)
        wanted = conformer_shapes(config)
        weights = plan_weights(
            archive,
            wanted,
            place.rules,
            options,
            prefix=place.prefix,
            ignore=place.ignored(),
            dtypes=dtypes(wanted),
        )
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=f"{config.layers} layers of {config.dim} channels",
            origin=self.name,
            layout=weights.layout,
            differs=weights.differs,
            assumed=(*assumed, *noted),
            patterns=weights.patterns,
            hints=weights.hints,
        )

    def released_config(self, config: ConformerConfig) -> dict[str, Any]:
        """The settings of NeMo's `model_config.yaml`, if they can express the model."""
        return nemo_config(config)

    def plan_export(self, config: ConformerConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The model under the names of the imported file; by default those of a `.nemo` file.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        shapes = conformer_shapes(config)
        layers = [name.removesuffix(f".{COUNT}") for name in dtypes(shapes)]
        counts = {f"{layout.aliases.get(layer, layer)}.{COUNT}": "int64" for layer in layers}
        layout = replace(layout, dtypes={**counts, **layout.dtypes})
        return plan_export(shapes, EXPORT_RULES, layout, given, where)


def _settings(checkpoint: Checkpoint) -> tuple[NemoSettings | None, str]:
    """The settings of the configuration beside the file or in it, and the name of the configuration in messages."""
    if checkpoint.config is not None:
        table, name = nemo_table(checkpoint.config), str(checkpoint.config_path or "the configuration")
        if table is not None:
            return read_nemo_settings(table), name
    text, name = checkpoint.archive.metadata.get(_YAML), f"{_YAML} in {checkpoint.name}"
    if isinstance(text, str) and text.strip():
        table = nemo_table(parse_yaml(text, name))
        if table is None:
            raise ConfigError(f"{name} has no encoder.d_model; it should be the configuration of a Conformer.")
        return read_nemo_settings(table), name
    return None, "the configuration"


def _config(
    sizes: Mapping[str, int], settings: NemoSettings | None, table_name: str, where: str
) -> tuple[ConformerConfig, tuple[str, ...]]:
    """The configuration of the encoder, and assumptions."""
    own: dict[str, Any] = {name: size for name, size in sizes.items() if name != "bands"}
    if settings is None:
        config = ConformerConfig(**own)
        assumed = ("the front end and xscaling of NVIDIA's models, and no padding: there is no configuration",)
    else:
        for name, (option, value) in settings.sizes.items():
            if own[name] != value:
                raise CheckpointError(
                    f"encoder.{option} gives {name}={value} in {table_name}, but the tensors of {where} have "
                    f"{name}={own[name]}. Pass the configuration that belongs to the weights with --config."
                )
        config = ConformerConfig(**own, **settings.fields)
        if settings.version is None:
            assumed = ("the padding of NeMo 2.5 and later: the configuration has no nemo_version",)
        else:
            rule = "2.5 and later" if config.nemo_release == "2.6" else "2.4 and earlier"
            assumed = (f"the padding of NeMo {rule}: the configuration was written by {settings.version}",)
    bands = -(-config.mel.num_mels // 4)
    if sizes["bands"] != bands:
        raise CheckpointError(
            f"The subsampling in {where} has {sizes['bands']} bands; it should have {bands} for {config.mel.num_mels} "
            "mel bands. Pass the configuration that belongs to the weights with --config."
        )
    return config, assumed


def _with_classes(
    config: ConformerConfig, place: Place, shapes: Mapping[str, tuple[int, ...]], settings: NemoSettings | None
) -> tuple[ConformerConfig, tuple[str, ...]]:
    """`config` with the classes of the CTC decoder and their symbols, and a note if the symbols are unknown."""
    if place.head is None:
        return config, ()
    classes = shapes[f"{place.head}.decoder_layers.0.weight"][0]
    symbols = () if settings is None else settings.symbols
    if symbols and len(symbols) <= _MOST_SYMBOLS and classes in (len(symbols), len(symbols) + 1):
        return replace(config, classes=classes, symbols=symbols), ()
    reason = f"{len(symbols)} symbols for {classes} classes" if symbols else "no vocabulary in the configuration"
    return replace(config, classes=classes), (f"unknown symbols of the recogniser: {reason}",)


def _build(config: ConformerConfig, *, key: Any) -> Any:
    from jaxvoice.models.conformer.network import Conformer, with_state

    model = Conformer(config, key=key)
    return with_state(model, model.init_state())


def _example_inputs(config: ConformerConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Normalised log-mel features."""
    import jax

    return (jax.random.normal(key, (24, config.mel.num_mels)),), {}


FAMILY = Family(
    name=NAME,
    config=ConformerConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:ContentEncoder",
    layouts=(NemoLayout(),),
    fewest_steps=200,  # minutes of training on a CPU, after which the phonemes of synthetic voices are recognised
)
