"""`jaxvoice export`: a model folder as released weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxvoice.console import print_text


@dataclass(frozen=True)
class Export:
    """Write the weights of a model folder as one file, in the layout that they were imported from.

    Models that were trained here get the export layout of their family. torch is not needed.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Model folder or run folder."""
    to: Path
    """File to write."""
    format: Literal["torch", "safetensors", "npz"] = "torch"
    """torch: what torch.load reads, nested as the original; the others hold the same names in one table."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Export; returns the exit code."""
        from jaxvoice.pipelines.exporting import export_model

        tensors = export_model(self.folder, self.to, self.format)
        print_text(f"{self.to}: {tensors} tensors")
        return 0
