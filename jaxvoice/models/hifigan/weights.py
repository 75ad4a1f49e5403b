"""How HiFi-GAN weights are kept in model folders: under the names of released `g_` files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from jaxvoice.config import from_dict, to_dict
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.weights import load_state, named_arrays, read_model_folder, write_model_folder

FAMILY = "hifigan"


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
