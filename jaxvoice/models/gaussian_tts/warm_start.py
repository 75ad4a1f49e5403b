"""New runs of text to speech that start with networks trained on another corpus."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax

from jaxvoice.config import differences
from jaxvoice.errors import CheckpointError
from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates, GaussianTTS
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics
from jaxvoice.models.gaussian_tts.training import GaussianTTSState, GaussianTTSTask
from jaxvoice.models.gaussian_tts.weights import load_model
from jaxvoice.training.logging import print_once


def initial_state(task: GaussianTTSTask, folder: Path) -> GaussianTTSState:
    """The state before the first step, with the networks of the model folder `folder`; prints where they come from.

    **Raises:** `CheckpointError` as `pretrained` does.
    """
    print_once(f"beginning with the networks of {folder}")
    return task.state_of(*pretrained(folder, task.config.model))


def pretrained(folder: Path, config: GaussianTTSConfig) -> tuple[GaussianTTS, BatchNormStates]:
    """The networks in the model folder `folder` as networks of `config`, and their running statistics.

    Statistics of normalisation may differ: the last layers are adapted, so that outputs do not change.

    **Raises:** `CheckpointError` with what differs, if sizes, phonemes or mel contract do; or if there is no model.
    """
    model, norms, stored = load_model(folder)
    alike = replace(stored, statistics=config.statistics, peak_normalize=config.peak_normalize)
    lines = differences(alike, config, "--model.")
    if lines:
        raise CheckpointError(
            f"{folder} holds another network, phonemes or mel contract than this run's (stored != asked for): "
            f"{'; '.join(lines)}. Give its sizes."
        )
    model = renormalised(model, stored.statistics, config.statistics)
    skeleton = eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(skeleton), jax.tree.leaves(model)), norms


def renormalised(model: GaussianTTS, old: Statistics, new: Statistics) -> GaussianTTS:
    """`model`, which was trained with the statistics `old`, with the same outputs for the statistics `new`.

    Its three last layers are linear; they absorb the change of mean and deviation.
    """
    scale, shift = old.mel_std / new.mel_std, (old.mel_mean - new.mel_mean) / new.mel_std
    slower = old.duration_std / new.duration_std
    later = (old.duration_mean - new.duration_mean) / new.duration_std
    first, correction, durations = model.acoustic.linear, model.acoustic.postnet.linear, model.durations.linear
    return eqx.tree_at(
        lambda networks: (networks.acoustic.linear, networks.acoustic.postnet.linear, networks.durations.linear),
        model,
        (_changed(first, scale, shift), _changed(correction, scale, 0.0), _changed(durations, slower, later)),
    )


def _changed(linear, scale: float, shift: float):
    layer = jax.tree.map(lambda weights: weights * scale, linear)
    return eqx.tree_at(lambda changed: changed.bias, layer, layer.bias + shift)
