"""`jaxvoice demo-corpus`: write the demo corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class DemoCorpus:
    """Create a corpus of synthetic English speech (by default five minutes) with exact phoneme times, laid out like
    LJSpeech.

    espeak-ng synthesises the speech offline; install it with: pip install 'jaxvoice[demo]'.
    """

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = None
    """Folder of the corpus; by default in the user's cache folder."""
    sentences: int | None = None
    """Number of sentences generated from templates, instead of the default ones; 400 are half an hour of speech."""
    voices: int | None = None
    """Number of voices, up to 16; text to speech needs one. Six and more are other voices than up to five, and differ
    more."""
    seed: int = 0
    """Seed of the template sentences."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Create the corpus and print its folder."""
        from jaxvoice.console import print_text
        from jaxvoice.data import make_demo_corpus
        from jaxvoice.data.demo import SPEAKER_VOICES, VOICES, compose_sentences

        if self.voices is not None and not 1 <= self.voices <= len(SPEAKER_VOICES):
            raise ConfigError(f"--voices is {self.voices}; it should be from 1 to {len(SPEAKER_VOICES)}.")
        if self.seed and self.sentences is None:
            raise ConfigError(
                f"--seed is {self.seed}; it should be 0 without --sentences, which it affects. Add --sentences."
            )
        composed = None if self.sentences is None else compose_sentences(self.sentences, seed=self.seed)
        voices = VOICES if self.voices is None or self.voices <= len(VOICES) else SPEAKER_VOICES
        corpus = make_demo_corpus(self.folder, composed, voices[: self.voices])
        print_text(f"{len(corpus)} utterances by {len(corpus.speakers)} speaker(s) in {corpus.root}")
        return 0
