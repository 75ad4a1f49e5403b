"""`jaxvoice import`: released weights into a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.console import print_text


@dataclass(frozen=True)
class Import:
    """Turn a released weight file into a model folder; nothing in it is run, and torch is not needed.

    What it holds is found out from names and shapes, and from the config.json beside it. Known are HiFi-GAN V1, V2, V3
    and others of jik876/hifi-gan (g_ files, with their do_ files), coqui's HiFi-GAN vocoders, and the generators inside
    VITS and XTTS models (--part waveform_decoder). The folder gets a report.md with what became of every tensor.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Weight file: torch (zip or legacy), TorchScript, NeMo, safetensors, npz."""
    to: Path
    """Folder to make."""
    config: Path | None = None
    """Configuration that came with the weights; by default config.json beside them."""
    part: str | None = None
    """Which generator of a larger model: the last components of its name."""
    training: Path | None = None
    """File of discriminators and optimisers; by default do_N beside g_N."""
    no_training: bool = False
    """Take the generator alone."""
    allow_missing: tuple[str, ...] = ()
    """Regular expressions of our names that begin with initial values if the file lacks them."""
    ignore: tuple[str, ...] = ()
    """Regular expressions of the file's names to leave out."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Import; returns the exit code."""
        from jaxvoice.pipelines.importing import import_model

        report = import_model(
            self.source,
            self.to,
            config=self.config,
            part=self.part,
            allow_missing=self.allow_missing,
            ignore=self.ignore,
            training=False if self.no_training else self.training,
        )
        print_text(report)
        return 0
