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

    folder: Annotated[Path, tyro.conf.Positional]
    """Model folder or run folder."""
    to: Path
    """File to write."""
    format: Literal["torch", "safetensors", "npz"] = "torch"
    """torch: a file for torch.load, nested like the original. safetensors, npz: the same names in a flat dict."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Export; returns the exit code."""
        from jaxvoice.pipelines.exporting import export_model

        tensors = export_model(self.folder, self.to, self.format)
        print_text(f"{self.to}: {tensors} tensors")
        return 0
