"""Our generator under the names of another implementation."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.hifigan.file_layout import FileLayout
from jaxvoice.models.hifigan.tensor_names import generator_shapes
from jaxvoice.models.hifigan.weights import GENERATOR_RULES
from jaxvoice.weights.rules import Plan, Spec, make_plan
from jaxvoice.weights.tensor_layouts import SPELLINGS


def plan_export(
    config: GeneratorConfig, layout: FileLayout, given: Mapping[str, Spec], where: str = "the model folder"
) -> Plan:
    """How a generator's arrays get the names of the implementation it came from; the import's rules, the other way.

    **Arguments:** `layout` as an import recorded it; `given`, shape and type of the arrays there are, in `where`.

    **Raises:** `CheckpointError` if they are not those of `config`.
    """
    cond = layout.cond_layer
    wanted: dict[str, Spec] = {}
    for ours, shape in generator_shapes(config).items():
        layer, _, last = ours.rpartition(".")
        norms = SPELLINGS["weight"][layout.norms_of.get(layer, layout.norms)]
        layer = cond if layer == "cond_layer" else layer
        if last == "weight_g" and len(norms) == 1:
            continue
        place = {"weight_g": norms[0], "weight_v": norms[-1]}.get(last, last)
        name = f"{layer}.{place}"
        wanted[name] = Spec(shape, _dtype(layout.dtypes.get(name, layout.dtype)))
    rules = [
        rule.reversed()
        for rule in GENERATOR_RULES
        if not rule.target.startswith("cond_layer") or rule.source.startswith(f"{cond}.") or rule.source == cond
    ]
    return make_plan(given, wanted, rules, where=where, advice="Copy the model folder again")


def _dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
