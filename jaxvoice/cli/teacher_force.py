"""`jaxvoice teacher-force`: mel spectrograms of a corpus, as a model makes them, to fine-tune a vocoder on."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxvoice.cli.caching import use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import JaxvoiceWarning


@dataclass(frozen=True)
class TeacherForce:
    """Speak an aligned corpus with its own durations, and write the mels beside the recordings.

    OUTPUT/mels/ID.npy and OUTPUT/wavs/ID.wav are what a vocoder is fine-tuned on, so that it makes up for what the
    mels of the model lack: its experiment takes them with --data OUTPUT --corpus pairs.
    """

    corpus: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """The corpus that the model was trained on: alignments and recordings."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder to make."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    vocoder: str | None = None
    """The vocoder to fine-tune, as above; mels are written in the flavour that it reads."""
    kind: Literal["auto", "lj_aligned", "textgrid", "labels", "table", "filelist", "demo"] = "auto"
    """Format of the alignments, where it is not to be detected."""
    audio_dir: Path | None = None
    """Folder of the recordings, where they do not lie beside the alignments."""
    batch_size: int = 8
    """Utterances that are spoken at once; more need more memory."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Write the pairs; returns 0."""
        use_compilation_cache()
        import sys

        from jaxvoice.pipelines.teacher_forcing import teacher_force

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", JaxvoiceWarning)
            made = teacher_force(
                self.corpus,
                self.output,
                self.model,
                vocoder=self.vocoder,
                kind=self.kind,
                audio_dir=self.audio_dir,
                batch_size=self.batch_size,
                progress=sys.stderr.isatty(),
            )
        for warning in caught:
            print_message("warning", warning.message)
        print_text(made)
        print_text(f"next: {made.next_command(self.vocoder)}")
        return 0
