"""`jaxvoice teacher-force`: predicted mel spectrograms of a corpus, for fine-tuning a vocoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_text


@dataclass(frozen=True)
class TeacherForce:
    """Predict mel spectrograms for an aligned corpus, using the durations of the corpus, and write them together with
    the recordings.

    OUTPUT receives mels/ID.npy and wavs/ID.wav for each utterance. A vocoder that is fine-tuned on these pairs
    compensates for errors in the predicted mels: python -m experiments.hifigan_l40 --data OUTPUT --corpus pairs.
    """

    corpus: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """Corpus that the model was trained on: alignments and recordings."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder to create."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    vocoder: str | None = None
    """Vocoder to fine-tune: model folder, run folder, or Hub id; mels are converted to its mel contract."""
    kind: Literal["auto", "lj_aligned", "textgrid", "labels", "table", "json", "filelist", "demo"] = "auto"
    """Format of the alignments; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the recordings; by default the folder of the alignments."""
    batch_size: int = 8
    """Utterances per batch; larger batches need more memory."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Write the pairs; returns 0."""
        use_compilation_cache()
        import sys

        from jaxvoice.pipelines.teacher_forcing import teacher_force

        with printed_warnings():
            result = teacher_force(
                self.corpus,
                self.output,
                self.model,
                vocoder=self.vocoder,
                kind=self.kind,
                audio_dir=self.audio_dir,
                batch_size=self.batch_size,
                progress=sys.stderr.isatty(),
            )
        print_text(result)
        print_text(f"next: {result.next_command(self.vocoder)}")
        return 0
