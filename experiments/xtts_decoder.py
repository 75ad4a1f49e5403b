"""Train the decoder of XTTS: a HiFi-GAN that turns latents of the language model into speech.

    python -m experiments.xtts_decoder --model DIR [--data PATH] [--encoder DIR] [--run-dir DIR] [--minutes M] ...

`--model` is a model folder of XTTS with its DVAE, such as that of `experiments.xtts_gpt` or of `jaxvoice import`.
First, the language model reads the text, the codes and a reference of each recording of `--data`, a corpus with texts;
its latents and the vectors of the speaker encoder are stored in the cache folder. Then the decoder is trained on them,
with the losses of HiFi-GAN and a speaker consistency loss. The result is a complete model folder of XTTS. At the end,
the model speaks a sentence, in the voice of an unseen speaker if there is one.

Without `--data`, espeak-ng (extra `demo`) synthesises sentences in seven voices. `--encoder` is the folder of another
speaker encoder, such as that of `experiments.speaker_encoder`. On a GPU or TPU, the preset `full` fine-tunes the
decoder of the model. On a CPU, the preset `tiny` trains a small, new decoder, and a small speaker encoder if
that of the model is random. The command takes about fifteen minutes.

Results: after 15,692 steps on two cores, a recogniser makes 8.4 % word errors in new sentences that are decoded from
latents of their own codes (recordings: 5.6 %). All measurements are in docs/results.md.
"""

import contextlib
import functools as ft
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import jax
import tyro

from experiments import common, summaries, voice_conversion, xtts_corpus, xtts_source, xtts_speaker_encoder
from experiments.common import Loop
from experiments.hifigan_l40 import default_experiment as vocoder_experiment
from experiments.vits import TEST_SENTENCE
from jaxvoice.config import from_dict
from jaxvoice.data import Corpus, Store, Utterance, load_store, preflight
from jaxvoice.errors import ConfigError, TextError
from jaxvoice.models.hifigan import preset as vocoder_preset
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.xtts import XTTSConfig
from jaxvoice.models.xtts.bundle import untrained_parts
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
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.pipelines.xtts_speech import XTTSSpeech
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info
from jaxvoice.weights.model_folder import read_config_file

NAME = "xtts_decoder"
PRESETS = ("full", "tiny")
DEMO_SENTENCES, DEMO_SEED = 60, 3
"""Sentences of each voice of the demo corpus, and the seed of their composition. They are not those of the language
model, whose predictions of sentences that it was trained on are better than those of new ones."""


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
    """Model folder, run folder or Hub id of an XTTS with its DVAE, whose language model computes the latents."""
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
    latents: Path | None = None
    """Folder of the computed latents; by default in the cache folder."""
    latents_batch: int = 8
    """Recordings whose latents are computed at a time."""
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
        common.check_at_least(self, workers=0, crops_per_clip=1, latents_batch=1)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        if self.max_seconds <= 0:
            raise ConfigError(f"--max-seconds is {self.max_seconds}; it should be positive.")


def default_experiment(preset: str, model: XTTSConfig | None = None, *, new: bool = False) -> Experiment:
    """The settings of a preset for the decoder of `model`; `new`: for a decoder with random weights."""
    decoder = decoder_config() if model is None else model.decoder
    if preset == "tiny":
        small, given = vocoder_preset("tiny"), vocoder_experiment("tiny")
        optimizer = replace(given.training.generator_optimizer, decay=0.998)
        training = replace(
            DecoderTrainingConfig(),
            decoder=replace(decoder, **small_decoder_sizes()),
            segment_frames=64,
            discriminators=small.discriminators,
            generator_optimizer=optimizer,
            discriminator_optimizer=optimizer,
            loss_weights=replace(given.training.loss_weights, adversarial=1 / 4),
            ema_decay=given.training.ema_decay,
            reconstruction_steps=given.training.reconstruction_steps,
            speaker_steps=20_000,
        )
        loop = replace(given.loop, minutes=14.0)
        devices = jax.device_count()
        return Experiment(
            preset=preset,
            batch_size=devices * -(-2 // devices),
            crops_per_clip=4,
            max_seconds=6.0,
            training=training,
            loop=loop,
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


def small_decoder_sizes() -> dict[str, Any]:
    """The sizes of the decoder of the preset `tiny`: those of the small vocoder with one more stage.

    The vector of a code is computed before the code is known, which only the next vector contains, 4.4 frames later.
    With a first stage of twice the frame rate, it reads 10 frames before and after a frame instead of 5.
    """
    small = vocoder_preset("tiny").generator
    sizes = {name: getattr(small, name) for name in ("resblock", "resblock_kernel_sizes", "resblock_dilation_sizes")}
    rates = (2, 4, 4, 8)
    return sizes | {
        "upsample_rates": rates,
        "upsample_kernel_sizes": tuple(2 * rate for rate in rates),
        "upsample_initial_channel": 256,
    }


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        given, model = common.flag_value("--model", argv), None
        new = any(flag in argv for flag in ("--new-decoder", "--new_decoder"))
        if given is not None:
            folder = xtts_source.find_folder(given)
            model = from_dict(XTTSConfig, read_config_file(folder).table.get("config", {}), str(folder))
            new = new or bool(untrained_parts(folder))
        return default_experiment(common.chosen_preset(argv, PRESETS, full="full"), model, new=new)

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_utterances(experiment: Experiment, config: XTTSConfig) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The utterances to train on and to hold out, those of unseen speakers, and the names of these speakers.

    **Raises:** `ConfigError` or `DataError` for a language that the model does not have, or without usable recordings.
    """
    corpus, others, unseen = xtts_corpus.find_utterances(
        experiment, config.languages, sentences=DEMO_SENTENCES, seed=DEMO_SEED
    )
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


def with_latents(corpus: Corpus, source: xtts_source.Source, experiment: Experiment) -> tuple[Store, str]:
    """The store of the recordings with their interpolated latents, and the identity of the latents."""
    progress = jax.process_index() == 0
    load = ft.partial(load_store, peak_normalize=False, progress=progress)
    recordings = usable_utterances(load(corpus, source.config.input_rate), source.tokenizer.encode, source.config)
    print_once(recordings.table())
    settings = LatentsConfig(experiment.reference, experiment.reference_seconds, experiment.latents_batch)
    print_once(f"computing the latents of {len(recordings)} recordings, unless they are stored")
    given = source.network, source.codec, recordings, settings
    identity = latents_identity(*given)
    columns = compute_latents(*given, identity=identity, cache=experiment.latents, progress=progress)
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


def initial_state(
    experiment: Experiment, source: xtts_source.Source, task: DecoderTask
) -> ft.partial[DecoderState] | None:
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


def test_sentence(experiment: Experiment, tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> Sentence:
    """The sentence that the model speaks at the end, in the voice of the recording of one of `utterances`.

    It is that of `--text`, or by default a sentence that is in no corpus. If the vocabulary cannot encode that
    sentence, it is the first text of `utterances` that it can.

    **Raises:** `TextError` for a `--text` with characters that the vocabulary lacks, or if no text can be encoded.
    """
    first = utterances[0]
    if experiment.text is not None:
        tokenizer.encode(experiment.text, first.language)
        return Sentence(experiment.text, first.language, first.audio)
    for text, one in ((TEST_SENTENCE, first), *((one.text, one) for one in utterances)):
        with contextlib.suppress(TextError):
            tokenizer.encode(text, one.language)
            return Sentence(text, one.language, one.audio)
    raise TextError(
        f"None of the texts of {len(utterances)} utterance(s) can be encoded with the vocabulary of --model; train one "
        "with the characters of the corpus (experiments.xtts_gpt --vocabulary-size)."
    )


def run(
    experiment: Experiment, started: float | None = None, *, sentences: list[Sentence] | None = None
) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now.

    The sentence that the model speaks at the end is appended to `sentences`.
    """
    started = time.monotonic() if started is None else started
    common.check(experiment)
    source, new_encoder = xtts_speaker_encoder.with_encoder(
        xtts_source.load_source(experiment.model), experiment, started
    )
    encoder, channels = source.network.hifigan_decoder.speaker_encoder, source.config.gpt.channels
    decoder = replace(experiment.training.decoder, in_channels=channels, cond_channels=encoder.config.dim)
    model = replace(source.config, decoder=decoder)
    corpus, unseen, names = find_utterances(experiment, model)
    # Without unseen speakers, the voice is that of the last utterances, which are held out.
    sentence = test_sentence(experiment, source.tokenizer, unseen.utterances or corpus.utterances[::-1])
    if sentences is not None:
        sentences.append(sentence)
    store, identity = with_latents(corpus, source, experiment)
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

    return summaries.write_spoken(result, spoken)


def summary(
    result: TrainingResult, experiment: Experiment, seconds: float, sentence: Sentence, spoken: Path | None
) -> str:
    """The closing lines: quality, speed, samples, the spoken sentence, and the next command."""
    config = experiment.training
    audio = experiment.batch_size * config.segment / config.mel.sample_rate
    folder = shlex.quote(str(result.folder))
    rows = [
        ("validation mel L1", summaries.quality(result, "mel_l1")),
        *summaries.metrics_rows(result),
        summaries.speed_row(result, audio),
        *summaries.samples_rows(result, experiment),
        *([] if spoken is None else [("test sentence", f"{spoken}, in the voice of {sentence.reference}")]),
        *summaries.model_rows(result, f'jaxvoice speak "Any text." OUTPUT.wav --model {folder} --reference VOICE.wav'),
    ]
    return summaries.summary_text(result, seconds, [*rows, summaries.continue_row(result)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    sentences: list[Sentence] = []

    def close(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
        return summary(result, experiment, seconds, sentences[0], speak(result, sentences[0]))

    return common.main(argv, name=NAME, parse=parse, run=ft.partial(run, sentences=sentences), summary=close)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
