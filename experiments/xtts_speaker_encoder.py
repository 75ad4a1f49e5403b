"""The speaker encoder of an XTTS whose decoder is trained: that of the model, another one, or a small new one."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import equinox as eqx
import jax

from experiments import small_speaker_encoder
from experiments.xtts_source import Source
from jaxvoice.errors import ConfigError, JaxvoiceError
from jaxvoice.models.speaker_encoder import build
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.weights import load_state, named_arrays

ENCODER_SHARE = 0.08
"""Share of the minutes in which a small speaker encoder is trained."""


class Settings(small_speaker_encoder.Settings, Protocol):
    """The settings of an experiment that choose the speaker encoder; each is a flag."""

    @property
    def encoder(self) -> Path | None:
        """The folder of a speaker encoder; `None` for that of the model, or a small one that is trained first."""
        ...


def train_small_encoder(settings: Settings, started: float) -> Path:
    """The run folder of a small speaker encoder, which is trained on `--data` unless it is trained already.

    Without `--data`, it is trained on 16 synthetic voices, more than the demo corpus of XTTS has.
    """
    reason = "The speaker encoder of --model was not trained."
    return small_speaker_encoder.train(settings, ENCODER_SHARE, started, reason=reason, flag="--encoder")


def with_encoder(source: Source, settings: Settings, started: float) -> tuple[Source, bool]:
    """`source` with the speaker encoder of `--encoder`, and whether it is another one than that of the model.

    Without the flag, a small one is trained if that of the model was not trained.

    **Raises:** `ConfigError` for an encoder that the model cannot use.
    """
    if settings.encoder is None and source.trained:
        return source, False
    folder = settings.encoder or train_small_encoder(settings, started)
    try:
        found = SpeakerEncoder.load(folder)
    except JaxvoiceError as failure:
        raise type(failure)(f"--encoder: {failure}") from None
    try:
        config = replace(
            source.config,
            decoder=replace(source.config.decoder, cond_channels=found.dim),
            speaker_encoder=replace(found.config, level=None),
        )
    except ConfigError as failure:
        raise ConfigError(f"--encoder is {folder}, which XTTS cannot use: {failure}") from None
    skeleton = eqx.filter_eval_shape(build, config.speaker_encoder, key=jax.random.key(0))
    encoder = load_state(skeleton, named_arrays(found.network), "the speaker encoder")
    network = eqx.tree_at(lambda one: one.hifigan_decoder.speaker_encoder, source.network, encoder)
    return replace(source, network=network, config=config), True
