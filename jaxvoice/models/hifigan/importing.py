"""A released HiFi-GAN as a model folder holds it: which tensor becomes which, the configuration, where it is from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.file_layout import FileLayout, layout_of
from jaxvoice.models.hifigan.foreign_configs import claims_of, is_known
from jaxvoice.models.hifigan.recognition import choose_generator, recognise
from jaxvoice.models.hifigan.tensor_names import generator_shapes
from jaxvoice.models.hifigan.weights import BESIDE_THE_GENERATOR, GENERATOR_RULES, initial_value
from jaxvoice.weights.archive import Archive, TensorInfo
from jaxvoice.weights.mismatches import ADVICE, format_name
from jaxvoice.weights.rules import Ignore, Matches, Plan, Spec, make_plan, matches, unmatched

FLOAT = np.dtype(np.float32)
_ORIGINS = {
    "jik876": "jik876/hifi-gan",
    "coqui": "coqui-ai/TTS, vocoder",
    "XTTS": "coqui-ai/TTS, XTTS",
    "VITS": "VITS",
    "jaxvoice": "jaxvoice",
}
_UNKNOWN_LICENCE = "unknown: ask who trained them"
_LICENCES = {"XTTS": "Coqui Public Model License (not commercial), if these are the weights released by coqui"}


@dataclass(frozen=True)
class GeneratorImport:
    """What is going to be written."""

    config: HiFiGANConfig
    """Architecture and mel contract."""
    plan: Plan
    """Which tensor becomes which."""
    version: str
    """`V1`, `V2`, `V3`, or sizes in words."""
    origin: str
    """Whose layout and configuration it is."""
    licence: str
    """Licence of the weights, if it is known."""
    layout: FileLayout = field(default_factory=FileLayout)
    """What `export` needs to write the layout of the original again."""
    differs: tuple[str, ...] = ()
    """In what an export will differ from the original, in words."""
    assumed: tuple[str, ...] = ()
    """What neither tensors nor configuration determine."""
    decay: float | None = None
    """Factor of the learning rates after each epoch, where the configuration states it."""
    parameters: tuple[str, ...] = ()
    """Names of the parameters in the file, without prefix, in its order, in which torch's optimisers number them."""
    patterns: Mapping[str, Matches] = field(default_factory=dict)
    """By option, `ignore` and `allow_missing`: the patterns that were given, and the names that went by them."""
    hints: tuple[str, ...] = ()
    """A sentence for each pattern that did nothing."""


def plan_generator(
    archive: Archive,
    *,
    table: Mapping[str, Any] | None = None,
    table_name: str = "the configuration",
    part: str | None = None,
    allow_missing: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> GeneratorImport:
    """How the generator in `archive` becomes ours.

    **Arguments:** `table`, the content of a configuration file called `table_name`; `part`, which generator, by the
    last components of its place; `allow_missing` and `ignore`, regular expressions of tensors that may be missing from
    the file (our names) or are left out of it (its names).

    **Raises:** `CheckpointError` or `ConfigError` if there is no generator, or several, or one that does not fit what
    its configuration says; the report states every guess.
    """
    where = archive.source.path.name
    infos = archive.tensors.infos()
    specs = {name: Spec(info.shape, info.dtype) for name, info in infos.items()}
    prefix = choose_generator(specs, part, where)
    if table is None and is_known(archive.metadata.get("config")):
        table, table_name = archive.metadata["config"], f"the configuration in {where}"
    claims = None if table is None else claims_of(table, table_name)
    relative = {name.removeprefix(prefix): spec.shape for name, spec in specs.items() if name.startswith(prefix)}
    found = recognise(relative, claims, released=_is_released(prefix), place=prefix, where=where)
    targets = {name: Spec(shape, FLOAT) for name, shape in generator_shapes(found.config.generator).items()}
    left_out = _products(infos, prefix)
    if part is not None:
        reason = f"outside {format_name(prefix.removesuffix('.'))}"
        left_out |= {name: reason for name in specs if not name.startswith(prefix)}
    constants = infos.keys() - archive.tensors.weights().keys()
    left_out |= dict.fromkeys(constants, "number in the archive's code")
    ignoring, allowing = matches(ignore, specs), matches(allow_missing, targets)
    hints = unmatched("--ignore", ignoring, specs) + unmatched("--allow-missing", allowing, targets)
    advice = ADVICE
    if part is None and prefix and any(not name.startswith(prefix) for name in specs if name not in constants):
        last = format_name(prefix.removesuffix(".").split(".")[-1])
        advice = f"Take the generator alone with --part {last}, or leave tensors out with --ignore REGEX"
    plan = make_plan(
        specs,
        targets,
        GENERATOR_RULES,
        prefix=prefix,
        ignore=[*(Ignore(pattern, f"--ignore {pattern}") for pattern in ignore), *BESIDE_THE_GENERATOR],
        left_out=left_out,
        allow_missing=allow_missing,
        initial=initial_value,
        where=where,
        advice=". ".join([*hints, advice]),
    )
    begun = {pattern: [name for name in names if name in plan.missing] for pattern, names in allowing.items()}
    hints += [
        f"--allow-missing {format_name(pattern)} was not needed: the file has what it matches"
        for pattern, names in allowing.items()
        if names and not begun[pattern]
    ]
    layout, differs = layout_of(archive, prefix, plan)
    kind = claims.kind if claims else ("jik876" if _is_released(prefix) else "XTTS")
    return GeneratorImport(
        found.config,
        plan,
        found.version,
        _ORIGINS[kind],
        _LICENCES.get(kind, _UNKNOWN_LICENCE),
        layout,
        differs,
        found.assumed,
        claims.decay if claims else None,
        tuple(name.removeprefix(prefix) for name in specs if name.startswith(prefix) and name not in plan.ignored),
        {"ignore": ignoring, "allow_missing": begun},
        tuple(hints),
    )


def _is_released(prefix: str) -> bool:
    """Whether a generator stands where jik876's files have it; a bare state dict counts too."""
    return prefix.replace("module.", "") in ("", "generator.")


def _products(infos: Mapping[str, TensorInfo], prefix: str) -> dict[str, str]:
    """Weights that torch's older weight norm leaves beside `weight_g` and `weight_v` in a whole module, and why not."""
    found = {}
    for name in infos:
        layer = name.removesuffix(".weight")
        if layer != name and name.startswith(prefix) and infos[name].kind == "tensor":
            parts = [infos.get(f"{layer}.{part}") for part in ("weight_g", "weight_v")]
            if all(part is not None and part.kind == "parameter" for part in parts):
                found[name] = "product of weight_g and weight_v, which torch keeps beside them"
    return found
