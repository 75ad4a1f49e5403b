"""`jaxvoice transfer`: recordings through the latents of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxvoice.cli._audio_files import convert_files, input_files, output_files, split_output
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


@dataclass(frozen=True)
class Transfer:
    """Encode recordings to latents, decode the latents, and write WAV files.

    The result has the timbre of the recordings that the model was trained on. One INPUT is written to the file
    OUTPUT.wav or to the folder OUTPUT. Several, and the audio files of folders, are written to the folder OUTPUT under
    their own names. If a file fails, its error is printed, the others are converted, and the exit code is 2.
    """

    # One list, since argparse does not support options after a list and a further positional argument.
    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT ... OUTPUT", help_behavior_hint="")
    ]
    """Recordings (WAV, FLAC, OGG, MP3) or folders of them, followed by the output: a .wav file or a (new) folder."""
    model: str
    """Model that decodes, and encodes unless --encoder is given: model folder, run folder, or Hub id (owner/name)."""
    encoder: str | None = None
    """Another model that encodes; its latents should have the size and the rate of those of --model."""
    latent_size: int | None = None
    """Number of principal components of the latents that are kept; by default, all latents."""
    fidelity: float | None = None
    """Instead of --latent-size, the share of the variance of the latents that is kept, such as 0.95."""
    seed: int | None = None
    """Draw random latents with this seed; by default, latents are the means of their distributions."""
    subtype: Literal["pcm16", "float"] = "pcm16"
    """Samples of the WAV file: 16-bit integers or 32-bit floats."""
    debug: bool = False
    """Stop at the first error and show its traceback."""

    def run(self) -> int:
        """Convert every input; returns 2 if one failed, else 0."""
        given, output = split_output(self.paths, "INPUT")
        outputs = output_files(input_files(given), output)
        use_compilation_cache()
        from jaxvoice.pipelines.sources import load_with_method

        options = {"latent_size": self.latent_size, "fidelity": self.fidelity}
        expected = "a model that encodes audio to latents and decodes them"
        model = load_with_method(self.model, "transfer", expected, **options)
        encoder = None if self.encoder is None else load_with_method(self.encoder, "transfer", expected, **options)
        model.check_encoder(encoder)
        shown: set[str] = set()

        def convert(path: Path) -> "Iterator[np.ndarray]":
            with printed_warnings(shown):
                return model.transfer_parts(path, encoder=encoder, seed=self.seed)

        return convert_files(self, outputs, output, convert, model.sample_rate)
