"""`jaxvoice export`: write a model folder as a weight file in its original layout, or as a program."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from jaxvoice.console import print_text
from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class Export:
    """Write the weights of a model folder as one file, in the layout that they were imported from, or a program.

    Models trained with jaxvoice are written in the default layout of their family. torch is not needed. A program
    contains the weights, takes inputs of fixed shapes, and runs without jaxvoice.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder, run folder, or Hub id (owner/name)."""
    to: Path
    """File to write; with --block, a folder. config.json beside it receives the configuration (config_se.json that of
    coqui's speaker encoders), and TO.json that of a program."""
    format: Literal["auto", "torch", "safetensors", "npz", "jax", "onnx"] = "auto"
    """torch: a file for torch.load, nested like the original. safetensors, npz: the same names in a flat dict. jax: a
    serialised function of jax.export. onnx: an ONNX model. auto chooses by the suffix: .safetensors, .npz, .jax, .onnx,
    and torch for other names."""
    length: int | None = None
    """Positions of the first input of a program, such as mel frames or samples."""
    block: int | None = None
    """Write the stream of the model as a jax program, for blocks of so many mel frames or samples."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu",)
    """Platforms of a jax program."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Export; returns the exit code."""
        suffixes: dict[str, Literal["jax", "onnx"]] = {".jax": "jax", ".onnx": "onnx"}
        program = suffixes.get(self.to.suffix.lower()) if self.format == "auto" else self.format
        if self.platforms != ("cpu",) and program != "jax" and self.block is None:
            raise ConfigError(
                f"--platforms is {' '.join(self.platforms)}; it is only for --format jax and --block. Omit it."
            )
        if self.block is not None:
            self._write_stream()
        elif program == "jax" or program == "onnx":
            self._write_program(program)
        elif self.length is not None:
            raise ConfigError(f"--length is {self.length}; it is only for --format jax and onnx. Omit it.")
        else:
            from jaxvoice.pipelines.exporting import config_file_of, export_model

            tensors = export_model(self.model, self.to, cast(Any, self.format))
            beside = self.to.parent / config_file_of(self.model)
            print_text(f"{self.to}: {tensors} tensors; the configuration is in {beside}")
        return 0

    def _write_stream(self) -> None:
        from jaxvoice.pipelines.program_export import export_model_stream

        if self.format not in ("auto", "jax") or self.length is not None:
            wrong = "--length" if self.length is not None else f"--format {self.format}"
            raise ConfigError(f"{wrong} is given with --block; streams are jax programs for blocks. Omit it.")
        about = export_model_stream(self.model, self.to, block=self.block, platforms=self.platforms)
        delays = f"delays: {about['input_delay']} positions of the input, {about['output_delay']} of the output"
        print_text(f"{self.to}: blocks {about['block']['shape']} to {about['output']['shape']}; {delays}")

    def _write_program(self, format: Literal["jax", "onnx"]) -> None:
        from jaxvoice.pipelines.program_export import export_program

        found = export_program(self.model, self.to, format, length=self.length, platforms=self.platforms)
        inputs = ", ".join(f"{name} {list(shape)}" for name, shape in found.inputs.items())
        outputs = ", ".join(str(list(shape)) for shape in found.outputs)
        compared = "not compared with jaxvoice"
        if found.difference is not None:
            compared = f"differs from jaxvoice by {found.difference:.1e} of the largest value"
        print_text(f"{self.to}: {inputs} to {outputs}; the output {compared}")
