"""Statistics of adaptive instance norms, measured on recordings of a source and of a target."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvoice.errors import ConfigError
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.inference import whole_frames
from jaxvoice.models.rave.layers import AdaINState
from jaxvoice.models.rave.network import RaveState
from jaxvoice.models.rave.trained import TrainedRave


def with_statistics(
    model: TrainedRave,
    recordings: Sequence[Float32[np.ndarray, "samples channels"]],
    side: Literal["source", "target"],
    *,
    quantize: bool,
) -> TrainedRave:
    """`model` whose adaptive instance norms have the statistics of recordings.

    The recordings pass through the encoder and the generator, whose instance norms do nothing meanwhile. Each recording
    is one update: statistics are the means of those of all recordings. All slots of a batch get the same statistics.

    **Arguments:** `recordings`, of whole frames; `side`, whether they are the source or the target; `quantize`, as for
    `Rave.encode`.

    **Raises:** `ConfigError` for a model without adaptive instance norms.
    """
    letter = {"source": "x", "target": "y"}[side]
    if not any(isinstance(node, AdaINState) for node in _nodes(model.state)):
        raise ConfigError(
            "The model has no adaptive instance norms, so it has no statistics of a source and a target. Use a model "
            "of v3, or of another configuration with adain=True."
        )
    empty = {f"num_update_{one}": jnp.zeros(1) for one in "xy"} | {f"learn_{one}": jnp.zeros(1) for one in "xy"}
    start = empty | {f"learn_{letter}": jnp.ones(1)}
    state = _with_norms(lambda norm: replace(norm, **start), model.state)
    for recording in recordings:
        state = _measured(TrainedRave(model.network, state), jnp.asarray(recording)[None], quantize)
    measured = iter([node for node in _nodes(state) if isinstance(node, AdaINState)])

    def merged(norm: AdaINState) -> AdaINState:
        found = next(measured)
        names = [f"{part}_{letter}" for part in ("mean", "std")]
        values = {name: jnp.broadcast_to(getattr(found, name)[:1], getattr(norm, name).shape) for name in names}
        return replace(norm, **values, **{f"num_update_{letter}": getattr(found, f"num_update_{letter}")})

    return TrainedRave(model.network, _with_norms(merged, model.state))


def _nodes(state: RaveState) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, AdaINState))


def _with_norms(change: Callable[[AdaINState], AdaINState], state: RaveState) -> RaveState:
    """`state` with the changed states of adaptive instance norms, in the order of `_nodes`."""

    def changed(node: Any) -> Any:
        return change(node) if isinstance(node, AdaINState) else node

    return jax.tree.map(changed, state, is_leaf=lambda node: isinstance(node, AdaINState))


@eqx.filter_jit
def _measured(model: TrainedRave, audio: Float[Array, "1 samples channels"], quantize: bool) -> RaveState:
    """The state after `audio` has passed through encoder and generator."""
    latents, state = model.network.encode(audio, model.state, quantize=quantize, inference=True)
    return model.network.decode(latents.z, state, inference=True)[1]


def pieces_of(
    rows: Float32[np.ndarray, "rows samples channels"], config: RaveConfig, window: int
) -> list[Float32[np.ndarray, "samples channels"]]:
    """`rows` in pieces of whole frames of the same length, at most twice `window` frames.

    The end of less than a frame, and of less than a piece, is left out. Shorter rows are padded with zeros to a frame.
    """
    hop = config.hop_length
    if rows.shape[1] < hop or config.encoder.input == "mel":
        rows = whole_frames(rows, config)
    frames = rows.shape[1] // hop
    count = max(1, frames // window)
    size = frames // count * hop
    return [row[i * size : (i + 1) * size] for row in rows for i in range(count)]
