"""Train YourTTS on recordings of many speakers, with a speaker consistency loss whose gradient reaches the decoder.

    python -m experiments.yourtts_vctk --speaker-encoder PATH [--data PATH] [--run-dir DIR] [--minutes M] ...

`--data` is a corpus with texts and speakers: VCTK, a list of files with columns for text and speaker, and for several
languages one for the language. `--speaker-encoder` is a model folder of H/ASP or another encoder that reads audio; it
computes the vector of each recording, and is the frozen encoder of the loss. Without `--data`, espeak-ng (extra `demo`)
synthesises sentences in 16 voices, and the model reads the IPA; without `--speaker-encoder`, a small encoder is trained
first, in a folder beside the run.

On a GPU or TPU, the preset `yourtts` trains for 200,000 steps, and for 50,000 more with the loss, as in the paper. On a
CPU, the preset `tiny` trains a small model for at most fifteen minutes in total. `--adapted SPEAKER` adapts a model of
`--init-from` to a speaker, which has a quarter of each batch. At the end, the best model says a sentence in the voice
of an unseen speaker, if there is one. The same command resumes a run that was stopped. Measurements of the small model
are in docs/results.md; the preset `yourtts` has not been measured.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float32

from experiments import common, small_speaker_encoder, speaker_encoder as encoder_experiment, vits, voice_conversion
from experiments.common import Loop
from experiments.vits_ljspeech import tiny_optimizer
from jaxvoice.data import Corpus, Store, find_corpus
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.data.weighted_buckets import Attribute
from jaxvoice.errors import ConfigError, JaxvoiceError
from jaxvoice.models.vits import PRESETS, preset as vits_preset
from jaxvoice.models.vits.columns import training_columns
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.training import TrainingConfig, VITSTask
from jaxvoice.models.vits.validation import Validation
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.pipelines.argument_checks import error_context
from jaxvoice.pipelines.speaker_encoder import MIN_SECONDS
from jaxvoice.text.symbol_table import VITS_SYMBOLS
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "yourtts_vctk"
ENCODER_SHARE = 0.15
"""Share of the minutes in which the small speaker encoder is trained."""


@dataclass(frozen=True)
class Experiment(vits.Experiment):
    """Train YourTTS; every setting is a flag."""

    kept = (*vits.Experiment.kept, "speaker_encoder", "language", "unseen", "balance", "adapted", "adapted_share")
    hidden = MappingProxyType({TrainingConfig: ["encoder_identity"]})
    run_dir: Path = Path("runs/yourtts_vctk")
    """Folder for checkpoints, logs, samples and the best model."""
    speaker_encoder: Path | None = None
    """Model folder, run folder or Hub id of a speaker encoder that reads audio; by default, a small one is trained."""
    language: str = "en"
    """Language of utterances whose corpus does not name it."""
    unseen: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]")] = None
    """Speakers that are never trained on. By default, two voices of the demo corpus, or six speakers of VCTK."""
    balance: tuple[Attribute, ...] = ("language", "speaker")
    """Attributes that are balanced, one after the other."""
    adapted: tuple[str, ...] = ()
    """Speakers to which the model is adapted."""
    adapted_share: float = 0.25
    """Share of the adapted speakers in each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.adapted_share < 1:
            raise ConfigError(f"--adapted-share is {self.adapted_share}; it should be between 0 and 1.")


def model_of(preset: str, alphabet: str = "characters") -> VITSConfig:
    """The network of a preset: with vectors of speakers and one language. It reads the `alphabet`."""
    model = replace(vits_preset(preset), languages=("en",))
    if alphabet == "ipa":
        model = replace(model, symbols=VITS_SYMBOLS)
    if preset == "tiny":
        channels = encoder_experiment.default_experiment("tiny").training.model.dim
        return replace(model, decoder=replace(model.decoder, cond_channels=channels), speaker_channels=channels)
    return model


def default_experiment(preset: str, alphabet: str = "characters") -> Experiment:
    """The settings of a preset, for a model that reads the `alphabet`."""
    model = model_of(preset, alphabet)
    if preset == "tiny":
        optimizer = replace(tiny_optimizer(), learning_rate=1.5e-3)
        training = TrainingConfig(
            model,
            optimizer,
            optimizer,
            LossWeights(speaker=9.0),
            ema_decay=0.99,
            reconstruction_steps=1100,
            speaker_steps=1100,
        )
        loop = Loop(minutes=14.0, validate_every=0, checkpoint_every=500, log_every=50)
        return Experiment(preset=preset, batch_size=8, buckets=1, max_seconds=5.5, training=training, loop=loop)
    training = TrainingConfig(model, loss_weights=LossWeights(speaker=9.0), precision="bfloat16", speaker_steps=200_000)
    loop = Loop(steps=250_000, validate_every=2000, checkpoint_every=5000)
    return Experiment(preset=preset, batch_size=32, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""
    presets = ["tiny", *(name for name, model in PRESETS.items() if model.speaker_channels and not model.num_speakers)]

    def default() -> Experiment:
        preset = common.chosen_preset(argv, presets, full="yourtts")
        return default_experiment(preset, vits.chosen_alphabet(argv, preset))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_speakers(experiment: Experiment) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The utterances to train on, those of unseen speakers, all with a language, and the names of these speakers."""
    if experiment.data is None:
        corpus, usual = voice_conversion.demo_corpus(), voice_conversion.DEMO_UNSEEN
    else:
        corpus = find_corpus(experiment.data, experiment.corpus, experiment.audio_dir)
        rows_of_speakers(corpus)  # raises an error before files are decoded
        usual = voice_conversion.VCTK_UNSEEN
    unseen = voice_conversion.chosen_unseen(experiment.run_dir, experiment.unseen, corpus)
    unseen = tuple(name for name in usual if name in corpus.speakers) if unseen is None else unseen
    voice_conversion.check_speakers("--adapted", experiment.adapted, corpus)
    both = sorted(set(experiment.adapted) & set(unseen))
    if both:
        raise ConfigError(f"--adapted contains {both[0]!r}, which is held out (--unseen). Choose other speakers.")
    corpus = voice_conversion.with_languages(corpus, experiment.training.model.languages, experiment.language)
    corpus = vits.checked(corpus, experiment, shortest=MIN_SECONDS)
    return *voice_conversion.without_speakers(corpus, unseen), unseen


def check_small_encoder(experiment: Experiment) -> None:
    """Check, before a small speaker encoder is trained, that its embeddings have the size of the model's vectors.

    **Raises:** `ConfigError` if they do not, without `--speaker-encoder`.
    """
    if experiment.speaker_encoder is not None or small_speaker_encoder.is_trained(experiment):
        return
    dim = encoder_experiment.default_experiment("tiny").training.model.dim
    channels = experiment.training.model.speaker_channels
    if dim != channels:
        raise ConfigError(
            f"--speaker-encoder is not set, and the embeddings of the small encoder that is then trained have {dim} "
            f"components; the model reads {channels}, --model.speaker-channels. Pass the model folder of an encoder of "
            "this size with --speaker-encoder, or train the small model with --preset tiny."
        )


def speaker_encoder(experiment: Experiment, started: float) -> SpeakerEncoder:
    """The encoder of `--speaker-encoder`, or a small one that is trained in a folder beside the run.

    **Raises:** `ConfigError` if its embeddings do not have the size of the model's vectors.
    """
    check_small_encoder(experiment)
    source = experiment.speaker_encoder
    if source is None:
        reason, flag = "--speaker-encoder is not set.", "--speaker-encoder"
        source = small_speaker_encoder.train(experiment, ENCODER_SHARE, started, reason=reason, flag=flag)
    try:
        found = SpeakerEncoder.load(source)
    except JaxvoiceError as failure:
        raise type(failure)(f"--speaker-encoder: {failure}") from None
    if found.dim != experiment.training.model.speaker_channels:
        raise ConfigError(
            f"The embeddings of --speaker-encoder have {found.dim} components; they should have "
            f"{experiment.training.model.speaker_channels}, --model.speaker-channels. Pass the encoder of the model, "
            "or set --model.speaker-channels and --model.decoder.cond-channels to this number."
        )
    return found


def with_columns(store: Store, experiment: Experiment, encoder: SpeakerEncoder) -> Store:
    """The usable utterances of `store` with tokens, languages and the vectors of their recordings.

    **Raises:** `AudioError`, with the id, for a recording that the encoder does not embed.
    """

    def vectors(usable: Store) -> Float32[np.ndarray, "utterances dim"]:
        print_once(f"computing the speaker vectors of {len(usable)} recordings")
        rows = []
        for row, utterance in enumerate(usable.corpus.utterances):
            with error_context(utterance.id):
                rows.append(encoder.embed(usable.waveform(row), usable.sample_rate))
        return np.stack(rows)

    model = experiment.training.model
    return training_columns(store, model, vectors=vectors, max_frames=vits.max_frames(experiment))


def mean_vectors(*stores: Store | None) -> dict[str, Float32[np.ndarray, " dim"]]:
    """The mean vector of each speaker."""
    vectors: dict[str, list[Float32[np.ndarray, " dim"]]] = {}
    for store in filter(None, stores):
        for utterance, vector in zip(store.corpus.utterances, store["speaker"], strict=True):
            vectors.setdefault(utterance.speaker, []).append(vector)
    return {name: np.stack(vectors[name]).mean(axis=0).astype(np.float32) for name in sorted(vectors)}


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop = experiment.training, experiment.loop
    common.check(experiment)
    vits.check_text(experiment, sentence_language(experiment))
    check_small_encoder(experiment)
    # The encoder of the flag is loaded first, so that a wrong one is reported before the corpus is decoded.
    given = None if experiment.speaker_encoder is None else speaker_encoder(experiment, started)
    corpus, unseen, names = find_speakers(experiment)
    encoder = given or speaker_encoder(experiment, started)
    identity = encoder.identity
    if config.encoder_identity not in (None, identity):
        raise ConfigError(
            f"--speaker-encoder is {experiment.speaker_encoder}, the model {identity[:12]}; it should be "
            f"{str(config.encoder_identity)[:12]}, with whose vectors the run was trained. Pass that model, or choose "
            "another --run-dir."
        )
    config = replace(config, encoder_identity=identity)

    def load(part: Corpus) -> Store:
        return with_columns(vits.load(part, config.model), experiment, encoder)

    train, held_out = voice_conversion.hold_out(corpus, experiment.validation)
    store, held_out = common.load_split(load, (train, held_out))
    others = load(voice_conversion.hold_out(unseen, experiment.validation)[1]) if len(unseen) else None
    print_once(store.table())
    validation = None if held_out is None else Validation(held_out, config.model)
    options = {"adapted": experiment.adapted, "adapted_share": experiment.adapted_share}
    sampler = vits.sampler(experiment, store, config.model, balance=experiment.balance, **options)
    inherited = inherited_info(experiment.run_dir, common.find_initial_model(experiment), experiment.init_from)
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        task = VITSTask(
            config,
            steps_per_epoch=loader.steps_per_epoch,
            speaker_encoder=encoder.network,
            speaker_encoder_info=encoder.info,
            speakers=mean_vectors(store, others),
            validation=validation,
            inherited_info=inherited,
        )
        state = vits.initial_state(experiment, task)
        return common.train(replace(experiment, unseen=names), task, loader, started, state)


def last_speaker(result: TrainingResult, experiment: Experiment) -> str | None:
    """A speaker of the best model, unseen if there is one; `None` without a model."""
    names = vits.known_speakers(result)
    unseen = common.stored_settings(result.folder, ["unseen"]).get("unseen", ())
    return next((name for name in names if name in unseen), names[0] if names else None)


def sentence_language(experiment: Experiment) -> str | None:
    """The language of the test sentence: `--language`, or the first of the model if it does not have that one."""
    languages = experiment.training.model.languages
    return experiment.language if experiment.language in languages else next(iter(languages), None)


def voice_flags(experiment: Experiment, speaker: str) -> str:
    """The flags of `jaxvoice speak` for a speaker, and for the language of a model with several."""
    flags = f" --speaker {shlex.quote(speaker)}"
    if len(experiment.training.model.languages) > 1:
        flags += f" --language {shlex.quote(str(sentence_language(experiment)))}"
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""

    def close(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
        speaker, language = last_speaker(result, experiment), sentence_language(experiment)
        if speaker is None:
            return vits.summary(result, experiment, seconds, None)
        spoken = vits.speak(result, experiment.text, speaker=speaker, language=language)
        return vits.summary(result, experiment, seconds, spoken, voice_flags(experiment, speaker))

    return common.main(argv, name=NAME, parse=parse, run=run, summary=close)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
