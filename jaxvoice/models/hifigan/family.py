"""The `Family` of HiFi-GAN, and the layout of its released checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import (
    FLOAT,
    UNKNOWN_LICENCE,
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    plan_weights,
)
from jaxvoice.models.family import Family
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.foreign_configs import jik876_config, read_foreign_config
from jaxvoice.models.hifigan.foreign_settings import ForeignConfig
from jaxvoice.models.hifigan.frozen_archives import FrozenGenerator, frozen_generator
from jaxvoice.models.hifigan.recognition import (
    Recognised,
    choose_generator,
    generators_in,
    recognise,
    recognise_discriminators,
)
from jaxvoice.models.hifigan.related_vocoders import (
    config_inside,
    contains_other_parts,
    is_inside_hifivc,
    is_inside_vits,
    is_inside_xtts,
    relative_of,
)
from jaxvoice.models.hifigan.weights import (
    DISCRIMINATOR_RULES,
    GENERATOR_RULES,
    NAME,
    TRAINING_STATE,
    generator_rules,
    generator_shapes,
    initial_value,
    is_vector,
    jik876_names,
    period_shapes,
    scale_shapes,
)
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Plan, Spec, make_plan
from jaxvoice.weights.torch_optimizers import metadata_step_count, optimizer_group, optimizer_step_count
from jaxvoice.weights.training_files import MOMENTS, TrainingPart, TrainingPlan, plan_moments

_GENERATOR_FILE = re.compile(r"g_([0-9]+)")
_DECAY = 0.999  # jik876/hifi-gan config_v1.json: lr_decay
_STATISTICS = ("mean", "scale")
_OPTIMIZERS = {"generator": "optim_g", "discriminators": "optim_d"}
_ORIGINS = {
    "jik876": "jik876/hifi-gan",
    "coqui": "coqui-ai/TTS, vocoder",
    "XTTS": "coqui-ai/TTS, XTTS",
    "VITS": "VITS",
    "HF VITS": "Hugging Face transformers, VITS",
    "Hugging Face": "Hugging Face transformers",
    "NeMo": "NVIDIA NeMo",
    "RVC": "RVC",
    "jaxvoice": "jaxvoice",
}
_LICENCES = {"XTTS": "Coqui Public Model License (not commercial), if these are the weights released by coqui"}


@dataclass(frozen=True)
class GeneratorImport(ImportPlan):
    """The import of a generator, with data for the import of its training state."""

    decay: float | None = None
    """Factor of the learning rates after each epoch, where the configuration states it."""
    parameters: tuple[str, ...] = ()
    """Names of the parameters without prefix, in file order, which is the order of torch's optimiser state."""


class HiFiGANLayout(CheckpointLayout):
    """Generators of jik876/hifi-gan (`g_` files, with the training state in `do_` files), coqui, VITS, XTTS, Hugging
    Face, NeMo, bshall and RVC."""

    name = "jik876/hifi-gan, coqui-ai/TTS, VITS"
    looks_for = "a generator: tensors below conv_pre, ups, resblocks and conv_post"
    exports = True
    export_layout = FileLayout(nesting=("generator",))

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether there is a generator, below any prefix or in the code of a frozen archive, except those of HiFi-VC
        and of a complete VITS or XTTS."""
        names = checkpoint.archive.tensors
        return self.contains(checkpoint) and not is_inside_vits(names) and not is_inside_xtts(names)

    def contains(self, checkpoint: Checkpoint) -> bool:
        """Whether there is a generator, also as a part of a VITS or XTTS, except that of HiFi-VC."""
        archive = checkpoint.archive
        if generators_in(archive.tensors):
            return not is_inside_hifivc(archive.tensors)
        return frozen_generator(archive) is not None

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> GeneratorImport:
        """Plan the import of the generator, with its sizes and mel contract.

        **Raises:** `CheckpointError` or `ConfigError` if the file contains several generators, or if the tensors
        contradict the configuration.
        """
        archive, where = checkpoint.archive, checkpoint.name
        frozen = None if generators_in(archive.tensors) else frozen_generator(archive)
        if frozen is not None:
            archive = archive.with_tensors(frozen.tensors(archive.tensors))
        infos = archive.tensors.infos()
        prefix = choose_generator(infos, options.part, where)
        shapes = {name.removeprefix(prefix): info.shape for name, info in infos.items() if name.startswith(prefix)}
        relative = relative_of(infos, prefix, shapes)
        if relative is not None:
            place = format_name(prefix.removesuffix(".")) if prefix else "the whole file"
            raise CheckpointError(f"{where} contains {relative} ({place}). It is not imported.")
        table, table_name = checkpoint.config, str(checkpoint.config_path or "the configuration")
        if table is None and (inside := config_inside(archive)) is not None:
            table, table_name = inside
        foreign = None if table is None else read_foreign_config(table, table_name)
        if frozen is not None:
            foreign = _with_frozen_sizes(foreign, frozen, where)
        if options.part is None and contains_other_parts(archive, foreign.kind if foreign else None):
            options = replace(options, part=prefix.removesuffix(".") or None)
        names = jik876_names(shapes)
        renamed = {names[name]: shape for name, shape in shapes.items()}
        found = recognise(renamed, foreign, released=_is_released(prefix), prefix=prefix, where=where)
        found, statistics = _with_statistics(found, archive, prefix, foreign)
        applied = bool(found.config.generator.input_mean)
        weights = plan_weights(
            archive,
            generator_shapes(found.config.generator),
            generator_rules(shapes),
            options,
            prefix=prefix,
            ignore=(*TRAINING_STATE, *statistics),
            initial=initial_value,
        )
        kind = foreign.kind if foreign else ("jik876" if _is_released(prefix) else "XTTS")
        ignored = weights.plan.ignored
        return GeneratorImport(
            config=found.config,
            parts=((archive, weights.plan),),
            version=found.version,
            origin=_ORIGINS[kind],
            licence=_LICENCES.get(kind, UNKNOWN_LICENCE),
            layout=weights.layout,
            differs=weights.differs,
            assumed=found.assumed,
            in_config={prefix + name: name for name in _STATISTICS} if applied else {},
            patterns=weights.patterns,
            hints=weights.hints,
            decay=foreign.decay if foreign else None,
            parameters=tuple(
                name.removeprefix(prefix) for name in infos if name.startswith(prefix) and name not in ignored
            ),
        )

    def training_file(self, path: Path) -> Path | None:
        """The file `do_N` in the folder of `g_N`."""
        found = _GENERATOR_FILE.fullmatch(path.name)
        file = path.with_name(f"do_{found[1]}") if found else None
        return file if file is not None and file.is_file() else None

    def plan_training(self, archive: Archive, imported: ImportPlan) -> TrainingPlan:
        """Plan the import of the discriminators and optimisers in `archive`, a `do_` file.

        **Raises:** `CheckpointError` if the optimisers do not match the networks.
        """
        assert isinstance(imported, GeneratorImport)
        where = archive.source.path.name
        specs = {name: Spec(info.shape, info.dtype) for name, info in archive.tensors.infos().items()}
        inside = {name: _without_module(name) for name in specs if name.startswith(("mpd.", "msd."))}
        shapes = {short: specs[name].shape for name, short in inside.items()}
        config, assumed = recognise_discriminators(shapes, where)
        wanted = {f"mpd.{name}": Spec(shape, FLOAT) for name, shape in period_shapes(config).items()}
        wanted |= {f"msd.{name}": Spec(shape, FLOAT) for name, shape in scale_shapes(config).items()}
        networks = make_plan(
            {short: specs[name] for name, short in inside.items()}, wanted, DISCRIMINATOR_RULES, where=where
        )
        originals = {short: name for name, short in inside.items()}
        parts = [TrainingPart(networks, "", originals)]
        # torch chains the scale discriminators' parameters before the period discriminators'.
        parameter_groups = {
            "generator": (imported.parameters, GENERATOR_RULES, imported.wanted),
            "discriminators": (
                [n for stack in ("msd.", "mpd.") for n in originals if n.startswith(stack) and not _is_buffer(n)],
                DISCRIMINATOR_RULES,
                {name: spec for name, spec in wanted.items() if not _is_buffer(name)},
            ),
        }
        about: dict[str, Any] = {name: metadata_step_count(archive, name, where) for name in ("steps", "epoch")}
        about["decay"] = _DECAY if imported.decay is None else imported.decay
        if imported.decay is None:
            assumed += (
                f"learning rates are multiplied by {_DECAY} after each epoch, as in the release (no config.json)",
            )
        used = set(inside)
        for name, (parameters, rules, targets) in parameter_groups.items():
            place = _OPTIMIZERS[name]
            numbers, settings = optimizer_group(archive, place, len(parameters), where)
            steps = {optimizer_step_count(archive, place, number, where) for number in numbers}
            used |= {f"{place}.state.{number}.step" for number in numbers}
            if len(steps) != 1:
                raise CheckpointError(
                    f"The parameters of {place} in {where} have different numbers of updates "
                    f"({format_value(sorted(steps))}); they should have the same number. Omit the file with "
                    "--no-training."
                )
            about[name] = {**settings, "updates": steps.pop()}
            for moment in MOMENTS:
                names = {
                    new: f"{place}.state.{number}.{moment}" for new, number in zip(parameters, numbers, strict=True)
                }
                used |= set(names.values())
                parts.append(plan_moments(names, specs, targets, rules, f"{name}.{moment}.", where))
        unknown = [name for name in specs if name not in used]
        if unknown:
            raise CheckpointError(
                f"{where} contains tensors that do not belong in a do_ file: "
                f"{', '.join(map(format_name, unknown[:5]))}. Omit the file with --no-training, or pass "
                "the correct file with --training."
            )
        return TrainingPlan(replace(imported.config, discriminators=config), about, assumed, tuple(parts))

    def released_config(self, config: HiFiGANConfig) -> dict[str, Any]:
        """The `config.json` of jik876/hifi-gan, if it can express the generator and its mel contract."""
        return jik876_config(config)

    def plan_export(self, config: HiFiGANConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The generator under the names of the imported file; by default, those of jik876's `g_` files.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        generator = config.generator
        plan = plan_export(generator_shapes(generator), generator_rules(layout.aliases.values()), layout, given, where)
        values = _statistics(config)
        if not values:
            return plan
        wanted = {name: Spec(array.shape, FLOAT) for name, array in values.items()}
        return replace(
            plan,
            wanted={**plan.wanted, **wanted},
            missing=(*plan.missing, *wanted),
            initial=lambda name, shape, other: values[name],
        )


def _statistics(config: HiFiGANConfig) -> dict[str, np.ndarray]:
    """The mean and scale of the input under their names in checkpoints; empty if the input is not normalised."""
    numbers = (config.generator.input_mean, config.generator.input_scale)
    return {name: np.asarray(one, np.float32) for name, one in zip(_STATISTICS, numbers, strict=True) if one}


def _with_statistics(
    found: Recognised, archive: Archive, prefix: str, foreign: ForeignConfig | None
) -> tuple[Recognised, tuple[Ignore, ...]]:
    """`found` with the mean and scale of the input in the file, and the reason for ignoring these tensors."""
    names = [prefix + name for name in _STATISTICS]
    if not all(name in archive.tensors for name in names):
        return found, ()
    pattern = "|".join(map(re.escape, names))
    if foreign is not None and not foreign.normalized:
        return found, (Ignore(pattern, "the configuration states that the input is not normalised"),)
    channels = found.config.generator.in_channels
    arrays = [np.asarray(archive.tensors[name], np.float32) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array.shape != (channels,) or not np.isfinite(array).all() or (name == names[1] and (array <= 0).any()):
            raise CheckpointError(
                f"{format_name(name)} has the shape {array.shape} and values from {array.min(initial=np.inf):g} to "
                f"{array.max(initial=-np.inf):g}; it should have one finite number for each of the {channels} input "
                "channels, and the scale should be positive. Download the file again."
            )
    mean, scale = (tuple(map(float, array)) for array in arrays)
    generator = replace(found.config.generator, input_mean=mean, input_scale=scale)
    return (
        replace(found, config=replace(found.config, generator=generator)),
        (Ignore(pattern, "stored in config.json as input_mean and input_scale"),),
    )


def _with_frozen_sizes(foreign: ForeignConfig | None, frozen: FrozenGenerator, where: str) -> ForeignConfig:
    """`foreign` with the sizes in the code of a frozen archive, which it should not contradict."""
    if foreign is None:
        return ForeignConfig("jik876", frozen.sizes)
    for name, value in frozen.sizes.items():
        if foreign.generator.get(name, value) != value:
            raise ConfigError(
                f"{name} is {format_value(foreign.generator[name])} in the configuration; it should be "
                f"{format_value(value)}, as in the code of {where}. Pass another configuration with --config."
            )
    return replace(foreign, generator={**foreign.generator, **frozen.sizes})


def _is_released(prefix: str) -> bool:
    """Whether `prefix` is that of a generator in jik876's files, or empty, as in a bare state dict."""
    return prefix.replace("module.", "") in ("", "generator.", "generator.model.")


def _without_module(name: str) -> str:
    """`name` without the prefix that torch's `DistributedDataParallel` adds."""
    return re.sub(r"^(m[ps]d)\.module\.", r"\1.", name)


def _is_buffer(name: str) -> bool:
    """Whether `name` is a vector of spectral norm, which the optimiser does not update."""
    return name.startswith("msd.") and is_vector(name.removeprefix("msd."))


def _build(config: HiFiGANConfig, *, key: Any) -> Any:
    from jaxvoice.models.hifigan.generator import Generator

    return Generator(config.generator, key=key)


def _example_inputs(config: HiFiGANConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Random log-mels or latents, and a conditioning vector if the model takes one."""
    import jax

    mel_key, cond_key = jax.random.split(key)
    generator = config.generator
    mel = 2 * jax.random.normal(mel_key, (16, generator.in_channels)) - 4
    cond = (jax.random.normal(cond_key, (generator.cond_channels,)),) if generator.cond_channels else ()
    return (mel, *cond), {}


def _stream(generator: Any) -> Any:
    from jaxvoice.models.hifigan.streaming import generator_stream

    return generator_stream(generator)


FAMILY = Family(
    name=NAME,
    config=HiFiGANConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:HiFiGANVocoder",
    layouts=(HiFiGANLayout(),),
    config_arrays=_statistics,
    experiment="hifigan_l40",
    stream=_stream,
)
