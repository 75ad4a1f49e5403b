"""The layout of released checkpoints of RAVE: runs of the release, and its TorchScript exports."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvoice.config import from_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import (
    Checkpoint,
    CheckpointLayout,
    ImportOptions,
    ImportPlan,
    choose_part,
    plan_weights,
)
from jaxvoice.models.rave.config import PRESETS, RaveConfig, preset
from jaxvoice.models.rave.released_config import released_config
from jaxvoice.models.rave.released_layers import EMA, is_earlier_version, layers_of, main_prefixes
from jaxvoice.models.rave.training_tensors import (
    DISCRIMINATOR,
    MEL_FILTERS,
    is_table,
    plan_training_export,
    plan_training_import,
    tables,
    with_weight_norm,
)
from jaxvoice.models.rave.weights import (
    DECODER_NET,
    ENCODER_NET,
    IGNORED,
    INTEGERS,
    NAME,
    RULES,
    FilterTaps,
    decoder_layers,
    encoder_layers,
    rave_dtypes,
    rave_shapes,
    target_sizes,
)
from jaxvoice.weights.archive import Archive, Tensors
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.gin_files import GinFile, read_gin
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Plan, Spec, matches
from jaxvoice.weights.schemas import migrate
from jaxvoice.weights.training_files import TRAINING_FILE

_LICENCE = "released weights of RAVE: CC BY-NC 4.0, not for commercial use; own ones: ask whoever trained them"
_FOLDERS = 3  # config.gin is in the folder of the checkpoint, or up to so many above
_ADD_ONS = ("snake", "noise", "adain", "causal", "wasserstein", "spherical")
_HIGHEST_RATE = 10**7
_RATES = ("sampling_rate", "sample_rate", "sr")
_PARAMETER = re.compile(
    r"(encoder\.encoder|decoder)\..*\."
    r"(weight(_[gv])?|bias|alpha|(weight|bias)_[ih]h_l\d+|parametrizations\.weight\.original[01])",
    re.DOTALL,
)
_DELAY = re.compile(r".*\.aligned\.paddings\.[0-9]+\.pad")


class RaveLayout(CheckpointLayout):
    """Checkpoints (`.ckpt`) and TorchScript exports (`.ts`) of acids-ircam/RAVE 2.x, and state dicts."""

    name = "acids-ircam/RAVE"
    looks_for = "a RAVE: tensors below encoder.encoder.net and decoder.net"
    exports = True
    export_layout = FileLayout(nesting=("state_dict",))
    exports_training = True

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains a RAVE below any prefix, also one of version 1, which `plan_import` refuses."""
        names = checkpoint.archive.tensors
        return bool(main_prefixes(names)) or is_earlier_version(names)

    def main_file(self, folder: Path) -> Path | None:
        """The newest `.ckpt` file of a run of the release, which has a `config.gin`; `None` for other folders."""
        if not any((place / "config.gin").is_file() for place in _places(folder)):
            return None
        files = [file for file in folder.rglob("*.ckpt") if file.is_file()]
        return max(files, key=lambda file: (file.stat().st_mtime, str(file)), default=None)

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the network and its state. `--part EMA` imports the moving average of the weights.

        **Raises:** `CheckpointError` or `ConfigError` for version 1 of RAVE, for several models in one file, if the
        tensors contradict `config.gin`, or if there is no moving average to import.
        """
        archive, where = checkpoint.archive, checkpoint.name
        if is_earlier_version(archive.tensors):
            raise CheckpointError(
                f"{where} is a RAVE of version 1, whose layers have other names; checkpoints of versions 2.x can be "
                "imported. Train the model again with version 2, or use its export."
            )
        average = options.part is not None and options.part.rpartition(".")[2] == EMA
        hint = f", or {EMA} for the moving average of the weights"
        part = None if average else options.part
        prefix = choose_part(main_prefixes(archive.tensors), part, where, kind="RAVE", hint=hint)
        if average:
            archive = archive.with_tensors(_with_average(archive.tensors, prefix, where))
            options = replace(options, part=None)
        shapes = {
            name.removeprefix(prefix): info.shape
            for name, info in archive.tensors.infos().items()
            if name.startswith(prefix)
        }
        config, assumed = _config(checkpoint, shapes, prefix)
        _check_mel_filters(archive.tensors, prefix, config, where, options.ignore)
        renamed = archive.with_tensors(_with_current_names(archive.tensors, shapes, config, prefix))
        taps = _taps(shapes, config)
        wanted = rave_shapes(config, taps)
        ignored = [replace(ignore, pattern=f"(?:{re.escape(prefix)})?(?:{ignore.pattern})") for ignore in IGNORED]
        weights = plan_weights(
            renamed,
            wanted,
            RULES,
            options,
            prefix=prefix,
            ignore=ignored,
            initial=_initial(config),
            dtypes=rave_dtypes(wanted),
        )
        differs = list(weights.differs)
        if set(renamed.tensors) != set(archive.tensors):
            differs.append("the layers of version 2.3.1, whose indices differ from those in the file")
        if weights.layout != with_weight_norm(weights.layout):
            differs.append("weight norm, which the file lacks, as in checkpoints of training")
        left_out = {name for names in weights.patterns["ignore"].values() for name in names}
        kept = {name: name for name in renamed.tensors if name not in left_out}
        training = plan_training_import(renamed.with_tensors(renamed.tensors.renamed(kept)), prefix, config)
        hints = weights.hints
        if training is None and any(name.startswith(prefix + DISCRIMINATOR) for name in kept):
            hints += ("the discriminators in the file differ from those of the release and are not imported",)
        return ImportPlan(
            config,
            ((renamed, weights.plan),),
            version=_version(config),
            origin=self.name,
            licence=_LICENCE,
            layout=weights.layout,
            differs=tuple(differs),
            assumed=tuple(assumed),
            patterns=weights.patterns,
            hints=hints,
            training=None if training is None else (renamed, training),
        )

    def plan_export(self, config: RaveConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
        """The network and its state under the names of the release, with the buffers that follow from `config`.

        The release loads the file with `strict=True`. It contains the discriminators and the windows of losses, from
        `training.safetensors`. Discriminators that the model folder lacks are initialised at random.

        **Raises:** `CheckpointError` for tensors that are not those of `config`.
        """
        layout = with_weight_norm(layout)
        training = {n: spec for n, spec in given.items() if n.startswith(DISCRIMINATOR) or is_table(n)}
        given = {name: spec for name, spec in given.items() if name not in training}
        wanted = rave_shapes(config, _taps({name: spec.shape for name, spec in given.items()}, config))
        whole = {name: "int64" for name in wanted if name.rpartition(".")[2] in INTEGERS}
        plan = plan_export(wanted, RULES, replace(layout, dtypes={**whole, **layout.dtypes}), given, where)
        more = plan_training_export(config, layout, training, str(Path(where).with_name(TRAINING_FILE)))
        sizes = target_sizes(config)
        whole_numbers = {name: Spec((), np.dtype(np.int64)) for name in sizes}

        def initial(name: str, shape: tuple[int, ...], value: Any) -> np.ndarray:
            assert more.initial is not None
            return np.asarray(sizes[name], np.int64) if name in sizes else more.initial(name, shape, value)

        return replace(
            plan,
            rows=(*plan.rows, *more.rows),
            wanted={**plan.wanted, **whole_numbers, **more.wanted},
            missing=(*plan.missing, *sizes, *more.missing),
            initial=initial,
        )

    def export_notes(self, plan: Plan) -> tuple[str, ...]:
        """Whether the discriminators are random."""
        if not any(name.startswith(DISCRIMINATOR) and not is_table(name) for name in plan.missing):
            return ()
        return (
            "The model folder contains no discriminators, so those of the export are random. Encoder and generator are "
            "complete. A training that continues from the export trains its discriminators from the beginning.",
        )


def _places(folder: Path) -> Iterator[Path]:
    """`folder` and those above it, where the release looks for `config.gin`."""
    yield from (folder, *list(folder.resolve().parents)[:_FOLDERS])


def _with_average(tensors: Tensors, prefix: str, where: str) -> Tensors:
    """`tensors` with the moving average of the weights in the place of the weights below `prefix`."""
    mark = f"{EMA}."
    averages = {
        name[name.index(mark) + len(mark) :]: name
        for name in tensors
        if (name.startswith(mark) or f".{mark}" in name) and not name.startswith(prefix)
    }
    if not averages:
        raise CheckpointError(
            f"--part is {EMA}, but {where} contains no moving average of the weights: its training did not use --ema. "
            "Omit --part."
        )
    names = {name: averages.get(name.removeprefix(prefix), name) for name in tensors if name.startswith(prefix)}
    missing = next((name for name in averages if prefix + name not in names), None)
    if missing is not None:
        raise CheckpointError(
            f"The moving average in {where} contains {format_name(missing)}, which the model lacks. Omit --part."
        )
    short = [name.removeprefix(prefix) for name in names]
    absent = [name for name in short if _PARAMETER.fullmatch(name) and name not in averages]
    if absent:
        raise CheckpointError(
            f"The moving average in {where} lacks {len(absent)} weights of the model, for example "
            f"{format_name(absent[0])}; the file is damaged. Omit --part."
        )
    return tensors.renamed(names)


def _check_mel_filters(tensors: Tensors, prefix: str, config: RaveConfig, where: str, ignored: Sequence[str]) -> None:
    """Raise `CheckpointError` if the file contains other mel filters than those that the model computes."""
    if config.encoder.input != "mel":
        return
    ours = tables(config)[MEL_FILTERS]
    skipped = {name for names in matches(ignored, tensors).values() for name in names}
    for name in tensors:
        other = name.startswith(prefix) and name.endswith("mel_scale.fb") and name not in skipped
        if other and not (tensors.info(name).shape == ours.shape and np.allclose(tensors[name], ours, atol=1e-3)):
            raise CheckpointError(
                f"{format_name(name)} in {where} contains other mel filters than those that the model computes, from 0 "
                f"Hz to half of its sample rate, {config.sample_rate} Hz. Pass the config.gin of its run with --config."
            )


def _config(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> tuple[RaveConfig, list[str]]:
    """The configuration, and assumptions."""
    table, path = checkpoint.config, checkpoint.config_path
    if table is not None and table.get("family") == NAME:
        where = str(path or "the configuration")
        return from_dict(RaveConfig, migrate("model folder", table, where).table.get("config", {}), where), []
    gin: GinFile | None = None
    if path is not None and path.suffix.lower() == ".gin":
        gin = read_gin(path)
    elif table is not None:
        raise ConfigError(
            f"{path or 'the configuration'} is not the configuration of a RAVE; pass the config.gin of its run with "
            "--config."
        )
    else:
        beside = (place / "config.gin" for place in _places(checkpoint.folder))
        gin = next((read_gin(file) for file in beside if file.is_file()), None)
    archive = checkpoint.archive
    layers = _layers_in_code(archive, prefix)
    found = released_config(
        shapes,
        gin,
        checkpoint.name,
        sample_rate=_export_rate(archive),
        frame_length=_frame_length(archive, prefix),
        dilations=_dilations(layers),
        padding=_padding(layers, shapes),
    )
    return found.config, found.assumed


def _export_rate(archive: Archive) -> int | None:
    """The sample rate that a TorchScript export states; `None` if it states none."""
    attributes, infos = archive.modules.attributes, archive.tensors.infos()
    rates = [attributes[name] for name in _RATES if type(attributes.get(name)) in (int, float)]
    scalars = (name for name in _RATES if name in infos and infos[name].size == 1 and infos[name].dtype.kind in "iuf")
    rates += [archive.tensors[name].item() for name in scalars]
    return next((int(rate) for rate in rates if 0 < rate <= _HIGHEST_RATE and rate == int(rate)), None)


def _layers_in_code(archive: Archive, prefix: str) -> dict[str, Mapping[str, Any]]:
    """The settings of convolutions in the code of an export, by their names without prefix; empty for other files."""
    if not getattr(archive, "code", None):
        return {}
    from jaxvoice.torchscript.layers import read_layers

    try:
        layers = read_layers(archive)
    except CheckpointError:  # without the code, the usual settings are assumed, which the report states
        return {}
    return {
        name.removeprefix(prefix): layer.settings
        for name, layer in layers.items()
        if name.startswith(prefix) and layer.kind == "Conv1d"
    }


def _dilations(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The dilations of convolutions, by name."""
    found = {name: settings.get("dilation") for name, settings in layers.items()}
    return {
        name: value[0] for name, value in found.items() if isinstance(value, tuple) and [*map(type, value)] == [int]
    }


def _padding(
    layers: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> Literal["centered", "causal"] | None:
    """Where the convolutions of an export are padded; `None` if it does not state it.

    Exports for streaming have caches in the place of padding. They delay the input of a residual block by the zeros
    that the convolutions of the block would have on their right.
    """
    sides: set[bool] = set()
    for settings in layers.values():
        match settings.get("padding"):
            case ((int(left), int(right)),) if left or right:
                sides.add(right > 0)
            case (int(both),) if both:
                sides.add(True)
    if not sides and layers:
        caches = [shape for name, shape in shapes.items() if name.endswith(".cache.pad") and shape and shape[-1]]
        delays = [shape for name, shape in shapes.items() if _DELAY.fullmatch(name) and shape and shape[-1]]
        sides = {bool(delays)} if caches else set()
    return None if len(sides) != 1 else "centered" if sides.pop() else "causal"


def _frame_length(archive: Archive, prefix: str) -> int | None:
    """The samples of a frame of noise that a buffer of the file states."""
    for name, info in archive.tensors.infos().items():
        if name.startswith(prefix) and name.endswith(".target_size") and info.shape == () and info.dtype.kind == "i":
            return int(archive.tensors[name])
    return None


def _taps(shapes: Mapping[str, tuple[int, ...]], config: RaveConfig) -> FilterTaps:
    """The lengths of the filters in the file, or those of the configuration if there are none."""
    prototype, filters = shapes.get("pqmf.h", ()), shapes.get("pqmf.hk", ())
    if len(prototype) == 1 and len(filters) == 2:
        return FilterTaps(prototype[0], filters[1])
    from jaxvoice.dsp.pqmf import pqmf_filters, pqmf_prototype

    designed = pqmf_prototype(config.pqmf.attenuation, config.pqmf.num_bands)
    return FilterTaps(designed.size, pqmf_filters(designed, config.pqmf.num_bands).shape[1])


def _with_current_names(
    tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], config: RaveConfig, prefix: str
) -> Tensors:
    """`tensors` with the indices that layers have in version 2.3.1, for files of earlier versions 2.x."""
    indices: dict[str, str] = {}
    for net, layers in ((ENCODER_NET, encoder_layers(config)), (DECODER_NET, decoder_layers(config))):
        inside = (name.removeprefix(f"{net}.") for name, _ in layers if name.startswith(f"{net}."))
        ours = list(dict.fromkeys(name.partition(".")[0] for name in inside))
        theirs = [str(layer.index) for layer in layers_of(shapes, net)]
        if len(ours) == len(theirs):
            indices |= {f"{net}.{old}.": f"{net}.{new}." for old, new in zip(theirs, ours, strict=True) if old != new}
    gru = f"{DECODER_NET}.0." if config.generator.recurrent_layers else None
    names: dict[str, str] = {}
    for name in tensors:
        short, current = name.removeprefix(prefix), name
        found = re.match(r"((?:encoder\.encoder|decoder)\.net\.\d+\.)(.*)", short, re.DOTALL)
        if found and name.startswith(prefix):
            head, rest = indices.get(found[1], found[1]), found[2]
            if head == gru and re.fullmatch(r"(.*\.)?(weight|bias)_[ih]h_l\d+", rest):
                rest = f"gru.{rest.rpartition('.')[2]}"
            current = f"{prefix}{head}{rest}"
        names[current] = name
    return tensors if len(names) != len(tensors) or all(a == b for a, b in names.items()) else tensors.renamed(names)


def _initial(config: RaveConfig) -> Any:
    """The values of arrays that a file lacks and that may be missing."""

    def value(name: str, shape: tuple[int, ...], other: Any) -> np.ndarray:
        from jaxvoice.dsp.pqmf import pqmf_filters, pqmf_kernels, pqmf_prototype

        if name == "latent_pca":
            return np.eye(shape[0], dtype=np.float32)
        if not name.startswith("pqmf."):
            return np.zeros(shape, np.float32)
        prototype = pqmf_prototype(config.pqmf.attenuation, config.pqmf.num_bands)
        filters = pqmf_filters(prototype, config.pqmf.num_bands)
        forward, inverse = pqmf_kernels(filters)
        arrays = {"h": prototype, "hk": filters, "forward_conv.weight": forward, "inverse_conv.weight": inverse}
        return np.asarray(arrays[name.removeprefix("pqmf.")], np.float32)

    return value


def _version(config: RaveConfig) -> str:
    """The name of the preset with its additions, or the sizes of the model."""
    for count in range(3):
        for add_ons in combinations(_ADD_ONS, count):
            for name in PRESETS:
                try:
                    known = preset(name, *add_ons)
                except ConfigError:  # v1 has no snake and adain
                    continue
                same = {part: getattr(config, part) for part in ("sample_rate", "n_channels", "discriminators")}
                if replace(known, **same) == config:
                    return " with ".join([name, *([" and ".join(add_ons)] if add_ons else [])])
    return f"{config.encoder.version} of capacity {config.encoder.capacity}, {config.bottleneck.kind}"
