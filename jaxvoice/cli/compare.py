"""`jaxvoice compare`: compare two models."""

import json
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxvoice.console import print_text, printable
from jaxvoice.errors import ConfigError

if TYPE_CHECKING:
    from jaxvoice.pipelines.comparing import Comparison

_SHOWN = 10


@dataclass(frozen=True)
class Compare:
    """Compare two models: their mel contracts, their weights and, if both can be run, the outputs of their layers.

    A and B are model folders, run folders, Hub ids, or weight files of any origin, such as torch, TorchScript or
    safetensors. The exit code is 0 if they are the same within the tolerance, 1 if not, 2 after an error.
    """

    a: Annotated[str, tyro.conf.Positional]
    """First model."""
    b: Annotated[str, tyro.conf.Positional]
    """Second model. A relative difference is the largest absolute difference divided by the largest magnitude in B."""
    inputs: Path | None = None
    """File (.npy or .npz) with the inputs of both models, such as a mel spectrogram; by default random inputs."""
    tolerance: float = 1e-4
    """Largest relative difference at which weights and layers count as equal."""
    all: bool = False
    """Show every weight and every layer."""
    json: bool = False
    """Print the comparison as JSON."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Print the comparison; returns 0 if the models are the same, else 1."""
        from jaxvoice.pipelines.comparing import compare

        if not 0 <= self.tolerance < math.inf:
            raise ConfigError(f"--tolerance is {self.tolerance}; it should be a finite number of at least 0.")
        found = compare(self.a, self.b, inputs=self.inputs, tolerance=self.tolerance)
        print_text(json.dumps(_json_values(found), indent=2) if self.json else "\n".join(self._lines(found)))
        return 0 if found.same else 1

    def _lines(self, found: "Comparison") -> list[str]:
        width = shutil.get_terminal_size().columns
        lines = [f"{side}  {printable(label)}" for side, label in zip("AB", found.labels, strict=True)] + [""]
        lines += [_cut(line, width) for line in self._weights(found)]
        lines += [f"contract  {line}" for line in found.contract]
        lines += ["", *self._layers(found)]
        return lines

    def _weights(self, found: "Comparison") -> list[str]:
        def count(status: str) -> int:
            return sum(row.status == status for row in found.weights)

        both = [row for row in found.weights if row.distance is not None]
        close = sum(row.status == "differs" and row.distance.relative <= self.tolerance for row in both if row.distance)
        parts = [f"{count('equal')} bitwise equal"]
        parts += [f"{close} within {self.tolerance:g}"] if close else []
        parts += [f"{count('differs') - close} different"]
        parts += [f"{count(status)} {word}" for status, word in _WORDS.items() if count(status)]
        lines = [f"weights  {', '.join(parts)}"]
        rows = [row for row in found.weights if self.all or not _is_within(row, self.tolerance)]
        shown = rows if self.all else rows[:_SHOWN]
        if shown:
            size = max(6, *(len(printable(row.name)) for row in shown))
            lines.append(f"  {'weight':<{size}}  {'shape':<16}  {'max |A-B|':>9}  relative")
        for row in shown:
            shape = " / ".join("x".join(map(str, one)) or "1" for one in dict.fromkeys(row.shapes) if one is not None)
            what = _WORDS.get(row.status, "")
            if row.distance is not None:
                what = f"{row.distance.absolute:9.1e}  {row.distance.relative:8.1e}  {row.remark}".rstrip()
            lines.append(f"  {printable(row.name):<{size}}  {shape:<16}  {what}")
        if len(rows) > len(shown):
            lines.append(f"  ... and {len(rows) - len(shown)} more; use --all to show them")
        return lines

    def _layers(self, found: "Comparison") -> list[str]:
        lines = [printable(remark) for remark in found.remarks]
        if not found.layers:
            return lines
        first = found.diverging
        if first is None:
            largest = max(layer.distance.relative for layer in found.layers)
            lines.append(f"layers   all {len(found.layers)} agree; the largest relative difference is {largest:.1e}")
        else:
            lines.append(f"layers   first of {len(found.layers)} layers that differs: {printable(first.name)}")
        at = len(found.layers) - 1 if first is None else found.layers.index(first)
        shown = found.layers if self.all else [*found.layers[max(0, at - 2) : at + 3], found.layers[-1]]
        shown = list(dict.fromkeys(shown))
        size = max(5, *(len(printable(layer.name)) for layer in shown))
        lines.append(f"  {'layer':<{size}}  {'shape':<16}  {'max |A-B|':>9}  relative")
        for layer in shown:
            shape, between = "x".join(map(str, layer.shape)) or "1", layer.distance
            line = f"  {printable(layer.name):<{size}}  {shape:<16}  {between.absolute:9.1e}  {between.relative:8.1e}"
            lines.append(line + ("  <- first" if layer is first else ""))
        return lines


_WORDS = {"shape": "with a different shape", "only A": "only in A", "only B": "only in B"}


def _is_within(row: Any, tolerance: float) -> bool:
    return row.distance is not None and row.distance.relative <= tolerance


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."


def _json_values(found: "Comparison") -> dict[str, Any]:
    def finite(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        return [finite(item) for item in value] if isinstance(value, list | tuple) else value

    table = finite(asdict(found))
    for row in (*table["weights"], *table["layers"]):
        if row["distance"] is not None:
            row["distance"] = dict(zip(("absolute", "relative", "equal"), row["distance"], strict=True))
    first = found.diverging
    return {**table, "first_diverging_layer": None if first is None else first.name, "same": found.same}
