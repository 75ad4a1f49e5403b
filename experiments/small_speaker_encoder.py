"""A small speaker encoder, which another experiment trains first, in a folder beside its run."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from experiments import common, speaker_encoder, voice_conversion
from experiments.speaker_encoder import Experiment
from jaxvoice.errors import DataError
from jaxvoice.training.logging import print_once
from jaxvoice.training.run_folder import RunFolder


class Settings(voice_conversion.SpeakerRecordings, Protocol):
    """The settings of an experiment that the training of its encoder has, too; each is a flag."""

    @property
    def loop(self) -> common.Loop:
        """The settings of the training of the experiment."""
        ...


def run_folder(settings: Settings) -> RunFolder:
    """The run folder of the encoder."""
    return RunFolder(settings.run_dir.with_name(f"{settings.run_dir.name}_speaker_encoder"))


def is_trained(settings: Settings) -> bool:
    """Whether the training of the encoder reached its limit."""
    # Without validations in between, a run is validated when it has reached its limit.
    return run_folder(settings).has_validation()


def experiment(settings: Settings, share: float) -> Experiment:
    """The training of the encoder on the corpus of `settings`, for the `share` of its minutes."""
    given = speaker_encoder.default_experiment("tiny")
    whole = settings.loop.minutes
    minutes = given.loop.minutes if whole is None else share * whole
    loop = replace(given.loop, minutes=minutes, validate_every=0, tensorboard=settings.loop.tensorboard)
    options = {name: getattr(settings, name) for name in ("data", "corpus", "audio_dir", "unseen")}
    return replace(given, **options, run_dir=run_folder(settings).path, loop=loop)


def train(settings: Settings, share: float, started: float, *, reason: str, flag: str) -> Path:
    """The run folder of the encoder, which is trained unless it is trained already.

    **Arguments:** `share`, that of the minutes of `settings` in which it is trained; `started`, the
    `time.monotonic()` from which the minutes count; `reason`, the sentence that is printed before the training;
    `flag`, with which an encoder can be passed instead.

    **Raises:** `DataError` for a corpus on which no encoder can be trained; `KeyboardInterrupt` if the training was
    interrupted and saved. The same call resumes it.
    """
    folder = run_folder(settings).path
    if is_trained(settings):
        print_once(f"The speaker encoder is that of {folder}, trained before; remove the folder to train another.")
        return folder
    print_once(f"{reason} A small speaker encoder is trained in {folder}, or its training is resumed.")
    try:
        result = speaker_encoder.run(experiment(settings, share), started)
    except DataError as failure:
        raise DataError(f"{failure} Or pass a trained encoder with {flag}.") from None
    if result.stopped == "interrupted":
        print_once("The training of the speaker encoder was interrupted; the same command resumes it.")
        raise KeyboardInterrupt
    return folder
