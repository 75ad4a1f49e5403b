"""Golden cases: what public implementations gave on weights made by a formula, so that no checkpoint is stored.

A case is `tests/golden/<name>.json` (tensors of the state dict by name, shape and dtype; the `salt`) beside
`tests/golden/<name>.npz` (inputs and outputs in float32).
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden"


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden case: `meta` is its JSON, `arrays` its inputs and outputs by name."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def state_dict(self, *place: str, strip: str = "") -> dict[str, np.ndarray]:
        """The weights listed under `meta[place[0]][place[1]]...` (by default `tensors`), without the prefix `strip`."""
        tensors: Any = self.meta
        for part in place or ("tensors",):
            tensors = tensors[part]
        state = state_dict(tensors, self.meta["salt"])
        return {name.removeprefix(strip): value for name, value in state.items()}


def case_json(name: str) -> dict[str, Any]:
    """The JSON of the case of that name; empty if it has none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def case(name: str) -> Case:
    """The case of that name, for example `hifigan/generator_v1`."""
    meta = case_json(name)
    with np.load(FOLDER / f"{name}.npz") as stored:
        return Case(name, meta, dict(stored))


def state_dict(tensors: Iterable[Mapping[str, Any]], salt: int = 0) -> dict[str, np.ndarray]:
    """Values of every tensor of a list of `{name, shape, dtype}`."""
    return {t["name"]: tensor(t["name"], tuple(t["shape"]), t["dtype"], salt) for t in tensors}


def tensor(name: str, shape: tuple[int, ...], dtype: str = "float32", salt: int = 0) -> np.ndarray:
    """Value of one state-dict tensor, determined by its name, shape and the salt.

    Norms, variances and other vectors lie around one, biases and means around zero, and matrices keep the scale of
    their input.
    """
    if "int" in dtype:
        return np.ones(shape, dtype)
    noise = np.random.default_rng([zlib.crc32(name.encode()), salt]).standard_normal(shape).astype(np.float32)
    leaf = name.rpartition(".")[2]
    if leaf in ("bias", "running_mean", "beta"):
        value = 0.05 * noise
    elif leaf.endswith("weight_g") or leaf in ("running_var", "original0") or len(shape) <= 1:
        value = 1.0 + 0.1 * np.tanh(noise)
    else:
        value = noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(dtype)


def digest(array: np.ndarray, points: int = 64) -> np.ndarray:
    """Mean, mean absolute value and `points` evenly spaced values of the flattened `array`."""
    flat = np.asarray(array, np.float64).ravel()
    picks = flat[np.rint(np.linspace(0, flat.size - 1, points)).astype(np.int64)]
    return np.concatenate([[flat.mean(), np.abs(flat).mean()], picks])
