"""Train the language model of XTTS: fine-tune a model, or train a small one from scratch.

    python -m experiments.xtts_gpt --init-from MODEL [--data PATH] [--run-dir DIR] [--minutes M] ...
    python -m experiments.xtts_gpt --dvae DVAE [--data PATH] [--preset tiny] ...

`--init-from` is a model folder of XTTS, such as an import of the release with its DVAE (folder `dvae`). The settings
are those of the release's fine-tuning, except that the codes of each reference, and only these, are left out of the
loss; `--masking` has switches for the release's mistakes. A batch of 252 recordings is divided into 84 parts, so that
it fits on a GPU (`--accumulate`). With several devices, each computes 3 recordings of a part, so there are fewer parts,
and `--shard-parameters` divides the model's memory among the devices.

Without `--init-from`, a new model is trained on the codes of the DVAE of `--dvae`, a run folder of
`experiments.xtts_dvae`, with a vocabulary of the texts. On a CPU, the preset `tiny` trains a small model for at most
nine minutes. Without `--data`, espeak-ng (extra `demo`) synthesises sentences in seven voices. The decoder of a new
model has random weights, so it cannot speak until the decoder is trained, too. The same command resumes a run that was
stopped. The minutes count from the start of the command.

Results: 593 steps in nine minutes on two cores predict 28 % of the codes of held-out recordings. Speech from the text
alone is not intelligible yet. All measurements are in docs/results.md.
"""

import hashlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import jax
import tyro

from experiments import common, summaries, voice_conversion, xtts_corpus
from experiments.common import Loop
from jaxvoice.config import from_dict
from jaxvoice.data import Corpus, Store, load_store, preflight
from jaxvoice.data.weighted_buckets import Attribute
from jaxvoice.errors import ConfigError, DataError, JaxvoiceError
from jaxvoice.models.xtts import FAMILY, PRESETS, XTTSConfig, preset as xtts_preset
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE, untrained_parts
from jaxvoice.models.xtts.gpt_columns import MAX_SAMPLES, MAX_TOKENS, training_columns, training_sampler
from jaxvoice.models.xtts.gpt_training import GPTState, GPTTask, GPTTrainingConfig, gpt_optimizer
from jaxvoice.models.xtts.gpt_validation import METRICS, GPTValidation
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.models.xtts.vocabulary_training import train_vocabulary
from jaxvoice.models.xtts.voices import StoredVoice, read_voices
from jaxvoice.models.xtts_dvae import FAMILY as DVAE_FAMILY, CodecConfig, CodecNetwork
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.training import parallel
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info, model_folder
from jaxvoice.weights.array_names import identity_of
from jaxvoice.weights.model_folder import CONFIG_FILE, read_config_file

NAME = "xtts_gpt"
DEMO_SENTENCES, DEMO_SEED = 200, 2
"""Sentences of each voice of the demo corpus, more than an hour altogether, since a model learns twenty minutes by
heart; and the seed of their composition, with which none of them is one of the new sentences of the benchmarks."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train the language model of XTTS; every setting is a flag."""

    kept = (
        *(*common.Experiment.kept, "dvae", "vocabulary", "vocabulary_size", "language", "unseen", "balance"),
        *("max_samples", "max_tokens", "buckets"),
    )
    hidden = MappingProxyType({GPTTrainingConfig: ["dvae_identity", "vocabulary_identity"]})
    run_dir: Path = Path("runs/xtts_gpt")
    """Folder for checkpoints, logs and the best model."""
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus, which contains the texts; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, if it is not beside it."""
    dvae: Path | None = None
    """Model folder, run folder or Hub id of the DVAE that computes the codes; by default that in --init-from."""
    vocabulary: Path | None = None
    """The vocab.json of the text tokens; by default that of --init-from, or for a new model one of its texts."""
    vocabulary_size: int = 256
    """Largest number of text tokens of a vocabulary that is trained on the texts."""
    language: str = "en"
    """Language of utterances whose corpus does not name it."""
    unseen: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]")] = None
    """Speakers that are never trained on. By default, two voices of the demo corpus, or six speakers of VCTK."""
    balance: tuple[Attribute, ...] = ("language",)
    """Attributes that are balanced, one after the other."""
    max_samples: int = MAX_SAMPLES
    """Samples of the longest recording at 22,050 Hz; longer ones are left out."""
    max_tokens: int = MAX_TOKENS
    """Tokens of the longest text; utterances with longer ones are left out."""
    buckets: int = 4
    """Number of batch shapes. Batches are padded to one of them, and each is compiled once."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    training: Annotated[GPTTrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=GPTTrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, buckets=1, workers=0, max_samples=1, max_tokens=1, vocabulary_size=8)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        parts = self.training.accumulate
        if self.batch_size % parts:
            raise ConfigError(f"--batch-size is {self.batch_size}; it should be a multiple of --accumulate, {parts}.")


def default_experiment(preset: str, *, initial: XTTSConfig | None = None) -> Experiment:
    """The settings of a preset, for a new model or one that starts with a model of the configuration `initial`."""
    model = initial or xtts_preset(preset)
    if preset == "tiny":
        optimizer = OptimizerConfig(
            learning_rate=1e-3, b1=0.9, b2=0.96, weight_decay_on="kernels", schedule="exponential", decay=0.998,
            decay_steps=2, warmup_steps=50, clip_norm=1.0,
        )  # fmt: skip
        training = GPTTrainingConfig(model, optimizer, text_weight=0.1, reference_seconds=(1.0, 2.5))
        loop = Loop(minutes=8.5, validate_every=200, checkpoint_every=500, log_every=50, best_metric="code_loss")
        devices = jax.device_count()
        return Experiment(preset=preset, batch_size=devices * -(-8 // devices), buckets=1, training=training, loop=loop)
    loop = Loop(steps=500_000, validate_every=1000, checkpoint_every=1000, best_metric="code_loss")
    optimizer, batch_size, rows = gpt_optimizer(), 252, 3 * jax.device_count()
    if initial is None:  # arXiv 2406.04904, section 3
        optimizer = replace(optimizer, learning_rate=5e-5, milestones=(5_000, 150_000, 300_000))
        batch_size, rows = 128, 8 * jax.device_count()
    parts = -(-batch_size // rows)
    training = GPTTrainingConfig(model, optimizer, accumulate=parts, precision="bfloat16")
    return Experiment(preset=preset, batch_size=parts * rows, workers=4, training=training, loop=loop)


def check_parts(experiment: Experiment) -> None:
    """Raise `ConfigError` unless the rows of each part of a batch, which is a multiple of the devices, divide evenly
    among the devices."""
    devices, parts = parallel.data_mesh().size, experiment.training.accumulate
    rows = experiment.batch_size // devices
    if rows % parts:
        most = max(count for count in range(1, parts) if rows % count == 0)
        raise ConfigError(
            f"--accumulate is {parts}, so a part of a batch has {experiment.batch_size // parts} recording(s); it "
            f"should have a multiple of the number of devices, {devices}. Set --accumulate to {most}."
        )


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        source = common.flag_value("--init-from", argv)
        initial = None if source is None else initial_config(Path(source))
        named = common.flag_value("--preset", argv) is not None
        preset = "v2" if initial is not None and not named else common.chosen_preset(argv, PRESETS, full="v2")
        return default_experiment(preset, initial=initial)

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def initial_config(source: Path) -> XTTSConfig | None:
    """The configuration of the model in `source`; `None` if there is none, which is an error later."""
    try:
        folder = model_folder(source) if source.is_dir() else find_model_folder(source)
        return from_dict(XTTSConfig, read_config_file(folder).table["config"], str(folder))
    except (JaxvoiceError, KeyError):
        return None


def known_folders(experiment: Experiment) -> list[Path]:
    """The model folder of the run, if it has one, and that of `--init-from`, if it is set."""
    own, source = RunFolder(experiment.run_dir).model, common.find_initial_model(experiment)
    folders = [own] if (own / CONFIG_FILE).is_file() else []
    return folders + ([] if source is None else [model_folder(source)])


def load_dvae(experiment: Experiment) -> tuple[CodecNetwork, dict[str, Any]]:
    """The DVAE of `--dvae`, or that in the model folder of the run or of `--init-from`, and its metadata.

    **Raises:** `ConfigError` without one; `CheckpointError` if it cannot be read.
    """
    if experiment.dvae is not None:
        example = "the run folder of experiments.xtts_dvae"
        folder = common.find_model("--dvae", experiment.dvae, DVAE_FAMILY, example, inside=DVAE_FOLDER)
    else:
        inside = [folder / DVAE_FOLDER for folder in known_folders(experiment)]
        found = [folder for folder in inside if (folder / CONFIG_FILE).is_file()]
        if not found:
            where = f"{experiment.init_from} contains none" if experiment.init_from else "a new model needs one"
            raise ConfigError(
                f"--dvae is not set, and {where}. Train a DVAE with python -m experiments.xtts_dvae, and pass its run "
                "folder with --dvae."
            )
        folder = found[0]
    network, _ = DVAE_FAMILY.load_network(folder)
    return network, dict(read_config_file(folder).table.get("info") or {})


def tokenizer_of(experiment: Experiment, corpus: Corpus) -> Tokenizer:
    """The tokenizer with `--vocabulary`, or with the vocabulary of the run or of `--init-from`, or a new one of the
    texts of `corpus`."""
    most = experiment.training.model.gpt.max_text
    if experiment.vocabulary is not None:
        return Tokenizer.load(experiment.vocabulary, max_text=most)
    for folder in known_folders(experiment):
        if (folder / VOCABULARY_FILE).is_file():
            return Tokenizer.load(folder / VOCABULARY_FILE, max_text=most)
    if experiment.init_from is not None and not RunFolder(experiment.run_dir).has_progress():
        raise ConfigError(f"{experiment.init_from} contains no {VOCABULARY_FILE}; pass it with --vocabulary.")
    read = [one for one in corpus.utterances if one.text.strip()]
    if not read:
        raise DataError("The corpus has no texts, which the language model reads; pass a corpus with texts (--data).")
    texts, languages = [one.text for one in read], [one.language for one in read]
    vocabulary = train_vocabulary(texts, languages, experiment.vocabulary_size)
    return Tokenizer(vocabulary, max_text=most)


def fitted(model: XTTSConfig, codec: CodecConfig, tokenizer: Tokenizer) -> XTTSConfig:
    """The configuration of a new model for the codes of a DVAE and the tokens of a vocabulary."""
    count = codec.dvae.codes
    gpt = replace(
        model.gpt,
        text_ids=tokenizer.vocabulary_size,
        start_text=tokenizer.start_id,
        stop_text=tokenizer.stop_id,
        audio_ids=count + 2,
        start_audio=count,
        stop_audio=count + 1,
    )
    return replace(model, gpt=gpt, dvae=codec.dvae)


def find_utterances(experiment: Experiment) -> tuple[Corpus, tuple[str, ...]]:
    """The usable recordings of speakers that are trained on, all with a language, and the names of unseen speakers.

    A table of the recordings is printed.
    """
    model = experiment.training.model
    corpus, _, unseen = xtts_corpus.find_utterances(
        experiment, model.languages, sentences=DEMO_SENTENCES, seed=DEMO_SEED
    )
    rate, least = model.input_rate, 2 * model.gpt.conditioning.mel.min_samples
    longest = experiment.max_samples / rate
    found = preflight(corpus, rate, least, longest=longest, progress=jax.process_index() == 0)
    print_once(found.table())
    return found.corpus, unseen


def random_parts(experiment: Experiment) -> tuple[str, ...]:
    """The parts of the network that have random weights and are not trained."""
    folders = known_folders(experiment)
    return untrained_parts(folders[0]) if folders else ("hifigan_decoder",)


def checked_identities(config: GPTTrainingConfig, codec: CodecNetwork, tokenizer: Tokenizer) -> GPTTrainingConfig:
    """`config` with the identities of DVAE and vocabulary.

    **Raises:** `ConfigError` if the run was trained with others.
    """
    codes = identity_of(codec.dvae, codec.mel_stats.tolist())
    words = hashlib.sha256(tokenizer.vocabulary).hexdigest()
    for flag, stored, found in (
        ("--dvae", config.dvae_identity, codes),
        ("--vocabulary", config.vocabulary_identity, words),
    ):
        if stored not in (None, found):
            raise ConfigError(
                f"{flag} is another one ({found[:12]}) than that of the run ({str(stored)[:12]}); pass that one, or "
                "choose another --run-dir."
            )
    return replace(config, dvae_identity=codes, vocabulary_identity=words)


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    common.check(experiment)
    check_parts(experiment)
    codec, codec_info = load_dvae(experiment)
    corpus, unseen = find_utterances(experiment)
    tokenizer = tokenizer_of(experiment, corpus)
    config, loop = experiment.training, experiment.loop
    if experiment.init_from is None:
        config = replace(config, model=fitted(config.model, codec.config, tokenizer))
    tokenizer.check(config.model.gpt)
    config = checked_identities(config, codec, tokenizer)
    model = config.model

    def load(part: Corpus) -> Store:
        progress = jax.process_index() == 0
        recordings = load_store(part, model.input_rate, peak_normalize=False, progress=progress)
        limits = {"max_samples": experiment.max_samples, "max_tokens": experiment.max_tokens}
        return training_columns(recordings, model, tokenizer.encode, **limits)

    parts = voice_conversion.hold_out(corpus, experiment.validation)
    store, held_out = common.load_split(load, parts)
    print_once(store.table())
    validation = None
    if held_out is not None:
        validation = GPTValidation(held_out, model, reference_samples=config.reference_samples)
    source = common.find_initial_model(experiment)
    inherited = inherited_info(experiment.run_dir, source, experiment.init_from)
    sampler = training_sampler(
        store, model, experiment.batch_size, buckets=experiment.buckets, balance=experiment.balance
    )
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        task = GPTTask(
            config,
            steps_per_epoch=loader.steps_per_epoch,
            codec=codec,
            codec_info=codec_info,
            vocabulary=tokenizer.vocabulary,
            voices=stored_voices(experiment, model),
            untrained=random_parts(experiment),
            validation=validation,
            inherited_info=inherited,
        )
        given = replace(experiment, unseen=unseen)
        return common.train(given, task, loader, started, initial_state(experiment, task))


def stored_voices(experiment: Experiment, model: XTTSConfig) -> dict[str, StoredVoice]:
    """The stored voices of the run or of `--init-from`; empty for a new model."""
    for folder in known_folders(experiment):
        if found := read_voices(folder, model):
            return found
    return {}


def initial_state(experiment: Experiment, task: GPTTask) -> Callable[[], GPTState] | None:
    """Makes the state with the networks of `--init-from`; `None` without the flag."""
    network = common.initial_network(experiment, FAMILY, task.config.model)
    return None if network is None else lambda: task.state_of(network)


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, where the model is, and the next command."""
    model = shlex.quote(str(result.folder))
    if random_parts(experiment):
        command = f"python -m experiments.xtts_decoder --model {model}"
    else:
        command = f'jaxvoice speak "Any text." OUTPUT.wav --model {model} --reference RECORDING.wav'
    rows = [
        ("validation loss", summaries.quality(result, "code_loss")),
        *summaries.metrics_rows(result),
        summaries.speed_row(result),
        *summaries.model_rows(result, command),
        summaries.continue_row(result),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
