"""The speaker encoder of an XTTS whose decoder is trained: that of the model, another one, or a small new one."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import equinox as eqx
import jax

from experiments import speaker_encoder as encoder_experiment, xtts_corpus
from experiments.common import Loop
from experiments.xtts_source import Source
from jaxvoice.errors import ConfigError, DataError, JaxvoiceError
from jaxvoice.models.speaker_encoder import build
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.training.logging import print_once
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights import load_state, named_arrays

ENCODER_SHARE = 0.08
"""Share of the minutes in which a small speaker encoder is trained."""


class Settings(xtts_corpus.Settings, Protocol):
    """The settings of an experiment that choose the speaker encoder; each is a flag."""

    @property
    def encoder(self) -> Path | None:
        """The folder of a speaker encoder; `None` for that of the model, or a small one that is trained first."""
        ...

    @property
    def loop(self) -> Loop:
        """The settings of the training, whose minutes contain those of the encoder."""
        ...


def small_encoder_folder(settings: Settings) -> RunFolder:
    """The run folder, beside that of the run, in which a small speaker encoder is trained."""
    return RunFolder(settings.run_dir.with_name(f"{settings.run_dir.name}_speaker_encoder"))


def train_small_encoder(settings: Settings, started: float) -> Path:
    """The run folder of a small speaker encoder, which is trained on `--data` unless it is trained already.

    Without `--data`, it is trained on 16 synthetic voices, more than the demo corpus of XTTS has.
    """
    folder = small_encoder_folder(settings)
    if folder.has_validation():
        print_once(f"The speaker encoder is that of {folder.path}, trained before; remove the folder to train another.")
        return folder.path
    print_once("The speaker encoder of --model was not trained; a small one is trained first.")
    given = encoder_experiment.default_experiment("tiny")
    whole = settings.loop.minutes
    minutes = given.loop.minutes if whole is None else ENCODER_SHARE * whole
    loop = replace(given.loop, minutes=minutes, tensorboard=settings.loop.tensorboard)
    options = {name: getattr(settings, name) for name in ("data", "corpus", "audio_dir", "unseen")}
    try:
        result = encoder_experiment.run(replace(given, **options, run_dir=folder.path, loop=loop), started)
    except DataError as failure:
        raise DataError(f"{failure} Or pass a trained encoder with --encoder.") from None
    if result.stopped == "interrupted":
        after = "uses it as it is; remove its folder to train another" if folder.has_validation() else "resumes it"
        print_once(f"The training of the speaker encoder was interrupted; the same command {after}.")
        raise KeyboardInterrupt
    return folder.path


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
