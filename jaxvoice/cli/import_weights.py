"""`jaxvoice import`: released weights into a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.console import print_text


@dataclass(frozen=True)
class Import:
    """Turn a released checkpoint into a model folder; nothing in it is run, and torch is not needed.

    The model is recognised by the names and shapes of its tensors, and by the config.json beside it. If no family, or
    more than one, recognises the file, the error lists what each looks for. A part of a larger model is imported with
    --part. The folder gets a report.md with what became of every tensor.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Weight file (torch, zip or legacy, TorchScript, NeMo, safetensors, npz), or the folder of a checkpoint."""
    to: Path
    """Folder to make."""
    family: str | None = None
    """The only family to ask; by default all are asked, and one must recognise the file."""
    config: Path | None = None
    """Configuration that came with the weights; by default config.json beside them."""
    part: str | None = None
    """The part of a larger model to take: the last components of its name."""
    training: Path | None = None
    """File of the training state; by default the one beside the weights (do_N beside g_N)."""
    no_training: bool = False
    """Leave out the training state."""
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
            family=self.family,
            config=self.config,
            part=self.part,
            allow_missing=self.allow_missing,
            ignore=self.ignore,
            training=False if self.no_training else self.training,
        )
        print_text(report)
        return 0
