"""`jaxvoice compare-voices`: how similar the voices of two recordings are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.cli._audio_files import input_files
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_text


@dataclass(frozen=True)
class CompareVoices:
    """Print the cosine similarity of the voices in A and B: 1 for the same embedding, lower for other voices.

    The value depends on the encoder, so compare it only with values of the same encoder. With Resemblyzer, for example,
    it is never negative. The similarity of different recordings of one speaker, and that of different speakers, are the
    scale: both can be measured with recordings of known speakers. The result is no proof of identity.
    """

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """A recording (WAV, FLAC, OGG, MP3), or a folder with recordings of one speaker, whose embeddings are averaged."""
    b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """A recording or a folder, as A."""
    model: str
    """Speaker encoder: model folder, run folder, or Hub id (owner/name)."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Print the similarity; returns 0."""
        first, second = input_files([self.a]), input_files([self.b])
        use_compilation_cache()
        from jaxvoice.pipelines.sources import load_with_method

        encoder = load_with_method(self.model, "embed", "a speaker encoder")
        with printed_warnings():
            a, b = (encoder.embed(files).mean(axis=0) for files in (first, second))
        print_text(f"{encoder.similarity(a, b):.4f}")
        return 0
