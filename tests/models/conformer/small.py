"""The configuration of a small Conformer, and its network with given weights."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax

from jaxvoice.dsp import NemoMelConfig
from jaxvoice.models.conformer import Conformer, ConformerConfig, with_state
from jaxvoice.weights.array_names import load_state

SMALL = ConformerConfig(
    mel=NemoMelConfig(num_mels=20),
    layers=2,
    dim=8,
    heads=2,
    feed_forward=16,
    kernel_size=5,
    subsampling_channels=6,
    classes=5,
    symbols=("a", "b", "c", "d"),
)


def network(config: ConformerConfig, arrays: Mapping[str, Any]) -> Conformer:
    """The network with `arrays`, under the names of NeMo."""

    def build(key: jax.Array) -> Conformer:
        model = Conformer(config, key=key)
        return with_state(model, model.init_state())

    return load_state(eqx.filter_eval_shape(build, jax.random.key(0)), arrays)
