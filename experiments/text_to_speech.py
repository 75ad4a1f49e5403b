"""Code shared by text-to-speech experiments: aligned corpora, vocoders, and the test sentence."""

import shlex
from pathlib import Path
from typing import Any

from experiments import common, summaries
from jaxvoice.data import Corpus, find_aligned, make_demo_corpus
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.dsp import MelConfig
from jaxvoice.models.gaussian_tts.validation import VocoderFunction
from jaxvoice.pipelines.mel_to_audio import MelToAudio
from jaxvoice.pipelines.synthesizer import Synthesizer
from jaxvoice.text.phonemes import PhoneSet
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult

DEMO_SENTENCES, DEMO_SEED = 400, 0


def find_alignments(experiment: common.Experiment, phone_set: PhoneSet, **options: Any) -> Corpus:
    """Find the aligned corpus to train on, by default 400 sentences of espeak-ng in one voice, and print a table of it.

    `options` are keyword arguments of `find_aligned` for the corpus in `--data`.
    """
    if experiment.data is None:
        print_once("--data is not set; training on sentences synthesised by espeak-ng with one voice.")
        root = make_demo_corpus(None, compose_sentences(DEMO_SENTENCES, seed=DEMO_SEED), VOICES[:1]).root
        corpus = find_aligned(root, phone_set=phone_set)
    else:
        corpus = find_aligned(experiment.data, phone_set=phone_set, **options)
    print_once(corpus.table())
    return corpus


def vocoder_function(vocoder: Path | None, mel: MelConfig) -> VocoderFunction | None:
    """A function from mels `(mels, frames)` to audio with the vocoder in a model or run folder; `None` without one.

    **Raises:** `MelError` if the vocoder has another mel contract than `mel`.
    """
    if vocoder is None:
        return None
    convert = MelToAudio(vocoder, mel)
    return lambda spectrogram: convert([spectrogram])[0]


def speak(result: TrainingResult, text: str, vocoder: Path | None) -> Path | None:
    """Write `text`, spoken with the best model of the run, to `spoken.wav`; returns `None` without a model."""
    return summaries.write_spoken(result, lambda: Synthesizer.load(result.folder, vocoder=vocoder).speak(text))


def spoken_rows(result: TrainingResult, spoken: Path | None, vocoder: Path | None) -> list[summaries.Row]:
    """The file of the test sentence, if there is one, and the command that synthesises other texts."""
    if spoken is None:
        return []
    flags = "" if vocoder is None else f" --vocoder {shlex.quote(str(vocoder))}"
    command = f'jaxvoice speak "Any text." OUTPUT.wav --model {shlex.quote(str(result.folder))}{flags}'
    return [("test sentence", str(spoken)), ("next", command)]
