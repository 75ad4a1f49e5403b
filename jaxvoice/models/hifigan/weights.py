"""How HiFi-GAN weights are kept in model folders: under the names of released `g_` files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import from_dict, to_dict
from jaxvoice.models.hifigan.config import DiscriminatorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.discriminators import Discriminators, ScalesVectors
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.weights import load_state, named_arrays, read_model_folder, write_model_folder

FAMILY = "hifigan"

Arrays = Mapping[str, Shaped[jax.Array | np.ndarray, "..."]]


def save_generator(
    folder: Path, generator: Generator, config: HiFiGANConfig, *, info: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder with the generator's weights and the whole configuration, its mel contract included."""
    write_model_folder(folder, family=FAMILY, config=to_dict(config), arrays=named_arrays(generator), info=info)


def load_generator(folder: Path) -> tuple[Generator, HiFiGANConfig]:
    """The generator in a model folder and its configuration.

    **Raises:** `CheckpointError` or `ConfigError` for a folder that is missing, damaged, or of other weights.
    """
    data, arrays = read_model_folder(folder, family=FAMILY)
    config = from_dict(HiFiGANConfig, data, where=str(folder / "config.json"))
    skeleton = eqx.filter_eval_shape(Generator, config.generator, key=jax.random.key(0))
    return load_state(skeleton, arrays, where=f"the weights in {folder}"), config


def load_discriminators(config: DiscriminatorConfig, mpd: Arrays, msd: Arrays) -> tuple[Discriminators, ScalesVectors]:
    """Discriminators with the arrays of a released `do_` file (its `mpd` and `msd`), and their spectral-norm vectors.

    **Raises:** `CheckpointError` for arrays of other sizes, or too few or too many.
    """

    def is_vector(name: str) -> bool:
        # In the first scale `weight_v` is spectral norm's; elsewhere it is weight norm's.
        return name.startswith("discriminators.0.") and name.endswith(("weight_u", "weight_v"))

    skeleton = eqx.filter_eval_shape(Discriminators, config, key=jax.random.key(0))
    vectors = eqx.filter_eval_shape(lambda d: d.msd.vectors(key=jax.random.key(0)), skeleton)
    weights = {name: array for name, array in msd.items() if not is_vector(name)}
    loaded = eqx.tree_at(
        lambda d: (d.mpd, d.msd), skeleton, (load_state(skeleton.mpd, mpd), load_state(skeleton.msd, weights))
    )
    return loaded, load_state(vectors, {name: array for name, array in msd.items() if is_vector(name)})
