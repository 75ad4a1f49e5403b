"""Trainings that start with a trained model: its discriminators, and tables of other speakers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.discriminators import VITSDiscriminators
from jaxvoice.models.vits.network import VITS
from jaxvoice.models.vits.weights import DISCRIMINATORS
from jaxvoice.nn import Embedding
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


def with_table(
    network: VITS, stored: Mapping[str, int], speakers: Mapping[str, int], *, key: PRNGKeyArray
) -> tuple[VITS, tuple[str, ...]]:
    """`network` with a table of `speakers`, and the names of those whose rows are new.

    Speakers of `stored` keep their rows, wherever these are in the new table. The rows of other speakers are random,
    as in a new network.

    **Arguments:** `stored`, the row of each speaker in the table of `network`, by name; `speakers`, the row of each
    speaker in the new table, which has no other rows.
    """
    table = network.emb_g
    assert table is not None
    weight = np.array(Embedding(len(speakers), table.weight.shape[1], key=key).weight)
    kept = [name for name in speakers if name in stored]
    weight[[speakers[name] for name in kept]] = np.asarray(table.weight)[[stored[name] for name in kept]]
    config = replace(network.config, num_speakers=len(speakers))
    skeleton = eqx.filter_eval_shape(VITS, config, key=jax.random.key(0))
    found = load_state(skeleton, named_arrays(network) | {"emb_g.weight": weight}, "the initial model")
    return found, tuple(name for name in speakers if name not in stored)
