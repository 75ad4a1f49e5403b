"""`jaxvoice import`: convert released weights to a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.console import print_text


@dataclass(frozen=True)
class Import:
    """Convert a released checkpoint to a model folder. No code in the checkpoint is executed, and torch is not needed.

    The model is recognised by the names and shapes of its tensors, and by the config.json beside it. If no family, or
    more than one, recognises the file, the error lists what each looks for. The flag --part imports a part of a larger
    model. report.md in the folder lists how every tensor was used.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Weight file (torch, zip or legacy, TorchScript, NeMo, safetensors, npz), or the folder of a checkpoint."""
    to: Path
    """Model folder to create."""
    family: str | None = None
    """Model family of the checkpoint. By default it is detected."""
    config: Path | None = None
    """Configuration that came with the weights; JSON or YAML; by default config.json or config.yaml beside them."""
    part: str | None = None
    """Submodule to import from a larger model, for example waveform_decoder (the last components of its path)."""
    training: Path | None = None
    """File with the training state; by default do_N in the folder of g_N, and D_N in that of G_N."""
    no_training: bool = False
    """Do not import the training state."""
    allow_missing: tuple[str, ...] = ()
    """Regular expressions for weights that may be missing from the file; they are initialised as in a new model."""
    ignore: tuple[str, ...] = ()
    """Regular expressions for tensors of the file to ignore."""
    inert: tuple[str, ...] = ()
    """Regular expressions for full names of classes and functions of other packages, for example 'my_package[.].*'.
    Their objects in the file are read as inert data. No code is executed."""
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
            inert=self.inert,
        )
        print_text(report)
        return 0
