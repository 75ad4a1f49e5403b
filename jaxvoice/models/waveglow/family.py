"""The `Family` of WaveGlow, and the layout of its released checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxvoice.config import format_value, from_dict
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
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
from jaxvoice.models.waveglow.config import PRESETS, WaveGlowConfig
from jaxvoice.models.waveglow.older_layouts import divided, joined_tensors
from jaxvoice.models.waveglow.weights import (
    NAME,
    RULES,
    check_values,
    geometry,
    ignored,
    networks_in,
    rules_for,
    waveglow_shapes,
)
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, detect_layout, plan_export
from jaxvoice.weights.foreign_settings import Settings
from jaxvoice.weights.rules import Plan, Spec
from jaxvoice.weights.schemas import migrate

_LICENCE = f"{UNKNOWN_LICENCE} (the code of NVIDIA/waveglow has the BSD 3-Clause License)"
_SIZES = {
    "n_flows": "flows",
    "n_group": "group",
    "n_early_every": "early_every",
    "n_early_size": "early_size",
    "n_mel_channels": "mels",
}
_WN_SIZES = {"n_layers": "layers", "n_channels": "channels", "kernel_size": "kernel_size"}


class WaveGlowLayout(CheckpointLayout):
    """Checkpoints of NVIDIA/waveglow, pickled modules included, of NVIDIA/DeepLearningExamples, and state dicts."""

    name = "NVIDIA/waveglow"
    looks_for = "a WaveGlow: tensors below upsample, WN and convinv"
    exports = True
    export_layout = FileLayout()

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a WaveGlow, below any prefix."""
        return bool(networks_in(checkpoint.archive.tensors))

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the network, with its sizes and mel contract.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several networks, if the tensors contradict
        the configuration, or if the values cannot be those of an invertible network.
        """
        archive, where = checkpoint.archive, checkpoint.name
        prefix = choose_part(networks_in(archive.tensors), options.part, where, kind="WaveGlow")
        stored = archive.tensors
        archive = archive.with_tensors(joined_tensors(stored))
        shapes = {name: info.shape for name, info in archive.tensors.infos().items()}
        config, assumed = _config(checkpoint, geometry(shapes, prefix, where))
        weights = plan_weights(archive, waveglow_shapes(config), RULES, options, prefix=prefix, ignore=ignored(prefix))
        check_values(archive.tensors, config, prefix)
        layout, differs = weights.layout, weights.differs
        if archive.tensors is not stored:
            # The nesting is that of the tensors that were not joined.
            kept = tuple(row for row in weights.plan.rows if set(row.sources) <= set(stored))
            found, differs = detect_layout(archive, prefix, replace(weights.plan, rows=kept))
            layout = replace(layout, nesting=found.nesting, prefix=found.prefix)
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=_version(config),
            origin="NVIDIA/waveglow or NVIDIA/DeepLearningExamples",
            licence=_LICENCE,
            layout=layout,
            differs=differs,
            assumed=assumed,
            patterns=weights.patterns,
            hints=weights.hints,
        )

    def released_config(self, config: WaveGlowConfig) -> dict[str, Any]:
        """The `config.json` of NVIDIA/waveglow, if it can express the network and its mel contract."""
        mel, released = config.mel, WaveGlowConfig()
        front_end = replace(mel, sample_rate=22050, n_fft=1024, win_length=1024, fmin=0.0, fmax=8000.0)
        if front_end != WAVEGLOW_MEL or config.upsample_kernel != released.upsample_kernel:
            return {}
        names = {"sampling_rate": mel.sample_rate, "filter_length": mel.n_fft, "hop_length": mel.hop_length}
        names |= {"win_length": mel.win_length, "mel_fmin": mel.fmin, "mel_fmax": mel.fmax}
        sizes = {theirs: getattr(config, ours) for theirs, ours in _SIZES.items() if ours != "mels"}
        coupling = {theirs: getattr(config, ours) for theirs, ours in _WN_SIZES.items()}
        return {
            "data_config": names,
            "waveglow_config": {"n_mel_channels": mel.num_mels, **sizes, "WN_config": coupling},
        }

    def plan_export(self, config: WaveGlowConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The network under the names of the imported file; by default, those of NVIDIA/waveglow.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        rules = rules_for(layout.aliases)
        return divided(plan_export(waveglow_shapes(config), rules, layout, given, where), config.layers)


def _version(config: WaveGlowConfig) -> str:
    known = next((name for name, preset in PRESETS.items() if replace(preset, mel=config.mel) == config), None)
    return known or f"{config.flows} flows of {config.channels} channels"


def _config(checkpoint: Checkpoint, sizes: Mapping[str, int]) -> tuple[WaveGlowConfig, tuple[str, ...]]:
    """The configuration of the network with these sizes, and assumptions."""
    mels = sizes["mels"]
    own = {name: size for name, size in sizes.items() if name != "mels"}
    table, where = checkpoint.config, str(checkpoint.config_path or "the configuration")
    if table is None:
        table, where = _config_inside(checkpoint.archive), f"the configuration in {checkpoint.name}"
    if table is not None and table.get("family") == NAME:
        config = from_dict(WaveGlowConfig, migrate("model folder", table, where).table.get("config", {}), where)
        given: dict[str, int] = {name: getattr(config, name) for name in own} | {"mels": config.mel.num_mels}
        _check_sizes({name: (name, size) for name, size in given.items()}, sizes, where, checkpoint.name)
        return config, ()
    mel = replace(WAVEGLOW_MEL, num_mels=mels)
    if table is None:
        return WaveGlowConfig(**own, mel=mel), (_assumption("no configuration", mel),)
    try:
        given_sizes, found = _read_released(Settings(table), mels)
    except ConfigError as failure:
        raise ConfigError(f"{where}: {failure}") from failure
    _check_sizes(given_sizes, sizes, where, checkpoint.name)
    if found is None:
        return WaveGlowConfig(**own, mel=mel), (_assumption("no data_config in the configuration", mel),)
    return WaveGlowConfig(**own, mel=found), ()


def _assumption(reason: str, mel: MelConfig) -> str:
    return (
        f"the mel contract of the release ({mel.sample_rate} Hz, {mel.hop_length} samples per frame, "
        f"{mel.fmin:g} to {mel.upper_frequency:g} Hz): {reason}"
    )


def _config_inside(archive: Archive) -> Mapping[str, Any] | None:
    """The sizes that NVIDIA/DeepLearningExamples writes to its checkpoints; `None` if there are none."""
    table = archive.metadata.get("config")
    return {"waveglow_config": table} if isinstance(table, Mapping) and "n_flows" in table else None


def _read_released(table: Settings, mels: int) -> tuple[dict[str, tuple[str, int]], MelConfig | None]:
    """The sizes in a configuration of the release, by our names with their names in the file, and the mel contract.

    The mel contract is `None` if the configuration has no `data_config`.
    """
    if "waveglow_config" not in table and "data_config" not in table:
        raise ConfigError(
            "this is not the configuration of a WaveGlow, which has waveglow_config and data_config. Pass the "
            "correct file with --config."
        )
    network = table.optional_table("waveglow_config")
    coupling = network.optional_table("WN_config")
    sizes = {ours: (theirs, network.integer(theirs)) for theirs, ours in _SIZES.items() if theirs in network}
    sizes |= {ours: (theirs, coupling.integer(theirs)) for theirs, ours in _WN_SIZES.items() if theirs in coupling}
    if "data_config" not in table:
        return sizes, None
    data = table.table("data_config")
    return sizes, MelConfig(
        sample_rate=data.integer("sampling_rate"),
        n_fft=data.integer("filter_length"),
        hop_length=data.integer("hop_length"),
        win_length=data.integer("win_length"),
        num_mels=mels,
        fmin=data.number("mel_fmin", 0.0),
        fmax=data.number("mel_fmax") if "mel_fmax" in data else None,
        magnitude_floor=0.0,
        center=True,
    )


def _check_sizes(given: Mapping[str, tuple[str, int]], sizes: Mapping[str, int], where: str, file: str) -> None:
    flows = sizes["flows"]
    for name, (theirs, value) in given.items():
        # Every interval that is not shorter than the network means no early outputs.
        same = name == "early_every" and min(value, flows) == min(sizes.get(name, flows), flows)
        if name in sizes and value != sizes[name] and not same:
            raise CheckpointError(
                f"{theirs} is {format_value(value)} in {where}, but the tensors of {file} have {sizes[name]}. Pass the "
                "configuration that belongs to the weights with --config."
            )


def _build(config: WaveGlowConfig, *, key: Any) -> Any:
    from jaxvoice.models.waveglow.network import WaveGlow

    return WaveGlow(config, key=key)


def _example_inputs(config: WaveGlowConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Random log-mels and noise."""
    import jax

    mel_key, noise_key = jax.random.split(key)
    mel = 2 * jax.random.normal(mel_key, (16, config.mel.num_mels)) - 4
    return (mel, jax.random.normal(noise_key, (16 * config.positions_per_frame, config.group))), {}


def _prepared(network: Any) -> Any:
    from jaxvoice.models.waveglow.network import precompute_inverses

    return precompute_inverses(network)


FAMILY = Family(
    name=NAME,
    config=WaveGlowConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:WaveGlowVocoder",
    layouts=(WaveGlowLayout(),),
    experiment="waveglow",
    prepared=_prepared,
)
