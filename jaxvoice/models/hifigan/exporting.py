"""Our generator under the names of another implementation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.hifigan.tensor_names import generator_shapes
from jaxvoice.models.hifigan.weights import GENERATOR_RULES
from jaxvoice.weights.layouts import SPELLINGS
from jaxvoice.weights.rules import Plan, Spec, make_plan

RELEASED_LAYOUT: dict[str, Any] = {"nesting": ["generator"], "prefix": "", "norms": "hooks"}
"""That of jik876/hifi-gan's `g_` files."""


def plan_export(
    config: GeneratorConfig, layout: Mapping[str, Any], given: Mapping[str, Spec], where: str = "the model folder"
) -> Plan:
    """How a generator's arrays get the names of the implementation it came from; the import's rules, the other way.

    **Arguments:** `layout` as an import recorded it; `given`, shape and type of the arrays there are, in `where`.

    **Raises:** `CheckpointError` if they are not those of `config`.
    """
    specs = {name: Spec(shape, np.dtype(np.float32)) for name, shape in generator_shapes(config).items()}
    cond, norms = layout.get("cond_layer", "cond_layer"), SPELLINGS["weight"][layout["norms"]]
    wanted: dict[str, Spec] = {}
    for name, spec in specs.items():
        layer, _, last = name.rpartition(".")
        layer = cond if layer == "cond_layer" else layer
        if last == "weight_g" and len(norms) == 1:
            continue
        place = {"weight_g": norms[0], "weight_v": norms[-1]}.get(last, last)
        wanted[f"{layer}.{place}"] = spec
    rules = [
        rule.reversed()
        for rule in GENERATOR_RULES
        if not rule.target.startswith("cond_layer") or rule.source.startswith(f"{cond}.") or rule.source == cond
    ]
    return make_plan(given, wanted, rules, where=where, advice="Copy the model folder again")
