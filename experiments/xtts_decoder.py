"""Train the decoder of XTTS: a HiFi-GAN that turns vectors of the language model into speech.

    python -m experiments.xtts_decoder --model DIR [--data PATH] [--encoder DIR] [--run-dir DIR] [--minutes M] ...

`--model` is a model folder of XTTS with its DVAE, such as that of `experiments.xtts_gpt` or of `jaxvoice import`.
First, the language model reads the text, the codes and a reference of each recording of `--data`, a corpus with texts;
its vectors and those of the speaker encoder are stored in the cache folder. Then the decoder is trained on them,
with the losses of HiFi-GAN and a speaker consistency loss. The result is a complete model folder of XTTS. At the end,
the model speaks a sentence, in the voice of an unseen speaker if there is one.

Without `--data`, espeak-ng (extra `demo`) synthesises sentences in 16 voices. `--encoder` is the folder of another
speaker encoder, such as that of `experiments.speaker_encoder`. On a GPU or TPU, the preset `full` fine-tunes the
decoder of the model. On a CPU, the preset `tiny` trains a small, new decoder for a few minutes.
"""

import functools as ft
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import equinox as eqx
import jax
import tyro

from experiments import common, speaker_encoder as encoder_experiment, voice_conversion
from experiments.common import Loop
from experiments.hifigan_l40 import default_experiment as vocoder_experiment
from experiments.vits import TEST_SENTENCE
from jaxvoice.config import from_dict
from jaxvoice.data import Corpus, Store, Utterance, find_corpus, load_store, preflight
from jaxvoice.errors import CheckpointError, ConfigError, DataError, JaxvoiceError, TextError
from jaxvoice.models.hifigan import preset as vocoder_preset
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.speaker_encoder import build
from jaxvoice.models.xtts import XTTS, XTTSConfig
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE
from jaxvoice.models.xtts.config import decoder_config
from jaxvoice.models.xtts.decoder_columns import training_sampler, training_store
from jaxvoice.models.xtts.decoder_latents import (
    LatentsConfig,
    Reference,
    compute_latents,
    latents_identity,
    usable_utterances,
)
from jaxvoice.models.xtts.decoder_training import DecoderState, DecoderTask, DecoderTrainingConfig
from jaxvoice.models.xtts.decoder_validation import METRICS, DecoderValidation
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.gpt_training import UNTRAINED
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.models.xtts_dvae import DVAE
from jaxvoice.models.xtts_dvae.family import FAMILY as DVAE_FAMILY
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.pipelines.xtts_speech import XTTSSpeech
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info
from jaxvoice.weights import load_state, named_arrays
from jaxvoice.weights.model_folder import read_config_file

NAME = "xtts_decoder"
PRESETS = ("full", "tiny")
ENCODER_SHARE = 0.2
"""Share of the minutes in which a small speaker encoder is trained."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train the decoder of XTTS; every setting is a flag."""

    kept = (
        *common.Experiment.kept,
        *("model", "encoder", "new_decoder", "language", "unseen", "max_seconds", "reference", "reference_seconds"),
    )
    hidden = MappingProxyType(
        {
            DecoderTrainingConfig: ["latents_identity"],
            GeneratorConfig: ["in_channels", "cond_channels", "input_mean", "input_scale"],
        }
    )
    init_from: Annotated[Path | None, tyro.conf.Suppress] = None
    """Not used: the decoder of `--model` is the initial one."""
    run_dir: Path = Path("runs/xtts_decoder")
    """Folder for checkpoints, logs, samples and the best model."""
    model: Path | None = None
    """Model folder, run folder or Hub id of an XTTS with its DVAE, whose language model computes the vectors."""
    encoder: Path | None = None
    """Model folder, run folder or Hub id of the speaker encoder, a residual network that reads audio at 16 kHz; by
    default that of the model, or a small one that is trained first if that of the model was not trained."""
    new_decoder: bool = False
    """Train a decoder with random weights even if that of the model has the same sizes."""
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus, which contains the texts; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, if it is not beside it."""
    language: str = "en"
    """Language of utterances whose corpus does not name it."""
    unseen: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]")] = None
    """Speakers that are never trained on. By default, two voices of the demo corpus, or six speakers of VCTK."""
    max_seconds: float = 11.6
    """Longest recording in seconds; longer ones are left out."""
    reference: Reference = "other"
    """The reference of a recording: another recording of the speaker, or the same."""
    reference_seconds: float = 6.0
    """Seconds of a reference that are read."""
    vectors: Path | None = None
    """Folder of the computed vectors; by default in the cache folder."""
    vectors_batch: int = 8
    """Recordings whose vectors are computed at a time."""
    crops_per_clip: int = 1
    """Number of crops per recording and epoch."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    text: str | None = None
    """Sentence that is synthesised at the end; by default one that is in no corpus, or the text of a recording if that
    has characters that the vocabulary lacks."""
    training: Annotated[DecoderTrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=DecoderTrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, workers=0, crops_per_clip=1, vectors_batch=1)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        if self.max_seconds <= 0:
            raise ConfigError(f"--max-seconds is {self.max_seconds}; it should be positive.")


def default_experiment(preset: str, model: XTTSConfig | None = None, *, new: bool = False) -> Experiment:
    """The settings of a preset for the decoder of `model`; `new`: for a decoder with random weights."""
    decoder = decoder_config() if model is None else model.decoder
    if preset == "tiny":
        small, given = vocoder_preset("tiny"), vocoder_experiment("tiny")
        sizes = ("resblock", "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")
        sizes += ("resblock_kernel_sizes", "resblock_dilation_sizes")
        training = replace(
            DecoderTrainingConfig(),
            decoder=replace(decoder, **{name: getattr(small.generator, name) for name in sizes}),
            discriminators=small.discriminators,
            generator_optimizer=given.training.generator_optimizer,
            discriminator_optimizer=given.training.discriminator_optimizer,
            loss_weights=replace(given.training.loss_weights, adversarial=1 / 4),
            ema_decay=given.training.ema_decay,
            reconstruction_steps=given.training.reconstruction_steps,
            speaker_steps=1000,
        )
        loop = replace(given.loop, minutes=9.0)
        return Experiment(
            preset=preset, batch_size=given.batch_size, crops_per_clip=4, max_seconds=6.0, training=training, loop=loop
        )
    optimizer = OptimizerConfig(learning_rate=2e-4 if new else 1e-4, decay=0.999875)
    training = DecoderTrainingConfig(
        decoder,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        precision="bfloat16",
        ema_decay=0.999,
        speaker_steps=20_000 if new else 0,
    )
    loop = Loop(steps=200_000, validate_every=2000, checkpoint_every=5000)
    return Experiment(preset=preset, new_decoder=new, batch_size=64, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        given, model = common.flag_value("--model", argv), None
        new = any(flag in argv for flag in ("--new-decoder", "--new_decoder"))
        if given is not None:
            folder = find_model_folder(given)
            model = from_dict(XTTSConfig, read_config_file(folder).table.get("config", {}), str(folder))
            new = new or not is_trained(folder)
        return default_experiment(common.chosen_preset(argv, PRESETS, full="full"), model, new=new)

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


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
    dvae: DVAE
    tokenizer: Tokenizer


def load_source(experiment: Experiment) -> Source:
    """The model of `--model`, with its DVAE and its tokenizer.

    **Raises:** `ConfigError` without the flag; `CheckpointError` for a model without a DVAE or a vocabulary.
    """
    if experiment.model is None:
        raise ConfigError("--model is not set; pass the model folder of an XTTS, such as that of experiments.xtts_gpt.")
    folder = find_model_folder(experiment.model)
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
    return Source(folder, is_trained(folder), network, config, codec.dvae, tokenizer)


def small_encoder_folder(experiment: Experiment) -> RunFolder:
    """The run folder, beside that of the run, in which a small speaker encoder is trained."""
    return RunFolder(experiment.run_dir.with_name(f"{experiment.run_dir.name}_speaker_encoder"))


def train_small_encoder(experiment: Experiment, started: float) -> Path:
    """The run folder of a small speaker encoder that is trained on the same corpus, unless it is trained already."""
    folder = small_encoder_folder(experiment)
    if folder.has_validation():
        return folder.path
    print_once("The speaker encoder of --model was not trained; a small one is trained first.")
    given = encoder_experiment.default_experiment("tiny")
    whole = experiment.loop.minutes
    minutes = given.loop.minutes if whole is None else ENCODER_SHARE * whole
    loop = replace(given.loop, minutes=minutes, tensorboard=experiment.loop.tensorboard)
    options = {name: getattr(experiment, name) for name in ("data", "corpus", "audio_dir", "unseen")}
    try:
        result = encoder_experiment.run(replace(given, **options, run_dir=folder.path, loop=loop), started)
    except DataError as failure:
        raise DataError(f"{failure} Or pass a trained encoder with --encoder.") from None
    if result.stopped == "interrupted":
        print_once("The training of the speaker encoder was interrupted; the same command resumes it.")
        raise KeyboardInterrupt
    return folder.path


def with_encoder(source: Source, experiment: Experiment, started: float) -> tuple[Source, bool]:
    """`source` with the speaker encoder of `--encoder`, and whether it is another one than that of the model.

    Without the flag, a small one is trained if that of the model was not trained.

    **Raises:** `ConfigError` for an encoder that the model cannot use.
    """
    if experiment.encoder is None and source.trained:
        return source, False
    folder = experiment.encoder or train_small_encoder(experiment, started)
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


def find_utterances(experiment: Experiment, config: XTTSConfig) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The utterances to train on and to hold out, those of unseen speakers, and the names of these speakers.

    **Raises:** `ConfigError` or `DataError` for a language that the model does not have, or without usable recordings.
    """
    if experiment.data is None:
        corpus, usual = voice_conversion.demo_corpus(), voice_conversion.DEMO_UNSEEN
    else:
        corpus = find_corpus(experiment.data, experiment.corpus, experiment.audio_dir)
        usual = voice_conversion.VCTK_UNSEEN
    unseen = voice_conversion.chosen_unseen(experiment.run_dir, experiment.unseen, corpus)
    unseen = tuple(name for name in usual if name in corpus.speakers) if unseen is None else unseen
    corpus = voice_conversion.with_languages(corpus, config.languages, experiment.language)
    corpus, others = voice_conversion.without_speakers(corpus, unseen)
    training = experiment.training
    found = preflight(
        corpus,
        config.output_rate,
        training.segment,
        mel=training.mel,
        longest=experiment.max_seconds,
        progress=jax.process_index() == 0,
    )
    print_once(found.table())
    return found.corpus, others, unseen


def with_vectors(corpus: Corpus, source: Source, experiment: Experiment) -> tuple[Store, str]:
    """The store of the recordings with their interpolated vectors, and the identity of the vectors."""
    progress = jax.process_index() == 0
    load = ft.partial(load_store, peak_normalize=False, progress=progress)
    recordings = usable_utterances(load(corpus, source.config.input_rate), source.tokenizer.encode, source.config)
    print_once(recordings.table())
    settings = LatentsConfig(experiment.reference, experiment.reference_seconds, experiment.vectors_batch)
    print_once(f"computing the vectors of {len(recordings)} recordings, unless they are stored")
    given = source.network, source.dvae, recordings, settings
    identity = latents_identity(*given)
    columns = compute_latents(*given, identity=identity, cache=experiment.vectors, progress=progress)
    target = load(recordings.corpus, source.config.output_rate)
    scales, hop_length = source.network.hifigan_decoder.scales, experiment.training.decoder.hop_length
    return training_store(target, columns["latents"], columns["speaker"], scales, hop_length), identity


def held_out_rows(store: Store, per_speaker: int | None) -> tuple[Store, Store]:
    """The utterances of `store` for training, and those for validation."""
    _, held_out = voice_conversion.hold_out(store.corpus, per_speaker)
    ids = {one.id for one in held_out.utterances}
    trained, rows = [], []
    for row, one in enumerate(store.corpus.utterances):
        (rows if one.id in ids else trained).append(row)
    return store.subset(trained), store.subset(rows)


def initial_state(experiment: Experiment, source: Source, task: DecoderTask) -> ft.partial[DecoderState] | None:
    """Makes the state with the decoder of the model, if this has the sizes of the new one; otherwise `None`."""
    decoder = source.network.hifigan_decoder.waveform_decoder
    if experiment.new_decoder or not source.trained or decoder.config != task.config.decoder:
        print_once("training a new decoder")
        return None
    print_once("starting with the decoder of the model and new discriminators")
    return ft.partial(task.state_of, decoder, key=jax.random.key(experiment.loop.seed))


@dataclass(frozen=True)
class Sentence:
    """The sentence that the model speaks at the end."""

    text: str
    language: str
    reference: Path | None


def test_sentence(experiment: Experiment, tokenizer: Tokenizer, utterance: Utterance) -> Sentence:
    """The sentence that the model says in the voice of the recording of `utterance`.

    **Raises:** `TextError` for a `--text` with characters that the vocabulary lacks.
    """
    text = experiment.text or TEST_SENTENCE
    try:
        tokenizer.encode(text, utterance.language)
    except TextError:
        if experiment.text is not None:
            raise
        text = utterance.text
    return Sentence(text, utterance.language, utterance.audio)


def run(
    experiment: Experiment, started: float | None = None, *, sentences: list[Sentence] | None = None
) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now.

    The sentence that the model can say is appended to `sentences`.
    """
    started = time.monotonic() if started is None else started
    common.check(experiment)
    source, new_encoder = with_encoder(load_source(experiment), experiment, started)
    encoder, channels = source.network.hifigan_decoder.speaker_encoder, source.config.gpt.channels
    decoder = replace(experiment.training.decoder, in_channels=channels, cond_channels=encoder.config.dim)
    model = replace(source.config, decoder=decoder)
    corpus, unseen, names = find_utterances(experiment, model)
    sentence = test_sentence(experiment, source.tokenizer, (unseen if len(unseen) else corpus).utterances[0])
    if sentences is not None:
        sentences.append(sentence)
    store, identity = with_vectors(corpus, source, experiment)
    config = replace(experiment.training, decoder=decoder, latents_identity=identity)
    train, held_out = held_out_rows(store, experiment.validation)
    validation = None
    if len(held_out):
        validation = DecoderValidation(held_out, config.mel, decoder.hop_length, encoder)
    sampler = training_sampler(
        experiment.batch_size, config.segment_frames, decoder.hop_length, crops_per_clip=experiment.crops_per_clip
    )
    with common.loader(train, sampler, seed=experiment.loop.seed, workers=experiment.workers) as loader:
        task = DecoderTask(
            config,
            model,
            encoder,
            source=source.folder,
            new_encoder=new_encoder,
            steps_per_epoch=loader.steps_per_epoch,
            validation=validation,
            inherited_info=inherited_info(experiment.run_dir, source.folder, experiment.model),
        )
        state = initial_state(experiment, source, task)
        del source  # the language model is not needed any more
        return common.train(replace(experiment, unseen=names), task, loader, started, state)


def speak(result: TrainingResult, sentence: Sentence) -> Path | None:
    """Write the sentence, spoken with the best model of the run, to `spoken.wav`; returns `None` without a model."""

    def spoken() -> XTTSSpeech:
        model = XTTSSynthesizer.load(result.folder)
        return model.speak(sentence.text, sentence.language, reference=sentence.reference)

    return common.write_spoken(result, spoken)


def summary(
    result: TrainingResult, experiment: Experiment, seconds: float, sentence: Sentence, spoken: Path | None
) -> str:
    """The closing lines: quality, speed, samples, the spoken sentence, and the next command."""
    config = experiment.training
    audio = experiment.batch_size * config.segment / config.mel.sample_rate
    folder = shlex.quote(str(result.folder))
    rows = [
        ("validation mel L1", common.quality(result, "mel_l1")),
        *common.metrics_rows(result),
        common.speed_row(result, audio),
        *common.samples_rows(result, experiment),
        *([] if spoken is None else [("test sentence", f"{spoken}, in the voice of {sentence.reference}")]),
        *common.model_rows(result, f'jaxvoice speak "Any text." OUTPUT.wav --model {folder} --reference VOICE.wav'),
    ]
    more = "repeat the command with a larger --steps" if result.stopped == "steps" else "repeat the command"
    return common.summary_text(result, seconds, [*rows, ("continue", f"{more}; --minutes sets the time budget")])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    sentences: list[Sentence] = []

    def close(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
        return summary(result, experiment, seconds, sentences[0], speak(result, sentences[0]))

    return common.main(argv, name=NAME, parse=parse, run=ft.partial(run, sentences=sentences), summary=close)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
