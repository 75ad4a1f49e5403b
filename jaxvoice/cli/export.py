"""`jaxvoice export`: write a model folder as a weight file in its original layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxvoice.console import print_text


@dataclass(frozen=True)
class Export:
    """Write the weights of a model folder as one file, in the layout that they were imported from.

    Models trained with jaxvoice are written in the default layout of their family. torch is not needed.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder, run folder, or Hub id (owner/name)."""
    to: Path
    """File to write. config.json beside it receives the configuration."""
    format: Literal["auto", "torch", "safetensors", "npz"] = "auto"
    """torch: a file for torch.load, nested like the original. safetensors, npz: the same names in a flat dict. auto
    chooses by the suffix: .safetensors, .npz, and torch for other names."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Export; returns the exit code."""
        from jaxvoice.pipelines.exporting import export_model

        tensors = export_model(self.model, self.to, self.format)
        print_text(f"{self.to}: {tensors} tensors; the configuration is in {self.to.parent / 'config.json'}")
        return 0
