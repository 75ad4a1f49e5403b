"""`jaxvoice preflight`: check every file of a corpus before training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxvoice.console import flag_name, print_text
from jaxvoice.errors import ConfigError

if TYPE_CHECKING:
    from jaxvoice.dsp import MelConfig


@dataclass(frozen=True)
class PreflightCommand:
    """Decode every file of a corpus; print hours and sample rates, and list rejected files with the reason.

    The corpus is laid out like LJSpeech or VCTK, or is a file list, a folder of mels with their audio, any folder of
    audio, or one audio file.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """The corpus: a folder, or a file list."""
    corpus: Literal["auto", "ljspeech", "vctk", "folder", "filelist", "pairs"] = "auto"
    """Kind of the corpus; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list or of mels; by default the folder of the list, or one beside the mels."""
    sample_rate: int = 22050
    """Sample rate of the training in Hz."""
    segment: int = 8192
    """Length of a training crop in samples."""
    num_mels: int = 80
    """Number of bands of the mels in the corpus; used only for --corpus pairs."""
    hop_length: int = 256
    """Hop length of the mels in the corpus, in samples; used only for --corpus pairs."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Print the table; returns 0."""
        import sys

        from jaxvoice.data import find_corpus, preflight

        for name in ("sample_rate", "segment", "num_mels", "hop_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}; it should be at least 1.")
        found = find_corpus(self.path, self.corpus, self.audio_dir)
        mel = self.mel() if found.kind == "pairs" else None
        print_text(preflight(found, self.sample_rate, self.segment, mel=mel, progress=sys.stderr.isatty()))
        return 0

    def mel(self) -> "MelConfig":
        """The mel contract for `--sample-rate`, `--num-mels` and `--hop-length`: HiFi-GAN's at 22,050 Hz and a hop of
        256, otherwise one with windows of four hops."""
        from jaxvoice.dsp import MelConfig

        rate, hop = self.sample_rate, self.hop_length
        if (rate, hop) == (22050, 256):
            return MelConfig(num_mels=self.num_mels)
        window = 4 * hop
        return MelConfig(rate, window, hop, window, self.num_mels, fmax=None, center=True)
