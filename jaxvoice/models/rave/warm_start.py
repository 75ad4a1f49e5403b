"""The discriminators beside a model of RAVE, in the file `training.safetensors` of its model folder."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.discriminators import build_discriminators
from jaxvoice.models.rave.training_config import RaveTrainingConfig
from jaxvoice.models.rave.training_tensors import DISCRIMINATOR, is_table, tables
from jaxvoice.weights import load_state, named_arrays
from jaxvoice.weights.file_writing import write_safetensors
from jaxvoice.weights.training_files import TRAINING_FILE, arrays_below, read_training_file


def save_discriminators(folder: Path, discriminators: Any, config: RaveTrainingConfig, *, step: int) -> None:
    """Write the discriminators, and the windows of the losses, to `training.safetensors` in a model folder.

    **Arguments:** `config` and `step`, the number of training steps, of the training.

    **Raises:** `CheckpointError` if the file cannot be written.
    """
    arrays = {f"{DISCRIMINATOR}{name}": np.asarray(array) for name, array in named_arrays(discriminators).items()}
    arrays |= tables(config.model, config.scales, config.multiband_scales)
    specs = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    about = {"content": json.dumps("discriminators"), "steps": json.dumps(step)}
    write_safetensors(folder / TRAINING_FILE, specs, arrays.items(), about)


def load_discriminators(folder: Path, config: RaveConfig) -> Any:
    """The discriminators in a model folder, as `build_discriminators` makes them; `None` if there are none.

    **Raises:** `CheckpointError` for a damaged file, or other discriminators than those of `config`.
    """
    if not (folder / TRAINING_FILE).is_file():
        return None
    _, arrays = read_training_file(folder)
    given = arrays_below({name: array for name, array in arrays.items() if not is_table(name)}, DISCRIMINATOR)
    skeleton = eqx.filter_eval_shape(
        build_discriminators, config.discriminators, config.n_channels, key=jax.random.key(0)
    )
    return load_state(skeleton, given, f"the discriminators in {folder / TRAINING_FILE}")
