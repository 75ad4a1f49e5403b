"""Initial states of new text-to-speech runs, with the networks of a trained model."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax

from jaxvoice.config import differences
from jaxvoice.errors import CheckpointError
from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics
from jaxvoice.models.gaussian_tts.family import FAMILY
from jaxvoice.models.gaussian_tts.networks import GaussianTTS
from jaxvoice.models.gaussian_tts.training import GaussianTTSState, GaussianTTSTask
from jaxvoice.training.logging import print_once


def initial_state(task: GaussianTTSTask, folder: Path) -> GaussianTTSState:
    """The state before the first step, with the networks in the model folder `folder`, whose path is printed.

    **Raises:** `CheckpointError` under the conditions of `pretrained`.
    """
    print_once(f"starting from the networks in {folder}")
    return task.state_of(*pretrained(folder, task.config.model))


def pretrained(folder: Path, config: GaussianTTSConfig) -> tuple[GaussianTTS, BatchNormStates]:
    """The networks in the model folder `folder`, adapted to `config`, and their running statistics.

    The normalisation statistics may differ: the last layers are rescaled, so that the predicted mels and durations do
    not change.

    **Raises:** `CheckpointError` if there is no model, or if the sizes, the phonemes or the mel contract differ; the
    message lists the differences.
    """
    network, stored = FAMILY.load_network(folder)
    alike = replace(stored, statistics=config.statistics, peak_normalize=config.peak_normalize)
    lines = differences(alike, config, "--model.")
    if lines:
        raise CheckpointError(
            f"The network, phonemes or mel contract in {folder} differ from those of this run (stored != requested): "
            f"{'; '.join(lines)}. Use the stored values."
        )
    model = rescale_outputs(network.networks, stored.statistics, config.statistics)
    skeleton = eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(skeleton), jax.tree.leaves(model)), network.batch_norm


def rescale_outputs(model: GaussianTTS, old: Statistics, new: Statistics) -> GaussianTTS:
    """Adapt `model`, trained with the statistics `old`, to the statistics `new` without changing its predictions.

    The last three layers are linear and are rescaled.
    """
    scale, shift = old.mel_std / new.mel_std, (old.mel_mean - new.mel_mean) / new.mel_std
    log_scale = old.duration_std / new.duration_std
    log_shift = (old.duration_mean - new.duration_mean) / new.duration_std
    first, correction, durations = model.acoustic.linear, model.acoustic.postnet.linear, model.durations.linear
    return eqx.tree_at(
        lambda networks: (networks.acoustic.linear, networks.acoustic.postnet.linear, networks.durations.linear),
        model,
        (
            _rescaled(first, scale, shift),
            _rescaled(correction, scale, 0.0),
            _rescaled(durations, log_scale, log_shift),
        ),
    )


def _rescaled(linear, scale: float, shift: float):
    scaled = jax.tree.map(lambda weights: weights * scale, linear)
    return eqx.tree_at(lambda layer: layer.bias, scaled, scaled.bias + shift)
