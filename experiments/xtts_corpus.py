"""The recordings on which the language model and the decoder of XTTS are trained, by default synthetic speech."""

from collections.abc import Collection
from typing import Protocol

from experiments import voice_conversion
from jaxvoice.data import Corpus, find_aligned, find_corpus, make_demo_corpus
from jaxvoice.data.demo import SPEAKER_VOICES, VOICES, compose_sentences
from jaxvoice.training.logging import print_once

DEMO_UNSEEN = voice_conversion.DEMO_UNSEEN
"""Voices of the demo corpus that are never trained on."""
DEMO_VOICES = (*VOICES, *(voice for voice in SPEAKER_VOICES if voice.speaker in DEMO_UNSEEN))
"""The voices of the demo corpus: those on which the DVAE is trained, and the unseen ones."""


class Settings(voice_conversion.SpeakerRecordings, Protocol):
    """The settings of an experiment that choose its recordings; each is a flag."""

    @property
    def language(self) -> str:
        """The language of utterances whose corpus does not name it."""
        ...


def demo_corpus(sentences: int, seed: int) -> Corpus:
    """Sentences by espeak-ng in seven voices; each voice speaks other `sentences`, composed with `seed`."""
    print_once(f"--data is not set; training on sentences synthesised by espeak-ng with {len(DEMO_VOICES)} voices.")
    texts = compose_sentences(sentences * len(DEMO_VOICES), seed=seed)
    return find_aligned(make_demo_corpus(None, texts, DEMO_VOICES).root)


def find_utterances(
    settings: Settings, languages: Collection[str], *, sentences: int, seed: int
) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The utterances of the speakers to train on, those of unseen speakers, and their names; all have a language.

    **Arguments:** `languages` of the model; `sentences` and `seed` of the demo corpus.

    **Raises:** `ConfigError` or `DataError` for a corpus, a speaker or a language that does not exist.
    """
    if settings.data is None:
        corpus, usual = demo_corpus(sentences, seed), DEMO_UNSEEN
    else:
        corpus = find_corpus(settings.data, settings.corpus, settings.audio_dir)
        usual = voice_conversion.VCTK_UNSEEN
    unseen = voice_conversion.chosen_unseen(settings.run_dir, settings.unseen, corpus)
    unseen = tuple(name for name in usual if name in corpus.speakers) if unseen is None else unseen
    corpus = voice_conversion.with_languages(corpus, languages, settings.language)
    return *voice_conversion.without_speakers(corpus, unseen), unseen
