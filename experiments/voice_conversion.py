"""Code shared by the experiments of voice conversion: the demo corpus of many voices, and held-out utterances."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from experiments import common
from jaxvoice.config import list_names, suggest_names
from jaxvoice.data import Corpus, find_aligned, make_demo_corpus, split
from jaxvoice.data.demo import SPEAKER_VOICES, compose_sentences
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.training.logging import print_once

DEMO_SENTENCES, DEMO_SEED = 20, 1
"""Sentences of each voice of the demo corpus, and the seed of their composition."""
DEMO_UNSEEN = ("annie", "max")
"""Voices of the demo corpus that are never trained on."""
VCTK_UNSEEN = ("p343", "p351", "p360", "p362", "p363", "p374")
"""Speakers of VCTK that are never trained on, as in NVC-Net (sony/ai-research-code, `list_of_unseen_speakers.txt`)."""
VCTK_UNLISTED = ("s5",)
"""Speakers of VCTK 0.92 in neither list of NVC-Net. Its `list_of_speakers.txt` has 103 names, those of all others."""


class SpeakerRecordings(Protocol):
    """The settings of an experiment that choose recordings of speakers; each is a flag."""

    @property
    def data(self) -> Path | None:
        """The corpus; `None` for synthetic voices."""
        ...

    @property
    def corpus(self) -> common.RecordingsKind:
        """The layout of the corpus."""
        ...

    @property
    def audio_dir(self) -> Path | None:
        """The folder of the audio of a file list."""
        ...

    @property
    def run_dir(self) -> Path:
        """The folder of the run."""
        ...

    @property
    def unseen(self) -> tuple[str, ...] | None:
        """The speakers that are not trained on."""
        ...


def demo_corpus(sentences: int = DEMO_SENTENCES, seed: int = DEMO_SEED) -> Corpus:
    """Sentences by espeak-ng in 16 voices, with exact phoneme times; each voice speaks other `sentences`."""
    print_once("--data is not set; training on sentences synthesised by espeak-ng with 16 voices.")
    count = sentences * len(SPEAKER_VOICES)
    return find_aligned(make_demo_corpus(None, compose_sentences(count, seed=seed), SPEAKER_VOICES).root)


def without_unlisted(corpus: Corpus) -> Corpus:
    """`corpus` without the speakers `VCTK_UNLISTED`, which NVC-Net does not use; another corpus is not changed."""
    if corpus.kind != "vctk":
        return corpus
    return replace(corpus, utterances=tuple(one for one in corpus.utterances if one.speaker not in VCTK_UNLISTED))


def check_speakers(flag: str, names: Collection[str], corpus: Corpus) -> None:
    """Raise `ConfigError` if a speaker of `names`, the value of `flag`, is not in `corpus`."""
    for name in names:
        if name not in corpus.speakers:
            raise ConfigError(f"{flag} contains {name!r}; {suggest_names(name, corpus.speakers)}")


def chosen_unseen(run: Path, given: Collection[str] | None, corpus: Corpus) -> tuple[str, ...] | None:
    """The speakers of `--unseen`, which is `given`, or without the flag those of the run in the folder `run`.

    `None` for a new run without the flag, and for a run on another corpus with none of these speakers.

    **Raises:** `ConfigError` for a speaker that is not in `corpus`, or if the run was trained with other speakers.
    """
    known = corpus.speakers
    stored = common.stored_settings(run, ["unseen"]).get("unseen")
    if stored is None or (stored and not set(stored) & set(known)):
        if given is None or (stored is not None and tuple(given) == tuple(stored)):  # not a flag of this command
            return None
        check_speakers("--unseen", given, corpus)
        return tuple(given)
    if given is not None:
        check_speakers("--unseen", [name for name in given if name not in stored], corpus)
        if (set(given) ^ set(stored)) & set(known):
            names = [list_names(one) if one else "empty" for one in (given, stored)]
            raise ConfigError(
                f"--unseen is {names[0]}; it should be {names[1]}, the speakers on which the run in {run} is not "
                "trained. Omit --unseen, or choose another --run-dir."
            )
    return tuple(stored)


def without_speakers(corpus: Corpus, unseen: Collection[str]) -> tuple[Corpus, Corpus]:
    """The utterances of `corpus` of other speakers than `unseen`, and those of the speakers `unseen`.

    **Raises:** `DataError` if no other speaker is left.
    """
    seen = tuple(item for item in corpus.utterances if item.speaker not in unseen)
    if not seen:
        raise DataError(f"The corpus {corpus.root} has no speaker but {', '.join(sorted(unseen))}; add recordings.")
    rest = tuple(item for item in corpus.utterances if item.speaker in unseen)
    return replace(corpus, utterances=seen), replace(corpus, utterances=rest)


def hold_out(corpus: Corpus, per_speaker: int | None) -> tuple[Corpus, Corpus]:
    """Divide `corpus` into utterances for training and for validation, the last `per_speaker` of each speaker.

    `None` holds out a tenth, at least one and at most four, of each speaker. A speaker keeps at least one utterance. A
    corpus without speakers is divided by `split`.
    """
    if not corpus.speakers:
        return split(corpus, per_speaker)
    of_speaker: dict[str, list[str]] = defaultdict(list)
    for utterance in corpus.utterances:
        of_speaker[utterance.speaker].append(utterance.id)
    held_out: set[str] = set()
    for ids in of_speaker.values():
        count = min(4, max(1, len(ids) // 10)) if per_speaker is None else per_speaker
        held_out.update(ids[max(1, len(ids) - count) :] if count else ())
    train = tuple(item for item in corpus.utterances if item.id not in held_out)
    valid = tuple(item for item in corpus.utterances if item.id in held_out)
    return replace(corpus, utterances=train), replace(corpus, utterances=valid)


def with_languages(corpus: Corpus, languages: Collection[str], default: str) -> Corpus:
    """`corpus` with `default`, the value of `--language`, for utterances without a language.

    **Raises:** `ConfigError` if `languages`, those of the model, do not contain `default`, and `DataError` if they do
    not contain another language of the corpus.
    """
    utterances = []
    for one in corpus.utterances:
        if not one.language and default not in languages:
            raise ConfigError(f"--language is {default!r}; {suggest_names(default, languages)}")
        if one.language and one.language not in languages:
            raise DataError(
                f"The language of the utterance {one.id!r} is {one.language!r}; the model has "
                f"{', '.join(map(repr, languages))}. Correct the corpus, or pass all languages with --model.languages."
            )
        utterances.append(replace(one, language=one.language or default))
    return replace(corpus, utterances=tuple(utterances))
