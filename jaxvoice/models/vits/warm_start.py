"""Discriminators in model folders, with which a training continues from a trained model."""

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.discriminators import VITSDiscriminators
from jaxvoice.models.vits.weights import DISCRIMINATORS
from jaxvoice.weights import load_state, named_arrays
from jaxvoice.weights.file_writing import write_safetensors
from jaxvoice.weights.training_files import TRAINING_FILE, arrays_below, read_training_file


def save_discriminators(folder: Path, discriminators: VITSDiscriminators, *, step: int) -> None:
    """Write the discriminators after `step` steps of training to `training.safetensors` in a model folder.

    **Raises:** `OSError` if the file cannot be written.
    """
    arrays = {f"{DISCRIMINATORS}{name}": np.asarray(array) for name, array in named_arrays(discriminators).items()}
    specs = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    about = {"content": json.dumps("discriminators"), "steps": json.dumps(step)}
    write_safetensors(folder / TRAINING_FILE, specs, arrays.items(), about)


def load_discriminators(folder: Path, config: VITSConfig) -> VITSDiscriminators | None:
    """The discriminators in a model folder; `None` if there are none.

    **Raises:** `CheckpointError` for a damaged file, or other discriminators than those of `config`.
    """
    if not (folder / TRAINING_FILE).is_file():
        return None
    _, arrays = read_training_file(folder)
    skeleton = eqx.filter_eval_shape(VITSDiscriminators, config.discriminators, key=jax.random.key(0))
    where = f"the discriminators in {folder / TRAINING_FILE}"
    return load_state(skeleton, arrays_below(arrays, DISCRIMINATORS), where)
