"""How a model family tells the loop what to train: one task object, and the loader that feeds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


@dataclass(frozen=True)
class Sample:
    """Something to listen to and look at: `audio` (samples,) in [-1, 1], and mel spectrograms (mels, frames) by name.

    Given mels named `target` and `generated`, their difference is drawn as well. `drawings` are finished pictures by
    name, RGB in 0..255, such as those of `jaxvoice.training.pictures`.
    """

    name: str
    audio: Float[np.ndarray, " samples"]
    sample_rate: int
    pictures: Mapping[str, Float[np.ndarray, "mels frames"]] = field(default_factory=dict)
    drawings: Mapping[str, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a validation found: `metrics` by name (one of them decides which checkpoint is best), and samples."""

    metrics: dict[str, float]
    samples: list[Sample] = field(default_factory=list)


class Task(Protocol):
    """All that is particular to a model family's training."""

    @property
    def config(self) -> Any:
        """Frozen dataclass of everything that must not change when a run is resumed (networks, losses, mel)."""
        ...

    @property
    def mel(self) -> Any:
        """The `MelConfig` of what is trained, kept in every checkpoint, or `None`."""
        ...

    def init(self, *, key: PRNGKeyArray) -> Any:
        """The state before the first step: a pytree whose arrays are all it learns, with `counters: Counters`."""
        ...

    def step(self, state: Any, batch: Any) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """One update, a pure function of state and global batch; scalar metrics beside. End with `guarded`.

        The loop jits it, donates the state and shards the batch.
        """
        ...

    def audio_seconds(self, batch: Any) -> float:
        """Seconds of audio in this process's `batch` (host arrays), for the speed shown."""
        ...

    def validate(self, state: Any) -> Report:
        """Judge `state` on held-out data. It holds one-device arrays and belongs to the loop: keep no part of it."""
        ...

    def save_model(self, state: Any, folder: Path) -> None:
        """Write the model folder (`config.json`, `model.safetensors`) into `folder`, which exists and is empty."""
        ...

    def describe(self) -> dict[str, Any]:
        """What to show at the start: configuration, parameter counts, sizes of the data."""
        ...


@runtime_checkable
class PhasedTask(Protocol):
    """A task that trains in phases: its `step` takes one more argument, `phase`, and is compiled for each.

    A program for each phase, rather than `jax.lax.cond` in one: XLA's CPU programs run several times slower inside a
    branch.
    """

    def phase_of(self, step: int) -> int:
        """The phase of the update that follows `step` updates."""
        ...


class Loader(Protocol):
    """An endless, deterministic supply of batches that goes on from any place; `jaxvoice.data.loader.Loader` is one."""

    def __next__(self) -> Any:
        """This process's share of the next batch: a pytree of numpy arrays, batch axis first."""
        ...

    def state(self) -> Any:
        """Where the batch that comes next stands, as JSON values, the same in every process."""
        ...

    def restore(self, state: Any) -> None:
        """Go on with the batch that `state` (read back from JSON) names."""
        ...

    def describe(self) -> dict[str, Any]:
        """What batches are cut from and how, as JSON values: a run that goes on says what has changed."""
        ...
