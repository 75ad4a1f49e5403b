"""How the acoustic and the duration model are kept in model folders. Nothing here needs jax until they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxvoice.config import from_dict, to_dict
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.weights.model_folder import read_model_folder, write_model_folder

if TYPE_CHECKING:
    from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates, GaussianTTS

FAMILY = "gaussian_tts"


def _named(model: "GaussianTTS", state: "BatchNormStates") -> dict[str, Any]:
    """What is saved: weights under the paths of their attributes, running statistics below `batch_norm`."""
    return {"acoustic": model.acoustic, "batch_norm": state, "durations": model.durations}


def save_model(
    folder: Path,
    model: "GaussianTTS",
    state: "BatchNormStates",
    config: GaussianTTSConfig,
    *,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder with all weights, the running statistics of batch norm, and the whole configuration:
    phonemes in order, mel contract and the statistics of normalisation included.

    `config` may differ from `model.config` in `statistics`, which are measured after the networks are made.

    **Raises:** `CheckpointError` if the folder cannot be written.
    """
    from jaxvoice.weights.array_names import named_arrays

    arrays = named_arrays(_named(model, state))
    write_model_folder(folder, family=FAMILY, config=to_dict(config), arrays=arrays, info=info)


def load_model(folder: Path) -> tuple["GaussianTTS", "BatchNormStates", GaussianTTSConfig]:
    """The networks in a model folder, the running statistics of their batch norms, and the configuration.

    **Raises:** `CheckpointError` or `ConfigError` for a folder that is missing, damaged, or of other weights.
    """
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts.acoustic import GaussianTTS
    from jaxvoice.weights.array_names import load_state

    data, arrays = read_model_folder(folder, family=FAMILY)
    config = from_dict(GaussianTTSConfig, data, where=str(folder / "config.json"))
    skeleton = eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    state = eqx.filter_eval_shape(lambda model: model.init_state(), skeleton)
    loaded = load_state(_named(skeleton, state), arrays, where=f"the weights in {folder}")
    model = eqx.tree_at(
        lambda networks: (networks.acoustic, networks.durations), skeleton, (loaded["acoustic"], loaded["durations"])
    )
    return model, loaded["batch_norm"], config
