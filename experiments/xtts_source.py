"""The model whose decoder is trained: an XTTS with its DVAE, its tokenizer and a trained speaker encoder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import equinox as eqx
import jax

from experiments import speaker_encoder as encoder_experiment, xtts_corpus
from experiments.common import Loop
from jaxvoice.errors import CheckpointError, ConfigError, DataError, JaxvoiceError
from jaxvoice.models.speaker_encoder import build
from jaxvoice.models.xtts import XTTS, XTTSConfig
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.gpt_training import UNTRAINED
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.family import FAMILY as DVAE_FAMILY
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.training.logging import print_once
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights import load_state, named_arrays
from jaxvoice.weights.model_folder import read_config_file

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


def is_trained(folder: Path) -> bool:
    """Whether decoder and speaker encoder of the model in `folder` were trained, not only its language model."""
    info = read_config_file(folder).table.get("info") or {}
    return "hifigan_decoder" not in info.get(UNTRAINED, ())


@dataclass(frozen=True)
class Source:
    """The model whose decoder is trained."""

    folder: Path
    trained: bool
    network: XTTS
    config: XTTSConfig
    codec: CodecNetwork
    tokenizer: Tokenizer


def load_source(model: Path | None) -> Source:
    """The model of `--model`, with its DVAE and its tokenizer.

    **Raises:** `ConfigError` without the flag; `CheckpointError` for a model without a DVAE or a vocabulary.
    """
    if model is None:
        raise ConfigError("--model is not set; pass the model folder of an XTTS, such as that of experiments.xtts_gpt.")
    folder = find_model_folder(model)
    network, config = FAMILY.load_network(folder)
    for name, what in ((DVAE_FOLDER, "the DVAE"), (VOCABULARY_FILE, "the vocabulary")):
        if not (folder / name).exists():
            raise CheckpointError(
                f"{folder} has no {name}, {what}, which the training needs; import all files of the model, or pass the "
                "folder of experiments.xtts_gpt."
            )
    tokenizer = Tokenizer.load(folder / VOCABULARY_FILE, max_text=config.gpt.max_text)
    tokenizer.check(config.gpt)
    codec, _ = DVAE_FAMILY.load_network(folder / DVAE_FOLDER)
    return Source(folder, is_trained(folder), network, config, codec, tokenizer)


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
