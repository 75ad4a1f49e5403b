"""Model folders of the acoustic and the duration model, and their `Family`.

This module imports jax only when networks are loaded, saved or built.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxvoice.config import to_dict
from jaxvoice.models.family import Family
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.weights.model_folder import write_model_folder

if TYPE_CHECKING:
    from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates, GaussianTTS

NAME = "gaussian_tts"


def _named(model: "GaussianTTS", state: "BatchNormStates") -> dict[str, Any]:
    """The tree that is saved: weights under their attribute paths, and running statistics under `batch_norm`."""
    return {"acoustic": model.acoustic, "batch_norm": state, "durations": model.durations}


def save_model(
    folder: Path,
    model: "GaussianTTS",
    state: "BatchNormStates",
    config: GaussianTTSConfig,
    *,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder with all weights, the running statistics of batch norm, and the configuration.

    The configuration includes the phonemes, the mel contract and the normalisation statistics. `config` may differ
    from `model.config` in `statistics`, which are measured after the networks are created.

    **Raises:** `CheckpointError` if the folder cannot be written.
    """
    from jaxvoice.weights.array_names import named_arrays

    arrays = named_arrays(_named(model, state))
    write_model_folder(folder, family=NAME, config=to_dict(config), arrays=arrays, info=info)


def load_model(folder: Path) -> tuple["GaussianTTS", "BatchNormStates", GaussianTTSConfig]:
    """The networks in a model folder, the running statistics of their batch norms, and the configuration.

    **Raises:** `CheckpointError` or `ConfigError` if the folder is missing, damaged, or contains other weights.
    """
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts.acoustic import GaussianTTS

    loaded, config = FAMILY.load_network(folder)
    skeleton = eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    model = eqx.tree_at(
        lambda networks: (networks.acoustic, networks.durations), skeleton, (loaded.acoustic, loaded.durations)
    )
    return model, loaded.batch_norm, config


def _build(config: GaussianTTSConfig, *, key: Any) -> Any:
    from jaxvoice.models.gaussian_tts.acoustic import InferenceModel

    return InferenceModel(config, key=key)


def _example_inputs(config: GaussianTTSConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Ids of a few phonemes, their durations in frames, and the sum of the durations."""
    import jax
    from jax import numpy as jnp

    phones, frames = 6, 4
    ids = jax.random.randint(key, (phones,), 1, len(config.codes) + 1)
    return (ids, jnp.full((phones,), float(frames)), phones * frames), {}


FAMILY = Family(
    name=NAME,
    config=GaussianTTSConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:Synthesizer",
)
