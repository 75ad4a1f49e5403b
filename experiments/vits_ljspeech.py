"""Train VITS, text to speech without alignments, on recordings of one or several speakers with their texts.

    python -m experiments.vits_ljspeech [--data PATH] [--run-dir DIR] [--preset NAME] [--alphabet ipa] [--minutes M] ...

`--data` is a corpus with texts: LJSpeech, a file list, a table. With `--preset vctk` or `original_vctk`, the model has
a table of speakers, one row for each speaker of the corpus, which are drawn equally often. The model reads characters.
With `--alphabet ipa`, it reads the letters of the IPA, as the release does: espeak-ng (extra `demo`) converts all texts
at the start, and those of a synthesis. Without `--data`, espeak-ng (extra `demo`) synthesises half an hour of English
speech with one voice, and the small model reads the IPA. On a GPU or TPU, the preset `ljspeech` trains with the
settings of the release. On a CPU, the preset `tiny` trains a small VITS for at most fifteen minutes in total. At the
end, the best model says a sentence that is not in the corpus, with a table of speakers in the first voice. The same
command resumes a run that was stopped. Measurements of the small model are in docs/results.md; the other presets have
not been measured.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from experiments import common, text_to_speech, vits, voice_conversion
from experiments.common import Loop
from jaxvoice.data import Corpus, Store, find_corpus, make_demo_corpus, split
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import ConfigError
from jaxvoice.models.vits import PRESETS, preset as vits_preset
from jaxvoice.models.vits.columns import training_columns
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.training import TrainingConfig, VITSTask
from jaxvoice.models.vits.validation import Validation
from jaxvoice.text.symbol_table import ENGLISH_CHARACTERS, VITS_SYMBOLS
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import inherited_info

NAME = "vits_ljspeech"
SYMBOLS = MappingProxyType({"characters": ENGLISH_CHARACTERS, "ipa": VITS_SYMBOLS})
"""The symbols of each alphabet: English characters, or those of the release."""


@dataclass(frozen=True)
class Experiment(vits.Experiment):
    """Train VITS on one voice or on a table of speakers; every setting is a flag."""

    hidden = MappingProxyType(
        {
            TrainingConfig: ["encoder_identity", "speaker_steps"],
            LossWeights: ["speaker"],
            VITSConfig: ["languages", "speaker_channels"],
        }
    )
    run_dir: Path = Path("runs/vits_ljspeech")
    """Folder for checkpoints, logs, samples and the best model."""


def tiny_optimizer() -> OptimizerConfig:
    """The optimiser of short trainings of small networks."""
    return OptimizerConfig(learning_rate=1e-3, eps=1e-9, decay=0.5, decay_steps=1000, warmup_steps=50)


def default_experiment(preset: str, alphabet: str = "characters") -> Experiment:
    """The settings of a preset, for a model that reads the `alphabet`."""
    model = replace(vits_preset(preset), symbols=SYMBOLS[alphabet])
    if preset == "tiny":
        optimizer = tiny_optimizer()
        training = TrainingConfig(model, optimizer, optimizer, ema_decay=0.99, reconstruction_steps=1300)
        loop = Loop(minutes=14.0, validate_every=0, checkpoint_every=500, log_every=50)
        return Experiment(preset=preset, batch_size=8, buckets=1, max_seconds=5.5, training=training, loop=loop)
    loop = Loop(steps=800_000, validate_every=2000, checkpoint_every=5000)
    training = TrainingConfig(model, precision="bfloat16")
    return Experiment(preset=preset, batch_size=64, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""
    presets = [name for name, model in PRESETS.items() if model.num_speakers or not model.speaker_channels]

    def default() -> Experiment:
        preset = common.chosen_preset(argv, presets, full="ljspeech")
        return default_experiment(preset, vits.chosen_alphabet(argv, preset))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_texts(experiment: Experiment) -> Corpus:
    """The recordings with texts to train on, by default sentences of espeak-ng in one voice, or for a table of speakers
    in 16.

    **Raises:** `DataError` for a table of speakers and recordings without a speaker.
    """
    many = experiment.training.model.num_speakers > 0
    if experiment.data is not None:
        corpus = find_corpus(experiment.data, experiment.corpus, experiment.audio_dir)
        if many:
            rows_of_speakers(corpus)  # raises an error before files are decoded
        return corpus
    if many:
        return voice_conversion.demo_corpus()
    print_once("--data is not set; training on sentences synthesised by espeak-ng with one voice.")
    sentences = compose_sentences(text_to_speech.DEMO_SENTENCES, seed=text_to_speech.DEMO_SEED)
    return make_demo_corpus(None, sentences, VOICES[:1])


def with_speakers(config: TrainingConfig, corpus: Corpus) -> TrainingConfig:
    """`config` with a row for each speaker of `corpus`, for a model with a table of speakers."""
    if not config.model.num_speakers:
        return config
    return replace(config, model=replace(config.model, num_speakers=len(corpus.speakers)))


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    config, loop = experiment.training, experiment.loop
    common.check(experiment)
    vits.check_text(experiment)
    if config.loss_weights.speaker:
        raise ConfigError(
            f"loss_weights.speaker is {config.loss_weights.speaker}, so the run in {experiment.run_dir} is one of "
            "experiments.yourtts_vctk. Use that experiment, or choose another --run-dir."
        )
    corpus = vits.checked(find_texts(experiment), experiment)
    config = with_speakers(config, corpus)
    names = corpus.speakers if config.model.num_speakers else ()

    def load(part: Corpus) -> Store:
        frames = vits.max_frames(experiment)
        return training_columns(vits.load(part, config.model), config.model, speakers=names, max_frames=frames)

    divide = voice_conversion.hold_out if names else split
    store, held_out = common.load_split(load, divide(corpus, experiment.validation))
    print_once(store.table())
    validation = None if held_out is None else Validation(held_out, config.model)
    sampler = vits.sampler(experiment, store, config.model, balance=("speaker",) if names else ())
    missing = sorted(set(names) - set(store.corpus.speakers))
    if missing:
        print_once(f"voices without a usable utterance, which are not trained: {', '.join(missing)}")
    inherited = inherited_info(experiment.run_dir, common.find_initial_model(experiment), experiment.init_from)
    with common.loader(store, sampler, seed=loop.seed, workers=experiment.workers) as loader:
        task = VITSTask(
            config,
            steps_per_epoch=loader.steps_per_epoch,
            speakers={name: number for number, name in enumerate(names)},
            validation=validation,
            inherited_info=inherited,
        )
        return common.train(experiment, task, loader, started, vits.initial_state(experiment, task))


def close(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines, after the best model has said the test sentence, in the first voice of a table."""
    names = vits.known_speakers(result)
    if not names:
        return vits.summary(result, experiment, seconds, vits.speak(result, experiment.text))
    spoken = vits.speak(result, experiment.text, speaker=names[0])
    return vits.summary(result, experiment, seconds, spoken, f" --speaker {shlex.quote(names[0])}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=close)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
