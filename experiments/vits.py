"""Code shared by the experiments of VITS and YourTTS: stores of recordings with texts, and the test sentence."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from experiments import common, summaries
from jaxvoice.config import from_dict, list_names
from jaxvoice.data import Corpus, Store, WeightedBuckets, load_store, preflight
from jaxvoice.errors import ConfigError
from jaxvoice.models.vits import FAMILY, VITS, VITSDiscriminators
from jaxvoice.models.vits.columns import training_sampler
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.speakers import read_speakers
from jaxvoice.models.vits.training import TrainingConfig, VITSState, VITSTask
from jaxvoice.models.vits.validation import METRICS
from jaxvoice.models.vits.warm_start import load_discriminators, with_table
from jaxvoice.pipelines import VITSSynthesizer
from jaxvoice.text.symbol_texts import check_characters, texts_to_symbols
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.run_folder import model_folder
from jaxvoice.weights.model_folder import read_config_file

TEST_SENTENCE = "The quick brown fox jumps over the lazy dog, and a wizard's job is to vex chumps."
"""A sentence that is in no corpus of the experiments."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """The settings of both experiments."""

    kept = (*common.Experiment.kept, "max_seconds", "buckets")
    corpus: common.RecordingsKind = "auto"
    """Layout of the corpus, which contains the texts; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, if it is not beside it."""
    max_seconds: float = 10.0
    """Longest recording in seconds; longer ones are left out."""
    alphabet: Literal["characters", "ipa"] | None = None
    """What the model reads: characters, or the IPA, to which espeak-ng converts the texts. By default the IPA for the
    small models of the demo corpora, otherwise characters, or the alphabet of the run that is resumed."""
    buckets: int = 4
    """Number of batch shapes. Batches are padded to one of them, and each is compiled once."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    text: str = TEST_SENTENCE
    """Sentence that is synthesised at the end."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, buckets=1, workers=0)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        if self.max_seconds <= 0:
            raise ConfigError(f"--max-seconds is {self.max_seconds}; it should be positive.")
        symbols = self.training.model.symbols
        if self.alphabet not in (None, symbols.alphabet):
            raise ConfigError(
                f"--alphabet is {self.alphabet!r}, but the model reads {symbols.alphabet!r} "
                "(--model.symbols.alphabet). Omit --alphabet, or choose another --run-dir."
            )
        if symbols.alphabet == "characters":
            check_text(self)


def chosen_alphabet(argv: Sequence[str], preset: str) -> str:
    """The alphabet that the flags `argv` choose for a model of `preset`."""
    of_demo = preset == "tiny" and common.flag_value("--data", argv) is None
    alphabet = common.flag_value("--alphabet", argv) or ("ipa" if of_demo else "characters")
    common.check_choice("--alphabet", alphabet, ("characters", "ipa"))
    return alphabet


def check_text(experiment: Experiment, language: str | None = None) -> None:
    """Check, before the corpus is read, that `--text` can be spoken, and that texts can be converted to the IPA if the
    model reads it. `language` is that of the text, by default the first of the model.

    **Raises:** `TextError` for a text that the model cannot read; `MissingExtraError` without espeak-ng.
    """
    model, text = experiment.training.model, experiment.text
    name = (language or model.languages[0]) if model.languages else None
    check_characters(text, model.symbols, name)
    model.symbols.ids(*texts_to_symbols([text], model.symbols, name))


def checked(corpus: Corpus, experiment: Experiment, *, shortest: float = 0.1) -> Corpus:
    """The usable recordings of `corpus`, of `shortest` to `--max-seconds` seconds, after a table of them is printed.

    Utterances are held out of these, so that one that is too long is never held out.
    """
    mel = experiment.training.model.mel
    found = preflight(
        corpus,
        mel.sample_rate,
        mel.n_fft,
        mel=mel,
        shortest=shortest,
        longest=experiment.max_seconds,
        progress=jax.process_index() == 0,
    )
    print_once(found.table())
    return found.corpus


def load(corpus: Corpus, model: VITSConfig) -> Store:
    """The decoded recordings of `corpus`, whose levels do not change."""
    progress = jax.process_index() == 0
    return load_store(corpus, model.mel.sample_rate, peak_normalize=False, progress=progress)


def max_frames(experiment: Experiment) -> int:
    """The largest number of frames of an utterance."""
    mel = experiment.training.model.mel
    return max(1, int(experiment.max_seconds * mel.sample_rate) // mel.hop_length)


def sampler(experiment: Experiment, store: Store, model: VITSConfig, **options: Any) -> WeightedBuckets:
    """The sampler of the training."""
    return training_sampler(store, model, experiment.batch_size, buckets=experiment.buckets, **options)


def initial_state(experiment: Experiment, task: VITSTask) -> Callable[[], VITSState] | None:
    """Makes the state with the networks of `--init-from`; `None` without the flag.

    Discriminators that the model folder does not contain are new. A table of speakers has the rows of the initial model
    for speakers of the same names, and new rows for all others, which are printed.
    """
    model, seed = task.config.model, jax.random.key(experiment.loop.seed)

    def with_own_table(network: VITS, stored: VITSConfig, folder: Path) -> tuple[VITS, VITSConfig]:
        speakers = {name: row for name, row in task.speakers.items() if isinstance(row, int)}
        names = read_speakers(folder, stored).ids
        if not speakers or not names or names == speakers:
            return network, stored
        network, new = with_table(network, names, speakers, key=seed)
        print_once(
            f"speakers of the initial model that keep their rows: {len(speakers) - len(new)} of {len(names)}"
            + (f"; speakers with new, random rows: {list_names(new)}" if new else "")
        )
        return network, network.config

    network = common.initial_network(experiment, FAMILY, model, adapt=with_own_table)
    source = common.find_initial_model(experiment)
    if network is None or source is None:
        return None
    stored = load_discriminators(model_folder(source), model)
    if stored is None:
        print_once("the initial model has no discriminators, so they are new; quality may drop until they are trained")

    def make() -> VITSState:
        return task.state_of(network, stored or VITSDiscriminators(model.discriminators, key=seed))

    return make


def known_speakers(result: TrainingResult) -> tuple[str, ...]:
    """The names of the speakers of the best model; empty for one voice, and without a model."""
    folder = result.folder / "model"
    if not (folder / "config.json").is_file():
        return ()
    config = from_dict(VITSConfig, read_config_file(folder).table["config"], str(folder))
    return read_speakers(folder, config).names


def speak(result: TrainingResult, text: str, **options: Any) -> Path | None:
    """Write `text`, spoken with the best model of the run, to `spoken.wav`; returns `None` without a model."""
    return summaries.write_spoken(result, lambda: VITSSynthesizer.load(result.folder).speak(text, **options))


def summary(
    result: TrainingResult, experiment: Experiment, seconds: float, spoken: Path | None, flags: str = ""
) -> str:
    """The closing lines: quality, speed, samples, the spoken sentence, and the next commands."""
    command = f'jaxvoice speak "Any text." OUTPUT.wav --model {shlex.quote(str(result.folder))}{flags}'
    rows = [
        *summaries.metrics_rows(result),
        summaries.speed_row(result),
        *summaries.samples_rows(result, experiment),
        *([] if spoken is None else [("test sentence", str(spoken))]),
        *summaries.model_rows(result, command),
        summaries.continue_row(result),
    ]
    return summaries.summary_text(result, seconds, rows)
