"""A model folder as released weights; without jax."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import from_dict, read_json
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.exporting import RELEASED_LAYOUT, plan_export
from jaxvoice.models.hifigan.weights import FAMILY
from jaxvoice.weights.folder import CONFIG_FILE, WEIGHTS_FILE
from jaxvoice.weights.rules import Plan, Spec
from jaxvoice.weights.streaming import write_safetensors
from jaxvoice.weights.torch_writing import write_torch

Format = Literal["torch", "safetensors", "npz"]
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def export_model(folder: str | Path, to: str | Path, format: Format = "torch") -> int:
    """Write the generator in a model folder as one file, under the names and in the layout that it came in.

    A model that was not imported gets the layout of jik876/hifi-gan's `g_` files. `torch` writes what `torch.load`
    reads, nested as the original was; `safetensors` and `npz` hold the same names in one flat table.

    **Returns:** the number of tensors written.

    **Raises:** `CheckpointError` or `ConfigError` if there is no model folder, a damaged one, or the file exists or
    cannot be written.
    """
    from safetensors import SafetensorError, safe_open

    folder, to = Path(folder), Path(to)
    if not (folder / WEIGHTS_FILE).is_file() and (folder / "model").is_dir():
        folder = folder / "model"
    if to.exists():
        raise CheckpointError(f"{to} exists; name a new file, so that nothing is overwritten.")
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(f"{folder} is no model folder: it should hold {CONFIG_FILE} and {WEIGHTS_FILE}.")
    about = read_json(folder / CONFIG_FILE)
    if not isinstance(about, dict) or about.get("family") != FAMILY:
        raise ConfigError(f"{folder / CONFIG_FILE} describes no model of the family {FAMILY}, the only one to export.")
    config = from_dict(HiFiGANConfig, about.get("config", {}), str(folder / CONFIG_FILE))
    layout = (about.get("info") or {}).get("layout") or RELEASED_LAYOUT
    try:
        with safe_open(weights, "numpy") as file:
            arrays = _Opened(file)
            plan = plan_export(config.generator, layout, arrays.specs(), str(weights))
            _write(to, format, layout, plan, arrays)
    except SafetensorError as failure:
        raise CheckpointError(f"{weights} is damaged or cut short ({failure}); copy it again.") from failure
    except OSError as failure:
        raise CheckpointError(f"{to} cannot be written ({failure}); free space or choose another.") from failure
    return len(plan.wanted)


def _write(to: Path, format: Format, layout: Mapping[str, Any], plan: Plan, arrays: Mapping[str, np.ndarray]) -> None:
    prefix = layout["prefix"]
    if format == "torch":
        content: Any = {prefix + name: array for name, array in plan.read(arrays)}
        for key in reversed(layout["nesting"]):
            content = {key: content}
        to.parent.mkdir(parents=True, exist_ok=True)
        write_torch(to, content)
        return
    part = to.with_name(f"{to.name}.part")
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        if format == "npz":
            with part.open("wb") as file:
                content = {prefix + name: array for name, array in plan.read(arrays)}
                np.savez(file, **content)  # pyright: ignore[reportArgumentType]
        else:
            specs = {prefix + name: spec for name, spec in plan.wanted.items()}
            write_safetensors(part, specs, ((prefix + name, array) for name, array in plan.read(arrays)))
        os.replace(part, to)
    finally:
        part.unlink(missing_ok=True)


class _Opened(Mapping[str, np.ndarray]):
    """The arrays of an open safetensors file, read when they are asked for."""

    def __init__(self, file: Any):
        self._file, self._names = file, list(file.keys())

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "..."]:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def specs(self) -> dict[str, Spec]:
        """Shape and type of each."""
        found = {}
        for name in self._names:
            part = self._file.get_slice(name)
            found[name] = Spec(tuple(part.get_shape()), np.dtype(_TYPES.get(part.get_dtype(), np.int64)))
        return found
